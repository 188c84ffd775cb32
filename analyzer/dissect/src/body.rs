//! Message bodies: what is kept of them, their true length, and content decoding (RFC 9110 section 8.4) with a cap on the
//! output. Nothing is decoded before the row is written, so that an open message holds no decoder.

use std::borrow::Cow;
use std::io::Read;

use crate::limits;

/// A body as it passes by.
#[derive(Debug, Default)]
pub struct Body {
    kept: Vec<u8>,
    limit: usize,
    announced: u64,
    /// Bytes that passed, before content decoding.
    pub len: u64,
    /// Bytes are missing.
    pub hole: bool,
}

/// What a row says of a body.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded<'a> {
    /// The beginning of the decoded body, up to the limit.
    pub bytes: Cow<'a, [u8]>,
    /// Length of the whole decoded body.
    pub len: Option<u64>,
}

impl Body {
    /// Of which `limit` bytes are to be shown; `encoded` bodies are held longer so that they can be decoded.
    pub fn new(limit: usize, encoded: bool) -> Body {
        let limit = if encoded { limit.max(limits::ENCODED_BYTES) } else { limit };
        Body { limit, ..Body::default() }
    }

    /// How long it will be, if its message tells the truth.
    pub fn announce(&mut self, len: u64) {
        self.announced = len;
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        let room = self.limit - self.kept.len();
        if room > 0 && !self.hole {
            if self.kept.is_empty() {
                let announced = usize::try_from(self.announced).unwrap_or(usize::MAX);
                self.kept.reserve_exact(announced.min(room).min(limits::ANNOUNCED_BYTES));
            }
            self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// Missing bytes: what was kept so far is all there will be.
    pub fn skip(&mut self, len: u64) {
        self.len += len;
        self.hole = true;
    }

    /// Memory held.
    pub fn memory(&self) -> usize {
        self.kept.capacity()
    }

    /// The body without the codings of `content_encoding`, cut at `limit`.
    pub fn decode(&self, content_encoding: &str, limit: usize) -> Decoded<'_> {
        let whole = !self.hole;
        let codings = content_encoding.split(',').map(str::trim).filter(|coding| !coding.is_empty());
        let codings: Vec<&str> = codings.filter(|coding| !coding.eq_ignore_ascii_case("identity")).collect();
        let as_sent = || {
            let bytes = &self.kept[..self.kept.len().min(limit)];
            Decoded { bytes: bytes.into(), len: whole.then_some(self.len) }
        };
        // What is empty has no coding, whatever is announced.
        if codings.is_empty() || self.len == 0 {
            return as_sent();
        }
        let at_hand = whole && self.kept.len() as u64 == self.len;
        let mut reader: Box<dyn Read + '_> = Box::new(self.kept.as_slice());
        for coding in codings.iter().rev().take(3) {
            reader = match open(coding, reader, &self.kept) {
                Some(reader) => reader,
                // Nobody knows it, or it is no coding of content: aws-chunked.
                None => return as_sent(),
            };
        }
        let (bytes, len) = read_capped(reader.as_mut(), limit);
        Decoded { bytes: bytes.into(), len: len.filter(|_| at_hand) }
    }
}

fn open<'a>(coding: &str, reader: Box<dyn Read + 'a>, raw: &[u8]) -> Option<Box<dyn Read + 'a>> {
    Some(match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        // "deflate" means zlib (RFC 9110 section 8.4.1.2), but raw DEFLATE is sent under that name too.
        "deflate" => match raw {
            [first, second, ..]
                if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31) =>
            {
                Box::new(flate2::read::ZlibDecoder::new(reader))
            }
            _ => Box::new(flate2::read::DeflateDecoder::new(reader)),
        },
        "br" => Box::new(brotli::Decompressor::new(reader, 4096)),
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::new(reader).ok()?;
            // RFC 8878 section 3.1.1.1.2: windows above 8 MiB need not be supported.
            decoder.window_log_max(23).ok()?;
            Box::new(decoder)
        }
        _ => return None,
    })
}

/// Reads to the end or to the cap; the length is `None` if the end was not reached in order.
fn read_capped(reader: &mut dyn Read, limit: usize) -> (Vec<u8>, Option<u64>) {
    let mut kept = Vec::new();
    let mut len = 0;
    let mut piece = [0; 16 * 1024];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return (kept, Some(len)),
            Ok(read) => {
                len += read as u64;
                let room = limit.saturating_sub(kept.len());
                kept.extend_from_slice(&piece[..read.min(room)]);
                if len > limits::DECODED_BYTES {
                    return (kept, None);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return (kept, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn body(bytes: &[u8]) -> Body {
        let mut body = Body::new(4096, true);
        body.push(bytes);
        body
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("memory takes all");
        encoder.finish().expect("memory takes all")
    }

    #[test]
    fn every_coding_and_their_chain() {
        let text = b"hello hello hello".as_slice();
        let whole = Decoded { bytes: text.into(), len: Some(17) };
        let zstd = zstd::encode_all(text, 1).expect("memory takes all");
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(text).expect("memory takes all");
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(text).expect("memory takes all");
        let raw = raw.finish().expect("memory takes all");
        assert_eq!(body(text).decode("identity", 100), whole);
        assert_eq!(body(&gzip(text)).decode("GZIP", 100), whole);
        assert_eq!(body(&zstd).decode("zstd", 100), whole);
        assert_eq!(body(&zlib.finish().expect("memory takes all")).decode("deflate", 100), whole);
        assert_eq!(body(&raw).decode("deflate", 100), whole);
        assert_eq!(body(&gzip(&zstd)).decode("zstd, gzip", 100), whole);
    }

    #[test]
    fn a_bomb_is_capped() {
        let bomb = gzip(&vec![0; limits::DECODED_BYTES as usize + 1]);
        let body = body(&bomb);
        let decoded = body.decode("gzip", 10);
        assert_eq!((decoded.bytes.len(), decoded.len), (10, None));
    }

    #[test]
    fn a_broken_body_gives_its_beginning_and_no_length() {
        let mut bytes = gzip(&[b'a'; 5000]);
        bytes.truncate(bytes.len() - 4);
        let broken = body(&bytes);
        let decoded = broken.decode("gzip", 4);
        assert_eq!((&*decoded.bytes, decoded.len), (&b"aaaa"[..], None));
    }

    #[test]
    fn a_body_of_an_unknown_coding_is_shown_as_it_was_sent() {
        let sent = Decoded { bytes: b"abc".into(), len: Some(3) };
        assert_eq!(body(b"abc").decode("compress", 4), sent);
        assert_eq!(body(b"abc").decode("aws-chunked", 4), sent);
        assert_eq!(body(&gzip(b"abc")).decode("x-own, gzip", 4).len, Some(gzip(b"abc").len() as u64));
    }

    #[test]
    fn an_empty_body_has_the_length_0_whatever_its_coding() {
        for coding in ["gzip", "br", "zstd", "deflate", "", "compress"] {
            assert_eq!(body(b"").decode(coding, 4), Decoded { bytes: b"".into(), len: Some(0) });
        }
    }

    #[test]
    fn an_announced_length_is_not_believed_before_bytes_come() {
        let mut body = Body::new(usize::MAX, false);
        body.announce(u64::MAX);
        assert_eq!(body.memory(), 0);
        body.push(b"abc");
        assert_eq!(body.memory(), limits::ANNOUNCED_BYTES);
        let mut short = Body::new(4096, false);
        short.announce(3);
        short.push(b"abcd");
        assert_eq!(&*short.decode("", 4096).bytes, b"abcd");
    }
}
