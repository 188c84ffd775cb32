//! What of the plaintext of TLS was recorded and what is missing. In: sidecars of its segments, and facts of the recorders. Out: the
//! table `tls_coverage`. Packets are told of elsewhere: losing one series says nothing of the other.

use std::collections::{BTreeMap, HashSet};

use arrow::array::RecordBatch;
use shark_schema::identity::{Fact, Feature, LossCause, OffCause, Record};
use shark_schema::segment::{Counters, PLAINTEXT_WORKER};
use shark_schema::table::Block;
use shark_schema::tables::tls_coverage::{self, TlsCoverageBlock, TlsCoverageRow};

use crate::identity::tables::batch;
use crate::provenance::{signed, snapshot_of};
use crate::rounds::{BUCKET_NS, FileStats};
use crate::source::{CaptureFile, Sources};

const LIBRARY: &str = "tls_library ";
/// What recorders say of plaintext as a whole: whether any is read, whether processes may be asked for their libraries, and whether
/// the kernel tells of new ones.
const FEATURES: [&str; 3] = ["tls", "tls_processes", "tls_mappings"];

/// The rows of the table.
pub fn rows(sources: &Sources, stats: &[FileStats]) -> RecordBatch {
    let mut rows = TlsCoverageBlock::default();
    recorded(sources, stats, &mut rows);
    for (node, facts) in facts(sources) {
        for (at, record) in facts.iter().enumerate() {
            let (earlier, later) = (&facts[..at], &facts[at + 1..]);
            let Some(missing) = missing(sources, record, earlier, later) else { continue };
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
            Fact::Feature(of) if FEATURES.contains(&of.name.as_str()) || of.name.starts_with(LIBRARY) => {
                Some(of.name.as_str())
            }
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

/// What a recorder says it lost, removed, could not read, or was not asked for, and why.
fn missing<'a>(
    sources: &Sources,
    record: &'a Record,
    earlier: &[&Record],
    later: &[&Record],
) -> Option<TlsCoverageRow<'a>> {
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
            let dropped = match lost.cause {
                // Where that is not known it may be among what the counters of the segments say.
                None | Some(LossCause::RingFull) => None,
                // These are processes, not calls.
                Some(LossCause::Late) => None,
                Some(_) => signed(lost.events),
            };
            // Reported every 10 s, or at the end.
            let row = row("lossy", Some(ts_ns - BUCKET_NS), Some(ts_ns), Some(lost.why.as_str()));
            Some(TlsCoverageRow { dropped, process: lost.process.as_deref(), ..row })
        }
        // A snapshot may have taken it before.
        Fact::Evicted(gone) if sources.files.iter().all(|file| file.info.name != gone.segment) => {
            Some(row("rotated_out", gone.min_ns, gone.max_ns, None))
        }
        Fact::Feature(feature) if !feature.on => {
            let until_ns = later.iter().find(|later| ends(later, feature)).map(|later| later.ts_ns);
            let of = |state| row(state, Some(ts_ns), until_ns, Some(feature.why.as_str()));
            match (feature.name.strip_prefix(LIBRARY), feature.cause) {
                (Some(_), Some(OffCause::Unused)) => None,
                (Some(library), _) => Some(TlsCoverageRow { library: Some(library), ..of("unreadable") }),
                // The log of a replay says nothing of the time of its packets.
                (None, Some(OffCause::NotTargeted)) if is_replayed(earlier) => {
                    Some(TlsCoverageRow { from_ts: None, to_ts: None, ..of("not_targeted") })
                }
                (None, Some(OffCause::NotTargeted)) => Some(of("not_targeted")),
                (None, _) => Some(of("off")),
            }
        }
        _ => None,
    }
}

