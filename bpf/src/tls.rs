//! What applications say through OpenSSL before it is encrypted and after it is decrypted, with the connection it belongs to.
//! In: the kernel's permission, and files of libraries. Out: events in the order of their CPUs; what was lost, cut or has no
//! connection is counted. A file is opened by whoever found it and attached by its inode, so that no path is trusted.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use aya::maps::{Array, MapData};
use aya::programs::uprobe::{UProbeError, UProbeLinkId, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use aya::{Btf, Ebpf, EbpfLoader};

use crate::events::Events;
use crate::{Reason, attach_tracepoint, program};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tls.bpf.o"));

/// `struct event` of the program.
const EVENT_BYTES: usize = 104;

/// Bytes that an application sent or received, or the end of a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    pub kind: Kind,
    /// A write when it began, a read when it returned: no answer comes before its question.
    pub at_boottime_ns: u64,
    /// Of the first of these bytes, in their direction. What is between two events is lost.
    pub offset: u64,
    /// Bytes of the other direction until then.
    pub other: u64,
    pub pid: u32,
    /// Offsets count from the first byte of the connection.
    pub begun: bool,
    /// Nothing passed before it in either direction.
    pub first: bool,
    /// Known where `begun`: this end opened the connection.
    pub client: bool,
    pub connection: Connection,
    pub data: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sent,
    Received,
    /// This end will send no more.
    EndedHere,
    /// The peer will send no more.
    EndedThere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Of the socket; unique since boot.
    pub cookie: u64,
    /// When its offsets began; sessions on one socket differ.
    pub since_boottime_ns: u64,
    pub netns: u32,
    pub local: (IpAddr, u16),
    pub peer: (IpAddr, u16),
}

/// What did not become an event since the last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// The ring was full, or the memory of the process could not be read.
    pub events: u64,
    pub bytes: u64,
    /// More in one call than is copied.
    pub cut_calls: u64,
    pub cut_bytes: u64,
    /// Passed through memory: whose connection it was is not known.
    pub unplaced_calls: u64,
    pub unplaced_bytes: u64,
}

/// Why a file gives no plaintext.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("it has no symbol {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Refused(Reason),
}

