//! Kafka (kafka.apache.org/protocol): requests and responses in, a row for each pair out. A response tells its correlation id alone, so
//! what was asked is remembered. Bodies are read while they pass; record batches are counted and never held.

mod api;
mod errors;
mod fields;
mod header;
mod records;
mod row;
mod walk;

use std::collections::VecDeque;

use shark_schema::tables::kafka::{KafkaBlock, TABLE};

use super::rest::Rest;
use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role,
};
use crate::limits;
use crate::rows::RowSink;
use header::{Header, Place, Read, SIZE, number};
use walk::{Body, Walk};

/// The layer.
#[derive(Default)]
pub struct Kafka {
    halves: [Option<Half>; 2],
    /// Of each direction, the message whose header misses bytes.
    rests: [Option<Rest<Message>>; 2],
    /// Who asks, once a request has told.
    client: Option<Direction>,
    /// What was asked and not yet answered.
    asked: VecDeque<Asked>,
    /// The last correlation id.
    latest: Option<i32>,
    /// Tokens of a login may follow that have no header (SASL_HANDSHAKE of version 0).
    has_tokens: bool,
}

/// What is remembered of a request.
struct Asked {
    correlation: i32,
    /// API and version.
    api: (i16, i16),
    /// It asked for no answer.
    is_unanswered: bool,
}

/// A message whose header was read, while its body passes.
struct Half {
    message: Message,
    /// Bytes to come.
    left: u64,
    walk: Option<Walk>,
}

/// A request or a response.
#[derive(Debug)]
pub struct Message {
    is_request: bool,
    /// API and version; of a response, those of what it answers.
    api: Option<(i16, i16)>,
    correlation: i32,
    client_id: Option<Box<str>>,
    body: Body,
}

/// Longest message taken for one.
const LONGEST: i32 = 1 << 30;
/// How far correlation ids are apart that clients count up, where some were not seen.
const APART: i32 = 1024;
/// Longest message that is passed over whole: a token of a login, an answer that was not asked for.
const PASSED: usize = 64 * 1024;

impl Layer for Kafka {
    const NAME: &'static str = "kafka";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[9092, 9093, 9094, 19092, 29092];
    const TABLES: &'static [CallTable] = &[call_table::<KafkaBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Kafka::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        header::begins(bytes, Place::OwnPort)
    }

    fn probe_elsewhere(bytes: &[u8]) -> Probe {
        header::begins(bytes, Place::First)
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if self.halves[direction as usize].is_some() {
            return self.pass(direction, bytes);
        }
        if let Some(parsed) = Rest::pass(&mut self.rests[direction as usize], bytes.len()) {
            return parsed;
        }
        let Some(size) = number(bytes, 0) else { return Parsed::More(SIZE) };
        let Some(len) = usize::try_from(size).ok().filter(|_| size <= LONGEST) else {
            return Parsed::Malformed;
        };
        if self.client.is_none() {
            match header::begins(bytes, Place::OwnPort) {
                Probe::Yes => self.client = Some(direction),
                Probe::More if bytes.len() < SIZE + len => return Parsed::More(bytes.len() + 1),
                _ => {}
            }
        }
        let message = &bytes[SIZE..bytes.len().min(SIZE + len)];
        let mut may_pass = self.has_tokens;
        let begun = if self.client == Some(direction) {
            match header::read(message) {
                Read::Whole(header) => Some(self.request(header)),
                Read::More(more) if more <= len => return Parsed::More(SIZE + more),
                _ => None,
            }
        } else {
            match number(message, 0) {
                None if len >= SIZE => return Parsed::More(SIZE + SIZE),
                None => None,
                // Some brokers answer what asks for no answer.
                Some(correlation) if self.is_unasked(correlation) => {
                    may_pass = true;
                    None
                }
                Some(correlation) => self.response(correlation),
            }
        };
        match begun {
            Some((header, mut half)) => {
                half.left = (len - header) as u64;
                if half.left == 0 {
                    return Parsed::Message(SIZE + len, half.finish());
                }
                self.halves[direction as usize] = Some(half);
                Parsed::Part(SIZE + header)
            }
            None if len > PASSED || !may_pass => Parsed::Malformed,
            None if bytes.len() < SIZE + len => Parsed::More(SIZE + len),
            None => Parsed::Skip(SIZE + len),
        }
    }

    /// Known is the place in a message whose size was seen, and at its end.
    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let at = direction as usize;
        let Some(half) = &mut self.halves[at] else { return self.gap_in_header(direction, held, len) };
        let lost = held.len() as u64 + len;
        if lost > half.left {
            return Gap::Lost(None);
        }
        // Values that were cut say nothing; where the message ends is known all the same.
        if let Some(walk) = half.walk.as_mut()
            && !(held.is_empty() && lost < half.left && walk.skip(lost))
        {
            walk.stop();
        }
        half.left -= lost;
        if half.left > 0 {
            return Gap::Part;
        }
        self.halves[at].take().map_or(Gap::Lost(None), |half| Gap::Message(half.finish()))
    }

    /// What was asked is still to be answered.
    fn recover(&mut self, _: &Options) {}

    /// The header of a request; one of a response is like anything. Within other bytes, of which some are like a header too, the
    /// message must end where they do or where the next begins.
    fn resync(bytes: &[u8]) -> Option<usize> {
        let begins = |at: usize| header::begins(&bytes[at..], Place::Any) == Probe::Yes;
        let ends = |at: usize| {
            let size = number(bytes, at).and_then(|size| usize::try_from(size).ok());
            size.is_some_and(|size| {
                at + SIZE + size == bytes.len() || begins((at + SIZE + size).min(bytes.len()))
            })
        };
        memchr::memchr_iter(0, bytes).find(|&at| begins(at) && (at == 0 || ends(at)))
    }

    fn end(&mut self, direction: Direction, _: End) -> Option<Message> {
        self.rests[direction as usize] = None;
        self.halves[direction as usize].take().map(Half::finish)
    }

    /// The correlation id joins both.
    fn meta(message: &Message) -> Meta {
        let role = if message.is_request { Role::Request } else { Role::Response };
        let client_id = message.client_id.as_ref().map_or(0, |text| text.len());
        Meta::new(role, size_of::<Message>() + client_id + message.body.memory())
            .pairing(Pairing::keyed(u64::from(message.correlation as u32)))
            .alone_if(is_unanswered(message))
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut KafkaBlock| row::write(call.request, call.response, columns));
    }
}

