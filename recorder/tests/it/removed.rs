//! Files that somebody removes while they are recorded into: what was in them is counted as gone, and nothing else goes.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::net::Net;
use crate::process::Recorder;
use crate::reading::{evicted, numbers, packets};

#[test]
fn a_removed_segment_is_told_and_the_recording_goes_on() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let segments = ring.join("segments");
    let recorder = Recorder::start(&net, &ring, &["--segment-age", "2s"]);
    let send = |first: u64| net.send(first, 500, 100, 5_000).join().unwrap();
    let mut sent = send(0);
    thread::sleep(Duration::from_millis(2_500));
    let kept = sent;
    sent += send(sent);
    thread::sleep(Duration::from_millis(700));
    let open = opened(&segments);
    assert_eq!(open.len(), 1, "{open:?}");
    fs::remove_file(segments.join(&open[0])).unwrap();
    thread::sleep(Duration::from_millis(1_200));
    let again = sent;
    sent += send(sent);
    recorder.stop();
    let gone = evicted(&ring.join("log"));
    let told: Vec<(String, u64)> = gone.iter().map(|e| (format!("{}.open", e.segment), e.packets)).collect();
    assert_eq!(told, [(open[0].clone(), again - kept)]);
    assert!(gone[0].why.contains("removed"), "{}", gone[0].why);
    let seen: Vec<u64> = numbers(&packets(&segments)).into_keys().collect();
    assert_eq!(seen, (0..kept).chain(again..sent).collect::<Vec<_>>());
}

#[test]
fn removed_folders_come_again() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    let before = net.send(0, 500, 100, 5_000).join().unwrap();
    thread::sleep(Duration::from_millis(700));
    fs::remove_dir_all(ring.join("segments")).unwrap();
    fs::remove_dir_all(ring.join("log")).unwrap();
    thread::sleep(Duration::from_millis(1_200));
    let after = net.send(before, 500, 100, 5_000).join().unwrap();
    let (_, took) = recorder.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let seen: Vec<u64> = numbers(&packets(&ring.join("segments"))).into_keys().collect();
    assert_eq!(seen, (before..before + after).collect::<Vec<_>>());
    assert_eq!(evicted(&ring.join("log")).iter().map(|e| e.packets).sum::<u64>(), before);
}

/// Names of segments that are written to.
fn opened(segments: &Path) -> Vec<String> {
    let names =
        fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".open")).collect()
}
