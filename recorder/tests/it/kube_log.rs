//! Objects in the log: carried over from file to file until they are deleted, also by a log that was torn, and without
//! writing a large state again with every fact.

use std::fs;
use std::path::{Path, PathBuf};

use shark_schema::identity::{Fact, Pod, Record};
use sharkrec::log::Log;
use sharkrec::ring::Ring;

use crate::kube::{log_now, pod};
use crate::reading::facts;

const PODS: usize = 2_000;
const T: i64 = 1_700_000_000_000_000_000;
/// As small as a ring can be.
const SHARE: u64 = 64 << 10;

fn of(number: usize, phase: &str) -> Fact {
    // Uids as the API makes them do not compress.
    let uid = format!("{:016x}-{number}", (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    Fact::Pod(Pod { uid, name: format!("p{number}"), phase: phase.to_owned(), ..Pod::default() })
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_large_state_is_carried_over_and_not_written_with_every_fact() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _lock) = Ring::create(&dir.path().join("ring"), "n", "").unwrap();
    let log = Log::open(&ring, SHARE, "witness").unwrap();
    let pending = |number| Record { ts_ns: T + number as i64, after_ns: None, fact: of(number, "Pending") };
    log.write_all(&(0..PODS).map(pending).collect::<Vec<_>>());
    (0..PODS).for_each(|number| log.write(of(number, "Running")));
    log.rotate().unwrap();
    let written = files(&ring.log());
    assert!((2..12).contains(&written.len()), "{} files", written.len());
    let bytes: u64 = written.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes < 2 << 20, "{bytes} bytes for {} facts", 2 * PODS);
    // Half of them go; the next file begins with the others.
    (0..PODS / 2).for_each(|number| log.write(of(number, "Running").into_deleted()));
    log.rotate().unwrap();
    log.write(of(PODS, "Pending"));
    log.rotate().unwrap();
    let alone = dir.path().join("alone");
    fs::create_dir(&alone).unwrap();
    fs::copy(files(&ring.log()).last().unwrap(), alone.join("1-1.facts.ndjson.zst")).unwrap();
    let records = facts(&alone);
    let mut names: Vec<String> = records.iter().filter_map(pod).map(|pod| pod.name.clone()).collect();
    names.sort();
    let mut expected: Vec<String> = (PODS / 2..=PODS).map(|number| format!("p{number}")).collect();
    expected.sort();
    assert_eq!(names, expected);
    assert!(records.iter().all(|record| !record.fact.deleted()));
}

#[test]
fn what_a_killed_writer_knew_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, _lock) = Ring::create(&dir.path().join("ring"), "n", "").unwrap();
    let log = Log::open(&ring, SHARE, "witness").unwrap();
    log.write_all(&[Record { ts_ns: T + 5, after_ns: None, fact: of(1, "Running") }]);
    log.write_all(&[Record { ts_ns: T + 6, after_ns: None, fact: of(2, "Running") }]);
    log.write_all(&[Record { ts_ns: T + 7, after_ns: None, fact: of(1, "Running").into_deleted() }]);
    // Killed in the middle of a fact.
    std::mem::forget(log);
    let open = files(&ring.log()).pop().unwrap();
    let mut torn = fs::read(&open).unwrap();
    torn.extend_from_slice(&[0x15, 0x00, 0x00, 0x07]);
    fs::write(&open, torn).unwrap();

    let log = Log::open(&ring, SHARE, "witness").unwrap();
    assert_eq!(log.restore_objects().unwrap(), (vec![of(2, "Running")], Some(T + 7)));
    log.write(of(3, "Pending"));
    let names: Vec<String> =
        log_now(&ring.log()).iter().filter_map(pod).map(|pod| pod.name.clone()).collect();
    // Behind what the torn file had, the new one: its state, and what came.
    assert_eq!(names, ["p1", "p2", "p1", "p2", "p3"]);
    // A file of nonsense in its place is not fatal, and nothing is known then.
    log.rotate().unwrap();
    drop(log);
    fs::write(ring.log().join("9999999999999999999-000009.facts.ndjson.zst"), b"nonsense").unwrap();
    let log = Log::open(&ring, SHARE, "witness").unwrap();
    assert_eq!(log.restore_objects().unwrap(), (Vec::new(), None));
}
