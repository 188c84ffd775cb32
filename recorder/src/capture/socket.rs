//! A packet socket with its ring: opened by `afpacket`, the rest set through its descriptor (packet(7)).
//! In: an interface, or none for all of them. Out: blocks of frames of that interface and of no other, and the kernel's counters.
//! `afpacket` opens its socket for every protocol and thus every device; a filter that takes nothing closes that door.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use afpacket::sync::RawPacketStream;

use super::block::{ARPHRD_LOOPBACK, has_ethernet};
use super::filter::Filter;

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("interface '{0}' does not exist here; `ip link` lists those that do")]
    UnknownInterface(String),
    #[error("capturing on '{0}' is not permitted: run as root or give the program CAP_NET_RAW")]
    NotPermitted(String),
    #[error("the shared packet socket: {0}")]
    Bpf(shark_bpf::Reason),
    #[error("interface '{0}': {1}")]
    Full(String, shark_bpf::any_socket::Full),
    #[error("the devices of this namespace cannot be listed: {0}")]
    Devices(io::Error),
    #[error("interface '{interface}': {what}: {source}")]
    Socket { interface: String, what: &'static str, source: io::Error },
}

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub ifindex: u32,
    /// It has no link layer (ARPHRD other than Ethernet and loopback).
    pub synthetic_ethernet: bool,
    pub loopback: bool,
}

impl Device {
    pub fn new(name: String, ifindex: u32, link_type: u16) -> Device {
        let loopback = link_type == ARPHRD_LOOPBACK;
        Device { name, ifindex, synthetic_ethernet: !has_ethernet(link_type), loopback }
    }

    fn can_be_promiscuous(&self) -> bool {
        !self.synthetic_ethernet && !self.loopback
    }
}

/// Size of the kernel's ring of one socket.
#[derive(Debug, Clone, Copy)]
pub struct RingSize {
    pub block_bytes: u32,
    pub blocks: u32,
    pub retire_ms: u32,
}

/// Counters since they were read before; reading resets them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Drops included.
    pub received: u64,
    pub dropped: u64,
    pub freezes: u64,
}

pub struct Socket {
    stream: RawPacketStream,
    pub device: Device,
    map: *mut u8,
    size: RingSize,
    next: u32,
}

// SAFETY: the mapping belongs to this value alone and is released with it; nothing of it is tied to a thread.
unsafe impl Send for Socket {}

// linux/if_packet.h, linux/net_tstamp.h
const PACKET_RX_RING: i32 = 5;
const PACKET_STATISTICS: i32 = 6;
const PACKET_VERSION: i32 = 10;
const PACKET_FANOUT: i32 = 18;
const TPACKET_V3: i32 = 2;
const FANOUT_HASH_ROLLOVER_DEFRAG: u32 = 0x1000 | 0x8000;
const SOF_TIMESTAMPING_SOFTWARE: i32 = (1 << 3) | (1 << 4);
const STATUS_OFFSET: usize = 8;
const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;

