//! The index: sources in, a folder of Parquet tables out. Three stages run at once: reading and decompressing, the analysis
//! on all cores, and the writing of sorted runs; the queues between them are bounded, so memory does not grow with the
//! capture.

use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel, sync_channel};

use anyhow::Context;
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use shark_dissect::batch::Batch;
use shark_dissect::layer::Options;
use shark_dissect::pipeline::{Analysis, Chunk, Counts, FINISH_GROUPS};
use shark_dissect::rows::Catalog;
use shark_schema::reference::column_notes;
use shark_schema::table::{SCHEMA_VERSION, Table};

use crate::capture::Damage;
use crate::identity::{self, Identities};
use crate::name_coverage;
use crate::progress::Progress;
use crate::provenance;
use crate::rounds::{FileStats, Round, Rounds};
use crate::runs;
use crate::source::Sources;
use crate::survey::Survey;

/// Runs written at a time.
const WRITERS: usize = 2;

/// Bytes of rows of all tables together after which the table that has most of them is cut: memory depends neither on the
/// number of tables nor on how evenly they fill.
const ROWS_BYTES: usize = 32 << 20;

/// How an index is made.
#[derive(Clone, Copy, Debug)]
pub struct IndexOptions {
    /// What the analysis keeps.
    pub dissect: Options,
    /// Threads of the analysis.
    pub threads: usize,
}

/// `index.json`: what an index was made of and what a reader should know of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct IndexNote {
    /// Version of the tables.
    pub schema_version: String,
    /// Version of the program.
    pub sharkq_version: String,
    /// Files read.
    pub files: Vec<FileNote>,
    /// Frames and bytes.
    pub counts: CountsNote,
    /// Files that ended early, each in a sentence.
    pub damage: Vec<String>,
    /// True where a file contradicts its format; a file that merely ends early does not.
    pub corrupt: bool,
    /// What a person should know before trusting an answer.
    pub warnings: Vec<String>,
}

/// A file that was read.
#[derive(Debug, Serialize, Deserialize)]
pub struct FileNote {
    /// Its name in rows.
    pub name: String,
    /// Where it lies.
    pub place: String,
    /// What was in it.
    pub stats: FileStats,
}

/// See [`Counts`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CountsNote {
    pub frames: u64,
    pub wire_bytes: u64,
    pub captured_bytes: u64,
    #[serde(default)]
    pub plaintext: u64,
    pub not_ip: u64,
    pub undecodable: u64,
    pub fragments: u64,
    pub incomplete_datagrams: u64,
}

/// Makes an index in `folder`, which must not exist yet; it appears whole or not at all.
pub fn build(
    sources: &Sources,
    identities: &Identities,
    options: &IndexOptions,
    folder: &Path,
    progress: &Progress,
) -> anyhow::Result<IndexNote> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for left in interrupted(parent).into_iter().filter(|left| left.index == name) {
        let _ = std::fs::remove_dir_all(left.folder);
    }
    let half = Unfinished(parent.join(format!(".{name}.{}.part", std::process::id())));
    // Payloads are in it.
    let private = std::fs::DirBuilder::new().mode(0o700).create(&half.0);
    private.with_context(|| format!("{} cannot be made", half.0.display()))?;
    let at_work = half.0.join(AT_WORK);
    // Where the file system has no locks, the number of the process tells as well.
    let lock = File::create(&at_work).with_context(|| format!("{} cannot be made", at_work.display()))?;
    let _ = lock.try_lock();
    let note = build_in(sources, identities, options, &half.0, progress)?;
    std::fs::remove_file(&at_work).with_context(|| format!("{} cannot be removed", at_work.display()))?;
    std::fs::rename(&half.0, folder)
        .with_context(|| format!("{} cannot be put in its place", folder.display()))?;
    Ok(note)
}

/// A folder that is removed unless it was moved to its place.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a process left that was ended while it made an index.
pub struct Interrupted {
    /// Where it is.
    pub folder: PathBuf,
    /// Name of the index it would have become.
    pub index: String,
}

/// A file of an unfinished index, which its process has locked.
const AT_WORK: &str = "at-work";

/// The folders of unfinished indexes whose processes are gone. A lock tells that also of processes that
/// cannot be seen from here, as those of another container.
pub fn interrupted(parent: &Path) -> Vec<Interrupted> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let entries = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let left = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (index, process) = name.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
        let process: u32 = process.parse().ok()?;
        let lock = File::open(entry.path().join(AT_WORK)).map(|file| file.try_lock());
        let is_gone = match lock {
            Ok(Err(TryLockError::WouldBlock)) => false,
            Ok(Ok(())) => true,
            // A process of this number before this one left it.
            _ => process == std::process::id() || !Path::new("/proc").join(process.to_string()).exists(),
        };
        is_gone.then(|| Interrupted { folder: entry.path(), index: index.to_owned() })
    });
    left.collect()
}

