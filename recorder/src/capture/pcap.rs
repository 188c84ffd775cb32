//! Reads capture files of both kinds, plain, gzip or zstd, record by record.
//! In: a path. Out: records with nanosecond stamps, in file order; errors that name the file and the offset.
//! Only one record is in memory at a time, and none larger than [`MOST_RECORD_BYTES`].

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use shark_schema::segment::{self, Block, Interface, Next, Reader};

/// A record of a capture file.
pub struct Record<'a> {
    pub interface: u32,
    pub ts_ns: i64,
    pub original_len: u32,
    pub flags: u32,
    pub data: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Blocks { path: PathBuf, source: segment::Error },
    #[error("{path}: {what} at byte {offset}")]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
    #[error("{path}: not a capture file: it starts neither like pcap nor like pcapng")]
    Stranger { path: PathBuf },
}

const MOST_RECORD_BYTES: u32 = 16 << 20;
const CHUNK_BYTES: usize = 256 << 10;

pub struct CaptureFile {
    path: PathBuf,
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    kind: Kind,
    last_ns: i64,
}

enum Kind {
    Ng(Reader),
    Old { big_endian: bool, ns_a_tick: i64, link_type: u16, offset: u64 },
}

impl CaptureFile {
    pub fn open(path: &Path) -> Result<CaptureFile, FileError> {
        let io = |source| FileError::Io { path: path.into(), source };
        let mut magic = [0; 4];
        let got = File::open(path).and_then(|mut file| file.read(&mut magic)).map_err(io)?;
        let file = BufReader::new(File::open(path).map_err(io)?);
        let input: Box<dyn Read> = match magic {
            [0x1F, 0x8B, ..] => Box::new(flate2::read::MultiGzDecoder::new(file)),
            [0x28, 0xB5, 0x2F, 0xFD] => Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(io)?),
            _ => Box::new(file),
        };
        let kind = Kind::Ng(Reader::new());
        let mut this =
            CaptureFile { path: path.into(), input, buffer: Vec::new(), start: 0, kind, last_ns: 0 };
        if got < 4 || !this.more(24)? && this.rest().len() < 24 {
            return Err(FileError::Stranger { path: path.into() });
        }
        this.recognise()?;
        Ok(this)
    }

    /// Link types by interface, as far as read.
    pub fn interfaces(&self) -> Vec<(Option<String>, u16)> {
        match &self.kind {
            Kind::Ng(reader) => {
                reader.interfaces().iter().map(|i: &Interface| (i.name.clone(), i.link_type)).collect()
            }
            Kind::Old { link_type, .. } => vec![(None, *link_type)],
        }
    }

    /// Calls `each` for every record until it returns false or the file ends.
    pub fn read(
        &mut self,
        mut each: impl FnMut(&[(Option<String>, u16)], Record<'_>) -> bool,
    ) -> Result<(), FileError> {
        let mut interfaces = self.interfaces();
        loop {
            let step = match &mut self.kind {
                Kind::Ng(reader) => {
                    let rest = &self.buffer[self.start..];
                    let next = reader
                        .next(rest)
                        .map_err(|source| FileError::Blocks { path: self.path.clone(), source })?;
                    match next {
                        Next::More(bytes) => Err(bytes),
                        Next::Block(item, len) => {
                            if let Block::Interface(id) = item.block {
                                let found = &reader.interfaces()[id as usize];
                                interfaces.push((found.name.clone(), found.link_type));
                            }
                            let go_on = match item.block {
                                Block::Packet(packet) => {
                                    self.last_ns = packet.ts_ns.unwrap_or(self.last_ns);
                                    each(
                                        &interfaces,
                                        Record {
                                            interface: packet.interface,
                                            ts_ns: self.last_ns,
                                            original_len: packet.original_len,
                                            flags: packet.flags,
                                            data: packet.data,
                                        },
                                    )
                                }
                                _ => true,
                            };
                            Ok((len, go_on))
                        }
                    }
                }
                Kind::Old { .. } => self.old_record(&interfaces, &mut each)?,
            };
            match step {
                Ok((len, true)) => self.start += len,
                Ok((_, false)) => return Ok(()),
                Err(_) if self.at_end()? => return Ok(()),
                Err(bytes) => {
                    if !self.more(bytes)? {
                        return Err(self.torn());
                    }
                }
            }
        }
    }

    /// The length of the record at the start of the buffer, or the bytes it needs.
    fn old_record(
        &mut self,
        interfaces: &[(Option<String>, u16)],
        each: &mut impl FnMut(&[(Option<String>, u16)], Record<'_>) -> bool,
    ) -> Result<Result<(usize, bool), usize>, FileError> {
        let Kind::Old { big_endian, ns_a_tick, offset, .. } = &mut self.kind else {
            return Ok(Err(0));
        };
        let rest = &self.buffer[self.start..];
        let Some(head) = rest.first_chunk::<16>() else {
            return Ok(Err(16));
        };
        let word = |at: usize| {
            let raw = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            if *big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
        };
        let caplen = word(8);
        if caplen > MOST_RECORD_BYTES {
            let (path, offset) = (self.path.clone(), *offset);
            return Err(FileError::Damaged { path, offset, what: "a record of impossible length" });
        }
        let len = 16 + caplen as usize;
        let Some(record) = rest.get(..len) else {
            return Ok(Err(len));
        };
        let ts_ns = i64::from(word(0)) * 1_000_000_000 + i64::from(word(4)) * *ns_a_tick;
        let record = Record { interface: 0, ts_ns, original_len: word(12), flags: 0, data: &record[16..] };
        let go_on = each(interfaces, record);
        *offset += len as u64;
        Ok(Ok((len, go_on)))
    }

    fn recognise(&mut self) -> Result<(), FileError> {
        let head: [u8; 24] = self.rest().first_chunk().copied().unwrap_or_default();
        let (big_endian, ns_a_tick) = match [head[0], head[1], head[2], head[3]] {
            [0x0A, 0x0D, 0x0D, 0x0A] => return Ok(()),
            [0xD4, 0xC3, 0xB2, 0xA1] => (false, 1_000),
            [0xA1, 0xB2, 0xC3, 0xD4] => (true, 1_000),
            [0x4D, 0x3C, 0xB2, 0xA1] => (false, 1),
            [0xA1, 0xB2, 0x3C, 0x4D] => (true, 1),
            _ => {
                return Err(FileError::Stranger { path: self.path.clone() });
            }
        };
        let link = [head[20], head[21], head[22], head[23]];
        // The upper bits tell of a frame check sequence.
        let link = if big_endian { u32::from_be_bytes(link) } else { u32::from_le_bytes(link) } & 0xFFFF;
        self.kind = Kind::Old { big_endian, ns_a_tick, link_type: link as u16, offset: 24 };
        self.start = 24;
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn at_end(&mut self) -> Result<bool, FileError> {
        Ok(self.rest().is_empty() && !self.more(1)?)
    }

    /// Reads on until `bytes` are there; false when the input ends before.
    fn more(&mut self, bytes: usize) -> Result<bool, FileError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < bytes {
            let had = self.buffer.len();
            self.buffer.resize(had + CHUNK_BYTES, 0);
            let got = self.input.read(&mut self.buffer[had..]);
            self.buffer.truncate(had + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                // A compressed file that ends early: what was decoded is good, the rest is torn.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(source) => {
                    return Err(FileError::Io { path: self.path.clone(), source });
                }
            }
        }
        Ok(true)
    }

    fn torn(&self) -> FileError {
        let offset = match &self.kind {
            Kind::Ng(reader) => reader.offset(),
            Kind::Old { offset, .. } => *offset,
        };
        let what = "the file ends in the middle of a record that starts";
        FileError::Damaged { path: self.path.clone(), offset, what }
    }
}
