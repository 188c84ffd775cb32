//! The life of TCP and UDP sockets as the kernel tells it, with their processes. In: the kernel's permission. Out: events in the
//! order of their CPUs, and on request all sockets that processes have open. What the ring had no room for is counted.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use aya::programs::cgroup_sock::CgroupSockLinkId;
use aya::programs::{CgroupAttachMode, CgroupSock, Iter};
use aya::{Btf, Ebpf};

use crate::events::{Events, text};
use crate::skipped::Skipped;
use crate::{Reason, attach_tracepoint, program};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sockets.bpf.o"));

/// `struct event` of the program.
const EVENT_BYTES: usize = 128;

/// What happened to a socket. `pid` is set only where the process is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub at_boottime_ns: u64,
    /// Unique among all sockets since boot.
    pub cookie: u64,
    /// Of cgroup v2; 1 is its root, 0 is not known.
    pub cgroup_id: u64,
    /// Inode of the network namespace.
    pub netns: u32,
    pub pid: Option<u32>,
    /// Of the process, CLOCK_BOOTTIME.
    pub process_start_ns: u64,
    pub comm: String,
    /// 6 or 17.
    pub protocol: u8,
    /// enum in net/tcp_states.h.
    pub state: u8,
    pub local: (IpAddr, u16),
    pub peer: (IpAddr, u16),
    /// errno, where it failed or was torn down.
    pub error: u32,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u32,
    pub srtt_us: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Connecting,
    Connected,
    Failed,
    Accepted,
    Listening,
    Closing,
    Closed,
    Sent,
    Released,
    Open,
    /// Accepted, and used for the first time by its process.
    Owned,
    /// A datagram socket that may be sent to.
    Bound,
}

const KINDS: [Kind; 12] = [
    Kind::Connecting,
    Kind::Connected,
    Kind::Failed,
    Kind::Accepted,
    Kind::Listening,
    Kind::Closing,
    Kind::Closed,
    Kind::Sent,
    Kind::Released,
    Kind::Open,
    Kind::Owned,
    Kind::Bound,
];

/// LISTEN in net/tcp_states.h.
pub const TCP_LISTEN: u8 = 10;

pub struct Sockets {
    program: Ebpf,
    events: Events,
    pub(crate) skipped: Skipped,
    /// Why datagram sockets have no exact beginning or end.
    datagrams: Result<(), Reason>,
    /// Why the process that accepted a connection is not known before that closes it.
    accepting: Result<(), Reason>,
    _watched: Vec<CgroupSockLinkId>,
}

impl Sockets {
    /// Loads and attaches; events gather from now on.
    pub fn start() -> Result<Sockets, Reason> {
        Sockets::start_object(OBJECT)
    }

    /// As [`Sockets::start`], from the bytes of an object that is built from the same source.
    pub fn start_object(object: &[u8]) -> Result<Sockets, Reason> {
        let mut loaded = Ebpf::load(object).map_err(|error| Reason::of(&error))?;
        let btf = Btf::from_sys_fs().map_err(|error| Reason::Unsupported(error.to_string()))?;
        let events = Events::of(&mut loaded)?;
        attach_tracepoint(&mut loaded, &btf, "state_changed", "inet_sock_set_state")?;
        let files: &mut Iter = program(&mut loaded, "open_sockets")?;
        files.load("task_file", &btf).map_err(|error| Reason::of(&error))?;
        let sent = attach_tracepoint(&mut loaded, &btf, "datagram_sent", "sock_send_length");
        let (watched, datagrams) = match sent.and_then(|()| watch_datagrams(&mut loaded)) {
            Ok(links) => (links, Ok(())),
            Err(reason) => (Vec::new(), Err(reason)),
        };
        let accepting = attach_tracepoint(&mut loaded, &btf, "received", "sock_recv_length");
        let skipped = Skipped::of(&loaded);
        Ok(Sockets { program: loaded, events, skipped, datagrams, accepting, _watched: watched })
    }

    pub fn accepting(&self) -> Result<(), &Reason> {
        self.accepting.as_ref().copied()
    }

