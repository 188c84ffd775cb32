//! Files that processes map to run their code, at the moment when they do: PERF_RECORD_MMAP2 of perf_event_open(2), which the dynamic
//! linker causes for each library. In: the kernel's permission (CAP_PERFMON). Out: mappings in the order of their CPUs; that some were
//! lost is said. It samples nothing and runs no program: processes that map nothing are not slowed down.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use perf_event::data::{Mmap2, Record};
use perf_event::events::Software;
use perf_event::{Builder, Clock, SampleFlag, Sampler};

use crate::Reason;
use crate::events::text;

/// What a process did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It became another program, or its first thread took another name.
    Named {
        pid: u32,
        comm: String,
    },
    Mapped(Mapping),
}

/// A process has mapped a file to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub at_boottime_ns: u64,
    pub pid: u32,
    /// First address, and the one behind the last.
    pub range: (u64, u64),
    /// Major and minor number of the file's device.
    pub device: (u32, u32),
    pub inode: u64,
    /// As the process sees it.
    pub path: String,
}

/// Bytes of each CPU's buffer: a page of control, and as many others as a power of two.
const BUFFER_PAGES: usize = 1 + 32;
const PAGE_BYTES: usize = 4096;
/// No more of them are looked for.
const MOST_CPUS: usize = 4096;

pub struct Mappings(Vec<Sampler>);

impl Mappings {
    /// Events gather from now on, of all processes on the CPUs that are online.
    pub fn start() -> Result<Mappings, Reason> {
        let open = |cpu: usize| -> std::io::Result<Sampler> {
            let mut event = Builder::new(Software::DUMMY);
            event.any_pid().one_cpu(cpu).include_kernel().include_hv();
            event.mmap(true).mmap2(true).comm(true).wakeup_events(1);
            event.sample(SampleFlag::TIME).sample_id_all(true).clockid(Clock::BOOTTIME);
            event.enabled(true).build()?.sampled(BUFFER_PAGES * PAGE_BYTES)
        };
        let mut all = Vec::new();
        for cpu in online() {
            all.push(open(cpu).map_err(|error| Reason::of(&error))?);
        }
        match all.is_empty() {
            true => Err(Reason::Unsupported("/sys/devices/system/cpu/online names no CPU".into())),
            false => Ok(Mappings(all)),
        }
    }

    /// Descriptors that are readable while an event waits.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        // SAFETY: the descriptor is open as long as its sampler, which is borrowed for as long as the result is.
        #[allow(unsafe_code)]
        self.0.iter().map(|sampler| unsafe { BorrowedFd::borrow_raw(sampler.as_raw_fd()) })
    }

    /// Gives every event that waits; true where some were lost.
    pub fn drain(&mut self, mut each: impl FnMut(Event)) -> bool {
        let mut has_lost = false;
        for sampler in &mut self.0 {
            while let Some(record) = sampler.next_record() {
                match record.parse_record() {
                    Ok(Record::Mmap2(of)) => {
                        if let Some(mapping) = Mapping::of(&of, &record.to_contiguous()) {
                            each(Event::Mapped(mapping));
                        }
                    }
                    Ok(Record::Comm(of)) if of.pid == of.tid => {
                        each(Event::Named { pid: of.pid, comm: text(&of.comm) });
                    }
                    Ok(Record::Lost(_)) | Err(_) => has_lost = true,
                    Ok(_) => {}
                }
            }
        }
        has_lost
    }
}

impl Mapping {
    /// None for memory of no file, such as that of the kernel's own functions.
    fn of(record: &Mmap2<'_>, bytes: &[u8]) -> Option<Mapping> {
        let inode = record.ino().filter(|inode| *inode != 0)?;
        Some(Mapping {
            // Of what a sample has, every record has the time alone, as its end.
            at_boottime_ns: u64::from_ne_bytes(*bytes.last_chunk()?),
            pid: record.pid,
            range: (record.addr, record.addr.checked_add(record.len)?),
            device: (record.maj()?, record.min()?),
            inode,
            path: text(&record.filename),
        })
    }
}

/// Such as `0-3,8`.
fn online() -> Vec<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().take(MOST_CPUS).collect()
}
