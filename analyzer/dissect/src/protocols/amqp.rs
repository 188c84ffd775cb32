//! AMQP 0-9-1 (amqp0-9-1.pdf): frames of both directions in, a row for each method and its answer out. A method that carries content is
//! one message with the content's frames, whose bodies pass through. AMQP 1.0 is another protocol and is left alone.

mod method;
mod row;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use shark_schema::tables::amqp::{AmqpBlock, TABLE};

use crate::batch::{CallTable, call_table};
use crate::layer::{Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Pairing, Parsed, Probe, Role};
use crate::rows::RowSink;
pub use method::Message;
use method::{Arguments, Part, Side};

/// The layer.
#[derive(Default)]
pub struct Amqp {
    halves: [Half; 2],
    /// Who connected, once a method has told.
    client: Option<Direction>,
    /// What the connection was opened for.
    vhost: Option<Arc<str>>,
    /// How often each channel was opened.
    opened: FxHashMap<u16, u16>,
}

/// One direction.
#[derive(Default)]
struct Half {
    /// Methods whose content is under way, at most one a channel.
    contents: Vec<Content>,
    /// The body frame that is open.
    body: Option<Body>,
}

struct Content {
    message: Message,
    /// Body bytes to come; `None` before the content's header.
    left: Option<u64>,
}

struct Body {
    channel: u16,
    /// Payload to come.
    left: u64,
}

/// What a client sends first (section 4.2.2).
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// Type, channel and size before a payload.
const BEFORE: usize = 7;
/// What stands after it.
const FRAME_END: u8 = 0xce;
/// Longest frame that is not a body: what RabbitMQ offers.
const LONGEST: usize = 128 * 1024;
/// Channels remembered to have been opened.
const CHANNELS: usize = 2048;
/// Contents under way in one direction.
const CONTENTS: usize = 64;

impl Layer for Amqp {
    const NAME: &'static str = "amqp";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[5672, 5671];
    const TABLES: &'static [CallTable] = &[call_table::<AmqpBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Amqp::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        match bytes.first() {
            Some(b'A') if bytes.starts_with(HEADER) => Probe::Yes,
            Some(b'A') if HEADER.starts_with(bytes) => Probe::More,
            _ => begins(bytes),
        }
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        let half = &mut self.halves[direction as usize];
        if half.body.is_some() {
            return half.body(bytes);
        }
        if bytes.first() == Some(&b'A') {
            return match bytes.get(..HEADER.len()) {
                None => Parsed::More(HEADER.len()),
                Some(HEADER) => Parsed::Skip(HEADER.len()),
                Some(_) => Parsed::Malformed,
            };
        }
        let Some((kind, channel, size)) = frame(bytes) else {
            return if bytes.len() < BEFORE { Parsed::More(BEFORE) } else { Parsed::Malformed };
        };
        if kind == 3 {
            half.body = Some(Body { channel, left: size as u64 });
            return half.pass(channel, BEFORE);
        }
        let len = BEFORE + size + 1;
        if size > LONGEST {
            return Parsed::Malformed;
        }
        let payload = match (bytes.get(BEFORE..len - 1), bytes.get(len - 1)) {
            (Some(payload), Some(&FRAME_END)) => payload,
            (_, None) => return Parsed::More(len),
            _ => return Parsed::Malformed,
        };
        match kind {
            1 => self.method(direction, channel, payload),
            2 => half.header(channel, payload),
            _ => Parsed::Skip(len),
        }
    }

    /// Known is the place in a frame whose size was seen, and at its end.
    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let half = &mut self.halves[direction as usize];
        if let Some(body) = &mut half.body {
            let channel = body.channel;
            let came = len.min(body.left);
            body.left -= came;
            half.came(came);
            return match len - came {
                0 => half.lost(channel),
                // The end of the frame too.
                1 => {
                    half.body = None;
                    half.finish(channel, 0).into_gap()
                }
                _ => Gap::Lost(None),
            };
        }
        let Some((kind, channel, size)) = frame(held) else { return Gap::Lost(None) };
        let total = (BEFORE + size + 1) as u64;
        let payload = &held[BEFORE..held.len().min(BEFORE + size)];
        match (held.len() as u64 + len == total, kind) {
            (true, 1) if payload.len() >= 4 => self.method(direction, channel, payload).into_gap(),
            (true, 2) => half.header(channel, payload).into_gap(),
            (true, 8) => Gap::Skip,
            _ => Gap::Lost(None),
        }
    }

    /// A whole frame of a known method, with its end where its size says.
    fn resync(bytes: &[u8]) -> Option<usize> {
        memchr::memchr2_iter(1, 8, bytes).find(|&at| begins(&bytes[at..]) == Probe::Yes)
    }

    fn end(&mut self, direction: Direction, _: End) -> Option<Message> {
        let half = std::mem::take(&mut self.halves[direction as usize]);
        half.contents.into_iter().next().map(|content| content.message)
    }

    fn meta(message: &Message) -> Meta {
        let role = match message.method.part {
            Part::Answers(_) | Part::AnswersWith(_) => Role::Response,
            // What the broker sends and nobody answers stands where answers do.
            _ if is_alone(message) && !message.from_client => Role::Response,
            _ => Role::Request,
        };
        let key = key(message);
        Meta {
            from_client: message.from_client,
            parts: Some(key),
            pairing: if is_alone(message) { Pairing::Alone } else { Pairing::InOrderOf(key) },
            ..Meta::new(role, size_of::<Message>() + message.arguments.memory())
        }
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut AmqpBlock| row::write(call.request, call.response, columns));
    }
}

