//! Where the packets of a conversation were seen. In: packets, each with its interface and VLAN tags. Out: one observation for each place
//! that shows both directions, with its counters. The directions may have tags of their own, or, at a tap, an interface each.

use crate::flow::{Flow, from, mark, teller};
use crate::frame::{ACK, Packet, SYN, Transport, Tunnel};
use crate::layer::Direction;
use crate::stream::Mark;

/// An interface, and the VLAN tags and the tunnel that packets have there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spot {
    iface: u32,
    vlans: [u16; 2],
    tunnel: Option<Tunnel>,
}

impl Spot {
    /// Of a packet.
    pub fn of(packet: &Packet<'_>) -> Spot {
        Spot { iface: packet.frame.iface, vlans: packet.key.vlans, tunnel: packet.tunnel }
    }
}

/// Counters of one place, or of what a program at one end told.
#[derive(Clone, Default)]
pub struct Observation {
    /// Interface of its first packet.
    pub iface: u32,
    /// Tunnel of its first packet.
    pub tunnel: Option<Tunnel>,
    /// The end whose program told it; none for packets of a wire.
    pub teller: Option<Direction>,
    /// What each end sent.
    pub sides: [Counters; 2],
    /// Where each direction is seen.
    spots: [Option<Spot>; 2],
}

/// What was seen at a place beyond the first.
pub struct Further {
    /// Its counters.
    pub seen: Observation,
    /// First packet there.
    pub first: Mark,
    /// Last packet there.
    pub last: Mark,
}

/// What one end sent.
#[derive(Clone, Copy, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u32,
    /// Transport payload.
    pub payload_bytes: u64,
    /// IP bytes.
    pub ip_bytes: u64,
    /// Frame bytes on the wire.
    pub wire_bytes: u64,
}

impl Counters {
    fn add(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        self.ip_bytes += u64::from(packet.ip_len);
        self.wire_bytes += u64::from(packet.frame.wire_len);
        self.payload_bytes += match &packet.transport {
            Transport::Tcp(tcp) => tcp.payload_len.into(),
            Transport::Udp { payload_len, .. } => (*payload_len).into(),
            // Behind the header that all messages have, as Zeek counts it.
            Transport::Icmp { len, .. } => len.saturating_sub(8).into(),
            Transport::Other => 0,
        };
    }

    fn take_out(&mut self, other: &Counters) {
        self.packets -= other.packets;
        self.ip_bytes -= other.ip_bytes;
        self.wire_bytes -= other.wire_bytes;
        self.payload_bytes -= other.payload_bytes;
    }
}

impl Observation {
    fn new(spot: Spot, direction: Direction, teller: Option<Direction>) -> Observation {
        let mut spots = [None; 2];
        spots[direction as usize] = Some(spot);
        if teller.is_some() {
            spots = [Some(spot); 2];
        }
        Observation { iface: spot.iface, tunnel: spot.tunnel, teller, spots, ..Observation::default() }
    }

    /// A direction is seen at this place.
    pub fn is_at(&self, direction: Direction, spot: Spot) -> bool {
        self.spots[direction as usize] == Some(spot)
    }
}

impl Flow {
    /// Counts a packet where it was seen; returns the number of that observation, 0 for the one that stands for the flow.
    pub(super) fn count(&mut self, packet: &Packet<'_>) -> usize {
        let here = mark(&packet.frame, None);
        let (spot, direction, teller) = (Spot::of(packet), from(packet), teller(packet));
        if !self.is_seen() {
            self.counted = Observation::new(spot, direction, teller);
            self.first = here;
        }
        self.last = here;
        self.truncated |= (packet.frame.data.len() as u32) < packet.frame.wire_len;
        let place = self.place(spot, direction, teller).unwrap_or_else(|| {
            let seen = Observation::new(spot, direction, teller);
            self.others.push(Further { seen, first: here, last: here });
            self.others.len()
        });
        let observation = match place.checked_sub(1) {
            None => {
                if teller.is_none() && self.recent.repeats(direction, packet) {
                    self.repeated[direction as usize].add(packet);
                }
                &mut self.counted
            }
            Some(other) => {
                self.others[other].last = here;
                &mut self.others[other].seen
            }
        };
        observation.spots[direction as usize] = Some(spot);
        observation.sides[direction as usize].add(packet);
        place
    }

    /// Number of an observation, the counted one first: that of this place, or one whose other direction is seen here, or one
    /// whose other direction is seen elsewhere, as at a tap.
    pub(super) fn place(&self, spot: Spot, direction: Direction, teller: Option<Direction>) -> Option<usize> {
        if self.counted.is_at(direction, spot) && self.counted.teller == teller {
            return Some(0);
        }
        let all = || [&self.counted].into_iter().chain(self.others.iter().map(|other| &other.seen));
        let found = |is_it: &dyn Fn(&Observation) -> bool| {
            all().position(|seen| seen.teller == teller && is_it(seen))
        };
        let is_half = |seen: &Observation| seen.spots[direction as usize].is_none();
        found(&|seen| seen.is_at(direction, spot))
            .or_else(|| found(&|seen| is_half(seen) && seen.is_at(direction.opposite(), spot)))
            .or_else(|| found(&is_half))
    }

    /// Packets in this direction, or else in the other, have the packet's VLAN tags.
    pub fn has_tags_of(&self, packet: &Packet<'_>) -> bool {
        let (to, back) = (from(packet) as usize, from(packet).opposite() as usize);
        let fits = |seen: &Observation| {
            seen.spots[to].or(seen.spots[back]).is_none_or(|spot| spot.vlans == packet.key.vlans)
        };
        fits(&self.counted) || self.others.iter().any(|other| fits(&other.seen))
    }

    /// The packet has other tags, but belongs here: its numbers go on from those that were seen, it is a copy, or it is the first in
    /// its direction.
    pub fn goes_on_with(&self, packet: &Packet<'_>) -> bool {
        let direction = from(packet);
        let is_first = self.counted.spots[direction as usize].is_none();
        match &packet.transport {
            Transport::Tcp(tcp) => {
                let (stream, other) =
                    (&self.streams[direction as usize], &self.streams[direction.opposite() as usize]);
                if tcp.flags & (SYN | ACK) == SYN {
                    return stream.started() && stream.begins_at(tcp.seq.wrapping_add(1));
                }
                let is_answer = tcp.ack.is_none_or(|ack| other.is_near(ack));
                let is_known = stream.started() || tcp.ack.is_some() && other.started();
                is_known && is_answer && stream.is_near(tcp.seq.wrapping_add((tcp.flags & SYN != 0).into()))
            }
            Transport::Udp { payload, .. } | Transport::Icmp { message: payload, .. } => {
                is_first || self.copies.is_known(direction, payload, packet.frame.ts_ns)
            }
            Transport::Other => is_first,
        }
    }

    /// Where a direction was shown twice throughout, every second packet is another observation of the first.
    pub fn part_twice_seen(&mut self) {
        let mut twice = Observation { iface: self.counted.iface, ..Observation::default() };
        for (at, repeated) in self.repeated.into_iter().enumerate() {
            let once = self.counted.sides[at].packets - repeated.packets;
            // Some packets are sent again, and of a pair the capture may have lost one.
            if repeated.packets > 0 && u64::from(repeated.packets) * 10 >= u64::from(once) * 9 {
                self.counted.sides[at].take_out(&repeated);
                twice.sides[at] = repeated;
            }
        }
        if twice.sides.iter().any(|side| side.packets > 0) {
            self.others.push(Further { seen: twice, first: self.first, last: self.last });
        }
    }
}
