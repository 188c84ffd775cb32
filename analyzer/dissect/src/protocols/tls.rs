//! TLS handshakes up to 1.3 (RFC 8446, RFC 5246): what is readable on the wire. In: records of both directions. Out: the ClientHello, and
//! the server's part with how it ended. What follows a handshake is passed over unread; nothing of it is held.

mod certificate;
mod hello;
mod names;
mod row;

use std::borrow::Cow;

use shark_schema::tables::tls::{TABLE, TlsBlock};

use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, CallTimes, Carrier, Direction, End, Gap, Layer, Meta, Parsed, Probe, Role, Successor,
    Written,
};
use crate::limits;
use crate::rows::RowSink;
use certificate::Certificate;
use hello::{ClientHello, ServerHello};

/// Bytes of a record's header.
const HEADER: usize = 5;
/// Longest record: 2^14 and what encryption adds (RFC 5246 section 6.2.3).
const RECORD: usize = (1 << 14) + 2048;
const TLS_1_3: u16 = 0x0304;

/// Content types (RFC 8446 section 5.1).
mod content {
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    pub const ALERT: u8 = 21;
    pub const HANDSHAKE: u8 = 22;
    pub const APPLICATION_DATA: u8 = 23;
    pub const HEARTBEAT: u8 = 24;
}

/// Handshake messages (RFC 8446 section 4).
mod message {
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const CERTIFICATE: u8 = 11;
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
}

/// The layer.
#[derive(Default)]
pub struct Tls {
    sides: [Side; 2],
    /// Who sent the ClientHello.
    client: Option<Direction>,
    /// The server's part so far.
    answer: Option<Box<Answer>>,
    history: String,
    /// Bytes of it are missing.
    is_cut: bool,
    is_over: bool,
}

#[derive(Default)]
struct Side {
    /// Bytes of an encrypted record that are still to come.
    left: usize,
    /// Handshake messages that are not whole yet.
    pending: Vec<u8>,
    /// Bytes of its handshake messages are missing: where the next one begins is not known.
    is_cut: bool,
    /// It changed its cipher (up to TLS 1.2).
    has_keys: bool,
    finished: bool,
}

/// A half of a handshake.
pub enum Message {
    /// ClientHello.
    Asks(Box<ClientHello>),
    /// What the server said, and how it ended.
    Answers(Box<Answer>),
}

/// The server's part, and what of the client's came after its hello.
#[derive(Debug, Default)]
pub struct Answer {
    hello: Option<ServerHello>,
    certificate: Option<Certificate>,
    client_certificate: Option<Certificate>,
    /// Group of a ServerKeyExchange.
    group: Option<u16>,
    alert: Option<(Cow<'static, str>, By)>,
    /// The last record has the length of an encrypted alert.
    ends_like_an_alert: bool,
    established: Option<bool>,
    /// It was given in another protocol.
    is_refused: bool,
    history: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Client,
    Server,
}

impl Layer for Tls {
    const NAME: &'static str = "tls";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[443, 6443, 8443];
    const TABLES: &'static [CallTable] = &[call_table::<TlsBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Tls::default()
    }

    /// A record of any version up to 3.4 that holds a ClientHello or a ServerHello.
    fn probe(bytes: &[u8]) -> Probe {
        match bytes {
            [content::HANDSHAKE, 3, 0..=4, _, _, message::CLIENT_HELLO | message::SERVER_HELLO, ..] => {
                Probe::Yes
            }
            [content::HANDSHAKE]
            | [content::HANDSHAKE, 3]
            | [content::HANDSHAKE, 3, 0..=4]
            | [content::HANDSHAKE, 3, 0..=4, _]
            | [content::HANDSHAKE, 3, 0..=4, _, _] => Probe::More,
            _ => Probe::No,
        }
    }

