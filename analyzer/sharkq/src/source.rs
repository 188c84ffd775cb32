//! Sources: what a person names, resolved to capture files in order, with what is known beside them. A capture file, a
//! segment, a ring, a snapshot (also an incomplete one) or an index; several at once. Opened read-only.

pub mod facts;
mod listed;
mod weight;

use std::collections::{BTreeMap, HashMap};

use shark_dissect::rows::SegmentInfo;
use shark_schema::identity::{LOG_FOLDER, LogHeader, Record};
use shark_schema::manifest::{Manifest, NodeManifest, Window};
use shark_schema::segment::{Name, RING_FILE, RING_FORMAT, RingFile, Series, Sidecar};
use shark_schema::table::Table;
use shark_schema::tables::{processes, sockets};
use tokio::runtime::Handle;

use self::facts::FactLog;
use self::listed::Listed;
use crate::place::{Folder, PlaceError};
use crate::rounds::FileStats;

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// See [`PlaceError`].
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A folder that is nothing we know.
    #[error(
        "{0}: neither a ring (no segments/), nor a snapshot (no nodes/), nor an index (no tables/); name a capture file \
         or one of those"
    )]
    NothingHere(String),
    /// A file beside the packets that cannot be read.
    #[error("{file}: {why}")]
    Broken {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
}

/// All sources of a command.
#[derive(Default)]
pub struct Sources {
    /// Capture files; those of one series follow each other, series were recorded side by side.
    pub files: Vec<CaptureFile>,
    /// Snapshots they lie in.
    pub snapshots: Vec<Snapshot>,
    /// Facts of the logs, in the order of their files; objects that a file only says again are left out.
    pub facts: Vec<(LogHeader, Record)>,
    /// The files they were read from, in the order of their numbers.
    pub fact_files: Vec<FactFile>,
    /// Log files of sockets and processes, in the order in which they were written; they are read when an index is made.
    pub logs: Vec<LogFile>,
    /// What a person should know before trusting an answer.
    pub warnings: Vec<String>,
    /// An index, if that is what was named.
    pub index: Option<std::path::PathBuf>,
    /// Bytes of memory that the facts take.
    pub facts_bytes: usize,
}

/// A log file of facts.
pub struct FactFile {
    /// Its first line.
    pub header: LogHeader,
    /// Its number among those of its writer.
    pub seq: u64,
    /// Time of the last fact that was read of it.
    pub last_ns: i64,
    /// It says more than was read.
    pub is_cut: bool,
}

impl FactFile {
    /// A recorder of this node wrote it.
    pub fn is_of(&self, node: &str) -> bool {
        self.header.writer == "recorder" && self.header.node == node
    }
}

/// A log file of sockets or processes.
pub struct LogFile {
    /// Where.
    pub place: Folder,
    /// What its rows are of.
    pub table: &'static Table,
    /// Bytes as stored.
    pub size: u64,
}

/// A capture file.
pub struct CaptureFile {
    /// Where.
    pub place: Folder,
    /// Files of the same series are read one after the other.
    pub series: usize,
    /// Name in rows, snapshot, cluster, node.
    pub info: SegmentInfo,
    /// What the recorder wrote beside it.
    pub sidecar: Option<Sidecar>,
    /// Bytes as stored.
    pub size: Option<u64>,
    /// Path below the snapshot or ring.
    pub path: String,
    /// Packets outside of this window are left out.
    pub window: Option<Window>,
    /// How its sidecar differs from what the manifest of its node lists.
    pub contradiction: Option<String>,
    /// What is known of it where its packets are not read, since they are of another time than the one asked
    /// about.
    pub left_out: Option<FileStats>,
}

impl CaptureFile {
    /// It is a segment that was not sealed yet.
    pub fn is_open(&self) -> bool {
        self.info.name.parse::<Name>().is_ok_and(|name| name.open)
    }

    /// Where it lies now: a segment that was open when it was found may have been sealed since.
    pub fn place_now(&self) -> Folder {
        match (&self.place, self.info.name.parse::<Name>()) {
            (Folder::Local(path), Ok(name)) if name.open && !path.exists() => {
                Folder::Local(path.with_file_name(name.sealed().to_string()))
            }
            _ => self.place.clone(),
        }
    }

