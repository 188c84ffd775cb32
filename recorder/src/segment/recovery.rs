//! Makes whole what a recorder left that had no time to seal: decodes to the last whole packet and seals that.
//! In: a torn `.open` file. Out: a sealed segment with close reason `crash_recovered`.
//! It must never lose a packet that can be decoded, and never hold more than a block of the file in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use shark_schema::identity::Recovered;
use shark_schema::segment::{
    BUCKET_NS, Block, CloseReason, FORMAT_VERSION, InterfaceNote, Loss, LostBy, MOST_LOSSES, Name, Next,
    Packet, Reader, SHARED_SOCKET, SectionNote, Sidecar, SidecarInterface, Statistics, Versions,
};

use super::budget::{Eviction, eviction};
use super::ledger::{Ledger, chain_hash};
use super::seal::{Sealed, put_in_place};
use super::writer::{Compression, Writer, hex};
use crate::batch::{Losses, Tally};
use crate::ring::{Ring, RingError};

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Where each worker goes on, and what was repaired.
#[derive(Debug, Default)]
pub struct Found {
    /// By worker: the last sequence number used, and the hash of the last sidecar.
    pub tails: BTreeMap<u16, (u64, Option<String>)>,
    pub recovered: Vec<Recovered>,
    /// Sidecars whose segment was removed, as the facts that say so.
    pub orphans: Vec<Eviction>,
}

/// Repairs a ring nobody is writing to. Needs the lock.
pub fn recover(ring: &Ring, versions: &Versions) -> Result<Found, RecoveryError> {
    let dir = ring.segments();
    remove_leftovers(&dir)?;
    let mut found = Found { orphans: remove_orphans(ring)?, ..Found::default() };
    for name in ring.list()? {
        let prev = found.tails.get(&name.worker).and_then(|(_, hash)| hash.clone());
        let whole =
            ring.sidecar(name).ok().filter(|(sidecar, _)| !name.open || finish_rename(&dir, name, sidecar));
        let hash = match whole {
            Some((_, bytes)) => Some(chain_hash(&bytes)),
            None => match repair(ring, name, prev.clone(), versions)? {
                Repaired::Sealed(fact, hash) => {
                    found.recovered.push(fact);
                    Some(hash)
                }
                Repaired::PutAside(fact) | Repaired::Left(fact) | Repaired::Empty(fact) => {
                    found.recovered.push(fact);
                    prev
                }
            },
        };
        found.tails.insert(name.worker, (name.seq, hash));
    }
    Ok(found)
}

/// A sidecar without its segment: an eviction was interrupted between the two files, or somebody removed the segment.
fn remove_orphans(ring: &Ring) -> Result<Vec<Eviction>, RecoveryError> {
    let segments = ring.list()?;
    let dir = ring.segments();
    let mut orphans = Vec::new();
    for name in ring.sidecars()? {
        if segments.iter().any(|of| of.sealed() == name) {
            continue;
        }
        let sidecar = ring.sidecar(name).ok();
        let path = dir.join(name.sidecar());
        fs::remove_file(&path).map_err(|source| RecoveryError::Io { path, source })?;
        orphans.push(eviction(name, sidecar, 0, "its file was gone when the recorder started"));
    }
    Ok(orphans)
}

/// A crash between sidecar and name: the content is complete, only the name is missing.
fn finish_rename(dir: &Path, name: Name, sidecar: &Sidecar) -> bool {
    let open = dir.join(name.to_string());
    let mut hash = Sha256::new();
    let copied = File::open(&open).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.is_ok()
        && hex(&hash.finalize()) == sidecar.sha256
        && fs::rename(&open, dir.join(name.sealed().to_string())).is_ok()
}