impl Kafka {
    /// A request behind its header; the length of that comes first.
    fn request(&mut self, header: Header) -> (usize, Half) {
        let Header { key, version, correlation, client_id, len } = header;
        self.has_tokens = (key, version) == (api::SASL_HANDSHAKE, 0);
        if self.asked.len() >= limits::OPEN_REQUESTS {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { correlation, api: (key, version), is_unanswered: false });
        self.latest = Some(correlation);
        let walk = api::by_key(key).and_then(|api| api.request(version));
        let api = Some((key, version));
        let message = Message { is_request: true, api, correlation, client_id, body: Body::default() };
        (len, Half { message, left: 0, walk })
    }

    /// A gap behind bytes that are less than a header.
    fn gap_in_header(&mut self, direction: Direction, held: &[u8], len: u64) -> Gap<Message> {
        let rest = &mut self.rests[direction as usize];
        match number(held, 0).and_then(|size| usize::try_from(size).ok()) {
            Some(size) if size <= LONGEST as usize => Rest::behind(SIZE + size, held.len(), len, None, rest),
            _ => Rest::lose(rest, len),
        }
    }

    /// A response behind its correlation id.
    fn response(&mut self, correlation: i32) -> Option<(usize, Half)> {
        let at = self.asked.iter().position(|asked| asked.correlation == correlation);
        let api = at.and_then(|at| self.asked.remove(at)).map(|asked| asked.api);
        // What answers a request that was not seen has an id near those that were; anything else is no response.
        let is_near =
            self.latest.is_none_or(|latest| latest.wrapping_sub(correlation).unsigned_abs() < APART as u32);
        if api.is_none() && (self.has_tokens || !is_near) {
            return None;
        }
        self.latest = Some(correlation);
        let walk = api.and_then(|(key, version)| api::by_key(key)?.response(version));
        let message = Message { is_request: false, api, correlation, client_id: None, body: Body::default() };
        Some((SIZE, Half { message, left: 0, walk }))
    }

    /// A response to a request that asked for none.
    fn is_unasked(&self, correlation: i32) -> bool {
        self.asked.iter().any(|asked| asked.correlation == correlation && asked.is_unanswered)
    }