    /// Its packets were made of what programs told of their TLS.
    pub fn is_plaintext(&self) -> bool {
        self.info.name.parse::<Name>().is_ok_and(Name::is_plaintext)
    }
}

/// A snapshot.
pub struct Snapshot {
    /// Where.
    pub folder: Folder,
    /// Its top manifest; without it the snapshot is incomplete.
    pub manifest: Option<(Manifest, Vec<u8>)>,
    /// Manifests of its nodes.
    pub nodes: Vec<NodeManifest>,
}

impl Sources {
    /// Resolves what was named.
    pub fn open(named: &[String], runtime: &Handle) -> Result<Sources, SourceError> {
        let mut sources = Sources::default();
        for text in named {
            let folder = Folder::open(text, runtime)?;
            sources.add(&folder)?;
        }
        Ok(sources)
    }

    fn add(&mut self, folder: &Folder) -> Result<(), SourceError> {
        let is_file = match folder {
            Folder::Local(path) if path.as_os_str() == "-" => true,
            Folder::Local(path) => {
                // A missing path is reported with the words of the reader.
                !path.is_dir() && folder.reader().map(|_| true)?
            }
            Folder::Remote { prefix, .. } => prefix.filename().is_some_and(is_capture_name),
        };
        if is_file {
            self.add_file(folder);
            return Ok(());
        }
        if let Folder::Local(path) = folder
            && path.join("tables").is_dir()
        {
            self.index = Some(path.clone());
            return Ok(());
        }
        let files = folder.list()?;
        let has = |prefix: &str| files.iter().any(|(path, _)| path.starts_with(prefix));
        if has("nodes/") || has("manifest.json") {
            self.add_snapshot(folder, &files)
        } else if has(&format!("{}/", Series::Packets.folder())) || has("ring.json") {
            self.add_ring(folder, &files)
        } else if let Some(inner) = single_snapshot(&files) {
            self.add(&folder.join(&inner))
        } else {
            Err(SourceError::NothingHere(folder.name()))
        }
    }

    fn add_file(&mut self, folder: &Folder) {
        let name = folder.name();
        let short = name.rsplit('/').next().unwrap_or(&name).to_string();
        let size = match folder {
            Folder::Local(path) => std::fs::metadata(path).ok().map(|metadata| metadata.len()),
            Folder::Remote { .. } => None,
        };
        // A segment taken on its own still has its sidecar beside it.
        let sidecar = short.parse::<Name>().ok().and_then(|name| {
            let Folder::Local(path) = folder else { return None };
            Sidecar::from_bytes(&std::fs::read(path.with_file_name(name.sidecar())).ok()?).ok()
        });
        let info = SegmentInfo {
            name: short.clone(),
            node: sidecar.as_ref().map(|sidecar| sidecar.node.clone()),
            cluster: sidecar
                .as_ref()
                .map(|sidecar| sidecar.cluster.clone())
                .filter(|cluster| !cluster.is_empty()),
            snapshot_id: None,
        };
        let series = self.next_series();
        self.files.push(CaptureFile {
            place: folder.clone(),
            series,
            info,
            sidecar,
            size,
            path: short,
            window: None,
            contradiction: None,
            left_out: None,
        });
    }

    fn next_series(&self) -> usize {
        self.files.iter().map(|file| file.series + 1).max().unwrap_or(0)
    }

