//! Where rows come from and what could not be seen: the tables `segments`, `coverage`, `tls_coverage` and `snapshots`, from sidecars,
//! logs, manifests, and what was read where there are none of those.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use sha2::{Digest, Sha256};
use shark_schema::identity::{Evicted, Fact, Record, Targeting};
use shark_schema::segment::{CloseReason, Counters, PLAINTEXT_WORKER};
use shark_schema::table::{Block, Table};
use shark_schema::tables::coverage::{self, CoverageBlock, CoverageRow};
use shark_schema::tables::segments::{self, SegmentBlock, SegmentRow};
use shark_schema::tables::snapshots::{self, SnapshotBlock, SnapshotRow};
use shark_schema::tables::tls_coverage;

use crate::identity::tables::batch;
use crate::rounds::{BUCKET_NS, FileStats};
use crate::source::{CaptureFile, Snapshot, Sources};

/// The rows of these tables.
pub fn tables(sources: &Sources, stats: &[FileStats]) -> Vec<(&'static Table, RecordBatch)> {
    vec![
        (&segments::TABLE, segment_rows(sources, stats)),
        (&coverage::TABLE, coverage_rows(sources, stats)),
        (&tls_coverage::TABLE, crate::tls_coverage::rows(sources, stats)),
        (&snapshots::TABLE, snapshot_rows(sources)),
    ]
}

/// A count as tables have it.
pub fn signed(count: u64) -> Option<i64> {
    Some(i64::try_from(count).unwrap_or(i64::MAX))
}

fn segment_rows(sources: &Sources, stats: &[FileStats]) -> RecordBatch {
    let mut rows = SegmentBlock::default();
    for (file, stats) in sources.files.iter().zip(stats) {
        rows.append(&SegmentRow {
            snapshot_id: file.info.snapshot_id.as_deref(),
            cluster: file.info.cluster.as_deref(),
            node: file.info.node.as_deref(),
            path: Some(&file.path),
            segment_id: Some(&file.info.name),
            first_ts: stats.window.map(|(first, _)| first),
            last_ts: stats.window.map(|(_, last)| last),
            packets: signed(stats.packets),
            truncated: signed(stats.truncated),
            bytes_stored: file.size.and_then(signed),
            series: Some(if file.is_plaintext() { "plaintext" } else { "packets" }),
            ..recorded(file)
        });
    }
    batch(&segments::TABLE, rows)
}

/// What only a sidecar knows.
fn recorded(file: &CaptureFile) -> SegmentRow<'_> {
    let Some(sidecar) = &file.sidecar else {
        return SegmentRow::default();
    };
    let totals = &sidecar.totals;
    SegmentRow {
        bytes_raw: signed(sidecar.bytes_raw),
        sha256: Some(&sidecar.sha256),
        prev_sha256: sidecar.prev_sidecar_sha256.as_deref(),
        sealed_at: Some(sidecar.sealed_at_ns),
        close_reason: Some(sidecar.close_reason.as_str()),
        kernel_received: totals.kernel_received.and_then(signed),
        kernel_dropped: signed(totals.kernel_dropped),
        ring_freezes: signed(totals.ring_freezes),
        nic_dropped: totals.nic_dropped.and_then(signed),
        filtered: totals.filtered.and_then(signed),
        user_dropped: signed(totals.user_dropped + totals.disk_dropped),
        unwritten_policy_bytes: signed(totals.policy_bytes),
        unwritten_overload_bytes: signed(totals.overload_bytes),
        snaplen: i32::try_from(sidecar.snaplen).ok(),
        filter: sidecar.filter.as_deref(),
        recorder_version: Some(&sidecar.versions.recorder),
        config_sha256: Some(&sidecar.config_sha256),
        ..SegmentRow::default()
    }
}

/// Counters of a node's interface in 10 s; none where nothing says anything about them.
type Buckets = BTreeMap<(String, String, i64), Counters>;

fn coverage_rows(sources: &Sources, stats: &[FileStats]) -> RecordBatch {
    let mut rows = CoverageBlock::default();
    let buckets = recorded_buckets(sources);
    for ((node, iface, bucket_ns), counters) in &buckets {
        let lost = counters.lost();
        rows.append(&CoverageRow {
            snapshot_id: snapshot_of(sources, node),
            node: Some(node),
            iface: Some(iface),
            bucket: Some(*bucket_ns),
            state: Some(if lost > 0 { "lossy" } else { "ok" }),
            received: signed(counters.offered),
            captured: signed(counters.written),
            dropped: signed(lost),
            loss_ratio: (counters.written + lost > 0).then(|| lost as f64 / (counters.written + lost) as f64),
            ..CoverageRow::default()
        });
    }
    for (node, iface, bucket_ns, state) in blind(sources, &buckets) {
        let empty = CoverageRow {
            snapshot_id: snapshot_of(sources, &node),
            node: Some(&node),
            iface: Some(&iface),
            bucket: Some(bucket_ns),
            state: Some(state),
            ..CoverageRow::default()
        };
        rows.append(&empty);
    }
    let untold = |(file, _): &(&CaptureFile, _)| file.sidecar.is_none() && !file.is_plaintext();
    for (file, stats) in sources.files.iter().zip(stats).filter(untold) {
        for (bucket_ns, packets) in &stats.buckets {
            // Nothing tells what such a file lost: `dropped` stays unknown.
            rows.append(&CoverageRow {
                snapshot_id: file.info.snapshot_id.as_deref(),
                node: file.info.node.as_deref().or(Some(&file.info.name)),
                iface: Some("*"),
                bucket: Some(*bucket_ns),
                state: Some("ok"),
                captured: signed(*packets),
                ..CoverageRow::default()
            });
        }
    }
    batch(&coverage::TABLE, rows)
}

