//! A recorder that is killed loses at most its last second, and the next one goes on.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::net::Net;
use crate::process::{Recorder, sharkrec_ok};
use crate::reading::{number, packets, sidecars, totals};

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
    let open = fs::read_dir(&segments)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("open"));
    assert_eq!(open.count(), 0);
    let seen: std::collections::HashSet<u64> = packets(&segments).iter().filter_map(number).collect();
    let missing: Vec<&u64> = certain.iter().filter(|number| !seen.contains(number)).collect();
    assert!(certain.len() > 10_000, "only {} packets were certain", certain.len());
    assert_eq!(missing, Vec::<&u64>::new());
    totals(&segments);
    let recovered =
        sidecars(&segments).iter().filter(|s| s.close_reason.as_str() == "crash_recovered").count();
    let reasons: Vec<_> = sidecars(&segments).iter().map(|s| (s.seq, s.packets, s.close_reason)).collect();
    assert_eq!(recovered, 10, "each kill leaves one open segment: {reasons:?}");
    sharkrec_ok(&["status", "--ring", ring.to_str().unwrap()]);
}

#[test]
fn sigterm_under_load_seals_within_two_seconds() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    let sender = net.send(0, 60_000, 800, 40_000);
    thread::sleep(Duration::from_millis(800));
    let (_, took) = recorder.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    sender.join().unwrap();
    let counters = totals(&ring.join("segments"));
    assert!(counters.written > 1_000);
    assert_eq!(counters.kernel_received, Some(counters.offered));
}