/// Half-made files of a recovery or a seal that was itself interrupted; their originals are still there.
fn remove_leftovers(dir: &Path) -> Result<(), RecoveryError> {
    let io = |source| RecoveryError::Io { path: dir.into(), source };
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let stem = name.strip_suffix(".tmp").or(name.strip_suffix(".recovering"));
        let is_ours = stem.is_some_and(|stem| stem.parse::<Name>().is_ok());
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs::remove_file(&path).map_err(|source| RecoveryError::Io { path, source })?;
        }
    }
    Ok(())
}

/// What became of a file that was not sealed.
enum Repaired {
    Sealed(Recovered, String),
    /// It cannot be read; it is kept under another name.
    PutAside(Recovered),
    /// It held no packet yet: there is nothing to keep.
    Empty(Recovered),
    /// The disk has no room for its copy: it stays as it is, for the next start.
    Left(Recovered),
}

fn repair(
    ring: &Ring,
    name: Name,
    prev: Option<String>,
    versions: &Versions,
) -> Result<Repaired, RecoveryError> {
    let dir = ring.segments();
    let old = dir.join(name.to_string());
    let io = |source| RecoveryError::Io { path: old.clone(), source };
    let fact = |packets, torn_bytes, aside| {
        let segment = name.sealed().to_string();
        Recovered { segment, packets, torn_bytes, aside }
    };
    let resealed = match reseal(&old, name, &dir, ring, prev, versions) {
        Ok(resealed) => resealed,
        Err(error) if is_full(&error) => {
            tracing::warn!("{}: {error}; it is recovered at the next start", old.display());
            return Ok(Repaired::Left(fact(0, 0, None)));
        }
        Err(error) => return Err(io(error)),
    };
    let size = fs::metadata(&old).map_or(0, |meta| meta.len());
    match resealed {
        Some((sealed, torn_bytes)) => {
            put_in_place(&dir, &sealed).map_err(io)?;
            let hash = chain_hash(&sealed.sidecar_bytes);
            Ok(Repaired::Sealed(fact(sealed.sidecar.packets, torn_bytes, None), hash))
        }
        // A recorder that died before the first packet leaves at most the blocks in front of it.
        None if name.open && size < MOST_EMPTY_BYTES => {
            fs::remove_file(&old).map_err(io)?;
            Ok(Repaired::Empty(fact(0, 0, None)))
        }
        None => {
            let aside = format!("{name}{DAMAGED}");
            fs::rename(&old, dir.join(&aside)).map_err(io)?;
            tracing::warn!("{} holds no readable packet; it is kept as {aside}", old.display());
            Ok(Repaired::PutAside(fact(0, size, Some(aside))))
        }
    }
}

/// What a segment without any packet takes at most.
const MOST_EMPTY_BYTES: u64 = 16 << 10;
/// Behind the name of a segment that cannot be read.
pub const DAMAGED: &str = ".damaged";

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes the whole packets of `path` as a finished file into `to`, leaving the original as it is. Also gives the decoded
/// bytes that had to be given up.
pub fn reseal(
    path: &Path,
    name: Name,
    to: &Path,
    ring: &Ring,
    prev: Option<String>,
    versions: &Versions,
) -> io::Result<Option<(Sealed, u64)>> {
    let compression = if name.compressed { Compression::Zstd(1) } else { Compression::None };
    // The name a seal in progress expects: `.open` plus a mark that keeps it from being taken for a segment.
    let draft = to.join(format!("{}.recovering", name.sealed()));
    let _ = fs::remove_file(&draft);
    let mut copy = Copy::new(Writer::create(&draft, compression)?);
    let torn = copy.read(decoder(path, name.compressed)?)?;
    if copy.packets == 0 {
        fs::remove_file(&draft)?;
        return Ok(None);
    }
    copy.writer.end()?;
    copy.writer.write_out()?;
    copy.writer.file().sync_data()?;
    let sealed = copy.seal(name, ring, prev, versions);
    // Only now may the torn original be replaced.
    fs::rename(&draft, to.join(sealed.name.to_string()))?;
    Ok(Some((sealed, torn)))
}