    fn add_snapshot(&mut self, folder: &Folder, files: &[(String, u64)]) -> Result<(), SourceError> {
        let manifest = match folder.join("manifest.json").read()? {
            Some(bytes) => {
                let broken = |error: &dyn std::fmt::Display| SourceError::Broken {
                    file: format!("{}/manifest.json", folder.name()),
                    why: error.to_string(),
                };
                Some((Manifest::from_bytes(&bytes).map_err(|error| broken(&error))?, bytes))
            }
            None => {
                self.warnings.push(format!(
                    "{} is incomplete: its manifest.json was never written; `sharkrec snapshot --resume ID` completes it",
                    folder.name()
                ));
                None
            }
        };
        let mut nodes = Vec::new();
        for node in node_names(files) {
            let path = shark_schema::manifest::node_manifest_path(&node);
            let node_manifest = match folder.join(&path).read()? {
                Some(bytes) => Some(NodeManifest::from_bytes(&bytes).map_err(|error| {
                    SourceError::Broken { file: format!("{}/{path}", folder.name()), why: error.to_string() }
                })?),
                None => None,
            };
            let id = manifest.as_ref().map(|(manifest, _)| manifest.id.clone());
            self.add_node(folder, &format!("nodes/{node}/"), files, &node, id, node_manifest.as_ref())?;
            nodes.extend(node_manifest);
        }
        let missing = manifest.iter().flat_map(|(manifest, _)| &manifest.missing);
        for missing in missing.chain(nodes.iter().flat_map(|node| &node.missing)) {
            self.warnings.push(format!("{} lacks {}: {}", folder.name(), missing.what, missing.why));
        }
        self.add_logs(folder, "cluster/", files)?;
        self.snapshots.push(Snapshot { folder: folder.clone(), manifest, nodes });
        Ok(())
    }

    fn add_ring(&mut self, folder: &Folder, files: &[(String, u64)]) -> Result<(), SourceError> {
        let node = self.node_of_ring(folder)?;
        self.add_node(folder, "", files, &node, None, None)
    }

    /// The name of its node, which a segment without a sidecar does not tell.
    fn node_of_ring(&mut self, folder: &Folder) -> Result<String, SourceError> {
        let Some(bytes) = folder.join(RING_FILE).read()? else { return Ok(String::new()) };
        let broken =
            |why: String| SourceError::Broken { file: format!("{}/{RING_FILE}", folder.name()), why };
        match serde_json::from_slice::<RingFile>(&bytes) {
            Ok(ring) if ring.format > RING_FORMAT => {
                Err(broken(format!("format {} is newer than this program; use a newer sharkq", ring.format)))
            }
            Ok(ring) => Ok(ring.node),
            Err(error) => {
                self.warnings.push(format!("{}/{RING_FILE}: {error}", folder.name()));
                Ok(String::new())
            }
        }
    }

    fn add_node(
        &mut self,
        folder: &Folder,
        below: &str,
        files: &[(String, u64)],
        node: &str,
        snapshot_id: Option<String>,
        node_manifest: Option<&NodeManifest>,
    ) -> Result<(), SourceError> {
        let listed = Listed::new(below, node_manifest);
        let mut workers: BTreeMap<u16, Vec<(Name, &str, u64)>> = BTreeMap::new();
        for (path, size) in files {
            let place = path.strip_prefix(below).and_then(|path| path.split_once('/'));
            let is_series = |folder: &str| Series::ALL.iter().any(|series| series.folder() == folder);
            let Some((_, name)) = place.filter(|(folder, _)| is_series(folder)) else { continue };
            if let Ok(name) = name.parse::<Name>() {
                workers.entry(name.worker).or_default().push((name, path, *size));
            }
        }
        for segments in workers.values_mut() {
            segments.sort_by_key(|(name, ..)| name.seq);
            let series = self.next_series();
            for (name, path, size) in segments {
                let place = folder.join(path);
                let beside = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let stored = folder.join(&format!("{beside}/{}", name.sidecar())).read()?;
                let sidecar = stored.as_deref().and_then(|bytes| Sidecar::from_bytes(bytes).ok());
                let node = sidecar.as_ref().map_or(node, |sidecar| &sidecar.node);
                let info = SegmentInfo {
                    name: path.rsplit('/').next().unwrap_or(path).to_string(),
                    snapshot_id: snapshot_id.clone(),
                    node: (!node.is_empty()).then(|| node.to_string()),
                    cluster: sidecar
                        .as_ref()
                        .map(|side| side.cluster.clone())
                        .filter(|name| !name.is_empty()),
                };
                self.files.push(CaptureFile {
                    place,
                    series,
                    info,
                    sidecar,
                    size: Some(*size),
                    path: path.to_string(),
                    window: node_manifest.map(|node| node.wanted),
                    contradiction: listed.contradiction(path, *size, stored.as_deref()),
                    left_out: None,
                });
            }
        }
        self.add_logs(folder, below, files)
    }

