//! What messages look like from outside: whether a conversation begins with one, where one begins in the middle of a stream, and
//! which end sends it. Strict, since every conversation on any port is asked.

use super::{LONGEST_STARTUP, cstring};
use crate::layer::{Direction, Probe};

/// The text of these is looked at.
pub(super) fn is_text(kind: u8, from_client: bool) -> bool {
    if from_client { b"QPBDCE".contains(&kind) } else { b"CE".contains(&kind) }
}

/// Types that only a server sends.
const BACKEND: &[u8] = b"RKZT123nstINAGWVv";

/// Which end is the client, by what one of them sends.
pub(super) fn client(direction: Direction, bytes: &[u8]) -> Direction {
    match bytes.first() {
        Some(kind) if BACKEND.contains(kind) => direction.opposite(),
        _ => direction,
    }
}

/// Does a conversation begin like this?
pub(super) fn probe(bytes: &[u8]) -> Probe {
    match bytes {
        [] => Probe::More,
        [0, ..] => startup(bytes),
        [b'R', ..] => login(bytes),
        [b'E', ..] => error(bytes),
        _ => Probe::No,
    }
}

fn startup(bytes: &[u8]) -> Probe {
    let Some((head, parameters)) = bytes.split_first_chunk::<8>() else {
        let is_short =
            bytes.get(1).is_none_or(|byte| *byte == 0) && bytes.get(2).is_none_or(|byte| *byte < 0x28);
        let has_code =
            bytes.get(4..).is_none_or(|code| b"\x04\xd2\x16".starts_with(&code[..code.len().min(3)]))
                || bytes.get(4..).is_some_and(|code| b"\0\x03\0".starts_with(&code[..code.len().min(3)]));
        return if is_short && has_code { Probe::More } else { Probe::No };
    };
    let [l3, l2, l1, l0, code @ ..] = head;
    let len = u32::from_be_bytes([*l3, *l2, *l1, *l0]) as usize;
    let yes = match code {
        [0x04, 0xd2, 0x16, 0x2f | 0x30] => len == 8,
        // With a key of up to 256 bytes since version 3.2.
        [0x04, 0xd2, 0x16, 0x2e] => (16..=268).contains(&len),
        [0, 3, 0, 0..=2] if (17..=LONGEST_STARTUP).contains(&len) => return named(parameters, len - 8),
        _ => false,
    };
    if yes { Probe::Yes } else { Probe::No }
}

/// Parameters of a login: texts, among them the user, up to an empty name.
fn named(parameters: &[u8], len: usize) -> Probe {
    let at_hand = &parameters[..parameters.len().min(len)];
    let is_text = at_hand.iter().all(|byte| *byte == 0 || !byte.is_ascii_control());
    let is_whole = at_hand.len() == len;
    if !is_text || at_hand.first() == Some(&0) || (is_whole && !at_hand.ends_with(b"\0\0")) {
        return Probe::No;
    }
    let mut names = at_hand.split(|byte| *byte == 0).step_by(2);
    match (names.any(|name| name == b"user"), is_whole) {
        (true, _) => Probe::Yes,
        (false, true) => Probe::No,
        (false, false) => Probe::More,
    }
}

/// An authentication request (section 55.7).
fn login(bytes: &[u8]) -> Probe {
    let Some(head) = bytes.first_chunk::<9>() else {
        return if b"R\0\0\0".starts_with(&bytes[..bytes.len().min(4)]) { Probe::More } else { Probe::No };
    };
    let yes = match head {
        [b'R', 0, 0, 0, 8, 0, 0, 0, 0 | 2 | 3 | 7 | 9] | [b'R', 0, 0, 0, 12, 0, 0, 0, 5] => true,
        [b'R', 0, 0, 0, 12..=200, 0, 0, 0, 10] => bytes[9..].first().is_none_or(u8::is_ascii_uppercase),
        _ => false,
    };
    if yes { Probe::Yes } else { Probe::No }
}

/// A server that refuses a client at once: `E`, a length, and the severity as first field.
fn error(bytes: &[u8]) -> Probe {
    let Some((head, body)) = bytes.split_first_chunk::<6>() else { return Probe::More };
    let is_head = matches!(head, [b'E', 0, 0, 0..=8, _, b'S']);
    let known = [&b"FATAL\0"[..], b"ERROR\0", b"PANIC\0"];
    match (is_head, body.get(..6)) {
        (true, Some(severity)) if known.contains(&severity) => Probe::Yes,
        (true, None) => Probe::More,
        _ => Probe::No,
    }
}

