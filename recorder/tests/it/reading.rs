//! Reads rings and snapshots back, independently of the recorder's own counters.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use shark_schema::identity::{Fact, Record, read_header, read_line};
use shark_schema::segment::{Block, Blocks, Counters, Name, Sidecar};

use crate::net::MARKER;

/// A packet as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub interface: u32,
    pub ts_ns: i64,
    pub original_len: u32,
    pub flags: u32,
    pub dropped: u64,
    pub data: Vec<u8>,
}

/// Names of the segments in a folder, sealed and open, in order.
pub fn names(dir: &Path) -> Vec<Name> {
    let entries = fs::read_dir(dir).expect("folder");
    let mut names: Vec<Name> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

/// The bytes of a sealed segment; a torn one panics.
pub fn bytes(dir: &Path, name: Name) -> Vec<u8> {
    let stored = fs::read(dir.join(name.to_string())).expect("segment");
    if name.compressed { zstd::decode_all(&stored[..]).expect("a whole frame") } else { stored }
}

pub fn packets_of(raw: &[u8]) -> Vec<Recorded> {
    let packet = |item: shark_schema::segment::Item<'_>| match item.block {
        Block::Packet(packet) => Some(Recorded {
            interface: packet.interface,
            ts_ns: packet.ts_ns.expect("stamped"),
            original_len: packet.original_len,
            flags: packet.flags,
            dropped: packet.dropped,
            data: packet.data.to_vec(),
        }),
        _ => None,
    };
    Blocks::new(raw).map(|item| item.expect("a whole block")).filter_map(packet).collect()
}

/// All packets of all sealed segments in a folder.
pub fn packets(dir: &Path) -> Vec<Recorded> {
    names(dir).iter().filter(|name| !name.open).flat_map(|name| packets_of(&bytes(dir, *name))).collect()
}

/// The number its sender gave a packet.
pub fn number(packet: &Recorded) -> Option<u64> {
    let at = packet.data.windows(8).position(|window| window == MARKER)?;
    packet.data.get(at + 8..at + 16)?.try_into().ok().map(u64::from_be_bytes)
}

/// How often each number was recorded.
pub fn numbers(packets: &[Recorded]) -> BTreeMap<u64, u32> {
    let mut seen = BTreeMap::new();
    packets.iter().filter_map(number).for_each(|number| *seen.entry(number).or_default() += 1);
    seen
}

pub fn sidecars(dir: &Path) -> Vec<Sidecar> {
    let read = |name: &Name| {
        Sidecar::from_bytes(&fs::read(dir.join(name.sidecar())).expect("sidecar")).expect("sidecar")
    };
    names(dir).iter().filter(|name| !name.open).map(read).collect()
}

/// Sum over the sidecars, each checked against its segment, its buckets and the chain.
pub fn totals(dir: &Path) -> Counters {
    use sha2::{Digest, Sha256};
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut sum = Counters::default();
    let mut prev: BTreeMap<u16, String> = BTreeMap::new();
    for name in names(dir).into_iter().filter(|name| !name.open) {
        let text = fs::read(dir.join(name.sidecar())).expect("sidecar");
        let sidecar = Sidecar::from_bytes(&text).expect("sidecar");
        let stored = fs::read(dir.join(name.to_string())).expect("segment");
        assert_eq!(sidecar.sha256, hex(&stored), "{name}");
        assert_eq!(sidecar.bytes_stored, stored.len() as u64, "{name}");
        assert_eq!(sidecar.bytes_raw, bytes(dir, name).len() as u64, "{name}");
        assert_eq!(sidecar.packets, packets_of(&bytes(dir, name)).len() as u64, "{name}");
        if let Some(before) = prev.insert(name.worker, hex(&text)) {
            assert_eq!(sidecar.prev_sidecar_sha256, Some(before), "chain at {name}");
        }
        let t = sidecar.totals;
        assert_eq!(t.offered, t.written + t.kernel_dropped + t.user_dropped + t.disk_dropped, "{name}");
        let mut buckets = Counters::default();
        sidecar.buckets.iter().for_each(|bucket| buckets += &bucket.counters);
        assert_eq!(buckets, t, "{name}");
        sum += &t;
    }
    sum
}

/// All facts in a log folder, oldest first.
pub fn facts(dir: &Path) -> Vec<Record> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".ndjson.zst"));
    files.sort();
    let mut facts = Vec::new();
    for path in files {
        let text = zstd::decode_all(&fs::read(&path).expect("log")[..]).expect("a whole frame");
        let text = String::from_utf8(text).expect("text");
        let mut lines = text.lines();
        read_header(lines.next().expect("a header")).expect("a header");
        facts.extend((2..).zip(lines).filter_map(|(number, line)| read_line(number, line).expect("a fact")));
    }
    facts
}

pub fn evicted(dir: &Path) -> Vec<shark_schema::identity::Evicted> {
    let evicted = |record: Record| match record.fact {
        Fact::Evicted(evicted) => Some(evicted),
        _ => None,
    };
    facts(dir).into_iter().filter_map(evicted).collect()
}

/// Bytes of all files below a folder.
pub fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
