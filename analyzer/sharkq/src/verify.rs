//! Evidence: recomputes every hash of a snapshot or a ring, compares everything that is said twice, and names what was altered, is
//! missing or was added. Reads everything, changes nothing.
//! Whoever can rewrite a whole snapshot can make it agree with itself: only the hash of its top manifest, kept elsewhere, tells.

mod counts;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use sha2::{Digest, Sha256};
use shark_schema::identity::{Fact, LOG_FOLDER, Record};
use shark_schema::manifest::{Manifest, NodeManifest, node_manifest_path};
use shark_schema::segment::{Name, Series, Sidecar};

use crate::place::{Folder, PlaceError};
use crate::provenance::hex;
use crate::source::facts::{FactLog, most_unpacked};

/// What a check found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// What was checked.
    pub source: String,
    /// Objects whose bytes were hashed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of the top manifest of a snapshot, to be compared with what `sharkrec snapshot` printed.
    pub manifest_sha256: Option<String>,
    /// What is wrong, worst first seen.
    pub problems: Vec<Problem>,
}

/// Something that is not as it was recorded.
#[derive(Debug, serde::Serialize)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// altered, missing, added or broken_chain.
    pub kind: &'static str,
    /// In a sentence.
    pub detail: String,
}

impl Report {
    fn problem(&mut self, object: &str, kind: &'static str, detail: impl Into<String>) {
        self.problems.push(Problem { object: object.into(), kind, detail: detail.into() });
    }

    /// The hash that somebody kept elsewhere.
    pub fn expect(&mut self, sha256: &str) {
        match &self.manifest_sha256 {
            Some(found) if found.eq_ignore_ascii_case(sha256) => {}
            Some(found) => {
                let detail = format!("its SHA-256 is {found}, expected was {sha256}");
                self.problem("manifest.json", "altered", detail);
            }
            None => self.problem("manifest.json", "missing", "its SHA-256 was to be compared"),
        }
    }

    /// Hashes an object and compares.
    fn object(
        &mut self,
        folder: &Folder,
        path: &str,
        size: Option<u64>,
        sha256: &str,
    ) -> Result<(), PlaceError> {
        let (bytes, found) = hash(&folder.join(path))?;
        self.objects += 1;
        self.bytes += bytes;
        if size.is_some_and(|size| size != bytes) {
            let wanted = size.unwrap_or_default();
            self.problem(path, "altered", format!("it has {bytes} bytes, recorded were {wanted}"));
        } else if found != sha256 {
            self.problem(path, "altered", format!("its SHA-256 is {found}, recorded was {sha256}"));
        }
        Ok(())
    }
}

/// Checks a snapshot, a ring, or a segment with its sidecar.
pub fn verify(folder: &Folder) -> anyhow::Result<Report> {
    let mut report = Report { source: folder.name(), ..Report::default() };
    if let Folder::Local(path) = folder
        && path.is_file()
    {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let parent = Folder::Local(path.parent().map(Into::into).unwrap_or_default());
        anyhow::ensure!(
            name.parse::<Name>().is_ok_and(|name| parent
                .join(&name.sidecar())
                .read()
                .ok()
                .flatten()
                .is_some()),
            "{} has no sidecar beside it: there is nothing to verify it against",
            folder.name()
        );
        chain(&mut report, &parent, "", &BTreeMap::from([(name, 0)]), &BTreeSet::new())?;
        return Ok(report);
    }
    let files: BTreeMap<String, u64> = folder.list()?.into_iter().collect();
    for path in folder.strangers()? {
        report.problem(&path, "added", "it is no regular file, and was not read");
    }
    if files.keys().any(|path| path.starts_with("nodes/") || path == "manifest.json") {
        snapshot(&mut report, folder, &files)?;
    } else if files.keys().any(|path| path.starts_with(&below(Series::Packets))) {
        let facts = facts(folder, &format!("{LOG_FOLDER}/"), &files)?;
        let excused = evicted(&facts);
        for series in Series::ALL {
            chain(&mut report, folder, &below(series), &files, &excused)?;
        }
        logs_are_readable(&mut report, folder, &files)?;
    } else {
        anyhow::bail!("{} is neither a snapshot nor a ring: there is nothing to verify", folder.name());
    }
    Ok(report)
}

