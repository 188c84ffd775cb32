//! Questions to the kernel over netlink (netlink(7), RFC 3549 2.3): a dump of everything of a kind, and being told of changes.
//! In: a protocol, a request. Out: the bodies of the answers.
//! Lengths come from the kernel and are checked all the same: a wrong one ends the list, it never panics.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

pub struct Netlink {
    fd: OwnedFd,
}

// linux/netlink.h
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const HEADER_BYTES: usize = 16;
/// The kernel sends at most 32 KiB in one answer to a dump.
const ANSWER_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

impl Netlink {
    /// NETLINK_ROUTE is None. `groups` are those whose changes are told; 0 for questions only.
    pub fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Netlink { fd })
    }

    /// Asks for all there is; `each` gets the body of every message.
    pub fn dump(&self, kind: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut request = Vec::with_capacity(HEADER_BYTES + body.len());
        request.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(body);
        rustix::net::send(&self.fd, &request, SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        loop {
            if !self.wait(PATIENCE)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let (_, length) = rustix::net::recv(&self.fd, &mut answer[..], RecvFlags::empty())?;
            let mut rest = answer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            while let Some((kind, body, next)) = message(rest) {
                match (kind, body.first_chunk()) {
                    (TYPE_DONE, _) | (TYPE_ERROR, Some([0, 0, 0, 0])) => return Ok(()),
                    (TYPE_ERROR, Some(code)) => {
                        return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*code)));
                    }
                    _ => each(body),
                }
                rest = next;
            }
        }
    }

    /// Waits until something can be read; false when the time is over.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN | PollFlags::ERR)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Throws away what is waiting; also the error that says that more was told than there was room for.
    pub fn drain(&self) {
        let mut buffer = [0; 8192];
        loop {
            match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Attributes (struct nlattr) of a message, behind its fixed part.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits are flags.
        Some((u16::from_ne_bytes([c, d]) & 0x3FFF, value))
    })
}

/// Kind and body of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let head: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let body = bytes.get(HEADER_BYTES..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([head[4], head[5]]), body, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_end_the_list() {
        assert_eq!(attributes(&[5, 0, 3, 0, 7, 0, 0, 0, 8, 0, 4, 128, 1, 2, 3, 4]).count(), 2);
        for bad in [&[0, 0, 1, 0][..], &[3, 0, 1, 0], &[255, 255, 1, 0, 1], &[4, 0]] {
            assert_eq!(attributes(bad).count(), 0, "{bad:?}");
        }
        assert!(message(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(message(&[255; 40]).is_none());
    }
}
