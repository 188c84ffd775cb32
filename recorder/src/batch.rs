//! The hand-over from a capture thread to its writer: a fixed number of buffers that go round in a circle.
//! In: encoded packets. Out: the same, in order, with what was lost meanwhile.
//! The capture side never waits and never allocates: without a free buffer it counts instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use shark_schema::segment::Loss;

/// Losses of one interface since the batch before; differences, never totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// None for a replay, where there is no kernel to ask.
    pub kernel_received: Option<u64>,
    pub kernel_dropped: u64,
    pub ring_freezes: u64,
    pub user_dropped: u64,
    pub overload_bytes: u64,
}

/// Encoded packets within one stretch of 10 s, with what there is to say of each interface that had any. A batch without
/// packets only carries losses.
#[derive(Debug, Default)]
pub struct Batch {
    pub data: Vec<u8>,
    pub bucket_ns: i64,
    pub tallies: Vec<Tally>,
    /// When packets were lost; the counts are in the tallies.
    pub losses: Vec<Loss>,
    /// Interfaces that are gone: nothing comes of them after this.
    pub ended: Vec<u32>,
}

/// One interface's part of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub interface: u32,
    pub packets: u64,
    pub wire_bytes: u64,
    pub policy_bytes: u64,
    pub truncated: u64,
    pub min_ns: i64,
    pub max_ns: i64,
    pub losses: Losses,
}

impl Tally {
    pub fn new(interface: u32) -> Tally {
        Tally { interface, min_ns: i64::MAX, max_ns: i64::MIN, ..Tally::default() }
    }
}

impl Batch {
    /// Empties the batch and keeps its memory.
    pub fn reset(&mut self, bucket_ns: i64) {
        self.data.clear();
        self.tallies.clear();
        self.losses.clear();
        self.ended.clear();
        self.bucket_ns = bucket_ns;
    }

    /// Earliest stamp; None without packets.
    pub fn min_ns(&self) -> Option<i64> {
        self.tallies.iter().filter(|tally| tally.packets > 0).map(|tally| tally.min_ns).min()
    }

    /// Latest stamp; None without packets.
    pub fn max_ns(&self) -> Option<i64> {
        self.tallies.iter().filter(|tally| tally.packets > 0).map(|tally| tally.max_ns).max()
    }

    /// Numbers of the interfaces that have packets.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.tallies.iter().filter(|tally| tally.packets > 0).map(|tally| tally.interface)
    }
}

/// The capture thread's end.
pub struct Source {
    free: Receiver<Batch>,
    full: SyncSender<Batch>,
    waiting: Arc<AtomicUsize>,
}

/// The writer's end.
pub struct Sink {
    full: Receiver<Batch>,
    free: SyncSender<Batch>,
    waiting: Arc<AtomicUsize>,
    count: usize,
}

/// Interfaces with packets in one batch, before its list of them has to grow once.
const USUAL_INTERFACES: usize = 64;

/// Makes `count` buffers of `size` bytes. Both channels hold them all, so neither side ever waits for room.
pub fn circle(count: usize, size: usize) -> (Source, Sink) {
    let (free_in, free_out) = sync_channel(count);
    let (full_in, full_out) = sync_channel(count);
    for _ in 0..count {
        let batch = Batch {
            data: Vec::with_capacity(size),
            bucket_ns: 0,
            tallies: Vec::with_capacity(USUAL_INTERFACES),
            losses: Vec::new(),
            ended: Vec::new(),
        };
        free_in.send(batch).expect("the channel was made for them");
    }
    let waiting = Arc::new(AtomicUsize::new(0));
    let source = Source { free: free_out, full: full_in, waiting: waiting.clone() };
    (source, Sink { full: full_out, free: free_in, waiting, count })
}

impl Source {
    /// A free buffer, or None at once: the writer is behind.
    pub fn try_take(&self) -> Option<Batch> {
        self.free.try_recv().ok()
    }

    /// Waits for a free buffer; only who loses nothing by waiting may do so: a replay, and the last words of a lane. None when the
    /// writer is gone.
    pub fn wait(&self) -> Option<Batch> {
        self.free.recv().ok()
    }

    /// Hands a batch over. False when the writer is gone.
    pub fn send(&self, batch: Batch) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.full.send(batch).is_ok()
    }
}

impl Sink {
    pub fn receive(&self, timeout: Duration) -> Result<Batch, RecvTimeoutError> {
        let batch = self.full.recv_timeout(timeout)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(batch)
    }

    pub fn give_back(&self, batch: Batch) {
        // The capture thread may have ended; its buffers are then no longer needed.
        let _ = self.free.try_send(batch);
    }

    /// How full the queue is, in percent.
    pub fn fill_percent(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) * 100 / self.count.max(1)
    }
}
