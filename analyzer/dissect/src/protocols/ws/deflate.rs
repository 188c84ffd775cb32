//! permessage-deflate (RFC 7692): the messages of a direction are one DEFLATE stream, unless the ends agreed that each begins anew,
//! which a decoder need not know: it only refers back further where the sender did.

use flate2::{Decompress, FlushDecompress, Status};

use super::Message;
use crate::limits;

/// Decompresses the messages of one direction.
pub struct Inflater {
    stream: Decompress,
    /// Bytes are missing, or it was no DEFLATE: nothing that follows can be decompressed.
    is_lost: bool,
}

/// What a sender leaves off the end of each message (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// zlib's state for decompression with the largest window.
const MEMORY: usize = 48 * 1024;

/// The server's answer names the extension.
pub fn is_agreed(extensions: &str) -> bool {
    let mut names = extensions.split(',').filter_map(|extension| extension.split(';').next());
    names.any(|name| name.trim().eq_ignore_ascii_case("permessage-deflate"))
}

impl Inflater {
    pub fn new() -> Inflater {
        Inflater { stream: Decompress::new(false), is_lost: false }
    }

    pub fn lose(&mut self) {
        self.is_lost = true;
    }

    pub fn memory(&self) -> usize {
        MEMORY
    }

    /// Adds the next bytes to the message, of which `room` more are kept.
    pub fn take(&mut self, mut bytes: &[u8], message: &mut Message, mut room: usize) {
        let mut out = [0; 8 * 1024];
        while !self.is_lost {
            let (consumed, produced) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(bytes, &mut out, FlushDecompress::Sync);
            let consumed = (self.stream.total_in() - consumed) as usize;
            let produced = (self.stream.total_out() - produced) as usize;
            bytes = &bytes[consumed..];
            let kept = produced.min(room);
            message.kept.extend_from_slice(&out[..kept]);
            room -= kept;
            message.decoded_len = message.decoded_len.map(|len| len + produced as u64);
            let is_bomb = message.decoded_len.is_none_or(|len| len > limits::DECODED_BYTES);
            match status {
                Ok(Status::StreamEnd) => {
                    // A block marked as the last one: what follows begins anew.
                    self.stream.reset(false);
                    if bytes.is_empty() {
                        return;
                    }
                }
                Ok(_) if is_bomb => self.is_lost = true,
                Ok(_) if bytes.is_empty() && produced < out.len() => return,
                Ok(_) if consumed == 0 && produced == 0 => self.is_lost = true,
                Ok(_) => {}
                Err(_) => self.is_lost = true,
            }
        }
        message.decoded_len = None;
    }

    /// The message is over.
    pub fn end(&mut self, message: &mut Message, room: usize) {
        self.take(&TAIL, message, room);
    }
}
