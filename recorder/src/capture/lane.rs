//! The way of one socket's packets into batches.
//! In: frames as the kernel or a file gives them. Out: encoded packets; without a free buffer, a count.
//! This is the hot path: no allocation, no lock, no system call.

use shark_schema::segment::{BUCKET_NS, Loss, LostBy, PacketHead, packet_spliced};

use super::socket::KernelCounters;
use crate::batch::{Batch, Losses, Source, Tally};

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

/// Where the packets of one socket, or of one file, go.
pub struct Lane {
    snaplen: usize,
    /// A replay waits for the writer; a live capture counts a loss.
    patient: bool,
    current: Option<Batch>,
    members: Vec<Member>,
    /// Not told to the reader of the file yet, by `epb_dropcount`.
    unseen_drops: u64,
    /// When packets were lost, not told to the writer yet.
    stretches: Vec<Loss>,
    /// The last of them goes on: no packet was taken in since.
    is_losing: bool,
    /// The last attempt to get a buffer failed; tried again after the next hand-over.
    starved: bool,
}

/// An interface of a lane, or the socket that several share.
struct Member {
    interface: u32,
    /// The kernel's counters are about this one.
    asked: bool,
    /// Not told to the writer yet.
    losses: Losses,
    /// Its place in the current batch.
    tally: Option<usize>,
    life: Life,
}

/// How far an interface of a lane has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Here,
    /// It is gone, which the writer has yet to be told, behind everything else of it.
    Ending,
    /// The writer was told: the place is free for another.
    Over,
}

impl Member {
    fn nothing(&self) -> Losses {
        Losses { kernel_received: self.asked.then_some(0), ..Losses::default() }
    }
}

impl Lane {
    pub fn new(snaplen: u32, patient: bool) -> Lane {
        Lane {
            snaplen: snaplen as usize,
            patient,
            current: None,
            members: Vec::new(),
            unseen_drops: 0,
            stretches: Vec::new(),
            is_losing: false,
            starved: false,
        }
    }

    /// Adds an interface; gives its place, for [`Lane::push`].
    pub fn add(&mut self, interface: u32) -> usize {
        let (losses, tally, life) = (Losses::default(), None, Life::Here);
        let member = Member { interface, asked: false, losses, tally, life };
        match self.members.iter().position(|before| before.life == Life::Over) {
            Some(free) => {
                self.members[free] = member;
                free
            }
            None => {
                self.members.push(member);
                self.members.len() - 1
            }
        }
    }

    /// The place of an interface that was added and has not ended.
    pub fn place_of(&self, interface: u32) -> Option<usize> {
        self.members.iter().position(|member| member.interface == interface && member.life == Life::Here)
    }

    /// Says that no packet of an interface comes any more. Its place is another's once the writer knows.
    pub fn end(&mut self, place: usize) {
        if let Some(member) = self.members.get_mut(place) {
            member.life = Life::Ending;
        }
    }

