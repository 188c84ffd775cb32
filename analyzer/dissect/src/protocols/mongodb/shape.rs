//! What messages look like from outside: whether a conversation begins with one, and where one begins in the middle of a stream.

use super::bson::{element, value_len};
use super::{
    HEAD, Head, LONGEST, OP_COMPRESSED, OP_DELETE, OP_GET_MORE, OP_INSERT, OP_KILL_CURSORS, OP_MSG, OP_QUERY,
    OP_REPLY, OP_UPDATE,
};
use crate::layer::Probe;

/// A length, a code, and what must follow it.
pub(super) fn probe(bytes: &[u8]) -> Probe {
    const SHORTEST: usize = HEAD + 5;
    let is_length = |len: usize| (SHORTEST..=LONGEST).contains(&len);
    let Some(head) = Head::new(bytes) else {
        let len = bytes.first_chunk().map(|len| u32::from_le_bytes(*len) as usize);
        return if len.is_none_or(is_length) { Probe::More } else { Probe::No };
    };
    if !is_length(head.len) || !head.is_known() {
        return Probe::No;
    }
    let body = &bytes[HEAD..];
    let fits = match head.code {
        OP_MSG => message(body, head.len - HEAD),
        OP_REPLY if head.answers != 0 => reply(body),
        OP_COMPRESSED => compressed(body),
        OP_QUERY | OP_INSERT | OP_UPDATE | OP_DELETE | OP_GET_MORE if head.answers == 0 => named(body),
        OP_KILL_CURSORS if head.answers == 0 => {
            number(body, 0).map(|zero| zero == 0 && head.len >= HEAD + 16)
        }
        _ => Some(false),
    };
    match fits {
        Some(true) => Probe::Yes,
        Some(false) => Probe::No,
        None => Probe::More,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Flags that there are, and a section.
fn message(body: &[u8], len: usize) -> Option<bool> {
    const FLAGS: u32 = 1 | 1 << 1 | 1 << 16;
    if number(body, 0)? & !FLAGS != 0 {
        return Some(false);
    }
    let inner = number(body, 5)? as usize;
    let fits = inner >= 5 && inner + 5 <= len;
    match body[4] {
        0 => Some(fits && document(body.get(9..)?)?),
        1 => {
            let name = body.get(9..)?;
            Some(fits && name.iter().take(4).all(u8::is_ascii_alphabetic))
        }
        _ => Some(false),
    }
}

/// An element with a name that can be read.
fn document(bytes: &[u8]) -> Option<bool> {
    const LONGEST_NAME: usize = 64;
    let kind = *bytes.first()?;
    let at_hand = bytes.get(1..)?;
    let end = memchr::memchr(0, &at_hand[..at_hand.len().min(LONGEST_NAME)]);
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic());
    match end {
        Some(end) => {
            let value = element(bytes).map(|(_, value)| value).unwrap_or_default();
            Some(is_name(&at_hand[..end]) && value_len(kind, value).is_ok())
        }
        None if at_hand.len() < LONGEST_NAME && at_hand.iter().all(u8::is_ascii_graphic) => None,
        None => Some(false),
    }
}

fn reply(body: &[u8]) -> Option<bool> {
    let (flags, from, returned) = (number(body, 0)?, number(body, 12)?, number(body, 16)?);
    let is_head = flags & !0xf == 0 && from < 1 << 24 && returned < 1 << 20;
    if returned == 0 || !is_head {
        return Some(is_head);
    }
    Some(number(body, 20)? >= 5 && document(body.get(24..)?)?)
}

fn compressed(body: &[u8]) -> Option<bool> {
    let (code, len) = (number(body, 0)?, number(body, 4)? as usize);
    let compressor = *body.get(8)?;
    Some(matches!(code, OP_MSG | OP_QUERY | OP_REPLY) && len <= LONGEST && compressor <= 3)
}

/// Few flags or none, and `database.collection`.
fn named(body: &[u8]) -> Option<bool> {
    const LONGEST_NAME: usize = 255;
    let flags = number(body, 0)?;
    let name = body.get(4..)?;
    let name = &name[..name.len().min(LONGEST_NAME)];
    let end = memchr::memchr(0, name);
    let text = &name[..end.unwrap_or(name.len())];
    if flags > 0xff || text.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
        return Some(false);
    }
    match end {
        Some(_) => Some(memchr::memchr(b'.', text).is_some_and(|dot| dot > 0)),
        None if name.len() < LONGEST_NAME => None,
        None => Some(false),
    }
}
