//! The writer of one worker: turns batches into segments, and decides when one ends.
//! In: batches from the capture thread, requests to seal. Out: finished segments for the keeper, facts for the log.
//! A disk that refuses never stops it: what cannot be stored is counted, and tried again when there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use shark_schema::identity::{Fact, Progress};
use shark_schema::segment::{self, CloseReason, Loss, Name, Statistics};

use super::described::Described;
use super::keeper::{Shared, Task};
use super::ledger::{Ledger, chain_hash};
use super::recording::Recording;
use super::writer::{Compression, Writer};
use crate::batch::{Batch, Sink};
use crate::supervisor::WorkerProgress;
use crate::time::{new_ulid, now_ns};

const FLUSH: Duration = Duration::from_millis(500);
const SYNC: Duration = Duration::from_secs(5);
const STATISTICS: Duration = Duration::from_secs(10);
/// Time between two changes of the compression, upwards; downwards one second is enough.
const CALM: Duration = Duration::from_secs(30);
/// Stored bytes kept in memory while the disk refuses.
const MOST_PENDING_BYTES: usize = 4 << 20;
/// Under pressure, from the left to the right.
const STEPS: [Compression; 4] =
    [Compression::Zstd(1), Compression::Zstd(-3), Compression::Zstd(-20), Compression::None];

/// A request to seal; answered with the name of what was sealed, once it is in its place.
pub type SealRequest = Sender<Option<Name>>;

pub struct WriterThread {
    pub worker: u16,
    pub seq: u64,
    pub prev_sidecar_sha256: Option<String>,
    pub recording: Arc<Recording>,
    pub shared: Shared,
    pub keeper: Sender<Task>,
    pub requests: Receiver<SealRequest>,
    pub progress: Arc<WorkerProgress>,
    pub state: State,
}

/// What changes from batch to batch.
pub struct State {
    pub(super) open: Option<Open>,
    pub(super) ledger: Ledger,
    /// Since the last counters fact.
    pub(super) since_fact: Ledger,
    pub(super) nic: BTreeMap<u32, u64>,
    /// Interfaces that are gone, and of which not everything is told yet.
    pub(super) ended: BTreeSet<u32>,
    /// Packets of marked uploads that were left out so far.
    pub(super) left_out: u64,
    /// When packets were lost that the next sidecar counts.
    pub(super) losses: Vec<Loss>,
    /// A batch was stored since the last of them.
    pub(super) stored_since: bool,
    /// Everything that reached the sockets until then was taken in here, or counted as lost.
    settled_ns: i64,
    pub(super) refused: bool,
    /// Interfaces with packets or losses since the last flush.
    pub(super) changed: Vec<u32>,
    step: usize,
    stepped: Instant,
    statistics: Instant,
    scratch: Vec<u8>,
}

impl Default for State {
    fn default() -> State {
        State {
            open: None,
            ledger: Ledger::default(),
            since_fact: Ledger::default(),
            nic: BTreeMap::new(),
            ended: BTreeSet::new(),
            left_out: 0,
            losses: Vec::new(),
            stored_since: false,
            settled_ns: 0,
            refused: false,
            changed: Vec::new(),
            step: 0,
            stepped: Instant::now(),
            statistics: Instant::now(),
            scratch: Vec::with_capacity(4096),
        }
    }
}

pub(super) struct Open {
    pub(super) name: Name,
    pub(super) id: String,
    pub(super) writer: Writer,
    since_ns: i64,
    since: Instant,
    flushed: Instant,
    synced: Instant,
    /// The frame is complete and only waits for the disk.
    pub(super) ending: Option<CloseReason>,
    pub(super) described: Described,
}

