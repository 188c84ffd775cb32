//! Events of several threads in the order of their times. In: events as the kernel gives them, a write when it has returned, though it
//! began before what the peer read of it. Out: the same events, each after every older one that came in time. Its memory is bounded.

use std::ops::Range;

use shark_bpf::tls::Event;

/// A write that takes longer comes too late to be put before the reads of its bytes.
pub const HELD_NS: u64 = 100_000_000;
/// Where so much waits, nothing waits any longer.
const MOST_BYTES: usize = 32 << 20;

#[derive(Default)]
pub struct Waiting {
    events: Vec<Held>,
    bytes: Vec<u8>,
    /// Memory for what stays, used again.
    spare: Vec<u8>,
}

struct Held {
    event: Event<'static>,
    at: Range<usize>,
}

impl Waiting {
    /// False where there is no room for more.
    #[must_use]
    pub fn take(&mut self, event: &Event<'_>) -> bool {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(event.data);
        let Event { kind, at_boottime_ns, offset, other, pid, begun, first, client, connection, data: _ } =
            *event;
        let event =
            Event { kind, at_boottime_ns, offset, other, pid, begun, first, client, connection, data: &[] };
        self.events.push(Held { event, at: begin..self.bytes.len() });
        self.bytes.len() < MOST_BYTES
    }

    /// Gives what happened until then, the oldest first; parts of one call keep their order.
    pub fn give(&mut self, until_boottime_ns: u64, mut each: impl FnMut(&Event<'_>)) {
        self.events.sort_by_key(|held| held.event.at_boottime_ns);
        let ready = self.events.partition_point(|held| held.event.at_boottime_ns <= until_boottime_ns);
        for Held { event, at } in self.events.drain(..ready) {
            each(&Event { data: &self.bytes[at], ..event });
        }
        self.spare.clear();
        for held in &mut self.events {
            let begin = self.spare.len();
            self.spare.extend_from_slice(&self.bytes[held.at.clone()]);
            held.at = begin..self.spare.len();
        }
        std::mem::swap(&mut self.bytes, &mut self.spare);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use shark_bpf::tls::{Connection, Kind};

    use super::*;

    fn event(at_boottime_ns: u64, offset: u64, data: &[u8]) -> Event<'_> {
        let end = (IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        let connection = Connection { cookie: 1, since_boottime_ns: 0, netns: 1, local: end, peer: end };
        let kind = Kind::Sent;
        let (other, pid, begun, first, client) = (0, 1, true, false, true);
        Event { kind, at_boottime_ns, offset, other, pid, begun, first, client, connection, data }
    }

    fn given(waiting: &mut Waiting, until: u64) -> Vec<(u64, u64, Vec<u8>)> {
        let mut all = Vec::new();
        waiting.give(until, |event| all.push((event.at_boottime_ns, event.offset, event.data.to_vec())));
        all
    }

    #[test]
    fn a_write_comes_before_the_reads_of_its_bytes() {
        let mut waiting = Waiting::default();
        for (at, offset, data) in [(20, 0, &b"ab"[..]), (10, 0, b"abc"), (10, 3, b"d"), (30, 2, b"cd")] {
            assert!(waiting.take(&event(at, offset, data)));
        }
        let first = given(&mut waiting, 20);
        assert_eq!(first, [(10, 0, b"abc".to_vec()), (10, 3, b"d".to_vec()), (20, 0, b"ab".to_vec())]);
        assert!(waiting.take(&event(25, 4, b"e")));
        let rest = given(&mut waiting, u64::MAX);
        assert_eq!(rest, [(25, 4, b"e".to_vec()), (30, 2, b"cd".to_vec())]);
        assert!(given(&mut waiting, u64::MAX).is_empty());
    }

    #[test]
    fn its_memory_has_a_bound() {
        let mut waiting = Waiting::default();
        let large = vec![7; 1 << 20];
        let taken = (0..64).take_while(|at| waiting.take(&event(*at, 0, &large))).count();
        assert_eq!(taken, 31);
    }
}