impl Amqp {
    /// A method frame, whole.
    fn method(&mut self, direction: Direction, channel: u16, payload: &[u8]) -> Parsed<Message> {
        let len = BEFORE + payload.len() + 1;
        let half = &mut self.halves[direction as usize];
        // A method breaks off the content before it on its channel.
        half.contents.retain(|content| content.message.channel != channel);
        let Some(method) = method::method_of(payload) else { return Parsed::Skip(len) };
        let from_client = match (method.side, self.client) {
            (Side::Client, _) => true,
            (Side::Server, _) => false,
            (Side::Either, client) => client.is_none_or(|client| client == direction),
        };
        if method.side != Side::Either {
            let client = if from_client { direction } else { direction.opposite() };
            self.client.get_or_insert(client);
        }
        let mut arguments = Arguments::default();
        let no_wait = arguments.read(method, payload);
        if let Some(vhost) = &arguments.vhost {
            self.vhost = Some(vhost.as_ref().into());
        }
        if method.name == "channel.open"
            && (self.opened.len() < CHANNELS || self.opened.contains_key(&channel))
        {
            let times = self.opened.entry(channel).or_default();
            *times = times.wrapping_add(1);
        }
        let opened = self.opened.get(&channel).copied().unwrap_or_default();
        let vhost = self.vhost.clone();
        let message = Message { method, channel, opened, from_client, no_wait, vhost, arguments };
        if !matches!(method.part, Part::Carries | Part::AnswersWith(_)) {
            return Parsed::Message(len, message);
        }
        if half.contents.len() >= CONTENTS {
            half.contents.remove(0);
        }
        half.contents.push(Content { message, left: None });
        half.pass(channel, len)
    }
}

impl Half {
    /// A content header, whole.
    fn header(&mut self, channel: u16, payload: &[u8]) -> Parsed<Message> {
        let len = BEFORE + payload.len() + 1;
        if let Some(content) = self.contents.iter_mut().find(|content| content.message.channel == channel) {
            content.left = content.message.arguments.read_content(payload);
        }
        self.finish(channel, len)
    }

    /// The payload of a body frame, then its end.
    fn body(&mut self, bytes: &[u8]) -> Parsed<Message> {
        let Some(Body { channel, left }) = &mut self.body else { return Parsed::Malformed };
        if *left > 0 {
            let len = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let channel = *channel;
            *left -= len as u64;
            self.came(len as u64);
            return self.pass(channel, len);
        }
        let channel = *channel;
        self.body = None;
        if bytes.first() == Some(&FRAME_END) { self.finish(channel, 1) } else { Parsed::Malformed }
    }

    /// So many bytes of the open body frame came.
    fn came(&mut self, len: u64) {
        let Some(channel) = self.body.as_ref().map(|body| body.channel) else { return };
        let content = self.contents.iter_mut().find(|content| content.message.channel == channel);
        if let Some(left) = content.and_then(|content| content.left.as_mut()) {
            *left = left.saturating_sub(len);
        }
    }