/// A file whose functions are watched until it is given to [`Tls::detach`].
#[derive(Debug)]
pub struct Attached(Vec<(&'static str, UProbeLinkId)>);

pub struct Tls {
    loaded: Ebpf,
    events: Events,
    counts: Array<MapData, u64>,
    before: [u64; 5],
}

/// Function of the library, whether it must be there, and the programs at its entry and its return.
const POINTS: [(&str, bool, &str, bool); 6] = [
    ("SSL_free", true, "freed", false),
    ("SSL_do_handshake", true, "handshake_entered", true),
    ("SSL_read", true, "read_entered", true),
    ("SSL_write", true, "write_entered", true),
    // Since OpenSSL 1.1.1.
    ("SSL_read_ex", false, "read_ex_entered", true),
    ("SSL_write_ex", false, "write_ex_entered", true),
];
const RETURNED: &str = "returned";

impl Tls {
    /// Loads everything and finds out whether functions of programs may be watched; none is yet.
    pub fn start() -> Result<Tls, Reason> {
        Tls::start_object(OBJECT)
    }

    /// As [`Tls::start`], from the bytes of an object that is built from the same source.
    pub fn start_object(object: &[u8]) -> Result<Tls, Reason> {
        let btf = Btf::from_sys_fs().map_err(|error| Reason::Unsupported(error.to_string()))?;
        let mut loaded = EbpfLoader::new()
            .override_global("is_arm64", &u8::from(cfg!(target_arch = "aarch64")), true)
            .load(object)
            .map_err(|error| Reason::of(&error))?;
        let events = Events::of(&mut loaded)?;
        let counts = loaded.take_map("counts").ok_or_else(|| Reason::missing("counts"))?;
        let counts = Array::try_from(counts).map_err(|error| Reason::of(&error))?;
        for name in POINTS.iter().map(|(_, _, name, _)| *name).chain([RETURNED]) {
            let found: &mut UProbe = program(&mut loaded, name)?;
            found.load().map_err(|error| Reason::of(&error))?;
        }
        // Both are there since Linux 6.3.
        attach_tracepoint(&mut loaded, &btf, "socket_sent", "sock_send_length")?;
        attach_tracepoint(&mut loaded, &btf, "socket_received", "sock_recv_length")?;
        let mut tls = Tls { loaded, events, counts, before: [0; 5] };
        tls.try_to_attach()?;
        Ok(tls)
    }

    /// The first bytes of an ELF file are never run, so that nothing is touched.
    fn try_to_attach(&mut self) -> Result<(), Reason> {
        let found: &mut UProbe = program(&mut self.loaded, "freed")?;
        let tried = found.attach(0, "/proc/self/exe", UProbeScope::AllProcesses);
        let link = tried.map_err(|error| Reason::of(&error))?;
        found.detach(link).map_err(|error| Reason::of(&error))
    }

    /// Watches the functions of a file in all processes that run it, now or later. All or none are watched.
    pub fn attach(&mut self, file: &File) -> Result<Attached, AttachError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut attached = Attached(Vec::new());
        for (symbol, needed, entry, returns) in POINTS {
            // The return first: it does nothing without its entry.
            let programs = [(returns, RETURNED), (true, entry)];
            for name in programs.into_iter().filter_map(|(wanted, name)| wanted.then_some(name)) {
                match self.attach_one(name, symbol, &path) {
                    Ok(link) => attached.0.push((name, link)),
                    Err(AttachError::Missing(_)) if !needed => break,
                    Err(error) => {
                        self.detach(attached);
                        return Err(error);
                    }
                }
            }
        }
        Ok(attached)
    }

    fn attach_one(
        &mut self,
        name: &str,
        symbol: &'static str,
        path: &PathBuf,
    ) -> Result<UProbeLinkId, AttachError> {
        let found: &mut UProbe = program(&mut self.loaded, name).map_err(AttachError::Refused)?;
        found.attach(symbol, path, UProbeScope::AllProcesses).map_err(|error| match error {
            ProgramError::UProbeError(UProbeError::SymbolError { .. }) => AttachError::Missing(symbol),
            other => AttachError::Refused(Reason::of(&other)),
        })
    }

    pub fn detach(&mut self, attached: Attached) {
        for (name, link) in attached.0 {
            if let Ok(found) = program::<UProbe>(&mut self.loaded, name) {
                // It can only be gone already.
                let _ = found.detach(link);
            }
        }
    }

    /// Gives every event that waits.
    pub fn drain(&mut self, mut each: impl FnMut(Event<'_>)) {
        self.events.drain(|bytes| {
            if let Some(event) = Event::read(bytes) {
                each(event);
            }
        });
    }

    pub fn losses(&mut self) -> Losses {
        let mut since = [0; 5];
        for (at, before) in self.before.iter_mut().enumerate() {
            let total = self.counts.get(&(at as u32), 0).unwrap_or(*before);
            since[at] = total - std::mem::replace(before, total);
        }
        let [bytes, cut_calls, cut_bytes, unplaced_calls, unplaced_bytes] = since;
        Losses { events: self.events.lost(), bytes, cut_calls, cut_bytes, unplaced_calls, unplaced_bytes }
    }
}

const KINDS: [Kind; 4] = [Kind::Sent, Kind::Received, Kind::EndedHere, Kind::EndedThere];

impl<'a> Event<'a> {
    /// None for what is no event.
    fn read(bytes: &'a [u8]) -> Option<Event<'a>> {
        let (head, more) = bytes.split_first_chunk::<EVENT_BYTES>()?;
        let u64_at = |at: usize| head[at..].first_chunk().map_or(0, |raw| u64::from_ne_bytes(*raw));
        let u32_at = |at: usize| head[at..].first_chunk().map_or(0, |raw| u32::from_ne_bytes(*raw));
        let flags = head[33];
        Some(Event {
            kind: *KINDS.get(usize::from(head[32]).checked_sub(1)?)?,
            at_boottime_ns: u64_at(0),
            offset: u64_at(8),
            other: u64_at(16),
            pid: u32_at(24),
            begun: flags & 1 != 0,
            first: flags & 2 != 0,
            client: flags & 4 != 0,
            connection: Connection::read(head[40..].first_chunk()?)?,
            data: more.get(..u32_at(28) as usize)?,
        })
    }
}

impl Connection {
    fn read(bytes: &[u8; 64]) -> Option<Connection> {
        let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |raw| u64::from_ne_bytes(*raw));
        let u16_at = |at: usize| bytes[at..].first_chunk().map_or(0, |raw| u16::from_ne_bytes(*raw));
        let is_v4 = u16_at(20) == libc::AF_INET as u16;
        let address = |at: usize| {
            let raw: &[u8; 16] = bytes.get(at..)?.first_chunk()?;
            Some(match is_v4 {
                true => IpAddr::from(Ipv4Addr::new(raw[0], raw[1], raw[2], raw[3])),
                // IPv4 over a socket of IPv6 is IPv4 on the wire.
                false => IpAddr::from(Ipv6Addr::from(*raw)).to_canonical(),
            })
        };
        Some(Connection {
            cookie: u64_at(0),
            since_boottime_ns: u64_at(8),
            netns: u32::from_ne_bytes(*bytes[16..].first_chunk()?),
            local: (address(32)?, u16_at(22)),
            peer: (address(48)?, u16_at(24)),
        })
    }
}
