//! Rounds: all files of a source in, about 8 MiB of frames at a time out, in an order that depends on the files alone.
//! Files of one series follow each other; series that were recorded side by side are merged by time, piece by piece.

use std::collections::{BTreeMap, HashMap};
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use shark_dissect::frame::{Frame, Site, Told};
use shark_dissect::pipeline::Chunk;

use shark_schema::manifest::Window;
use shark_schema::segment::{Sidecar, flags};

use crate::capture::{Damage, FrameReader, Located, Piece};
use crate::place::PlaceError;
use crate::source::CaptureFile;

/// Bytes of a round: never a function of the number of threads.
const ROUND_BYTES: usize = 8 << 20;

/// Frames to be analysed together.
#[derive(Default)]
pub struct Round {
    /// Parts in order.
    pub parts: Vec<Part>,
    /// Interfaces met for the first time, in the order of their numbers.
    pub new_interfaces: Vec<Option<String>>,
    /// Parts of several series: packets are to be put in the order of time.
    pub merge: bool,
}

impl Round {
    /// Returns the buffers that no other round needs: new memory for each piece would cost as much as parsing it.
    pub fn give_back(self, spare: &Sender<Vec<u8>>) {
        for part in self.parts {
            if let Ok(piece) = Arc::try_unwrap(part.piece) {
                // Once the reader is done nobody takes them.
                let _ = spare.send(piece.bytes);
            }
        }
    }
}

/// Frames of one file.
pub struct Part {
    /// Number of the file.
    pub file: u32,
    piece: Arc<Piece>,
    frames: Range<usize>,
    /// Numbers of the file's interfaces over all files.
    interfaces: Arc<Vec<u32>>,
    site: Site,
    is_plaintext: bool,
}

impl Part {
    /// Captured bytes.
    pub fn bytes(&self) -> u64 {
        self.piece.frames[self.frames.clone()].iter().map(|frame| u64::from(frame.len)).sum()
    }

    /// The frames, as the analysis takes them.
    pub fn chunk(&self) -> Chunk<'_> {
        let frames = self.piece.frames[self.frames.clone()].iter();
        frames
            .map(|located| Frame {
                ts_ns: located.ts_ns,
                data: self.piece.data(located),
                wire_len: located.wire_len,
                link_type: located.link_type,
                iface: self.interfaces[located.iface as usize],
                segment: self.file,
                number: located.number,
                site: Site { told: self.told(located), ..self.site },
            })
            .collect()
    }

    /// The end whose program told: what it said goes out.
    fn told(&self, located: &Located) -> Option<Told> {
        let is_outbound = located.flags & flags::DIRECTION_MASK == flags::OUTBOUND;
        self.is_plaintext.then_some(if is_outbound { Told::BySender } else { Told::ByReceiver })
    }
}

/// What was read of a file.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct FileStats {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// Captured bytes.
    #[serde(default)]
    pub captured_bytes: u64,
    /// Packets cut by the capture.
    pub truncated: u64,
    /// Earliest and latest stamp.
    pub window: Option<(i64, i64)>,
    /// Packets in each 10 s of UTC.
    pub buckets: BTreeMap<i64, u64>,
    /// Packets read, also those outside of the window that is asked for.
    #[serde(default)]
    pub read: u64,
    /// How the file ended before its end.
    #[serde(default)]
    pub damage: Option<String>,
}

/// Seconds of UTC that coverage counts by.
pub const BUCKET_NS: i64 = 10_000_000_000;

/// Reads all files.
pub struct Rounds<'a> {
    files: &'a [CaptureFile],
    series: Vec<Series>,
    numbers: HashMap<(String, String), u32>,
    /// Of each file.
    sites: Vec<Site>,
    interfaces: Vec<Option<String>>,
    announced: usize,
    /// A file that ended early; the files behind it are read all the same.
    pub damage: Vec<Damage>,
    /// What was read of each file.
    pub stats: Vec<FileStats>,
    /// Buffers that come back for use.
    spare: Option<Receiver<Vec<u8>>>,
}

struct Series {
    /// Files still to be opened, the next one last.
    waiting: Vec<usize>,
    reader: Option<(usize, FrameReader)>,
    piece: Option<(usize, Arc<Piece>, Arc<Vec<u32>>)>,
    at: usize,
}

