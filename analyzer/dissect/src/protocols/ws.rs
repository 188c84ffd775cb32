//! WebSocket (RFC 6455) behind an upgrade of HTTP, which hands over what both ends agreed on. A message is what all of its frames
//! make together; control frames may stand between them. In: frames. Out: messages, unmasked and decompressed.

mod deflate;
mod frame;

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use shark_schema::table::Block;
use shark_schema::tables::ws::{TABLE, WsBlock, WsRow};

use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role, Written,
};
use crate::limits;
use crate::rows::RowSink;
use deflate::Inflater;
use frame::{Frame, Opcode};

/// The layer.
pub struct Ws {
    body_bytes: usize,
    path: Option<Box<str>>,
    subprotocol: Option<Box<str>>,
    sides: [Side; 2],
}

/// A message.
#[derive(Debug)]
pub struct Message {
    opcode: Opcode,
    from_client: bool,
    path: Option<Box<str>>,
    subprotocol: Option<Box<str>>,
    /// Payload as sent.
    len: u64,
    frames: i32,
    compressed: bool,
    /// The beginning of the payload, decompressed.
    kept: Vec<u8>,
    /// Length of the decompressed payload; none where bytes of it are missing.
    decoded_len: Option<u64>,
}

/// One direction.
#[derive(Default)]
struct Side {
    /// The data frame whose payload comes next, and how much of it.
    frame: Option<(Frame, u64)>,
    message: Option<Message>,
    inflater: Option<Inflater>,
}

/// What joins the frames of a data message, since control frames may stand between them.
const DATA: u64 = 1;

impl Layer for Ws {
    const NAME: &'static str = "ws";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[];
    const TABLES: &'static [CallTable] = &[call_table::<WsBlock>(&TABLE)];
    type Message = Message;

    fn new(begin: &Begin<'_>) -> Self {
        let of = |name: &str| {
            let mut carried = begin.carried.iter();
            carried.find(|(field, _)| **field == *name).map(|(_, value)| value.clone())
        };
        let mut sides = [Side::default(), Side::default()];
        if of("sec-websocket-extensions").is_some_and(|offer| deflate::is_agreed(&offer)) {
            sides.iter_mut().for_each(|side| side.inflater = Some(Inflater::new()));
        }
        Ws {
            body_bytes: begin.options.body_bytes.min(limits::BODY_BYTES),
            path: of("target"),
            subprotocol: of("sec-websocket-protocol"),
            sides,
        }
    }

    /// Only an upgrade says that frames follow: they begin like anything.
    fn probe(_: &[u8]) -> Probe {
        Probe::No
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if self.sides[direction as usize].frame.is_some() {
            return self.payload(direction, bytes);
        }
        let frame = match Frame::read(bytes) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Parsed::More(bytes.len() + 1),
            Err(frame::Invalid) => return Parsed::Malformed,
        };
        if frame.opcode.is_control() {
            let len = frame.header_len + frame.len as usize;
            return match bytes.get(frame.header_len..len) {
                None => Parsed::More(len),
                Some(payload) => Parsed::Message(len, self.control(&frame, payload)),
            };
        }
        let is_next = frame.opcode == Opcode::Continuation;
        let (path, subprotocol) = (self.path.clone(), self.subprotocol.clone());
        let side = &mut self.sides[direction as usize];
        // RFC 6455 section 5.4: frames of two messages are never mixed.
        if is_next != side.message.is_some() {
            return Parsed::Malformed;
        }
        let message = side.message.get_or_insert_with(|| Message {
            opcode: frame.opcode,
            from_client: frame.mask.is_some(),
            path,
            subprotocol,
            len: 0,
            frames: 0,
            compressed: frame.compressed,
            kept: Vec::new(),
            decoded_len: Some(0),
        });
        message.frames = message.frames.saturating_add(1);
        let (header_len, is_empty) = (frame.header_len, frame.len == 0);
        let left = frame.len;
        side.frame = Some((frame, left));
        if is_empty { self.end_of_frame(direction, header_len) } else { Parsed::PartOf(header_len, DATA) }
    }

    /// Known is the place in a frame whose length was seen, and at its end.
    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let side = &mut self.sides[direction as usize];
        let (Some((_, left)), Some(message)) = (&mut side.frame, &mut side.message) else {
            return Gap::Lost(None);
        };
        let missing = held.len() as u64 + len;
        if missing > *left {
            return Gap::Lost(None);
        }
        *left -= missing;
        message.len += missing;
        message.decoded_len = None;
        if let Some(inflater) = &mut side.inflater {
            // What follows refers to what is missing.
            inflater.lose();
        }
        if *left > 0 {
            return Gap::PartOf(DATA);
        }
        match self.end_of_frame(direction, 0) {
            Parsed::Message(_, message) => Gap::Message(message),
            _ => Gap::PartOf(DATA),
        }
    }

    /// A chain of frames up to the end of what is at hand.
    fn resync(bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| frame::is_chain(&bytes[at..]))
    }

    /// What was agreed on stays so, but not what was compressed before.
    fn recover(&mut self, _: &Options) {
        for side in &mut self.sides {
            (side.frame, side.message) = (None, None);
        }
    }

    fn end(&mut self, direction: Direction, end: End) -> Option<Message> {
        let side = &mut self.sides[direction as usize];
        if end == End::Gap
            && let Some(inflater) = &mut side.inflater
        {
            inflater.lose();
        }
        side.frame = None;
        let mut message = side.message.take()?;
        message.decoded_len = None;
        Some(message)
    }

    /// A pong has the payload of its ping (RFC 6455 section 5.5.3); nothing answers the rest.
    fn meta(message: &Message) -> Meta {
        let role = match (message.opcode, message.from_client) {
            (Opcode::Ping, _) => Role::Request,
            (Opcode::Pong, _) => Role::Response,
            (_, true) => Role::Request,
            (_, false) => Role::Response,
        };
        let memory = size_of::<Message>() + message.kept.capacity();
        let pairing = match message.opcode {
            Opcode::Ping | Opcode::Pong => {
                let mut hasher = FxHasher::default();
                message.kept.hash(&mut hasher);
                Pairing::InOrderOf(hasher.finish())
            }
            _ => Pairing::Alone,
        };
        let parts = (!message.opcode.is_control()).then_some(DATA);
        Meta { parts, pairing, from_client: message.from_client, ..Meta::new(role, memory) }
    }

    fn held(&self) -> usize {
        let kept = |side: &Side| {
            side.message.as_ref().map_or(0, |message| message.kept.capacity())
                + side.inflater.as_ref().map_or(0, Inflater::memory)
        };
        self.sides.iter().map(kept).sum()
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut WsBlock| row(call.request, call.response, columns));
    }
}

