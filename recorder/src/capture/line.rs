//! One packet socket and the way of its packets: of one interface, or of all that share it.
//! In: blocks of the kernel's ring. Out: packets in a lane under the number of their interface, with the kernel's losses.
//! The kernel counts drops by socket: where several interfaces share one, they are put on the socket and on none of them.

use std::time::Instant;

use shark_bpf::any_socket::AnySocket;
use shark_schema::segment::{LostBy, SHARED_SOCKET};

use super::block::Frames;
use super::filter::Filter;
use super::lane::Lane;
use super::ring::{LAST_BLOCK, RETIRE_MS, RingOptions};
use super::socket::{CaptureError, Device, RingSize, Socket};
use crate::batch::Source;
use crate::time::now_ns;

/// A GSO super-frame of 64 KiB has to fit several times.
const BLOCK_BYTES: u32 = 1 << 20;

pub struct Line {
    socket: Socket,
    lane: Lane,
    /// None for a socket of one interface.
    roster: Option<Roster>,
    /// Interfaces whose devices are gone, since when, until their last packets have come out of the ring.
    leaving: Vec<(u32, Instant)>,
    /// Taken out of the ring so far.
    taken: u64,
    received: u64,
    dropped: u64,
    /// Stamp of the last packet that was read.
    last_ns: Option<i64>,
    /// Drops whose place among the packets is not reached yet.
    unplaced: Option<Unplaced>,
}

/// The kernel drops packets while none of its blocks is free. Those that it counted before any later block was finished were lost
/// behind the blocks that were finished by then.
struct Unplaced {
    packets: u64,
    blocks_before: u32,
}

/// The interfaces behind a shared socket, and their places in the lane.
#[derive(Default)]
struct Roster {
    /// Sorted by index.
    places: Vec<(u32, usize)>,
    last: Option<(u32, usize)>,
}

impl Roster {
    fn add(&mut self, ifindex: u32, place: usize) {
        self.last = None;
        match self.places.binary_search_by_key(&ifindex, |(index, _)| *index) {
            // An index that is used again belongs to the new device.
            Ok(at) => self.places[at].1 = place,
            Err(at) => self.places.insert(at, (ifindex, place)),
        }
    }

    fn remove(&mut self, place: usize) {
        self.last = None;
        self.places.retain(|(_, of)| *of != place);
    }

    /// Packets come in runs of one interface.
    #[inline]
    fn place(&mut self, ifindex: u32) -> Option<usize> {
        if let Some((index, place)) = self.last
            && index == ifindex
        {
            return Some(place);
        }
        let at = self.places.binary_search_by_key(&ifindex, |(index, _)| *index).ok()?;
        self.last = Some(self.places[at]);
        self.last.map(|(_, place)| place)
    }
}

/// The place of the socket itself in the lane of a shared one.
const SOCKET: usize = 0;

impl Line {
    /// Opens a socket of one interface; packets are let in by [`Line::start`].
    pub fn open(
        id: u32,
        name: &str,
        options: &RingOptions,
        fanout: Option<u16>,
    ) -> Result<Line, CaptureError> {
        let socket = Socket::open(name, ring_size(options.buffer_bytes), fanout, options.promiscuous)?;
        let mut lane = Lane::new(options.snaplen, false);
        let place = lane.add(id);
        lane.ask(place);
        Ok(Line::new(socket, lane, None))
    }

    /// Opens a socket of all interfaces; the filter says which of them pass.
    pub fn open_any(
        options: &RingOptions,
        fanout: Option<u16>,
        filter: &mut AnySocket,
    ) -> Result<Line, CaptureError> {
        let mut socket = Socket::open_any(ring_size(options.buffer_bytes), fanout)?;
        let mut lane = Lane::new(options.snaplen, false);
        let place = lane.add(SHARED_SOCKET);
        lane.ask(place);
        let failed = |source| CaptureError::Socket { interface: "any".to_owned(), what: "counters", source };
        socket.reset().map_err(failed)?;
        filter.attach(socket.borrow()).map_err(CaptureError::Bpf)?;
        Ok(Line::new(socket, lane, Some(Roster::default())))
    }

    fn new(socket: Socket, lane: Lane, roster: Option<Roster>) -> Line {
        let (last_ns, unplaced) = (None, None);
        let (taken, received, dropped) = (0, 0, 0);
        Line { socket, lane, roster, leaving: Vec::new(), taken, received, dropped, last_ns, unplaced }
    }