    /// A frame of a content ends after these bytes: the content too?
    fn finish(&mut self, channel: u16, len: usize) -> Parsed<Message> {
        let is_whole = |content: &Content| content.message.channel == channel && content.left == Some(0);
        match self.contents.iter().position(is_whole) {
            Some(at) => Parsed::Message(len, self.contents.remove(at).message),
            None => self.pass(channel, len),
        }
    }

    /// Bytes of the content of a channel, where one is under way.
    fn pass(&self, channel: u16, len: usize) -> Parsed<Message> {
        self.key(channel).map_or(Parsed::Skip(len), |key| Parsed::PartOf(len, key))
    }

    /// Missing ones.
    fn lost(&self, channel: u16) -> Gap<Message> {
        self.key(channel).map_or(Gap::Skip, Gap::PartOf)
    }

    fn key(&self, channel: u16) -> Option<u64> {
        let content = self.contents.iter().find(|content| content.message.channel == channel)?;
        Some(key(&content.message))
    }
}

/// The channel, as of its last opening, and the method that is answered: a channel that was closed for an error left something
/// unanswered, and its number is used again.
fn key(message: &Message) -> u64 {
    let id = match message.method.part {
        Part::Answers(id) | Part::AnswersWith(id) => id,
        _ => message.method.id,
    };
    let method = u64::from(message.method.class) << 8 | u64::from(id);
    u64::from(message.opened) << 32 | u64::from(message.channel) << 16 | method
}

/// Nothing answers it.
fn is_alone(message: &Message) -> bool {
    message.no_wait || matches!(message.method.part, Part::Alone | Part::Carries)
}

/// Type, channel and size of a frame (section 2.3).
fn frame(bytes: &[u8]) -> Option<(u8, u16, usize)> {
    let &[kind @ (1 | 2 | 3 | 8), high, low, a, b, c, d, ..] = bytes else { return None };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    Some((kind, u16::from_be_bytes([high, low]), size))
}

