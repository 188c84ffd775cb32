//! The driver of a layer. In: bytes and gaps of both directions. Out: rows of calls. [`Buffer`] holds the bytes and their time
//! stamps, the [`Layer`] finds messages in them, [`Pairs`] joins requests and responses; the driver passes data between them.

use crate::buffer::Buffer;
use crate::layer::{Begin, Call, CallTimes, Carrier, Direction, End, Gap, Layer, Options, Parsed, Successor};
use crate::limits;
use crate::messages::Messages;
use crate::pairing::{Half, Paired, Pairs};
use crate::rows::{CallFacts, Context, RowSink};
use crate::stream::Mark;

/// A conversation of some protocol, erased.
pub trait Conversation: Send {
    /// Where in each stream the first bytes it gets lie, and whether nothing was said before.
    fn begin(&mut self, starts: [u64; 2], opens: bool);
    /// Takes the next bytes of a direction. `quiet` says that before them all bytes of both directions had been
    /// acknowledged.
    fn data(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        bytes: &[u8],
        mark: Mark,
        quiet: bool,
    ) -> Status;
    /// Bytes of a direction are missing.
    fn gap(&mut self, cx: &mut Context<'_>, direction: Direction, len: u64);
    /// A direction came to its end.
    fn end(&mut self, cx: &mut Context<'_>, direction: Direction, end: End);
    /// The conversation is over: writes what still waits.
    fn finish(&mut self, cx: &mut Context<'_>, end: End);
    /// The protocol that follows.
    fn take_successor(&mut self) -> Successor;
    /// The bytes that belong to it.
    fn take_rest(&mut self, direction: Direction) -> (Vec<u8>, Mark);
    /// Bytes held.
    fn memory(&self) -> usize;
    /// Something was asked, and nothing that was asked waits for its answer.
    fn is_answered(&self) -> bool;
    /// Name of the protocol.
    fn name(&self) -> &'static str;
    /// Who asks, once a message has told.
    fn client(&self) -> Option<Direction>;
}

/// How a conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As before.
    Open,
    /// Another protocol follows on the same connection.
    Became,
    /// It never was this protocol.
    Refused,
    /// Nothing more of it is read.
    Done,
}

/// A conversation of protocol `L`.
pub struct Driver<L: Layer> {
    options: Options,
    /// Places of its tables among those of calls.
    tables: &'static [usize],
    layer: L,
    sides: [Buffer; 2],
    messages: Messages<L::Message>,
    pairs: Pairs,
    client: Option<Direction>,
    count: u64,
    /// The place was lost once.
    lost: bool,
    /// New requests were seen to follow before older ones were answered and after answers began.
    streams: bool,
    last: Option<(Direction, i64)>,
    status: Status,
    successor: Successor,
    /// Nothing was said before what it gets first.
    opens: bool,
}

impl<L: Layer> Driver<L> {
    /// A conversation whose first bytes come next; `aligned` is false where the capture began in its middle.
    pub fn new(tables: &'static [usize], begin: &Begin<'_>, aligned: bool) -> Self {
        let mut sides = [Buffer::default(), Buffer::default()];
        sides.iter_mut().for_each(|side| side.resync = !aligned);
        Driver {
            options: *begin.options,
            tables,
            layer: L::new(begin),
            sides,
            messages: Messages::default(),
            pairs: Pairs::new(L::OVER != Carrier::Stream, L::LOSSY_START && !aligned),
            client: None,
            count: 0,
            lost: false,
            streams: false,
            last: None,
            status: Status::Open,
            successor: Successor::default(),
            opens: false,
        }
    }

    fn pump(&mut self, cx: &mut Context<'_>, direction: Direction, bytes: &[u8], mark: Mark) {
        let side = &mut self.sides[direction as usize];
        side.mark(mark);
        if side.bytes.is_empty() {
            let used = self.parse_all(cx, direction, bytes);
            self.sides[direction as usize].bytes.extend_from_slice(&bytes[used..]);
        } else {
            side.bytes.extend_from_slice(bytes);
            if side.bytes.len() < side.need {
                return;
            }
            let waiting = std::mem::take(&mut side.bytes);
            let used = self.parse_all(cx, direction, &waiting);
            self.sides[direction as usize].restore(waiting, used);
        }
    }

    /// Parses from the start of `bytes`, whose first byte is at the side's `start`; returns how many were used.
    fn parse_all(&mut self, cx: &mut Context<'_>, direction: Direction, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() && self.status == Status::Open {
            let rest = &bytes[used..];
            let side = &mut self.sides[direction as usize];
            let taken = match side.resync {
                true => side.look_for_start(L::resync(rest), rest.len()),
                false => self.parse_one(cx, direction, rest),
            };
            let Some(taken) = taken else { break };
            used += taken;
            self.sides[direction as usize].advance(taken);
        }
        used
    }

    fn parse_one(&mut self, cx: &mut Context<'_>, direction: Direction, rest: &[u8]) -> Option<usize> {
        let open = self.pairs.oldest().and_then(|at| self.messages.get(at));
        let parsed = self.layer.parse(direction, rest, open);
        let side = &mut self.sides[direction as usize];
        let began = (side.start, side.mark_at(side.start));
        match parsed {
            Parsed::Message(len, message) if len > 0 && len <= rest.len() => {
                self.complete(cx, direction, len, message);
                Some(len)
            }
            Parsed::Become(len, message, successor) if len <= rest.len() => {
                if let Some(message) = message {
                    self.complete(cx, direction, len, message);
                }
                self.successor = successor;
                self.status = Status::Became;
                Some(len)
            }
            Parsed::Part(len) if len > 0 && len <= rest.len() => {
                side.began.get_or_insert(began);
                side.ended = side.mark_at(side.start + len as u64 - 1);
                Some(len)
            }
            Parsed::PartOf(len, key) if len > 0 && len <= rest.len() => {
                side.add_part(key, len as u64, false);
                Some(len)
            }
            Parsed::Ended(message) if side.began.is_some_and(|(start, _)| start < side.start) => {
                let (end, ended) = (side.start, side.ended);
                self.complete_at(cx, direction, end, ended, message);
                Some(0)
            }
            Parsed::Skip(len) if len > 0 && len <= rest.len() => {
                side.began = None;
                Some(len)
            }
            Parsed::More(at_least) if rest.len() < limits::STREAM_BUFFER => {
                side.need = at_least.max(rest.len() + 1);
                side.began.get_or_insert(began);
                None
            }
            _ => {
                self.malformed(cx, direction);
                (self.status == Status::Open).then_some(1)
            }
        }
    }

    /// Nothing sensible: the place is lost, as after a gap.
    fn malformed(&mut self, cx: &mut Context<'_>, direction: Direction) {
        if self.count == 0 && !self.sides[direction as usize].damaged && !self.lost {
            self.status = Status::Refused;
            return;
        }
        self.lose_place(cx, direction);
    }

    fn lose_place(&mut self, cx: &mut Context<'_>, direction: Direction) {
        if let Some(message) = self.layer.end(direction, End::Gap) {
            self.sides[direction as usize].damaged = true;
            self.complete(cx, direction, 0, message);
        }
        self.sides[direction as usize].lose_place();
        self.lost = true;
        self.pairs.lose_place(self.client != Some(direction));
        self.write_calls(cx);
    }

    /// A message ends `len` bytes after the side's `start`.
    fn complete(&mut self, cx: &mut Context<'_>, direction: Direction, len: usize, message: L::Message) {
        let side = &self.sides[direction as usize];
        let end = side.start + len as u64;
        let start = side.began.map_or(side.start, |(start, _)| start);
        let ended = side.mark_at(end.saturating_sub(1).max(start));
        self.complete_at(cx, direction, end, ended, message);
    }

    /// A message ends before the offset `end`, with the byte marked `ended`.
    fn complete_at(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        end: u64,
        ended: Mark,
        message: L::Message,
    ) {
        let meta = L::meta(&message);
        let side = &mut self.sides[direction as usize];
        let (start, began) = side.began.take().unwrap_or((side.start, side.mark_at(side.start)));
        let mut half = Half {
            message: 0,
            from: direction,
            began,
            ended,
            bytes: end - start,
            answerable: meta.answerable.map_or(end, |len| (start + len).min(end)),
            damaged: std::mem::take(&mut side.damaged),
            doubtful: false,
            repeats: 0,
            meta,
        };
        if let Some(part) = half.meta.parts.and_then(|key| side.take_part(key)) {
            (half.began, half.bytes) = (part.began, half.bytes + part.bytes);
            half.damaged |= part.damaged;
        }
        self.count += 1;
        let client = if half.meta.from_client { direction } else { direction.opposite() };
        cx.orient(*self.client.get_or_insert(client));
        half.message = self.messages.insert(message);
        let asking = self.sides[direction.opposite() as usize].began.map(|(start, _)| start);
        if let Some(half) = self.pairs.take(half, asking) {
            self.messages.remove(half.message);
        }
        self.write_calls(cx);
    }

    fn write_calls(&mut self, cx: &mut Context<'_>) {
        while let Some(call) = self.pairs.next_call() {
            self.write(cx, &call);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, paired: &Paired) {
        let (request, response) = (paired.request.as_ref(), paired.response.as_ref());
        let first = request.or(response).expect("a call has at least one half");
        // An answer may end before its request does.
        let halves = [request, response].into_iter().flatten();
        let ended = halves.map(|half| half.ended).max_by_key(|mark| mark.ts_ns);
        let both = request.zip(response);
        let times = CallTimes {
            // Nothing was thought about where the answer came before the end of the request.
            think_ns: both
                .map(|(asked, answered)| answered.began.ts_ns - asked.ended.ts_ns)
                .filter(|ns| *ns >= 0),
            duration_ns: both
                .map(|(asked, answered)| answered.ended.ts_ns - asked.began.ts_ns)
                // Stamps that contradict the order of the bytes.
                .filter(|ns| *ns >= 0),
        };
        let facts = CallFacts {
            began: first.began,
            ended: ended.expect("a call has at least one half"),
            end_ns: response.map(|response| response.ended.ts_ns),
            duration_ns: times.duration_ns,
            request_bytes: request.map(|request| request.bytes),
            response_bytes: response.map(|response| response.bytes),
            lossy: paired.lossy,
            is_one_way: first.meta.is_alone(),
            asked_by: request.map_or_else(|| first.from.opposite(), |request| request.from),
            opened_by: self.client.filter(|_| self.opens),
            end: paired.end,
        };
        let [asked, answered] =
            [request, response].map(|half| half.and_then(|half| self.messages.remove(half.message)));
        let call = Call { request: asked.as_ref(), response: answered.as_ref(), times };
        L::write(&call, &mut RowSink::new(cx, self.tables, L::OVER, &facts));
    }

    /// At a quiet point nothing is under way, so what follows pairs again. Where keys tell what is answered, all that is kept
    /// whose place is known.
    fn start_afresh(&mut self, cx: &mut Context<'_>, direction: Direction, now_ns: i64) {
        let server = &self.sides[direction.opposite() as usize];
        let answered = self.last.is_some_and(|(last, _)| last != direction);
        let settled = server.resync || (server.began.is_none() && server.bytes.is_empty());
        let silence_ns = self.last.map_or(0, |(_, ts_ns)| now_ns - ts_ns);
        let patient = !self.streams || silence_ns >= limits::STREAMING_QUIET_NS;
        if self.client != Some(direction) || !answered || !settled || !patient {
            return;
        }
        let has_keys = self.pairs.start_afresh();
        self.write_calls(cx);
        self.lost = false;
        self.layer.recover(&self.options);
        let lost = self.sides.iter_mut().filter(|side| !has_keys || side.resync);
        lost.for_each(Buffer::start_afresh);
    }
}

impl<L: Layer> Conversation for Driver<L> {
    fn begin(&mut self, starts: [u64; 2], opens: bool) {
        self.opens = opens;
        for (side, start) in self.sides.iter_mut().zip(starts) {
            side.start = start;
        }
    }

    fn data(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        bytes: &[u8],
        mark: Mark,
        quiet: bool,
    ) -> Status {
        if self.sides[direction as usize].over {
            return self.status;
        }
        if self.pairs.is_lossy() && quiet {
            self.start_afresh(cx, direction, mark.ts_ns);
        }
        if L::OVER != Carrier::Stream {
            self.pairs.expire(mark.ts_ns);
            self.write_calls(cx);
        }
        if L::TAKES_TURNS && quiet && self.last.is_none() && L::resync(bytes) == Some(0) {
            self.pairs.set_lossy(false);
            self.sides.iter_mut().for_each(|side| side.resync = false);
        }
        let asks = self.client == Some(direction);
        if asks && self.pairs.is_open() && self.last.is_some_and(|(last, _)| last != direction) {
            self.streams = true;
        }
        self.last = Some((direction, mark.ts_ns));
        self.pump(cx, direction, bytes, mark);
        self.sides[direction as usize].forget_marks();
        if L::OVER != Carrier::Stream {
            self.pairs.shrink();
            self.messages.shrink();
            self.sides.iter_mut().for_each(Buffer::shrink);
        }
        if self.status == Status::Open && self.layer.is_done() {
            self.status = Status::Done;
        }
        self.status
    }

    fn gap(&mut self, cx: &mut Context<'_>, direction: Direction, len: u64) {
        let side = &mut self.sides[direction as usize];
        if side.over {
            return;
        }
        let held = std::mem::take(&mut side.bytes);
        let open = self.pairs.oldest().and_then(|at| self.messages.get(at));
        let taken = match side.resync || len == 0 {
            true => Gap::Lost(None),
            false => self.layer.gap(direction, &held, len, open),
        };
        let begun = (!held.is_empty()).then(|| (side.start, side.mark_at(side.start)));
        let held_end = side.start + held.len() as u64;
        side.need = 0;
        side.start = held_end + len;
        match taken {
            Gap::Part => {
                side.began = side.began.or(begun);
                side.damaged = true;
            }
            Gap::PartOf(key) => {
                side.began = side.began.or(begun);
                side.add_part(key, held.len() as u64 + len, true);
            }
            Gap::Message(message) => {
                side.began = side.began.or(begun);
                side.damaged = true;
                let (end, ended) = (side.start, side.last);
                self.complete_at(cx, direction, end, ended, message);
            }
            Gap::Skip => {
                side.began = None;
                if self.client != Some(direction) {
                    self.pairs.doubt_open();
                }
            }
            Gap::Lost(begun_message) => {
                if let Some(message) = begun_message {
                    // Where it ends is not known, and so not what comes behind it: it stands for itself.
                    self.pairs.set_lossy(true);
                    side.began = side.began.or(begun);
                    side.damaged = true;
                    let ended = side.last;
                    self.complete_at(cx, direction, held_end, ended, message);
                }
                self.sides[direction as usize].damaged = true;
                self.lose_place(cx, direction);
            }
        }
    }

    fn end(&mut self, cx: &mut Context<'_>, direction: Direction, end: End) {
        let side = &mut self.sides[direction as usize];
        if std::mem::replace(&mut side.over, true) {
            return;
        }
        side.start += std::mem::take(&mut side.bytes).len() as u64;
        if let Some(message) = self.layer.end(direction, end) {
            self.complete(cx, direction, 0, message);
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>, end: End) {
        // Requests first: a response that ends with the connection answers one of them.
        let client = self.client.unwrap_or(Direction::Forward);
        self.end(cx, client, end);
        self.end(cx, client.opposite(), end);
        self.pairs.finish(end);
        self.write_calls(cx);
    }

    fn take_successor(&mut self) -> Successor {
        std::mem::take(&mut self.successor)
    }

    fn take_rest(&mut self, direction: Direction) -> (Vec<u8>, Mark) {
        let side = &mut self.sides[direction as usize];
        (std::mem::take(&mut side.bytes), side.last)
    }

    fn memory(&self) -> usize {
        let buffers: usize = self.sides.iter().map(Buffer::memory).sum();
        size_of::<Self>() + buffers + self.pairs.memory() + self.messages.memory() + self.layer.held()
    }

    fn is_answered(&self) -> bool {
        self.client.is_some() && self.pairs.is_empty()
    }

    fn name(&self) -> &'static str {
        L::NAME
    }

    fn client(&self) -> Option<Direction> {
        self.client
    }
}
