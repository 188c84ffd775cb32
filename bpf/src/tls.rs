//! What applications say through OpenSSL before it is encrypted and after it is decrypted, with the connection it belongs to.
//! In: the kernel's permission, and files of libraries. Out: events in the order of their CPUs; what was lost, cut or has no
//! connection is counted. A file is opened by whoever found it and attached by its inode, so that no path is trusted.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::events::{Events, text};
use crate::skipped::Skipped;
use crate::{Reason, attach_tracepoint, program, symbols};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeLink, UProbeScope};
use aya::{Btf, Ebpf, EbpfLoader};

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
}

/// A process, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub start_boottime_ns: u64,
    pub comm: String,
}

/// Why a file gives no plaintext.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("it has no symbol {0}")]
    Missing(&'static str),
    #[error("it is no ELF file that can be read: {0}")]
    NotElf(object::Error),
    #[error(transparent)]
    Refused(Reason),
}

/// A file whose functions are watched until it is dropped. That takes a third of a second and more: for each function the kernel waits
/// until none of its calls is being told of, one after the other.
#[derive(Debug)]
pub struct Attached(Vec<UProbeLink>);

/// What watches functions of files.
pub struct Probes {
    loaded: Ebpf,
    /// `struct talker` of the program, by process.
    talkers: HashMap<MapData, u32, [u64; 2]>,
}

/// What is heard of the functions that are watched.
pub struct Plaintext {
    events: Events,
    counts: Array<MapData, u64>,
    /// `struct unplaced` by `struct process_key` of the program.
    unplaced: HashMap<MapData, [u64; 2], [u64; 3]>,
    pub(crate) skipped: Skipped,
    before: [u64; 4],
    before_by: std::collections::HashMap<[u64; 2], u64>,
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

/// Loads everything and finds out whether functions of programs may be watched; none is yet.
pub fn start() -> Result<(Probes, Plaintext), Reason> {
    start_object(OBJECT)
}

/// As [`start`], from the bytes of an object that is built from the same source.
pub fn start_object(object: &[u8]) -> Result<(Probes, Plaintext), Reason> {
    let btf = Btf::from_sys_fs().map_err(|error| Reason::Unsupported(error.to_string()))?;
    let mut loaded = EbpfLoader::new()
        .override_global("is_arm64", &u8::from(cfg!(target_arch = "aarch64")), true)
        .load(object)
        .map_err(|error| Reason::of(&error))?;
    let events = Events::of(&mut loaded)?;
    let mut map = |name: &str| loaded.take_map(name).ok_or_else(|| Reason::missing(name));
    let counts = Array::try_from(map("counts")?).map_err(|error| Reason::of(&error))?;
    let unplaced = HashMap::try_from(map("unplaced")?).map_err(|error| Reason::of(&error))?;
    let talkers = HashMap::try_from(map("talkers")?).map_err(|error| Reason::of(&error))?;
    for name in POINTS.iter().map(|(_, _, name, _)| *name).chain([RETURNED]) {
        let found: &mut UProbe = program(&mut loaded, name)?;
        found.load().map_err(|error| Reason::of(&error))?;
    }
    // Both are there since Linux 6.3.
    attach_tracepoint(&mut loaded, &btf, "socket_sent", "sock_send_length")?;
    attach_tracepoint(&mut loaded, &btf, "socket_received", "sock_recv_length")?;
    let skipped = Skipped::of(&loaded);
    let mut probes = Probes { loaded, talkers };
    probes.try_to_attach()?;
    let before_by = std::collections::HashMap::new();
    Ok((probes, Plaintext { events, counts, unplaced, skipped, before: [0; 4], before_by }))
}

impl Probes {
    /// The first bytes of an ELF file are never run, so that nothing is touched.
    fn try_to_attach(&mut self) -> Result<(), Reason> {
        let found: &mut UProbe = program(&mut self.loaded, "freed")?;
        let tried = found.attach(0, "/proc/self/exe", UProbeScope::AllProcesses);
        let link = tried.map_err(|error| Reason::of(&error))?;
        found.detach(link).map_err(|error| Reason::of(&error))
    }

    /// When a process first sent or received over TCP since [`start`], on CLOCK_BOOTTIME; also of one that has ended. None where it
    /// never did, or the kernel had no room for more processes.
    pub fn talked_boottime_ns(&self, pid: u32) -> Option<u64> {
        self.talkers.get(&pid, 0).ok().map(|[first_ns, _process_start_ns]| first_ns)
    }

    /// Watches the functions of a file in all processes that run it, now or later. All or none are watched.
    pub fn attach(&mut self, file: &File) -> Result<Attached, AttachError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let offsets =
            symbols::offsets(file, POINTS.map(|(symbol, ..)| symbol)).map_err(AttachError::NotElf)?;
        let missing =
            POINTS.iter().zip(&offsets).find(|((_, needed, ..), offset)| *needed && offset.is_none());
        if let Some(((symbol, ..), _)) = missing {
            return Err(AttachError::Missing(symbol));
        }
        let mut attached = Attached(Vec::new());
        for ((_, _, entry, returns), offset) in POINTS.into_iter().zip(offsets) {
            let Some(offset) = offset else { continue };
            // The return first: it does nothing without its entry.
            let programs = [(returns, RETURNED), (true, entry)];
            for name in programs.into_iter().filter_map(|(wanted, name)| wanted.then_some(name)) {
                attached.0.push(self.attach_one(name, offset, &path).map_err(AttachError::Refused)?);
            }
        }
        Ok(attached)
    }

    fn attach_one(&mut self, name: &str, offset: u64, path: &PathBuf) -> Result<UProbeLink, Reason> {
        let found: &mut UProbe = program(&mut self.loaded, name)?;
        let link = found.attach(offset, path, UProbeScope::AllProcesses);
        link.and_then(|link| found.take_link(link)).map_err(|error| Reason::of(&error))
    }
}

impl Plaintext {
    /// Gives every event that waits.
    pub fn drain(&mut self, mut each: impl FnMut(Event<'_>)) {
        self.events.drain(|bytes| {
            if let Some(event) = Event::read(bytes) {
                each(event);
            }
        });
    }

    /// What was lost since the last time.
    pub fn losses(&mut self) -> Losses {
        let mut since = [0; 4];
        for (at, before) in self.before.iter_mut().enumerate() {
            let total = self.counts.get(&(at as u32), 0).unwrap_or(*before);
            since[at] = total - std::mem::replace(before, total);
        }
        let [bytes, cut_calls, cut_bytes, unplaced_calls] = since;
        Losses { events: self.events.lost(), bytes, cut_calls, cut_bytes, unplaced_calls }
    }

    /// Runs of the programs that the kernel skipped since the last time: as many events may be missing, or lack their connection.
    pub fn skipped(&mut self) -> u64 {
        self.skipped.since()
    }

    /// Calls without a connection since the last time, by process, as far as the kernel had room for them: it asks for each.
    pub fn unplaced_by(&mut self) -> Vec<(Process, u64)> {
        let mut by = Vec::new();
        let mut now = std::collections::HashMap::new();
        for (key, [calls, comm @ ..]) in self.unplaced.iter().flatten() {
            now.insert(key, calls);
            // An entry that was removed for another begins anew.
            let before = self.before_by.get(&key).copied().filter(|before| *before <= calls);
            let since = calls - before.unwrap_or(0);
            if since > 0 {
                let comm = text(&comm.map(u64::to_ne_bytes).concat());
                let [pid, start_boottime_ns] = key;
                by.push((Process { pid: pid as u32, start_boottime_ns, comm }, since));
            }
        }
        self.before_by = now;
        by
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