/// Does a frame begin here that tells the protocol? A method with its end where its size says, or a heartbeat.
fn begins(bytes: &[u8]) -> Probe {
    const HEARTBEAT: &[u8] = &[8, 0, 0, 0, 0, 0, 0, FRAME_END];
    /// Where RabbitMQ counts channels to, unless set higher.
    const HIGHEST: u16 = 2047;
    match (bytes.first(), frame(bytes)) {
        (Some(8), _) if bytes.starts_with(HEARTBEAT) => Probe::Yes,
        (Some(8), _) if HEARTBEAT.starts_with(bytes) => Probe::More,
        (Some(1), Some((_, channel, size))) => {
            let payload = &bytes[BEFORE..];
            let plausible = channel <= HIGHEST && (4..=LONGEST).contains(&size);
            match (method::method_of(payload), bytes.get(BEFORE + size)) {
                _ if !plausible => Probe::No,
                (None, _) if payload.len() < 4 => Probe::More,
                (Some(method), _) if (method.class == 10) != (channel == 0) => Probe::No,
                (Some(_), Some(&FRAME_END)) => Probe::Yes,
                // Longer than what is held to tell protocols apart, but with its version behind its number.
                (Some(_), None) if payload.starts_with(&[0, 10, 0, 10, 0, 9]) => Probe::Yes,
                (Some(_), None) => Probe::More,
                _ => Probe::No,
            }
        }
        (None | Some(1), None) if bytes.len() < BEFORE => Probe::More,
        _ => Probe::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Direction = Direction::Forward;
    const SERVER: Direction = Direction::Backward;

    fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, channel, 0, 0, 0, payload.len() as u8];
        bytes.extend_from_slice(payload);
        bytes.push(FRAME_END);
        bytes
    }

    const PUBLISH: &[u8] = b"\0\x3c\0\x28\0\0\x02ex\x01k\0";
    const DECLARE: &[u8] = b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0";

    #[test]
    fn a_message_has_its_content() {
        let mut amqp = Amqp::default();
        assert!(matches!(amqp.parse(CLIENT, HEADER, None), Parsed::Skip(8)));
        let bytes = frame(1, 1, PUBLISH);
        assert!(matches!(amqp.parse(CLIENT, &bytes, None), Parsed::PartOf(len, _) if len == bytes.len()));
        // Between its frames come a heartbeat and the method of another channel.
        assert!(matches!(amqp.parse(CLIENT, &frame(8, 0, b""), None), Parsed::Skip(8)));
        assert!(matches!(amqp.parse(CLIENT, &frame(1, 2, DECLARE), None), Parsed::Message(..)));
        let header = frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0");
        assert!(matches!(amqp.parse(CLIENT, &header, None), Parsed::PartOf(..)));
        assert!(matches!(amqp.parse(CLIENT, &frame(3, 1, b"hello")[..9], None), Parsed::PartOf(7, _)));
        assert!(matches!(amqp.parse(CLIENT, b"he", None), Parsed::PartOf(2, _)));
        assert!(matches!(amqp.gap(CLIENT, b"", 3, None), Gap::PartOf(_)));
        let Parsed::Message(1, message) = amqp.parse(CLIENT, &[FRAME_END], None) else {
            panic!("it is whole")
        };
        assert_eq!((message.method.name, message.arguments.body_len), ("basic.publish", Some(5)));
    }

    #[test]
    fn content_of_nothing_is_passed_over() {
        let mut amqp = Amqp::default();
        assert!(matches!(amqp.parse(SERVER, &frame(2, 1, b"\0\x3c\0\0"), None), Parsed::Skip(12)));
        assert!(matches!(amqp.parse(SERVER, &frame(3, 1, b"x"), None), Parsed::Skip(7)));
        assert!(matches!(amqp.parse(SERVER, b"x\xce", None), Parsed::Skip(1)));
        assert!(matches!(amqp.parse(SERVER, b"\0", None), Parsed::Malformed));
        assert!(matches!(amqp.parse(SERVER, &[0; 8], None), Parsed::Malformed));
    }

    #[test]
    fn either_side_closes() {
        let mut amqp = Amqp::default();
        let close = frame(1, 1, b"\0\x14\0\x28\0\xc8\0\0\0\0\0");
        let start = frame(1, 0, b"\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\0\0\0\0\0");
        for (bytes, from_client) in [(&start, false), (&close, false)] {
            let Parsed::Message(_, message) = amqp.parse(SERVER, bytes, None) else { panic!("a message") };
            assert_eq!((message.from_client, Amqp::meta(&message).role), (from_client, Role::Request));
        }
        let Parsed::Message(_, message) = amqp.parse(CLIENT, &close, None) else { panic!("a message") };
        assert!(message.from_client);
    }

    #[test]
    fn a_channel_that_is_opened_again_is_another() {
        let mut amqp = Amqp::default();
        let mut key = |payload: &[u8]| match amqp.parse(CLIENT, &frame(1, 3, payload), None) {
            Parsed::Message(_, message) => key(&message),
            _ => panic!("a message"),
        };
        const OPEN: &[u8] = b"\0\x14\0\x0a\0";
        let (_, refused) = (key(OPEN), key(DECLARE));
        assert_eq!(refused, key(b"\0\x32\0\x0b\x01q\0\0\0\0\0\0\0\0"));
        key(OPEN);
        assert_ne!(refused, key(DECLARE));
    }

    #[test]
    fn begins_like_nothing_else() {
        assert_eq!(Amqp::probe(HEADER), Probe::Yes);
        assert_eq!(Amqp::probe(b"AMQP\0\x01\0\0"), Probe::No);
        let bytes = frame(1, 1, DECLARE);
        assert_eq!(Amqp::probe(&bytes), Probe::Yes);
        assert!((0..bytes.len()).all(|len| Amqp::probe(&bytes[..len]) == Probe::More));
        assert_eq!(Amqp::probe(&frame(1, 0, DECLARE)), Probe::No);
        assert_eq!(Amqp::probe(&[1; 40]), Probe::No);
        let behind = [&[0, 1, 8, 1][..], &bytes].concat();
        assert_eq!(Amqp::resync(&behind), Some(4));
        assert_eq!(Amqp::resync(&behind[..behind.len() - 1]), None);
    }
}
