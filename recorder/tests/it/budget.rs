//! The ring never outgrows its budget, and says what it gave up.

use std::thread;
use std::time::Duration;

use crate::net::Net;
use crate::process::Recorder;
use crate::reading::{disk_bytes, evicted, names, number, packets, totals};

#[test]
fn the_oldest_segments_go_and_leave_a_fact() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let limit = 4 << 20;
    let recorder = Recorder::start(&net, &ring, &["--ring-size", "4MiB", "--compression", "none"]);
    let sender = net.send(0, 20_000, 1_000, 8_000);
    let mut most = 0;
    while !sender.is_finished() {
        most = most.max(disk_bytes(&ring));
        thread::sleep(Duration::from_millis(20));
    }
    let sent = sender.join().unwrap();
    recorder.stop();
    most = most.max(disk_bytes(&ring));
    assert!(most <= limit, "{most} bytes in a ring of {limit}");
    let segments = ring.join("segments");
    let kept: Vec<u64> = packets(&segments).iter().filter_map(number).collect();
    let gone = evicted(&ring.join("log"));
    assert!(gone.len() > 5);
    // What is kept is the end of what was sent, without a hole.
    assert_eq!(kept, (sent - kept.len() as u64..sent).collect::<Vec<_>>());
    assert_eq!(gone.iter().map(|e| e.packets).sum::<u64>() + kept.len() as u64, sent);
    let sequence: Vec<u64> =
        gone.iter().map(|e| e.seq).chain(names(&segments).iter().map(|n| n.seq)).collect();
    assert_eq!(sequence, (1..=sequence.len() as u64).collect::<Vec<_>>());
    assert_eq!(totals(&segments).lost(), 0);
}
