//! The budget of a ring: bytes of segments, sidecars, logs and pinned files never exceed it.
//! In: what is about to be written. Out: room for it, made by removing the oldest whole segments of any worker.
//! An eviction is never silent: each comes back as the fact to be logged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shark_schema::identity::Evicted;
use shark_schema::segment::{Name, Sidecar};

use super::ledger::chain_hash;
use super::pinned::Pinned;
use super::recovery::DAMAGED;
use super::seal::Sealed;
use crate::ring::Ring;

pub type Eviction = Evicted;

const LOG_RESERVE_BYTES: u64 = 256 << 10;

pub struct Budget {
    ring: Ring,
    limit: u64,
    /// Bytes of each sealed segment with its sidecar, and when it was sealed, by worker and number.
    kept: BTreeMap<Name, (i64, u64)>,
    /// Bytes of `kept`.
    sealed: u64,
    /// Bytes of segments that are open, or on their way to being sealed.
    open: BTreeMap<Name, u64>,
    log: u64,
    /// Files that a snapshot still holds: their bytes are free only when it lets go.
    pinned: Pinned,
    /// Files that cannot be read: the first to go.
    damaged: Vec<(String, u64)>,
}

impl Budget {
    /// Counts what lies in the ring.
    pub fn scan(ring: &Ring, limit: u64) -> Result<Budget, crate::ring::RingError> {
        let mut budget = Budget {
            ring: ring.clone(),
            limit,
            kept: BTreeMap::new(),
            sealed: 0,
            open: BTreeMap::new(),
            log: 0,
            pinned: Pinned::new(ring),
            damaged: Vec::new(),
        };
        for name in ring.damaged()? {
            let bytes = size(ring.segments().join(&name));
            budget.damaged.push((name, bytes));
        }
        for name in ring.list()?.into_iter().filter(|name| !name.open) {
            let sealed_at = ring.sidecar(name).map_or(name.first_ns, |(sidecar, _)| sidecar.sealed_at_ns);
            budget.sealed(name, sealed_at);
        }
        budget.release_pins();
        Ok(budget)
    }

    /// Gives up the oldest segments until a recorder can start: on a full disk it could not even make its files.
    pub fn make_room_to_start(ring: &Ring, limit: u64) -> Result<Vec<Eviction>, crate::ring::RingError> {
        let mut gone = Vec::new();
        if Room::of(ring.root()).is_some_and(|room| room.is_too_little_to_start()) {
            let mut budget = Budget::scan(ring, limit)?;
            while Room::of(ring.root()).is_some_and(|room| room.is_too_little_to_start()) {
                let Some(eviction) = budget.evict("the disk was full at the start") else { break };
                gone.push(eviction);
            }
        }
        Ok(gone)
    }

    /// Keeps some of the disk free for others: below that, a ring grows no more. It never gives up more than it is to write.
    pub fn leave_free(&mut self, bytes: u64) -> Vec<Eviction> {
        let mut gone = Vec::new();
        let Some(room) = Room::of(self.ring.root()) else { return gone };
        let mut freed = 0;
        while room.free_bytes + freed < room.floor_bytes + bytes && freed < bytes {
            let Some(eviction) = self.evict("little of the disk is free") else { break };
            freed += eviction.bytes_stored.max(1);
            gone.push(eviction);
        }
        gone
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn used(&self) -> u64 {
        let damaged = self.damaged.iter().map(|(_, bytes)| bytes).sum::<u64>();
        self.sealed + self.log + self.open.values().sum::<u64>() + self.pinned.bytes() + damaged
    }

    pub fn segments(&self) -> usize {
        self.kept.len()
    }

    /// A segment got its final name.
    pub fn sealed(&mut self, name: Name, sealed_at_ns: i64) {
        let dir = self.ring.segments();
        let bytes = size(dir.join(name.sealed().to_string())) + size(dir.join(name.sidecar()));
        self.sealed += bytes;
        self.kept.insert(name.sealed(), (sealed_at_ns, bytes));
        self.open.remove(&name.sealed());
    }

    /// An open segment will have this many bytes; what there is no room for is evicted elsewhere first.
    pub fn grow_open(&mut self, name: Name, bytes: u64) -> (bool, Vec<Eviction>) {
        self.open.insert(name.sealed(), bytes);
        self.fit()
    }

    pub fn set_log(&mut self, bytes: u64) -> Vec<Eviction> {
        self.log = bytes;
        self.fit().1
    }

    /// Evicts until everything fits; false when there is nothing left to evict.
    fn fit(&mut self) -> (bool, Vec<Eviction>) {
        let mut gone = Vec::new();
        // The log grows between two looks at it.
        let most = self.limit - (self.limit / 64).min(LOG_RESERVE_BYTES);
        while self.used() > most {
            match self.evict("the ring reached its size") {
                Some(eviction) => gone.push(eviction),
                None => {
                    self.pinned.refresh(0);
                    self.pinned.bound(self.limit / 2);
                    return (self.used() <= most, gone);
                }
            }
        }
        (true, gone)
    }

    /// Numbers say which segment of a worker is the oldest. Of several workers it is the one that was sealed first; a clock that was
    /// ahead once made none of the later ones older than those before.
    fn oldest(&self) -> Option<Name> {
        let mut fronts: Vec<(i64, Name)> = Vec::new();
        for (name, (sealed_at_ns, _)) in &self.kept {
            match fronts.last_mut() {
                Some((at_ns, front)) if front.worker == name.worker => *at_ns = (*at_ns).min(*sealed_at_ns),
                _ => fronts.push((*sealed_at_ns, *name)),
            }
        }
        fronts.into_iter().min().map(|(_, name)| name)
    }

    /// Removes the oldest segment; None when there is none.
    pub fn evict(&mut self, why: &str) -> Option<Eviction> {
        if let Some((file, bytes)) = self.damaged.pop() {
            let name: Name = file.strip_suffix(DAMAGED)?.parse().ok()?;
            let _ = fs::remove_file(self.ring.segments().join(&file));
            return Some(eviction(name, None, bytes, why));
        }
        let name = self.oldest()?;
        let (_, bytes) = self.kept.remove(&name)?;
        self.sealed -= bytes;
        let sidecar = self.ring.sidecar(name).ok();
        let dir = self.ring.segments();
        for file in [name.to_string(), name.sidecar()] {
            if let Err(error) = fs::remove_file(dir.join(&file))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("cannot remove {}: {error}", dir.join(&file).display());
            }
        }
        self.pinned.hold(name);
        Some(eviction(name, sidecar, bytes, why))
    }