    /// Whether all interfaces have ended, and the writer knows.
    pub fn is_over(&self) -> bool {
        self.is_told() && self.members.iter().all(|member| member.life == Life::Over)
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the kernel's counters are about this one.
    pub fn is_asked(&self, place: usize) -> bool {
        self.members.get(place).is_some_and(|member| member.asked)
    }

    /// Says of whom the kernel's counters are from now on.
    pub fn ask(&mut self, place: usize) {
        for (at, member) in self.members.iter_mut().enumerate() {
            member.asked = at == place;
            // Nothing was counted for it: then it is not known any more, or known from now on.
            if member.losses.kernel_received.unwrap_or(0) == 0 {
                member.losses.kernel_received = member.asked.then_some(0);
            }
        }
    }

    /// Takes one packet in. False when the writer is gone.
    #[inline]
    pub fn push(&mut self, source: &Source, place: usize, frame: &Frame<'_>) -> bool {
        let (at, splice) = frame.splice.parts();
        let (at, splice) = if frame.data.len() < at { (0, [].as_slice()) } else { (at, splice) };
        let original_len = frame.original_len + splice.len() as u32;
        let keep = (frame.data.len() + splice.len()).min(self.snaplen);
        if !self.has_room(frame.ts_ns, keep) {
            self.exchange(source, frame.ts_ns);
        }
        let Some(member) = self.members.get_mut(place) else { return true };
        // A packet larger than a whole empty buffer makes it grow once; buffers hold the largest there is.
        let Some(batch) = &mut self.current else {
            self.lose(place, frame);
            return true;
        };
        self.is_losing = false;
        let tally = member.tally_in(batch);
        tally.packets += 1;
        tally.wire_bytes += u64::from(original_len);
        let cut = u64::from(original_len).saturating_sub(keep as u64);
        tally.policy_bytes += cut;
        tally.truncated += u64::from(cut > 0);
        tally.min_ns = tally.min_ns.min(frame.ts_ns);
        tally.max_ns = tally.max_ns.max(frame.ts_ns);
        let head = PacketHead {
            interface: tally.interface,
            ts_ns: frame.ts_ns,
            original_len,
            flags: frame.flags,
            dropped: std::mem::take(&mut self.unseen_drops),
        };
        packet_spliced(&mut batch.data, &head, frame.data, at, splice, keep);
        true
    }

    /// Counts a packet that cannot be taken in.
    pub fn lose(&mut self, place: usize, frame: &Frame<'_>) {
        let Some(member) = self.members.get_mut(place) else { return };
        member.losses.user_dropped += 1;
        member.losses.overload_bytes += u64::from(frame.original_len) + frame.splice.parts().1.len() as u64;
        self.unseen_drops += 1;
        match self.stretches.last_mut().filter(|last| self.is_losing && last.cause == LostBy::Queue) {
            Some(last) => {
                last.packets += 1;
                last.from_ns = last.from_ns.min(frame.ts_ns);
                last.to_ns = last.to_ns.max(frame.ts_ns);
            }
            None => self.lost_between(frame.ts_ns, frame.ts_ns, 1, LostBy::Queue),
        }
        self.is_losing = true;
    }

    /// Says when packets were lost that are counted apart from this.
    pub fn lost_between(&mut self, from_ns: i64, to_ns: i64, packets: u64, cause: LostBy) {
        self.stretches.push(Loss { from_ns, to_ns, packets, cause });
    }

    /// Tells the lane that the kernel lost packets before the next one.
    pub fn kernel_lost(&mut self, counters: &KernelCounters) {
        self.unseen_drops += counters.dropped;
        let Some(member) = self.members.iter_mut().find(|member| member.asked) else { return };
        let before = member.losses.kernel_received.unwrap_or(0);
        member.losses.kernel_received = Some(before + counters.received);
        member.losses.kernel_dropped += counters.dropped;
        member.losses.ring_freezes += counters.freezes;
    }

    /// Gives the writer what there is, packets or only losses.
    pub fn hand_over(&mut self, source: &Source, now_ns: i64) -> bool {
        self.starved = false;
        let batch = match self.current.take() {
            Some(batch) => Some(batch),
            None if self.is_told() => return true,
            None => self.take(source, now_ns),
        };
        // Without a buffer the losses wait for the next one.
        let Some(mut batch) = batch else { return true };
        for member in &mut self.members {
            let nothing = member.nothing();
            if member.losses != nothing || (member.asked && member.tally.is_some()) {
                member.tally_in(&mut batch).losses = std::mem::replace(&mut member.losses, nothing);
            }
            member.tally = None;
            if member.life == Life::Ending {
                member.life = Life::Over;
                batch.ended.push(member.interface);
            }
        }
        batch.losses.append(&mut self.stretches);
        source.send(batch)
    }

    /// Whether the writer has been given everything; losses wait where there was no free buffer for them.
    pub fn is_told(&self) -> bool {
        let is_told = |member: &Member| member.losses == member.nothing() && member.life != Life::Ending;
        self.current.is_none() && self.stretches.is_empty() && self.members.iter().all(is_told)
    }

    /// Gives the writer the last there is. Nothing comes after it, so it waits for a buffer.
    pub fn settle(&mut self, source: &Source, now_ns: i64) {
        self.patient = true;
        self.hand_over(source, now_ns);
    }

    /// Whether the current batch is of the right 10 s and has room for the packet.
    #[inline]
    fn has_room(&self, ts_ns: i64, keep: usize) -> bool {
        self.current.as_ref().is_some_and(|batch| {
            let into = ts_ns.wrapping_sub(batch.bucket_ns);
            (0..BUCKET_NS).contains(&into)
                && batch.data.capacity() - batch.data.len() >= keep + BLOCK_OVERHEAD
        })
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
        batch.reset(crate::segment::bucket_of(ts_ns));
        Some(batch)
    }
}

impl Member {
    /// Its tally in the batch, made where there is none; the vector keeps its memory from batch to batch.
    #[inline]
    fn tally_in<'a>(&mut self, batch: &'a mut Batch) -> &'a mut Tally {
        let at = *self.tally.get_or_insert_with(|| {
            batch.tallies.push(Tally::new(self.interface));
            batch.tallies.len() - 1
        });
        &mut batch.tallies[at]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::batch::circle;

    #[test]
    fn the_last_losses_wait_for_a_buffer() {
        let (source, sink) = circle(1, 4096);
        let mut lane = Lane::new(u32::MAX, false);
        let place = lane.add(3);
        lane.ask(place);
        let busy = source.try_take().unwrap();
        lane.kernel_lost(&KernelCounters { received: 7, dropped: 2, freezes: 1 });
        assert!(lane.hand_over(&source, 0) && !lane.is_told());
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            sink.give_back(busy);
            sink.receive(Duration::from_secs(1)).unwrap()
        });
        lane.settle(&source, 0);
        let batch = writer.join().unwrap();
        assert!(lane.is_told());
        let told = (batch.tallies[0].interface, batch.tallies[0].losses);
        let losses =
            Losses { kernel_received: Some(7), kernel_dropped: 2, ring_freezes: 1, ..Losses::default() };
        assert_eq!(told, (3, losses));
    }

    #[test]
    fn an_interface_ends_behind_its_last_losses_and_leaves_its_place_to_another() {
        let (source, sink) = circle(1, 4096);
        let mut lane = Lane::new(u32::MAX, false);
        let places = [5, 6, 7].map(|interface| lane.add(interface));
        let data = [0; 60];
        let frame = Frame { ts_ns: 1, data: &data, original_len: 60, flags: 0, splice: Splice::Nothing };
        let busy = source.try_take().unwrap();
        lane.lose(places[1], &frame);
        lane.end(places[1]);
        assert!(lane.hand_over(&source, 1) && !lane.is_told(), "there is no buffer to tell it in");
        assert_eq!((lane.place_of(6), lane.add(8)), (None, 3), "its place is still its own");
        sink.give_back(busy);
        lane.hand_over(&source, 1);
        let batch = sink.receive(Duration::ZERO).unwrap();
        let told = (batch.tallies[0].interface, batch.tallies[0].losses.user_dropped, &batch.ended[..]);
        assert_eq!(told, (6, 1, &[6][..]));
        assert!(lane.is_told() && !lane.is_over());
        assert_eq!((lane.add(9), lane.place_of(9)), (places[1], Some(places[1])));
    }
}