impl Socket {
    /// Opens and binds; packets come after [`Socket::start`].
    pub fn open(
        name: &str,
        size: RingSize,
        fanout: Option<u16>,
        promiscuous: bool,
    ) -> Result<Socket, CaptureError> {
        // IFNAMSIZ counts the zero at the end.
        if name.is_empty() || name.len() > 15 {
            return Err(CaptureError::UnknownInterface(name.to_owned()));
        }
        // The ring first: while the kernel sets it up, it does not notice that a bound device comes up.
        let unknown =
            Device { name: name.to_owned(), ifindex: 0, synthetic_ethernet: false, loopback: false };
        let mut socket = Socket::with_ring(unknown, size)?;
        socket.stream.bind(name).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => CaptureError::UnknownInterface(name.to_owned()),
            _ => CaptureError::Socket { interface: name.to_owned(), what: "bind", source },
        })?;
        let failed =
            |source| CaptureError::Socket { interface: name.to_owned(), what: "getsockname", source };
        let (ifindex, link_type) = bound_to(socket.fd()).map_err(failed)?;
        socket.device = Device::new(name.to_owned(), ifindex, link_type);
        socket.join(fanout)?;
        if promiscuous {
            let device = socket.device.clone();
            socket.make_promiscuous(&device)?;
        }
        Ok(socket)
    }

    /// Opens for all devices; packets come once a filter is attached that lets them in.
    pub fn open_any(size: RingSize, fanout: Option<u16>) -> Result<Socket, CaptureError> {
        let device =
            Device { name: "any".to_owned(), ifindex: 0, synthetic_ethernet: false, loopback: false };
        let socket = Socket::with_ring(device, size)?;
        socket.join(fanout)?;
        Ok(socket)
    }

    /// A socket with the door closed.
    fn with_ring(device: Device, size: RingSize) -> Result<Socket, CaptureError> {
        let failed = |what| {
            let interface = device.name.clone();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::PermissionDenied => CaptureError::NotPermitted(interface),
                _ => CaptureError::Socket { interface, what, source },
            }
        };
        let mut stream = RawPacketStream::new().map_err(failed("packet socket"))?;
        stream.set_bpf_filter(Filter::nothing().program()).map_err(failed("filter"))?;
        stream.drain();
        let fd = stream.as_raw_fd();
        set(fd, libc::SOL_PACKET, PACKET_VERSION, &TPACKET_V3.to_ne_bytes()).map_err(failed("TPACKET_V3"))?;
        let stamps = SOF_TIMESTAMPING_SOFTWARE.to_ne_bytes();
        // Without it packets are stamped when they are copied into the ring, a little later.
        set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &stamps).map_err(failed("time stamps"))?;
        set(fd, libc::SOL_PACKET, PACKET_RX_RING, &request(size))
            .map_err(failed("ring (less --capture-buffer?)"))?;
        let map = map(fd, size).map_err(failed("mapping of the ring"))?;
        Ok(Socket { stream, device, map, size, next: 0 })
    }

    fn join(&self, fanout: Option<u16>) -> Result<(), CaptureError> {
        let Some(group) = fanout else { return Ok(()) };
        let interface = self.device.name.clone();
        let value = u32::from(group) | FANOUT_HASH_ROLLOVER_DEFRAG << 16;
        set(self.fd(), libc::SOL_PACKET, PACKET_FANOUT, &value.to_ne_bytes())
            .map_err(|source| CaptureError::Socket { interface, what: "fanout", source })
    }

    /// As long as the socket is open, the device takes packets that are not for it too.
    pub fn make_promiscuous(&mut self, device: &Device) -> Result<(), CaptureError> {
        if !device.can_be_promiscuous() {
            return Ok(());
        }
        let failed = |source| CaptureError::Socket {
            interface: device.name.clone(),
            what: "promiscuous mode",
            source,
        };
        self.stream.set_promisc(&device.name, true).map_err(failed)
    }

    /// Lets packets in. What came before was turned away by the filter and is not counted.
    pub fn start(&mut self, filter: &Filter) -> io::Result<()> {
        self.counters()?;
        // On loopback every packet passes twice; the outgoing copy is the one to leave out.
        let program = if self.device.loopback { filter.program_for_loopback() } else { filter.program() };
        self.stream.set_bpf_filter(program)
    }

    /// Empties the kernel's counters, for a filter that is attached from outside.
    pub fn reset(&mut self) -> io::Result<()> {
        self.counters().map(drop)
    }

    /// Lets no more packets in; those in the ring stay.
    pub fn stop(&mut self) -> io::Result<()> {
        self.stream.set_bpf_filter(Filter::nothing().program())
    }

    /// The next block the kernel has finished, if any. Give it back with [`Socket::release`].
    #[inline]
    pub fn ready(&self) -> Option<&[u8]> {
        if self.status().load(Ordering::Acquire) & STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the mapping holds `blocks` blocks of `block_bytes` each and `next` is below `blocks`. The kernel set
        // the USER bit, read with acquire: it writes to this block only after `release`, which needs `&mut self`.
        Some(unsafe {
            std::slice::from_raw_parts(self.map.add(self.offset()), self.size.block_bytes as usize)
        })
    }

    /// Blocks that the kernel has finished and that were not given back yet.
    pub fn ready_blocks(&self) -> u32 {
        let is_ready = |ahead: &u32| {
            let at = (self.next + ahead) % self.size.blocks;
            self.status_of(at).load(Ordering::Acquire) & STATUS_USER != 0
        };
        (0..self.size.blocks).take_while(is_ready).count() as u32
    }

    pub fn release(&mut self) {
        self.status().store(STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.size.blocks;
    }

    pub fn counters(&self) -> io::Result<KernelCounters> {
        let mut raw = [0u32; 3];
        let mut len = size_of_val(&raw) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, the size of `raw` (struct tpacket_stats_v3).
        let result = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                raw.as_mut_ptr().cast(),
                &mut len,
            )
        };
        check(result)?;
        let [received, dropped, freezes] = raw.map(u64::from);
        Ok(KernelCounters { received, dropped, freezes })
    }

    /// Reads and clears the error that a device going down leaves; without this `poll` would return at once for ever.
    pub fn clear_error(&self) {
        let mut error = 0i32;
        let mut len = size_of::<i32>() as libc::socklen_t;
        // SAFETY: the kernel writes one i32.
        unsafe {
            libc::getsockopt(self.fd(), libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut len)
        };
    }

    pub fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream keeps the descriptor open at least as long as the borrow of `self` lasts.
        unsafe { BorrowedFd::borrow_raw(self.fd()) }
    }

    fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    fn offset(&self) -> usize {
        self.next as usize * self.size.block_bytes as usize
    }

    #[inline]
    fn status(&self) -> &AtomicU32 {
        self.status_of(self.next)
    }

    /// The status word of a block; numbers go round in the ring.
    #[inline]
    fn status_of(&self, block: u32) -> &AtomicU32 {
        let offset = (block % self.size.blocks) as usize * self.size.block_bytes as usize;
        // SAFETY: the mapping holds `blocks` blocks; each starts at a page boundary, its status word lies 8 bytes in
        // (tpacket_hdr_v1), aligned; kernel and program access it only atomically.
        unsafe { AtomicU32::from_ptr(self.map.add(offset + STATUS_OFFSET).cast()) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: `map` is what mmap gave for exactly this length, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.map.cast(), length(self.size)) };
    }
}