impl<'a> Rounds<'a> {
    /// Of these files.
    pub fn new(files: &'a [CaptureFile]) -> Rounds<'a> {
        let count = files.iter().map(|file| file.series + 1).max().unwrap_or(0);
        let series = (0..count).map(|series| {
            let is_of = |file: &usize| files[*file].series == series && files[*file].left_out.is_none();
            let waiting = (0..files.len()).rev().filter(is_of).collect();
            Series { waiting, reader: None, piece: None, at: 0 }
        });
        Rounds {
            files,
            series: series.collect(),
            numbers: HashMap::new(),
            sites: sites(files),
            interfaces: Vec::new(),
            announced: 0,
            damage: Vec::new(),
            stats: files.iter().map(|file| file.left_out.clone().unwrap_or_default()).collect(),
            spare: None,
        }
    }

    /// Begins again with those of the files that are needed. Interfaces keep their numbers.
    pub fn begin_again(&mut self, is_needed: impl Fn(usize) -> bool) {
        let (numbers, interfaces) = (take(&mut self.numbers), take(&mut self.interfaces));
        *self = Rounds { numbers, interfaces, ..Rounds::new(self.files) };
        self.series.iter_mut().for_each(|series| series.waiting.retain(|file| is_needed(*file)));
    }

    /// Takes buffers back from [`Round::give_back`].
    pub fn reuse(self, spare: Receiver<Vec<u8>>) -> Rounds<'a> {
        Rounds { spare: Some(spare), ..self }
    }

    /// The next round; `None` when all files are read.
    pub fn next_round(&mut self) -> Result<Option<Round>, PlaceError> {
        let mut round = Round { merge: self.series.len() > 1, ..Round::default() };
        let mut bytes = 0;
        while bytes < ROUND_BYTES {
            let Some(horizon_ns) = self.load()? else { break };
            for series in &mut self.series {
                let Some((file, piece, interfaces)) = &series.piece else {
                    continue;
                };
                let rest = &piece.frames[series.at..];
                let take = rest.iter().take_while(|frame| frame.ts_ns <= horizon_ns).count();
                if take > 0 {
                    bytes += rest[..take].iter().map(|frame| frame.len as usize + 16).sum::<usize>();
                    round.parts.push(Part {
                        file: *file as u32,
                        piece: Arc::clone(piece),
                        frames: series.at..series.at + take,
                        interfaces: Arc::clone(interfaces),
                        site: self.sites[*file],
                        is_plaintext: self.files[*file].is_plaintext(),
                    });
                    series.at += take;
                }
                if series.at == piece.frames.len() {
                    series.piece = None;
                }
            }
        }
        round.new_interfaces = self.interfaces[self.announced..].to_vec();
        self.announced = self.interfaces.len();
        Ok((!round.parts.is_empty()).then_some(round))
    }

    /// Gives every series that has one a piece; returns the time up to which all of them are known.
    fn load(&mut self) -> Result<Option<i64>, PlaceError> {
        for at in 0..self.series.len() {
            while self.series[at].piece.is_none() {
                if !self.read_piece(at)? {
                    break;
                }
            }
        }
        let latest = |(_, piece, _): &(usize, Arc<Piece>, Arc<Vec<u32>>)| {
            piece.frames.iter().map(|frame| frame.ts_ns).max()
        };
        Ok(self.series.iter().filter_map(|series| latest(series.piece.as_ref()?)).min())
    }

    /// Reads on in a series; false when it has nothing more.
    fn read_piece(&mut self, at: usize) -> Result<bool, PlaceError> {
        let series = &mut self.series[at];
        let Some((file, reader)) = &mut series.reader else {
            let Some(file) = series.waiting.pop() else {
                return Ok(false);
            };
            let name = self.files[file].place.name();
            match FrameReader::new(name.clone(), self.files[file].place_now().reader()?) {
                Ok(reader) => series.reader = Some((file, reader)),
                Err(error) => {
                    let what = error.to_string();
                    self.stats[file].damage = Some(what.clone());
                    self.damage.push(Damage::Corrupt { file: name, offset: 0, what, frames: 0 });
                }
            }
            return Ok(true);
        };
        let file = *file;
        let spare = self.spare.as_ref().and_then(|spare| spare.try_recv().ok()).unwrap_or_default();
        match reader.next_piece_in(spare) {
            Ok(Some(mut piece)) => {
                let names = reader.interfaces();
                let info = &self.files[file];
                self.stats[file].add(&mut piece, info.window);
                let interfaces = Arc::new(self.interface_numbers(file, &names));
                let series = &mut self.series[at];
                series.at = 0;
                series.piece = (!piece.frames.is_empty()).then(|| (file, Arc::new(piece), interfaces));
            }
            Ok(None) => series.reader = None,
            // A segment that is being written ends anywhere, and one that was only just begun has no byte yet.
            Err(damage) if self.files[file].is_open() && (damage.is_torn() || reader.is_empty()) => {
                self.series[at].reader = None;
            }
            Err(damage) => {
                self.stats[file].damage = Some(damage.to_string());
                self.damage.push(damage);
                self.series[at].reader = None;
            }
        }
        Ok(true)
    }

