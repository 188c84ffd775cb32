//! The driver: bytes and gaps of both directions in, rows of calls out, for any [`Dissector`]. Buffering, time stamps,
//! pairing and limits are written here, once.
//!
//! Pairing never invents. A response pairs only with a request that had arrived by the acknowledgement its first packet
//! carries. After a gap that lost the place in a first-in-first-out conversation only requests that were open before it
//! pair; the rest is written half by half as `lossy` until a quiet point, where the conversation starts afresh. Where a key
//! joins the halves, a gap takes only what was in it.

use std::collections::VecDeque;

use crate::dissector::{CallTimes, Direction, Dissector, End, Gap, Options, Over, Parsed, Role};
use crate::limits;
use crate::rows::{Call, Context};
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
    /// The bytes that belong to the protocol that follows.
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

/// A conversation of protocol `D`.
pub struct Talk<D: Dissector> {
    options: Options,
    /// Place of the protocol's table in the list of protocols.
    table: usize,
    dissector: D,
    sides: [Side; 2],
    open: VecDeque<Sent<D::Message>>,
    open_bytes: usize,
    /// The answer to the request that is still being sent.
    early: Option<Sent<D::Message>>,
    /// Datagrams that answer what the capture has not shown yet.
    ahead: VecDeque<Sent<D::Message>>,
    /// Keys of datagram requests that were sent more than once and are answered, how many more answers may come, and since when.
    repeated: VecDeque<(u64, u32, i64)>,
    client: Option<Direction>,
    messages: u64,
    /// The place was lost in a gap, or never known, and no quiet point came since.
    lossy: bool,
    /// It was lost once.
    lost: bool,
    /// Its messages have keys.
    is_keyed: bool,
    /// New requests were seen to follow before older ones were answered and after answers began.
    streams: bool,
    last: Option<(Direction, i64)>,
    status: Status,
    /// Nothing was said before what it gets first.
    opens: bool,
}

#[derive(Default)]
struct Side {
    /// Bytes not yet parsed.
    buffer: Vec<u8>,
    /// Offset of the first of them in the stream.
    start: u64,
    /// Where the packets of the buffered bytes begin.
    marks: VecDeque<(u64, Mark)>,
    /// Bytes to wait for before parsing again.
    need: usize,
    /// First byte of the message being built.
    began: Option<(u64, Mark)>,
    /// Last byte of it that is known to be its.
    ended: Mark,
    /// Messages that are built beside each other.
    parts: Vec<Part>,
    /// The message being built has missing bytes.
    damaged: bool,
    /// Looking for the next message.
    resync: bool,
    skipped: u64,
    last: Mark,
    over: bool,
}

/// Of a message whose bytes come in pieces, between those of others.
struct Part {
    key: u64,
    began: Mark,
    bytes: u64,
    damaged: bool,
}

struct Sent<M> {
    message: M,
    from: Direction,
    began: Mark,
    ended: Mark,
    bytes: u64,
    /// Offset in its stream from which on it may be answered.
    answerable: u64,
    damaged: bool,
    /// Its answer may be among what is missing.
    doubtful: bool,
    /// How often the same datagram was sent again.
    repeats: u32,
}

impl<D: Dissector> Talk<D> {
    /// A conversation whose first bytes come next; `aligned` is false where the capture began in its middle.
    pub fn new(table: usize, options: Options, aligned: bool) -> Self {
        let mut sides = [Side::default(), Side::default()];
        for side in &mut sides {
            side.resync = !aligned;
        }
        Talk {
            options,
            table,
            dissector: D::new(&options),
            sides,
            open: VecDeque::new(),
            open_bytes: 0,
            early: None,
            ahead: VecDeque::new(),
            repeated: VecDeque::new(),
            client: None,
            messages: 0,
            lossy: D::LOSSY_START && !aligned,
            lost: false,
            is_keyed: false,
            streams: false,
            last: None,
            status: Status::Open,
            opens: false,
        }
    }

