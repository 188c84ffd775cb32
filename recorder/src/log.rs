//! The log of a recorder or a witness: facts as lines in zstd files that each start with the whole state.
//! In: facts. Out: `<start-ns>-<seq>.facts.ndjson.zst`, readable up to the last fact also after a crash.
//! It outlives the packets: 30 days of recording, within its share of the ring's budget, of which each
//! series has its part. Names live as long as their packets: beyond its part a series of sockets or
//! processes may grow, up to a bound, while there are packets of its time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use shark_schema::identity::{
    Fact, LOG_VERSION, LogHeader, LogRemoved, Record, Targeting, arrows, read_line, to_line,
};

use crate::ring::{Ring, log_number};
use crate::segment::{Compression, Writer};
use crate::time::now_ns;

const ROTATE_NS: i64 = 10 * 60 * 1_000_000_000;
const ROTATE_BYTES: u64 = 64 << 20;
/// Read at a time of a file of Arrow messages.
const MESSAGES_BYTES: u64 = 1 << 20;
const KEEP_NS: i64 = 30 * 86_400 * 1_000_000_000;
/// Below this a share of the budget would not hold a single file.
const SMALLEST_SHARE_BYTES: u64 = 64 << 10;

/// Shared by all threads; facts are rare, so one lock is enough.
pub struct Log {
    inner: Mutex<Inner>,
}

struct Inner {
    ring: Ring,
    dir: PathBuf,
    node: String,
    cluster: String,
    writer: &'static str,
    share: u64,
    seq: u64,
    /// What a new file starts with, by what it is about.
    state: BTreeMap<String, Record>,
    open: Option<Open>,
}

struct Open {
    name: String,
    writer: Writer,
    started_ns: i64,
    /// What the state at its start takes.
    state_bytes: u64,
}

impl Log {
    /// Goes on behind the files that are there; a torn one of a killed recorder is closed at its last whole line.
    /// `share` is what all files may take, facts half of it.
    pub fn open(ring: &Ring, share: u64, writer: &'static str) -> io::Result<Log> {
        let dir = ring.log();
        let mut seq = 0;
        for name in ring.logs().map_err(io::Error::other)? {
            seq = seq.max(log_number(&name));
            if name.ends_with(".open") {
                match close_torn(&dir, &name) {
                    // It is readable as it is, and closed at the next start.
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                        tracing::warn!("{}: {error}", dir.join(&name).display());
                    }
                    closed => closed?,
                }
            } else if name.ends_with(".recovering") {
                fs::remove_file(dir.join(&name))?;
            }
        }
        let (node, cluster) = (ring.file.node.clone(), ring.file.cluster.clone());
        let inner = Inner {
            ring: ring.clone(),
            dir,
            node,
            cluster,
            writer,
            share,
            seq,
            state: BTreeMap::new(),
            open: None,
        };
        Ok(Log { inner: Mutex::new(inner) })
    }

    /// Takes over the objects that the log knew when it was last written, before anything is written now. Gives them and the time
    /// of that last fact: whoever watches objects finds out which of them are gone.
    pub fn restore_objects(&self) -> io::Result<(Vec<Fact>, Option<i64>)> {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        let last_ns = inner.restore_objects()?;
        Ok((inner.state.values().map(|record| record.fact.clone()).collect(), last_ns))
    }

    /// Writes one fact. A log that cannot be written must not stop the recording: the reason goes to standard error.
    pub fn write(&self, fact: Fact) {
        self.write_all(&[Record { ts_ns: now_ns(), after_ns: None, fact }]);
    }

    /// Writes facts together; the same holds.
    pub fn write_all(&self, records: &[Record]) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        if let Err(error) = inner.write(records) {
            tracing::warn!("log {}: {error}", inner.dir.display());
        }
    }

    /// Closes the current file, so that a snapshot can take it; the next fact opens another.
    pub fn rotate(&self) -> io::Result<()> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).close()
    }

    /// Bytes of all log files, after those past their time or share were removed.
    pub fn prune(&self) -> u64 {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).prune()
    }
}