    pub fn start(&mut self, filter: &Filter) -> Result<(), CaptureError> {
        let interface = self.socket.device.name.clone();
        let failed = |source| CaptureError::Socket { interface, what: "filter", source };
        self.socket.start(filter).map_err(failed)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Takes in one more interface behind a shared socket. `alone` says that it is the only one there now.
    pub(super) fn welcome(&mut self, source: &Source, id: u32, ifindex: u32, alone: bool) {
        // What was lost until now was lost by those that are here already.
        self.count(source);
        let Some(roster) = &mut self.roster else { return };
        let place = self.lane.add(id);
        self.lane.ask(if alone { place } else { SOCKET });
        roster.add(ifindex, place);
    }

    /// Says that the device of an interface is gone.
    pub(super) fn leave(&mut self, id: u32) {
        if self.lane.place_of(id).is_some() {
            self.leaving.push((id, Instant::now()));
        }
    }

    /// Lets interfaces go whose last packets have come out of the ring; false when there are no others.
    pub(super) fn let_go(&mut self, source: &Source) -> bool {
        let is_due = |(_, since): &(u32, Instant)| since.elapsed() > LAST_BLOCK;
        if self.is_ready() || !self.leaving.iter().any(is_due) {
            return !self.lane.is_over();
        }
        let (due, later) = std::mem::take(&mut self.leaving).into_iter().partition(is_due);
        self.leaving = later;
        // What was lost until now was lost by them as well.
        self.ask();
        if self.roster.is_none() {
            self.place_the_rest();
        }
        for (id, _) in due {
            let Some(place) = self.lane.place_of(id) else { continue };
            if let Some(roster) = &mut self.roster {
                roster.remove(place);
                if self.lane.is_asked(place) {
                    self.lane.ask(SOCKET);
                }
            }
            self.lane.end(place);
        }
        self.lane.hand_over(source, now_ns());
        !self.lane.is_over()
    }

    pub(super) fn make_promiscuous(&mut self, device: &Device) -> Result<(), CaptureError> {
        self.socket.make_promiscuous(device)
    }

    /// Whether a block waits to be read. Whoever is told of an interface after this and before [`Line::read`] knows those of
    /// all its packets.
    pub(super) fn is_ready(&self) -> bool {
        self.socket.ready().is_some()
    }

    /// Reads one block; false when there was none.
    pub(super) fn read(&mut self, source: &Source) -> bool {
        let Some(block) = self.socket.ready() else { return false };
        let mut frames = Frames::new(block);
        let mut dropped = 0;
        if frames.losing() {
            // The loss came before this block: its first packet tells.
            let counters = self.socket.counters().unwrap_or_default();
            self.received += counters.received;
            self.dropped += counters.dropped;
            dropped = counters.dropped;
            self.lane.kernel_lost(&counters);
        }
        let is_here = |unplaced: &Unplaced| dropped > 0 || frames.losing() || unplaced.blocks_before == 0;
        match self.unplaced.take() {
            Some(unplaced) if is_here(&unplaced) => dropped += unplaced.packets,
            Some(Unplaced { packets, blocks_before }) => {
                self.unplaced = Some(Unplaced { packets, blocks_before: blocks_before - 1 });
            }
            None => {}
        }
        if let (1.., Some(first_ns)) = (dropped, frames.first_ns()) {
            self.lane.lost_between(self.last_ns.unwrap_or(first_ns), first_ns, dropped, LostBy::Kernel);
        }
        for (ifindex, frame) in &mut frames {
            self.taken += 1;
            self.last_ns = Some(frame.ts_ns);
            match self.roster.as_mut().map_or(Some(0), |roster| roster.place(ifindex)) {
                Some(place) => drop(self.lane.push(source, place, &frame)),
                None => self.lane.lose(SOCKET, &frame),
            }
        }
        self.socket.release();
        self.lane.hand_over(source, now_ns());
        true
    }

    /// Tells the writer what the kernel counted, where there is a free buffer.
    pub(super) fn count(&mut self, source: &Source) {
        self.ask();
        self.lane.hand_over(source, now_ns());
    }

    /// Asks the kernel, which forgets what it has told.
    fn ask(&mut self) {
        let Ok(counters) = self.socket.counters() else { return };
        self.received += counters.received;
        self.dropped += counters.dropped;
        self.lane.kernel_lost(&counters);
        if counters.dropped > 0 {
            let earlier = self.unplaced.take().map_or(0, |unplaced| unplaced.packets);
            let packets = earlier + counters.dropped;
            self.unplaced = Some(Unplaced { packets, blocks_before: self.socket.ready_blocks() });
        }
    }

    /// Behind the last packet there is no other.
    fn place_the_rest(&mut self) {
        if let Some(Unplaced { packets, .. }) = self.unplaced.take() {
            let now_ns = now_ns();
            self.lane.lost_between(self.last_ns.unwrap_or(now_ns), now_ns, packets, LostBy::Kernel);
        }
    }

    /// Packets taken out of the ring, and those that the kernel dropped, since the beginning.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.taken, self.dropped)
    }

    pub(super) fn stop(&mut self) {
        if let Err(error) = self.socket.stop() {
            tracing::warn!("{}: {error}", self.socket.device.name);
        }
    }

    /// The last count; what does not add up is said.
    pub(super) fn settle(&mut self, source: &Source) {
        self.ask();
        self.place_the_rest();
        self.lane.settle(source, now_ns());
        if self.received != self.taken + self.dropped {
            tracing::error!(
                "{}: the kernel counted {} packets, {} were read and {} dropped",
                self.socket.device.name,
                self.received,
                self.taken,
                self.dropped
            );
        }
    }
}

fn ring_size(bytes: u64) -> RingSize {
    // A small ring has small blocks, so that there are at least four to go round.
    let mut block_bytes = BLOCK_BYTES;
    while u64::from(block_bytes) * 4 > bytes && block_bytes > 1 << 17 {
        block_bytes /= 2;
    }
    let blocks = (bytes / u64::from(block_bytes)).clamp(2, 4096) as u32;
    RingSize { block_bytes, blocks, retire_ms: RETIRE_MS }
}
