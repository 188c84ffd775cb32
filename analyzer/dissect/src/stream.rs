//! The ordered bytes of one direction of a TCP conversation (RFC 9293 section 3.4). Segments in, in any order and with any
//! overlap; bytes and gaps out, in order. The first copy of a byte wins. In-order payload is handed on borrowed; only what
//! arrives early is copied, within limits.
//!
//! A hole is declared a gap as soon as the other side acknowledged past it: what the receiver has and the capture has not
//! will not come any more.

use std::collections::BTreeMap;

use crate::limits;

/// Where bytes came from: the packet that first carried them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mark {
    /// Capture time.
    pub ts_ns: i64,
    /// Segment or file of the packet.
    pub segment: u32,
    /// Frame number there.
    pub frame: u32,
    /// Offset in the opposite stream that the packet acknowledged; `None` where that is not known.
    pub acked: Option<u64>,
}

/// What a stream gives out.
pub enum Event<'a> {
    /// The next bytes.
    Data(&'a [u8], Mark),
    /// Bytes that are missing.
    Gap(u64),
}

/// One direction.
#[derive(Default)]
pub struct Stream {
    started: bool,
    /// Its sender was seen.
    heard: bool,
    /// Its SYN was.
    from_syn: bool,
    /// Sequence number of offset 0.
    base: u32,
    /// Offset of the next byte to hand out.
    next: u64,
    /// Highest offset sent.
    sent: u64,
    /// Highest offset the other side acknowledged.
    acked: u64,
    /// Offset of the FIN.
    fin: Option<u64>,
    /// Bytes that arrived early.
    early: BTreeMap<u64, Early>,
    early_bytes: usize,
    /// Bytes in gaps.
    pub missed: u64,
}

struct Early {
    bytes: Box<[u8]>,
    /// Bytes that followed on the wire but were cut by the capture.
    cut: u32,
    mark: Mark,
}

/// A TCP segment's part of a direction.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    /// Sequence number of its first byte.
    pub seq: u32,
    /// Captured bytes.
    pub bytes: &'a [u8],
    /// Length on the wire.
    pub len: u32,
    /// Its packet.
    pub mark: Mark,
}

impl Stream {
    /// Starts at a sequence number: one past a SYN, or wherever the capture begins. Later calls do nothing.
    pub fn start(&mut self, seq: u32) {
        if !self.started {
            self.started = true;
            self.base = seq;
        }
    }

    /// Notes a packet of its sender: `seq` is the number of its first byte, or would be.
    pub fn hear(&mut self, seq: u32, is_syn: bool, len: u32) {
        self.start(seq);
        self.heard = true;
        self.from_syn |= is_syn;
        if len > 0 {
            self.skip_keep_alive(seq);
        }
    }

    /// Bytes are acknowledged that were not seen, though others of their sender were: they may still come.
    pub fn awaits(&self, ack: u32) -> bool {
        self.heard
            && self
                .offset(ack)
                .is_some_and(|offset| self.fin.map_or(offset, |fin| offset.min(fin)) > self.next)
    }

    /// A keep-alive says again what was acknowledged (RFC 9293 section 3.8.4), with one byte or none: where the capture begins with
    /// one, what follows it is the first that is new.
    pub fn skip_keep_alive(&mut self, next: u32) {
        let is_at_start = self.next == 0 && self.missed == 0 && !self.from_syn && self.early.is_empty();
        if is_at_start && self.started && next == self.base.wrapping_add(1) {
            self.base = next;
            (self.sent, self.acked) = (0, 0);
        }
    }

    /// True if its first byte has this sequence number.
    pub fn begins_at(&self, seq: u32) -> bool {
        self.base == seq
    }

    /// True once any sequence number of this direction is known.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Offset of a sequence number, taken near the next expected byte; `None` if it lies before the start or more than
    /// 1 GiB away, the largest window (RFC 7323 section 2.3).
    pub fn offset(&self, seq: u32) -> Option<u64> {
        if !self.started {
            return None;
        }
        let distance = seq.wrapping_sub(self.base.wrapping_add(self.next as u32)) as i32;
        if distance.unsigned_abs() > 1 << 30 {
            return None;
        }
        self.next.checked_add_signed(distance.into())
    }

    /// Some bytes were seen or missed.
    pub fn has_begun(&self) -> bool {
        self.next > 0
    }

    /// Highest offset acknowledged, and highest sent.
    pub fn edges(&self) -> (u64, u64) {
        (self.acked, self.sent.max(self.acked))
    }

    /// A FIN, or its acknowledgement, ends here.
    pub fn is_fin_end(&self, offset: u64) -> bool {
        self.fin.is_some_and(|fin| offset == fin + 1)
    }

    /// A number that goes on from what was seen, or nearly so; true where nothing was seen.
    pub fn is_near(&self, seq: u32) -> bool {
        const NEAR: u64 = 1 << 20;
        let around = self.next.saturating_sub(NEAR)..=self.sent.max(self.next) + NEAR;
        !self.started || self.offset(seq).is_some_and(|offset| around.contains(&offset))
    }

