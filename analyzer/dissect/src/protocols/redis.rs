//! Redis, RESP2 and RESP3 (redis.io/docs/latest/develop/reference/protocol-spec): commands and replies in, a row for each command and
//! for each push out. Both sides send the same kinds of values, so who asks is learnt from what is said. Never holds a value.

mod commands;
mod resp;
mod row;
mod value;

use shark_schema::tables::redis::{RedisBlock, TABLE};

use crate::batch::{CallTable, call_table};
use crate::layer::{Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Parsed, Probe, Role};
use crate::rows::RowSink;
use row::{Command, Reply};
use value::{Skipped, Step, Value};

/// The layer.
#[derive(Default)]
pub struct Redis {
    halves: [Value; 2],
    /// Who asks, once a message has told.
    client: Option<Direction>,
    /// Database of the next command.
    db: Option<i32>,
    silence: Silence,
    /// Confirmations to come for a subscription whose first was its reply.
    confirmations: u64,
    /// Messages of channels may come at any time.
    is_subscriber: bool,
    /// So may lines about the commands of others.
    is_monitor: bool,
    /// A replica's connection: what follows is a stream of its own.
    is_replication: bool,
}

/// What CLIENT REPLY asked for.
#[derive(Clone, Copy, Default, PartialEq)]
enum Silence {
    #[default]
    None,
    /// The next command has no reply.
    Next,
    /// No command has.
    All,
}

/// A message.
#[derive(Debug)]
pub enum Message {
    /// Of the client.
    Command(Command),
    /// Of the server.
    Reply(Reply),
}

impl Layer for Redis {
    const NAME: &'static str = "redis";
    const OVER: Carrier = Carrier::Stream;
    /// Redis, the same with TLS inside, Sentinel, and further nodes on one host.
    const PORTS: &'static [u16] = &[6379, 6380, 26379, 7000, 7001];
    const TABLES: &'static [CallTable] = &[call_table::<RedisBlock>(&TABLE)];
    const LOSSY_START: bool = true;
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Redis::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        match bytes.first() {
            Some(first) if first.is_ascii_alphabetic() => inline(bytes),
            _ => resp::begins(bytes, commands::is_known),
        }
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], open: Option<&Message>) -> Parsed<Message> {
        if self.is_replication {
            return Parsed::Skip(bytes.len());
        }
        let value = &mut self.halves[direction as usize];
        if value.is_fresh() {
            match bytes.first() {
                // Servers ignore empty lines, and write them to a replica while it has to wait.
                Some(b'\r' | b'\n') => return Parsed::Skip(1),
                Some(first) if first.is_ascii_alphabetic() => return self.inline(direction, bytes),
                _ => {}
            }
        }
        match value.read(bytes) {
            Step::Partial(len) => Parsed::Part(len),
            Step::Wait(len) => Parsed::More(len),
            Step::Bad => Parsed::Malformed,
            Step::Whole(len) => {
                let message = self.message(direction, open);
                self.halves[direction as usize].clear();
                message.map_or(Parsed::Malformed, |message| Parsed::Message(len, message))
            }
        }
    }

    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, open: Option<&Message>) -> Gap<Message> {
        if self.is_replication {
            return Gap::Skip;
        }
        // Of the content of a bulk string nothing is held, but perhaps a CR behind it.
        let lost = match held {
            [] => len,
            [b'\r'] => len + 1,
            _ => return Gap::Lost(None),
        };
        match self.halves[direction as usize].skip(lost) {
            Skipped::Inside => Gap::Part,
            Skipped::Whole => {
                let message = self.message(direction, open);
                self.halves[direction as usize].clear();
                message.map_or(Gap::Lost(None), Gap::Message)
            }
            Skipped::Beyond => Gap::Lost(None),
        }
    }

    /// The start of a command, or of a reply that is like nothing else, at the start of a line.
    fn resync(bytes: &[u8]) -> Option<usize> {
        let begins = |at: usize| resp::begins(&bytes[at..], commands::is_known) == Probe::Yes;
        let lines = memchr::memchr_iter(b'\n', bytes).map(|end| end + 1);
        let after_crlf = |at: &usize| *at == 0 || bytes[..*at].ends_with(b"\r\n");
        std::iter::once(0).chain(lines).filter(after_crlf).find(|&at| begins(at))
    }

    fn end(&mut self, direction: Direction, end: End) -> Option<Message> {
        self.halves[direction as usize].clear();
        if end == End::Gap {
            // What was lost may have been a SELECT or a CLIENT REPLY.
            (self.db, self.silence, self.confirmations) = (None, Silence::None, 0);
        }
        None
    }

    fn meta(message: &Message) -> Meta {
        let (role, is_alone, memory) = match message {
            Message::Command(command) => (Role::Request, command.is_unanswered, command.memory()),
            Message::Reply(reply) => (Role::Response, reply.push.is_some(), reply.memory()),
        };
        Meta::new(role, size_of::<Message>() + memory).alone_if(is_alone)
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut RedisBlock| row::write(call.request, call.response, columns));
    }
}

