//! What a recorder finds at its start: damaged files, strange ones, a disk without room, segments of a clock that was wrong. It
//! records, takes no more than it must, and says what it did.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use shark_schema::identity::Fact;

use crate::net::Net;
use crate::process::{Recorder, sharkrec_fails, sharkrec_ok, status_with};
use crate::reading::{evicted, facts, names, numbers, packets, sidecars, totals};

/// A ring with some segments, of which the numbers `0..sent` are in order.
fn recorded(net: &Net, ring: &Path, more: &[&str]) -> u64 {
    let recorder = Recorder::start(net, ring, &[&["--compression", "none"], more].concat());
    let sent = net.send(0, 4_000, 1_000, 8_000).join().unwrap();
    recorder.stop();
    sent
}

#[test]
fn a_segment_that_cannot_be_read_is_put_aside_and_told() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let sent = recorded(&net, &ring, &["--segment-size", "1MiB"]);
    let segments = ring.join("segments");
    let zeroed = names(&segments)[1];
    let size = fs::metadata(segments.join(zeroed.to_string())).unwrap().len();
    fs::write(segments.join(zeroed.to_string()), vec![0; size as usize]).unwrap();
    fs::remove_file(segments.join(zeroed.sidecar())).unwrap();
    // Another one whose segment is gone.
    let gone = names(&segments)[2];
    fs::remove_file(segments.join(gone.to_string())).unwrap();
    Recorder::start(&net, &ring, &["--compression", "none"]).stop();
    let aside = segments.join(format!("{zeroed}.damaged"));
    assert_eq!(fs::metadata(&aside).unwrap().len(), size);
    assert!(!segments.join(gone.sidecar()).exists());
    let facts = facts(&ring.join("log"));
    let is_told = |fact: &Fact| match fact {
        Fact::Recovered(of) => of.segment == zeroed.to_string() && of.aside.is_some(),
        _ => false,
    };
    assert!(facts.iter().any(|record| is_told(&record.fact)), "{facts:?}");
    let orphan = evicted(&ring.join("log"));
    assert_eq!(orphan.iter().map(|of| of.segment.clone()).collect::<Vec<_>>(), [gone.to_string()]);
    assert!((numbers(&packets(&segments)).len() as u64) < sent);
    // It is the first that goes when the ring needs room.
    let recorder = Recorder::start(&net, &ring, &["--compression", "none", "--ring-size", "3MiB"]);
    net.send(sent, 1_000, 1_000, 4_000).join().unwrap();
    recorder.stop();
    assert!(!aside.exists());
    let first = evicted(&ring.join("log"))[1].clone();
    assert_eq!((first.segment, first.packets), (zeroed.to_string(), 0));
}

#[test]
fn what_is_not_ours_is_left_alone_and_leads_nowhere() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let sent = recorded(&net, &ring, &[]);
    let (segments, log) = (ring.join("segments"), ring.join("log"));
    let precious = dir.path().join("precious");
    fs::write(&precious, "not a segment").unwrap();
    let strange = |name: &str| [segments.join(name), log.join(name)];
    let mut there: Vec<PathBuf> = Vec::new();
    for folder in strange("00-00000009-1700000000000000000.pcapng") {
        fs::create_dir(&folder).unwrap();
        there.push(folder);
    }
    symlink(&precious, segments.join("00-00000010-1700000000000000000.pcapng.open")).unwrap();
    there.push(segments.join("00-00000010-1700000000000000000.pcapng.open"));
    for pipe in
        [segments.join("00-00000011-1.pcapng.zst"), log.join("1700000000000000000-9.facts.ndjson.zst")]
    {
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        there.push(pipe);
    }
    fs::write(segments.join("mine.tmp"), "somebody's").unwrap();
    there.push(segments.join("mine.tmp"));
    let recorder = Recorder::start(&net, &ring, &[]);
    let sent = sent + net.send(sent, 100, 100, 0).join().unwrap();
    recorder.stop();
    assert!(there.iter().all(|path| fs::symlink_metadata(path).is_ok()), "{there:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "not a segment");
    let regular = dir.path().join("regular");
    fs::create_dir(&regular).unwrap();
    for name in
        names(&segments).iter().map(ToString::to_string).filter(|name| !there.contains(&segments.join(name)))
    {
        fs::copy(segments.join(&name), regular.join(&name)).unwrap();
    }
    assert_eq!(numbers(&packets(&regular)).len() as u64, sent);
    // A link in the place of the lock, or of the ring's description, truncates nothing.
    for name in ["lock", "ring.json"] {
        let other = dir.path().join(format!("of {name}"));
        fs::create_dir(&other).unwrap();
        symlink(&precious, other.join(name)).unwrap();
        let arguments = ["record", "--ring", other.to_str().unwrap(), "--iface", "lo"];
        if name == "lock" {
            assert!(sharkrec_fails(&arguments).1.contains("is no regular file"));
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "not a segment");
    }
}

#[test]
fn a_ring_of_somebody_else_or_of_a_later_version_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let Some(net) = Net::new() else { return };
    recorded(&net, &ring, &[]);
    let refused = |ring: &Path| {
        let (code, error) = sharkrec_fails(&["record", "--ring", ring.to_str().unwrap(), "--iface", "lo"]);
        assert_eq!(code, 1);
        error
    };
    let before = fs::read(ring.join("ring.json")).unwrap();
    let later = String::from_utf8(before.clone()).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(ring.join("ring.json"), &later).unwrap();
    assert!(refused(&ring).contains("format 2 is newer than this program"));
    assert_eq!(fs::read_to_string(ring.join("ring.json")).unwrap(), later);
    fs::write(ring.join("ring.json"), before).unwrap();
    std::os::unix::fs::chown(&ring, Some(65_534), None).unwrap();
    assert!(refused(&ring).contains("belongs to user 65534"));
}