/// Whether the recorder that wrote these facts last replays a capture.
fn is_replayed(earlier: &[&Record]) -> bool {
    let start = earlier.iter().rev().find_map(|record| match &record.fact {
        Fact::Start(start) => Some(start),
        _ => None,
    });
    start.is_some_and(|start| start.replay.is_some())
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

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampNanosecondType};
    use shark_schema::identity::{EventsLost, LogHeader, Start};

    use super::*;

    fn start(replay: Option<&str>) -> Fact {
        Fact::Start(Start { replay: replay.map(str::to_owned), ..crate::identity::lives::start() })
    }

    fn off(name: &str, cause: Option<OffCause>, why: &str) -> Fact {
        Fact::Feature(Feature { name: name.into(), on: false, cause, why: why.into() })
    }

    fn lost(events: u64, cause: Option<LossCause>) -> Fact {
        let process = (cause == Some(LossCause::Late)).then(|| "7 (curl)".to_owned());
        Fact::EventsLost(EventsLost { feature: "tls".into(), events, cause, process, why: "a reason".into() })
    }

    /// The rows of what one recorder said, the first thing at 100 s, the next at 101 s and so on.
    fn told(facts: Vec<Fact>) -> Vec<String> {
        let header = LogHeader {
            log: "sharkrec".into(),
            format: 1,
            node: "n".into(),
            cluster: String::new(),
            writer: "recorder".into(),
            started_ns: 0,
        };
        let record =
            |(at, fact)| (header.clone(), Record { ts_ns: at * 1_000_000_000, after_ns: None, fact });
        let facts = (100_i64..).zip(facts).map(record).collect();
        let rows = rows(&Sources { facts, ..Sources::default() }, &[]);
        let text =
            |name: &str, row: usize| rows[name].as_string::<i32>().iter().nth(row).flatten().unwrap_or("-");
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let seconds = |name: &str, row: usize| {
            let times = rows[name].as_primitive::<TimestampNanosecondType>().iter().nth(row).flatten();
            number(times.map(|ns| ns / 1_000_000_000))
        };
        let line = |row: usize| {
            let (from, to) = (seconds("from_ts", row), seconds("to_ts", row));
            let dropped = number(rows["dropped"].as_primitive::<Int64Type>().iter().nth(row).flatten());
            let [state, library, process, why] =
                ["state", "library", "process", "why"].map(|name| text(name, row));
            let whose = if library == "-" { process } else { library };
            format!("{state} {from} {to} {dropped} {whose}: {why}")
        };
        (0..rows.num_rows()).map(line).collect()
    }

    #[test]
    fn what_is_off_says_why_until_something_else_is_said() {
        let of = |name: &str, cause| told(vec![start(None), off(name, cause, "a reason"), start(None)]);
        let refused = OffCause::Refused;
        assert_eq!(of("tls", Some(refused)), ["off 101 102 - -: a reason"]);
        assert_eq!(of("tls", None), ["off 101 102 - -: a reason"], "as earlier versions write it");
        assert_eq!(of("tls", Some(OffCause::NotTargeted)), ["not_targeted 101 102 - -: a reason"]);
        let unreadable = ["unreadable 101 102 - /lib/a (1:2): a reason"];
        for cause in [Some(OffCause::Unreadable), Some(OffCause::Unknown), None] {
            assert_eq!(of("tls_library /lib/a (1:2)", cause), unreadable);
        }
        assert!(of("tls_library /lib/a (1:2)", Some(OffCause::Unused)).is_empty());
        let now = told(vec![start(None), off("tls", Some(refused), "a reason"), lost(1, None)]);
        assert_eq!(now[0], "off 101 - - -: a reason");
    }

    #[test]
    fn a_replay_does_not_say_when() {
        let not_targeted = off("tls", Some(OffCause::NotTargeted), "a reason");
        assert_eq!(told(vec![start(Some("a.pcap")), not_targeted]), ["not_targeted - - - -: a reason"]);
    }

    #[test]
    fn what_segments_count_is_not_counted_twice() {
        let of = |cause| told(vec![lost(7, cause)]);
        for cause in [Some(LossCause::RingFull), None] {
            assert_eq!(of(cause), ["lossy 90 100 - -: a reason"]);
        }
        for cause in [LossCause::Cut, LossCause::Unplaced, LossCause::Skipped, LossCause::Unknown] {
            assert_eq!(of(Some(cause)), ["lossy 90 100 7 -: a reason"]);
        }
    }

    #[test]
    fn calls_of_a_process_that_was_not_watched_yet_have_no_number() {
        assert_eq!(told(vec![lost(1, Some(LossCause::Late))]), ["lossy 90 100 - 7 (curl): a reason"]);
    }

    #[test]
    fn what_is_refused_in_part_is_off() {
        let refused = Some(OffCause::Refused);
        for name in ["tls_processes", "tls_mappings"] {
            let on = Feature { name: name.into(), on: true, cause: None, why: String::new() };
            let rows = told(vec![start(None), off(name, refused, "a reason"), Fact::Feature(on)]);
            assert_eq!(rows, ["off 101 102 - -: a reason"], "{name}");
        }
    }
}
