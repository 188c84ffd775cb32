//! What a snapshot holds of a ring while it is taken: links that eviction leaves alone, and notes by which it can be resumed.
//! In: a ring and an id. Out: `<ring>/pins/<id>/`, locked as long as someone works on it. It goes when the snapshot is complete;
//! after a death it stays a while, as [`crate::segment`] has room for it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::Wanted;
use crate::ring::{Ring, WANTED, private_dir, replace};

#[derive(Debug)]
pub struct Pins {
    pub dir: PathBuf,
    _lock: File,
}

/// The recorder tries the lock for a moment each time it looks which pins are still in use.
const PATIENCE: Duration = Duration::from_secs(1);

impl Pins {
    pub fn new(ring: &Ring, id: &str) -> anyhow::Result<Pins> {
        let dir = ring.pins().join(id);
        let context = || dir.display().to_string();
        private_dir(&dir).with_context(context)?;
        let lock = File::create(dir.join("lock")).with_context(context)?;
        let asked = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Pins { dir, _lock: lock }),
                Err(TryLockError::WouldBlock) if asked.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => bail!("snapshot {id} is being taken by another process"),
                Err(TryLockError::Error(error)) => return Err(error).with_context(context),
            }
        }
    }

    /// What is wanted, without which the pins of the dead are not kept.
    pub fn note_wanted(&self, wanted: &Wanted) -> anyhow::Result<()> {
        self.note(WANTED, &serde_json::to_vec_pretty(wanted)?)
    }

    pub fn wanted(&self) -> anyhow::Result<Option<Wanted>> {
        let Some(bytes) = self.noted(WANTED)? else { return Ok(None) };
        let wanted = serde_json::from_slice(&bytes);
        wanted.map(Some).with_context(|| self.dir.join(WANTED).display().to_string())
    }

    /// There whole or not at all.
    pub fn note(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        replace(&path, bytes).with_context(|| path.display().to_string())
    }

    pub fn noted(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// An empty folder for files of another kind.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        remove(&dir).with_context(|| dir.display().to_string())?;
        private_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }

    pub fn let_go(self) {
        let Pins { dir, _lock: lock } = self;
        // While nobody else may look. On NFS and FUSE the folder stays as long as a file in it is open.
        let _ = remove(&dir);
        drop(lock);
        if let Err(error) = remove(&dir) {
            tracing::warn!("{}: {error}", dir.display());
        }
    }
}

/// A snapshot that can be resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    pub id: String,
    pub name: Option<String>,
    pub to: String,
}

/// Those that were begun, and that nobody is working on.
pub fn interrupted(ring: &Ring) -> Vec<Interrupted> {
    let idle = begun(ring).into_iter().filter(|of| !of.is_locked);
    idle.map(|Begun { id, wanted: Wanted { name, to, .. }, .. }| Interrupted { id, name, to }).collect()
}

/// A snapshot that is being taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    pub id: String,
    pub to: String,
    /// What it holds of the ring, also what the ring has as well.
    pub bytes: u64,
}

/// Those that somebody is working on.
pub fn under_way(ring: &Ring) -> Vec<UnderWay> {
    let held = |of: Begun| {
        let files = fs::read_dir(&of.dir).into_iter().flatten().flatten();
        let bytes = files.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum();
        UnderWay { id: of.id, to: of.wanted.to, bytes }
    };
    begun(ring).into_iter().filter(|of| of.is_locked).map(held).collect()
}

/// A snapshot that was begun and is not complete.
struct Begun {
    id: String,
    dir: PathBuf,
    wanted: Wanted,
    /// Somebody is working on it.
    is_locked: bool,
}

/// All of them, by id.
fn begun(ring: &Ring) -> Vec<Begun> {
    let of = |dir: PathBuf| {
        let wanted = serde_json::from_slice(&fs::read(dir.join(WANTED)).ok()?).ok()?;
        let is_idle = File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock_shared().is_ok());
        let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(Begun { id, dir, wanted, is_locked: !is_idle })
    };
    let mut all: Vec<Begun> = ring.pin_folders().filter_map(of).collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
