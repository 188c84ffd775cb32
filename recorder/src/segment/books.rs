//! The writer's bookkeeping: losses into ledgers and statistics, counters into the log, ledgers into sidecars.
//! In: batches, the devices' own counters. Out: sidecars and counters facts, as differences.
//! What nobody can know stays None.

use std::collections::BTreeMap;
use std::io;

use shark_schema::identity::{CountersFact, Fact};
use shark_schema::segment::{
    self, Bucket, CloseReason, Counters, FORMAT_VERSION, InterfaceNote, Loss, LostBy, MOST_LOSSES,
    SHARED_SOCKET, SectionNote, Sidecar,
};

use super::ledger::Ledger;
use super::recovery::bucket_of;
use super::seal::Sealed;
use super::thread::{Open, State, WriterThread};
use crate::batch::{Batch, Tally};
use crate::devices;
use crate::time::now_ns;

impl WriterThread {
    /// What stands in front of the packets of every segment.
    pub(super) fn describe(&self, out: &mut Vec<u8>, id: &str, seq: u64) {
        let recording = &self.recording;
        let note = SectionNote {
            format: FORMAT_VERSION,
            segment_id: id.to_owned(),
            node: recording.ring.file.node.clone(),
            cluster: recording.ring.file.cluster.clone(),
            worker: self.worker,
            seq,
        };
        segment::section(out, &format!("sharkrec {}", recording.versions.recorder), &note);
    }

    /// Gives the interfaces that have no block in the open segment yet theirs. Of one that is gone, only
    /// where the segment counts something.
    pub(super) fn describe_interfaces(&mut self) -> io::Result<()> {
        let State { open, ended, ledger, .. } = &mut self.state;
        let Some(open) = open else { return Ok(()) };
        let mut blocks = Vec::new();
        for of in self.recording.interfaces_of(self.worker) {
            let is_described = open.described.place(of.id).is_some();
            if is_described || (ended.contains(&of.id) && !ledger.counts(of.id)) {
                continue;
            }
            let (ifindex, snaplen, pod) = (of.ifindex, of.snaplen, of.pod.clone());
            let note = InterfaceNote { ifindex, snaplen, synthetic_ethernet: of.synthetic_ethernet, pod };
            segment::interface(&mut blocks, &of.name, &note, self.recording.filter.as_deref());
            open.described.add(of);
        }
        open.writer.append(&blocks)
    }

    /// Forgets the interfaces that are gone, once their last counters are in a sidecar and in the log.
    pub(super) fn forget(&mut self) {
        let State { ended, ledger, since_fact, nic, .. } = &mut self.state;
        ended.retain(|number| {
            if ledger.counts(*number) || since_fact.counts(*number) {
                return true;
            }
            [&mut *ledger, &mut *since_fact].into_iter().for_each(|books| books.forget(*number));
            nic.remove(number);
            if self.recording.told(*number, self.worker) {
                self.shared.stats.forget(*number);
            }
            false
        });
    }

    /// What was lost before a batch.
    pub(super) fn lost(&mut self, batch: &Batch) {
        batch.losses.iter().for_each(|loss| self.lost_during(*loss));
        for Tally { interface, losses, .. } in &batch.tallies {
            let mut counters = Ledger::default();
            for ledger in [&mut self.state.ledger, &mut self.state.since_fact, &mut counters] {
                ledger.lost(*interface, batch.bucket_ns, losses);
            }
            self.shared.stats.add(*interface, &counters.totals());
        }
    }

    /// Notes when packets were lost. Stretches without a stored packet between them are one.
    fn lost_during(&mut self, loss: Loss) {
        let losses = &mut self.state.losses;
        let is_full = losses.len() >= MOST_LOSSES;
        let goes_on = |last: &&mut Loss| is_full || (!self.state.stored_since && last.cause == loss.cause);
        match losses.last_mut().filter(goes_on) {
            Some(last) => {
                last.from_ns = last.from_ns.min(loss.from_ns);
                last.to_ns = last.to_ns.max(loss.to_ns);
                last.packets += loss.packets;
            }
            None => losses.push(loss),
        }
        self.state.stored_since = false;
    }

    pub(super) fn count(&mut self, batch: &Batch, stored: bool) {
        match (batch.min_ns(), batch.max_ns()) {
            (Some(from_ns), Some(to_ns)) if !stored => {
                let packets = batch.tallies.iter().map(|tally| tally.packets).sum();
                self.lost_during(Loss { from_ns, to_ns, packets, cause: LostBy::Disk });
            }
            _ => self.state.stored_since = true,
        }
        for tally in batch.tallies.iter().filter(|tally| tally.packets > 0) {
            if !self.state.changed.contains(&tally.interface) {
                self.state.changed.push(tally.interface);
            }
            let mut counters = Ledger::default();
            for ledger in [&mut self.state.ledger, &mut self.state.since_fact, &mut counters] {
                match stored {
                    true => ledger.written(batch.bucket_ns, tally),
                    false => ledger.refused(batch.bucket_ns, tally),
                }
            }
            self.shared.stats.add(tally.interface, &counters.totals());
        }
    }