impl Inner {
    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            let began = self.begin_file(record.ts_ns);
            // Known also where it cannot be written: the next file starts with it.
            self.remember(record);
            began?;
            if let Some(open) = &mut self.open {
                open.writer.append(&to_line(record))?;
            }
        }
        self.open.as_mut().map_or(Ok(()), |open| open.writer.flush())
    }

    /// A file is due when there is none, or when the one there is has its age or size, or was removed.
    fn begin_file(&mut self, now_ns: i64) -> io::Result<()> {
        let limit = ROTATE_BYTES.min(share_of(FACTS, self.share) / 4);
        // A state larger than the limit is written again when as much has come, not with every fact.
        let full = |open: &Open| open.writer.stored() - open.state_bytes > limit.max(open.state_bytes);
        // Older than it may be, or of a time to come, where the clock was set back.
        let aged = |open: &Open| !(0..=ROTATE_NS).contains(&now_ns.saturating_sub(open.started_ns));
        let old = |open: &Open| aged(open) || full(open) || open.writer.is_removed();
        if self.open.as_ref().is_some_and(old) {
            self.close()?;
        }
        if self.open.is_none() { self.start(now_ns) } else { Ok(()) }
    }

    fn remember(&mut self, record: &Record) {
        match state_key(&record.fact) {
            Some(key) if record.fact.deleted() || is_gone(&record.fact) => drop(self.state.remove(&key)),
            Some(key) => drop(self.state.insert(key, record.clone())),
            None => {}
        }
    }

    fn restore_objects(&mut self) -> io::Result<Option<i64>> {
        let closed = |name: &String| name.ends_with(".facts.ndjson.zst");
        let files =
            fs::read_dir(&self.dir)?.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_file()));
        let mut names: Vec<String> = files.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.retain(closed);
        let Some(newest) = names.iter().max_by_key(|name| log_number(name)) else { return Ok(None) };
        let file = zstd::stream::read::Decoder::new(fs::File::open(self.dir.join(newest))?)?;
        let mut last_ns = None;
        // What is torn or of a later version is not known.
        for (number, line) in (1..).zip(BufReader::new(file).lines().map_while(Result::ok)).skip(1) {
            let Ok(Some(record)) = read_line(number, &line) else { continue };
            last_ns = last_ns.max(Some(record.ts_ns));
            if record.fact.object().is_some() {
                self.remember(&record);
            }
        }
        Ok(last_ns)
    }

    fn start(&mut self, now_ns: i64) -> io::Result<()> {
        self.seq += 1;
        let name = format!("{now_ns}-{:06}.facts.ndjson.zst", self.seq);
        let mut writer = Writer::create(&self.dir.join(format!("{name}.open")), Compression::Zstd(3))?;
        writer.append(&to_line(&LogHeader {
            log: "sharkrec".to_owned(),
            format: LOG_VERSION,
            node: self.node.clone(),
            cluster: self.cluster.clone(),
            writer: self.writer.to_owned(),
            started_ns: now_ns,
        }))?;
        for record in self.state.values() {
            writer.append(&to_line(record))?;
        }
        writer.flush()?;
        let state_bytes = writer.stored();
        self.open = Some(Open { name, writer, started_ns: now_ns, state_bytes });
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.open.take().map_or(Ok(()), |open| open.writer.close(&self.dir, &open.name))
    }

    fn prune(&mut self) -> u64 {
        let mut series: BTreeMap<String, Vec<LogFile>> = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let started_ns = name.split('-').next().and_then(|n| n.parse().ok());
            // Whatever else lies here is not ours.
            let meta = entry.metadata().ok().filter(|meta| meta.is_file());
            if let (Some(started_ns), Some(meta)) = (started_ns, meta) {
                let (number, bytes) = (log_number(&name), meta.len());
                let series = series.entry(series_of(&name)).or_default();
                series.push(LogFile { number, started_ns, path: entry.path(), bytes });
            }
        }
        let (mut total, mut removed) = (0, Vec::new());
        for (name, files) in series {
            let bounds = Bounds { share: share_of(&name, self.share), most: most_of(&name, self.share) };
            total += bounds.prune(&name, files, || oldest_packet_ns(&self.ring), &mut removed);
        }
        for fact in removed {
            let record = Record { ts_ns: now_ns(), after_ns: None, fact: Fact::LogRemoved(fact) };
            if let Err(error) = self.write(&[record]) {
                tracing::warn!("log {}: {error}", self.dir.display());
            }
        }
        total
    }
}