    /// An interface of a node is the same one in all its segments; in other files each block is one of its own.
    fn interface_numbers(&mut self, file: usize, names: &[Option<String>]) -> Vec<u32> {
        let info = &self.files[file].info;
        let scope = info.node.clone().unwrap_or_else(|| format!("\0{file}"));
        let mut number = |at: usize, name: &Option<String>| {
            let key = match (&info.node, name) {
                (Some(_), Some(name)) => name.clone(),
                _ => format!("\0{at}"),
            };
            *self.numbers.entry((scope.clone(), key)).or_insert_with(|| {
                self.interfaces.push(name.clone());
                self.interfaces.len() as u32 - 1
            })
        };
        names.iter().enumerate().map(|(at, name)| number(at, name)).collect()
    }
}

/// Clusters and nodes by number, in the order of the files.
fn sites(files: &[CaptureFile]) -> Vec<Site> {
    let (mut clusters, mut nodes) = (Vec::new(), Vec::new());
    let sites = files.iter().map(|file| {
        let cluster = place(&mut clusters, &file.info.cluster);
        Site { cluster, node: place(&mut nodes, &(&file.info.cluster, &file.info.node)), told: None }
    });
    sites.collect()
}

fn place<T: Clone + PartialEq>(known: &mut Vec<T>, name: &T) -> u16 {
    let at = known.iter().position(|other| other == name).unwrap_or_else(|| {
        known.push(name.clone());
        known.len() - 1
    });
    u16::try_from(at).unwrap_or(u16::MAX)
}

impl FileStats {
    /// What a recorder tells of a segment, all of which is in the window that is asked for, or nothing.
    pub fn told(sidecar: &Sidecar, is_inside: bool) -> FileStats {
        let read = sidecar.packets;
        if !is_inside {
            return FileStats { read, ..FileStats::default() };
        }
        let totals = &sidecar.totals;
        FileStats {
            packets: sidecar.packets,
            wire_bytes: totals.written_bytes,
            captured_bytes: totals.written_bytes.saturating_sub(totals.policy_bytes),
            truncated: totals.truncated,
            window: sidecar.min_ns.zip(sidecar.max_ns).map(|(first, last)| (first, last.max(first))),
            read,
            ..FileStats::default()
        }
    }

    /// Counts the packets of a piece that lie in the window that is asked for; the others are taken out of
    /// it.
    pub fn add(&mut self, piece: &mut Piece, window: Option<Window>) {
        self.read += piece.frames.len() as u64;
        if let Some(window) = window {
            piece.frames.retain(|frame| (window.from_ns..=window.to_ns).contains(&frame.ts_ns));
        }
        for frame in &piece.frames {
            self.packets += 1;
            self.captured_bytes += u64::from(frame.len);
            self.wire_bytes += u64::from(frame.wire_len);
            self.truncated += u64::from(frame.len < frame.wire_len);
            let (first, last) = self.window.unwrap_or((frame.ts_ns, frame.ts_ns));
            self.window = Some((first.min(frame.ts_ns), last.max(frame.ts_ns)));
        }
        for run in
            piece.frames.chunk_by(|a, b| a.ts_ns.div_euclid(BUCKET_NS) == b.ts_ns.div_euclid(BUCKET_NS))
        {
            let bucket_ns = run[0].ts_ns.div_euclid(BUCKET_NS) * BUCKET_NS;
            *self.buckets.entry(bucket_ns).or_default() += run.len() as u64;
        }
    }
}