    /// True when everything sent so far was handed out and acknowledged.
    pub fn quiet(&self) -> bool {
        self.early.is_empty() && self.acked >= self.sent
    }

    /// True unless more than this was acknowledged before: then the packet that names it was overtaken on its way.
    pub fn is_latest(&self, seq: Option<u32>) -> bool {
        seq.and_then(|seq| self.offset(seq)).is_some_and(|offset| offset >= self.acked)
    }

    /// True when everything up to the FIN was handed out.
    pub fn ended(&self) -> bool {
        self.fin.is_some_and(|fin| self.next >= fin)
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.early_bytes + self.early.len() * 96
    }

    /// Notes a FIN that follows the byte before `seq`.
    pub fn fin(&mut self, seq: u32) {
        if let Some(offset) = self.offset(seq) {
            self.fin.get_or_insert(offset);
        }
    }

    /// Notes the other side's acknowledgement and declares the holes below it as gaps.
    pub fn acknowledge(&mut self, ack: u32, out: &mut dyn FnMut(Event<'_>)) {
        let Some(offset) = self.offset(ack) else { return };
        // A FIN takes one sequence number that is no byte.
        let offset = self.fin.map_or(offset, |fin| offset.min(fin));
        self.acked = self.acked.max(offset);
        self.sent = self.sent.max(offset);
        while self.next < offset {
            self.skip_hole(offset, out);
        }
    }

    /// Takes a segment.
    pub fn segment(&mut self, piece: Piece<'_>, out: &mut dyn FnMut(Event<'_>)) {
        let is_probe = piece.len == 1 && piece.bytes.first().is_none_or(|byte| *byte == 0);
        if is_probe && piece.seq == self.base {
            self.skip_keep_alive(piece.seq.wrapping_add(1));
        }
        self.begin_earlier(piece.seq, piece.len, out);
        let Some(offset) = self.offset(piece.seq) else {
            return;
        };
        let end = offset + u64::from(piece.len);
        self.sent = self.sent.max(end);
        if end <= self.next {
            return;
        }
        if offset > self.next {
            self.keep(offset, piece, out);
            return;
        }
        let seen = (self.next - offset) as usize;
        let fresh = piece.bytes.get(seen..).unwrap_or_default();
        let cut = end - self.next - fresh.len() as u64;
        self.hand_out(fresh, piece.mark, cut, out);
        self.drain(out);
    }

