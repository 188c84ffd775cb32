//! HTTP/1.0 and HTTP/1.1 (RFC 9112): where messages begin and end, and what of them a row needs.

mod head;
mod row;

use shark_schema::tables::http::{HttpBlock, TABLE};

use crate::batch::{CallTable, call_table};
use crate::body::Body;
use crate::layer::{Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Parsed, Probe, Role, Successor};
use crate::limits;
use crate::rows::RowSink;
use head::{Field, Head};

/// The layer.
pub struct Http {
    body_bytes: usize,
    halves: [Half; 2],
}

/// A message.
#[derive(Debug)]
pub struct Message {
    head: Head,
    body: Body,
    /// Trailer section and its fields.
    trailers: Option<(Box<[u8]>, Vec<Field>)>,
    /// Statuses of interim responses before it.
    interim: Vec<i64>,
    /// Why it stops before its end.
    cut: Option<End>,
    body_bytes: usize,
}

/// One direction.
#[derive(Default)]
struct Half {
    place: Place,
    message: Option<Message>,
    /// How far the end of the head was looked for.
    searched: usize,
    interim: Vec<i64>,
    /// It is not known whether the response has a body: its request was not seen.
    doubtful: bool,
}

/// What comes next in a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Place {
    #[default]
    Head,
    /// This many bytes of the body.
    Body(u64),
    /// Everything until the connection ends.
    UntilClose,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

impl Layer for Http {
    const NAME: &'static str = "http";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[80, 8080, 8000, 8008, 8081, 3000, 3128, 5000, 9090];
    const TABLES: &'static [CallTable] = &[call_table::<HttpBlock>(&TABLE)];
    type Message = Message;

    fn new(begin: &Begin<'_>) -> Self {
        Http { body_bytes: begin.options.body_bytes.min(limits::BODY_BYTES), halves: Default::default() }
    }

    fn probe(bytes: &[u8]) -> Probe {
        head::begins(bytes)
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], open: Option<&Message>) -> Parsed<Message> {
        let half = &mut self.halves[direction as usize];
        match half.place {
            Place::Head => half.head(bytes, open, self.body_bytes),
            Place::Body(left) => half.body(bytes, left),
            Place::UntilClose => {
                half.push(bytes);
                Parsed::Part(bytes.len())
            }
            Place::ChunkSize => half.chunk_size(bytes),
            Place::Chunk(left) => half.chunk(bytes, left),
            Place::ChunkEnd => half.chunk_end(bytes),
            Place::Trailers => half.trailers(bytes),
        }
    }

    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let body_bytes = self.body_bytes;
        let half = &mut self.halves[direction as usize];
        let next = match half.place {
            Place::Head => return Gap::Lost(cut_head(held, body_bytes)),
            Place::Body(left) if len <= left => Place::Body(left - len),
            Place::Chunk(left) if len < left => Place::Chunk(left - len),
            Place::Chunk(left) if len == left => Place::ChunkEnd,
            Place::UntilClose => Place::UntilClose,
            _ => return Gap::Lost(None),
        };
        half.place = next;
        half.doubtful = false;
        let Some(message) = &mut half.message else { return Gap::Lost(None) };
        message.body.skip(len);
        if next != Place::Body(0) {
            return Gap::Part;
        }
        half.place = Place::Head;
        half.message.take().map_or(Gap::Lost(None), Gap::Message)
    }

    fn resync(bytes: &[u8]) -> Option<usize> {
        head::resync(bytes)
    }

    fn end(&mut self, direction: Direction, end: End) -> Option<Message> {
        let half = std::mem::take(&mut self.halves[direction as usize]);
        let mut message = half.message?;
        let whole = half.place == Place::Body(0) || (half.place == Place::UntilClose && end == End::Fin);
        message.cut = (!whole).then_some(end);
        Some(message)
    }

    /// A server may answer as soon as it has the head (RFC 9110 section 7.5).
    fn meta(message: &Message) -> Meta {
        let role = if message.head.status().is_some() { Role::Response } else { Role::Request };
        let head = message.head.bytes.len();
        let fields = message.head.fields.len() * size_of::<Field>();
        let memory = size_of::<Message>() + head + fields + message.body.memory();
        Meta { answerable: Some(head as u64), ..Meta::new(role, memory) }
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut HttpBlock| row::write(call.request, call.response, &call.times, columns));
    }
}