/// A file of the log.
struct LogFile {
    number: u64,
    started_ns: i64,
    path: PathBuf,
    bytes: u64,
}

/// What all files of a series may take.
struct Bounds {
    share: u64,
    /// While there are packets of their time.
    most: u64,
}

impl Bounds {
    /// Removes the oldest files past their time or bound; gives the bytes of the others. What had packets of its time is told.
    fn prune(
        &self,
        series: &str,
        mut files: Vec<LogFile>,
        oldest_packet_ns: impl FnOnce() -> Option<i64>,
        removed: &mut Vec<LogRemoved>,
    ) -> u64 {
        files.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        let ends = files.iter().skip(1).map(|next| next.started_ns).chain([now_ns()]);
        let ends: Vec<i64> =
            files.iter().zip(ends).map(|(file, end_ns)| end_ns.max(file.started_ns)).collect();
        // Time in which nothing was recorded, or by which a clock was wrong, makes no file older.
        let spans = files.iter().zip(&ends).map(|(file, end_ns)| (end_ns - file.started_ns).min(ROTATE_NS));
        let mut age_ns: i64 = spans.clone().sum();
        if total <= self.share && age_ns <= KEEP_NS {
            return total;
        }
        // Without packets nothing is needed.
        let needed_ns = oldest_packet_ns().unwrap_or(i64::MAX);
        for ((file, &ended_ns), span_ns) in files.iter().zip(&ends).zip(spans) {
            let is_too_old = age_ns > KEEP_NS;
            age_ns -= span_ns;
            let is_needed = series != FACTS && ended_ns > needed_ns;
            let is_too_much = total > if is_needed { self.most } else { self.share };
            let open = file.path.extension().is_some_and(|e| e == "open");
            if !open && (is_too_much || is_too_old) && fs::remove_file(&file.path).is_ok() {
                total -= file.bytes;
                if is_needed {
                    let why = "the log of names reached its part of the ring".to_owned();
                    removed.push(LogRemoved {
                        series: series.to_owned(),
                        bytes: file.bytes,
                        from_ns: file.started_ns.max(needed_ns),
                        to_ns: ended_ns,
                        why,
                    });
                }
            }
        }
        total
    }
}

/// Of the segments that are there.
fn oldest_packet_ns(ring: &Ring) -> Option<i64> {
    ring.list().ok()?.iter().map(|name| name.first_ns).min()
}

/// `facts`, `sockets`, `processes`: what stands between sequence number and format.
pub fn series_of(name: &str) -> String {
    name.split('.').nth(1).unwrap_or_default().to_owned()
}

/// Part of a series in the share of the log: half for the facts, a quarter for each of those that come at high rates.
pub fn share_of(series: &str, share: u64) -> u64 {
    if series == FACTS { share / 2 } else { share / 4 }
}

const FACTS: &str = "facts";

/// What a series may take while there are packets of its time: of sockets a fifth of the ring, which is as much as connections of a few
/// packets each need beside those, of processes a twentieth.
pub fn most_of(series: &str, share: u64) -> u64 {
    let times = match series {
        // Of the smallest rings the share is more than a hundredth.
        _ if share <= SMALLEST_SHARE_BYTES => 0,
        "sockets" => 20,
        "processes" => 5,
        _ => 0,
    };
    share_of(series, share).max(share.saturating_mul(times))
}