/// The snapshot that a node's part lies in.
pub fn snapshot_of<'a>(sources: &'a Sources, node: &str) -> Option<&'a str> {
    let of_node = |file: &&CaptureFile| file.info.node.as_deref() == Some(node);
    sources.files.iter().find(of_node).and_then(|file| file.info.snapshot_id.as_deref())
}

fn recorded_buckets(sources: &Sources) -> Buckets {
    let mut buckets = Buckets::new();
    for file in sources.files.iter().filter(|file| !file.is_plaintext()) {
        let Some(sidecar) = &file.sidecar else { continue };
        for bucket in &sidecar.buckets {
            let name = sidecar.interfaces.iter().find(|iface| iface.id == bucket.interface);
            let name = name.map_or_else(|| "*".to_string(), |iface| iface.name.clone());
            let start_ns = bucket.start_ns.div_euclid(BUCKET_NS) * BUCKET_NS;
            let inside = file
                .window
                .is_none_or(|window| start_ns + BUCKET_NS > window.from_ns && start_ns <= window.to_ns);
            if inside {
                *buckets.entry((sidecar.node.clone(), name, start_ns)).or_default() += &bucket.counters;
            }
        }
    }
    buckets
}

/// Stretches of the wanted time in which a node recorded nothing, and why: rotated out, the recorder was down, or never
/// targeted.
fn blind(sources: &Sources, buckets: &Buckets) -> Vec<(String, String, i64, &'static str)> {
    let mut blind = Vec::new();
    let nodes: BTreeSet<&str> = sources
        .facts
        .iter()
        .filter(|(header, _)| header.writer == "recorder")
        .map(|(header, _)| header.node.as_str())
        .chain(buckets.keys().map(|key| key.0.as_str()))
        .collect();
    for node in nodes {
        let facts: Vec<&Record> = sources
            .facts
            .iter()
            .filter(|(header, _)| header.writer == "recorder" && header.node == node)
            .map(|(_, record)| record)
            .collect();
        let seen: BTreeSet<i64> = buckets.keys().filter(|key| key.0 == node).map(|key| key.2).collect();
        let wanted = sources
            .files
            .iter()
            .filter(|file| file.info.node.as_deref() == Some(node))
            .find_map(|file| file.window);
        // A snapshot may hold what its ring gave up later.
        let here: BTreeSet<&str> = sources.files.iter().map(|file| file.info.name.as_str()).collect();
        let evictions = facts.iter().filter_map(|record| match &record.fact {
            Fact::Evicted(evicted) if evicted.worker != PLAINTEXT_WORKER => Some(evicted),
            _ => None,
        });
        let evictions: Vec<&Evicted> =
            evictions.filter(|evicted| !here.contains(evicted.segment.as_str())).collect();
        let evicted = evictions.iter().filter_map(|evicted| evicted.min_ns).min();
        let span = wanted
            .map(|window| (window.from_ns, window.to_ns))
            .or_else(|| Some((evicted.or(seen.first().copied())?, seen.last().copied()?)));
        let Some((from_ns, to_ns)) = span else { continue };
        let is_replay =
            facts.iter().any(|record| matches!(&record.fact, Fact::Start(start) if start.replay.is_some()));
        // A window may reach back for years: only what a recorder was there for is told bucket by bucket.
        let logged = facts.iter().map(|record| record.ts_ns).min().or(seen.first().copied());
        let began_ns = logged.into_iter().chain(evicted).min().unwrap_or(from_ns);
        let mut bucket_ns = from_ns.max(began_ns).div_euclid(BUCKET_NS) * BUCKET_NS;
        while bucket_ns <= to_ns {
            // The log of a replay says nothing of the time of its packets, only what became of them.
            let is_gone = is_evicted(&evictions, bucket_ns);
            let state = match seen.contains(&bucket_ns) {
                // Of some of its packets.
                true => is_gone.then_some("rotated_out"),
                false if is_replay && !is_gone => None,
                false if is_gone => Some("rotated_out"),
                false if was_idle(sources, node, &facts, bucket_ns) => Some("ok"),
                false => Some(why(&facts, bucket_ns)),
            };
            blind.extend(state.map(|state| (node.to_string(), "*".to_string(), bucket_ns, state)));
            bucket_ns += BUCKET_NS;
        }
        for record in &facts {
            if let Fact::Interface(iface) = &record.fact
                && iface.state == Targeting::NotTargeted
            {
                let bucket_ns = record.ts_ns.max(from_ns).div_euclid(BUCKET_NS) * BUCKET_NS;
                blind.push((node.to_string(), iface.name.clone(), bucket_ns, "not_targeted"));
            }
        }
    }
    blind
}