fn decoder(path: &Path, compressed: bool) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(if compressed { Box::new(zstd::stream::read::Decoder::new(file)?) } else { Box::new(file) })
}

/// Copies whole blocks and keeps the books while it does.
struct Copy {
    writer: Writer,
    reader: Reader,
    ledger: Ledger,
    note: Option<SectionNote>,
    statistics: BTreeMap<u32, Statistics>,
    packets: u64,
    /// Losses the packets tell of, by `epb_dropcount`.
    told: u64,
    losses: Vec<Loss>,
    /// Stamp of the packet before.
    last_ns: Option<i64>,
}

impl Copy {
    fn new(writer: Writer) -> Copy {
        let (reader, ledger) = (Reader::new(), Ledger::default());
        Copy {
            writer,
            reader,
            ledger,
            note: None,
            statistics: BTreeMap::new(),
            packets: 0,
            told: 0,
            losses: Vec::new(),
            last_ns: None,
        }
    }

    /// Gives the number of decoded bytes behind the last whole block.
    fn read(&mut self, mut from: impl Read) -> io::Result<u64> {
        let mut buffer = Vec::new();
        let mut chunk = vec![0; 256 << 10];
        loop {
            // A torn zstd frame ends in an error; everything decoded before it is good.
            let got = match from.read(&mut chunk) {
                Ok(0) | Err(_) => return Ok(buffer.len() as u64),
                Ok(got) => got,
            };
            buffer.extend_from_slice(&chunk[..got]);
            let used = match self.take(&buffer)? {
                Ok(used) => used,
                Err(used) => return Ok((buffer.len() - used) as u64),
            };
            buffer.drain(..used);
        }
    }

