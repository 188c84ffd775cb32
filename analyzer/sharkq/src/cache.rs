//! The cache of indexes: content, versions and options in, a ready index out. What is not there yet is made; what was not
//! used for longest goes when the cache grows over its limit. Only the user may read it, since it holds payloads.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use sha2::{Digest, Sha256};
use shark_schema::table::SCHEMA_VERSION;

use crate::identity::Identities;
use crate::index::{self, Evidence, IndexNote, IndexOptions};
use crate::place::Folder;
use crate::progress::Progress;
use crate::provenance::hex;
use crate::source::{CaptureFile, Sources};
use crate::survey::Survey;

/// Bytes all indexes may take; `SHARKQ_CACHE_LIMIT` says otherwise.
const LIMIT_BYTES: u64 = 20 << 30;

/// Bytes hashed at both ends of a capture file that has no recorded hash.
const SAMPLE_BYTES: u64 = 1 << 20;

/// An index that is ready to be asked.
pub struct Ready {
    /// Its folder.
    pub folder: PathBuf,
    /// What it was made of.
    pub note: IndexNote,
    /// Standard input is indexed for one command only.
    _temporary: Option<Temporary>,
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where indexes are kept: `SHARKQ_CACHE`, else below `XDG_CACHE_HOME` or `~/.cache`.
pub fn folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("SHARKQ_CACHE").unwrap_or_else(|| {
        let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        base.unwrap_or_else(std::env::temp_dir).join("sharkq")
    })
}

/// The index of these sources, if it is there or is what was named.
pub fn find(
    sources: &Sources,
    identity: Option<&Path>,
    options: &IndexOptions,
) -> anyhow::Result<Option<Ready>> {
    match &sources.index {
        Some(folder) => named(sources, folder).map(Some),
        None if is_standard_input(sources) => Ok(None),
        None => Ok(found(folder().join(key(sources, identity, options)?))),
    }
}

/// An index that was named itself.
fn named(sources: &Sources, folder: &Path) -> anyhow::Result<Ready> {
    anyhow::ensure!(sources.files.is_empty(), "an index cannot be joined with other sources; name it alone");
    let mut note = read_note(folder)?;
    if note.schema_version != SCHEMA_VERSION {
        note.warnings.push(format!(
            "{} has the tables of schema {}, this is {SCHEMA_VERSION}: what only one of them knows is empty; index the source again",
            folder.display(),
            note.schema_version
        ));
    }
    Ok(Ready { folder: folder.to_owned(), note, _temporary: None })
}

/// An index that was made before.
fn found(folder: PathBuf) -> Option<Ready> {
    let note = read_note(&folder).ok()?;
    let _ = fs::write(folder.join("used"), b"");
    Some(Ready { folder, note, _temporary: None })
}

/// The index of these sources, made if it is not there yet.
pub fn open(sources: &Sources, identity: Option<&Path>, options: &IndexOptions) -> anyhow::Result<Ready> {
    if let Some(folder) = &sources.index {
        return named(sources, folder);
    }
    let cache = folder();
    make_private(&cache)?;
    sweep(&cache);
    let stdin = is_standard_input(sources);
    let key = if stdin { own(STDIN) } else { key(sources, identity, options)? };
    let folder = cache.join(&key);
    if let Some(ready) = found(folder.clone()).filter(|_| !stdin) {
        return Ok(ready);
    }
    let identities = identity.map(Identities::read).transpose()?.unwrap_or_default();
    // An older version may have left something unreadable there.
    let _ = fs::remove_dir_all(&folder);
    let note = match index::build(sources, &identities, options, &folder, &Progress::new("indexing")) {
        Ok(note) => note,
        // Another process may have made it meanwhile.
        Err(error) => return found(folder).filter(|_| !stdin).ok_or(error),
    };
    let _ = fs::write(folder.join("used"), b"");
    shrink(&cache, &key)?;
    Ok(Ready { _temporary: stdin.then(|| Temporary(folder.clone())), folder, note })
}

/// What can be told of sources without analysing their packets, for one command.
pub fn survey(
    sources: &Sources,
    survey: &Survey,
    which: Evidence,
    identity: Option<&Path>,
) -> anyhow::Result<Ready> {
    let cache = folder();
    make_private(&cache)?;
    sweep(&cache);
    let folder = cache.join(own(SURVEY));
    let _ = fs::remove_dir_all(&folder);
    make_private(&folder)?;
    let temporary = Temporary(folder.clone());
    let identities = identity.map(Identities::read).transpose()?.unwrap_or_default();
    let note = index::write_evidence(sources, &identities, survey, which, &folder)?;
    Ok(Ready { folder, note, _temporary: Some(temporary) })
}

/// Folders that are of use to one process only have these before its number.
const STDIN: &str = "stdin-";
const SURVEY: &str = "survey-";

fn own(what: &str) -> String {
    format!("{what}{}", std::process::id())
}

fn is_standard_input(sources: &Sources) -> bool {
    sources.files.iter().any(|file| file.place.name() == "-")
}

