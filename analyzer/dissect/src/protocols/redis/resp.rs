//! The elements of RESP2 and RESP3 (github.com/redis/redis-specifications, protocol/RESP3.md): bytes in, the next header or line
//! out. A bulk string's content is the caller's, since it may be as long as a file. Streamed types, which no server sends, are refused.

use crate::layer::Probe;

/// What stands at the start of the bytes.
pub enum Read<'a> {
    /// An element, or the header of one, of this many bytes.
    Element(usize, Element<'a>),
    /// It ends after at least this many bytes.
    More(usize),
    /// No element.
    Bad,
}

/// An element, with the byte that names its type.
#[derive(Debug, PartialEq)]
pub enum Element<'a> {
    /// So many elements follow.
    Many(u8, u64),
    /// So many bytes follow, and CRLF.
    Bulk(u8, u64),
    /// A line.
    Line(u8, &'a [u8]),
    /// Nothing, in any of its three spellings.
    Null(u8),
}

/// Longest bulk string (`proto-max-bulk-len` is 512 MB unless set higher).
const LONGEST: u64 = 4 << 30;
/// Most elements of an aggregate.
const MOST: u64 = 1 << 31;
/// Longest line: of an inline command (`PROTO_INLINE_MAX_SIZE`), of an error, of a status.
pub const LINE: usize = 64 * 1024;
/// Longest line of a number.
const NUMBER: usize = 32;

/// Reads what comes next.
pub fn element(bytes: &[u8]) -> Read<'_> {
    let Some(kind) = bytes.first().copied() else { return Read::More(1) };
    let longest = match kind {
        b'+' | b'-' | b'(' => LINE,
        b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' | b':' | b',' | b'#' | b'_' => NUMBER,
        _ => return Read::Bad,
    };
    let Some(line) = line(bytes, longest) else {
        return if bytes.len() < longest { Read::More(bytes.len() + 1) } else { Read::Bad };
    };
    // A CR that no LF follows, or an LF without CR.
    let Some(text) = line.strip_suffix(b"\r\n").and_then(|line| line.get(1..)) else { return Read::Bad };
    match read(kind, text) {
        Some(element) => Read::Element(line.len(), element),
        None => Read::Bad,
    }
}

/// The first line with its end.
pub fn line(bytes: &[u8], longest: usize) -> Option<&[u8]> {
    let within = &bytes[..bytes.len().min(longest)];
    memchr::memchr(b'\n', within).map(|end| &within[..=end])
}

fn read(kind: u8, text: &[u8]) -> Option<Element<'_>> {
    let element = match kind {
        b'$' | b'*' if text == b"-1" => Element::Null(kind),
        b'_' if text.is_empty() => Element::Null(kind),
        b'$' | b'!' | b'=' => Element::Bulk(kind, number(text).filter(|len| *len <= LONGEST)?),
        b'*' | b'~' | b'>' => Element::Many(kind, number(text).filter(|count| *count <= MOST)?),
        // Of a map and of an attribute the pairs are counted.
        b'%' | b'|' => Element::Many(kind, number(text).filter(|count| *count <= MOST)? * 2),
        b'#' => matches!(text, b"t" | b"f").then_some(Element::Line(kind, text))?,
        b':' => integer(text).map(|_| Element::Line(kind, text))?,
        b'+' | b'-' | b'(' | b',' => Element::Line(kind, text),
        _ => return None,
    };
    Some(element)
}

