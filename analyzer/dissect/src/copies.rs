//! Datagrams that pass several interfaces are recorded once at each. In: datagrams of one conversation with the place each
//! was seen at. Out: whether it is another one's copy. Unlike TCP, nothing numbers them, so equal bytes at another place
//! within a second are taken for a copy; equal bytes at the same place are sent again, and never a copy.

use std::collections::VecDeque;
use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::dissector::Direction;
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

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.recent.capacity() * size_of::<Seen>()
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
