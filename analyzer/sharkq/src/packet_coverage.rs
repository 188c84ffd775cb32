//! What of the packets was recorded and what is missing: the table `coverage`.
//! In: counters of sidecars and logs, what was read of files, and the stretches that are blind. Out: a row for each 10 s in which
//! anything was recorded or could have been, and one for each part of such of which packets are missing.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use shark_schema::identity::{Fact, Targeting};
use shark_schema::manifest::Window;
use shark_schema::segment::Counters;
use shark_schema::table::Block;
use shark_schema::tables::coverage::{self, CoverageBlock, CoverageRow};

use crate::blind::{self, NodeTime, is_told_of, state};
use crate::identity::tables::batch;
use crate::provenance::{signed, snapshot_of};
use crate::rounds::{BUCKET_NS, FileStats};
use crate::source::{CaptureFile, Sources};

/// In place of an interface: all of the node.
const ALL: &str = "*";

/// The rows of the table.
pub fn rows(sources: &Sources, stats: &[FileStats]) -> RecordBatch {
    let mut rows = CoverageBlock::default();
    let nodes = blind::nodes(sources, stats);
    let counted = counted(sources, stats);
    for ((node, iface, bucket_ns), counters) in &counted {
        let extent = nodes.get(node).and_then(|time| time.extent);
        let Some((from_ns, to_ns)) = part(*bucket_ns, extent) else { continue };
        let lost = counters.lost();
        rows.append(&CoverageRow {
            snapshot_id: snapshot_of(sources, node),
            node: Some(node),
            iface: Some(iface),
            bucket: Some(*bucket_ns),
            from_ts: Some(from_ns),
            to_ts: Some(to_ns),
            state: Some(if lost > 0 { state::LOSSY } else { OK }),
            received: signed(counters.offered),
            captured: signed(counters.written),
            dropped: signed(lost),
            loss_ratio: (counters.written + lost > 0).then(|| lost as f64 / (counters.written + lost) as f64),
            ..CoverageRow::default()
        });
    }
    for (name, time) in &nodes {
        let seen: BTreeSet<i64> = counted.keys().filter(|key| key.0 == *name).map(|key| key.2).collect();
        idle(&mut rows, sources, name, time, &seen);
        missing(&mut rows, sources, name, time);
        not_targeted(&mut rows, sources, name, time);
    }
    untold(&mut rows, sources, stats);
    batch(&coverage::TABLE, rows)
}

/// The state of time in which nothing is missing.
const OK: &str = "ok";

/// The part of a bucket that lies in the extent of a node.
fn part(bucket_ns: i64, extent: Option<Window>) -> Option<(i64, i64)> {
    let (from_ns, to_ns) = (bucket_ns, bucket_ns.saturating_add(BUCKET_NS));
    let extent = extent?;
    let part = (from_ns.max(extent.from_ns), to_ns.min(extent.to_ns));
    (part.0 <= part.1).then_some(part)
}

/// Counters of a node's interface in 10 s.
type Buckets = BTreeMap<(String, String, i64), Counters>;

/// What sidecars count. Of a segment that is not sealed, or not whole, the packets that were read, and the losses that the log tells.
fn counted(sources: &Sources, stats: &[FileStats]) -> Buckets {
    let mut buckets = Buckets::new();
    let told = |(file, _): &(&CaptureFile, &FileStats)| is_told_of(file) && !file.is_plaintext();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (file, stats) in sources.files.iter().zip(stats).filter(told) {
        let whole = file.sidecar.as_ref().filter(|sidecar| stats.read == sidecar.packets);
        let Some(sidecar) = whole else {
            let Some(node) = &file.info.node else { continue };
            for (bucket_ns, packets) in &stats.buckets {
                let counters = buckets.entry((node.clone(), ALL.to_string(), *bucket_ns)).or_default();
                counters.offered += packets;
                counters.written += packets;
            }
            if file.is_open() {
                open.insert(node);
            }
            continue;
        };
        for bucket in &sidecar.buckets {
            let name = sidecar.interfaces.iter().find(|iface| iface.id == bucket.interface);
            let name = name.map_or_else(|| ALL.to_string(), |iface| iface.name.clone());
            let start_ns = bucket.start_ns.div_euclid(BUCKET_NS).saturating_mul(BUCKET_NS);
            let inside = file.window.is_none_or(|window| {
                start_ns.saturating_add(BUCKET_NS) > window.from_ns && start_ns <= window.to_ns
            });
            if inside {
                *buckets.entry((sidecar.node.clone(), name, start_ns)).or_default() += &bucket.counters;
            }
        }
    }
    for node in open {
        lost_of_open(sources, node, &mut buckets);
    }
    buckets
}