impl Redis {
    /// A command on a line: where the sender is known to ask, or the line is a word only a client of Redis sends.
    fn inline(&mut self, direction: Direction, bytes: &[u8]) -> Parsed<Message> {
        match self.client {
            Some(client) if client != direction => return Parsed::Malformed,
            None if inline(bytes) == Probe::No => return Parsed::Malformed,
            _ => {}
        }
        let Some(line) = resp::line(bytes, resp::LINE) else {
            return if bytes.len() < resp::LINE { Parsed::More(bytes.len() + 1) } else { Parsed::Malformed };
        };
        let mut value = std::mem::take(&mut self.halves[direction as usize]);
        value.texts.split(line);
        let command = self.command(&value, value.texts.len());
        value.clear();
        self.halves[direction as usize] = value;
        self.client = Some(direction);
        command.map_or(Parsed::Malformed, |command| Parsed::Message(line.len(), Message::Command(command)))
    }

    /// The value that just came to its end, as a message.
    fn message(&mut self, direction: Direction, open: Option<&Message>) -> Option<Message> {
        let value = std::mem::take(&mut self.halves[direction as usize]);
        let shape = &value.shape;
        let is_command = shape.kind == b'*' && shape.is_flat && shape.count > 0;
        let word = value.texts.get(0).unwrap_or_default();
        if self.client.is_none() {
            // An array of unknown words may come from either side: it counts as a reply and settles nothing.
            self.client = match (is_command && commands::is_known(word), shape.kind) {
                (true, _) => Some(direction),
                (false, b'*') => None,
                (false, _) => Some(direction.opposite()),
            };
        }
        let message = if self.client == Some(direction) {
            let count = usize::try_from(shape.count).unwrap_or(usize::MAX);
            is_command.then(|| self.command(&value, count)).flatten().map(Message::Command)
        } else {
            let open = match open {
                Some(Message::Command(command)) => Some(command),
                _ => None,
            };
            Some(Message::Reply(self.reply(&value, open)))
        };
        self.halves[direction as usize] = value;
        message
    }

    /// `count` words, of which the first are in `value`.
    fn command(&mut self, value: &Value, count: usize) -> Option<Command> {
        let mut command = Command::new(&value.texts, count, self.db)?;
        let argument = |at: usize| value.texts.get(at + 1).unwrap_or_default();
        command.is_unanswered = self.silence != Silence::None;
        if self.silence == Silence::Next {
            self.silence = Silence::None;
        }
        match command.name.as_ref() {
            "SELECT" => {
                self.db = resp::integer(argument(0)).and_then(|db| i32::try_from(db).ok()).or(self.db);
            }
            "RESET" => (self.db, self.is_monitor, self.is_subscriber) = (Some(0), false, false),
            "MONITOR" => self.is_monitor = true,
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" => self.is_subscriber = true,
            "CLIENT" if argument(0).eq_ignore_ascii_case(b"REPLY") => {
                self.silence = match argument(1).to_ascii_uppercase().as_slice() {
                    b"OFF" => Silence::All,
                    b"SKIP" if self.silence == Silence::None => Silence::Next,
                    b"ON" => Silence::None,
                    _ => return Some(command),
                };
                command.is_unanswered = self.silence != Silence::None;
            }
            // Its reply is a file without an end that could be known.
            "SYNC" => (self.is_replication, command.is_unanswered) = (true, true),
            _ => {}
        }
        Some(command)
    }