impl WriterThread {
    /// Runs until the capture thread is gone and everything it sent is stored.
    pub fn run(mut self, sink: &Sink) {
        self.count_device_drops();
        loop {
            self.progress.writer.beat();
            let captured_ns = self.captured_until_ns();
            match sink.receive(Duration::from_millis(100)) {
                Ok(mut batch) => {
                    self.take(&mut batch);
                    sink.give_back(batch);
                }
                // What was handed over before is here: the queue is empty.
                Err(RecvTimeoutError::Timeout) => self.state.settled_ns = captured_ns,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.answer(sink);
            self.tick(sink.fill_percent());
        }
        self.state.settled_ns = self.captured_until_ns();
        self.count_device_drops();
        self.open_for_the_last_counters();
        self.seal(CloseReason::Stop);
        self.report_counters();
        self.progress.writer.end();
    }

    /// Where the last packets filled a segment, what was counted after them needs one of its own: only sidecars are sealed.
    fn open_for_the_last_counters(&mut self) {
        let counted = self.state.ledger.totals();
        let is_counted = counted.offered > 0
            || counted.kernel_received > Some(0)
            || counted.nic_dropped > Some(0)
            || counted.filtered > Some(0);
        if self.state.open.is_some() || !is_counted {
            return;
        }
        match self.open(now_ns()) {
            Ok(open) => self.state.open = Some(open),
            Err(error) => self.disk_refuses(&error),
        }
    }

    fn captured_until_ns(&self) -> i64 {
        self.progress.captured_until_ns.load(Ordering::Acquire)
    }

    /// Says how far it has come, once nothing waits for the disk.
    pub(super) fn report_progress(&mut self) {
        let is_pending = self.state.open.as_ref().is_some_and(|open| open.writer.pending() > 0);
        if !self.state.refused && !is_pending && self.state.settled_ns != 0 {
            self.progress.recorded_until_ns.store(self.state.settled_ns, Ordering::Release);
        }
    }

    /// Writes into the log how far it has come.
    pub(super) fn log_progress(&mut self) {
        self.report_progress();
        let recorded_until_ns = self.progress.recorded_until_ns.load(Ordering::Acquire);
        if recorded_until_ns != 0 {
            let (worker, seq) = (self.worker, self.seq);
            self.shared.log.write(Fact::Progress(Progress { worker, recorded_until_ns, seq }));
        }
    }

    fn take(&mut self, batch: &mut Batch) {
        self.lost(batch);
        if let (Some(min_ns), Some(max_ns)) = (batch.min_ns(), batch.max_ns()) {
            self.take_packets(batch, min_ns, max_ns);
        }
        if !batch.ended.is_empty() {
            self.state.ended.extend(batch.ended.drain(..));
            self.forget();
        }
    }

    fn take_packets(&mut self, batch: &mut Batch, min_ns: i64, max_ns: i64) {
        self.state.settled_ns = max_ns;
        match self.store(batch, min_ns) {
            Ok(()) => self.count(batch, true),
            Err(error) => {
                self.disk_refuses(&error);
                self.count(batch, false);
            }
        }
        if self.state.open.as_ref().is_some_and(|open| open.writer.raw() >= self.recording.segment_bytes) {
            self.seal(CloseReason::Size);
        }
    }

    /// An error means that nothing of the batch is kept.
    fn store(&mut self, batch: &mut Batch, min_ns: i64) -> io::Result<()> {
        if self.state.refused {
            self.write_out()?;
        }
        if let Some(reason) = self.state.open.as_ref().and_then(|open| open.ending) {
            self.seal(reason);
        }
        if self.state.open.is_none() {
            self.state.open = Some(self.open(min_ns)?);
        }
        let Some(open) = &mut self.state.open else {
            return Ok(());
        };
        if open.writer.pending() > MOST_PENDING_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if batch.interfaces().any(|number| open.described.place(number).is_none()) {
            self.describe_interfaces()?;
        }
        let Some(open) = &mut self.state.open else {
            return Ok(());
        };
        open.described.renumber(batch);
        open.writer.append(&batch.data)?;
        if open.writer.is_full()
            && let Err(error) = self.write_out()
        {
            // The batch is in memory and will be written: it is not lost yet, but the next ones may be.
            self.disk_refuses(&error);
        }
        Ok(())
    }

    fn open(&mut self, first_ns: i64) -> io::Result<Open> {
        let compression = if self.recording.compress { STEPS[self.state.step] } else { Compression::None };
        let seq = self.seq + 1;
        let name = Name { worker: self.worker, seq, first_ns, compressed: compression.is_zstd(), open: true };
        let path = self.recording.ring.segments().join(name.to_string());
        let mut writer = match Writer::create(&path, compression) {
            // Of a file system that has no room for one more file, a segment that goes leaves two.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let evicted = self.shared.budget(|budget| budget.evict("the disk takes no more files"));
                let Some(evicted) = evicted else { return Err(error) };
                self.shared.report([evicted]);
                Writer::create(&path, compression)?
            }
            created => created?,
        };
        self.seq = seq;
        let id = new_ulid()?.to_string();
        let mut head = Vec::with_capacity(1024);
        self.describe(&mut head, &id, seq);
        writer.append(&head)?;
        let now = Instant::now();
        Ok(Open {
            name,
            id,
            writer,
            since_ns: first_ns,
            since: now,
            flushed: now,
            synced: now,
            ending: None,
            described: Described::default(),
        })
    }

    fn answer(&mut self, sink: &Sink) {
        while let Ok(reply) = self.requests.try_recv() {
            let captured_ns = self.captured_until_ns();
            // What was captured before the request belongs into the sealed segment.
            while let Ok(mut batch) = sink.receive(Duration::ZERO) {
                self.take(&mut batch);
                sink.give_back(batch);
            }
            self.state.settled_ns = captured_ns.max(self.state.settled_ns);
            let name = self.seal(CloseReason::Snapshot);
            self.log_progress();
            // Nobody waits any more after a timeout; the seal stands all the same.
            let _ = reply.send(name);
        }
    }