    /// The body.
    fn pass(&mut self, direction: Direction, bytes: &[u8]) -> Parsed<Message> {
        let Some(half) = &mut self.halves[direction as usize] else { return Parsed::Malformed };
        let all = bytes.len().min(usize::try_from(half.left).unwrap_or(usize::MAX));
        let len = match &mut half.walk {
            None => all,
            Some(walk) => match walk.push(&bytes[..all]) {
                // A value that does not end with the message.
                0 if all as u64 == half.left => {
                    walk.stop();
                    all
                }
                0 => return Parsed::More(all + 1),
                len => len,
            },
        };
        half.left -= len as u64;
        if half.left > 0 {
            return Parsed::Part(len);
        }
        let Some(half) = self.halves[direction as usize].take() else { return Parsed::Malformed };
        let message = half.finish();
        if is_unanswered(&message) {
            let asked = self.asked.iter_mut().rev().find(|asked| asked.correlation == message.correlation);
            asked.into_iter().for_each(|asked| asked.is_unanswered = true);
        }
        Parsed::Message(len, message)
    }
}

impl Half {
    fn finish(self) -> Message {
        let mut message = self.message;
        if let Some(walk) = self.walk {
            message.body = walk.finish(!message.is_request);
        }
        message
    }
}

/// Nothing answers a produce that waits for no acknowledgement.
fn is_unanswered(message: &Message) -> bool {
    message.is_request
        && message.api.is_some_and(|(key, _)| key == api::PRODUCE)
        && message.body.acks == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Direction = Direction::Forward;
    const SERVER: Direction = Direction::Backward;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    fn said(kafka: &mut Kafka, direction: Direction, body: &[u8]) -> Message {
        let bytes = framed(body);
        let mut used = 0;
        loop {
            match kafka.parse(direction, &bytes[used..], None) {
                Parsed::Message(len, message) if used + len == bytes.len() => return message,
                Parsed::Part(len) => used += len,
                _ => panic!("no message: {body:?}"),
            }
        }
    }

    const HEARTBEAT: &[u8] = b"\0\x0c\0\x01\0\0\0\x07\0\x02me\0\x03grp\0\0\0\x01\0\x01m";

    #[test]
    fn a_response_is_read_as_what_was_asked() {
        let mut kafka = Kafka::default();
        let asked = said(&mut kafka, CLIENT, HEARTBEAT);
        assert_eq!((asked.client_id.as_deref(), asked.body.group.as_deref()), (Some("me"), Some("grp")));
        let told = said(&mut kafka, SERVER, b"\0\0\0\x07\0\0\0\x05\0\x1b");
        assert_eq!((told.api, told.body.throttle_ms, told.body.error), (Some((12, 1)), Some(5), Some(27)));
        assert_eq!(Kafka::meta(&asked).pairing, Kafka::meta(&told).pairing);
        // Of a request that was lost there is an answer with an id near by, and none with a far one.
        assert_eq!(said(&mut kafka, SERVER, b"\0\0\0\x08\0\0\0\x05\0\x1b").api, None);
        let far = framed(b"\0\x01\0\x07\0\0\0\x05\0\x1b");
        assert!(matches!(kafka.parse(SERVER, &far, None), Parsed::Malformed));
    }

    #[test]
    fn later_versions_have_their_header_read() {
        let mut kafka = Kafka::default();
        let asked = said(&mut kafka, CLIENT, b"\0\x0c\0\x06\0\0\0\x01\0\x02me\0\x04grp");
        assert_eq!((asked.api, asked.body), (Some((12, 6)), Body::default()));
        let told = said(&mut kafka, SERVER, b"\0\0\0\x01\0\0\0\0\0\0\x1b");
        assert_eq!((told.api, told.body.error), (Some((12, 6)), None));
    }

    #[test]
    fn the_versions_of_a_broker_come_without_tags() {
        let mut kafka = Kafka::default();
        said(&mut kafka, CLIENT, b"\0\x12\0\x03\0\0\0\x01\0\x02me\0\x02a\x02b\0");
        let told = said(&mut kafka, SERVER, b"\0\0\0\x01\0\0\x02\0\x12\0\0\0\x04\0\0\0\0\x09\0");
        assert_eq!((told.body.error, told.body.throttle_ms), (Some(0), Some(9)));
    }

    #[test]
    fn nothing_answers_a_produce_without_acknowledgement() {
        let mut kafka = Kafka::default();
        let produce = said(&mut kafka, CLIENT, b"\0\0\0\x03\0\0\0\x01\0\x02me\xff\xff\0\0\0\0\0\x01\0\0\0\0");
        assert!(Kafka::meta(&produce).is_alone());
        // Some brokers answer all the same.
        let answer = framed(b"\0\0\0\x01\0\0\0\0\0\0\0\0");
        assert!(matches!(kafka.parse(SERVER, &answer, None), Parsed::Skip(16)));
    }

    #[test]
    fn long_messages_pass() {
        let mut kafka = Kafka::default();
        let mut body = HEARTBEAT.to_vec();
        body.resize(20_000, 0);
        let bytes = framed(&body);
        assert!(matches!(kafka.parse(CLIENT, &bytes[..15], None), Parsed::More(16)));
        assert!(matches!(kafka.parse(CLIENT, &bytes, None), Parsed::Part(16)));
        assert!(matches!(kafka.parse(CLIENT, &bytes[16..18], None), Parsed::More(3)));
        assert!(matches!(kafka.parse(CLIENT, &bytes[16..1016], None), Parsed::Part(1000)));
        assert!(matches!(kafka.gap(CLIENT, b"", 20_000, None), Gap::Lost(None)));
        assert!(matches!(kafka.gap(CLIENT, b"", 18_900, None), Gap::Part));
        assert!(matches!(kafka.parse(CLIENT, &bytes[..200], None), Parsed::Message(88, _)));
    }

    /// Whatever of a message is missing, the next begins where its size says.
    #[test]
    fn a_message_ends_in_a_gap() {
        for cut in 0..HEARTBEAT.len() {
            let mut kafka = Kafka::default();
            let bytes = framed(HEARTBEAT);
            let (mut used, at_hand) = (0, SIZE + cut);
            while used < at_hand {
                let Parsed::Part(len) = kafka.parse(CLIENT, &bytes[used..at_hand], None) else { break };
                used += len;
            }
            let gap = kafka.gap(CLIENT, &bytes[used..at_hand], (bytes.len() - at_hand) as u64, None);
            assert!(matches!(gap, Gap::Message(_)) == (cut >= 12) && !matches!(gap, Gap::Lost(_)), "{cut}");
            assert_eq!(said(&mut kafka, CLIENT, HEARTBEAT).correlation, 7);
        }
    }

    /// ListOffsets of version 0 by a client without a name.
    #[test]
    fn a_client_id_may_be_null() {
        let body = b"\0\x02\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\0\0\0\0";
        let mut kafka = Kafka::default();
        assert_eq!(
            (Kafka::probe(&framed(body)), Kafka::probe_elsewhere(&framed(body))),
            (Probe::Yes, Probe::No)
        );
        let asked = said(&mut kafka, CLIENT, body);
        assert_eq!((asked.api, asked.client_id), (Some((2, 0)), None));
        assert_eq!(said(&mut kafka, SERVER, b"\0\0\0\0\0\0\0\0").api, Some((2, 0)));
    }

    #[test]
    fn tokens_of_a_login_are_passed_over() {
        let mut kafka = Kafka::default();
        said(&mut kafka, CLIENT, b"\0\x11\0\0\0\0\0\x01\0\x02me\0\x05PLAIN");
        said(&mut kafka, SERVER, b"\0\0\0\x01\0\0\0\0\0\0");
        let token = framed(b"\0user\0secret");
        assert!(matches!(kafka.parse(CLIENT, &token, None), Parsed::Skip(len) if len == token.len()));
        assert!(matches!(kafka.parse(SERVER, &[0; 4], None), Parsed::Skip(4)));
        said(&mut kafka, CLIENT, HEARTBEAT);
        assert!(matches!(kafka.parse(CLIENT, &token, None), Parsed::Malformed));
    }

    #[test]
    fn begins_like_nothing_else() {
        let bytes = framed(HEARTBEAT);
        assert_eq!(Kafka::probe(&bytes), Probe::Yes);
        assert!((0..16).all(|len| Kafka::probe(&bytes[..len]) == Probe::More));
        let no: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
            b"\0\0\0\x20\0\x0c\0\x19\0\0\0\x01\0\x02me",
            b"\0\0\0\x20\0\x0c\0\x01\xff\0\0\x01\0\x02me",
            b"\0\0\0\x20\0\x0c\0\x01\0\0\0\x01\0\x02m\x01",
            b"\0\0\0\x0b\0\x0c\0\x01\0\0\0\x01\0\x02me",
        ];
        assert!(no.iter().all(|bytes| Kafka::probe(bytes) == Probe::No));
        assert_eq!(Kafka::resync(&[b"\0\0\0\x01abc", bytes.as_slice()].concat()), Some(7));
    }
}