    /// Asks each device what it dropped itself. Only the first worker does, so that nothing is counted twice.
    pub(super) fn count_device_drops(&mut self) {
        if self.worker != 0 {
            return;
        }
        self.count_left_out();
        let Some(counters) = self.recording.live.then(devices::counters).and_then(Result::ok) else {
            return;
        };
        // Where a device was made anew, the last interface of its name is the one that lives.
        let names = self.recording.interfaces().into_iter().map(|of| (of.name, of.id));
        for (name, id) in names.collect::<BTreeMap<_, _>>() {
            let Some(total) = counters.get(&name).map(|of| of.rx_missed) else {
                continue;
            };
            let before = self.state.nic.insert(id, total).unwrap_or(total);
            // A device that was made anew counts from zero.
            let more = total.saturating_sub(before);
            self.state.ledger.nic_dropped(id, bucket_of(now_ns()), more);
            self.state.since_fact.nic_dropped(id, bucket_of(now_ns()), more);
        }
    }

    fn count_left_out(&mut self) {
        let Some(marks) = &self.recording.own_marks else { return };
        let total = marks.lock().unwrap_or_else(|e| e.into_inner()).left_out();
        let more = total.saturating_sub(std::mem::replace(&mut self.state.left_out, total));
        if more > 0 {
            let mut counters = Ledger::default();
            for ledger in [&mut self.state.ledger, &mut self.state.since_fact, &mut counters] {
                ledger.left_out(bucket_of(now_ns()), more);
            }
            self.shared.stats.add(SHARED_SOCKET, &counters.totals());
        }
    }

    /// Counters go into the log also where nothing was captured: that is what makes silence mean something.
    pub(super) fn report_counters(&mut self) {
        self.log_progress();
        let ledger = std::mem::take(&mut self.state.since_fact);
        let interfaces = self.recording.interfaces_of(self.worker);
        let mut buckets = ledger.buckets();
        for of in interfaces.iter().filter(|of| !self.state.ended.contains(&of.id)) {
            if buckets.iter().all(|bucket| bucket.interface != of.id) {
                let (start_ns, counters) = (bucket_of(now_ns()), Counters::default());
                buckets.push(Bucket { start_ns, interface: of.id, counters });
            }
        }
        for Bucket { start_ns, interface, counters } in buckets {
            let name = interfaces.iter().find(|of| of.id == interface).map(|of| of.name.clone());
            self.shared.log.write(Fact::Counters(CountersFact {
                // The socket that interfaces share is none of them.
                interface: name.unwrap_or_else(|| "*".to_owned()),
                worker: self.worker,
                bucket_ns: start_ns,
                counters,
            }));
        }
        self.forget();
    }

    pub(super) fn finished(&mut self, open: Open) -> Sealed {
        let ledger = std::mem::take(&mut self.state.ledger);
        let recording = &self.recording;
        let (interfaces, buckets) = open.described.into_sidecar(ledger.buckets());
        let (raw, stored) = (open.writer.raw(), open.writer.stored());
        let (file, sha256) = open.writer.into_parts();
        let (min_ns, max_ns) = ledger.range();
        let totals = ledger.totals();
        let sidecar = Sidecar {
            format: FORMAT_VERSION,
            segment_id: open.id,
            segment: open.name.sealed().to_string(),
            worker: self.worker,
            seq: open.name.seq,
            node: recording.ring.file.node.clone(),
            cluster: recording.ring.file.cluster.clone(),
            packets: totals.written,
            bytes_raw: raw,
            bytes_stored: stored,
            min_ns,
            max_ns,
            interfaces,
            totals,
            buckets,
            losses: std::mem::take(&mut self.state.losses),
            sha256,
            prev_sidecar_sha256: self.prev_sidecar_sha256.clone(),
            sealed_at_ns: now_ns(),
            close_reason: open.ending.unwrap_or(CloseReason::Stop),
            config_sha256: recording.config_sha256.clone(),
            versions: recording.versions.clone(),
            filter: recording.filter.clone(),
            snaplen: recording.snaplen,
        };
        let sidecar_bytes = sidecar.to_bytes();
        Sealed { file, name: open.name, sidecar, sidecar_bytes }
    }
}
