//! PostgreSQL, protocol 3 (documentation part VII, chapter 55): where messages begin and end, which of them ask and which answer.
//! In: the bytes of both directions. Out: a login, simple queries, executions of prepared statements and function calls, each with
//! its answer. Rows of data are counted and passed, never held, and what a login proves itself with is not looked at.
//!
//! What answers comes in the order of what asks, but after an error the server passes over all that was sent before the next Sync.

mod answers;
mod asks;
mod row;
mod shape;

use std::cmp::Ordering;
use std::sync::Arc;

use shark_schema::tables::db::{DbBlock, TABLE};

use self::answers::Answers;
use self::asks::Asks;
use crate::batch::{CallTable, call_table};
use crate::layer::{Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Pairing, Parsed, Probe, Role};
use crate::limits;
use crate::rows::RowSink;

/// The layer.
#[derive(Default)]
pub struct Postgresql {
    client: Option<Direction>,
    /// What is left of a message that is longer than what is needed of it.
    passing: [Option<Passing>; 2],
    asks: Asks,
    answers: Answers,
}

struct Passing {
    left: usize,
    then: Step,
}

/// What a message of the protocol is to the rows.
enum Step {
    /// Part of what is being asked or answered.
    Part,
    /// Of no row.
    Skip,
    /// The end of a request or an answer.
    Done(Message),
    Malformed,
}

/// Whose login it is.
#[derive(Debug, Default)]
struct Session {
    user: Option<String>,
    database: Option<String>,
}

/// A request or its answer.
#[derive(Debug)]
pub enum Message {
    /// What a client asks.
    Request(Request),
    /// What the server answers.
    Response(Response),
}

/// What a client asks.
#[derive(Debug)]
pub struct Request {
    /// Its place in order, where that is known.
    number: Option<u64>,
    session: Option<Arc<Session>>,
    command: &'static str,
    statement: Option<Arc<str>>,
    /// Length of its first message: the server may answer from then on.
    first_len: usize,
    /// Nothing answers it.
    one_way: bool,
}

/// What the server answers.
#[derive(Debug, Default)]
pub struct Response {
    number: Option<u64>,
    session: Option<Arc<Session>>,
    /// First word of the first command tag.
    operation: Option<String>,
    /// Rows of data.
    data_rows: Option<i64>,
    /// Rows by the command tags.
    tag_rows: Option<i64>,
    error: Option<Failure>,
    /// How it ended was seen.
    is_whole: bool,
    /// Nobody asked.
    unasked: bool,
}

/// What an ErrorResponse says.
#[derive(Debug, Default)]
struct Failure {
    code: Option<String>,
    message: Option<String>,
}

/// Bytes of type and length.
const HEAD: usize = 5;
/// The longest message a server takes or gives: 1 GiB (PQ_LARGE_MESSAGE_LIMIT).
const LONGEST: usize = 1 << 30;
/// The longest first message (MAX_STARTUP_PACKET_LENGTH).
const LONGEST_STARTUP: usize = 10_000;
/// What is needed of a message whose text is kept: names before and after it too.
const NEEDED: usize = limits::STATEMENT_BYTES + 512;

