//! The budget of a ring: bytes of segments, sidecars, logs and pinned files never exceed it.
//! In: what is about to be written. Out: room for it, made by removing the oldest whole segments of any worker.
//! An eviction is never silent: each comes back as the fact to be logged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use shark_schema::identity::Evicted;
use shark_schema::segment::{Name, Sidecar};

use super::ledger::chain_hash;
use super::pinned::Pinned;
use super::seal::Sealed;
use crate::ring::Ring;

pub type Eviction = Evicted;

const LOG_RESERVE_BYTES: u64 = 256 << 10;

pub struct Budget {
    ring: Ring,
    limit: u64,
    /// Bytes of each sealed segment with its sidecar, in order of eviction: by time of sealing, then by name.
    kept: BTreeMap<(i64, Name), u64>,
    /// Bytes of `kept`.
    sealed: u64,
    /// Bytes of segments that are open, or on their way to being sealed.
    open: BTreeMap<Name, u64>,
    log: u64,
    /// Files that a snapshot still holds: their bytes are free only when it lets go.
    pinned: Pinned,
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
        };
        for name in ring.list()?.into_iter().filter(|name| !name.open) {
            let sealed_at = ring.sidecar(name).map_or(name.first_ns, |(sidecar, _)| sidecar.sealed_at_ns);
            budget.sealed(name, sealed_at);
        }
        budget.release_pins();
        Ok(budget)
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn used(&self) -> u64 {
        self.sealed + self.log + self.open.values().sum::<u64>() + self.pinned.bytes()
    }

    pub fn segments(&self) -> usize {
        self.kept.len()
    }

    /// A segment got its final name.
    pub fn sealed(&mut self, name: Name, sealed_at_ns: i64) {
        let dir = self.ring.segments();
        let bytes = size(dir.join(name.sealed().to_string())) + size(dir.join(name.sidecar()));
        self.sealed += bytes;
        self.kept.insert((sealed_at_ns, name.sealed()), bytes);
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
                    return (self.used() <= most, gone);
                }
            }
        }
        (true, gone)
    }

    /// Removes the oldest segment; None when there is none.
    pub fn evict(&mut self, why: &str) -> Option<Eviction> {
        let ((_, name), bytes) = self.kept.pop_first()?;
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
        Some(fact(name, sidecar, bytes, why))
    }

    /// The file of a segment was removed by somebody else before it was sealed.
    pub fn removed(&mut self, segment: &Sealed) -> Eviction {
        let name = segment.name.sealed();
        self.open.remove(&name);
        // It may have come before its segment was found missing.
        let _ = fs::remove_file(self.ring.segments().join(name.sidecar()));
        let sidecar = (segment.sidecar.clone(), segment.sidecar_bytes.clone());
        fact(name, Some(sidecar), 0, "somebody removed its file")
    }

    /// Those of a snapshot that died may take half of everything.
    pub fn release_pins(&mut self) {
        self.pinned.refresh(self.limit / 2);
    }
}

fn size(path: PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn fact(name: Name, sidecar: Option<(Sidecar, Vec<u8>)>, bytes: u64, why: &str) -> Eviction {
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
