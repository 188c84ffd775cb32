//! Processes that begin, become another program, and end, as the kernel tells it. In: the kernel's permission. Out: events in
//! the order of their CPUs. What the ring had no room for is counted; threads are no processes.

use aya::{Btf, Ebpf};

use crate::events::{Events, text};
use crate::skipped::Skipped;
use crate::{Reason, attach_tracepoint};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/processes.bpf.o"));

/// `struct event` and `struct executed` of the program.
const EVENT_BYTES: usize = 64;
const EXE_BYTES: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub at_boottime_ns: u64,
    /// Of the process, CLOCK_BOOTTIME; an exec does not change it.
    pub start_boottime_ns: u64,
    pub pid: u32,
    pub parent: u32,
    pub uid: u32,
    /// Of cgroup v2; 1 is its root.
    pub cgroup_id: u64,
    /// Inode of its network namespace; None for one that has none any more.
    pub netns: Option<u32>,
    pub comm: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Forked,
    /// Path as it was asked for, and arguments as far as the first KiB of them goes; None where they could not be read.
    Executed {
        path: String,
        arguments: Option<Vec<String>>,
    },
    /// Status as wait(2) gives it.
    Exited(i32),
}

pub struct Processes {
    _program: Ebpf,
    events: Events,
    pub(crate) skipped: Skipped,
}

impl Processes {
    /// Loads and attaches; events gather from now on.
    pub fn start() -> Result<Processes, Reason> {
        Processes::start_object(OBJECT)
    }

    /// As [`Processes::start`], from the bytes of an object that is built from the same source.
    pub fn start_object(object: &[u8]) -> Result<Processes, Reason> {
        let mut loaded = Ebpf::load(object).map_err(|error| Reason::of(&error))?;
        let btf = Btf::from_sys_fs().map_err(|error| Reason::Unsupported(error.to_string()))?;
        let events = Events::of(&mut loaded)?;
        attach_tracepoint(&mut loaded, &btf, "forked", "sched_process_fork")?;
        attach_tracepoint(&mut loaded, &btf, "executed", "sched_process_exec")?;
        attach_tracepoint(&mut loaded, &btf, "exited", "sched_process_exit")?;
        let skipped = Skipped::of(&loaded);
        Ok(Processes { _program: loaded, events, skipped })
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
}

impl Event {
    /// None for what is no event.
    fn read(bytes: &[u8]) -> Option<Event> {
        let (head, more) = bytes.split_first_chunk::<EVENT_BYTES>()?;
        let u64_at = |at: usize| head[at..].first_chunk().map_or(0, |raw| u64::from_ne_bytes(*raw));
        let u32_at = |at: usize| head[at..].first_chunk().map_or(0, |raw| u32::from_ne_bytes(*raw));
        let kind = match head[42] {
            1 => Kind::Forked,
            2 => {
                let (path, arguments) = more.split_at_checked(EXE_BYTES)?;
                let length = usize::from(u16::from_ne_bytes([head[40], head[41]]));
                let arguments = arguments.get(..length).filter(|bytes| !bytes.is_empty());
                let split = |bytes: &[u8]| {
                    bytes.strip_suffix(&[0]).unwrap_or(bytes).split(|b| *b == 0).map(text).collect()
                };
                Kind::Executed { path: text(path), arguments: arguments.map(split) }
            }
            3 => Kind::Exited(u32_at(36) as i32),
            _ => return None,
        };
        Some(Event {
            kind,
            at_boottime_ns: u64_at(0),
            start_boottime_ns: u64_at(8),
            pid: u32_at(24),
            parent: u32_at(28),
            uid: u32_at(32),
            cgroup_id: u64_at(16),
            netns: Some(u32_at(44)).filter(|netns| *netns != 0),
            comm: text(&head[48..]),
        })
    }
}