/// Nothing came, but the recorder was there: the next segment sealed was sealed in order, and by the same run of it.
fn was_idle(sources: &Sources, node: &str, facts: &[&Record], bucket_ns: i64) -> bool {
    let end_ns = bucket_ns + BUCKET_NS;
    let packets = sources.files.iter().filter(|file| !file.is_plaintext());
    let of_node = packets.filter_map(|file| file.sidecar.as_ref()).filter(|side| side.node == node);
    let next = of_node.filter(|side| side.sealed_at_ns > bucket_ns).min_by_key(|side| side.sealed_at_ns);
    let began = |record: &Record| matches!(record.fact, Fact::Start(_));
    let mut before = facts.iter().filter(|record| record.ts_ns < end_ns);
    let last = before.rfind(|record| began(record) || matches!(record.fact, Fact::Stop(_)));
    last.is_some_and(|record| began(record))
        && next.is_some_and(|side| {
            let again =
                |record: &&&Record| began(record) && (end_ns..side.sealed_at_ns).contains(&record.ts_ns);
            side.close_reason != CloseReason::CrashRecovered && !facts.iter().any(|record| again(&record))
        })
}

fn is_evicted(evictions: &[&Evicted], bucket_ns: i64) -> bool {
    evictions.iter().any(|evicted| {
        evicted.min_ns.is_some_and(|min| min < bucket_ns + BUCKET_NS)
            && evicted.max_ns.is_some_and(|max| max >= bucket_ns)
    })
}

fn why(facts: &[&Record], bucket_ns: i64) -> &'static str {
    let end_ns = bucket_ns + BUCKET_NS;
    let before = facts
        .iter()
        .rev()
        .find(|record| record.ts_ns < end_ns && matches!(record.fact, Fact::Start(_) | Fact::Stop(_)));
    match before.map(|record| &record.fact) {
        Some(Fact::Stop(_)) | None => "recorder_restart",
        _ => "gap",
    }
}

fn snapshot_rows(sources: &Sources) -> RecordBatch {
    let mut rows = SnapshotBlock::default();
    for snapshot in &sources.snapshots {
        append_snapshot(&mut rows, snapshot);
    }
    batch(&snapshots::TABLE, rows)
}

fn append_snapshot(rows: &mut SnapshotBlock, snapshot: &Snapshot) {
    let uri = snapshot.folder.name();
    let Some((manifest, bytes)) = &snapshot.manifest else {
        rows.append(&SnapshotRow { uri: Some(&uri), ..SnapshotRow::default() });
        return;
    };
    let sha256 = hex(&Sha256::digest(bytes));
    let sum = |of: fn(&shark_schema::manifest::NodeEntry) -> u64| manifest.nodes.iter().map(of).sum::<u64>();
    let (packets, lost) = (sum(|node| node.packets), sum(|node| node.loss.lost()));
    let real = manifest.nodes.iter().filter_map(|node| node.real);
    let failed = manifest.missing.iter().filter(|missing| missing.what.starts_with("node")).count();
    rows.append(&SnapshotRow {
        snapshot_id: Some(&manifest.id),
        name: manifest.name.as_deref(),
        cluster: Some(manifest.cluster.as_str()).filter(|name| !name.is_empty()),
        created_at: Some(manifest.created_ns),
        created_by: Some(&manifest.requester),
        reason: manifest.reason.as_deref(),
        from_ts: Some(manifest.wanted.from_ns),
        to_ts: Some(manifest.wanted.to_ns),
        actual_from_ts: real.clone().map(|window| window.from_ns).max(),
        actual_to_ts: real.map(|window| window.to_ns).max(),
        nodes_expected: i32::try_from(manifest.nodes.len() + failed).ok(),
        nodes_captured: i32::try_from(manifest.nodes.len()).ok(),
        segments: signed(sum(|node| node.segments)),
        packets: signed(packets),
        bytes_stored: signed(sum(|node| node.bytes_stored)),
        dropped: signed(lost),
        loss_ratio: (packets + lost > 0).then(|| lost as f64 / (packets + lost) as f64),
        manifest_sha256: Some(&sha256),
        uri: Some(&uri),
        ..SnapshotRow::default()
    });
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
