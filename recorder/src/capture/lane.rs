//! The way of one interface's packets into batches.
//! In: frames as the kernel or a file gives them. Out: encoded packets; without a free buffer, a count.
//! This is the hot path: no allocation, no lock, no system call.

use shark_schema::segment::{BUCKET_NS, PacketHead, packet_spliced};

use super::socket::KernelCounters;
use crate::batch::{Batch, Losses, Source};

/// A packet as it came, with the bytes that have to be put back in.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub ts_ns: i64,
    pub data: &'a [u8],
    /// Length on the wire, before anything was put back in.
    pub original_len: u32,
    pub flags: u32,
    /// A VLAN tag the kernel took out, or a link layer the device does not have.
    pub splice: Splice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splice {
    Nothing,
    Tag([u8; 4]),
    Ethernet([u8; 14]),
}

impl Splice {
    fn parts(&self) -> (usize, &[u8]) {
        match self {
            Splice::Nothing => (0, &[]),
            // Behind the two addresses.
            Splice::Tag(tag) => (12, tag),
            Splice::Ethernet(header) => (0, header),
        }
    }
}

/// Room a packet block needs beside its data: fixed fields, padding, both options.
const BLOCK_OVERHEAD: usize = 64;

pub struct Lane {
    interface: u32,
    snaplen: usize,
    /// A replay waits for the writer; a live capture counts a loss.
    patient: bool,
    current: Option<Batch>,
    /// Not told to the writer yet.
    pub losses: Losses,
    /// Not told to the reader of the file yet, by `epb_dropcount`.
    unseen_drops: u64,
    /// The last attempt to get a buffer failed; tried again after the next hand-over.
    starved: bool,
}

impl Lane {
    pub fn new(interface: u32, snaplen: u32, patient: bool) -> Lane {
        let losses = Losses { kernel_received: (!patient).then_some(0), ..Losses::default() };
        Lane {
            interface,
            snaplen: snaplen as usize,
            patient,
            current: None,
            losses,
            unseen_drops: 0,
            starved: false,
        }
    }

    /// Takes one packet in. False when the writer is gone.
    #[inline]
    pub fn push(&mut self, source: &Source, frame: &Frame<'_>) -> bool {
        let (at, splice) = frame.splice.parts();
        let (at, splice) = if frame.data.len() < at { (0, [].as_slice()) } else { (at, splice) };
        let original_len = frame.original_len + splice.len() as u32;
        let keep = (frame.data.len() + splice.len()).min(self.snaplen);
        let unseen = self.unseen_drops;
        let Some(batch) = self.room(source, frame.ts_ns, keep) else {
            self.losses.user_dropped += 1;
            self.losses.overload_bytes += u64::from(original_len);
            self.unseen_drops += 1;
            return true;
        };
        batch.packets += 1;
        batch.wire_bytes += u64::from(original_len);
        let cut = u64::from(original_len).saturating_sub(keep as u64);
        batch.policy_bytes += cut;
        batch.truncated += u64::from(cut > 0);
        batch.min_ns = batch.min_ns.min(frame.ts_ns);
        batch.max_ns = batch.max_ns.max(frame.ts_ns);
        let head = PacketHead {
            interface: batch.interface,
            ts_ns: frame.ts_ns,
            original_len,
            flags: frame.flags,
            dropped: unseen,
        };
        packet_spliced(&mut batch.data, &head, frame.data, at, splice, keep);
        self.unseen_drops = 0;
        true
    }

    /// Tells the lane that the kernel lost packets before the next one.
    pub fn kernel_lost(&mut self, counters: &KernelCounters) {
        let before = self.losses.kernel_received.unwrap_or(0);
        self.losses.kernel_received = Some(before + counters.received);
        self.losses.kernel_dropped += counters.dropped;
        self.losses.ring_freezes += counters.freezes;
        self.unseen_drops += counters.dropped;
    }

    /// Gives the writer what there is, packets or only losses.
    pub fn hand_over(&mut self, source: &Source, now_ns: i64) -> bool {
        self.starved = false;
        let batch = match self.current.take() {
            Some(batch) => Some(batch),
            None if self.losses == self.no_losses() => return true,
            None => self.take(source, now_ns),
        };
        // Without a buffer the losses wait for the next one.
        let Some(mut batch) = batch else { return true };
        let nothing = self.no_losses();
        batch.losses = std::mem::replace(&mut self.losses, nothing);
        source.send(batch)
    }

    fn no_losses(&self) -> Losses {
        Losses { kernel_received: (!self.patient).then_some(0), ..Losses::default() }
    }

    /// A batch of the right 10 s with room for the packet.
    #[inline]
    fn room(&mut self, source: &Source, ts_ns: i64, keep: usize) -> Option<&mut Batch> {
        let fits = |batch: &Batch| {
            let into = ts_ns.wrapping_sub(batch.bucket_ns);
            (0..BUCKET_NS).contains(&into)
                && batch.data.capacity() - batch.data.len() >= keep + BLOCK_OVERHEAD
        };
        if !self.current.as_ref().is_some_and(fits) {
            self.exchange(source, ts_ns);
        }
        // A packet larger than a whole empty buffer makes it grow once; buffers hold the largest there is.
        self.current.as_mut()
    }

    #[cold]
    fn exchange(&mut self, source: &Source, ts_ns: i64) {
        if self.current.is_some() {
            self.hand_over(source, ts_ns);
        }
        if !self.starved {
            self.current = self.take(source, ts_ns);
            self.starved = self.current.is_none();
        }
    }

    fn take(&mut self, source: &Source, ts_ns: i64) -> Option<Batch> {
        let mut batch = if self.patient { source.wait() } else { source.try_take() }?;
        batch.reset(self.interface, crate::segment::bucket_of(ts_ns));
        Some(batch)
    }
}
