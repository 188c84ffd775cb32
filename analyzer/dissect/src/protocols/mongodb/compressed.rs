//! OP_COMPRESSED: a message inside of another. In: one that is wholly at hand. Out: what it says, as if it had come as it is; what is too
//! long or compressed in a way that is not decoded keeps what its head says.

use std::io::Read;

use super::{Building, Head, OP_COMPRESSED, OP_MSG, Place, Step};

/// Compressed bytes waited for.
const LONGEST: usize = 128 * 1024;
/// Bytes of a message that are decoded.
const DECODED: u64 = 1024 * 1024;
/// What stands before the compressed bytes: the code inside, a length, and how it is compressed.
const HEAD: usize = 9;

impl Building {
    pub(super) fn compressed(&mut self, bytes: &[u8]) -> Step {
        let &[a, b, c, d, _, _, _, _, compressor, ref content @ ..] = bytes else { return Step::More(HEAD) };
        let code = u32::from_le_bytes([a, b, c, d]);
        if self.left > LONGEST || !matches!(compressor, 0 | 2 | 3) || code == OP_COMPRESSED {
            self.place = Place::Rest;
            return Step::Used(bytes.len());
        }
        if bytes.len() < self.left {
            return Step::More(self.left);
        }
        self.inside(code, &decoded(compressor, content));
        self.place = Place::Rest;
        Step::Used(bytes.len())
    }

    /// Reads what was inside, as far as it could be decoded.
    fn inside(&mut self, code: u32, content: &[u8]) {
        let head = Head { code, ..self.head };
        if !head.is_known() {
            return;
        }
        let facts = std::mem::take(&mut self.facts);
        let mut inner =
            Building { head, left: content.len(), place: Place::Fixed, flags: 0, facts, returned: None };
        let mut at = 0;
        while at < content.len() {
            match inner.step(&content[at..]) {
                Step::Used(len) if len > 0 => {
                    at += len;
                    inner.left -= len;
                }
                _ => break,
            }
        }
        self.facts = inner.facts;
        self.returned = inner.returned;
        self.flags = if code == OP_MSG { inner.flags } else { 0 };
    }
}

fn decoded(compressor: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was decoded before an error is kept.
    let _ = match compressor {
        0 => content.take(DECODED).read_to_end(&mut bytes),
        2 => flate2::read::ZlibDecoder::new(content).take(DECODED).read_to_end(&mut bytes),
        _ => match zstd::stream::read::Decoder::new(content) {
            Ok(mut decoder) => {
                // RFC 8878 section 3.1.1.1.2: windows above 8 MiB need not be supported.
                let _ = decoder.window_log_max(23);
                decoder.take(DECODED).read_to_end(&mut bytes)
            }
            Err(_) => Ok(0),
        },
    };
    bytes
}
