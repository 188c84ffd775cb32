//! IP fragments in, whole datagrams out (RFC 791 section 3.2, RFC 8200 section 4.5). Bounded in number, bytes and capture
//! time; where pieces overlap the first one stays, so that a later piece cannot rewrite what was seen.

use std::collections::VecDeque;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::frame::Fragment;
use crate::limits;

/// Datagrams being put together.
#[derive(Default)]
pub struct Fragments {
    datagrams: HashMap<Key, Partial, FxBuildHasher>,
    order: VecDeque<(i64, Key)>,
    bytes: usize,
    /// Datagrams that never became whole.
    pub incomplete: u64,
}

type Key = ([u8; 16], [u8; 16], u32, u8);

#[derive(Default)]
struct Partial {
    pieces: Vec<(u32, Vec<u8>)>,
    end: Option<u32>,
    first_ts_ns: i64,
}

impl Fragments {
    /// Takes a fragment and returns the payload it completed.
    pub fn add(&mut self, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        // An atomic fragment (RFC 6946) is whole by itself.
        if fragment.offset == 0 && !fragment.more {
            return Some(fragment.payload.to_vec());
        }
        self.expire(fragment.frame.ts_ns);
        let key = (fragment.src, fragment.dst, fragment.id, fragment.protocol);
        let partial = self.datagrams.entry(key).or_insert_with(|| {
            self.order.push_back((fragment.frame.ts_ns, key));
            Partial { first_ts_ns: fragment.frame.ts_ns, ..Partial::default() }
        });
        self.bytes += partial.insert(fragment);
        let whole = partial.whole();
        if whole.is_some() {
            self.remove(&key);
        }
        whole
    }

    fn expire(&mut self, now_ns: i64) {
        while let Some(&(first_ts_ns, key)) = self.order.front() {
            let old = first_ts_ns < now_ns.saturating_sub(limits::FRAGMENT_TIMEOUT_NS);
            let full = self.datagrams.len() >= limits::DATAGRAMS
                || self.bytes > limits::FRAGMENT_BYTES
                || self.order.len() > 4 * limits::DATAGRAMS;
            if !old && !full {
                return;
            }
            self.order.pop_front();
            // The same key may have been used again since: only the datagram that began then is dropped.
            if self.datagrams.get(&key).is_some_and(|partial| partial.first_ts_ns == first_ts_ns) {
                self.remove(&key);
                self.incomplete += 1;
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(partial) = self.datagrams.remove(key) {
            self.bytes -= partial.pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>();
        }
    }

    /// Counts what is still incomplete when the capture ends.
    pub fn finish(&mut self) {
        self.incomplete += self.datagrams.len() as u64;
        self.datagrams.clear();
        self.order.clear();
        self.bytes = 0;
    }
}

impl Partial {
    /// Adds the bytes not yet there; returns how many they were.
    fn insert(&mut self, fragment: &Fragment<'_>) -> usize {
        let end = fragment.offset + fragment.payload.len() as u32;
        if !fragment.more && self.end.is_none() {
            self.end = Some(end);
        }
        let mut at = fragment.offset;
        let mut added = 0;
        let mut position = 0;
        while at < end {
            let next = self.pieces.get(position).map(|(start, piece)| (*start, *start + piece.len() as u32));
            match next {
                Some((_, piece_end)) if piece_end <= at => position += 1,
                Some((start, piece_end)) if start <= at => {
                    at = piece_end;
                    position += 1;
                }
                other => {
                    let until = other.map_or(end, |(start, _)| start.min(end));
                    let from = (at - fragment.offset) as usize;
                    let piece = fragment.payload[from..(until - fragment.offset) as usize].to_vec();
                    added += piece.len();
                    self.pieces.insert(position, (at, piece));
                    at = until;
                    position += 1;
                }
            }
        }
        added
    }

    fn whole(&self) -> Option<Vec<u8>> {
        let end = self.end?;
        let mut at = 0;
        for (start, piece) in &self.pieces {
            if *start != at {
                return None;
            }
            at += piece.len() as u32;
        }
        (at >= end).then(|| self.pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    fn piece(offset: u32, more: bool, payload: &[u8]) -> Fragment<'_> {
        let frame = Frame {
            ts_ns: 0,
            data: payload,
            wire_len: 0,
            link_type: 1,
            iface: 0,
            segment: 0,
            number: 1,
            site: Default::default(),
        };
        let (src, dst) = ([1; 16], [2; 16]);
        Fragment {
            frame,
            src,
            dst,
            protocol: 17,
            id: 7,
            offset,
            more,
            vlans: [0; 2],
            tunnel: None,
            ip_len: 0,
            ttl: 0,
            payload,
        }
    }

    #[test]
    fn any_order_gives_the_datagram() {
        let pieces = [piece(0, true, b"aaaaaaaa"), piece(8, true, b"bbbbbbbb"), piece(16, false, b"cc")];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut fragments = Fragments::default();
            let whole: Vec<_> = order.iter().filter_map(|&at| fragments.add(&pieces[at])).collect();
            assert_eq!(whole, [b"aaaaaaaabbbbbbbbcc".to_vec()], "{order:?}");
            assert_eq!((fragments.bytes, fragments.datagrams.len()), (0, 0));
        }
    }

    #[test]
    fn an_overlap_does_not_rewrite() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.add(&piece(8, false, b"bbbb")), None);
        assert_eq!(fragments.add(&piece(0, true, b"aaaaaaaaXXXXYYYY")), Some(b"aaaaaaaabbbbYYYY".to_vec()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut fragments = Fragments::default();
        let payload = vec![0; 1400];
        for id in 0..100_000 {
            fragments.add(&Fragment { id, ..piece(0, true, &payload) });
        }
        assert!(fragments.datagrams.len() <= limits::DATAGRAMS && fragments.bytes <= limits::FRAGMENT_BYTES);
    }
}