/// The losses of a segment that is open are in no sidecar yet: what the log counts beyond the sidecars is of it.
fn lost_of_open(sources: &Sources, node: &str, buckets: &mut Buckets) {
    let mut logged: BTreeMap<i64, u64> = BTreeMap::new();
    for (header, record) in sources.facts.iter().filter(|(header, _)| header.node == node) {
        if let (Fact::Counters(of), "recorder") = (&record.fact, header.writer.as_str()) {
            *logged.entry(of.bucket_ns).or_default() += of.counters.lost();
        }
    }
    for (bucket_ns, lost) in logged {
        let in_bucket = buckets.iter().filter(|(key, _)| key.0 == node && key.2 == bucket_ns);
        let known: u64 = in_bucket.map(|(_, counters)| counters.lost()).sum();
        if lost > known {
            let counters = buckets.entry((node.to_string(), ALL.to_string(), bucket_ns)).or_default();
            counters.offered += lost - known;
            counters.kernel_dropped += lost - known;
        }
    }
}

/// A row without counters, about a part of the time of a node.
fn bare<'a>(
    sources: &'a Sources,
    node: &'a str,
    iface: &'a str,
    (from_ns, to_ns): (i64, i64),
    state: &'a str,
) -> CoverageRow<'a> {
    CoverageRow {
        snapshot_id: snapshot_of(sources, node),
        node: Some(node),
        iface: Some(iface),
        bucket: Some(from_ns.div_euclid(BUCKET_NS).saturating_mul(BUCKET_NS)),
        from_ts: Some(from_ns),
        to_ts: Some(to_ns),
        state: Some(state),
        ..CoverageRow::default()
    }
}

/// Parts of a stretch of time that are told one by one: buckets, and longer ones where it has very many, as after a clock that
/// was years ahead.
fn parts(stretch: Window) -> impl Iterator<Item = (i64, i64)> {
    let length_ns = stretch.to_ns.saturating_sub(stretch.from_ns).max(0);
    let step_ns = (length_ns / MOST_PARTS / BUCKET_NS + 1).saturating_mul(BUCKET_NS);
    let end = move |from_ns: i64| {
        let next_ns = from_ns.div_euclid(step_ns).saturating_add(1).saturating_mul(step_ns);
        next_ns.min(stretch.to_ns)
    };
    let first = (stretch.from_ns, end(stretch.from_ns));
    std::iter::successors(Some(first), move |(_, to_ns)| {
        (*to_ns < stretch.to_ns).then(|| (*to_ns, end(*to_ns)))
    })
}

/// A hundred days of buckets.
const MOST_PARTS: i64 = 864_000;

/// Nothing came, but the recorder was there.
fn idle(rows: &mut CoverageBlock, sources: &Sources, node: &str, time: &NodeTime, seen: &BTreeSet<i64>) {
    let Some(extent) = time.extent else { return };
    // A part that is blind as a whole has a row that says so.
    let mut blind = time.blind.iter().filter(|of| of.state != state::LOSSY).peekable();
    for (from_ns, to_ns) in parts(extent) {
        while blind.peek().is_some_and(|of| of.to_ns < to_ns) {
            blind.next();
        }
        let is_blind = blind.peek().is_some_and(|of| of.from_ns <= from_ns);
        let bucket_ns = from_ns.div_euclid(BUCKET_NS).saturating_mul(BUCKET_NS);
        if !is_blind && seen.range(bucket_ns..to_ns.max(bucket_ns.saturating_add(1))).next().is_none() {
            rows.append(&bare(sources, node, ALL, (from_ns, to_ns), OK));
        }
    }
}

