//! Evidence: recomputes every hash of a snapshot or a ring and names what was altered, is missing or was added.
//! Reads everything, changes nothing.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest, Sha256};
use shark_schema::manifest::{Manifest, NodeManifest, node_manifest_path};
use shark_schema::segment::{Name, Series, Sidecar};

use crate::place::{Folder, PlaceError};
use crate::provenance::hex;

/// What a check found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// What was checked.
    pub source: String,
    /// Objects whose bytes were hashed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
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
        chain(&mut report, &parent, "", &BTreeMap::from([(name, 0)]))?;
        return Ok(report);
    }
    let files: BTreeMap<String, u64> = folder.list()?.into_iter().collect();
    if files.keys().any(|path| path.starts_with("nodes/") || path == "manifest.json") {
        snapshot(&mut report, folder, &files)?;
    } else if files.keys().any(|path| path.starts_with(&below(Series::Packets))) {
        for series in Series::ALL {
            chain(&mut report, folder, &below(series), &files)?;
        }
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
        Some(bytes) => match Manifest::from_bytes(&bytes) {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                report.problem("manifest.json", "altered", error.to_string());
                None
            }
        },
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
        let base = path.trim_end_matches("manifest.json");
        for object in &node.objects {
            let path = format!("{base}{}", object.path);
            if files.contains_key(&path) {
                report.object(folder, &path, Some(object.size), &object.sha256)?;
            } else {
                report.problem(&path, "missing", "its node's manifest lists it");
            }
            listed.push(path);
        }
        for series in Series::ALL {
            chain_links(report, folder, &format!("{base}{}", below(series)), files)?;
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
    chain_links(report, folder, below, files)
}

/// Each sidecar names the hash of the one before it.
fn chain_links(
    report: &mut Report,
    folder: &Folder,
    below: &str,
    files: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    let mut before: Option<(Name, String)> = None;
    for (name, _) in sealed(below, files) {
        let Some(bytes) = folder.join(&format!("{below}{}", name.sidecar())).read()? else {
            continue;
        };
        let Ok(sidecar) = Sidecar::from_bytes(&bytes) else {
            continue;
        };
        if let Some((last, hash)) = &before
            && last.worker == name.worker
            && last.seq + 1 == name.seq
            && sidecar.prev_sidecar_sha256.as_deref() != Some(hash)
        {
            let detail = format!("it does not name the hash of {} before it", last.sidecar());
            report.problem(&format!("{below}{}", name.sidecar()), "broken_chain", detail);
        }
        before = Some((name, hex(&Sha256::digest(&bytes))));
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

fn hash(place: &Folder) -> Result<(u64, String), PlaceError> {
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