fn build_in(
    sources: &Sources,
    identities: &Identities,
    options: &IndexOptions,
    folder: &Path,
    progress: &Progress,
) -> anyhow::Result<IndexNote> {
    let threads = options.threads.max(1);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("threads cannot be started")?;
    let mut analysis = Analysis::new(options.dissect);
    let identities = &identities.with(sources);
    analysis.catalog.segments = sources.files.iter().map(|file| file.info.clone()).collect();
    // The segments are known from the beginning, and rows have their numbers.
    let catalog = &analysis.catalog.clone();
    let tables: Vec<&'static Table> = analysis.tables().to_vec();
    for table in tables.iter().filter(|table| options.dissect.packets || table.name != "packets") {
        std::fs::create_dir_all(folder.join("tables").join(table.name))?;
    }
    let (run_sender, runs) = sync_channel::<Run>(0);
    let runs = Mutex::new(runs);
    let (stats, damage) = std::thread::scope(|scope| -> anyhow::Result<(Vec<FileStats>, Vec<Damage>)> {
        let (round_sender, rounds) = sync_channel::<Round>(1);
        let (give_back, spare) = channel();
        let reader = scope.spawn(move || -> anyhow::Result<(Vec<FileStats>, Vec<Damage>)> {
            let mut rounds = Rounds::new(&sources.files).reuse(spare);
            while let Some(round) = rounds.next_round()? {
                if round_sender.send(round).is_err() {
                    break;
                }
            }
            Ok((rounds.stats, rounds.damage))
        });
        let tables = &tables;
        let runs = &runs;
        let writers: Vec<_> = (0..threads.min(WRITERS))
            .map(|_| scope.spawn(|| write_runs(runs, tables, catalog, identities)))
            .collect();
        let mut cutter =
            Cutter { folder, next: vec![0; tables.len()], send: &mut |run| run_sender.send(run).is_ok() };
        for round in rounds {
            progress.add(&round);
            analyse(&pool, &mut analysis, &round);
            identities.hear(analysis.take_answers());
            round.give_back(&give_back);
            cutter.cut(&mut analysis, ROWS_BYTES);
        }
        for group in 0..FINISH_GROUPS {
            pool.install(|| analysis.finish_group(group));
            identities.hear(analysis.take_answers());
            cutter.cut(&mut analysis, ROWS_BYTES);
        }
        cutter.cut(&mut analysis, 0);
        drop(run_sender);
        for writer in writers {
            writer.join().expect("the writer does not panic")?;
        }
        reader.join().expect("the reader does not panic")
    })?;
    refuse_what_is_no_capture(sources, &damage)?;
    let mut warnings = identities.warnings();
    let objects = identity::tables::all(identities, sources, &mut warnings);
    write_tables(folder, evidence(sources, identities, &stats).chain(objects))?;
    let mut note = note(sources, &stats, damage.iter(), counted(analysis.counts()));
    note.warnings.extend(warnings);
    serde_json::to_writer(File::create(folder.join("columns.json"))?, &column_notes())?;
    serde_json::to_writer_pretty(File::create(folder.join("index.json"))?, &note)?;
    Ok(note)
}

/// Which tables tell of the recording itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Of its segments, and the snapshots they are in.
    Segments,
    /// The same, and what was recorded and lost of each time.
    Coverage,
}

/// Writes tables that tell of the recording itself, and not of its packets, to `folder`.
pub fn write_evidence(
    sources: &Sources,
    identities: &Identities,
    survey: &Survey,
    which: Evidence,
    folder: &Path,
) -> anyhow::Result<IndexNote> {
    let identities = &identities.with(sources);
    let stats = survey.stats();
    refuse_what_is_no_capture(sources, survey.damage())?;
    match which {
        Evidence::Segments => write_tables(folder, segments(sources, &stats))?,
        Evidence::Coverage => write_tables(folder, evidence(sources, identities, &stats))?,
    }
    let mut counts = CountsNote::default();
    for (file, stats) in sources.files.iter().zip(&stats) {
        if file.is_plaintext() {
            counts.plaintext = counts.plaintext.saturating_add(stats.packets);
            continue;
        }
        counts.frames = counts.frames.saturating_add(stats.packets);
        counts.wire_bytes = counts.wire_bytes.saturating_add(stats.wire_bytes);
        counts.captured_bytes = counts.captured_bytes.saturating_add(stats.captured_bytes);
    }
    let mut note = note(sources, &stats, survey.damage(), counts);
    note.warnings.extend(identities.warnings().into_iter().chain(identity::tables::warnings(identities)));
    Ok(note)
}