    fn reply(&mut self, value: &Value, open: Option<&Command>) -> Reply {
        let mut reply = Reply::new(&value.shape);
        if self.is_asked(value, open) {
            let asked = open.map(|command| command.name.as_ref());
            match asked {
                Some("SELECT") if reply.error.is_some() => self.db = open.and_then(|command| command.db),
                Some("PSYNC") if reply.error.is_none() => self.is_replication = true,
                _ => {}
            }
        } else if value.shape.kind == b'+' {
            reply.push = Command::named("MONITOR");
        } else {
            reply.push = Command::new(&value.texts, value.texts.len(), None);
        }
        reply
    }

    /// Does it answer a command? Pushes do not, but for the confirmation of what was asked for: RESP3 has a type for them, in
    /// RESP2 they are arrays that begin with their kind.
    fn is_asked(&mut self, value: &Value, open: Option<&Command>) -> bool {
        let (shape, kind) = (&value.shape, value.texts.get(0).unwrap_or_default());
        match (shape.kind, shape.count) {
            // A time stamp with a fraction, then the database and the address in brackets, then the command.
            (b'+', _) => !(self.is_monitor && shape.first.is_ascii_digit()),
            (b'>', _) | (b'*', 3..=4) => match kind {
                b"subscribe" | b"psubscribe" | b"ssubscribe" | b"unsubscribe" | b"punsubscribe"
                | b"sunsubscribe"
                    if !shape.is_flat =>
                {
                    self.confirms(kind, open)
                }
                b"message" | b"pmessage" | b"smessage" if self.is_subscriber || open.is_none() => false,
                _ => shape.kind == b'*',
            },
            _ => true,
        }
    }

    /// A confirmation for each channel: the first is the reply.
    fn confirms(&mut self, kind: &[u8], open: Option<&Command>) -> bool {
        if self.confirmations > 0 {
            self.confirmations -= 1;
            return false;
        }
        let asked = open.filter(|command| command.name.as_bytes().eq_ignore_ascii_case(kind));
        self.confirmations = asked.map_or(0, |command| command.arguments.saturating_sub(1) as u64);
        asked.is_some()
    }
}