    fn parse(&mut self, from: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if self.is_over {
            return Parsed::Skip(bytes.len());
        }
        let side = &mut self.sides[from as usize];
        if side.left > 0 {
            let len = side.left.min(bytes.len());
            side.left -= len;
            return self.pass(from, len);
        }
        let &[kind, major, minor, high, low, ref rest @ ..] = bytes else { return Parsed::More(HEADER) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        if self.client == Some(from.opposite())
            && self.answer.is_none()
            && bytes[..HEADER].iter().all(is_text)
        {
            return self.refused();
        }
        let is_record = (content::CHANGE_CIPHER_SPEC..=content::HEARTBEAT).contains(&kind);
        if !is_record || major != 3 || minor > 4 || len > RECORD {
            return Parsed::Malformed;
        }
        if kind == content::APPLICATION_DATA {
            return self.encrypted(from, len);
        }
        let Some(body) = rest.get(..len) else { return Parsed::More(HEADER + len) };
        match kind {
            content::HANDSHAKE => self.handshake(from, body),
            content::CHANGE_CIPHER_SPEC => self.change_cipher(from),
            content::ALERT => self.alert(from, body),
            _ => self.pass(from, HEADER + len),
        }
    }

    /// Known is the place in a record whose length was seen, and at its end.
    fn gap(&mut self, from: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        if self.is_over {
            return Gap::Skip;
        }
        let side = &mut self.sides[from as usize];
        if let (0, &[_, 3, 0..=4, high, low, ..]) = (side.left, held) {
            // What it says is not known; messages that go on from it are not either.
            side.left = (HEADER + usize::from(u16::from_be_bytes([high, low]))).saturating_sub(held.len());
            side.pending = Vec::new();
            side.is_cut = true;
            self.is_cut = true;
        }
        match usize::try_from(len).ok().and_then(|len| side.left.checked_sub(len)) {
            Some(left) if side.left > 0 => side.left = left,
            _ => {
                side.left = 0;
                return Gap::Lost(None);
            }
        }
        if self.client == Some(from) { Gap::Skip } else { Gap::Part }
    }

    /// A record that begins with a hello, whose lengths and versions fit each other.
    fn resync(bytes: &[u8]) -> Option<usize> {
        memchr::memchr_iter(content::HANDSHAKE, bytes).find(|&at| {
            let &[_, 3, 0..=4, high, low, 1 | 2, 0, middle, last, 3, 0..=3, ..] = &bytes[at..] else {
                return false;
            };
            let record = usize::from(u16::from_be_bytes([high, low]));
            let hello = usize::from(u16::from_be_bytes([middle, last]));
            record <= RECORD && hello >= 38 && record >= 42
        })
    }

    fn end(&mut self, from: Direction, end: End) -> Option<Message> {
        if end == End::Gap {
            self.is_cut = true;
        }
        if self.client == Some(from) || self.is_over {
            return None;
        }
        self.is_over = true;
        self.answered(Some(end))
    }

    fn is_done(&self) -> bool {
        self.is_over
    }

    fn meta(message: &Message) -> Meta {
        match message {
            Message::Asks(hello) => Meta::new(Role::Request, size_of_val(&**hello) + hello.memory()),
            Message::Answers(answer) => Meta::new(Role::Response, size_of_val(&**answer) + answer.memory()),
        }
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut TlsBlock| row(call.request, call.response, &call.times, columns));
    }
}

/// Appends the row; at least one half is there.
fn row(
    request: Option<&Message>,
    response: Option<&Message>,
    times: &CallTimes,
    columns: &mut TlsBlock,
) -> Written {
    let asked = match request {
        Some(Message::Asks(hello)) => Some(&**hello),
        _ => None,
    };
    let answered = match response {
        Some(Message::Answers(answer)) => Some(&**answer),
        _ => None,
    };
    row::write(asked, answered, times, columns)
}

impl Tls {
    /// These bytes belong to the half that their sender is building; after its hello a client builds none.
    fn pass(&self, from: Direction, len: usize) -> Parsed<Message> {
        if self.client == Some(from) { Parsed::Skip(len) } else { Parsed::Part(len) }
    }

    fn note(&mut self, from: Direction, letter: char) {
        if self.history.len() < limits::TLS_HISTORY {
            let is_clients = self.client == Some(from);
            self.history.push(if is_clients { letter.to_ascii_uppercase() } else { letter });
        }
    }

    fn is_1_3(&self) -> bool {
        let hello = self.answer.as_ref().and_then(|answer| answer.hello.as_ref());
        hello.is_some_and(|hello| hello.version >= TLS_1_3)
    }

    fn both_finished(&self) -> bool {
        self.sides.iter().all(|side| side.finished)
    }

