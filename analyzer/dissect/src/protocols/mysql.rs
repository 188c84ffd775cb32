//! MySQL and MariaDB, protocol 10 ("Client/Server Protocol" of both manuals): where packets begin and end, which of them ask and which
//! answer. In: the bytes of both directions. Out: a login and commands, each with its answer. Rows of data are counted and passed,
//! never held, and what a login proves itself with is not looked at. What is compressed is passed unread.

mod answers;
mod asks;
mod row;
mod shape;
mod wire;

use std::cmp::Ordering;
use std::sync::Arc;

use shark_schema::tables::db::{DbBlock, TABLE};

use self::answers::Answers;
use self::asks::{Asks, Command};
use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Parsed, Probe, Role, Successor,
};
use crate::limits;
use crate::rows::RowSink;

/// The layer.
#[derive(Default)]
pub struct Mysql {
    client: Option<Direction>,
    /// What is left of a packet, or of a message that goes on in the next one.
    passing: [Option<Passing>; 2],
    asks: Asks,
    answers: Answers,
}

struct Passing {
    left: usize,
    /// Another packet of the same message follows.
    goes_on: bool,
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
    /// TLS follows.
    Become,
    Malformed,
}

/// Whose login it is, and its default database.
#[derive(Clone, Debug, Default)]
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
    session: Option<Arc<Session>>,
    command: Command,
    statement: Option<Arc<str>>,
    statement_id: Option<u32>,
}

/// What the server answers.
#[derive(Debug, Default)]
pub struct Response {
    session: Option<Arc<Session>>,
    /// Rows of data, or else those that were changed.
    rows: Option<u64>,
    statement_id: Option<u32>,
    error: Option<Failure>,
    /// Nobody asked.
    unasked: bool,
}

/// What an ERR packet says.
#[derive(Debug, Default)]
struct Failure {
    code: u16,
    sqlstate: Option<String>,
    message: String,
}

/// Bytes of length and sequence number.
const HEAD: usize = 4;
/// A packet of this length goes on in the next one.
const FULL: usize = 0xff_ffff;
/// What is needed of a command: its text, and attributes before it.
const NEEDED: usize = limits::STATEMENT_BYTES + 512;
/// What is needed of an answer's packet.
const NEEDED_OF_ANSWER: usize = limits::NAME_BYTES;

impl Layer for Mysql {
    const NAME: &'static str = "mysql";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[3306, 3307, 6033];
    const TABLES: &'static [CallTable] = &[call_table::<DbBlock>(&TABLE)];
    const LOSSY_START: bool = true;
    const TAKES_TURNS: bool = true;
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Mysql::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        shape::probe(bytes)
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], open: Option<&Message>) -> Parsed<Message> {
        if self.asks.is_compressed() && self.answers.is_logged_in() {
            return Parsed::Skip(bytes.len());
        }
        if let Some(passing) = self.passing[direction as usize].take() {
            return self.go_on(direction, bytes, passing);
        }
        let Some((len, sequence, rest)) = head(bytes) else { return Parsed::More(HEAD) };
        let from_client = match (self.client, rest.first()) {
            (Some(client), _) => client == direction,
            (None, None) if len > 0 => return Parsed::More(HEAD + 1),
            (None, _) => self.orient(direction, sequence, rest, len),
        };
        let needed =
            if from_client { NEEDED } else { self.answers.needed(rest.first().copied(), NEEDED_OF_ANSWER) };
        let needed = len.min(needed);
        let Some(body) = rest.get(..needed) else { return Parsed::More(HEAD + needed) };
        let step = self.packet(from_client, sequence, body, len, open);
        self.pass(direction, bytes, HEAD, Passing { left: len, goes_on: len == FULL, then: step })
    }

    /// Known is the place inside of a packet whose length was seen, and at its end.
    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, open: Option<&Message>) -> Gap<Message> {
        let passing = self.passing[direction as usize].take().filter(|passing| passing.left > 0);
        let passing = passing.or_else(|| self.begun(direction, held, open));
        let (Some(Passing { left, goes_on, then }), Ok(len)) = (passing, usize::try_from(len)) else {
            return Gap::Lost(None);
        };
        let is_client = self.client == Some(direction);
        match (len.cmp(&left), then) {
            (Ordering::Less, then) => {
                self.passing[direction as usize] = Some(Passing { left: left - len, goes_on, then });
                Gap::Part
            }
            (Ordering::Equal, then) if goes_on => {
                self.passing[direction as usize] = Some(Passing { left: 0, goes_on, then });
                Gap::Part
            }
            (Ordering::Equal, Step::Part) => Gap::Part,
            (Ordering::Equal, Step::Skip) => Gap::Skip,
            (Ordering::Equal, Step::Done(message)) => Gap::Message(message),
            (Ordering::Greater, Step::Done(message)) if is_client => Gap::Lost(Some(message)),
            _ => Gap::Lost(None),
        }
    }

    /// What was prepared stays prepared.
    fn recover(&mut self, _: &Options) {
        self.passing = [None, None];
        self.answers.lose_place();
        self.asks.lose_place();
    }

    fn resync(bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| shape::begins(&bytes[at..]))
    }

    fn end(&mut self, direction: Direction, end: End) -> Option<Message> {
        let passing = self.passing[direction as usize].take();
        if end == End::Gap {
            self.answers.lose_place();
            if self.client == Some(direction) {
                self.asks.lose_place();
            }
        }
        match passing.map(|passing| passing.then) {
            // What was needed of it is there.
            Some(Step::Done(message)) if end != End::Gap => Some(message),
            _ => None,
        }
    }

    fn held(&self) -> usize {
        self.asks.memory()
    }

    fn meta(message: &Message) -> Meta {
        let (role, is_alone, memory) = match message {
            Message::Request(request) => {
                let memory = request.statement.as_ref().map_or(0, |text| text.len());
                (Role::Request, request.command.is_one_way(), memory)
            }
            Message::Response(response) => {
                let memory = response.error.as_ref().map_or(0, |error| error.message.len());
                (Role::Response, response.unasked, memory)
            }
        };
        Meta::new(role, size_of::<Message>() + memory).alone_if(is_alone)
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut DbBlock| row::write(call.request, call.response, columns));
    }
}