    fn add_logs(&mut self, folder: &Folder, below: &str, files: &[(String, u64)]) -> Result<(), SourceError> {
        let mut logs: Vec<(&str, &str, u64)> = files
            .iter()
            .filter_map(|(path, size)| {
                let (folder, name) = path.strip_prefix(below)?.split_once('/')?;
                (folder == LOG_FOLDER).then_some((name, path.as_str(), *size))
            })
            // A file that is being made whole has another beside it.
            .filter(|(name, ..)| !name.ends_with(".recovering"))
            .collect();
        // Numbers order them, whatever the clock was; files of the witness have times only.
        logs.sort_unstable_by_key(|(name, ..)| (log_number(name), *name));
        let mut objects = HashMap::new();
        for (name, path, size) in logs {
            let place = folder.join(path);
            let of = |table: &Table| name.contains(&format!(".{}.arrows", table.name));
            if name.contains(".facts.ndjson") {
                self.add_log(&place, log_number(name), &mut objects)?;
            } else if let Some(table) =
                [&sockets::TABLE, &processes::TABLE].into_iter().find(|table| of(table))
            {
                self.logs.push(LogFile { place, table, size });
            }
        }
        Ok(())
    }

    /// Every file begins with all objects that are known: what has not changed since is no news.
    fn is_said_again(&self, record: &Record, objects: &mut Objects) -> bool {
        let Some((kind, uid)) = record.fact.object() else { return false };
        let last = objects.entry((kind, uid.to_owned())).or_insert(usize::MAX);
        let same = self.facts.get(*last).is_some_and(|(_, known)| known.fact == record.fact);
        if !same {
            *last = self.facts.len();
        }
        same
    }

    /// A log file; one that is still being written ends where it ends. Beyond what fits into memory nothing
    /// more is read, and that is said.
    fn add_log(&mut self, place: &Folder, seq: u64, objects: &mut Objects) -> Result<(), SourceError> {
        let name = place.name();
        let Some(mut log) = FactLog::open(place)? else {
            self.warnings.push(format!("{name} is not a log file and was left out"));
            return Ok(());
        };
        let header = log.header.clone();
        let mut last_ns = header.started_ns;
        let mut is_full = false;
        for record in log.by_ref() {
            is_full = self.facts_bytes >= MOST_FACTS_BYTES;
            if is_full {
                self.warnings.push(format!(
                    "{name}: the logs say more than fits into memory, what is said from here on is left out; name fewer sources at once"
                ));
                break;
            }
            last_ns = last_ns.max(record.ts_ns);
            if !self.is_said_again(&record, objects) {
                self.facts_bytes += weight::of(&header, &record);
                self.facts.push((header.clone(), record));
            }
        }
        let is_cut = is_full || log.is_cut();
        self.warnings.extend(log.damage().iter().map(|error| format!("{name}: {error}")));
        self.fact_files.push(FactFile { header, seq, last_ns, is_cut });
        Ok(())
    }
}

/// Memory for the facts of all logs together. A fact is kept twice: as it was read, and in the history
/// of its object.
const MOST_FACTS_BYTES: usize = 384 << 20;

/// The number in the name of a log file, `<start-ns>-<seq>.…`.
fn log_number(name: &str) -> u64 {
    let number = name.split('-').nth(1).and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Where the last word about each object lies among the facts, by kind and uid.
type Objects = HashMap<(&'static str, String), usize>;

fn is_capture_name(name: &str) -> bool {
    [".pcap", ".pcapng", ".cap"].iter().any(|ending| name.contains(ending))
}

/// A folder of snapshots with exactly one in it.
fn single_snapshot(files: &[(String, u64)]) -> Option<String> {
    let mut ids = files.iter().filter_map(|(path, _)| {
        let (id, rest) = path.split_once('/')?;
        (rest.starts_with("nodes/") || rest == "manifest.json").then_some(id)
    });
    let first = ids.next()?;
    ids.all(|id| id == first).then(|| first.to_string())
}

fn node_names(files: &[(String, u64)]) -> Vec<String> {
    let mut names: Vec<String> = files
        .iter()
        .filter_map(|(path, _)| {
            path.strip_prefix("nodes/")?.split_once('/').map(|(node, _)| node.to_string())
        })
        .collect();
    names.dedup();
    names
}
