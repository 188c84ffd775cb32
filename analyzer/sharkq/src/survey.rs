//! A survey: what the files of a source hold, without analysing their packets. In: sidecars, names, sizes
//! and manifests. Out: for each file what was read of it, or what its sidecar tells. A sidecar is believed
//! where nothing that shows from outside contradicts it; every other file is read to its end, as an index
//! does. What only the bytes of a segment show stays unknown until their hashes are compared, and whoever
//! answers has to say so.

use std::io::Cursor;

use anyhow::Context;
use jiff::tz::TimeZone;
use rayon::prelude::*;
use shark_schema::segment::{Name, Sidecar};

use crate::capture::{Damage, FrameReader};
use crate::place::{Folder, PlaceError};
use crate::rounds::{BUCKET_NS, FileStats};
use crate::source::{CaptureFile, Sources};
use crate::times::{Stretch, shown};
use crate::verify::hash;

/// What is known of the files of a source, in their order.
pub struct Survey {
    files: Vec<Surveyed>,
}

/// What is known of one file.
struct Surveyed {
    stats: FileStats,
    /// Its sidecar tells, and its bytes were not read.
    is_told: bool,
    damage: Option<Damage>,
}

/// The part of a source that was read for a question about a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Files that were read.
    pub read: usize,
    /// Files there are.
    pub all: usize,
    /// Since when, if packets before it were left out.
    pub since_ns: Option<i64>,
    /// Until when, if packets after it were left out.
    pub until_ns: Option<i64>,
}

impl Part {
    /// What of the answer cannot be known by it.
    pub fn line(&self, zone: &TimeZone) -> String {
        let mut line = format!("segments read: {} of {}", self.read, self.all);
        if let Some(ns) = self.since_ns {
            let since = shown(ns, zone);
            line.push_str(&format!(
                "; what began before {since} is told of from there on, and names that DNS told before it are not known"
            ));
        }
        if let Some(ns) = self.until_ns {
            line.push_str(&format!("; what came after {} is not known", shown(ns, zone)));
        }
        line + " (--margin reads more)"
    }
}

/// The longest block of zstd and what stands before it (RFC 8878 3.1.1.2): where the first packets are.
const BEGINNING_BYTES: u64 = (128 << 10) + 64;

/// Objects of a bucket that are asked for at a time.
const REQUESTS: usize = 16;

impl Survey {
    /// Of these sources.
    pub fn of(sources: &Sources, threads: usize) -> anyhow::Result<Survey> {
        let files = pool(&sources.files, threads)?
            .install(|| sources.files.par_iter().map(look).collect::<Result<_, _>>())?;
        Ok(Survey { files })
    }

    /// Reads the segments of a stretch of time whose sidecars were believed. One whose bytes have another
    /// hash is damaged.
    pub fn compare_hashes(
        &mut self,
        sources: &Sources,
        stretch: Stretch,
        threads: usize,
    ) -> anyhow::Result<()> {
        let pool = pool(&sources.files, threads)?;
        let files = sources.files.par_iter().zip(&mut self.files);
        let unread = files.filter(|(_, of)| of.is_told && of.overlaps(stretch));
        Ok(pool.install(|| unread.map(|(file, of)| of.compare_hash(file)).collect::<Result<_, _>>())?)
    }

    /// Leaves out segments of which no packet is of a stretch of time or within the margin around it; `None`
    /// where that is none.
    pub fn leave_out(self, sources: &mut Sources, stretch: Stretch, margin_ns: i64) -> Option<Part> {
        let stretch = Stretch {
            from_ns: stretch.from_ns.map(|ns| ns.saturating_sub(margin_ns)),
            to_ns: stretch.to_ns.map(|ns| ns.saturating_add(margin_ns)),
        };
        let mut part = Part { read: 0, all: sources.files.len(), since_ns: None, until_ns: None };
        for (file, known) in sources.files.iter_mut().zip(self.files) {
            let Some((_, last_ns)) = known.stats.window.filter(|_| known.is_told && !known.overlaps(stretch))
            else {
                part.read += 1;
                continue;
            };
            match stretch.from_ns.filter(|from_ns| last_ns < *from_ns) {
                Some(from_ns) => part.since_ns = Some(from_ns),
                None => part.until_ns = stretch.to_ns,
            }
            file.left_out = Some(known.stats);
        }
        (part.read < part.all).then_some(part)
    }

    /// What is known of each file.
    pub fn stats(&self) -> Vec<FileStats> {
        self.files.iter().map(|file| file.stats.clone()).collect()
    }

    /// From the first to the last packet of each file.
    pub fn windows(&self) -> impl Iterator<Item = (i64, i64)> {
        self.files.iter().filter_map(|file| file.stats.window)
    }

    /// What is damaged of what was read.
    pub fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.files.iter().filter_map(|file| file.damage.as_ref())
    }

    /// How many segments were not read: those of a node that have a part in a stretch of time, or all of
    /// them.
    pub fn unread(&self, sources: &Sources, of: Option<(&str, Stretch)>) -> usize {
        let is_of = |file: &CaptureFile, known: &Surveyed| {
            of.is_none_or(|(node, stretch)| {
                file.info.node.as_deref() == Some(node) && known.overlaps(stretch)
            })
        };
        let files = sources.files.iter().zip(&self.files);
        files.filter(|(file, known)| known.is_told && is_of(file, known)).count()
    }
}

impl Surveyed {
    fn overlaps(&self, stretch: Stretch) -> bool {
        self.stats.window.is_none_or(|(first_ns, last_ns)| {
            stretch.from_ns.is_none_or(|from_ns| from_ns <= last_ns)
                && stretch.to_ns.is_none_or(|to_ns| to_ns >= first_ns)
        })
    }

