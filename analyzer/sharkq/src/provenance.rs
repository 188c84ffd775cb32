//! Where rows come from and what could not be seen: the tables `segments`, `coverage`, `tls_coverage` and `snapshots`, from sidecars,
//! logs, manifests, and what was read where there are none of those.

use arrow::array::RecordBatch;
use sha2::{Digest, Sha256};
use shark_schema::table::{Block, Table};
use shark_schema::tables::coverage;
use shark_schema::tables::segments::{self, SegmentBlock, SegmentRow};
use shark_schema::tables::snapshots::{self, SnapshotBlock, SnapshotRow};
use shark_schema::tables::tls_coverage;

use crate::identity::tables::batch;
use crate::packet_coverage;
use crate::rounds::FileStats;
use crate::source::{CaptureFile, Snapshot, Sources};

/// The rows of the tables that tell where rows come from.
pub fn segments(sources: &Sources, stats: &[FileStats]) -> Vec<(&'static Table, RecordBatch)> {
    vec![(&segments::TABLE, segment_rows(sources, stats)), (&snapshots::TABLE, snapshot_rows(sources))]
}

/// The rows of the tables that tell what could not be seen.
pub fn coverage(sources: &Sources, stats: &[FileStats]) -> Vec<(&'static Table, RecordBatch)> {
    vec![
        (&coverage::TABLE, packet_coverage::rows(sources, stats)),
        (&tls_coverage::TABLE, crate::tls_coverage::rows(sources, stats)),
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

/// The snapshot that a node's part lies in.
pub fn snapshot_of<'a>(sources: &'a Sources, node: &str) -> Option<&'a str> {
    let of_node = |file: &&CaptureFile| file.info.node.as_deref() == Some(node);
    sources.files.iter().find(of_node).and_then(|file| file.info.snapshot_id.as_deref())
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