impl Mysql {
    /// Who sends this, of whom nothing was seen: servers greet, clients count each command from 0.
    fn orient(&mut self, direction: Direction, sequence: u8, body: &[u8], len: usize) -> bool {
        let is_server = match sequence {
            0 => len > 1 && matches!(body.first(), Some(0x0a | 0xff)),
            _ => !shape::is_login(body, len),
        };
        self.client = Some(if is_server { direction.opposite() } else { direction });
        !is_server
    }

    /// A packet of which only the beginning is at hand.
    fn begun(&mut self, direction: Direction, held: &[u8], open: Option<&Message>) -> Option<Passing> {
        let (len, sequence, body) = head(held).filter(|(len, _, body)| (1..*len).contains(&body.len()))?;
        let then = self.packet(self.client? == direction, sequence, body, len, open);
        Some(Passing { left: len - body.len(), goes_on: len == FULL, then })
    }

    fn packet(
        &mut self,
        from_client: bool,
        sequence: u8,
        body: &[u8],
        len: usize,
        open: Option<&Message>,
    ) -> Step {
        if from_client {
            return self.asks.packet(&mut self.answers, sequence, body, len);
        }
        let asked = open.and_then(|open| match open {
            Message::Request(request) => Some(request),
            Message::Response(_) => None,
        });
        self.answers.packet(&mut self.asks, asked, sequence, body, len)
    }

    /// Passes a packet from behind its head, and then does what it is.
    fn pass(&mut self, direction: Direction, bytes: &[u8], at: usize, passing: Passing) -> Parsed<Message> {
        if matches!(passing.then, Step::Malformed) {
            return Parsed::Malformed;
        }
        let take = passing.left.min(bytes.len() - at);
        let len = at + take;
        let left = passing.left - take;
        if left > 0 || passing.goes_on {
            let parsed =
                if matches!(passing.then, Step::Skip) { Parsed::Skip(len) } else { Parsed::Part(len) };
            self.passing[direction as usize] = Some(Passing { left, ..passing });
            return parsed;
        }
        match passing.then {
            Step::Part => Parsed::Part(len),
            Step::Skip => Parsed::Skip(len),
            Step::Done(message) => Parsed::Message(len, message),
            Step::Become => Parsed::Become(len, None, Successor::tls()),
            Step::Malformed => Parsed::Malformed,
        }
    }

    fn go_on(&mut self, direction: Direction, bytes: &[u8], passing: Passing) -> Parsed<Message> {
        if passing.left > 0 {
            return self.pass(direction, bytes, 0, passing);
        }
        match head(bytes) {
            Some((len, ..)) => {
                self.pass(direction, bytes, HEAD, Passing { left: len, goes_on: len == FULL, ..passing })
            }
            None => {
                self.passing[direction as usize] = Some(passing);
                Parsed::More(HEAD)
            }
        }
    }
}

/// Length, sequence number and what follows.
fn head(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let (&[a, b, c, sequence], rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes([a, b, c, 0]) as usize, sequence, rest))
}

#[cfg(test)]
mod tests;
