//! The thread that waits for the disk, so that no other has to: fdatasync, sealing, the budget's housekeeping.
//! In: open files to make durable and finished segments. Out: sealed segments, eviction facts.
//! A segment that cannot be put in its place is tried again for a minute, unless somebody removed its file.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shark_schema::identity::Fact;
use shark_schema::segment::Series;

use super::budget::{Budget, Eviction};
use super::seal::{Sealed, put_in_place};
use super::writer::is_removed;
use crate::log::Log;
use crate::ring::Ring;
use crate::stats::Stats;
use crate::supervisor::Heartbeat;

pub enum Task {
    Sync(File),
    Seal(Box<Sealed>),
    /// Answered when everything sent before is done.
    Done(Sender<()>),
}

/// What writer threads and the keeper share.
#[derive(Clone)]
pub struct Shared {
    pub budget: Arc<Mutex<Budget>>,
    pub log: Arc<Log>,
    pub stats: Arc<Stats>,
}

impl Shared {
    pub fn budget<T>(&self, with: impl FnOnce(&mut Budget) -> T) -> T {
        with(&mut self.budget.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub fn report(&self, evictions: impl IntoIterator<Item = Eviction>) {
        for eviction in evictions {
            self.stats.evicted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.log.write(Fact::Evicted(eviction));
        }
    }
}

/// Ends, after finishing its tasks, when the last sender is gone.
pub fn start(ring: &Ring, shared: Shared, heartbeat: Arc<Heartbeat>) -> (Sender<Task>, JoinHandle<()>) {
    let (sender, tasks) = channel();
    let keeps_log = ring.series() == Series::Packets;
    let keeper = Keeper { dir: ring.segments(), keeps_log, shared, heartbeat };
    let thread = thread::Builder::new().name("keeper".into()).spawn(move || keeper.run(&tasks));
    (sender, thread.expect("a thread can be started"))
}

const TICK: Duration = Duration::from_millis(500);
/// Tries to seal on a disk that refuses, one a tick.
const MOST_TRIES: u32 = 120;

struct Keeper {
    dir: PathBuf,
    /// The log is counted once, beside the packets.
    keeps_log: bool,
    shared: Shared,
    heartbeat: Arc<Heartbeat>,
}

impl Keeper {
    fn run(&self, tasks: &Receiver<Task>) {
        let mut ticked = Instant::now();
        loop {
            self.heartbeat.beat();
            if ticked.elapsed() >= TICK {
                self.tick();
                ticked = Instant::now();
            }
            match tasks.recv_timeout(TICK) {
                Ok(Task::Sync(file)) => {
                    if let Err(error) = file.sync_data() {
                        tracing::warn!("{}: fdatasync: {error}", self.dir.display());
                    }
                }
                Ok(Task::Seal(sealed)) => self.seal(&sealed),
                Ok(Task::Done(reply)) => drop(reply.send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.heartbeat.end(),
            }
        }
    }

    fn seal(&self, sealed: &Sealed) {
        for _ in 0..MOST_TRIES {
            self.heartbeat.beat();
            let Err(error) = put_in_place(&self.dir, sealed) else { break };
            tracing::warn!("{}: cannot seal {}: {error}", self.dir.display(), sealed.name);
            if is_removed(&sealed.file) {
                let removed = self.shared.budget(|budget| budget.removed(sealed));
                return self.shared.report([removed]);
            }
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let evicted = is_full.then(|| self.shared.budget(|budget| budget.evict("the disk is full")));
            let evicted = evicted.flatten();
            if evicted.is_none() {
                thread::sleep(TICK);
            }
            self.shared.report(evicted);
        }
        self.shared.budget(|budget| budget.sealed(sealed.name, sealed.sidecar.sealed_at_ns));
        self.shared.stats.sealed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn tick(&self) {
        let bytes = if self.keeps_log { self.shared.log.prune() } else { 0 };
        let evicted = self.shared.budget(|budget| {
            budget.release_pins();
            budget.set_log(bytes)
        });
        self.shared.report(evicted);
    }
}
