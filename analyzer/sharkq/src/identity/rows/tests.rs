//! What later files say of what earlier ones left open: over stops, kills, reboots and lost events, with files as recorders write them.

use shark_schema::identity::arrows::{Encoder, Head};
use shark_schema::identity::{Fact, LogHeader, Record};
use shark_schema::table::Block;
use shark_schema::tables::processes::{self, ProcessBlock, ProcessRow};
use shark_schema::tables::sockets::{self, SocketBlock, SocketRow};
use tempfile::TempDir;

use super::*;
use crate::identity::lives::start;
use crate::place::Folder;

const SECOND: i64 = 1_000_000_000;

/// Logs of a node.
struct Logs {
    dir: TempDir,
    files: Vec<LogFile>,
    facts: Vec<(LogHeader, Record)>,
}

/// A socket by its cookie, when it was opened, found and closed.
type Told = (i64, Option<i64>, Option<i64>, Option<i64>);

/// Open when the recorder began.
fn open(cookie: i64) -> Told {
    (cookie, None, None, None)
}

fn begun(cookie: i64, at: i64) -> Told {
    (cookie, Some(at), None, None)
}

impl Logs {
    fn new() -> Logs {
        Logs { dir: tempfile::tempdir().expect("a folder"), files: Vec::new(), facts: Vec::new() }
    }

    /// A recorder begins, and says something for the last time.
    fn life(mut self, from: i64, last_word: i64) -> Logs {
        let start = Fact::Start(start());
        let clock =
            shark_schema::identity::Clock { realtime_minus_boottime_ns: 0, step_ns: None, uncertainty_ns: 0 };
        for (at, fact) in [(from, start), (last_word, Fact::Clock(clock))] {
            let header = LogHeader {
                log: "sharkrec".into(),
                format: 1,
                node: "n".into(),
                cluster: "c".into(),
                writer: "recorder".into(),
                started_ns: 0,
            };
            self.facts.push((header, Record { ts_ns: at * SECOND, after_ns: None, fact }));
        }
        self
    }

    /// A file: the state, then what changed.
    fn file(mut self, started: i64, state: &[Told], changes: &[Told]) -> Logs {
        let head = Head { node: "n".into(), cluster: "c".into(), started_ns: started * SECOND };
        let mut encoder = Encoder::new(&sockets::TABLE, &head);
        for rows in [state, changes] {
            let mut block = SocketBlock::default();
            for (cookie, start, found, end) in rows {
                let ns = |at: &Option<i64>| at.map(|at| at * SECOND);
                block.append(&SocketRow {
                    sock_id: Some(&format!("n-{cookie}")),
                    node: Some("n"),
                    start_ts: ns(start),
                    found_ts: ns(found),
                    end_ts: ns(end),
                    cookie: Some(*cookie),
                    ..SocketRow::default()
                });
            }
            encoder.append(&mut block);
        }
        encoder.finish();
        self.write(started, "sockets", &sockets::TABLE, &encoder.take());
        self
    }

    fn write(&mut self, started: i64, series: &str, table: &'static Table, bytes: &[u8]) {
        let name = format!("{}-000001.{series}.arrows.zst", started * SECOND);
        let path = self.dir.path().join(name);
        std::fs::write(&path, zstd::encode_all(bytes, 1).expect("it compresses")).expect("a file");
        self.files.push(LogFile { place: Folder::Local(path), table, size: bytes.len() as u64 });
    }

    /// When each socket is known to have been open, and the end that is shown, in seconds.
    fn spans(&self) -> Vec<(i64, [i64; 3], Option<i64>)> {
        let mut lives = Lives::new(&self.facts);
        let mut warnings = Vec::new();
        let rows = read(&self.files, &sockets::TABLE, &mut lives, &mut warnings);
        assert!(warnings.is_empty(), "{warnings:?}");
        let second = |ns: i64| if matches!(ns, i64::MIN | OPEN) { ns } else { ns / SECOND };
        let mut spans = Vec::new();
        for (batch, of) in rows.batches.iter().zip(&rows.spans) {
            let cookies = batch["cookie"].as_primitive::<arrow::datatypes::Int64Type>();
            for (row, span) in of.iter().enumerate() {
                let shown = at(times(batch, "end_ts"), row).map(second);
                let Span { from_ns, to_ns, sure_ns } = *span;
                spans.push((cookies.value(row), [from_ns, to_ns, sure_ns].map(second), shown));
            }
        }
        spans.sort_unstable();
        spans
    }
}

