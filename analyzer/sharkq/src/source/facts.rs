//! A log file of facts, read line by line. In: its bytes as stored. Out: its facts one after the other, and
//! what is wrong with it. Whatever its bytes unpack to, memory and time are bounded by what is stored. A
//! file that is still being written ends where it ends.

use std::io::{BufRead, BufReader, Cursor, Read};

use shark_schema::identity::{self, LogError, LogHeader, Record};

use crate::place::{Folder, PlaceError};

/// The facts of one log file, as they are read.
pub struct FactLog {
    /// Its first line.
    pub header: LogHeader,
    lines: Lines,
    number: u64,
    /// The last line may be torn: an error counts once another line follows.
    torn: Option<LogError>,
    damage: Vec<LogError>,
}

impl FactLog {
    /// Opens it; `None` where it is none.
    pub fn open(place: &Folder) -> Result<Option<FactLog>, PlaceError> {
        let Some(bytes) = place.read()? else { return Ok(None) };
        let most = most_unpacked(bytes.len() as u64);
        let is_packed = bytes.starts_with(&ZSTD_MAGIC);
        let stored = Cursor::new(bytes);
        let unpacked: Box<dyn Read> = match is_packed {
            true => match zstd::stream::read::Decoder::with_buffer(stored) {
                Ok(decoder) => Box::new(decoder.take(most)),
                Err(_) => return Ok(None),
            },
            false => Box::new(stored),
        };
        let mut lines =
            Lines { from: BufReader::new(unpacked), left: if is_packed { most } else { u64::MAX } };
        let Some(header) = lines.next().and_then(|line| identity::read_header(&line).ok()) else {
            return Ok(None);
        };
        Ok(Some(FactLog { header, lines, number: 1, torn: None, damage: Vec::new() }))
    }

    /// It unpacks to more than is read.
    pub fn is_cut(&self) -> bool {
        self.lines.left == 0
    }

    /// Lines that are no facts, the first of them, and that it was cut.
    pub fn damage(mut self) -> Vec<LogError> {
        if self.is_cut() {
            let why = "it unpacks to more than a log of its size has; the rest is left out".into();
            self.damage.push(LogError::Line { line: self.number, why });
        }
        self.damage
    }
}

impl Iterator for FactLog {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            let line = self.lines.next()?;
            self.number += 1;
            self.damage.extend(self.torn.take().filter(|_| self.damage.len() < MOST_ERRORS));
            match identity::read_line(self.number, &line) {
                Ok(Some(record)) => return Some(record),
                // A later version knows it.
                Ok(None) => {}
                Err(error) => self.torn = Some(error),
            }
        }
    }
}

/// How many bytes are read of a log file that is stored in so many. A log of a hundred thousand pods that
/// are alike unpacks to fifty times its size; others to less.
pub fn most_unpacked(stored_bytes: u64) -> u64 {
    stored_bytes.saturating_mul(128).clamp(16 << 20, 512 << 20)
}

/// First bytes of a zstd frame (RFC 8878 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The longest fact: an object of Kubernetes has at most 1.5 MiB.
const MOST_LINE_BYTES: u64 = 2 << 20;
/// Errors told of one file.
const MOST_ERRORS: usize = 8;

/// Lines of a log. The end of a torn frame, and a line that is too long, end it.
struct Lines {
    from: BufReader<Box<dyn Read>>,
    /// Bytes that may still come.
    left: u64,
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.from.by_ref().take(MOST_LINE_BYTES).read_until(b'\n', &mut line);
        let len = line.len() as u64;
        self.left = self.left.saturating_sub(len);
        if len == MOST_LINE_BYTES && !line.ends_with(b"\n") {
            self.left = 0;
            return None;
        }
        (read.is_ok() && len > 0).then(|| String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }
}