    fn handshake(&mut self, from: Direction, body: &[u8]) -> Parsed<Message> {
        let len = HEADER + body.len();
        let side = &mut self.sides[from as usize];
        if side.has_keys {
            // Finished: the first message under the new keys (RFC 5246 section 7.4.9).
            side.finished = true;
            self.note(from, names::letter(20));
            if self.both_finished() && self.client != Some(from) {
                self.is_over = true;
                return self.answered(None).map_or(Parsed::Skip(len), |answer| Parsed::Message(len, answer));
            }
            return self.pass(from, len);
        }
        if side.is_cut {
            return self.pass(from, len);
        }
        let side = &mut self.sides[from as usize];
        side.pending.extend_from_slice(body);
        let pending = std::mem::take(&mut side.pending);
        let mut rest = pending.as_slice();
        while let Some((&[kind, high, middle, low], more)) = rest.split_first_chunk() {
            let size = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some((message, next)) = more.split_at_checked(size) else { break };
            rest = next;
            if kind == message::CLIENT_HELLO && self.client.is_none() {
                self.client = Some(from);
                self.note(from, names::letter(kind));
                return Parsed::Message(len, Message::Asks(Box::new(ClientHello::read(message))));
            }
            if self.client.is_none() && kind != message::SERVER_HELLO {
                return Parsed::Malformed;
            }
            self.client.get_or_insert(from.opposite());
            self.message(from, kind, message);
        }
        if rest.len() > limits::TLS_MESSAGE {
            self.is_cut = true;
        } else {
            self.sides[from as usize].pending = rest.to_vec();
        }
        self.pass(from, len)
    }

    fn message(&mut self, from: Direction, kind: u8, message: &[u8]) {
        let by = if self.client == Some(from) { By::Client } else { By::Server };
        let mut letter = names::letter(kind);
        match (by, kind) {
            (By::Server, message::SERVER_HELLO) => {
                let hello = ServerHello::read(message);
                if hello.is_retry {
                    letter = 'j';
                }
                self.answer.get_or_insert_default().hello = Some(hello);
            }
            (By::Server, message::CERTIFICATE) => {
                self.answer.get_or_insert_default().certificate = Certificate::leaf(message);
            }
            (By::Server, message::SERVER_KEY_EXCHANGE) => {
                // A named curve (RFC 8422 section 5.4); the parameters of other exchanges name no group.
                if let &[3, high, low, ..] = message {
                    let group = u16::from_be_bytes([high, low]);
                    self.answer.get_or_insert_default().group = Some(group);
                }
            }
            (By::Client, message::CERTIFICATE) => {
                self.answer.get_or_insert_default().client_certificate = Certificate::leaf(message);
            }
            _ => {}
        }
        self.note(from, letter);
    }

    fn change_cipher(&mut self, from: Direction) -> Parsed<Message> {
        // TLS 1.3 sends it for old middleboxes, and it means nothing (RFC 8446 appendix D.4).
        self.sides[from as usize].has_keys = !self.is_1_3() && self.answer.is_some();
        self.note(from, 'i');
        self.pass(from, HEADER + 1)
    }

    fn alert(&mut self, from: Direction, body: &[u8]) -> Parsed<Message> {
        let len = HEADER + body.len();
        if self.both_finished() {
            // It closes a conversation that was established.
            return self.pass(from, len);
        }
        let is_plain = !self.sides[from as usize].has_keys;
        let name = match *body {
            // Warnings end nothing; in TLS 1.3 the level says nothing, these do (RFC 8446 section 6).
            [1, _] | [_, 0 | 90 | 100] if is_plain => return self.pass(from, len),
            [_, number] if is_plain => names::alert(number),
            _ => "encrypted".into(),
        };
        self.note(from, 'l');
        let by = if self.client == Some(from) { By::Client } else { By::Server };
        self.answer.get_or_insert_default().alert.get_or_insert((name, by));
        if by == By::Client || self.client.is_none() {
            return self.pass(from, len);
        }
        self.is_over = true;
        self.answered(None).map_or(Parsed::Skip(len), |answer| Parsed::Message(len, answer))
    }

    /// A record of application data: under TLS 1.3 the rest of the handshake as well (RFC 8446 section 5.2).
    fn encrypted(&mut self, from: Direction, len: usize) -> Parsed<Message> {
        let is_clients = self.client == Some(from);
        let is_like_an_alert = matches!(len, 11 | 19);
        let is_1_3 = self.is_1_3();
        let client_finished = self.client.is_some_and(|client| self.sides[client as usize].finished);
        if let Some(answer) = self.answer.as_mut().filter(|_| is_1_3) {
            if is_clients && !client_finished && answer.hello.as_ref().is_some_and(|hello| !hello.is_retry) {
                // A Finished takes more than an alert.
                if is_like_an_alert {
                    answer.alert.get_or_insert(("encrypted".into(), By::Client));
                }
                self.sides[from as usize].finished = true;
            } else if !is_clients && client_finished && is_like_an_alert && !answer.ends_like_an_alert {
                answer.ends_like_an_alert = true;
            } else if !is_clients && client_finished {
                answer.ends_like_an_alert = false;
                return self.ended();
            }
        } else if !is_clients && self.both_finished() {
            return self.ended();
        }
        self.sides[from as usize].left = len;
        self.pass(from, HEADER)
    }