fn length(size: RingSize) -> usize {
    size.block_bytes as usize * size.blocks as usize
}

/// struct tpacket_req3: block size and count, frame size and count, retire timeout, private bytes, features.
fn request(size: RingSize) -> [u8; 28] {
    // Frames of a V3 ring have no fixed size; the kernel only wants the numbers to agree.
    let frame = 2048;
    let frames = (length(size) / frame as usize) as u32;
    let words = [size.block_bytes, size.blocks, frame, frames, size.retire_ms, 0, 0];
    let mut raw = [0; 28];
    for (bytes, word) in raw.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&u32::to_ne_bytes(word));
    }
    raw
}

fn set(fd: RawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `value.len()` bytes from `value`.
    check(unsafe {
        libc::setsockopt(fd, level, option, value.as_ptr().cast(), value.len() as libc::socklen_t)
    })
}

fn map(fd: RawFd, size: RingSize) -> io::Result<*mut u8> {
    // SAFETY: a new shared mapping of the ring of `fd`; the kernel chooses where.
    let map = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length(size),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        )
    };
    if map == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(map.cast()) }
}

/// Index and ARPHRD type of the device a socket is bound to.
fn bound_to(fd: RawFd) -> io::Result<(u32, u16)> {
    // SAFETY: sockaddr_ll is plain numbers, for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `address`.
    check(unsafe { libc::getsockname(fd, (&raw mut address).cast(), &mut len) })?;
    Ok((address.sll_ifindex as u32, address.sll_hatype))
}

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