    fn tick(&mut self, fill_percent: usize) {
        self.shared.stats.set_queue_fill(fill_percent);
        let now = Instant::now();
        if now - self.state.statistics >= STATISTICS {
            self.state.statistics = now;
            self.count_device_drops();
            self.write_statistics(None);
            let State { open, ended, ledger, .. } = &self.state;
            // Where nothing else is recorded, interfaces that are gone do not wait for a packet to be
            // forgotten.
            if open.is_none() && ended.iter().any(|number| ledger.counts(*number)) {
                self.open_for_the_last_counters();
                self.seal(CloseReason::Age);
            }
            self.report_counters();
        }
        self.adapt(fill_percent, now);
        let Some(open) = &mut self.state.open else { return self.report_progress() };
        if now - open.flushed < FLUSH {
            return;
        }
        open.flushed = now;
        match open.ending {
            Some(reason) => drop(self.seal(reason)),
            None if now - open.since >= self.recording.segment_age || open.writer.is_removed() => {
                self.seal(CloseReason::Age);
            }
            None => self.flush(now),
        }
    }

    fn flush(&mut self, now: Instant) {
        let Some(open) = &mut self.state.open else { return };
        let sync = now - open.synced >= SYNC;
        if sync {
            open.synced = now;
        }
        let ended = if self.state.refused { Ok(()) } else { self.end_block() };
        if let Err(error) = ended.and_then(|()| self.write_out()) {
            self.disk_refuses(&error);
        } else {
            self.report_progress();
            if sync {
                self.sync();
            }
        }
    }

    /// Behind the packets goes a second, small zstd block: `zstdcat` keeps back the end of the last block of a torn frame,
    /// which must not be packets. It holds the counters of who sent them, so that a crash loses those neither.
    fn end_block(&mut self) -> io::Result<()> {
        let changed = std::mem::take(&mut self.state.changed);
        if changed.is_empty() {
            return Ok(());
        }
        let Some(open) = &mut self.state.open else {
            return Ok(());
        };
        open.writer.end_block()?;
        self.write_statistics(Some(changed));
        self.state.open.as_mut().map_or(Ok(()), |open| open.writer.end_block())
    }

    fn sync(&self) {
        if let Some(Ok(file)) = self.state.open.as_ref().map(|open| open.writer.file().try_clone()) {
            // The keeper outlives all writers.
            let _ = self.keeper.send(Task::Sync(file));
        }
    }

    /// A queue that fills up means that compression is the bottleneck: the next segment gets less of it.
    fn adapt(&mut self, fill_percent: usize, now: Instant) {
        let since = now - self.state.stepped;
        let step = match fill_percent {
            50.. if self.state.step + 1 < STEPS.len() && since >= Duration::from_secs(1) => {
                self.state.step + 1
            }
            ..10 if self.state.step > 0 && since >= CALM => self.state.step - 1,
            _ => return,
        };
        // A replay waits for the writer: its queue is always full.
        if !self.recording.compress || !self.recording.live {
            return;
        }
        let more = step > self.state.step;
        self.state.step = step;
        self.state.stepped = now;
        self.shared.stats.steps_down.store(step as u64, Ordering::Relaxed);
        tracing::info!("compression is now {:?} (queue {fill_percent} % full)", STEPS[step]);
        if more {
            self.seal(CloseReason::Pressure);
        }
    }

    /// Of these interfaces, or of all that the segment describes.
    fn write_statistics(&mut self, interfaces: Option<Vec<u32>>) {
        if self.state.open.as_ref().is_none_or(|open| open.ending.is_some()) {
            return;
        }
        if let Err(error) = self.describe_interfaces() {
            self.disk_refuses(&error);
        }
        let Some(open) = &mut self.state.open else { return };
        self.state.scratch.clear();
        for number in interfaces.unwrap_or_else(|| open.described.numbers()) {
            let Some(place) = open.described.place(number) else { continue };
            let sum = self.state.ledger.statistics(number, open.since_ns, now_ns());
            segment::statistics(&mut self.state.scratch, &Statistics { interface: place, ..sum });
        }
        if let Err(error) = open.writer.append(&self.state.scratch) {
            self.disk_refuses(&error);
        }
    }

    /// Ends the open segment and hands it to the keeper. None while the disk does not take its last bytes.
    fn seal(&mut self, reason: CloseReason) -> Option<Name> {
        if self.state.open.as_ref()?.ending.is_none() {
            self.write_statistics(None);
            let open = self.state.open.as_mut()?;
            open.ending = Some(reason);
            if let Err(error) = open.writer.end() {
                self.disk_refuses(&error);
            }
        }
        if let Err(error) = self.write_out() {
            self.disk_refuses(&error);
            return None;
        }
        let open = self.state.open.take()?;
        let name = open.name.sealed();
        let sealed = self.finished(open);
        self.prev_sidecar_sha256 = Some(chain_hash(&sealed.sidecar_bytes));
        // The keeper outlives all writers.
        let _ = self.keeper.send(Task::Seal(Box::new(sealed)));
        self.forget();
        Some(name)
    }
}