/// Why bytes are not a message as they should be.
enum Misfit {
    /// They may be one that is not wholly at hand.
    Cut,
    No,
}

/// The fields of a message, of which perhaps not all bytes are at hand.
struct Fields<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Misfit> {
        if len > self.left {
            return Err(Misfit::No);
        }
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Misfit::Cut)?;
        self.rest = rest;
        self.left -= len;
        Ok(taken)
    }

    fn count(&mut self) -> Result<usize, Misfit> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn text(&mut self) -> Result<&'a [u8], Misfit> {
        let at_hand = &self.rest[..self.rest.len().min(self.left)];
        let text = cstring(at_hand).map_or(at_hand, |(text, _)| text);
        if text.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()) {
            return Err(Misfit::No);
        }
        if text.len() == at_hand.len() {
            return Err(if self.left > at_hand.len() { Misfit::Cut } else { Misfit::No });
        }
        self.take(text.len() + 1)?;
        Ok(text)
    }

    /// Format codes: text or binary.
    fn formats(&mut self) -> Result<(), Misfit> {
        let count = self.count()?;
        let codes = self.take(count * 2)?;
        if codes.chunks(2).all(|code| matches!(code, [0, 0 | 1])) { Ok(()) } else { Err(Misfit::No) }
    }

    fn values(&mut self) -> Result<(), Misfit> {
        for _ in 0..self.count()? {
            let len = self.take(4)?;
            let len = i32::from_be_bytes([len[0], len[1], len[2], len[3]]);
            match usize::try_from(len) {
                Ok(len) => drop(self.take(len)?),
                Err(_) if len == -1 => {}
                Err(_) => return Err(Misfit::No),
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Misfit> {
        if self.left == 0 { Ok(()) } else { Err(Misfit::No) }
    }
}

/// True where a message begins whose type tells who sends it, and after which another may begin.
pub(super) fn begins(bytes: &[u8]) -> bool {
    const ENOUGH: usize = 64;
    let Some((kind, len)) = head(bytes).filter(|(kind, _)| b"QPBTZ12nI".contains(kind)) else { return false };
    match fits(kind, &bytes[5..], len - 4) {
        Ok(()) => {
            let next = &bytes[1 + len..];
            let from_server = BACKEND.contains(&kind);
            // A type without content is too little to go by.
            let must_follow = b"12nI".contains(&kind);
            follows(next, from_server, must_follow)
        }
        Err(Misfit::Cut) => bytes.len() >= ENOUGH,
        Err(Misfit::No) => false,
    }
}

fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    const LONGEST: usize = 1 << 24;
    let &[kind, a, b, c, d, ..] = bytes else { return None };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    (4..LONGEST).contains(&len).then_some((kind, len))
}

fn follows(next: &[u8], from_server: bool, must: bool) -> bool {
    let kinds: &[u8] = if from_server { b"ZT12nIDCEstNSAGHV3" } else { b"QPBDECSHXdcf" };
    let Some(&kind) = next.first() else { return !must };
    let Some((_, len)) = head(next) else { return !must && next.len() < 5 && kinds.contains(&kind) };
    let is_shape = fits(kind, &next[5..], len - 4);
    kinds.contains(&kind) && !matches!(is_shape, Err(Misfit::No))
}

/// Is the content what the type says? Types that are not looked at fit.
fn fits(kind: u8, body: &[u8], len: usize) -> Result<(), Misfit> {
    let mut fields = Fields { rest: body, left: len };
    match kind {
        b'Q' => {
            let text = fields.text()?;
            if text.len() < 3 {
                return Err(Misfit::No);
            }
        }
        b'P' => {
            fields.text()?;
            fields.text()?;
            let count = fields.count()?;
            fields.take(count * 4)?;
        }
        b'B' => {
            fields.text()?;
            fields.text()?;
            fields.formats()?;
            fields.values()?;
            fields.formats()?;
        }
        b'T' => {
            let count = fields.count()?;
            // MaxTupleAttributeNumber
            if !(1..=1664).contains(&count) {
                return Err(Misfit::No);
            }
            for _ in 0..count {
                fields.text()?;
                fields.take(18)?;
            }
        }
        b'Z' => {
            if !matches!(fields.take(1)?, b"I" | b"T" | b"E") {
                return Err(Misfit::No);
            }
        }
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' => {}
        _ => return Ok(()),
    }
    fields.end()
}
