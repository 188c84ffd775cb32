//! What snapshots hold of a ring: bytes that eviction does not free.
//! In: the folders below `pins/`. Out: how much that is. Pins of a snapshot that died are kept for who resumes it, a day long and
//! within bounds, so that they never cost the recording its budget; without a note of what was wanted they go at once. Those of a
//! snapshot that is under way are left alone up to half of the budget: a target that hangs must not end the recording.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use shark_schema::segment::{Name, Series};

use crate::ring::{GIVEN_UP, Ring, WANTED};

const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Pinned {
    ring: Ring,
    /// By inode, since snapshots may hold the same: what the ring has no name for any more.
    files: HashMap<u64, u64>,
}

/// A snapshot that died, with its lock, so that nobody resumes it while it is looked at.
struct Torso {
    since: SystemTime,
    dir: PathBuf,
    _lock: File,
}

impl Pinned {
    pub fn new(ring: &Ring) -> Pinned {
        Pinned { ring: ring.clone(), files: HashMap::new() }
    }

    pub fn bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// Looks again; those of the dead are let go, the oldest first, until all take no more than `most`.
    pub fn refresh(&mut self, most: u64) {
        let mut torsos: Vec<Torso> = self.ring.pin_folders().filter_map(|dir| Torso::of(&dir)).collect();
        torsos.sort_by_key(|torso| torso.since);
        self.count();
        for torso in torsos {
            let age = SystemTime::now().duration_since(torso.since).unwrap_or_default();
            if age >= KEPT || self.bytes() > most {
                torso.let_go();
                self.count();
            }
        }
    }

    /// Lets go what snapshots hold that are under way, the oldest first, until all take no more than `most`. They find a note.
    pub fn bound(&mut self, most: u64) {
        if self.bytes() <= most {
            return;
        }
        let mut dirs: Vec<PathBuf> = self.ring.pin_folders().collect();
        // Their names are ULIDs, which sort by the time they were made.
        dirs.sort();
        for dir in dirs {
            give_up(&dir);
            self.count();
            if self.bytes() <= most {
                return;
            }
        }
    }

    /// The ring has just removed its own name of these.
    pub fn hold(&mut self, name: Name) {
        for dir in self.ring.pin_folders() {
            for file in [name.to_string(), name.sidecar()] {
                self.take(&dir.join(file));
            }
        }
    }

    fn count(&mut self) {
        self.files.clear();
        for dir in self.ring.pin_folders() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if self.is_ours(&entry.file_name().to_string_lossy()) {
                    self.take(&entry.path());
                }
            }
        }
    }

    fn take(&mut self, path: &Path) {
        let Some(meta) = fs::metadata(path).ok().filter(|meta| meta.is_file()) else { return };
        let file = path.file_name().unwrap_or_default();
        let is_same = |dir: PathBuf| fs::metadata(dir.join(file)).is_ok_and(|of| of.ino() == meta.ino());
        if !is_same(self.ring.segments()) && !is_same(self.ring.log()) {
            self.files.insert(meta.ino(), meta.len());
        }
    }

    /// Each series has its own budget; what is no segment is counted with the packets.
    fn is_ours(&self, file: &str) -> bool {
        let name = file.strip_suffix(".json").unwrap_or(file).parse::<Name>();
        name.map_or(Series::Packets, Name::series) == self.ring.series()
    }
}

impl Torso {
    /// None where somebody works on it, or there was nothing to keep.
    fn of(dir: &Path) -> Option<Torso> {
        // A snapshot holds the lock of its folder as long as it lives.
        let lock = File::open(dir.join("lock")).ok().filter(|file| file.try_lock().is_ok())?;
        let wanted = fs::metadata(dir.join(WANTED)).and_then(|meta| meta.modified());
        match wanted {
            // Nothing is left to be resumed.
            _ if dir.join(GIVEN_UP).exists() => {
                remove(dir);
                None
            }
            Ok(since) => Some(Torso { since, dir: dir.to_owned(), _lock: lock }),
            Err(_) => {
                remove(dir);
                None
            }
        }
    }

    fn let_go(self) {
        tracing::warn!(
            "{}: the snapshot was never completed, and what it held is let go",
            self.dir.display()
        );
        remove(&self.dir);
    }
}

fn give_up(dir: &Path) {
    tracing::warn!("{}: the snapshot took too long; the ring needs what it held", dir.display());
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_kept = |name: &std::ffi::OsStr| name == "lock" || name == WANTED;
    for entry in files.filter(|entry| !is_kept(&entry.file_name())) {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!("cannot remove {}: {error}", entry.path().display());
        }
    }
    // Who takes the snapshot finds out why its files are gone.
    if let Err(error) = File::create(dir.join(GIVEN_UP)) {
        tracing::warn!("{}: {error}", dir.join(GIVEN_UP).display());
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!("cannot remove {}: {error}", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: &str = "00-00000001-1700000000000000000.pcapng";

    #[test]
    fn what_the_dead_hold_is_bounded_and_the_living_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, _lock) = Ring::create(&dir.path().join("ring"), "n", "").unwrap();
        let hold = |id: &str, wanted: bool, age_s: u64| {
            let pins = ring.pins().join(id);
            fs::create_dir(&pins).unwrap();
            fs::hard_link(ring.segments().join(SEGMENT), pins.join(SEGMENT)).unwrap();
            fs::write(pins.join("1700000000000000000-1.facts.ndjson.zst"), [0; 10]).unwrap();
            if wanted {
                let file = File::create(pins.join(WANTED)).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
            }
            File::create(pins.join("lock")).unwrap()
        };
        let there = || {
            let mut names: Vec<_> =
                ring.pin_folders().map(|dir| dir.file_name().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        fs::write(ring.segments().join(SEGMENT), [0; 1000]).unwrap();
        let alive = hold("alive", true, 0);
        alive.lock().unwrap();
        hold("older", true, 7200);
        hold("newer", true, 3600);
        hold("yesterday", true, 90_000);
        hold("nothing", false, 0);
        let mut pinned = Pinned::new(&ring);
        pinned.refresh(2_000);
        assert_eq!(there(), ["alive", "newer", "older"]);
        // What the ring has as well takes no room of its own; without it, once for all.
        assert_eq!(pinned.bytes(), 30);
        fs::remove_file(ring.segments().join(SEGMENT)).unwrap();
        pinned.hold(SEGMENT.parse().unwrap());
        assert_eq!(pinned.bytes(), 1_030);
        pinned.refresh(1_025);
        assert_eq!((there().len(), pinned.bytes()), (2, 1_020));
        assert_eq!(there(), ["alive", "newer"]);
        pinned.refresh(0);
        assert_eq!((there().len(), pinned.bytes()), (1, 1_010));
        pinned.bound(1_010);
        assert!(!ring.pins().join("alive").join(GIVEN_UP).exists());
        pinned.bound(1_009);
        assert_eq!((there().len(), pinned.bytes()), (1, 0), "its notes stay");
        assert!(ring.pins().join("alive").join(GIVEN_UP).exists());
        drop(alive);
        pinned.refresh(0);
        assert_eq!((there().len(), pinned.bytes()), (0, 0));
    }
}
