//! The books of one segment: what came, what was written, what was lost, by interface and 10 s.
//! In: batches and losses. Out: statistics blocks while it is open, a sidecar at its end.
//! `offered = written + kernel_dropped + user_dropped + disk_dropped` holds by construction for every entry.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use shark_schema::segment::{Bucket, Counters, SHARED_SOCKET, Statistics};

use super::writer::hex;
use crate::batch::{Losses, Tally};

#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By start of the 10 s and interface: the order of the sidecar.
    buckets: BTreeMap<(i64, u32), Counters>,
    min_ns: Option<i64>,
    max_ns: Option<i64>,
}

impl Ledger {
    /// An interface's part of a batch went into the segment.
    pub fn written(&mut self, bucket_ns: i64, tally: &Tally) {
        let entry = self.entry(bucket_ns, tally);
        entry.offered += tally.packets;
        entry.written += tally.packets;
        entry.written_bytes += tally.wire_bytes;
        entry.policy_bytes += tally.policy_bytes;
        entry.truncated += tally.truncated;
        if tally.packets > 0 {
            self.min_ns = Some(self.min_ns.map_or(tally.min_ns, |ns| ns.min(tally.min_ns)));
            self.max_ns = Some(self.max_ns.map_or(tally.max_ns, |ns| ns.max(tally.max_ns)));
        }
    }

    /// The disk refused it.
    pub fn refused(&mut self, bucket_ns: i64, tally: &Tally) {
        let entry = self.entry(bucket_ns, tally);
        entry.offered += tally.packets;
        entry.disk_dropped += tally.packets;
        entry.overload_bytes += tally.wire_bytes;
    }

    /// What the capture thread lost before this batch.
    pub fn lost(&mut self, interface: u32, bucket_ns: i64, losses: &Losses) {
        if *losses == Losses::default() {
            return;
        }
        let entry = self.buckets.entry((bucket_ns, interface)).or_default();
        entry.offered += losses.kernel_dropped + losses.user_dropped;
        entry.kernel_dropped += losses.kernel_dropped;
        entry.ring_freezes += losses.ring_freezes;
        entry.user_dropped += losses.user_dropped;
        entry.overload_bytes += losses.overload_bytes;
        add(&mut entry.kernel_received, losses.kernel_received);
    }

    /// Drops of the device itself, which no socket ever saw; they are not part of `offered`.
    pub fn nic_dropped(&mut self, interface: u32, bucket_ns: i64, count: u64) {
        add(&mut self.buckets.entry((bucket_ns, interface)).or_default().nic_dropped, Some(count));
    }

    /// Packets that were left out because a snapshot had marked them; they are not part of `offered`.
    pub fn left_out(&mut self, bucket_ns: i64, count: u64) {
        add(&mut self.buckets.entry((bucket_ns, SHARED_SOCKET)).or_default().filtered, Some(count));
    }

    /// Whether anything of an interface was counted but zeros.
    pub fn counts(&self, interface: u32) -> bool {
        let zero = |count: Option<u64>| count.unwrap_or(0) == 0;
        let is_nothing = |of: &Counters| {
            let Counters { offered, ring_freezes, kernel_received, nic_dropped, filtered, .. } = *of;
            offered == 0
                && ring_freezes == 0
                && [kernel_received, nic_dropped, filtered].into_iter().all(zero)
        };
        self.buckets.iter().any(|((_, of), counters)| *of == interface && !is_nothing(counters))
    }

    /// Leaves out what was counted of an interface.
    pub fn forget(&mut self, interface: u32) {
        self.buckets.retain(|(_, of), _| *of != interface);
    }

    fn entry(&mut self, bucket_ns: i64, tally: &Tally) -> &mut Counters {
        self.buckets.entry((bucket_ns, tally.interface)).or_default()
    }

    pub fn range(&self) -> (Option<i64>, Option<i64>) {
        (self.min_ns, self.max_ns)
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    pub fn totals(&self) -> Counters {
        let mut sum = Counters::default();
        self.buckets.values().for_each(|counters| sum += counters);
        sum
    }

    pub fn of_interface(&self, interface: u32) -> Counters {
        let mut sum = Counters::default();
        self.buckets.iter().filter(|((_, of), _)| *of == interface).for_each(|(_, counters)| sum += counters);
        sum
    }

    pub fn buckets(&self) -> Vec<Bucket> {
        let bucket = |(&(start_ns, interface), &counters): (&(i64, u32), &Counters)| Bucket {
            start_ns,
            interface,
            counters,
        };
        self.buckets.iter().map(bucket).collect()
    }

    /// Cumulative within the segment, as the draft wants it. `isb_usrdeliv` leaves out what only the queue or the disk
    /// lost, so that the three causes can be told apart again from the block alone.
    pub fn statistics(&self, interface: u32, start_ns: i64, now_ns: i64) -> Statistics {
        let sum = self.of_interface(interface);
        Statistics {
            interface,
            ts_ns: now_ns,
            start_ns: Some(start_ns),
            end_ns: Some(now_ns),
            received: Some(sum.offered),
            nic_dropped: sum.nic_dropped,
            accepted: None,
            // Behind a shared socket nobody knows.
            os_dropped: sum.kernel_received.map(|_| sum.kernel_dropped),
            delivered: Some(sum.written),
        }
    }
}

/// What the next sidecar says of this one.
pub fn chain_hash(sidecar: &[u8]) -> String {
    hex(&Sha256::digest(sidecar))
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0) + more);
    }
}