    fn compare_hash(&mut self, file: &CaptureFile) -> Result<(), PlaceError> {
        let Some(sidecar) = &file.sidecar else { return Ok(()) };
        let (_, sha256) = hash(&file.place)?;
        self.is_told = false;
        if sha256 != sidecar.sha256 {
            *self = read(file)?;
            self.contradict(file, "its SHA-256 is not the one that its sidecar has".into());
        }
        Ok(())
    }

    /// What was read may be wrong all the same, where reading it showed nothing.
    fn contradict(&mut self, file: &CaptureFile, what: String) {
        self.stats.damage.get_or_insert_with(|| what.clone());
        self.damage.get_or_insert(Damage::Altered { file: file.place.name(), what });
    }
}

fn pool(files: &[CaptureFile], threads: usize) -> anyhow::Result<rayon::ThreadPool> {
    let is_remote = files.iter().any(|file| matches!(file.place, Folder::Remote { .. }));
    let threads = if is_remote { threads.max(REQUESTS) } else { threads.max(1) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("threads cannot be started")
}

fn look(file: &CaptureFile) -> Result<Surveyed, PlaceError> {
    let contradiction = contradiction(file);
    if contradiction.is_none()
        && let Some(stats) = told(file)
        && begins_well(file)?
    {
        return Ok(Surveyed { stats, is_told: true, damage: None });
    }
    let mut found = read(file)?;
    if let Some(what) = contradiction {
        found.contradict(file, what);
    }
    Ok(found)
}

/// What shows from outside that a sidecar is not of this file.
fn contradiction(file: &CaptureFile) -> Option<String> {
    let sidecar = file.sidecar.as_ref().filter(|_| !file.is_open())?;
    let name = file.info.name.parse::<Name>().ok();
    if name.is_none_or(|name| (name.worker, name.seq) != (sidecar.worker, sidecar.seq)) {
        return Some(format!("its sidecar is that of {}", sidecar.segment));
    }
    if let Some(size) = file.size.filter(|size| *size != sidecar.bytes_stored) {
        return Some(format!("it has {size} bytes, and its sidecar says {}", sidecar.bytes_stored));
    }
    file.contradiction.clone()
}

/// What its sidecar tells of a sealed segment. Of one that lies in the window in part only its packets tell.
fn told(file: &CaptureFile) -> Option<FileStats> {
    let sidecar = file.sidecar.as_ref().filter(|sidecar| !file.is_open() && agrees_with_itself(sidecar))?;
    let (Some(window), Some(first_ns), Some(last_ns)) = (file.window, sidecar.min_ns, sidecar.max_ns) else {
        return Some(FileStats::told(sidecar, true));
    };
    let is_inside = window.from_ns <= first_ns && last_ns <= window.to_ns;
    let is_outside = last_ns < window.from_ns || window.to_ns < first_ns;
    (is_inside || is_outside).then(|| FileStats::told(sidecar, is_inside))
}

/// Its counts are the sums of its buckets, and its times lie in them.
fn agrees_with_itself(sidecar: &Sidecar) -> bool {
    let (mut written, mut lost) = (0_u64, 0_u64);
    for bucket in &sidecar.buckets {
        written = written.saturating_add(bucket.counters.written);
        lost = lost.saturating_add(bucket.counters.lost());
    }
    let is_in_bucket = |ns: &i64| {
        let ages = sidecar.buckets.iter().filter_map(|bucket| ns.checked_sub(bucket.start_ns));
        ages.into_iter().any(|age_ns| (0..BUCKET_NS).contains(&age_ns))
    };
    written == sidecar.packets
        && (written, lost) == (sidecar.totals.written, sidecar.totals.lost())
        && sidecar.min_ns.is_some() == (sidecar.packets > 0)
        && sidecar.min_ns.is_some() == sidecar.max_ns.is_some()
        && sidecar.min_ns <= sidecar.max_ns
        && sidecar.min_ns.iter().chain(&sidecar.max_ns).all(is_in_bucket)
}

/// The beginning of a file is that of a capture.
fn begins_well(file: &CaptureFile) -> Result<bool, PlaceError> {
    let beginning = Cursor::new(file.place.beginning(BEGINNING_BYTES)?);
    let Ok(mut reader) = FrameReader::new(file.place.name(), Box::new(beginning)) else { return Ok(false) };
    Ok(match reader.next_piece() {
        Ok(_) => true,
        Err(damage) => damage.is_torn(),
    })
}

/// Counts the packets of a file, all of which is read.
fn read(file: &CaptureFile) -> Result<Surveyed, PlaceError> {
    let mut stats = FileStats::default();
    let mut reader = match FrameReader::new(file.place.name(), file.place_now().reader()?) {
        Ok(reader) => reader,
        Err(error) => {
            let what = error.to_string();
            stats.damage = Some(what.clone());
            let damage = Damage::Corrupt { file: file.place.name(), offset: 0, what, frames: 0 };
            return Ok(Surveyed { stats, is_told: false, damage: Some(damage) });
        }
    };
    let mut spare = Vec::new();
    let damage = loop {
        match reader.next_piece_in(std::mem::take(&mut spare)) {
            Ok(Some(mut piece)) => {
                stats.add(&mut piece, file.window);
                spare = piece.bytes;
            }
            Ok(None) => break None,
            // As an index reads a segment that is being written.
            Err(damage) if file.is_open() && (damage.is_torn() || reader.is_empty()) => break None,
            Err(damage) => break Some(damage),
        }
    };
    stats.damage = damage.as_ref().map(ToString::to_string);
    Ok(Surveyed { stats, is_told: false, damage })
}