impl Ws {
    /// Payload of the open data frame.
    fn payload(&mut self, direction: Direction, bytes: &[u8]) -> Parsed<Message> {
        let side = &mut self.sides[direction as usize];
        let (Some((frame, left)), Some(message)) = (&mut side.frame, &mut side.message) else {
            return Parsed::Malformed;
        };
        let len = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let from = frame.len - *left;
        *left -= len as u64;
        message.len += len as u64;
        let room = self.body_bytes.saturating_sub(message.kept.len());
        if message.compressed {
            match &mut side.inflater {
                Some(inflater) => inflater.take(&frame.unmasked(from, &bytes[..len]), message, room),
                None => message.decoded_len = None,
            }
        } else {
            message.kept.extend_from_slice(&frame.unmasked(from, &bytes[..len.min(room)]));
            message.decoded_len = message.decoded_len.map(|decoded| decoded + len as u64);
        }
        if *left > 0 { Parsed::PartOf(len, DATA) } else { self.end_of_frame(direction, len) }
    }

    /// A data frame ends after these bytes: the message too?
    fn end_of_frame(&mut self, direction: Direction, len: usize) -> Parsed<Message> {
        let body_bytes = self.body_bytes;
        let side = &mut self.sides[direction as usize];
        let is_last = side.frame.take().is_some_and(|(frame, _)| frame.is_last);
        let Some(mut message) = side.message.take_if(|_| is_last) else { return Parsed::PartOf(len, DATA) };
        if let (true, Some(inflater)) = (message.compressed, &mut side.inflater) {
            let room = body_bytes.saturating_sub(message.kept.len());
            inflater.end(&mut message, room);
        }
        Parsed::Message(len, message)
    }

    fn control(&self, frame: &Frame, payload: &[u8]) -> Message {
        Message {
            opcode: frame.opcode,
            from_client: frame.mask.is_some(),
            path: self.path.clone(),
            subprotocol: self.subprotocol.clone(),
            len: frame.len,
            frames: 1,
            compressed: false,
            kept: frame.unmasked(0, payload),
            decoded_len: Some(frame.len),
        }
    }
}

/// Appends the row; at least one half is there.
fn row(request: Option<&Message>, response: Option<&Message>, columns: &mut WsBlock) -> Written {
    let Some(first) = request.or(response) else { return Written::default() };
    let (close_code, close_reason) = match (first.opcode, first.kept.as_slice()) {
        (Opcode::Close, [high, low, reason @ ..]) => {
            (Some(u16::from_be_bytes([*high, *low]).into()), std::str::from_utf8(reason).ok())
        }
        _ => (None, None),
    };
    let is_close = first.opcode == Opcode::Close;
    let text = match first.opcode {
        Opcode::Binary | Opcode::Close => None,
        _ => text(&first.kept),
    };
    let is_raw = text.is_none() && !is_close && !first.kept.is_empty();
    let row = WsRow {
        opcode: Some(first.opcode.name()),
        is_request: Some(first.from_client),
        path: first.path.as_deref(),
        subprotocol: first.subprotocol.as_deref(),
        close_code,
        close_reason: close_reason.filter(|reason| !reason.is_empty()),
        payload_len: i64::try_from(first.len).ok(),
        frames: Some(first.frames),
        compressed: Some(first.compressed),
        payload: text,
        payload_raw: is_raw.then_some(&first.kept),
        decoded_len: first.decoded_len.and_then(|len| i64::try_from(len).ok()),
        ..WsRow::default()
    };
    let code = close_code.filter(|code| !matches!(code, 1000 | 1001));
    Written {
        bytes: columns.append(&row),
        is_error: is_close.then_some(code.is_some()),
        error_type: code.map(|code| code.to_string().into()),
        ..Written::default()
    }
}

/// What is UTF-8, up to a character that the body limit cuts.
fn text(kept: &[u8]) -> Option<&str> {
    match std::str::from_utf8(kept) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&kept[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