fn snapshot(report: &mut Report, folder: &Folder, files: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let mut listed = vec!["manifest.json".to_string()];
    let manifest = match folder.join("manifest.json").read()? {
        None => {
            report.problem(
                "manifest.json",
                "missing",
                "the snapshot is incomplete: its top manifest was never written",
            );
            None
        }
        Some(bytes) => {
            report.manifest_sha256 = Some(hex(&Sha256::digest(&bytes)));
            match Manifest::from_bytes(&bytes) {
                Ok(manifest) => Some(manifest),
                Err(error) => {
                    report.problem("manifest.json", "altered", error.to_string());
                    None
                }
            }
        }
    };
    for entry in manifest.iter().flat_map(|manifest| &manifest.nodes) {
        let path = node_manifest_path(&entry.node);
        if files.contains_key(&path) {
            report.object(folder, &path, Some(entry.size), &entry.sha256)?;
        } else {
            report.problem(&path, "missing", "the top manifest lists it");
        }
    }
    for object in manifest.iter().flat_map(|manifest| &manifest.cluster_log) {
        if files.contains_key(&object.path) {
            report.object(folder, &object.path, Some(object.size), &object.sha256)?;
        } else {
            report.problem(&object.path, "missing", "the top manifest lists it");
        }
        listed.push(object.path.clone());
    }
    let nodes = files.keys().filter(|path| path.ends_with("/manifest.json") && path.starts_with("nodes/"));
    for path in nodes {
        listed.push(path.clone());
        let bytes = folder.join(path).read()?.unwrap_or_default();
        let node = match NodeManifest::from_bytes(&bytes) {
            Ok(node) => node,
            Err(error) => {
                report.problem(path, "altered", error.to_string());
                continue;
            }
        };
        if manifest
            .as_ref()
            .is_some_and(|manifest| !manifest.nodes.iter().any(|entry| entry.node == node.node))
        {
            report.problem(path, "added", "the top manifest does not list it");
        }
        if let Some(entry) = manifest.iter().flat_map(|of| &of.nodes).find(|entry| entry.node == node.node) {
            counts::entry(report, entry, &node);
        }
        let base = path.trim_end_matches("manifest.json");
        counts::sidecars(report, path, &node, &counts::read_sidecars(folder, base, files)?);
        for object in &node.objects {
            let path = format!("{base}{}", object.path);
            if files.contains_key(&path) {
                report.object(folder, &path, Some(object.size), &object.sha256)?;
            } else {
                report.problem(&path, "missing", "its node's manifest lists it");
            }
            listed.push(path);
        }
        let facts = facts(folder, &format!("{base}{LOG_FOLDER}/"), files)?;
        let mut excused = evicted(&facts);
        let told =
            node.missing.iter().filter_map(|of| of.what.strip_prefix("segment ")?.parse::<Name>().ok());
        excused.extend(told);
        for series in Series::ALL {
            chain_links(report, folder, &format!("{base}{}", below(series)), files, &excused)?;
        }
    }
    for path in files.keys().filter(|path| !listed.contains(path)) {
        report.problem(path, "added", "no manifest lists it");
    }
    Ok(())
}

/// How the paths of a series begin.
fn below(series: Series) -> String {
    format!("{}/", series.folder())
}

/// Segments against their sidecars, and the chain of sidecars.
fn chain(
    report: &mut Report,
    folder: &Folder,
    below: &str,
    files: &BTreeMap<String, u64>,
    excused: &BTreeSet<Name>,
) -> anyhow::Result<()> {
    for (name, path) in sealed(below, files) {
        let Some(sidecar) = read_sidecar(folder, below, name)? else {
            report.problem(&path, "missing", "its sidecar is not there");
            continue;
        };
        report.object(folder, &path, Some(sidecar.bytes_stored), &sidecar.sha256)?;
    }
    for path in files.keys().filter(|path| path.starts_with(below) && path.ends_with(".json")) {
        let segment = path.trim_end_matches(".json");
        if !files.contains_key(segment)
            && files.len() > 1
            && path.trim_start_matches(below).contains(".pcapng")
        {
            report.problem(segment, "missing", "only its sidecar is there");
        }
    }
    chain_links(report, folder, below, files, excused)
}

