//! The header that a proxy puts before what it hands on (PROXY protocol, versions 1 and 2, haproxy.org/download/3.0/doc/proxy-protocol.txt).
//! In: the first bytes of a direction. Out: where what was handed on begins.

use crate::limits;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Prefix {
    /// No such header.
    None,
    /// Too few to tell.
    More,
    /// A header of this length.
    Whole(usize),
}

/// Longest header of version 1, with its line end.
const LINE: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Looks for a header.
pub(super) fn header(bytes: &[u8]) -> Prefix {
    match bytes.first() {
        Some(b'P') => line(bytes),
        Some(b'\r') => binary(bytes),
        _ => Prefix::None,
    }
}

fn line(bytes: &[u8]) -> Prefix {
    const KINDS: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
    if !KINDS.iter().any(|kind| bytes.starts_with(kind)) {
        return if KINDS.iter().any(|kind| kind.starts_with(bytes)) { Prefix::More } else { Prefix::None };
    }
    match memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE)]) {
        Some(end) if bytes[..end].ends_with(b"\r") => Prefix::Whole(end + 1),
        None if bytes.len() < LINE => Prefix::More,
        _ => Prefix::None,
    }
}

fn binary(bytes: &[u8]) -> Prefix {
    if !bytes.starts_with(&SIGNATURE[..bytes.len().min(SIGNATURE.len())]) {
        return Prefix::None;
    }
    match bytes.get(SIGNATURE.len()..FIXED) {
        None => Prefix::More,
        Some(&[0x20 | 0x21, _, high, low]) => {
            let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
            match len {
                _ if len > limits::PROXY_HEADER => Prefix::None,
                _ if bytes.len() < len => Prefix::More,
                _ => Prefix::Whole(len),
            }
        }
        Some(_) => Prefix::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_at_any_length() {
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n".to_vec();
        let unknown = b"PROXY UNKNOWN\r\n".to_vec();
        let binary = [SIGNATURE, b"\x21\x11\0\x0c", &[7; 12]].concat();
        let local = [SIGNATURE, b"\x20\0\0\0"].concat();
        for bytes in [text, unknown, binary, local] {
            assert!((1..bytes.len()).all(|len| header(&bytes[..len]) == Prefix::More));
            assert_eq!(header(&[&bytes[..], b"GET"].concat()), Prefix::Whole(bytes.len()));
        }
    }

    #[test]
    fn other_bytes_are_left_alone() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 100]].concat();
        let others: [&[u8]; 6] = [
            b"POST / HTTP/1.1",
            b"PROXY TCP4 1\n",
            b"\r\nGET /",
            &long,
            b"\r\n\r\n\0\r\nQUIT\n\x31\0\0\0",
            b"",
        ];
        assert!(others.iter().all(|bytes| header(bytes) == Prefix::None));
    }
}
