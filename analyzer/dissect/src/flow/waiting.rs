//! TCP segments that wait. A capture with several queues, or from several places, shows an acknowledgement before the bytes it
//! acknowledges: order in the streams decides what was known when, not order in the file. In: a segment that acknowledges what was
//! not seen. Out: the same segment, once that was seen, or once it has waited long enough to know that it is missing.

use std::collections::VecDeque;

use crate::frame::Told;
use crate::layer::Direction;
use crate::limits;
use crate::stream::Mark;

/// A TCP segment as the streams take it.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    /// Who sent it.
    pub direction: Direction,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: Option<u32>,
    /// Flags.
    pub flags: u8,
    /// Captured bytes.
    pub bytes: &'a [u8],
    /// Length on the wire.
    pub len: u32,
    /// Its packet.
    pub mark: Mark,
    /// Whose program told it.
    pub told: Option<Told>,
}

/// Segments in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<(Segment<'static>, Box<[u8]>)>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<(Segment<'static>, Box<[u8]>)>() + self.bytes
    }

    /// Bytes of segments held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, segment: &Segment<'_>) {
        self.bytes += segment.bytes.len();
        self.queue.push_back((Segment { bytes: &[], ..*segment }, segment.bytes.into()));
    }

    /// The first segment that need not wait any more, or else the oldest where it waited for too long or too many wait; true
    /// for such a one.
    pub(super) fn next(
        &mut self,
        now_ns: i64,
        must_wait: impl Fn(&Segment<'_>) -> bool,
    ) -> Option<(Segment<'static>, Box<[u8]>, bool)> {
        let at = self.queue.iter().position(|(segment, _)| !must_wait(segment));
        let is_forced = at.is_none();
        let is_late = |(segment, _): &(Segment<'static>, Box<[u8]>)| {
            now_ns.saturating_sub(segment.mark.ts_ns) > limits::REORDER_NS
        };
        let is_full = self.queue.len() > limits::WAITING || self.bytes > limits::WAITING_BYTES;
        let (segment, bytes) = match at {
            Some(at) => self.queue.remove(at)?,
            None if is_full || self.queue.front().is_some_and(is_late) => self.queue.pop_front()?,
            None => return None,
        };
        self.bytes -= bytes.len();
        Some((segment, bytes, is_forced))
    }
}
