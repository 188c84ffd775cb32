//! A recorder that is killed loses at most its last second, and the next one goes on.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use shark_schema::identity::Fact;
use shark_schema::tables::{processes, sockets};

use crate::net::Net;
use crate::process::{Recorder, status_with};
use crate::reading::{facts, number, packets, sidecars, totals};
use crate::witness::last_rows;

#[test]
fn killed_ten_times_under_load() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let mut certain: Vec<u64> = Vec::new();
    for round in 0..10u64 {
        let recorder = Recorder::start(&net, &ring, &["--segment-size", "24MiB", "--ring-size", "256MiB"]);
        let first = round * 1_000_000;
        // The sender notes when each thousandth packet went out.
        let sender = net.in_sender(move || {
            let start = Instant::now();
            let mut sent = Vec::new();
            while start.elapsed() < Duration::from_millis(1_700) {
                let next = first + sent.len() as u64 * 200;
                crate::net::send_numbers("10.99.0.9:4000", next, 200, 500, 0);
                sent.push((next, SystemTime::now().duration_since(UNIX_EPOCH).unwrap()));
                thread::sleep(Duration::from_millis(8));
            }
            sent
        });
        thread::sleep(Duration::from_millis(1_500));
        let killed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        recorder.kill();
        for (next, at) in sender.join().unwrap() {
            if at + Duration::from_secs(1) < killed {
                certain.extend(next..next + 200);
            }
        }
    }
    // The next start repairs what the last kill left.
    Recorder::start(&net, &ring, &["--ring-size", "256MiB"]).stop();
    let segments = ring.join("segments");
    let log = ring.join("log");
    for folder in [&segments, &log] {
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let unfinished = |name: &String| [".open", ".recovering"].iter().any(|end| name.ends_with(end));
        assert_eq!(names.filter(unfinished).collect::<Vec<_>>(), Vec::<String>::new());
    }
    let seen: HashSet<u64> = packets(&segments).iter().filter_map(number).collect();
    let missing: Vec<&u64> = certain.iter().filter(|number| !seen.contains(number)).collect();
    assert!(certain.len() > 10_000, "only {} packets were certain", certain.len());
    assert_eq!(missing, Vec::<&u64>::new());
    totals(&segments);
    let recovered =
        sidecars(&segments).iter().filter(|s| s.close_reason.as_str() == "crash_recovered").count();
    let reasons: Vec<_> = sidecars(&segments).iter().map(|s| (s.seq, s.packets, s.close_reason)).collect();
    assert_eq!(recovered, 10, "each kill leaves one open segment: {reasons:?}");
    // Every file of the log is read to its end.
    let facts = facts(&log);
    let starts = facts.iter().filter(|of| matches!(of.fact, Fact::Start(_))).map(|of| of.ts_ns);
    assert_eq!(starts.collect::<HashSet<_>>().len(), 11);
    assert_eq!(facts.iter().filter(|of| matches!(of.fact, Fact::Recovered(_))).count(), 10);
    assert!(!last_rows(&log, &processes::TABLE, "proc_id").is_empty());
    assert!(!last_rows(&log, &sockets::TABLE, "sock_id").is_empty());
    let status = status_with(1, &ring, &[]);
    assert!(status.contains("state     no recorder is running"), "{status}");
}

#[test]
fn a_signal_under_load_seals_within_two_seconds() {
    for signal in [Signal::TERM, Signal::INT] {
        let Some(net) = Net::new() else { return };
        let dir = tempfile::tempdir().unwrap();
        let ring = dir.path().join("ring");
        let recorder = Recorder::start(&net, &ring, &[]);
        let sender = net.send(0, 60_000, 800, 40_000);
        thread::sleep(Duration::from_millis(800));
        let (_, took) = recorder.stop_by(signal);
        assert!(took < Duration::from_secs(2), "{signal:?}: {took:?}");
        sender.join().unwrap();
        let counters = totals(&ring.join("segments"));
        assert!(counters.written > 1_000);
        assert_eq!(counters.kernel_received, Some(counters.offered));
        let reasons: Vec<_> = sidecars(&ring.join("segments")).iter().map(|s| s.close_reason).collect();
        assert_eq!(reasons.last().map(|reason| reason.as_str()), Some("stop"), "{signal:?}");
    }
}
