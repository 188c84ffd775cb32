//! What of the plaintext of TLS was recorded and what is missing. In: sidecars of its segments, and facts of the recorders. Out: the
//! table `tls_coverage`. Packets are told of elsewhere: losing one series says nothing of the other.

use std::collections::{BTreeMap, HashSet};

use arrow::array::RecordBatch;
use shark_schema::identity::{Fact, Feature, Record};
use shark_schema::segment::{Counters, PLAINTEXT_WORKER};
use shark_schema::table::Block;
use shark_schema::tables::tls_coverage::{self, TlsCoverageBlock, TlsCoverageRow};

use crate::identity::tables::batch;
use crate::provenance::{signed, snapshot_of};
use crate::rounds::{BUCKET_NS, FileStats};
use crate::source::{CaptureFile, Sources};

/// How the recorder begins to say that a library gives nothing; one that nobody runs any more is no such.
const UNREADABLE: &str = "plaintext cannot be read: ";
const LIBRARY: &str = "tls_library ";
/// How it begins to say what the counters of its segments say, too.
const COUNTED: &str = "the ring of the kernel's events was full";

/// The rows of the table.
pub fn rows(sources: &Sources, stats: &[FileStats]) -> RecordBatch {
    let mut rows = TlsCoverageBlock::default();
    recorded(sources, stats, &mut rows);
    for (node, facts) in facts(sources) {
        for (at, record) in facts.iter().enumerate() {
            let Some(missing) = missing(sources, record, &facts[at + 1..]) else { continue };
            let row = TlsCoverageRow { snapshot_id: snapshot_of(sources, node), node: Some(node), ..missing };
            if is_wanted(sources, node, &row) {
                rows.append(&row);
            }
        }
    }
    batch(&tls_coverage::TABLE, rows)
}

/// What recorders say of plaintext, by node. Each file of a log begins with what held before: that is taken once.
fn facts(sources: &Sources) -> BTreeMap<&str, Vec<&Record>> {
    let mut nodes: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    let mut held = HashSet::new();
    for (header, record) in sources.facts.iter().filter(|(header, _)| header.writer == "recorder") {
        let holds = match &record.fact {
            Fact::Start(_) => Some(""),
            Fact::Feature(of) if of.name == "tls" || of.name.starts_with(LIBRARY) => Some(of.name.as_str()),
            Fact::EventsLost(of) if of.feature == "tls" => None,
            Fact::Evicted(of) if of.worker == PLAINTEXT_WORKER => None,
            _ => continue,
        };
        if holds.is_none_or(|name| held.insert((&header.node, record.ts_ns, name))) {
            nodes.entry(&header.node).or_default().push(record);
        }
    }
    nodes
}

/// What segments say of themselves, in steps of 10 s.
fn recorded(sources: &Sources, stats: &[FileStats], rows: &mut TlsCoverageBlock) {
    let mut buckets: BTreeMap<(&str, i64), (u64, Option<u64>)> = BTreeMap::new();
    for (file, stats) in sources.files.iter().zip(stats).filter(|(file, _)| file.is_plaintext()) {
        let node = file.info.node.as_deref().unwrap_or(&file.info.name);
        let Some(sidecar) = &file.sidecar else {
            // It is still being written: what it lost is told when it is sealed.
            for (bucket_ns, packets) in &stats.buckets {
                buckets.entry((node, *bucket_ns)).or_insert((0, None)).0 += packets;
            }
            continue;
        };
        for bucket in sidecar.buckets.iter().filter(|bucket| is_inside(file, bucket.start_ns)) {
            let Counters { written, .. } = bucket.counters;
            let (captured, dropped) = buckets.entry((node, bucket.start_ns)).or_insert((0, None));
            *captured += written;
            *dropped = Some(dropped.unwrap_or(0) + bucket.counters.lost());
        }
    }
    for ((node, from_ns), (captured, dropped)) in buckets {
        rows.append(&TlsCoverageRow {
            snapshot_id: snapshot_of(sources, node),
            node: Some(node),
            from_ts: Some(from_ns),
            to_ts: Some(from_ns + BUCKET_NS),
            state: Some(if dropped > Some(0) { "lossy" } else { "ok" }),
            captured: signed(captured),
            dropped: dropped.and_then(signed),
            ..TlsCoverageRow::default()
        });
    }
}

fn is_inside(file: &CaptureFile, start_ns: i64) -> bool {
    file.window.is_none_or(|window| start_ns + BUCKET_NS > window.from_ns && start_ns <= window.to_ns)
}

/// What a recorder says it lost, removed, or could not read, and why.
fn missing<'a>(sources: &Sources, record: &'a Record, later: &[&Record]) -> Option<TlsCoverageRow<'a>> {
    let row = |state, from_ts, to_ts, why| TlsCoverageRow {
        state: Some(state),
        from_ts,
        to_ts,
        why,
        ..TlsCoverageRow::default()
    };
    let ts_ns = record.ts_ns;
    match &record.fact {
        Fact::EventsLost(lost) => {
            let dropped = if lost.why.starts_with(COUNTED) { None } else { signed(lost.events) };
            // Reported every 10 s, or at the end.
            let row = row("lossy", Some(ts_ns - BUCKET_NS), Some(ts_ns), Some(lost.why.as_str()));
            Some(TlsCoverageRow { dropped, ..row })
        }
        // A snapshot may have taken it before.
        Fact::Evicted(gone) if sources.files.iter().all(|file| file.info.name != gone.segment) => {
            Some(row("rotated_out", gone.min_ns, gone.max_ns, None))
        }
        Fact::Feature(feature) if !feature.on => {
            let until_ns = later.iter().find(|later| ends(later, feature)).map(|later| later.ts_ns);
            let Some(library) = feature.name.strip_prefix(LIBRARY) else {
                return Some(row("off", Some(ts_ns), until_ns, Some(feature.why.as_str())));
            };
            let why = feature.why.strip_prefix(UNREADABLE)?;
            let row = row("unreadable", Some(ts_ns), until_ns, Some(why));
            Some(TlsCoverageRow { library: Some(library), ..row })
        }
        _ => None,
    }
}

/// What a feature was holds until something else is said of it, or the recorder starts again.
fn ends(later: &Record, feature: &Feature) -> bool {
    match &later.fact {
        Fact::Start(_) => true,
        Fact::Feature(other) => other.name == feature.name,
        _ => false,
    }
}

fn is_wanted(sources: &Sources, node: &str, row: &TlsCoverageRow<'_>) -> bool {
    let of_node = |file: &&CaptureFile| file.info.node.as_deref() == Some(node);
    let window = sources.files.iter().filter(of_node).find_map(|file| file.window);
    window.is_none_or(|window| {
        row.from_ts.is_none_or(|from_ns| from_ns <= window.to_ns)
            && row.to_ts.is_none_or(|to_ns| to_ns >= window.from_ns)
    })
}
