//! Capture files: bytes of a pcap or pcapng (plain or in gzip, zstd or lz4) in, frames out, in pieces of a few megabytes.
//! A file cut short gives every whole frame before the cut; a damaged one says where the damage begins. Whatever the bytes
//! are, memory stays bounded.

use std::io::{self, Read};

use shark_schema::segment::{self, Block, Next, Reader};

/// Bytes of a piece; larger only where one block is.
const PIECE_BYTES: usize = 4 << 20;
/// Largest record taken for one: libpcap's own limit is 256 KiB, super-frames and jumbo captures stay far below this.
const LARGEST_RECORD: usize = 16 << 20;

/// Frames of a piece, each located in its bytes.
#[derive(Default)]
pub struct Piece {
    /// Bytes of the file.
    pub bytes: Vec<u8>,
    /// Frames in file order.
    pub frames: Vec<Located>,
}

/// A frame in a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located {
    /// Offset of its first byte in the piece.
    pub start: u32,
    /// Captured length.
    pub len: u32,
    /// Length on the wire.
    pub wire_len: u32,
    /// Capture time, ns since 1970 UTC.
    pub ts_ns: i64,
    /// Interface in the file.
    pub iface: u32,
    /// Link type.
    pub link_type: u16,
    /// Number in the file, from 1.
    pub number: u32,
    /// pcapng `epb_flags`.
    pub flags: u32,
}

impl Piece {
    /// Bytes of a frame.
    pub fn data(&self, frame: &Located) -> &[u8] {
        &self.bytes[frame.start as usize..(frame.start + frame.len) as usize]
    }
}

/// How a file ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Cut short: what was still being written, or half copied.
    #[error("{file} is cut short at byte {offset}; the {frames} frames before it were read")]
    Torn {
        /// The file.
        file: String,
        /// Byte after decompression.
        offset: u64,
        /// Whole frames before it.
        frames: u32,
    },
    /// The bytes contradict the format.
    #[error("{file} is damaged at byte {offset} ({what}); the {frames} frames before it were read")]
    Corrupt {
        /// The file.
        file: String,
        /// Byte after decompression.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// Whole frames before it.
        frames: u32,
    },
    /// Its bytes are not those that were recorded, whatever they are.
    #[error("{file} is not as it was recorded: {what}")]
    Altered {
        /// The file.
        file: String,
        /// How that shows.
        what: String,
    },
    /// Not a capture at all.
    #[error(
        "{file} is not a capture file: {what}; sharkq reads pcap and pcapng, plain or in gzip, zstd or lz4"
    )]
    NotACapture {
        /// The file.
        file: String,
        /// Why.
        what: String,
    },
}

impl Damage {
    /// True where nothing contradicts the format: the file just ends early.
    pub fn is_torn(&self) -> bool {
        matches!(self, Damage::Torn { .. })
    }
}

/// Reads one file.
pub struct FrameReader {
    file: String,
    input: Box<dyn Read + Send>,
    format: Option<Format>,
    /// Bytes read and not yet parsed.
    rest: Vec<u8>,
    /// Offset of `rest` in the file.
    offset: u64,
    /// Nothing more can be read.
    ended: bool,
    failed: Option<io::Error>,
    /// Met behind frames that were handed out first.
    damage: Option<Damage>,
    finished: bool,
    frames: u32,
}

enum Format {
    Pcapng(Reader),
    Pcap(Pcap),
}

/// Legacy pcap (draft-ietf-opsawg-pcap).
struct Pcap {
    big_endian: bool,
    nanoseconds: bool,
    /// Bytes of a record header: 16, or 24 in Alexey Kuznetsov's modified format.
    record_header: usize,
    link_type: u16,
}

/// Bytes of a pcap file header.
const PCAP_HEADER: usize = 24;

impl FrameReader {
    /// Takes the file's bytes as they are stored.
    pub fn new(file: String, stored: Box<dyn Read + Send>) -> io::Result<FrameReader> {
        Ok(FrameReader {
            file,
            input: decompress(stored)?,
            format: None,
            rest: Vec::new(),
            offset: 0,
            ended: false,
            failed: None,
            damage: None,
            finished: false,
            frames: 0,
        })
    }

    /// Names of the interfaces seen so far; a pcap file has one without a name.
    pub fn interfaces(&self) -> Vec<Option<String>> {
        match &self.format {
            Some(Format::Pcapng(reader)) => {
                reader.interfaces().iter().map(|iface| iface.name.clone()).collect()
            }
            _ => vec![None],
        }
    }

