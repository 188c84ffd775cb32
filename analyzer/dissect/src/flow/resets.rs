//! Resets, and what is captured behind them. In: a RST and the streams so far. Out: whether its receiver accepts it (RFC 9293 section
//! 3.10.7, RFC 5961 section 3.2). A reset that nobody accepts ends nothing, and none undoes what was sent before it.

use crate::flow::Flow;
use crate::flow::waiting::Segment;
use crate::frame::Tcp;
use crate::layer::Direction;

/// A reset that its receiver accepts.
#[derive(Clone, Copy)]
pub(super) struct Reset {
    by: Direction,
    /// Offset in its sender's stream.
    offset: u64,
    /// It comes where the last byte ended: only then every receiver accepts it.
    is_exact: bool,
}

impl Flow {
    /// The place of a reset in its sender's stream; nothing for one outside of its receiver's window.
    pub(super) fn accepted(&self, by: Direction, tcp: &Tcp<'_>) -> Option<Reset> {
        let (stream, other) = (&self.streams[by as usize], by.opposite());
        let accepted = |offset, is_exact| Some(Reset { by, offset, is_exact });
        if self.connection.syn == Some(other) && self.connection.syn_ack.is_none() && !stream.has_begun() {
            let is_answer = tcp.ack.is_none_or(|ack| self.streams[other as usize].offset(ack).is_some());
            return if is_answer { accepted(0, true) } else { None };
        }
        if !stream.started() {
            return accepted(0, true);
        }
        let offset = stream.offset(tcp.seq)?;
        let (acked, sent) = stream.edges();
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.bytes() as u64);
        let is_inside = (acked..=sent + self.window(other).max(1) + waiting).contains(&offset);
        let is_exact = offset == acked || offset == sent || stream.is_fin_end(offset);
        if is_inside { accepted(offset, is_exact) } else { None }
    }

    /// Bytes that an end takes beyond those it acknowledged.
    fn window(&self, end: Direction) -> u64 {
        let [forward, backward] = self.windows.map(|(_, shift)| shift);
        let shift = match (forward.zip(backward), self.aligned) {
            (Some((forward, backward)), _) => [forward, backward][end as usize],
            // Both ends must agree to shift.
            (None, true) => 0,
            // The handshake was not seen: about what stacks take.
            (None, false) => 8,
        };
        u64::from(self.windows[end as usize].0) << shift
    }

    /// Its receiver had reset the connection before: it never took the bytes.
    pub(super) fn is_refused(&self, segment: &Segment<'_>) -> bool {
        segment.len > 0 && self.reset.is_some_and(|reset| reset.is_exact && reset.by != segment.direction)
    }

    /// Its sender says more than it had said before the reset: so the reset was not its own, or not taken.
    pub(super) fn go_on_after_reset(&mut self, segment: &Segment<'_>) {
        let Some(reset) = self.reset.filter(|reset| reset.by == segment.direction && segment.len > 0) else {
            return;
        };
        let offset = self.streams[segment.direction as usize].offset(segment.seq);
        if offset.is_some_and(|offset| offset >= reset.offset) {
            self.reset = None;
            self.connection.rst = None;
        }
    }
}