/// Each sidecar names the hash of the one before it, and no number is left out that nothing excuses.
fn chain_links(
    report: &mut Report,
    folder: &Folder,
    below: &str,
    files: &BTreeMap<String, u64>,
    excused: &BTreeSet<Name>,
) -> anyhow::Result<()> {
    let mut before: Option<(Name, String)> = None;
    let mut last: Option<Name> = None;
    for (name, path) in sealed(below, files) {
        if let Some(last) =
            last.filter(|last| last.worker == name.worker && name.seq.saturating_sub(last.seq) > 1)
        {
            let is_between =
                |of: &&Name| of.worker == name.worker && (last.seq + 1..name.seq).contains(&of.seq);
            let between =
                excused.iter().filter(is_between).map(|of| of.seq).collect::<BTreeSet<_>>().len() as u64;
            let missing = name.seq - last.seq - 1 - between;
            if missing > 0 {
                let detail =
                    format!("{missing} segments between {last} and it are not there, and nothing says why");
                report.problem(&path, "missing", detail);
            }
        }
        last = Some(name);
        let Some(bytes) = folder.join(&format!("{below}{}", name.sidecar())).read()? else {
            continue;
        };
        let Ok(sidecar) = Sidecar::from_bytes(&bytes) else {
            continue;
        };
        if let Some((last, hash)) = &before
            && last.worker == name.worker
            && last.seq.checked_add(1) == Some(name.seq)
            && sidecar.prev_sidecar_sha256.as_deref() != Some(hash)
        {
            let detail = format!("it does not name the hash of {} before it", last.sidecar());
            report.problem(&format!("{below}{}", name.sidecar()), "broken_chain", detail);
        }
        before = Some((name, hex(&Sha256::digest(&bytes))));
    }
    Ok(())
}

/// It says why a segment is not there.
fn excuses(fact: &Fact) -> bool {
    matches!(fact, Fact::Evicted(_) | Fact::Recovered(_))
}

/// Segments that the ring gave up, and those that held no packet when their recorder died.
fn evicted(facts: &[Record]) -> BTreeSet<Name> {
    let names = facts.iter().filter_map(|record| match &record.fact {
        Fact::Evicted(of) => of.segment.parse().ok(),
        Fact::Recovered(of) if of.packets == 0 => of.segment.parse().ok(),
        _ => None,
    });
    names.collect()
}

fn facts(folder: &Folder, below: &str, files: &BTreeMap<String, u64>) -> Result<Vec<Record>, PlaceError> {
    let logs = files.keys().filter(|path| path.starts_with(below) && path.contains(".facts.ndjson"));
    let mut facts = Vec::new();
    for path in logs {
        let log = FactLog::open(&folder.join(path))?;
        facts.extend(log.into_iter().flatten().filter(|record| excuses(&record.fact)));
    }
    Ok(facts)
}

/// No hash of a ring's logs is kept anywhere, but each closed file carries a check sum.
fn logs_are_readable(
    report: &mut Report,
    folder: &Folder,
    files: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    let closed = |path: &&String| path.starts_with(&format!("{LOG_FOLDER}/")) && path.ends_with(".zst");
    for path in files.keys().filter(closed) {
        let decoder = zstd::stream::read::Decoder::new(folder.join(path).reader()?)?;
        let most = most_unpacked(files.get(path).copied().unwrap_or_default());
        match std::io::copy(&mut decoder.take(most + 1), &mut std::io::sink()) {
            Ok(bytes) if bytes > most => {
                report.problem(path, "altered", "it unpacks to more than a log of its size has");
            }
            Ok(_) => report.objects += 1,
            Err(error) => report.problem(path, "altered", format!("it cannot be decoded: {error}")),
        }
        report.bytes += files.get(path).copied().unwrap_or_default();
    }
    Ok(())
}

fn sealed(below: &str, files: &BTreeMap<String, u64>) -> Vec<(Name, String)> {
    let named = files.keys().filter_map(|path| {
        let name: Name = path.strip_prefix(below)?.parse().ok()?;
        (!name.open).then(|| (name, path.clone()))
    });
    let mut sealed: Vec<_> = named.collect();
    sealed.sort_by_key(|(name, _)| (name.worker, name.seq));
    sealed
}

fn read_sidecar(folder: &Folder, below: &str, name: Name) -> Result<Option<Sidecar>, PlaceError> {
    let bytes = folder.join(&format!("{below}{}", name.sidecar())).read()?;
    Ok(bytes.and_then(|bytes| Sidecar::from_bytes(&bytes).ok()))
}

/// Length and SHA-256 of a file, all of which is read.
pub fn hash(place: &Folder) -> Result<(u64, String), PlaceError> {
    let mut reader = place.reader()?;
    let (mut hash, mut len, mut piece) = (Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok((len, hex(&hash.finalize()))),
            Ok(read) => {
                hash.update(&piece[..read]);
                len += read as u64;
            }
            Err(error) => {
                return Err(PlaceError::File { path: place.name(), why: error.to_string() });
            }
        }
    }
}
