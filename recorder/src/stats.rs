//! Running totals for `status`, shared by the threads of a recorder.
//! In: the same batches and losses the ledgers see. Out: a copy, at any time.
//! Only writer threads and the control socket touch it, never the capture threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use shark_schema::segment::{Counters, SHARED_SOCKET};

#[derive(Default)]
pub struct Stats {
    /// By number, in that order.
    interfaces: Mutex<Vec<(u32, Counters)>>,
    /// Of a socket that interfaces share: what is of no one of them.
    socket: Mutex<Counters>,
    /// Of all interfaces that are gone and forgotten.
    gone: Mutex<Counters>,
    /// Compression in force, by the number of steps given up.
    pub steps_down: AtomicU64,
    pub queue_fill_percent: AtomicU64,
    pub sealed: AtomicU64,
    pub evicted: AtomicU64,
    pub disk_refuses: AtomicBool,
}

impl Stats {
    pub fn new(interfaces: usize) -> Stats {
        Stats { interfaces: Mutex::new(Vec::with_capacity(interfaces)), ..Stats::default() }
    }

    pub fn add(&self, interface: u32, more: &Counters) {
        if interface == SHARED_SOCKET {
            *lock(&self.socket) += more;
            return;
        }
        let mut all = lock(&self.interfaces);
        match all.binary_search_by_key(&interface, |(number, _)| *number) {
            Ok(at) => all[at].1 += more,
            Err(at) => all.insert(at, (interface, *more)),
        }
    }

    /// Adds the counters of an interface to those of all that are gone.
    pub fn forget(&self, interface: u32) {
        let mut all = lock(&self.interfaces);
        if let Ok(at) = all.binary_search_by_key(&interface, |(number, _)| *number) {
            *lock(&self.gone) += &all.remove(at).1;
        }
    }

    /// Of one interface; zeros where nothing was counted.
    pub fn of_interface(&self, interface: u32) -> Counters {
        let all = lock(&self.interfaces);
        all.iter().find(|(number, _)| *number == interface).map_or_else(Counters::default, |of| of.1)
    }

    pub fn socket(&self) -> Counters {
        *lock(&self.socket)
    }

    pub fn gone(&self) -> Counters {
        *lock(&self.gone)
    }

    pub fn totals(&self) -> Counters {
        // In one go, so that an interface that goes meanwhile is counted once.
        let all = lock(&self.interfaces);
        let mut sum = self.socket();
        sum += &self.gone();
        all.iter().for_each(|(_, counters)| sum += counters);
        sum
    }

    pub fn set_queue_fill(&self, percent: usize) {
        self.queue_fill_percent.store(percent as u64, Ordering::Relaxed);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|e| e.into_inner())
}