type Rows = (&'static Table, Vec<RecordBatch>);

/// What tells whether the others may be believed.
fn evidence(sources: &Sources, identities: &Identities, stats: &[FileStats]) -> impl Iterator<Item = Rows> {
    let names = name_coverage::rows(identities, sources, stats);
    let names = (&shark_schema::tables::name_coverage::TABLE, vec![names]);
    segments(sources, stats).chain(each(provenance::coverage(sources, stats))).chain([names])
}

fn segments(sources: &Sources, stats: &[FileStats]) -> impl Iterator<Item = Rows> {
    each(provenance::segments(sources, stats))
}

fn each(tables: Vec<(&'static Table, RecordBatch)>) -> impl Iterator<Item = Rows> {
    tables.into_iter().map(|(table, rows)| (table, vec![rows]))
}

fn write_tables(folder: &Path, tables: impl Iterator<Item = Rows>) -> anyhow::Result<()> {
    for (table, rows) in tables {
        let place = folder.join("tables").join(table.name);
        std::fs::create_dir_all(&place)?;
        if rows.iter().any(|rows| rows.num_rows() > 0) {
            runs::write_rows(table, &rows, &place.join("run-00000.parquet"))?;
        }
    }
    Ok(())
}

/// A text file has no answers. A segment that was only just begun, though, is empty and no mistake.
fn refuse_what_is_no_capture<'a>(
    sources: &Sources,
    damage: impl IntoIterator<Item = &'a Damage>,
) -> anyhow::Result<()> {
    let is_segment = |place: &str| {
        let file = sources.files.iter().find(|file| file.place.name() == place);
        file.is_some_and(|file| file.info.name.parse::<shark_schema::segment::Name>().is_ok())
    };
    let wrong = damage.into_iter().find(|damage| match damage {
        Damage::NotACapture { file, .. } => !is_segment(file),
        _ => false,
    });
    wrong.map_or(Ok(()), |damage| Err(anyhow::anyhow!("{damage}")))
}

/// Rows to be written to a file.
struct Run {
    table: usize,
    batches: Vec<Batch>,
    path: PathBuf,
}

struct Cutter<'a> {
    folder: &'a Path,
    next: Vec<u32>,
    send: &'a mut dyn FnMut(Run) -> bool,
}

impl Cutter<'_> {
    /// Cuts runs, the largest first, until no more than so many bytes are left.
    fn cut(&mut self, analysis: &mut Analysis, most: usize) {
        let mut pending = analysis.pending();
        while pending.iter().sum::<usize>() > most {
            let largest = (0..pending.len()).max_by_key(|&table| pending[table]).expect("there are tables");
            pending[largest] = 0;
            self.cut_table(analysis, largest);
        }
    }

    fn cut_table(&mut self, analysis: &mut Analysis, table: usize) {
        let batches = analysis.take(table);
        let name = analysis.tables()[table].name;
        let file = format!("run-{:05}.parquet", self.next[table]);
        self.next[table] += 1;
        // A writer that failed has hung up; its error is reported when it is joined.
        (self.send)(Run { table, batches, path: self.folder.join("tables").join(name).join(file) });
    }
}

fn write_runs(
    runs: &Mutex<Receiver<Run>>,
    tables: &[&'static Table],
    catalog: &Catalog,
    identities: &Identities,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    loop {
        let run = runs.lock().expect("no writer panics").recv();
        let Ok(run) = run else { return result };
        // After a failure runs are still taken, so that nobody waits for this end of the queue.
        if result.is_ok() {
            result = runs::write(tables[run.table], &run.batches, catalog, identities, &run.path)
                .with_context(|| format!("{} could not be written", run.path.display()));
        }
    }
}

fn analyse(pool: &rayon::ThreadPool, analysis: &mut Analysis, round: &Round) {
    analysis.catalog.interfaces.extend(round.new_interfaces.iter().cloned());
    pool.install(|| {
        use rayon::prelude::*;
        let chunks: Vec<Chunk<'_>> = round.parts.par_iter().map(|part| part.chunk()).collect();
        analysis.round(&chunks, round.merge);
    });
}

fn note<'a>(
    sources: &Sources,
    stats: &[FileStats],
    damage: impl Iterator<Item = &'a Damage>,
    counts: CountsNote,
) -> IndexNote {
    let file = |(file, stats): (&crate::source::CaptureFile, &FileStats)| FileNote {
        name: file.info.name.clone(),
        place: file.place.name(),
        stats: stats.clone(),
    };
    let (mut sentences, mut corrupt) = (Vec::new(), false);
    for damage in damage {
        corrupt |= !damage.is_torn();
        sentences.push(damage.to_string());
    }
    IndexNote {
        schema_version: SCHEMA_VERSION.into(),
        sharkq_version: env!("CARGO_PKG_VERSION").into(),
        files: sources.files.iter().zip(stats).map(file).collect(),
        counts,
        damage: sentences,
        corrupt,
        warnings: sources.warnings.clone(),
    }
}

fn counted(counts: Counts) -> CountsNote {
    CountsNote {
        frames: counts.frames,
        wire_bytes: counts.wire_bytes,
        captured_bytes: counts.captured_bytes,
        plaintext: counts.plaintext,
        not_ip: counts.not_ip,
        undecodable: counts.undecodable,
        fragments: counts.fragments,
        incomplete_datagrams: counts.incomplete_datagrams,
    }
}