    pub fn datagrams(&self) -> Result<(), &Reason> {
        self.datagrams.as_ref().copied()
    }

    /// Gives every event that waits.
    pub fn drain(&mut self, mut each: impl FnMut(Event)) {
        self.events.drain(|bytes| {
            if let Some(event) = Event::read(bytes) {
                each(event);
            }
        });
    }

    /// Events lost since the last time.
    pub fn lost(&mut self) -> u64 {
        self.events.lost()
    }

    /// Runs of the programs that the kernel skipped since the last time: as many events may be missing.
    pub fn skipped(&mut self) -> u64 {
        self.skipped.since()
    }

    /// All TCP and UDP sockets that are in the files of any process.
    pub fn open(&mut self) -> Result<Vec<Event>, Reason> {
        let files: &mut Iter = program(&mut self.program, "open_sockets")?;
        let link = files.attach().map_err(|error| Reason::of(&error))?;
        let link = files.take_link(link).map_err(|error| Reason::of(&error))?;
        let mut file = link.into_file().map_err(|error| Reason::of(&error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| Reason::of(&error))?;
        Ok(bytes.chunks_exact(EVENT_BYTES).filter_map(Event::read).collect())
    }
}

/// Watches where datagram sockets begin and end.
fn watch_datagrams(loaded: &mut Ebpf) -> Result<Vec<CgroupSockLinkId>, Reason> {
    // A hybrid set-up has version 2 beside the controllers of version 1.
    let roots = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"];
    let root = roots.iter().map(Path::new).find(|file| file.exists()).and_then(Path::parent);
    let root = root.ok_or_else(|| Reason::Unsupported("cgroup version 2 is not mounted".to_owned()))?;
    let mut links = Vec::new();
    for name in ["socket_released", "bound4", "bound6"] {
        let root = File::open(root).map_err(|error| Reason::of(&error))?;
        let found: &mut CgroupSock = program(loaded, name)?;
        found.load().map_err(|error| Reason::of(&error))?;
        // Links share a cgroup in any mode.
        links.push(found.attach(root, CgroupAttachMode::Single).map_err(|error| Reason::of(&error))?);
    }
    Ok(links)
}

impl Event {
    /// None for what is no event.
    fn read(bytes: &[u8]) -> Option<Event> {
        let bytes: &[u8; EVENT_BYTES] = bytes.try_into().ok()?;
        let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |raw| u64::from_ne_bytes(*raw));
        let u32_at = |at: usize| bytes[at..].first_chunk().map_or(0, |raw| u32::from_ne_bytes(*raw));
        let u16_at = |at: usize| bytes[at..].first_chunk().map_or(0, |raw| u16::from_ne_bytes(*raw));
        let is_v4 = u16_at(68) == libc::AF_INET as u16;
        let address = |at: usize| {
            let raw: &[u8; 16] = bytes[at..].first_chunk()?;
            Some(match is_v4 {
                true => IpAddr::from(Ipv4Addr::new(raw[0], raw[1], raw[2], raw[3])),
                // IPv4 over a socket of IPv6 is IPv4 on the wire.
                false => IpAddr::from(Ipv6Addr::from(*raw)).to_canonical(),
            })
        };
        Some(Event {
            kind: *KINDS.get(usize::from(bytes[75]).checked_sub(1)?)?,
            at_boottime_ns: u64_at(0),
            cookie: u64_at(8),
            cgroup_id: u64_at(16),
            netns: u32_at(48),
            pid: Some(u32_at(52)).filter(|pid| *pid != 0),
            process_start_ns: u64_at(24),
            comm: text(&bytes[112..]),
            protocol: bytes[74],
            state: bytes[76],
            local: (address(80)?, u16_at(70)),
            peer: (address(96)?, u16_at(72)),
            error: u32_at(64),
            sent_bytes: u64_at(32),
            received_bytes: u64_at(40),
            retransmits: u32_at(60),
            srtt_us: u32_at(56),
        })
    }
}