impl Layer for Postgresql {
    const NAME: &'static str = "postgresql";
    const OVER: Carrier = Carrier::Stream;
    /// The server, and PgBouncer.
    const PORTS: &'static [u16] = &[5432, 6432, 5433];
    const TABLES: &'static [CallTable] = &[call_table::<DbBlock>(&TABLE)];
    const LOSSY_START: bool = true;
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Postgresql::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        shape::probe(bytes)
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if let Some(passing) = self.passing[direction as usize].take() {
            return self.pass(direction, bytes, passing.left, passing.then);
        }
        let Some(&first) = bytes.first() else { return Parsed::More(1) };
        // A message without type is a client's first.
        if first == 0 {
            return self.untyped(direction, bytes);
        }
        let client = *self.client.get_or_insert_with(|| shape::client(direction, bytes));
        if direction != client
            && let Some(answer) = self.answers.encryption(first)
        {
            return answer;
        }
        let &[kind, a, b, c, d, ..] = bytes else { return Parsed::More(HEAD) };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=LONGEST).contains(&len) {
            return Parsed::Malformed;
        }
        let from_client = direction == client;
        let total = 1 + len;
        let needed = total.min(if shape::is_text(kind, from_client) { NEEDED } else { HEAD + 1 });
        let Some(body) = bytes.get(HEAD..needed) else { return Parsed::More(needed) };
        let step = if from_client {
            self.asks.message(&mut self.answers, kind, body, total)
        } else {
            self.answers.message(kind, body, &self.asks)
        };
        self.pass(direction, bytes, total, step)
    }

    /// Known is the place inside of a message whose length was seen, and at its end.
    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let passing = self.passing[direction as usize].take().or_else(|| self.begun(direction, held));
        let (Some(Passing { left, then }), Ok(len)) = (passing, usize::try_from(len)) else {
            return Gap::Lost(None);
        };
        let is_client = self.client == Some(direction);
        match (len.cmp(&left), then) {
            (Ordering::Less, then) => {
                self.passing[direction as usize] = Some(Passing { left: left - len, then });
                Gap::Part
            }
            (Ordering::Equal, Step::Part) => Gap::Part,
            (Ordering::Equal, Step::Skip) => Gap::Skip,
            (Ordering::Equal, Step::Done(message)) => Gap::Message(message),
            (Ordering::Greater, Step::Done(message)) if is_client => Gap::Lost(Some(message)),
            _ => Gap::Lost(None),
        }
    }

    fn resync(bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| shape::begins(&bytes[at..]))
    }

    fn end(&mut self, direction: Direction, end: End) -> Option<Message> {
        let passing = self.passing[direction as usize].take();
        let is_server = self.client == Some(direction.opposite());
        let told = if is_server { self.answers.failure() } else { None };
        if end == End::Gap {
            self.asks.lose_place(is_server, &mut self.answers);
        }
        match passing.map(|passing| passing.then) {
            // What was needed of it is there.
            Some(Step::Done(message)) if end != End::Gap => Some(message),
            _ => told,
        }
    }

    fn held(&self) -> usize {
        self.asks.memory() + self.answers.memory()
    }

    /// A client may have Parse and Describe answered (Flush) before it sends the Execute.
    fn meta(message: &Message) -> Meta {
        let (role, number, is_alone) = match message {
            Message::Request(request) => (Role::Request, request.number, request.one_way),
            Message::Response(response) => (Role::Response, response.number, response.unasked),
        };
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let (answerable, memory) = match message {
            Message::Request(request) => {
                (Some(request.first_len as u64), request.statement.as_ref().map_or(0, |text| text.len()))
            }
            Message::Response(response) => {
                let error = response.error.as_ref();
                (None, error.map_or(0, |error| text(&error.code) + text(&error.message)))
            }
        };
        let meta = Meta { answerable, ..Meta::new(role, size_of::<Message>() + memory) };
        meta.pairing(number.map_or(Pairing::InOrder, Pairing::Numbered)).alone_if(is_alone)
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut DbBlock| row::write(call.request, call.response, columns));
    }
}

impl Postgresql {
    /// A first message has a length and a code instead of a type (section 55.7).
    fn untyped(&mut self, direction: Direction, bytes: &[u8]) -> Parsed<Message> {
        if self.client.is_some_and(|client| client != direction) || self.asks.has_session() {
            return Parsed::Malformed;
        }
        let Some(len) = bytes.first_chunk().map(|len| u32::from_be_bytes(*len) as usize) else {
            return Parsed::More(8);
        };
        if !(8..=LONGEST_STARTUP).contains(&len) {
            return Parsed::Malformed;
        }
        let Some(body) = bytes.get(4..len) else { return Parsed::More(len) };
        self.client = Some(direction);
        match self.asks.startup(&mut self.answers, body, len) {
            Step::Done(message) => Parsed::Message(len, message),
            Step::Malformed => Parsed::Malformed,
            Step::Skip | Step::Part => Parsed::Skip(len),
        }
    }

    /// A message of which only the beginning is at hand.
    fn begun(&mut self, direction: Direction, held: &[u8]) -> Option<Passing> {
        let &[kind, a, b, c, d, ref body @ ..] = held else { return None };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let is_typed = kind != 0 && (4..=LONGEST).contains(&len);
        let total = Some(1 + len).filter(|total| is_typed && held.len() < *total)?;
        let then = if self.client? == direction {
            self.asks.message(&mut self.answers, kind, body, total)
        } else {
            self.answers.message(kind, body, &self.asks)
        };
        Some(Passing { left: total - held.len(), then })
    }

    /// Passes `total` bytes, and then does what they are.
    fn pass(&mut self, direction: Direction, bytes: &[u8], total: usize, then: Step) -> Parsed<Message> {
        if bytes.len() < total && !matches!(then, Step::Malformed) {
            let len = bytes.len();
            let parsed = if matches!(then, Step::Skip) { Parsed::Skip(len) } else { Parsed::Part(len) };
            self.passing[direction as usize] = Some(Passing { left: total - len, then });
            return parsed;
        }
        match then {
            Step::Part => Parsed::Part(total),
            Step::Skip => Parsed::Skip(total),
            Step::Done(message) => Parsed::Message(total, message),
            Step::Malformed => Parsed::Malformed,
        }
    }
}

/// The text before the next zero, and what follows it.
fn cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests;