    /// The file of a segment was removed by somebody else before it was sealed.
    pub fn removed(&mut self, segment: &Sealed) -> Eviction {
        let name = segment.name.sealed();
        self.open.remove(&name);
        // It may have come before its segment was found missing.
        let _ = fs::remove_file(self.ring.segments().join(name.sidecar()));
        let sidecar = (segment.sidecar.clone(), segment.sidecar_bytes.clone());
        eviction(name, Some(sidecar), 0, "somebody removed its file")
    }

    /// Snapshots may hold half of everything, first those that are under way.
    pub fn release_pins(&mut self) {
        self.pinned.refresh(self.limit / 2);
        self.pinned.bound(self.limit / 2);
    }
}

/// What a file system has left.
pub struct Room {
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// What is left free for others.
    floor_bytes: u64,
    /// None where the file system does not count them.
    free_files: Option<u64>,
}

/// A file system is kept from filling up to its last 2 %, or 256 MiB.
const FLOOR_PERCENT: u64 = 2;
const MOST_FLOOR_BYTES: u64 = 256 << 20;
/// What a recorder needs to make its first files.
const START_BYTES: u64 = 1 << 20;
const START_FILES: u64 = 10;

impl Room {
    /// None where the file system does not say.
    pub fn of(path: &Path) -> Option<Room> {
        let stat = rustix::fs::statvfs(path).ok()?;
        // What is reserved for the super-user is there for it.
        let is_root = rustix::process::geteuid().is_root();
        let blocks = if is_root { stat.f_bfree } else { stat.f_bavail };
        let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
        Some(Room {
            free_bytes: blocks.saturating_mul(stat.f_frsize),
            total_bytes,
            floor_bytes: (total_bytes / 100 * FLOOR_PERCENT).min(MOST_FLOOR_BYTES),
            free_files: (stat.f_files > 0).then_some(if is_root { stat.f_ffree } else { stat.f_favail }),
        })
    }

    fn is_too_little_to_start(&self) -> bool {
        self.free_bytes < START_BYTES || self.free_files.is_some_and(|files| files < START_FILES)
    }
}

fn size(path: PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The fact that a segment is gone.
pub fn eviction(name: Name, sidecar: Option<(Sidecar, Vec<u8>)>, bytes: u64, why: &str) -> Eviction {
    let (sidecar, text) = sidecar.unzip();
    Evicted {
        segment: name.to_string(),
        worker: name.worker,
        seq: name.seq,
        packets: sidecar.as_ref().map_or(0, |s| s.packets),
        bytes_stored: sidecar.as_ref().map_or(bytes, |s| s.bytes_stored),
        min_ns: sidecar.as_ref().and_then(|s| s.min_ns),
        max_ns: sidecar.as_ref().and_then(|s| s.max_ns),
        interfaces: sidecar.iter().flat_map(|s| s.interfaces.iter().map(|i| i.name.clone())).collect(),
        sidecar_sha256: text.as_deref().map(chain_hash),
        why: why.to_owned(),
    }
}