impl Half {
    fn head(&mut self, bytes: &[u8], open: Option<&Message>, body_bytes: usize) -> Parsed<Message> {
        // RFC 9112 section 2.2: an empty line before a message is to be ignored.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank > 0 {
            return Parsed::Skip(blank);
        }
        if head::begins(bytes) == Probe::No {
            return Parsed::Malformed;
        }
        let Some(len) = head::end_of_head(bytes, self.searched) else {
            self.searched = bytes.len();
            return Parsed::More(bytes.len() + 1);
        };
        self.searched = 0;
        let Some(head) = head::parse(&bytes[..len]) else {
            return Parsed::Malformed;
        };
        if let Some(status @ 100..200) = head.status()
            && status != 101
        {
            self.interim.push(status.into());
            self.interim.truncate(16);
            return Parsed::Skip(len);
        }
        let asked = open.and_then(|request| request.head.method());
        let tunnel = match head.status() {
            Some(101) => true,
            Some(status) => asked == Some(b"CONNECT") && (200..300).contains(&status),
            None => false,
        };
        let place = if tunnel { Place::Head } else { framing(&head, asked) };
        self.doubtful = asked.is_none() && head.status().is_some();
        let encoded = head.value("content-encoding").is_some();
        let successor =
            if tunnel { successor(&head, open.map(|request| &request.head)) } else { Successor::default() };
        let mut message = Message {
            head,
            body: Body::new(body_bytes, encoded),
            trailers: None,
            interim: std::mem::take(&mut self.interim),
            cut: None,
            body_bytes,
        };
        if tunnel {
            return Parsed::Become(len, Some(message), successor);
        }
        if matches!(place, Place::Head | Place::Body(0)) {
            return Parsed::Message(len, message);
        }
        if let Place::Body(len) = place {
            message.body.announce(len);
        }
        self.place = place;
        self.message = Some(message);
        Parsed::Part(len)
    }

    fn body(&mut self, bytes: &[u8], left: u64) -> Parsed<Message> {
        // The answer to a HEAD that was not seen announces a body that does not come.
        let absent = std::mem::take(&mut self.doubtful) && bytes.starts_with(b"HTTP/1.");
        let take = if absent { 0 } else { bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)) };
        self.push(&bytes[..take]);
        let left = left - take as u64;
        if left == 0 || absent { self.message(take) } else { self.go_on(take, Place::Body(left)) }
    }

    /// `chunk-size [ chunk-ext ] CRLF` (RFC 9112 section 7.1).
    fn chunk_size(&mut self, bytes: &[u8]) -> Parsed<Message> {
        const LONGEST: usize = 4096;
        let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LONGEST)]) else {
            return if bytes.len() < LONGEST { Parsed::More(bytes.len() + 1) } else { Parsed::Malformed };
        };
        let digits = bytes[..end].split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match size {
            Some(0) => self.go_on(end + 1, Place::Trailers),
            Some(size) => self.go_on(end + 1, Place::Chunk(size)),
            None => Parsed::Malformed,
        }
    }

    fn chunk(&mut self, bytes: &[u8], left: u64) -> Parsed<Message> {
        let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.push(&bytes[..take]);
        let left = left - take as u64;
        self.go_on(take, if left == 0 { Place::ChunkEnd } else { Place::Chunk(left) })
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Parsed<Message> {
        match bytes {
            [b'\r', b'\n', ..] => self.go_on(2, Place::ChunkSize),
            [b'\n', ..] => self.go_on(1, Place::ChunkSize),
            [b'\r'] => Parsed::More(2),
            _ => Parsed::Malformed,
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Parsed<Message> {
        let none = match bytes {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => 0,
        };
        if none > 0 {
            return self.message(none);
        }
        let Some(len) = head::end_of_head(bytes, self.searched) else {
            self.searched = bytes.len();
            return Parsed::More(bytes.len() + 1);
        };
        self.searched = 0;
        if let (Some(fields), Some(message)) = (head::parse_fields(&bytes[..len]), &mut self.message) {
            message.trailers = Some((bytes[..len].into(), fields));
        }
        self.message(len)
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(message) = &mut self.message {
            message.body.push(bytes);
        }
    }

    fn go_on(&mut self, len: usize, place: Place) -> Parsed<Message> {
        self.place = place;
        Parsed::Part(len)
    }

    fn message(&mut self, len: usize) -> Parsed<Message> {
        self.place = Place::Head;
        match self.message.take() {
            Some(message) => Parsed::Message(len, message),
            None => Parsed::Malformed,
        }
    }
}

/// What stands in the beginning of a head whose end is missing.
fn cut_head(held: &[u8], body_bytes: usize) -> Option<Message> {
    let is_interim = |head: &Head| matches!(head.status(), Some(100..200));
    let begins = head::begins(held) == Probe::Yes;
    let head = begins.then(|| head::parse_loosely(held)).flatten().filter(|head| !is_interim(head))?;
    let mut body = Body::new(body_bytes, false);
    body.hole = true;
    Some(Message { head, body, trailers: None, interim: Vec::new(), cut: Some(End::Gap), body_bytes })
}

/// What follows a tunnel or an upgrade (RFC 9110 section 7.8): WebSocket is told its fields of the response (RFC 6455 section 11.3)
/// and the request target; of anything else the first bytes decide.
fn successor(head: &Head, asked: Option<&Head>) -> Successor {
    if !is_websocket(head) {
        return Successor::default();
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    let name = |field: &Field| text(head.part(&field.name).to_ascii_lowercase().as_slice());
    let fields = head.fields.iter().map(|field| (name(field), text(head.part(&field.value))));
    let fields = fields.filter(|(name, _)| name.starts_with("sec-websocket-"));
    let target = asked.and_then(Head::target).map(|target| ("target".into(), text(target)));
    Successor { name: Some("ws"), carried: target.into_iter().chain(fields).collect() }
}

/// The response with which a server begins WebSocket (RFC 6455 section 4.2.2).
fn is_websocket(head: &Head) -> bool {
    let is_named = |name: &[u8]| name.eq_ignore_ascii_case(b"websocket");
    head.status() == Some(101) && head.value("upgrade").is_some_and(is_named)
}

/// How long the body is (RFC 9112 section 6.3). `asked` is the method of the request that is answered.
fn framing(head: &Head, asked: Option<&[u8]>) -> Place {
    let status = head.status();
    if matches!(status, Some(100..200 | 204 | 304)) || (status.is_some() && asked == Some(b"HEAD")) {
        return Place::Head;
    }
    if let Some(coding) = head.values("transfer-encoding").last() {
        let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        return match (last.eq_ignore_ascii_case(b"chunked"), status) {
            (true, _) => Place::ChunkSize,
            (false, Some(_)) => Place::UntilClose,
            (false, None) => Place::Head,
        };
    }
    // Lengths that differ are an error a receiver may not repair (section 6.3); the last one is taken, as Wireshark does.
    let length = head.values("content-length").last().and_then(|value| {
        let last = value.rsplit(|byte| *byte == b',').next()?;
        std::str::from_utf8(last.trim_ascii()).ok()?.parse().ok()
    });
    match (length, status) {
        (Some(length), _) => Place::Body(length),
        (None, Some(_)) => Place::UntilClose,
        (None, None) => Place::Head,
    }
}
