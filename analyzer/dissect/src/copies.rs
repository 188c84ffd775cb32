//! Datagrams that pass several interfaces are recorded once at each. In: datagrams of one conversation with the place each
//! was seen at. Out: whether it is another one's copy. Unlike TCP, nothing numbers them, so equal bytes at another place
//! within a second are taken for a copy; equal bytes at the same place are sent again, and never a copy.

use std::collections::VecDeque;
use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::frame::{Packet, Transport};
use crate::layer::Direction;
use crate::limits;

/// The last datagrams of a conversation.
#[derive(Default)]
pub struct Copies {
    recent: VecDeque<Seen>,
}

struct Seen {
    hash: u64,
    ts_ns: i64,
    /// A bit for each place.
    places: u32,
}

impl Copies {
    /// True for a datagram that was handed in from another place before. Places count from 0.
    pub fn is_copy(&mut self, direction: Direction, payload: &[u8], ts_ns: i64, place: usize) -> bool {
        let bit = 1 << place.min(31);
        let hash = fingerprint(direction, payload);
        let original = self.recent.iter_mut().find(|seen| {
            let near = (ts_ns - seen.ts_ns).abs() < limits::COPY_NS;
            seen.hash == hash && seen.places & bit == 0 && near
        });
        if let Some(original) = original {
            original.places |= bit;
            return true;
        }
        if self.recent.len() == limits::COPIES {
            self.recent.pop_front();
        }
        self.recent.push_back(Seen { hash, ts_ns, places: bit });
        false
    }

    /// True if another place has just handed in the same.
    pub fn is_known(&self, direction: Direction, payload: &[u8], ts_ns: i64) -> bool {
        let hash = fingerprint(direction, payload);
        self.recent.iter().any(|seen| seen.hash == hash && (ts_ns - seen.ts_ns).abs() < limits::COPY_NS)
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.recent.capacity() * size_of::<Seen>()
    }
}

/// The last packets of a conversation at one interface. One that shows each packet twice, as a mirror of two ports or a capture of
/// all interfaces at once does, is known by that: a single packet may as well be sent again.
#[derive(Default)]
pub struct Recent {
    packets: VecDeque<(u64, i64)>,
}

impl Recent {
    /// True for a packet that was seen just before.
    pub fn repeats(&mut self, direction: Direction, packet: &Packet<'_>) -> bool {
        let mut hasher = FxHasher::default();
        hasher.write_u32(u32::from(packet.ip_id) << 1 | direction as u32);
        match &packet.transport {
            Transport::Tcp(tcp) => {
                hasher.write_u32(tcp.seq);
                hasher.write_u32(tcp.ack.unwrap_or_default());
                hasher.write_u32(u32::from(tcp.flags) << 16 | u32::from(tcp.window));
                hasher.write_u32(tcp.payload_len);
            }
            Transport::Udp { payload, .. } => hasher.write_u64(fingerprint(direction, payload)),
            Transport::Icmp { .. } | Transport::Other => return false,
        }
        let (hash, ts_ns) = (hasher.finish(), packet.frame.ts_ns);
        let is_same = |&&(of, at_ns): &&(u64, i64)| of == hash && (ts_ns - at_ns).abs() <= limits::TWICE_NS;
        if self.packets.iter().rev().find(is_same).is_some() {
            return true;
        }
        if self.packets.len() == limits::RECENT_PACKETS {
            self.packets.pop_front();
        }
        self.packets.push_back((hash, ts_ns));
        false
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.packets.capacity() * size_of::<(u64, i64)>()
    }
}

/// Of length and first bytes: what tells datagrams apart stands in their head.
fn fingerprint(direction: Direction, payload: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_usize(payload.len() << 1 | direction as usize);
    hasher.write(&payload[..payload.len().min(64)]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Backward, Forward};

    #[test]
    fn copies_are_told_from_repetitions() {
        let mut copies = Copies::default();
        let mut is_copy = |direction, ts_ns, place| copies.is_copy(direction, b"query", ts_ns, place);
        assert!(!is_copy(Forward, 0, 0));
        assert!(is_copy(Forward, 10, 1));
        assert!(!is_copy(Backward, 15, 1), "the other way");
        assert!(!is_copy(Forward, 20, 0), "sent again");
        assert!(is_copy(Forward, 30, 1), "and its copy");
        assert!(!is_copy(Forward, 40, 1), "sent a third time, seen here first");
        assert!(is_copy(Forward, 50, 0));
        assert!(!is_copy(Forward, 2 * limits::COPY_NS, 1), "too late for a copy");
    }

    #[test]
    fn memory_is_bounded() {
        let mut copies = Copies::default();
        for number in 0..10_000_u32 {
            assert!(!copies.is_copy(Forward, &number.to_be_bytes(), number.into(), 0));
        }
        assert!(copies.memory() <= 4 * limits::COPIES * size_of::<Seen>());
    }
}