    fn pump(&mut self, cx: &mut Context<'_>, direction: Direction, bytes: &[u8], mark: Mark) {
        let side = &mut self.sides[direction as usize];
        side.last = mark;
        if side.buffer.is_empty() {
            side.marks.clear();
            side.marks.push_back((side.start, mark));
            let used = self.parse_all(cx, direction, bytes);
            let side = &mut self.sides[direction as usize];
            side.buffer.extend_from_slice(&bytes[used..]);
        } else {
            side.marks.push_back((side.start + side.buffer.len() as u64, mark));
            side.buffer.extend_from_slice(bytes);
            if side.buffer.len() < side.need {
                return;
            }
            let buffer = std::mem::take(&mut side.buffer);
            let used = self.parse_all(cx, direction, &buffer);
            let side = &mut self.sides[direction as usize];
            side.buffer = buffer;
            side.buffer.drain(..used);
            if side.buffer.is_empty() && side.buffer.capacity() > 4096 {
                side.buffer = Vec::new();
            }
        }
    }

    /// Parses from the start of `bytes`, whose first byte is at the side's `start`; returns how many were used.
    fn parse_all(&mut self, cx: &mut Context<'_>, direction: Direction, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() && self.status == Status::Open {
            let rest = &bytes[used..];
            let taken = if self.sides[direction as usize].resync {
                self.look_for_start(direction, rest)
            } else {
                self.parse_one(cx, direction, rest)
            };
            let Some(taken) = taken else { break };
            used += taken;
            let side = &mut self.sides[direction as usize];
            side.start += taken as u64;
            side.need = 0;
        }
        used
    }

    /// Bytes to skip while the place is lost.
    fn look_for_start(&mut self, direction: Direction, rest: &[u8]) -> Option<usize> {
        let side = &mut self.sides[direction as usize];
        match D::resync(rest) {
            Some(0) => {
                side.resync = false;
                side.skipped = 0;
                Some(0)
            }
            Some(offset) => Some(offset.min(rest.len())),
            None => {
                // The start may be cut at the end of what is at hand.
                let skip = rest.len().saturating_sub(limits::RESYNC_TAIL);
                side.skipped += skip as u64;
                if side.skipped > limits::RESYNC_WINDOW {
                    side.over = true;
                }
                (skip > 0).then_some(skip)
            }
        }
    }

    fn parse_one(&mut self, cx: &mut Context<'_>, direction: Direction, rest: &[u8]) -> Option<usize> {
        let open = self.open.front().map(|sent| &sent.message);
        let parsed = self.dissector.parse(direction, rest, open);
        let side = &mut self.sides[direction as usize];
        let began = (side.start, side.mark_at(side.start));
        match parsed {
            Parsed::Message(len, message) if len > 0 && len <= rest.len() => {
                self.complete(cx, direction, len, message);
                Some(len)
            }
            Parsed::Become(len, message) if len <= rest.len() => {
                if let Some(message) = message {
                    self.complete(cx, direction, len, message);
                }
                self.status = Status::Became;
                Some(len)
            }
            Parsed::Part(len) if len > 0 && len <= rest.len() => {
                side.began.get_or_insert(began);
                side.ended = side.mark_at(side.start + len as u64 - 1);
                Some(len)
            }
            Parsed::PartOf(len, key) if len > 0 && len <= rest.len() => {
                side.part_of(key, len as u64, false);
                Some(len)
            }
            Parsed::Ended(message) if side.began.is_some_and(|(start, _)| start < side.start) => {
                let ended = side.ended;
                let end = side.start;
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
        if self.messages == 0 && !self.sides[direction as usize].damaged && !self.lost {
            self.status = Status::Refused;
            return;
        }
        self.lose_place(cx, direction);
    }

    fn lose_place(&mut self, cx: &mut Context<'_>, direction: Direction) {
        if let Some(message) = self.dissector.end(direction, End::Gap) {
            self.sides[direction as usize].damaged = true;
            self.complete(cx, direction, 0, message);
        }
        let side = &mut self.sides[direction as usize];
        side.began = None;
        side.parts.clear();
        side.damaged = false;
        side.resync = true;
        self.lossy = true;
        self.lost = true;
        self.write_early(cx);
        if self.client == Some(direction) {
            return;
        }
        if self.open.front().is_some_and(|sent| is_ordered::<D>(&sent.message)) {
            self.write_open(cx, None, true);
        }
        self.open.iter_mut().for_each(|sent| sent.doubtful = true);
    }

    /// A message ends `len` bytes after the side's `start`.
    fn complete(&mut self, cx: &mut Context<'_>, direction: Direction, len: usize, message: D::Message) {
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
        message: D::Message,
    ) {
        let side = &mut self.sides[direction as usize];
        let (start, began) = side.began.take().unwrap_or((side.start, side.mark_at(side.start)));
        let damaged = std::mem::take(&mut side.damaged);
        let answerable = D::answerable_after(&message).map_or(end, |len| (start + len).min(end));
        let bytes = end - start;
        let mut sent = Sent {
            message,
            from: direction,
            began,
            ended,
            bytes,
            answerable,
            damaged,
            doubtful: false,
            repeats: 0,
        };
        let key = D::key(&sent.message);
        if let Some(at) = side.parts.iter().position(|part| part.key == key) {
            let part = side.parts.swap_remove(at);
            (sent.began, sent.bytes) = (part.began, sent.bytes + part.bytes);
            sent.damaged |= part.damaged;
        }
        self.messages += 1;
        self.is_keyed |= key != 0;
        let client = if D::is_from_client(&sent.message) { direction } else { direction.opposite() };
        cx.orient(*self.client.get_or_insert(client));
        match D::role(&sent.message) {
            role if D::is_one_way(&sent.message) => self.one_way(cx, role, &sent),
            Role::Request => self.request(cx, sent),
            Role::Response => self.response(cx, direction, sent),
        }
    }

    fn one_way(&mut self, cx: &mut Context<'_>, role: Role, sent: &Sent<D::Message>) {
        let (request, response) = match role {
            Role::Request => (Some(sent), None),
            Role::Response => (None, Some(sent)),
        };
        self.write(cx, request, response, None, sent.damaged);
    }

    fn request(&mut self, cx: &mut Context<'_>, sent: Sent<D::Message>) {
        if let Some(answer) = self.early.take() {
            let lossy = answer.damaged || sent.damaged;
            self.write(cx, Some(&sent), Some(&answer), None, lossy);
            return;
        }
        if self.lossy && is_ordered::<D>(&sent.message) {
            self.write(cx, Some(&sent), None, None, true);
            return;
        }
        if D::OVER == Over::Udp && self.is_known_datagram(cx, &sent) {
            return;
        }
        self.open_bytes += D::memory(&sent.message);
        self.open.push_back(sent);
        if self.open.len() > limits::OPEN_REQUESTS {
            self.write_oldest(cx, None, false);
        }
    }

    /// A datagram that is sent again asks nothing new, and one that its answer overtook waits for none.
    fn is_known_datagram(&mut self, cx: &mut Context<'_>, sent: &Sent<D::Message>) -> bool {
        let overtaken = |answer: &Sent<D::Message>| {
            answer.from != sent.from && D::is_answer(&answer.message, &sent.message)
        };
        if let Some(at) = self.ahead.iter().position(overtaken) {
            let answer = self.ahead.remove(at).expect("it was found there");
            self.write(cx, Some(sent), Some(&answer), None, false);
            return true;
        }
        let is_same = |open: &&mut Sent<D::Message>| {
            open.from == sent.from && D::is_repeat(&sent.message, &open.message)
        };
        let open = self.open.iter_mut().find(is_same);
        let is_repeat = open.is_some();
        open.into_iter().for_each(|open| open.repeats += 1);
        is_repeat
    }

    /// Datagrams that nothing answers, and answers whose requests do not come.
    fn expire_datagrams(&mut self, cx: &mut Context<'_>, now_ns: i64) {
        let is_late = |sent: &Sent<D::Message>, after_ns: i64| now_ns - sent.began.ts_ns > after_ns;
        while self.open.front().is_some_and(|sent| is_late(sent, limits::DATAGRAM_ANSWER_NS)) {
            self.write_oldest(cx, Some(End::Timeout), false);
        }
        while self.ahead.front().is_some_and(|sent| is_late(sent, limits::REORDER_NS)) {
            self.write_ahead(cx);
        }
    }

    fn write_ahead(&mut self, cx: &mut Context<'_>) {
        if let Some(answer) = self.ahead.pop_front() {
            self.write(cx, None, Some(&answer), None, answer.damaged);
        }
    }

    fn response(&mut self, cx: &mut Context<'_>, direction: Direction, sent: Sent<D::Message>) {
        let key = D::key(&sent.message);
        let had_arrived = |request: &Sent<D::Message>| {
            request.from != direction && sent.began.acked.is_none_or(|acked| request.answerable <= acked)
        };
        let number = D::number(&sent.message);
        let is_passed_over = |request: &Sent<D::Message>| {
            key == 0 && had_arrived(request) && D::number(&request.message) < number
        };
        while self.open.front().is_some_and(is_passed_over) {
            self.write_oldest(cx, None, self.lossy);
        }
        let is_meant =
            |request: &Sent<D::Message>| had_arrived(request) && D::number(&request.message) == number;
        let is_answered = |request: &Sent<D::Message>| {
            D::is_answer(&sent.message, &request.message) && had_arrived(request)
        };
        let at = match D::OVER {
            _ if key == 0 => self.open.front().is_some_and(is_meant).then_some(0),
            // Where a number is used again, what used it before was given up.
            Over::Udp => self.open.iter().rposition(is_answered),
            Over::Tcp => self.open.iter().position(is_answered),
        };
        let request = at.and_then(|at| self.open.remove(at));
        if let Some(request) = &request {
            self.open_bytes -= D::memory(&request.message);
            if request.repeats > 0 {
                self.repeated.truncate(limits::WAITING_ANSWERS - 1);
                self.repeated.push_front((D::key(&request.message), request.repeats, sent.began.ts_ns));
            }
        } else if key == 0 && self.answers_what_is_being_sent(direction, &sent) {
            self.early = Some(sent);
            return;
        } else if D::OVER == Over::Udp {
            if !self.answers_again(key, sent.began.ts_ns) {
                self.ahead.push_back(sent);
                if self.ahead.len() > limits::WAITING_ANSWERS {
                    self.write_ahead(cx);
                }
            }
            return;
        }
        let lossy = sent.damaged
            || request.as_ref().is_some_and(|request| request.damaged)
            || (self.lossy && request.is_none() && is_ordered::<D>(&sent.message));
        self.write(cx, request.as_ref(), Some(&sent), None, lossy);
    }

    /// What was asked more than once is answered more than once: that is one call.
    fn answers_again(&mut self, key: u64, now_ns: i64) -> bool {
        let is_asked = |(of, left, since_ns): &&mut (u64, u32, i64)| {
            *of == key && *left > 0 && now_ns - *since_ns <= limits::DATAGRAM_ANSWER_NS
        };
        let asked = self.repeated.iter_mut().find(is_asked);
        asked.map(|(_, left, _)| *left -= 1).is_some()
    }

    /// A server may answer before it has all of a request: all earlier ones are answered, and it has the beginning of this.
    fn answers_what_is_being_sent(&self, direction: Direction, answer: &Sent<D::Message>) -> bool {
        let asking = &self.sides[direction.opposite() as usize];
        let has_begun =
            asking.began.is_some_and(|(start, _)| answer.began.acked.is_some_and(|acked| start < acked));
        has_begun && self.open.is_empty() && self.early.is_none() && !self.lossy
    }

    /// What it answers never came to its end.
    fn write_early(&mut self, cx: &mut Context<'_>) {
        if let Some(answer) = self.early.take() {
            self.write(cx, None, Some(&answer), None, true);
        }
    }

    fn write_open(&mut self, cx: &mut Context<'_>, end: Option<End>, lossy: bool) {
        while !self.open.is_empty() {
            self.write_oldest(cx, end, lossy);
        }
    }

    fn write_oldest(&mut self, cx: &mut Context<'_>, end: Option<End>, lossy: bool) {
        if let Some(sent) = self.open.pop_front() {
            self.open_bytes -= D::memory(&sent.message);
            let lossy = lossy || sent.damaged || sent.doubtful;
            self.write(cx, Some(&sent), None, end, lossy);
        }
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        request: Option<&Sent<D::Message>>,
        response: Option<&Sent<D::Message>>,
        end: Option<End>,
        lossy: bool,
    ) {
        let first = request.or(response).expect("a call has at least one half");
        // An answer may end before its request does.
        let halves = [request, response].into_iter().flatten();
        let ended = halves
            .map(|sent| sent.ended)
            .max_by_key(|mark| mark.ts_ns)
            .expect("a call has at least one half");
        let times = CallTimes {
            // Nothing was thought about where the answer came before the end of the request.
            think_ns: request
                .zip(response)
                .map(|(asked, answered)| answered.began.ts_ns - asked.ended.ts_ns)
                .filter(|ns| *ns >= 0),
            duration_ns: request
                .zip(response)
                .map(|(asked, answered)| answered.ended.ts_ns - asked.began.ts_ns)
                // Stamps that contradict the order of the bytes.
                .filter(|ns| *ns >= 0),
        };
        let call = Call {
            began: first.began,
            ended,
            end_ns: response.map(|response| response.ended.ts_ns),
            duration_ns: times.duration_ns,
            request_bytes: request.map(|request| request.bytes),
            response_bytes: response.map(|response| response.bytes),
            lossy,
            is_one_way: D::is_one_way(&first.message),
            asked_by: request.map_or_else(|| first.from.opposite(), |request| request.from),
            opened_by: self.client.filter(|_| self.opens),
            end,
        };
        cx.write_call::<D>(self.table, &call, |columns| {
            D::write(request.map(|sent| &sent.message), response.map(|sent| &sent.message), &times, columns)
        });
    }

    /// Datagram conversations are many, short, and kept for long: what is empty takes no room.
    fn rest(&mut self) {
        if self.open.is_empty() {
            self.open = VecDeque::new();
        }
        for side in self.sides.iter_mut().filter(|side| side.buffer.is_empty()) {
            side.marks = VecDeque::new();
        }
    }

    /// At a quiet point nothing is under way, so what follows pairs again. Where keys tell what is answered, all that is kept
    /// whose place is known.
    fn start_afresh(&mut self, cx: &mut Context<'_>, direction: Direction, now_ns: i64) {
        let server = &self.sides[direction.opposite() as usize];
        let answered = self.last.is_some_and(|(last, _)| last != direction);
        let settled = server.resync || (server.began.is_none() && server.buffer.is_empty());
        let silence_ns = self.last.map_or(0, |(_, ts_ns)| now_ns - ts_ns);
        let patient = !self.streams || silence_ns >= limits::STREAMING_QUIET_NS;
        if self.client != Some(direction) || !answered || !settled || !patient {
            return;
        }
        let has_keys = D::IS_KEY_UNIQUE && self.is_keyed;
        if !has_keys {
            self.write_open(cx, None, true);
            self.write_early(cx);
        }
        self.lossy = false;
        self.lost = false;
        self.dissector.recover(&self.options);
        for side in self.sides.iter_mut().filter(|side| !has_keys || side.resync) {
            side.start += side.buffer.len() as u64;
            *side = Side { start: side.start, over: side.over, last: side.last, ..Side::default() };
        }
    }
}

/// Responses are told to belong to requests by their order, at least behind a gap.
fn is_ordered<D: Dissector>(message: &D::Message) -> bool {
    !D::IS_KEY_UNIQUE || D::key(message) == 0
}

impl Side {
    /// So many bytes belong to the message of this key.
    fn part_of(&mut self, key: u64, len: u64, damaged: bool) {
        let began = self.began.take().map_or_else(|| self.mark_at(self.start), |(_, mark)| mark);
        let is_full = self.parts.len() >= limits::OPEN_REQUESTS;
        match self.parts.iter_mut().find(|part| part.key == key) {
            Some(part) => {
                part.bytes += len;
                part.damaged |= damaged;
            }
            None if !is_full => self.parts.push(Part { key, began, bytes: len, damaged }),
            None => {}
        }
    }

    fn memory(&self) -> usize {
        self.buffer.capacity() + self.marks.capacity() * 48 + self.parts.capacity() * size_of::<Part>()
    }

    fn mark_at(&self, offset: u64) -> Mark {
        let after = self.marks.partition_point(|(start, _)| *start <= offset);
        self.marks.get(after.saturating_sub(1)).map_or(self.last, |(_, mark)| *mark)
    }
}

impl<D: Dissector> Conversation for Talk<D> {
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
        if self.lossy && quiet {
            self.start_afresh(cx, direction, mark.ts_ns);
        }
        if D::OVER == Over::Udp {
            self.expire_datagrams(cx, mark.ts_ns);
        }
        if D::TAKES_TURNS && quiet && self.last.is_none() && D::resync(bytes) == Some(0) {
            self.lossy = false;
            self.sides.iter_mut().for_each(|side| side.resync = false);
        }
        let asks = self.client == Some(direction);
        if asks && !self.open.is_empty() && self.last.is_some_and(|(last, _)| last != direction) {
            self.streams = true;
        }
        self.last = Some((direction, mark.ts_ns));
        self.pump(cx, direction, bytes, mark);
        let side = &mut self.sides[direction as usize];
        while side.marks.len() > 1 && side.marks[1].0 <= side.start {
            side.marks.pop_front();
        }
        if D::OVER == Over::Udp {
            self.rest();
        }
        if self.status == Status::Open && self.dissector.is_done() {
            self.status = Status::Done;
        }
        self.status
    }

    fn gap(&mut self, cx: &mut Context<'_>, direction: Direction, len: u64) {
        let side = &mut self.sides[direction as usize];
        if side.over {
            return;
        }
        let held = std::mem::take(&mut side.buffer);
        let open = self.open.front().map(|sent| &sent.message);
        let taken = match side.resync || len == 0 {
            true => Gap::Lost(None),
            false => self.dissector.gap(direction, &held, len, open),
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
                side.part_of(key, held.len() as u64 + len, true);
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
                    self.open.iter_mut().for_each(|sent| sent.doubtful = true);
                }
            }
            Gap::Lost(begun_message) => {
                if let Some(message) = begun_message {
                    // Where it ends is not known, and so not what comes behind it: it stands for itself.
                    self.lossy = true;
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
        side.start += std::mem::take(&mut side.buffer).len() as u64;
        if let Some(message) = self.dissector.end(direction, end) {
            self.complete(cx, direction, 0, message);
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>, end: End) {
        // Requests first: a response that ends with the connection answers one of them.
        let client = self.client.unwrap_or(Direction::Forward);
        self.end(cx, client, end);
        self.end(cx, client.opposite(), end);
        self.write_open(cx, Some(end), false);
        self.write_early(cx);
        while !self.ahead.is_empty() {
            self.write_ahead(cx);
        }
    }

    fn take_rest(&mut self, direction: Direction) -> (Vec<u8>, Mark) {
        let side = &mut self.sides[direction as usize];
        (std::mem::take(&mut side.buffer), side.last)
    }

    fn memory(&self) -> usize {
        let buffers: usize = self.sides.iter().map(|side| side.memory()).sum();
        let open = self.open.capacity() * size_of::<Sent<D::Message>>() + self.open_bytes;
        let waiting = self.early.iter().chain(&self.ahead);
        let early: usize = waiting.map(|sent| size_of::<Sent<D::Message>>() + D::memory(&sent.message)).sum();
        let early = early + self.repeated.capacity() * size_of::<(u64, u32, i64)>();
        size_of::<Self>() + buffers + open + early + self.dissector.held()
    }

    fn is_answered(&self) -> bool {
        self.client.is_some() && self.open.is_empty() && self.early.is_none() && self.ahead.is_empty()
    }

    fn name(&self) -> &'static str {
        D::NAME
    }

    fn client(&self) -> Option<Direction> {
        self.client
    }
}