    /// A packet that was overtaken by an acknowledgement may show that the stream began before it. Nothing was handed out,
    /// so the start is moved. A single byte there is a keep-alive (RFC 9293 section 3.8.4).
    fn begin_earlier(&mut self, seq: u32, len: u32, out: &mut dyn FnMut(Event<'_>)) {
        let distance = self.base.wrapping_sub(seq);
        if self.next > 0 || len < 2 || distance == 0 || distance as usize > limits::OUT_OF_ORDER_BYTES {
            return;
        }
        let by = u64::from(distance);
        self.base = seq;
        self.acked += by;
        self.sent += by;
        self.fin = self.fin.map(|fin| fin + by);
        self.early =
            std::mem::take(&mut self.early).into_iter().map(|(at, early)| (at + by, early)).collect();
        // The other direction may have gone on meanwhile.
        out(Event::Gap(0));
    }

    /// Hands out what is held, with gaps where bytes are missing.
    pub fn flush(&mut self, out: &mut dyn FnMut(Event<'_>)) {
        while let Some((&first, _)) = self.early.first_key_value() {
            self.skip_hole(first, out);
        }
    }

    fn hand_out(&mut self, bytes: &[u8], mark: Mark, cut: u64, out: &mut dyn FnMut(Event<'_>)) {
        // Early bytes were seen first: where they begin, the new copy ends.
        let room =
            self.early.first_key_value().map_or(u64::MAX, |(&first, _)| first.saturating_sub(self.next));
        let take = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if take > 0 {
            self.next += take as u64;
            out(Event::Data(&bytes[..take], mark));
        }
        if take < bytes.len() {
            let rest = Piece {
                seq: self.base.wrapping_add(self.next as u32),
                bytes: &bytes[take..],
                len: (bytes.len() - take) as u32 + cut as u32,
                mark,
            };
            self.drain(out);
            self.segment(rest, out);
        } else if cut > 0 {
            let missing = cut.min(room.saturating_sub(take as u64));
            self.gap(missing, out);
        }
    }

    fn drain(&mut self, out: &mut dyn FnMut(Event<'_>)) {
        while let Some(entry) = self.early.first_entry() {
            let offset = *entry.key();
            if offset > self.next {
                return;
            }
            let early = entry.remove();
            self.early_bytes -= early.bytes.len();
            let end = offset + early.bytes.len() as u64 + u64::from(early.cut);
            if end > self.next {
                let seen = (self.next - offset) as usize;
                let fresh = early.bytes.get(seen..).unwrap_or_default();
                let cut = end - self.next - fresh.len() as u64;
                self.hand_out(fresh, early.mark, cut, out);
            }
        }
    }

    fn keep(&mut self, offset: u64, piece: Piece<'_>, out: &mut dyn FnMut(Event<'_>)) {
        if let Some(early) = self.early.get(&offset) {
            // The same start again: only what goes on behind the first copy is new.
            let (held, cut) = (early.bytes.len(), early.cut);
            if let Some(bytes) =
                piece.bytes.get(held..).filter(|bytes| !bytes.is_empty() && held > 0 && cut == 0)
            {
                let (seq, len) = (piece.seq.wrapping_add(held as u32), piece.len - held as u32);
                self.keep(offset + held as u64, Piece { seq, bytes, len, mark: piece.mark }, out);
            }
            return;
        }
        let cut = piece.len - piece.bytes.len() as u32;
        let early = Early { bytes: piece.bytes.into(), cut, mark: piece.mark };
        self.early_bytes += early.bytes.len();
        self.early.insert(offset, early);
        while self.early_bytes > limits::OUT_OF_ORDER_BYTES
            || self.early.len() > limits::OUT_OF_ORDER_SEGMENTS
        {
            let first = *self.early.first_key_value().expect("something is held").0;
            self.skip_hole(first, out);
        }
    }

    /// Gives up the bytes up to `until` or to the first early byte, whichever comes first.
    fn skip_hole(&mut self, until: u64, out: &mut dyn FnMut(Event<'_>)) {
        let first = self.early.first_key_value().map_or(until, |(&first, _)| first.min(until));
        self.gap(first.saturating_sub(self.next), out);
        self.drain(out);
    }

    fn gap(&mut self, len: u64, out: &mut dyn FnMut(Event<'_>)) {
        if len > 0 {
            self.next += len;
            self.missed += len;
            out(Event::Gap(len));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(stream: &mut Stream, seq: u32, bytes: &[u8], len: usize, text: &mut Vec<u8>) {
        let piece = Piece { seq, bytes, len: len as u32, mark: Mark::default() };
        stream.segment(piece, &mut collect(text));
    }

    fn collect(text: &mut Vec<u8>) -> impl FnMut(Event<'_>) + '_ {
        |event| match event {
            Event::Data(bytes, _) => text.extend_from_slice(bytes),
            Event::Gap(len) => text.extend(std::iter::repeat_n(b'.', len as usize)),
        }
    }

    fn started(seq: u32) -> Stream {
        let mut stream = Stream::default();
        stream.start(seq);
        stream
    }

    #[test]
    fn a_hole_waits_for_its_bytes_and_becomes_a_gap_when_acknowledged() {
        let (mut stream, mut text) = (started(u32::MAX - 1), Vec::new());
        feed(&mut stream, u32::MAX - 1, b"ab", 2, &mut text);
        feed(&mut stream, 2, b"ef", 2, &mut text);
        assert_eq!(text, b"ab");
        stream.acknowledge(2, &mut collect(&mut text));
        assert_eq!((text.as_slice(), stream.missed), (&b"ab..ef"[..], 2));
    }

    #[test]
    fn the_first_copy_of_a_byte_wins() {
        let (mut stream, mut text) = (started(0), Vec::new());
        feed(&mut stream, 2, b"cd", 2, &mut text);
        feed(&mut stream, 0, b"abXXef", 6, &mut text);
        assert_eq!(text, b"abcdef");
    }

    #[test]
    fn bytes_cut_by_the_capture_are_a_gap() {
        let (mut stream, mut text) = (started(0), Vec::new());
        feed(&mut stream, 4, b"ef", 2, &mut text);
        feed(&mut stream, 0, b"ab", 4, &mut text);
        assert_eq!(text, b"ab..ef");
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_given_up_silently() {
        let (mut stream, mut text) = (started(0), Vec::new());
        for at in 0..100_000_u32 {
            feed(&mut stream, 1 + at * 1000, &[b'x'; 999], 999, &mut text);
            assert!(stream.early_bytes <= limits::OUT_OF_ORDER_BYTES);
        }
        stream.flush(&mut collect(&mut text));
        assert_eq!(text.len(), 100_000 * 1000);
        assert_eq!(stream.missed, 100_000);
    }

    proptest! {
        /// Whatever the order, the cuts and the repeats: the stream is the text.
        #[test]
        fn any_delivery_gives_the_same_text(
            start in any::<u32>(),
            pieces in prop::collection::vec((0_usize..400, 1_usize..60), 1..80),
        ) {
            let original: Vec<u8> = (0..400_u32).map(|at| (at % 251) as u8).collect();
            let (mut stream, mut text) = (started(start), Vec::new());
            for (at, len) in pieces {
                let end = (at + len).min(original.len());
                feed(&mut stream, start.wrapping_add(at as u32), &original[at..end], end - at, &mut text);
            }
            feed(&mut stream, start, &original, original.len(), &mut text);
            prop_assert_eq!(&text, &original);
            prop_assert_eq!(stream.missed, 0);
            prop_assert_eq!(stream.memory(), 0);
        }
    }
}