/// What all files of the log may take of a ring.
pub fn share(ring_bytes: u64) -> u64 {
    (ring_bytes / 100).max(SMALLEST_SHARE_BYTES)
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.rotate() {
            tracing::warn!("log: {error}");
        }
    }
}

/// What is said of an interface once: the files that come later say nothing of it.
fn is_gone(fact: &Fact) -> bool {
    matches!(fact, Fact::Interface(of) if of.state == Targeting::NotTargeted)
}

/// Facts that say how things are, rather than what happened.
fn state_key(fact: &Fact) -> Option<String> {
    match fact {
        Fact::Start(_) => Some("0 start".to_owned()),
        Fact::Interface(of) => Some(format!("1 interface {}", of.name)),
        Fact::Feature(of) => Some(format!("2 feature {}", of.name)),
        Fact::Clock(_) => Some("3 clock".to_owned()),
        Fact::Disk(_) => Some("4 disk".to_owned()),
        _ => fact.object().map(|(kind, uid)| format!("5 {kind} {uid}")),
    }
}

fn close_torn(dir: &Path, name: &str) -> io::Result<()> {
    let old = dir.join(name);
    let draft = dir.join(format!("{name}.recovering"));
    copy_whole(&old, &draft)?;
    fs::rename(&draft, dir.join(name.trim_end_matches(".open")))?;
    fs::remove_file(&old)
}

/// Features that the newest file names: those its writer has or lacks.
pub fn features(ring: &Ring) -> Vec<String> {
    let names = ring.logs().unwrap_or_default();
    let newest = names.iter().rfind(|name| series_of(name) == "facts");
    let file = newest.and_then(|name| fs::File::open(ring.log().join(name)).ok());
    let Some(Ok(bytes)) = file.map(zstd::stream::read::Decoder::new) else { return Vec::new() };
    let feature = |line: String| match read_line(0, &line) {
        Ok(Some(Record { fact: Fact::Feature(feature), .. })) => Some(feature.name),
        _ => None,
    };
    // An open file ends in an error.
    BufReader::new(bytes).lines().map_while(Result::ok).filter_map(feature).collect()
}

/// Copies a file of the log that may be torn up to its last whole line or message.
pub fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let _ = fs::remove_file(to);
    let mut writer = Writer::create(to, Compression::Zstd(3))?;
    let bytes = zstd::stream::read::Decoder::new(fs::File::open(from)?)?;
    match from.to_string_lossy().contains(".arrows.zst") {
        true => copy_messages(bytes, &mut writer)?,
        false => copy_lines(bytes, &mut writer)?,
    }
    writer.end()?;
    writer.write_out()?;
    writer.file().sync_data()
}

fn copy_lines(from: impl Read, writer: &mut Writer) -> io::Result<()> {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    // A torn frame ends in an error: the lines before it are whole.
    while lines.read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n") {
        writer.append(&line)?;
        line.clear();
    }
    Ok(())
}