fn read_note(folder: &Path) -> anyhow::Result<IndexNote> {
    let path = folder.join("index.json");
    let bytes =
        fs::read(&path).with_context(|| format!("{} is no index: it has no index.json", folder.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; remove the index", path.display()))
}

fn make_private(cache: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(cache)
        .and_then(|()| fs::set_permissions(cache, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("the cache {} cannot be used; set SHARKQ_CACHE", cache.display()))
}

/// Content, versions and options in one hash.
fn key(sources: &Sources, identity: Option<&Path>, options: &IndexOptions) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    add(SCHEMA_VERSION);
    add(env!("CARGO_PKG_VERSION"));
    add(env!("SHARKQ_BUILD"));
    add(&format!("{:?}", options.dissect));
    for file in &sources.files {
        add(&fingerprint(file)?);
        add(&format!("{:?} {} {:?} {}", file.info, file.series, file.window, file.left_out.is_some()));
    }
    for (header, record) in &sources.facts {
        add(&format!("{header:?} {record:?}"));
    }
    for log in &sources.logs {
        add(&format!("{} {}", log.place.name(), log.size));
    }
    for snapshot in &sources.snapshots {
        add(&snapshot.folder.name());
        add(&snapshot.manifest.as_ref().map(|(_, bytes)| hex(&Sha256::digest(bytes))).unwrap_or_default());
    }
    if let Some(path) = identity {
        add(&hex(&Sha256::digest(fs::read(path).with_context(|| path.display().to_string())?)));
    }
    Ok(hex(&hash.finalize()[..16]))
}

/// What tells a file's content: the recorded hash, or size, time of change and both ends.
fn fingerprint(file: &CaptureFile) -> anyhow::Result<String> {
    if let Some(sidecar) = &file.sidecar {
        return Ok(format!("{} {:?}", sidecar.sha256, file.size));
    }
    let Folder::Local(path) = &file.place_now() else {
        return Ok(format!("{} {:?}", file.place.name(), file.size));
    };
    let shown = || path.display().to_string();
    let mut content = fs::File::open(path).with_context(shown)?;
    let metadata = content.metadata().with_context(shown)?;
    let mut hash = Sha256::new();
    let mut sample = Vec::new();
    content.by_ref().take(SAMPLE_BYTES).read_to_end(&mut sample).with_context(shown)?;
    if metadata.len() > SAMPLE_BYTES {
        content.seek(SeekFrom::Start(metadata.len() - SAMPLE_BYTES)).with_context(shown)?;
        content.read_to_end(&mut sample).with_context(shown)?;
    }
    hash.update(&sample);
    let changed = metadata.modified().ok();
    let whole = fs::canonicalize(path).with_context(shown)?;
    Ok(format!("{} {} {changed:?} {}", whole.display(), metadata.len(), hex(&hash.finalize())))
}

/// An index in the cache.
pub struct Entry {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes it takes.
    pub bytes: u64,
    /// When it was last asked.
    pub used: SystemTime,
    /// Files it was made of; nothing is known of what was interrupted.
    pub files: Vec<String>,
    /// Its process ended before it was whole.
    pub is_interrupted: bool,
}

/// Removes what interrupted processes left: their unfinished indexes, and what was of use to them only.
fn sweep(cache: &Path) {
    index::interrupted(cache).iter().for_each(|left| {
        let _ = fs::remove_dir_all(&left.folder);
    });
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let process = entry.file_name().into_string().ok();
        let process = process.as_deref().and_then(|name| {
            [STDIN, SURVEY].iter().find_map(|what| name.strip_prefix(what))?.parse::<u32>().ok()
        });
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// All indexes, the one used last first, and what was left of those that were interrupted.
pub fn list(cache: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let Ok(folders) = fs::read_dir(cache) else {
        return Ok(entries);
    };
    for folder in folders {
        let folder = folder?.path();
        let Ok(note) = read_note(&folder) else { continue };
        let used = fs::metadata(folder.join("used")).and_then(|metadata| metadata.modified());
        let files = Folder::Local(folder.clone()).list()?;
        entries.push(Entry {
            bytes: files.iter().map(|(_, bytes)| bytes).sum(),
            used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            files: note.files.iter().map(|file| file.place.clone()).collect(),
            is_interrupted: false,
            folder,
        });
    }
    for left in index::interrupted(cache) {
        let files = Folder::Local(left.folder.clone()).list()?;
        let changed = fs::metadata(&left.folder).and_then(|metadata| metadata.modified());
        entries.push(Entry {
            bytes: files.iter().map(|(_, bytes)| bytes).sum(),
            used: changed.unwrap_or(SystemTime::UNIX_EPOCH),
            files: Vec::new(),
            is_interrupted: true,
            folder: left.folder,
        });
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    Ok(entries)
}

/// Bytes that these take.
pub fn bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.bytes).sum()
}

/// Removes every index and what interrupted ones left; returns how many and their bytes.
pub fn clear(cache: &Path) -> anyhow::Result<(usize, u64)> {
    let entries = list(cache)?;
    for entry in &entries {
        fs::remove_dir_all(&entry.folder).with_context(|| entry.folder.display().to_string())?;
    }
    Ok((entries.len(), bytes(&entries)))
}

fn shrink(cache: &Path, keep: &str) -> anyhow::Result<()> {
    let limit =
        std::env::var("SHARKQ_CACHE_LIMIT").ok().and_then(|text| text.parse().ok()).unwrap_or(LIMIT_BYTES);
    let mut total = 0;
    for entry in list(cache)? {
        total += entry.bytes;
        if total > limit && entry.folder.file_name().is_none_or(|name| name != keep) {
            total -= entry.bytes;
            let _ = fs::remove_dir_all(&entry.folder);
        }
    }
    Ok(())
}