/// Digits without a needless zero before them, as servers and clients write lengths.
fn number(text: &[u8]) -> Option<u64> {
    let plain = text.iter().all(u8::is_ascii_digit) && (text == b"0" || !text.starts_with(b"0"));
    plain.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// An integer.
pub fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Replies that begin like nobody else's. POP3 has `+OK ` and `-ERR ` too, but text after them.
const REPLIES: &[&str] = &[
    "+OK\r\n",
    "+PONG\r\n",
    "+QUEUED\r\n",
    "-NOAUTH ",
    "-WRONGPASS ",
    "-WRONGTYPE ",
    "-NOPERM ",
    "-MOVED ",
    "-ASK ",
    "-LOADING ",
    "-READONLY ",
    "-OOM ",
    "-NOSCRIPT ",
    "-MISCONF ",
    "-MASTERDOWN ",
    "-CLUSTERDOWN ",
    "-EXECABORT ",
    "-BUSYGROUP ",
    "-ERR unknown command ",
    "-ERR wrong number of arguments for '",
];

/// Kinds of pushes, with their lengths before them.
const PUSHES: &[&str] = &[
    "$7\r\nmessage\r\n",
    "$8\r\npmessage\r\n",
    "$8\r\nsmessage\r\n",
    "$10\r\ninvalidate\r\n",
    "$9\r\nsubscribe\r\n",
    "$10\r\npsubscribe\r\n",
    "$10\r\nssubscribe\r\n",
];

/// Does a message of either side begin here? A command's word must be one that `is_known`; other arrays and bulk strings are
/// left to the next message, since they may as well be the inside of a longer reply.
pub fn begins(bytes: &[u8], is_known: fn(&[u8]) -> bool) -> Probe {
    match bytes.first() {
        None => Probe::More,
        Some(b'*') => after_header(bytes, |rest| command(rest, is_known)),
        Some(b'>') => after_header(bytes, |rest| super::super::begins_with(rest, PUSHES)),
        Some(b'+' | b'-') => super::super::begins_with(bytes, REPLIES),
        _ => Probe::No,
    }
}

fn after_header(bytes: &[u8], next: impl FnOnce(&[u8]) -> Probe) -> Probe {
    match element(bytes) {
        Read::Element(len, Element::Many(_, 1..)) => next(&bytes[len..]),
        Read::More(_) => Probe::More,
        _ => Probe::No,
    }
}

/// The first bulk string of a command.
fn command(bytes: &[u8], is_known: fn(&[u8]) -> bool) -> Probe {
    const LONGEST_WORD: u64 = 32;
    match element(bytes) {
        Read::Element(at, Element::Bulk(b'$', len @ 1..=LONGEST_WORD)) => {
            let end = at + len as usize;
            match (bytes.get(at..end), bytes.get(end..end + 2)) {
                (Some(word), Some(b"\r\n")) if is_known(word) => Probe::Yes,
                (Some(word), None) if is_known(word) => Probe::More,
                (None, _) => Probe::More,
                _ => Probe::No,
            }
        }
        Read::More(_) => Probe::More,
        _ => Probe::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<(usize, Element<'_>)> {
        match element(bytes) {
            Read::Element(len, element) => Some((len, element)),
            _ => None,
        }
    }

    #[test]
    fn headers_and_lines() {
        assert_eq!(read(b"$5\r\nhello\r\n"), Some((4, Element::Bulk(b'$', 5))));
        assert_eq!(read(b"%2\r\n"), Some((4, Element::Many(b'%', 4))));
        assert_eq!(read(b"-ERR no\r\n+"), Some((9, Element::Line(b'-', b"ERR no"))));
        assert_eq!(read(b",inf\r\n"), Some((6, Element::Line(b',', b"inf"))));
        for null in [&b"$-1\r\n"[..], b"*-1\r\n", b"_\r\n"] {
            assert!(matches!(read(null), Some((_, Element::Null(_)))));
        }
    }

    #[test]
    fn what_is_no_element() {
        for bad in [
            &b"$05\r\n"[..],
            b"$-2\r\n",
            b"*?\r\n",
            b"#x\r\n",
            b":1x\r\n",
            b":1\n",
            b"$99999999999\r\n",
            b"x",
        ] {
            assert!(matches!(element(bad), Read::Bad), "{bad:?}");
        }
        assert!(matches!(element(&[b'$'; 40]), Read::Bad));
        assert!(matches!(element(b"$12"), Read::More(4)));
    }
}