    /// The next frames; `None` at the end. After an error there is nothing more.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Damage> {
        self.next_piece_in(Vec::new())
    }

    /// The next frames, in a buffer that was used before.
    pub fn next_piece_in(&mut self, mut spare: Vec<u8>) -> Result<Option<Piece>, Damage> {
        if let Some(damage) = self.damage.take() {
            self.finished = true;
            return Err(damage);
        }
        let mut want = PIECE_BYTES;
        while !self.finished {
            let mut piece = Piece { bytes: std::mem::take(&mut self.rest), frames: Vec::new() };
            self.fill(&mut piece.bytes, want);
            let used = match self.parse(&mut piece) {
                Ok(used) => used,
                Err(damage) if piece.frames.is_empty() => {
                    self.finished = true;
                    return Err(damage);
                }
                Err(damage) => {
                    self.damage = Some(damage);
                    return Ok(Some(piece));
                }
            };
            self.offset += used as u64;
            if !piece.frames.is_empty() {
                spare.clear();
                spare.reserve(PIECE_BYTES);
                spare.extend_from_slice(&piece.bytes[used..]);
                self.rest = spare;
                return Ok(Some(piece));
            }
            piece.bytes.drain(..used);
            self.rest = piece.bytes;
            if self.ended && used == 0 {
                self.finished = true;
                return self.end().map(|()| None);
            }
            want = self.rest.len() + PIECE_BYTES;
            if want > 2 * LARGEST_RECORD + PIECE_BYTES {
                self.finished = true;
                return Err(self.corrupt(self.offset, "a record is larger than any packet"));
            }
        }
        Ok(None)
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, want: usize) {
        if self.ended || bytes.len() >= want {
            return;
        }
        let room = (want - bytes.len()) as u64;
        match (&mut self.input).take(room).read_to_end(bytes) {
            Ok(_) => self.ended = bytes.len() < want,
            Err(error) => {
                self.ended = true;
                self.failed = Some(error);
            }
        }
    }

    /// No byte of it was read.
    pub fn is_empty(&self) -> bool {
        self.format.is_none() && self.offset == 0 && self.rest.is_empty()
    }

    /// Nothing more can be read; what is left over is no whole record.
    fn end(&mut self) -> Result<(), Damage> {
        match self.failed.take() {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.torn()),
            Some(error) => Err(self.corrupt(self.offset + self.rest.len() as u64, &error.to_string())),
            None if !self.rest.is_empty() => Err(self.torn()),
            None if self.format.is_none() => Err(self.not_a_capture("it is empty")),
            None => Ok(()),
        }
    }

    fn torn(&self) -> Damage {
        Damage::Torn { file: self.file.clone(), offset: self.offset, frames: self.frames }
    }

    fn corrupt(&self, offset: u64, what: &str) -> Damage {
        Damage::Corrupt { file: self.file.clone(), offset, what: what.into(), frames: self.frames }
    }

    /// Parses what is whole; returns how many bytes that is.
    fn parse(&mut self, piece: &mut Piece) -> Result<usize, Damage> {
        let mut used = 0;
        let mut format = match self.format.take() {
            Some(format) => format,
            None => match self.detect(&piece.bytes)? {
                Some(format) => {
                    used = if matches!(format, Format::Pcap(_)) { PCAP_HEADER } else { 0 };
                    format
                }
                None => return Ok(0),
            },
        };
        let parsed = match &mut format {
            Format::Pcapng(reader) => self.pcapng(reader, piece),
            Format::Pcap(pcap) => self.pcap(pcap, piece, used),
        };
        self.format = Some(format);
        parsed
    }

    fn detect(&self, bytes: &[u8]) -> Result<Option<Format>, Damage> {
        let Some(magic) = bytes.first_chunk::<4>() else {
            if self.ended && !bytes.is_empty() {
                return Err(self.not_a_capture("it is shorter than any header"));
            }
            return Ok(None);
        };
        if *magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            return Ok(Some(Format::Pcapng(Reader::new())));
        }
        let little = u32::from_le_bytes(*magic);
        let known = |magic: u32| matches!(magic, 0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34);
        let (magic, big_endian) = match (known(little), known(little.swap_bytes())) {
            (true, _) => (little, false),
            (_, true) => (little.swap_bytes(), true),
            _ => return Err(self.not_a_capture("it begins with no known magic number")),
        };
        if bytes.len() < PCAP_HEADER {
            return if self.ended { Err(self.torn()) } else { Ok(None) };
        }
        let word = |at: usize| word(bytes, at, big_endian);
        Ok(Some(Format::Pcap(Pcap {
            big_endian,
            nanoseconds: magic == 0xa1b2_3c4d,
            record_header: if magic == 0xa1b2_cd34 { 24 } else { 16 },
            // The upper bits hold the length of a frame check sequence.
            link_type: (word(20) & 0xffff) as u16,
        })))
    }

    fn not_a_capture(&self, what: &str) -> Damage {
        Damage::NotACapture { file: self.file.clone(), what: what.into() }
    }

    fn pcapng(&mut self, reader: &mut Reader, piece: &mut Piece) -> Result<usize, Damage> {
        let mut used = 0;
        loop {
            match reader.next(&piece.bytes[used..]) {
                Ok(Next::Block(item, len)) => {
                    if let Block::Packet(packet) = item.block {
                        self.frames += 1;
                        let start = (packet.data.as_ptr() as usize - piece.bytes.as_ptr() as usize) as u32;
                        let link_type = reader
                            .interfaces()
                            .get(packet.interface as usize)
                            .map_or(1, |iface| iface.link_type);
                        piece.frames.push(Located {
                            start,
                            len: packet.data.len() as u32,
                            wire_len: packet.original_len,
                            ts_ns: packet.ts_ns.unwrap_or(0),
                            iface: packet.interface,
                            link_type,
                            number: self.frames,
                            flags: packet.flags,
                        });
                    }
                    used += len;
                }
                Ok(Next::More(_)) => return Ok(used),
                Err(segment::Error::Torn { .. }) => return Ok(used),
                Err(segment::Error::Corrupt { offset, what }) => return Err(self.corrupt(offset, what)),
            }
        }
    }

    fn pcap(&mut self, pcap: &Pcap, piece: &mut Piece, from: usize) -> Result<usize, Damage> {
        let mut used = from;
        while let Some(header) = piece.bytes.get(used..used + pcap.record_header) {
            let word = |at: usize| word(header, at, pcap.big_endian);
            let (seconds, fraction, len, wire_len) = (word(0), word(4), word(8), word(12));
            if len as usize > LARGEST_RECORD {
                let what = format!("a record says it holds {len} bytes");
                return Err(self.corrupt(self.offset + used as u64, &what));
            }
            let start = used + pcap.record_header;
            if piece.bytes.len() < start + len as usize {
                break;
            }
            self.frames += 1;
            let fraction_ns = i64::from(fraction) * if pcap.nanoseconds { 1 } else { 1000 };
            piece.frames.push(Located {
                start: start as u32,
                len,
                wire_len: wire_len.max(len),
                ts_ns: i64::from(seconds) * 1_000_000_000 + fraction_ns,
                iface: 0,
                link_type: pcap.link_type,
                number: self.frames,
                flags: 0,
            });
            used = start + len as usize;
        }
        Ok(used)
    }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let raw = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
}

