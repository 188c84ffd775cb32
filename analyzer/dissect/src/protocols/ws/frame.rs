//! The head of a frame (RFC 6455 section 5.2).

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before it.
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// As in the column `opcode`.
    pub fn name(self) -> &'static str {
        match self {
            Opcode::Continuation => "continuation",
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Close => "close",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
        }
    }

    /// It stands for itself and may come between the frames of a message (section 5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// A head.
#[derive(Clone, Debug)]
pub struct Frame {
    pub opcode: Opcode,
    /// No more frames of the message follow.
    pub is_last: bool,
    /// The message is compressed (RFC 7692 section 6).
    pub compressed: bool,
    /// Clients mask what they send (section 5.3).
    pub mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub len: u64,
    /// Bytes of the head.
    pub header_len: usize,
}

/// No head of a frame looks so.
#[derive(Debug)]
pub struct Invalid;

impl Frame {
    /// The head at the beginning of these bytes; none where they are too few.
    pub fn read(bytes: &[u8]) -> Result<Option<Frame>, Invalid> {
        let &[first, second, ref rest @ ..] = bytes else {
            return match bytes.first() {
                Some(first) if opcode(*first).is_none() => Err(Invalid),
                _ => Ok(None),
            };
        };
        let opcode = opcode(first).ok_or(Invalid)?;
        let (is_last, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        let (len, len_bytes) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8),
            (126 | 127, _) => return Ok(None),
            (len, _) => (len.into(), 0),
        };
        // Control frames are short and whole (section 5.5), lengths have the shortest form and no sign.
        let is_short =
            matches!((len_bytes, len), (0, _) | (2, 126..) | (8, 0x1_0000..=0x7fff_ffff_ffff_ffff));
        if !is_short || (opcode.is_control() && (len > 125 || !is_last || compressed)) {
            return Err(Invalid);
        }
        let masked = second & 0x80 != 0;
        let mask = match (masked, &rest[len_bytes..]) {
            (false, _) => None,
            (true, [a, b, c, d, ..]) => Some([*a, *b, *c, *d]),
            (true, _) => return Ok(None),
        };
        let header_len = 2 + len_bytes + if masked { 4 } else { 0 };
        Ok(Some(Frame { opcode, is_last, compressed, mask, len, header_len }))
    }

    /// Bytes of the payload that begin at the offset `from` of it.
    pub fn unmasked(&self, from: u64, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(mask) = self.mask {
            let start = (from % 4) as usize;
            bytes.iter_mut().zip(mask.iter().cycle().skip(start)).for_each(|(byte, key)| *byte ^= key);
        }
        bytes
    }
}

fn opcode(first: u8) -> Option<Opcode> {
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return None,
    };
    (first & 0x30 == 0).then_some(opcode)
}

/// Whole frames of one direction, up to the end of these bytes; the last may go on behind them.
pub fn is_chain(bytes: &[u8]) -> bool {
    let (mut at, mut masked) = (0, None);
    while let Ok(Some(frame)) = Frame::read(&bytes[at..]) {
        let is_first = masked.is_none();
        if *masked.get_or_insert(frame.mask.is_some()) != frame.mask.is_some()
            || (is_first && frame.opcode == Opcode::Continuation)
        {
            return false;
        }
        match usize::try_from(frame.len).ok().and_then(|len| (at + frame.header_len).checked_add(len)) {
            Some(end) if end == bytes.len() => return bytes.len() >= SHORTEST_CHAIN,
            Some(end) if end < bytes.len() => at = end,
            _ => return false,
        }
    }
    false
}

/// Shorter ones are found in anything.
const SHORTEST_CHAIN: usize = 6;