#[test]
fn what_a_later_state_lacks_has_ended_with_the_last_word_before() {
    // Killed at 105 or later, begun again at 200 on the same ring.
    let logs = Logs::new().life(100, 105).life(200, 230);
    let logs = logs.file(101, &[open(1), open(2)], &[begun(3, 103), (4, Some(104), None, Some(105))]);
    let logs = logs.file(201, &[open(2)], &[begun(5, 210)]);
    assert_eq!(
        logs.spans(),
        [
            // The dead one, the one that lived on, one of the first life, one that was closed in it, one of the second.
            (1, [95, 105, 105], Some(201)),
            (2, [95, OPEN, 230], None),
            (3, [103, 105, 105], Some(201)),
            (4, [104, 105, 105], Some(105)),
            (5, [210, OPEN, 230], None),
        ]
    );
}

#[test]
fn what_came_while_nobody_recorded_is_known_since_the_last_word() {
    let logs = Logs::new().life(100, 105).life(200, 230);
    let logs = logs.file(101, &[open(1)], &[]).file(201, &[open(1), open(6)], &[]);
    assert_eq!(logs.spans(), [(1, [95, OPEN, 230], None), (6, [105, OPEN, 230], None)]);
    // A reboot gives all sockets new names.
    let logs = Logs::new().life(100, 190).life(200, 230);
    let logs = logs.file(101, &[open(1)], &[begun(2, 150)]).file(201, &[open(7)], &[]);
    assert_eq!(
        logs.spans(),
        [(1, [95, 190, 190], Some(201)), (2, [150, 190, 190], Some(201)), (7, [190, OPEN, 230], None)]
    );
}

#[test]
fn a_close_that_nobody_told_bounds_what_is_known() {
    // One recorder, three files; the end of the first socket was lost.
    let logs = Logs::new().life(100, 400).file(101, &[open(1)], &[begun(2, 110)]);
    let logs = logs.file(200, &[open(1), begun(2, 110)], &[]).file(300, &[begun(2, 110)], &[]);
    assert_eq!(logs.spans(), [(1, [95, 200, 200], Some(300)), (2, [110, OPEN, 400], None)]);
}

#[test]
fn what_was_found_is_known_since_it_was_found() {
    let found = |cookie, at| (cookie, None, Some(at), None);
    let logs = Logs::new().life(100, 400).file(101, &[open(1)], &[found(2, 130)]);
    // One that an earlier version wrote, which did not say when it found something: the state before lacked it.
    let logs = logs.file(200, &[open(1), found(2, 130), open(3)], &[open(4)]);
    let from: Vec<(i64, i64)> = logs.spans().iter().map(|(cookie, span, _)| (*cookie, span[0])).collect();
    assert_eq!(from, [(1, 95), (2, 130), (3, 101), (4, 200)]);
}

#[test]
fn without_facts_of_the_recorder_a_state_still_bounds() {
    let logs = Logs::new().file(101, &[open(1), open(2)], &[]).file(200, &[open(2)], &[]);
    assert_eq!(logs.spans(), [(1, [i64::MIN, 101, 101], Some(200)), (2, [i64::MIN, OPEN, 200], None)]);
}

#[test]
fn copies_of_a_file_count_once() {
    let mut logs = Logs::new().life(100, 150).file(101, &[open(1)], &[begun(2, 120)]);
    let copy = &logs.files[0];
    let copy = LogFile { place: copy.place.clone(), table: copy.table, size: copy.size };
    logs.files.push(copy);
    assert_eq!(logs.spans(), [(1, [95, OPEN, 150], None), (2, [120, OPEN, 150], None)]);
}

#[test]
fn processes_end_with_their_state_too() {
    let mut logs = Logs::new().life(100, 105).life(200, 230);
    for (started, pids) in [(101, &[1, 2][..]), (201, &[2][..])] {
        let head = Head { node: "n".into(), cluster: "c".into(), started_ns: started * SECOND };
        let mut encoder = Encoder::new(&processes::TABLE, &head);
        let mut block = ProcessBlock::default();
        for pid in pids {
            let (id, start) = (format!("n-{pid}"), Some(50 * SECOND));
            block.append(&ProcessRow {
                proc_id: Some(&id),
                pid: Some(*pid),
                start_ts: start,
                ..Default::default()
            });
        }
        encoder.append(&mut block);
        encoder.finish();
        logs.write(started, "processes", &processes::TABLE, &encoder.take());
    }
    let mut lives = Lives::new(&logs.facts);
    let rows = read(&logs.files, &processes::TABLE, &mut lives, &mut Vec::new());
    let mut spans: Vec<(i64, i64)> =
        rows.spans.iter().flatten().map(|span| (span.from_ns / SECOND, span.to_ns)).collect();
    spans.sort_unstable();
    assert_eq!(spans, [(50, 105 * SECOND), (50, OPEN)]);
}