/// All frames of an lz4 file, one behind the other, as other decompressors take them (lz4_Frame_format.md, "Frame Concatenation").
/// Each has a decoder of its own: blocks of one frame may be smaller than those of the one before.
struct Lz4Frames<R: Read>(Option<lz4_flex::frame::FrameDecoder<R>>);

impl<R: Read> Read for Lz4Frames<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // A decoder stops at the end of each frame, and at the end of the file once more.
        let mut stops = 0;
        loop {
            let Some(decoder) = &mut self.0 else { return Ok(0) };
            match decoder.read(bytes) {
                Ok(0) if stops < STOPS => stops += 1,
                Err(error) => self.skip_frame(error)?,
                read => return read,
            }
            self.0 = self.0.take().map(|decoder| lz4_flex::frame::FrameDecoder::new(decoder.into_inner()));
        }
    }
}

/// Frames without content, and the end of the file, that follow each other.
const STOPS: u32 = 1024;

impl<R: Read> Lz4Frames<R> {
    /// A skippable frame holds what is no content.
    fn skip_frame(&mut self, error: io::Error) -> io::Result<()> {
        use lz4_flex::frame::Error;
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        let Some(&Error::SkippableFrame(len)) = inner else { return Err(error) };
        let Some(decoder) = &mut self.0 else { return Err(error) };
        let skipped = io::copy(&mut decoder.get_mut().take(len.into()), &mut io::sink())?;
        if skipped == u64::from(len) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The file's bytes without the compression its first bytes tell of.
fn decompress(mut stored: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::with_capacity(4);
    (&mut stored).take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(stored);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
        [0x04, 0x22, 0x4d, 0x18] => Box::new(Lz4Frames(Some(lz4_flex::frame::FrameDecoder::new(whole)))),
        _ => Box::new(whole),
    })
}