    /// Copies the whole blocks at the start of `bytes`; the inner error says that what follows is damaged.
    fn take(&mut self, bytes: &[u8]) -> io::Result<Result<usize, usize>> {
        let mut used = 0;
        loop {
            let (item, len) = match self.reader.next(&bytes[used..]) {
                Ok(Next::Block(item, len)) => (item, len),
                Ok(Next::More(_)) => return Ok(Ok(used)),
                Err(_) => return Ok(Err(used)),
            };
            match item.block {
                Block::Packet(packet) => self.packet(&packet),
                Block::Section(section) => {
                    self.note = section.comment.and_then(|text| serde_json::from_str(text).ok());
                }
                Block::Statistics(found) => {
                    self.statistics.insert(found.interface, found);
                }
                _ => {}
            }
            self.writer.append(&bytes[used..used + len])?;
            self.writer.write_out()?;
            used += len;
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let ts_ns = packet.ts_ns.unwrap_or_default();
        let wire = u64::from(packet.original_len);
        let cut = wire.saturating_sub(packet.data.len() as u64);
        self.packets += 1;
        self.told += packet.dropped;
        if packet.dropped > 0 {
            self.lost_before(ts_ns, packet.dropped);
        }
        self.last_ns = Some(ts_ns);
        let tally = Tally {
            packets: 1,
            wire_bytes: wire,
            policy_bytes: cut,
            truncated: u64::from(cut > 0),
            min_ns: ts_ns,
            max_ns: ts_ns,
            ..Tally::new(packet.interface)
        };
        self.ledger.written(bucket_of(ts_ns), &tally);
    }

    fn lost_before(&mut self, to_ns: i64, packets: u64) {
        let from_ns = self.last_ns.unwrap_or(to_ns);
        let is_full = self.losses.len() >= MOST_LOSSES;
        match self.losses.last_mut().filter(|_| is_full) {
            Some(last) => (last.to_ns, last.packets) = (last.to_ns.max(to_ns), last.packets + packets),
            // The block does not say where it was lost.
            None => self.losses.push(Loss { from_ns, to_ns, packets, cause: LostBy::Unknown }),
        }
    }

    /// The last statistics block is all that survived of an interface's losses. Those of a socket that interfaces share are
    /// in none: what the packets tell beyond the blocks is of the socket.
    fn losses(&mut self) {
        let mut known = 0;
        for (&interface, found) in &self.statistics {
            let kernel_dropped = found.os_dropped.unwrap_or(0);
            let delivered = found.delivered.unwrap_or(0);
            let other = found.received.unwrap_or(0).saturating_sub(kernel_dropped).saturating_sub(delivered);
            let losses = Losses { kernel_dropped, user_dropped: other, ..Losses::default() };
            known += kernel_dropped + other;
            self.ledger.lost(interface, bucket_of(found.ts_ns), &losses);
        }
        let shared = self.statistics.values().any(|found| found.os_dropped.is_none());
        if let (true, Some(last_ns)) = (shared && self.told > known, self.ledger.range().1) {
            let losses = Losses { kernel_dropped: self.told - known, ..Losses::default() };
            self.ledger.lost(SHARED_SOCKET, bucket_of(last_ns), &losses);
        }
    }

    fn seal(mut self, name: Name, ring: &Ring, prev: Option<String>, versions: &Versions) -> Sealed {
        self.losses();
        let note = self.note.take();
        let interfaces = self.interfaces();
        let snaplen = interfaces.iter().map(|i| i.snaplen).max().unwrap_or(0);
        let filter = self.reader.interfaces().iter().find_map(|i| i.filter.clone());
        let (raw, stored) = (self.writer.raw(), self.writer.stored());
        let (file, sha256) = self.writer.into_parts();
        let (min_ns, max_ns) = self.ledger.range();
        let sidecar = Sidecar {
            format: FORMAT_VERSION,
            segment_id: note.as_ref().map(|n| n.segment_id.clone()).unwrap_or_default(),
            segment: name.sealed().to_string(),
            worker: name.worker,
            seq: name.seq,
            node: note.as_ref().map_or_else(|| ring.file.node.clone(), |n| n.node.clone()),
            cluster: note.as_ref().map_or_else(|| ring.file.cluster.clone(), |n| n.cluster.clone()),
            packets: self.packets,
            bytes_raw: raw,
            bytes_stored: stored,
            min_ns,
            max_ns,
            interfaces,
            totals: self.ledger.totals(),
            buckets: self.ledger.buckets(),
            losses: std::mem::take(&mut self.losses),
            sha256,
            prev_sidecar_sha256: prev,
            sealed_at_ns: crate::time::now_ns(),
            close_reason: CloseReason::CrashRecovered,
            config_sha256: String::new(),
            versions: versions.clone(),
            filter,
            snaplen,
        };
        let sidecar_bytes = sidecar.to_bytes();
        // The finished draft takes the name that sealing renames away.
        let name = Name { open: true, ..name };
        Sealed { file, name, sidecar, sidecar_bytes }
    }

    fn interfaces(&self) -> Vec<SidecarInterface> {
        let describe = |(id, found): (usize, &shark_schema::segment::Interface)| {
            let note: Option<InterfaceNote> =
                found.description.as_deref().and_then(|text| serde_json::from_str(text).ok());
            SidecarInterface {
                id: id as u32,
                name: found.name.clone().unwrap_or_default(),
                ifindex: note.as_ref().and_then(|n| n.ifindex),
                snaplen: note.as_ref().map_or(found.snaplen, |n| n.snaplen),
                synthetic_ethernet: note.as_ref().is_some_and(|n| n.synthetic_ethernet),
                pod: note.and_then(|n| n.pod),
            }
        };
        self.reader.interfaces().iter().enumerate().map(describe).collect()
    }
}

/// Start of the 10 s of UTC a stamp lies in.
pub fn bucket_of(ts_ns: i64) -> i64 {
    ts_ns.saturating_sub(ts_ns.rem_euclid(BUCKET_NS))
}
