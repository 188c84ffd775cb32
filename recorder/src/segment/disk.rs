//! The writer's way to the disk: room from the budget, write(2), and what to do when the disk says no.
//! In: bytes that wait in memory. Out: bytes in the file, or an error and the fact that says so.
//! Nothing that waits is ever thrown away here; it stays in order until the disk takes it.

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use shark_schema::identity::{Disk, Fact};

use super::thread::WriterThread;

/// Room taken for a sidecar before there is one.
const SIDECAR_BYTES: u64 = 32 << 10;
/// Segments given up for one write on a full disk.
const MOST_EVICTIONS: usize = 8;
/// How long a replay waits for room before its packets count as lost.
const REPLAY_PATIENCE: Duration = Duration::from_secs(10);

impl WriterThread {
    /// Takes room from the budget, then writes; evicts once more where the disk itself is full.
    pub(super) fn write_out(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.state.open else {
            return Ok(());
        };
        for _ in 0..MOST_EVICTIONS {
            let bytes = open.writer.stored() + open.writer.pending() as u64 + SIDECAR_BYTES;
            let grow = || {
                let (fits, evicted) = self.shared.budget(|budget| budget.grow_open(open.name, bytes));
                self.shared.report(evicted);
                fits
            };
            // What still waits for the keeper can soon be evicted, and a replay has time.
            let mut fits = grow();
            let asked = Instant::now();
            while !fits && !self.recording.live && asked.elapsed() < REPLAY_PATIENCE {
                thread::sleep(Duration::from_millis(10));
                fits = grow();
            }
            let evicted = self.shared.budget(|budget| budget.leave_free(open.writer.pending() as u64));
            self.shared.report(evicted);
            if !fits {
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    "nothing left to evict from the ring",
                ));
            }
            match open.writer.write_out() {
                Ok(()) => {
                    self.disk_takes();
                    return Ok(());
                }
                Err(error) if error.kind() != io::ErrorKind::StorageFull => return Err(error),
                Err(error) => {
                    let evicted = self.shared.budget(|budget| budget.evict("the disk is full"));
                    if evicted.is_none() {
                        return Err(error);
                    }
                    self.shared.report(evicted);
                }
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    pub(super) fn disk_refuses(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.state.refused, true) {
            tracing::warn!(
                "{}: {error}; packets are dropped and counted",
                self.recording.ring.root().display()
            );
            self.shared.stats.disk_refuses.store(true, Ordering::Relaxed);
            self.shared.log.write(Fact::Disk(Disk { writing: false, why: error.to_string() }));
        }
    }

    pub(super) fn disk_takes(&mut self) {
        if std::mem::replace(&mut self.state.refused, false) {
            tracing::warn!("{}: the disk takes data again", self.recording.ring.root().display());
            self.shared.stats.disk_refuses.store(false, Ordering::Relaxed);
            self.shared.log.write(Fact::Disk(Disk { writing: true, why: "a write succeeded".to_owned() }));
        }
    }
}
