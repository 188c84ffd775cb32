//! Running totals for `status`, shared by the threads of a recorder.
//! In: the same batches and losses the ledgers see. Out: a copy, at any time.
//! Only writer threads and the control socket touch it, never the capture threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shark_schema::segment::{Counters, SHARED_SOCKET};

#[derive(Default)]
pub struct Stats {
    interfaces: Mutex<Vec<Counters>>,
    /// Of a socket that interfaces share: what is of no one of them.
    socket: Mutex<Counters>,
    /// Compression in force, by the number of steps given up.
    pub steps_down: AtomicU64,
    pub queue_fill_percent: AtomicU64,
    pub sealed: AtomicU64,
    pub evicted: AtomicU64,
    pub disk_refuses: AtomicBool,
}

impl Stats {
    pub fn new(interfaces: usize) -> Stats {
        Stats { interfaces: Mutex::new(vec![Counters::default(); interfaces]), ..Stats::default() }
    }

    pub fn add(&self, interface: u32, more: &Counters) {
        if interface == SHARED_SOCKET {
            *self.socket.lock().unwrap_or_else(|e| e.into_inner()) += more;
            return;
        }
        let mut all = self.interfaces.lock().unwrap_or_else(|e| e.into_inner());
        let at = interface as usize;
        if all.len() <= at {
            all.resize(at + 1, Counters::default());
        }
        all[at] += more;
    }

    pub fn interfaces(&self) -> Vec<Counters> {
        self.interfaces.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub fn socket(&self) -> Counters {
        *self.socket.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn totals(&self) -> Counters {
        let mut sum = self.socket();
        self.interfaces().iter().for_each(|counters| sum += counters);
        sum
    }

    pub fn set_queue_fill(&self, percent: usize) {
        self.queue_fill_percent.store(percent as u64, Ordering::Relaxed);
    }
}