    /// The server goes on to other things: its part of the handshake had ended before.
    fn ended(&mut self) -> Parsed<Message> {
        self.is_over = true;
        self.answered(None).map_or(Parsed::Malformed, Parsed::Ended)
    }

    /// The server speaks another protocol, which nobody can have agreed on: the handshake failed.
    fn refused(&mut self) -> Parsed<Message> {
        self.is_over = true;
        self.answer.get_or_insert_default().is_refused = true;
        Parsed::Become(0, self.answered(None), Successor::default())
    }

    /// The server's part as it is now; `end` where nothing more of it comes.
    fn answered(&mut self, end: Option<End>) -> Option<Message> {
        let mut answer = self.answer.take()?;
        let is_closed = matches!(end, Some(End::Fin | End::Reset));
        if answer.ends_like_an_alert && is_closed {
            answer.alert.get_or_insert(("encrypted".into(), By::Server));
        }
        let is_1_3 = answer.hello.as_ref().is_some_and(|hello| hello.version >= TLS_1_3);
        let client_finished = self.client.is_some_and(|client| self.sides[client as usize].finished);
        answer.established = match () {
            () if answer.alert.is_some() || answer.is_refused => Some(false),
            () if self.both_finished() || (is_1_3 && client_finished) => Some(true),
            () if self.is_cut || !is_closed => None,
            () => Some(false),
        };
        answer.history = std::mem::take(&mut self.history);
        Some(Message::Answers(answer))
    }
}

impl Answer {
    fn memory(&self) -> usize {
        let certificates = [&self.certificate, &self.client_certificate];
        let of = |of: &&Option<Certificate>| of.as_ref().map_or(0, Certificate::memory);
        self.history.capacity() + certificates.iter().map(of).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hellos_are_told_from_other_bytes() {
        assert_eq!(Tls::probe(&[22, 3, 1, 0, 200, 1, 0]), Probe::Yes);
        assert_eq!(Tls::probe(&[22, 3, 3, 0, 200, 2]), Probe::Yes);
        assert_eq!(Tls::probe(&[22, 3, 1]), Probe::More);
        assert_eq!(Tls::probe(&[23, 3, 3, 0, 200, 1]), Probe::No);
        assert_eq!(Tls::probe(b"GET / HTTP/1.1\r\n"), Probe::No);
        let hello = [&b"\x16\x16 noise"[..], &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 9]].concat();
        assert_eq!(Tls::resync(&hello), Some(8));
        assert_eq!(Tls::resync(&hello[..18]), None);
    }

    /// The record announces more than a record may hold.
    #[test]
    fn what_is_no_record_is_malformed() {
        let mut tls = Tls::default();
        let too_long = [22, 3, 1, 0xff, 0xff, 1];
        assert!(matches!(tls.parse(Direction::Forward, &too_long, None), Parsed::Malformed));
        assert!(matches!(tls.parse(Direction::Forward, b"HTTP/1.1 200", None), Parsed::Malformed));
        // A certificate without any hello.
        let certificate = [22, 3, 3, 0, 4, 11, 0, 0, 0];
        assert!(matches!(tls.parse(Direction::Forward, &certificate, None), Parsed::Malformed));
    }

    /// A message that never ends is given up, and what follows is still told.
    #[test]
    fn a_long_message_is_not_held() {
        let mut tls = Tls::default();
        let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0, 5, 1, 0]);
        assert!(matches!(tls.parse(Direction::Forward, &hello, None), Parsed::Message(50, Message::Asks(_))));
        let record = [&[22, 3, 3, 0x40, 0, 11, 0xff, 0xff, 0xff][..], &[0; 16380]].concat();
        for _ in 0..100 {
            assert!(matches!(tls.parse(Direction::Backward, &record, None), Parsed::Part(_)));
            assert!(tls.sides[1].pending.len() <= limits::TLS_MESSAGE);
        }
        assert!(tls.is_cut);
    }

    proptest! {
        #[test]
        fn any_records(bodies in prop::collection::vec((20..25_u8, prop::collection::vec(any::<u8>(), 0..80)), 1..30)) {
            let mut tls = Tls::default();
            for (at, (kind, body)) in bodies.iter().enumerate() {
                let from = [Direction::Forward, Direction::Backward][at % 2];
                let record = [&[*kind, 3, 3, 0, body.len() as u8][..], body].concat();
                tls.parse(from, &record, None);
            }
            tls.end(Direction::Backward, End::Fin);
        }
    }
}
