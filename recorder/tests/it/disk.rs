//! A disk that fills up: recording goes on, what cannot be stored is counted, and it recovers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use shark_schema::identity::Fact;

use crate::net::Net;
use crate::process::{Recorder, sharkrec_fails, sharkrec_ok, status_with};
use crate::reading::{evicted, facts, numbers, packets, totals};
use crate::snapshot::verify;

#[test]
fn a_full_disk_evicts_then_counts_then_recovers() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(dir.path());
    let ring = disk.0.join("ring");
    // The budget allows more than the disk has, and someone else takes most of it.
    let recorder = Recorder::start(
        &net,
        &ring,
        &["--ring-size", "64MiB", "--compression", "none", "--segment-age", "1s"],
    );
    fs::write(disk.0.join("other"), vec![1; 7 << 20]).unwrap();
    let mut sent = net.send(0, 6_000, 1_000, 6_000).join().unwrap();
    // Now nothing is left at all: what the ring gives up is taken by the other at once.
    let other = disk.0.join("more");
    for _ in 0..8 {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&other).unwrap();
        while std::io::Write::write(&mut file, &[2; 4096]).is_ok_and(|n| n > 0) {}
        sent += net.send(sent, 1_500, 1_000, 6_000).join().unwrap();
    }
    let status = status_with(4, &ring, &["--format", "json"]);
    assert!(status.contains("\"disk_refuses\": true"), "{status}");
    fs::remove_file(&other).unwrap();
    fs::remove_file(disk.0.join("other")).unwrap();
    thread::sleep(Duration::from_millis(1_500));
    let before = sent;
    sent += net.send(sent, 1_000, 200, 5_000).join().unwrap();
    recorder.stop();
    let segments = ring.join("segments");
    let counters = totals(&segments);
    let seen = numbers(&packets(&segments));
    let gone: u64 = evicted(&ring.join("log")).iter().map(|e| e.packets).sum();
    assert!((before..sent).all(|number| seen.contains_key(&number)), "recovered");
    assert!(counters.disk_dropped > 0, "{counters:?}");
    let facts = facts(&ring.join("log"));
    assert!(facts.iter().any(|r| matches!(&r.fact, Fact::Disk(d) if d.writing)));
    // Evicted segments took their own counters with them; the log still has the sum.
    let Some(Fact::Stop(stop)) = facts.iter().rev().map(|r| &r.fact).find(|f| matches!(f, Fact::Stop(_)))
    else {
        panic!("no stop fact")
    };
    let sum = stop.totals;
    assert_eq!(sum.offered, sent, "{sum:?}");
    assert_eq!(sum.offered, sum.written + sum.lost());
    assert_eq!(seen.len() as u64 + gone, sum.written, "{sum:?}");
}

#[test]
fn a_snapshot_that_does_not_fit_says_so_and_can_be_completed() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--compression", "none", "--segment-size", "4MiB"]);
    let sent = net.send(0, 8_000, 1_000, 8_000).join().unwrap();
    recorder.stop();
    let disk = SmallDisk::new(dir.path());
    let other = disk.0.join("other");
    fs::write(&other, vec![1; 6 << 20]).unwrap();
    let to = disk.0.join("snapshots");
    let take = |more: &[&str]| -> Vec<String> {
        let arguments = ["snapshot", "--ring", ring.to_str().unwrap(), "--to", to.to_str().unwrap()];
        arguments.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    };
    let words = |arguments: &[String]| -> (i32, String) {
        sharkrec_fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (code, error) = words(&take(&["--since", "10m"]));
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("No space left on device"), "{error}");
    let torso = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let torso = torso.expect("what was copied so far");
    assert!(!torso.join("manifest.json").exists());
    fs::remove_file(&other).unwrap();
    let id = torso.file_name().unwrap().to_str().unwrap().to_owned();
    sharkrec_ok(&take(&["--resume", &id]).iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(numbers(&packets(&verify(&torso))).len() as u64, sent);
}

/// 12 MiB of memory that look like a disk.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(dir: &Path) -> SmallDisk {
        let mount = dir.join("disk");
        fs::create_dir(&mount).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=12m", "tmpfs"];
        assert!(Command::new("mount").args(options).arg(&mount).status().unwrap().success());
        SmallDisk(mount)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