/// A line that only a client of Redis sends.
fn inline(bytes: &[u8]) -> Probe {
    const LONGEST: usize = 12;
    let upper = bytes[..bytes.len().min(LONGEST)].to_ascii_uppercase();
    super::begins_with(&upper, commands::INLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Direction = Direction::Forward;
    const SERVER: Direction = Direction::Backward;

    fn said(redis: &mut Redis, direction: Direction, bytes: &[u8], open: Option<&Message>) -> Message {
        match redis.parse(direction, bytes, open) {
            Parsed::Message(len, message) if len == bytes.len() => message,
            _ => panic!("no message: {bytes:?}"),
        }
    }

    #[test]
    fn a_push_leaves_the_open_command_alone() {
        let mut redis = Redis::default();
        let get = said(&mut redis, CLIENT, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", None);
        let push = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        assert!(Redis::meta(&said(&mut redis, SERVER, push, Some(&get))).is_alone());
        // An array of the same words is the reply where nothing was subscribed to.
        let array = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        assert!(!Redis::meta(&said(&mut redis, SERVER, array, Some(&get))).is_alone());
        let subscribe = said(&mut redis, CLIENT, b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n", None);
        let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        assert!(!Redis::meta(&said(&mut redis, SERVER, confirmation, Some(&subscribe))).is_alone());
        assert!(Redis::meta(&said(&mut redis, SERVER, confirmation, Some(&subscribe))).is_alone());
        assert!(Redis::meta(&said(&mut redis, SERVER, array, Some(&get))).is_alone());
    }

    #[test]
    fn a_refused_select_changes_nothing() {
        let mut redis = Redis::default();
        let db = |redis: &mut Redis| match said(redis, CLIENT, b"*1\r\n$4\r\nPING\r\n", None) {
            Message::Command(command) => command.db,
            Message::Reply(_) => None,
        };
        assert_eq!(db(&mut redis), None);
        said(&mut redis, CLIENT, b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n", None);
        let refused = said(&mut redis, CLIENT, b"*2\r\n$6\r\nselect\r\n$2\r\n99\r\n", None);
        said(&mut redis, SERVER, b"-ERR DB index is out of range\r\n", Some(&refused));
        assert_eq!(db(&mut redis), Some(2));
        redis.end(CLIENT, End::Gap);
        assert_eq!(db(&mut redis), None);
    }

    #[test]
    fn lines_are_commands_of_who_asks() {
        assert!(matches!(Redis::default().parse(CLIENT, b"get key\r\n", None), Parsed::Malformed));
        let mut redis = Redis::default();
        said(&mut redis, CLIENT, b"PING\r\n", None);
        let Message::Command(command) = said(&mut redis, CLIENT, b"auth 'my pass'\r\n", None) else {
            panic!("a line is a command")
        };
        assert_eq!((command.name.as_ref(), command.args.as_deref()), ("AUTH", Some("?")));
        assert!(matches!(redis.parse(SERVER, b"get key\r\n", None), Parsed::Malformed));
        assert!(matches!(redis.parse(CLIENT, b"\r\n", None), Parsed::Skip(1)));
    }

    #[test]
    fn a_replica_gets_a_stream_that_is_no_reply() {
        let mut redis = Redis::default();
        let psync = said(&mut redis, CLIENT, b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n", None);
        said(&mut redis, SERVER, b"+FULLRESYNC 0 1\r\n", Some(&psync));
        assert!(matches!(redis.parse(SERVER, b"$9\r\nREDIS0011", None), Parsed::Skip(13)));
        assert!(matches!(redis.gap(SERVER, b"", 100, None), Gap::Skip));
    }

    #[test]
    fn begins_like_nothing_else() {
        let yes: [&[u8]; 6] = [
            b"*1\r\n$4\r\nping\r\n",
            b"PING\r\n",
            b"+OK\r\n",
            b"-NOAUTH A",
            b"*2\r\n$8\r\nJSON.GET\r\n$1",
            b"info\r\n",
        ];
        let no: [&[u8]; 8] = [
            b"+OK POP3 ready\r\n",
            b"-ERR no mailbox\r\n",
            b"*2\r\n$5\r\nhowdy\r\n$1",
            b"$5\r\nhello\r\n",
            b"PING :irc\r\n",
            b"QUIT\r\n",
            b"get key\r\n",
            b"POST / ",
        ];
        assert!(yes.iter().all(|bytes| Redis::probe(bytes) == Probe::Yes));
        assert!(no.iter().all(|bytes| Redis::probe(bytes) == Probe::No));
        for bytes in yes {
            let shorter = bytes.len() - if bytes.starts_with(b"*2") { 2 } else { 1 };
            assert!((0..shorter).all(|len| Redis::probe(&bytes[..len]) != Probe::No), "{bytes:?}");
        }
        assert_eq!(Redis::resync(b"lo\r\n*1\r\n$4\r\nPING\r\n"), Some(4));
        assert_eq!(Redis::resync(b"lo *1\r\n$4\r\nPING\r\n"), None);
    }
}
