//! What every segment of a recording has in common, and the table of the interfaces that are recorded.
//! In: devices as they come, get other names and go. Out: what is described in the segments of a worker.
//! An interface that is gone stays in the table until every worker has told its last counters, and then it
//! is forgotten.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use shark_bpf::any_socket::OwnMarks;
use shark_schema::segment::{SidecarInterface, Versions};

use crate::ring::Ring;

pub struct Recording {
    pub ring: Ring,
    /// By number, which is `id` here and never given to another.
    pub interfaces: Mutex<Vec<Recorded>>,
    pub compress: bool,
    pub segment_bytes: u64,
    pub segment_age: Duration,
    pub snaplen: u32,
    pub filter: Option<String>,
    pub config_sha256: String,
    pub versions: Versions,
    /// Interfaces are devices of this machine, not of a file.
    pub live: bool,
    /// The marks of uploads that are left out, with a count of their packets.
    pub own_marks: Option<Arc<Mutex<OwnMarks>>>,
}

/// An interface of the table.
pub struct Recorded {
    of: SidecarInterface,
    /// Its device is gone, and these workers have not told its last counters yet.
    untold: Option<Vec<u16>>,
}

impl From<SidecarInterface> for Recorded {
    fn from(of: SidecarInterface) -> Recorded {
        Recorded { of, untold: None }
    }
}

impl Recording {
    pub fn interfaces(&self) -> Vec<SidecarInterface> {
        self.table().iter().map(|recorded| recorded.of.clone()).collect()
    }

    /// Those of which a worker has, or may have, something to tell.
    pub fn interfaces_of(&self, worker: u16) -> Vec<SidecarInterface> {
        let is_open =
            |recorded: &&Recorded| recorded.untold.as_ref().is_none_or(|untold| untold.contains(&worker));
        self.table().iter().filter(is_open).map(|recorded| recorded.of.clone()).collect()
    }

    /// The next segments call the device of this index by another name.
    pub fn rename(&self, ifindex: u32, name: &str) {
        let mut table = self.table();
        if let Some(recorded) = table.iter_mut().rfind(|recorded| recorded.of.ifindex == Some(ifindex)) {
            name.clone_into(&mut recorded.of.name);
        }
    }

    /// Adds an interface; gives its number: the one it has, or a higher one where that was given before.
    pub fn add(&self, mut interface: SidecarInterface) -> u32 {
        let mut table = self.table();
        let free = table.last().map_or(0, |last| last.of.id + 1);
        interface.id = interface.id.max(free);
        let id = interface.id;
        table.push(interface.into());
        id
    }

    /// The device of an interface is gone. Each of `workers` is to say when it has told of it for the last
    /// time.
    pub fn gone(&self, id: u32, workers: std::ops::Range<u16>) {
        if let Some(recorded) = self.table().iter_mut().find(|recorded| recorded.of.id == id) {
            recorded.untold = Some(workers.collect());
        }
    }

    /// A worker has told everything of an interface that is gone. True when it was the last, and the
    /// interface is forgotten.
    pub fn told(&self, id: u32, worker: u16) -> bool {
        let mut table = self.table();
        let Some(at) = table.iter().position(|recorded| recorded.of.id == id) else { return false };
        let Some(untold) = &mut table[at].untold else { return false };
        untold.retain(|of| *of != worker);
        let is_last = untold.is_empty();
        if is_last {
            table.remove(at);
        }
        is_last
    }

    fn table(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.interfaces.lock().unwrap_or_else(|e| e.into_inner())
    }
}