fn copy_messages(mut from: impl Read, writer: &mut Writer) -> io::Result<()> {
    let mut bytes = Vec::new();
    // The same holds for messages.
    while from.by_ref().take(MESSAGES_BYTES).read_to_end(&mut bytes).is_ok_and(|got| got > 0) {
        let whole = arrows::whole(&bytes);
        writer.append(&bytes[..whole])?;
        bytes.drain(..whole);
    }
    writer.append(&bytes[..arrows::whole(&bytes)])?;
    writer.append(&arrows::END)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of a kilobyte each that begin so many seconds before now, the last one still open.
    fn files(dir: &Path, ages_s: &[i64]) -> Vec<LogFile> {
        let now = now_ns();
        let file = |(at, age_s): (usize, &i64)| {
            let started_ns = now - age_s * 1_000_000_000;
            let end = if at + 1 == ages_s.len() { ".open" } else { "" };
            let path = dir.join(format!("{started_ns}-{at:06}.sockets.arrows.zst{end}"));
            fs::write(&path, [0; 1024]).unwrap();
            LogFile { number: at as u64, started_ns, path, bytes: 1024 }
        };
        ages_s.iter().enumerate().map(file).collect()
    }

    fn pruned(series: &str, bounds: &Bounds, oldest_packet: Option<i64>) -> (usize, Vec<LogRemoved>) {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), &[100, 90, 80, 70, 60, 50, 40, 30, 20, 10]);
        let needed = oldest_packet.map(|seconds| now_ns() - seconds * 1_000_000_000);
        let mut removed = Vec::new();
        let total = bounds.prune(series, files, || needed, &mut removed);
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(total, 1024 * left as u64);
        (left, removed)
    }

    #[test]
    fn names_live_as_long_as_their_packets() {
        let bounds = Bounds { share: 3 * 1024, most: 100 * 1024 };
        // Of the last 45 seconds there are packets: the file that was open then and those after it.
        assert_eq!(pruned("sockets", &bounds, Some(45)), (5, Vec::new()));
        assert_eq!(pruned("processes", &bounds, Some(1_000)), (10, Vec::new()));
        assert_eq!(pruned("sockets", &bounds, None), (3, Vec::new()));
        // Facts keep to their share.
        assert_eq!(pruned("facts", &bounds, Some(1_000)), (3, Vec::new()));
    }

    #[test]
    fn names_that_are_removed_before_their_packets_are_told() {
        let bounds = Bounds { share: 3 * 1024, most: 4 * 1024 };
        let (left, removed) = pruned("sockets", &bounds, Some(75));
        assert_eq!(left, 4);
        // Two of the time before the packets are missed by nobody.
        assert_eq!(removed.len(), 4, "{removed:?}");
        assert!(removed.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns), "{removed:?}");
        assert!(removed.iter().all(|of| of.bytes == 1024 && of.series == "sockets"), "{removed:?}");
        // From the oldest packet to the oldest file that is left.
        let milliseconds = (removed[3].to_ns - removed[0].from_ns) / 1_000_000;
        assert!((34_000..=35_000).contains(&milliseconds), "{removed:?}");
    }

    #[test]
    fn a_clock_that_was_wrong_makes_no_file_older() {
        const YEAR_S: i64 = 365 * 86_400;
        let ages_s = [YEAR_S + 20, YEAR_S + 10, 30, 20 - YEAR_S, 10 - YEAR_S, 10, 5];
        for (share, left) in [(7, vec![0, 1, 2, 3, 4, 5, 6]), (3, vec![4, 5, 6])] {
            let dir = tempfile::tempdir().unwrap();
            let files = files(dir.path(), &ages_s);
            let bounds = Bounds { share: share * 1024, most: share * 1024 };
            assert_eq!(bounds.prune("facts", files, || None, &mut Vec::new()), share * 1024);
            let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut numbers: Vec<u64> = names.map(|name| log_number(name.to_str().unwrap())).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, left);
        }
        // What was recorded for longer than a month is older than that, be the clock right or wrong.
        let ages_s: Vec<i64> = (0..31 * 144).rev().map(|at| at * 600).collect();
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { share: u64::MAX, most: u64::MAX };
        let left = bounds.prune("facts", files(dir.path(), &ages_s), || None, &mut Vec::new()) / 1024;
        assert_eq!(left, 30 * 144);
    }

    #[test]
    fn shares_are_bounded() {
        let of = share(256 << 20);
        assert_eq!(most_of("sockets", of) / (1 << 20), 51);
        assert_eq!(most_of("facts", of), share_of("facts", of));
        assert_eq!(most_of("sockets", share(1 << 20)), share_of("sockets", share(1 << 20)));
    }
}