#[test]
fn the_control_socket_is_for_its_owner_whatever_the_mask() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let command = ["sh", "-c", "umask 0; exec \"$@\"", "sh", crate::process::PROGRAM];
    let recorder = Recorder::start_as(&net, &ring, &command, &["--iface", "v1"]);
    let mode = fs::metadata(ring.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    recorder.stop();
    for folder in ["segments", "log"] {
        for entry in fs::read_dir(ring.join(folder)).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{:?}", entry.path());
        }
    }
}

#[test]
fn numbers_and_not_clocks_say_what_is_the_oldest() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let sent = recorded(&net, &ring, &["--segment-size", "1MiB"]);
    // The clock was a year ahead when these were sealed.
    let year_ns = 365 * 86_400 * 1_000_000_000i64;
    for mut sidecar in sidecars(&ring.join("segments")) {
        sidecar.sealed_at_ns += year_ns;
        let path = ring.join("segments").join(format!("{}.json", sidecar.segment));
        fs::write(path, sidecar.to_bytes()).unwrap();
    }
    let options = ["--compression", "none", "--ring-size", "5MiB", "--segment-size", "1MiB"];
    let recorder = Recorder::start(&net, &ring, &options);
    let more = net.send(sent, 4_000, 1_000, 8_000).join().unwrap();
    recorder.stop();
    let gone: Vec<u64> = evicted(&ring.join("log")).iter().map(|of| of.seq).collect();
    assert_eq!(gone, (1..=gone.len() as u64).collect::<Vec<_>>());
    let seen = numbers(&packets(&ring.join("segments")));
    let kept = seen.len() as u64;
    assert!(
        (sent + more - kept..sent + more).all(|number| seen.contains_key(&number)),
        "the newest are kept"
    );
}

#[test]
fn a_start_makes_room_on_a_full_disk() {
    let Some(net) = Net::new() else { return };
    for (what, options) in [("bytes", "size=12m"), ("files", "size=64m,nr_inodes=90")] {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("disk");
        fs::create_dir(&mount).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&mount).status();
        assert!(mounted.unwrap().success());
        let disk = Mounted(mount);
        let ring = disk.0.join("ring");
        let sent = recorded(&net, &ring, &["--segment-size", "256KiB"]);
        let before = names(&ring.join("segments")).len();
        match what {
            "bytes" => drop(fs::write(disk.0.join("other"), vec![1; 64 << 20])),
            _ => (0..1_000).for_each(|number| drop(fs::write(disk.0.join(format!("f{number}")), ""))),
        }
        let options = ["--compression", "none", "--segment-size", "256KiB"];
        let recorder = Recorder::start(&net, &ring, &options);
        let more = net.send(sent, 1_000, 1_000, 2_000).join().unwrap();
        thread::sleep(Duration::from_millis(1_200));
        status_with(0, &ring, &[]);
        recorder.stop();
        let seen = numbers(&packets(&ring.join("segments")));
        assert!(
            (sent..sent + more).all(|number| seen.contains_key(&number)),
            "{what}: all new ones are there"
        );
        let gone = evicted(&ring.join("log"));
        assert!(!gone.is_empty() && gone.len() < before, "{what}: {} of {before} went", gone.len());
        assert_eq!(totals(&ring.join("segments")).disk_dropped, 0, "{what}");
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_tagged_packet_of_an_unknown_vlan_is_recorded_and_not_lost() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    for number in 0..20u8 {
        // IEEE 802.1Q: tag 0x8100, VLAN 7, IPv4.
        let mut frame = vec![2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 8, 0];
        frame.extend([0x45, 0, 0, 20, 0, number, 0, 0, 64, 17, 0, 0, 10, 99, 0, 1, 10, 99, 0, 9]);
        net.send_frame(frame);
    }
    thread::sleep(Duration::from_millis(300));
    recorder.stop();
    let counters = totals(&ring.join("segments"));
    assert_eq!((counters.written, counters.lost(), counters.nic_dropped), (20, 0, Some(0)), "{counters:?}");
}

#[test]
fn a_replay_that_waits_is_compressed_as_well_as_a_live_recording() {
    let dir = tempfile::tempdir().unwrap();
    let Some(net) = Net::new() else { return };
    let live = dir.path().join("live");
    let recorder = Recorder::start(&net, &live, &[]);
    net.send(0, 40_000, 1_000, 0).join().unwrap();
    recorder.stop();
    let file = dir.path().join("all.pcapng");
    let arguments = ["pcap", "--ring", live.to_str().unwrap(), "-w", file.to_str().unwrap()];
    sharkrec_ok(&arguments);
    let replayed = dir.path().join("replayed");
    let arguments =
        ["record", "--ring", replayed.to_str().unwrap(), "--read", file.to_str().unwrap(), "--queue", "2MiB"];
    sharkrec_ok(&arguments);
    let sidecars = sidecars(&replayed.join("segments"));
    assert!(sidecars.iter().all(|sidecar| sidecar.close_reason.as_str() != "pressure"));
    let ratio = |of: &shark_schema::segment::Sidecar| of.bytes_stored as f64 / of.bytes_raw as f64;
    let worst = sidecars.iter().map(ratio).fold(0.0, f64::max);
    assert!(worst < 0.2, "packets of the same content: {worst}");
}