fn missing(rows: &mut CoverageBlock, sources: &Sources, node: &str, time: &NodeTime) {
    for of in &time.blind {
        for part in parts(Window { from_ns: of.from_ns, to_ns: of.to_ns }) {
            rows.append(&CoverageRow { why: Some(&of.why), ..bare(sources, node, ALL, part, of.state) });
        }
    }
}

/// Interfaces that nobody asked for, and those that came later than their recorder.
fn not_targeted(rows: &mut CoverageBlock, sources: &Sources, node: &str, time: &NodeTime) {
    let Some(extent) = time.extent else { return };
    let mut row = |iface: &str, from_ns: i64, to_ns: i64, why: &str| {
        let from_ns = from_ns.clamp(extent.from_ns, extent.to_ns);
        let part = (from_ns, to_ns.clamp(from_ns, extent.to_ns));
        rows.append(&CoverageRow { why: Some(why), ..bare(sources, node, iface, part, "not_targeted") });
    };
    let mut told = BTreeSet::new();
    for (header, record) in sources.facts.iter().filter(|(header, _)| header.node == node) {
        let Fact::Interface(of) = &record.fact else { continue };
        let is_new = header.writer == "recorder" && told.insert((record.ts_ns, of.name.as_str()));
        if is_new && of.state == Targeting::NotTargeted {
            row(&of.name, record.ts_ns, extent.to_ns, &of.why);
        }
    }
    for (iface, Window { from_ns, to_ns }) in &time.late {
        row(iface, *from_ns, *to_ns, "it was not there, or not recorded yet");
    }
}

/// Captures that tell nothing of what they lost: `dropped` stays unknown.
fn untold(rows: &mut CoverageBlock, sources: &Sources, stats: &[FileStats]) {
    let untold = |(file, _): &(&CaptureFile, &FileStats)| !is_told_of(file) && !file.is_plaintext();
    for (file, stats) in sources.files.iter().zip(stats).filter(untold) {
        let extent = stats.window.map(|(from_ns, to_ns)| Window { from_ns, to_ns });
        for (bucket_ns, packets) in &stats.buckets {
            let Some((from_ns, to_ns)) = part(*bucket_ns, extent) else { continue };
            rows.append(&CoverageRow {
                snapshot_id: file.info.snapshot_id.as_deref(),
                node: file.info.node.as_deref().or(Some(&file.info.name)),
                iface: Some(ALL),
                bucket: Some(*bucket_ns),
                from_ts: Some(from_ns),
                to_ts: Some(to_ns),
                state: Some(OK),
                captured: signed(*packets),
                ..CoverageRow::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_buckets_and_never_too_many() {
        let of = |from_ns, to_ns| parts(Window { from_ns, to_ns }).collect::<Vec<_>>();
        let second = 1_000_000_000;
        let expected = [(3 * second, 10 * second), (10 * second, 20 * second), (20 * second, 21 * second)];
        assert_eq!(of(3 * second, 21 * second), expected);
        assert_eq!(of(5, 5), [(5, 5)]);
        assert_eq!(of(10 * second, 20 * second), [(10 * second, 20 * second)]);
        // A sidecar may claim anything.
        for (from_ns, to_ns) in [(i64::MIN, i64::MAX), (0, i64::MAX), (i64::MAX - 1, i64::MAX)] {
            let parts = of(from_ns, to_ns);
            assert!(parts.len() <= 2 * MOST_PARTS as usize + 2, "{}", parts.len());
            assert_eq!((parts[0].0, parts.last().expect("one").1), (from_ns, to_ns));
            assert!(parts.windows(2).all(|two| two[0].1 == two[1].0));
        }
    }
}
