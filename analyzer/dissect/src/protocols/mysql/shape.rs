//! What packets look like from outside: whether a conversation begins with one, and where one begins in the middle of a stream.
//! Strict, since every conversation on any port is asked.

use super::asks::{EXECUTE, PREPARE, QUERY};
use super::head;
use super::wire::Reader;
use crate::layer::Probe;

/// Does a conversation begin like this?
pub(super) fn probe(bytes: &[u8]) -> Probe {
    let Some((len, sequence, body)) = head(bytes) else { return Probe::More };
    match (sequence, body.first()) {
        (0 | 1, None) if (10..1024).contains(&len) => Probe::More,
        (0, Some(0x0a)) => greeting(body, len),
        (0, Some(0xff)) => refusal(body, len),
        (1, Some(_)) if (32..4096).contains(&len) && body.len() < 33 => Probe::More,
        (1, Some(_)) if is_login(body, len) => Probe::Yes,
        _ => Probe::No,
    }
}

/// Protocol::HandshakeV10: a version, a thread, a challenge, and a zero behind its first part.
fn greeting(body: &[u8], len: usize) -> Probe {
    const LONGEST_VERSION: usize = 80;
    if !(32..512).contains(&len) {
        return Probe::No;
    }
    let is_version = |byte: &u8| byte.is_ascii_graphic();
    let version = body[1..].iter().take_while(|byte| is_version(byte)).count();
    let is_number = body.get(1).is_none_or(u8::is_ascii_digit);
    if !is_number || version > LONGEST_VERSION {
        return Probe::No;
    }
    match (body.get(1 + version), body.get(1 + version + 1 + 4 + 8)) {
        (Some(0), Some(0)) if version >= 3 => Probe::Yes,
        (None | Some(0), None) => Probe::More,
        _ => Probe::No,
    }
}

/// An ERR packet before any greeting: too many connections, or a host that may not connect.
fn refusal(body: &[u8], len: usize) -> Probe {
    if !(10..512).contains(&len) || body.len() > len {
        return Probe::No;
    }
    if body.len() < len {
        return Probe::More;
    }
    let mut reader = Reader::new(&body[1..]);
    let is_code = reader.u16().is_some_and(|code| (1000..5000).contains(&code));
    let is_text = reader.rest().iter().all(|byte| !byte.is_ascii_control());
    if is_code && is_text { Probe::Yes } else { Probe::No }
}

/// Protocol::HandshakeResponse41, or the beginning of it that asks for TLS: 19 zeros behind the character set.
pub(super) fn is_login(body: &[u8], len: usize) -> bool {
    const PROTOCOL_41: u32 = 1 << 9;
    let mut reader = Reader::new(body);
    let is_able = reader.u32().is_some_and(|capabilities| capabilities & PROTOCOL_41 != 0);
    let zeros = reader.take(4 + 1).and_then(|_| reader.take(19));
    len >= 32 && is_able && zeros.is_some_and(|zeros| zeros.iter().all(|byte| *byte == 0))
}

/// First words of statements that are looked for.
const VERBS: [&[u8]; 16] = [
    b"SELECT",
    b"INSERT",
    b"UPDATE",
    b"DELETE",
    b"REPLACE",
    b"SET ",
    b"SHOW",
    b"BEGIN",
    b"START",
    b"COMMIT",
    b"ROLLBACK",
    b"CALL",
    b"WITH",
    b"CREATE",
    b"ALTER",
    b"DROP",
];

/// True where a packet begins that no other protocol is likely to have.
pub(super) fn begins(bytes: &[u8]) -> bool {
    // A result: the number of columns, and the definition of the first.
    if matches!(bytes, [1, 0, 0, 1, 1..=0xfa, _, _, 0, 2, 3, b'd', b'e', b'f', ..]) {
        return true;
    }
    let Some((len, sequence, body)) = head(bytes).filter(|(len, ..)| *len > 4) else { return false };
    let is_last = body.len() == len;
    match (sequence, body.first()) {
        (0, Some(&(QUERY | PREPARE))) => is_statement(&body[1..], len - 1),
        (0, Some(&EXECUTE)) => is_execution(&body[1..], len),
        (1, Some(0)) => is_last && is_ok(&body[1..]),
        (1, Some(0xff)) => is_last && is_error(&body[1..]),
        _ => false,
    }
}

fn is_statement(text: &[u8], len: usize) -> bool {
    // Attributes that are none.
    let text = text.strip_prefix(&[0, 1]).unwrap_or(text);
    let text = &text[..text.len().min(len)];
    let has_verb =
        VERBS.iter().any(|verb| text.get(..verb.len()).is_some_and(|word| word.eq_ignore_ascii_case(verb)));
    has_verb && text.iter().take(64).all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
}

/// A small id, a kind of cursor, and one iteration.
fn is_execution(content: &[u8], len: usize) -> bool {
    const LARGEST: u32 = 1 << 20;
    let mut reader = Reader::new(content);
    let is_id = reader.u32().is_some_and(|id| (1..LARGEST).contains(&id));
    let is_cursor = reader.u8().is_some_and(|flags| flags <= 4);
    is_id && is_cursor && reader.u32() == Some(1) && len >= 10
}

fn is_ok(content: &[u8]) -> bool {
    const KNOWN: u16 = 0x7fff;
    let mut reader = Reader::new(content);
    let numbers = reader.number().and(reader.number());
    let status = reader.u16().filter(|status| status & 0x0003 != 0 && status & !KNOWN == 0);
    let warnings = reader.u16().filter(|warnings| *warnings < 1000);
    numbers.and(status).and(warnings).is_some() && reader.rest().iter().all(|byte| !byte.is_ascii_control())
}

fn is_error(content: &[u8]) -> bool {
    let mut reader = Reader::new(content);
    let is_code = reader.u16().is_some_and(|code| (1000..5000).contains(&code));
    is_code
        && matches!(reader.rest(), [b'#', state @ ..] if state.iter().take(5).all(u8::is_ascii_alphanumeric))
}
