//! A snapshot holds its window, verifiably, with the recorder alive, dead, and evicting.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use shark_schema::manifest::{Manifest, NodeManifest, ObjectKind, Window};
use sharkrec::ring::Ring;
use sharkrec::snapshot::{Gathered, Pins, Target, Wanted};

use crate::net::Net;
use crate::process::{Recorder, sharkrec, sharkrec_fails, sharkrec_ok, status_with};
use crate::reading::{disk_bytes, evicted, facts, number, numbers, packets, totals};

/// The folder a `file:` URL names.
pub fn folder(url: &str) -> PathBuf {
    PathBuf::from(url.trim().strip_prefix("file://").expect("a file URL"))
}

/// Checks every hash of a snapshot and that nothing is there beside; gives the segments' folder of its one node.
pub fn verify(snapshot: &Path) -> PathBuf {
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let top = Manifest::from_bytes(&fs::read(snapshot.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(snapshot.file_name().unwrap().to_str().unwrap(), top.id);
    let [entry] = &top.nodes[..] else { panic!("{top:?}") };
    let text = fs::read(snapshot.join(&entry.manifest)).unwrap();
    assert_eq!((hex(&text), text.len() as u64), (entry.sha256.clone(), entry.size));
    let node = NodeManifest::from_bytes(&text).unwrap();
    let root = snapshot.join("nodes").join(&node.node);
    let mut bytes = 0;
    let of_node = node.objects.iter().map(|object| (&root, object));
    let snapshot_root = snapshot.to_path_buf();
    for (root, object) in of_node.chain(top.cluster_log.iter().map(|object| (&snapshot_root, object))) {
        let stored = fs::read(root.join(&object.path)).unwrap();
        assert_eq!(
            (hex(&stored), stored.len() as u64),
            (object.sha256.clone(), object.size),
            "{}",
            object.path
        );
        bytes += object.size;
    }
    let manifests = text.len() as u64 + fs::metadata(snapshot.join("manifest.json")).unwrap().len();
    assert_eq!(disk_bytes(snapshot), bytes + manifests, "an object that no manifest names");
    let segments = node.objects.iter().filter(|object| object.kind == ObjectKind::Segment).count() as u64;
    assert_eq!(entry.segments, segments);
    assert_eq!(packets(&root.join("segments")).len() as u64, node.packets);
    assert!(!facts(&root.join("log")).is_empty());
    root.join("segments")
}

#[test]
fn a_packet_of_two_seconds_ago_is_inside_alive_and_dead() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ring, to) = (dir.path().join("ring"), dir.path().join("to"));
    let (ring_text, to_text) = (ring.to_str().unwrap(), to.to_str().unwrap());
    let take = || {
        let arguments = ["snapshot", "--ring", ring_text, "--since", "1m", "--to", to_text, "--name", "test"];
        let out = sharkrec_ok(&arguments);
        assert_eq!(out.lines().count(), 1, "{out}");
        verify(&folder(&out))
    };
    let recorder = Recorder::start(&net, &ring, &[]);
    net.send(0, 100, 100, 0).join().unwrap();
    // The recorder is asked to seal: even what was sent just now is inside.
    let segments = take();
    assert_eq!(numbers(&packets(&segments)).len(), 100);
    net.send(100, 100, 100, 0).join().unwrap();
    thread::sleep(Duration::from_secs(2));
    recorder.kill();
    let before = disk_bytes(&ring);
    let segments = take();
    assert_eq!(numbers(&packets(&segments)).len(), 200);
    assert_eq!(disk_bytes(&ring), before, "a dead recorder's ring is only read");
    // Outside the window there is nothing: no snapshot, and no pins that wait for one.
    let arguments = ["snapshot", "--ring", ring_text, "--since", "2h", "--until", "1h", "--to", to_text];
    let (code, error) = sharkrec_fails(&arguments);
    assert_eq!(code, 1);
    assert!(error.contains("has no packet of") && error.contains("--allow-empty"), "{error}");
    assert_eq!(std::fs::read_dir(ring.join("pins")).unwrap().count(), 0);
    let output = sharkrec(&[&arguments[..], &["--allow-empty"]].concat());
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no packet of"));
    // A window that begins before the ring does is told of.
    let output = sharkrec(&["snapshot", "--ring", ring_text, "--since", "2h", "--to", to_text]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the ring has no packet before"));
}

#[test]
fn a_finished_snapshot_is_never_changed_and_a_torso_is_completed() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ring, to) = (dir.path().join("ring"), dir.path().join("to"));
    let (ring, to) = (ring.to_str().unwrap(), to.to_str().unwrap());
    let recorder = Recorder::start(&net, Path::new(ring), &[]);
    net.send(0, 1_000, 100, 0).join().unwrap();
    recorder.stop();
    let out = sharkrec_ok(&["snapshot", "--ring", ring, "--since", "1m", "--to", to]);
    let snapshot = folder(&out);
    let id = snapshot.file_name().unwrap().to_str().unwrap();
    let again = ["snapshot", "--ring", ring, "--since", "1m", "--to", to, "--resume", id];
    let (code, error) = sharkrec_fails(&again);
    assert_eq!(code, 1);
    assert!(error.contains("complete already"), "{error}");
    // As an interrupted upload leaves it: a segment cut short, no manifests.
    fs::remove_file(snapshot.join("manifest.json")).unwrap();
    let node = fs::read_dir(snapshot.join("nodes")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(node.join("manifest.json")).unwrap();
    let segment = fs::read_dir(node.join("segments")).unwrap().map(|e| e.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "zst")).unwrap();
    fs::remove_file(&segment).unwrap();
    fs::write(&segment, b"torso").unwrap();
    assert_eq!(sharkrec_ok(&again), out);
    assert_eq!(numbers(&packets(&verify(&snapshot))).len(), 1_000);
}

#[test]
fn eviction_takes_nothing_from_a_snapshot_and_breaks_no_budget() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (root, to) = (dir.path().join("ring"), dir.path().join("to"));
    let limit = 8 << 20;
    let recorder = Recorder::start(&net, &root, &["--ring-size", "8MiB", "--compression", "none"]);
    let mut sent = net.send(0, 3_000, 1_000, 0).join().unwrap();
    thread::sleep(Duration::from_millis(800));
    let ring = Ring::open(&root).unwrap();
    sharkrec::api::ask_seal(&ring).expect("it seals");
    let window = Window { from_ns: 0, to_ns: i64::MAX };
    let pins = Pins::new(&ring, "01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let gathered = Gathered::pin(&ring, &pins, window, true).unwrap();
    let pinned: Vec<u64> =
        packets(&ring.pins().join("01ARZ3NDEKTSV4RRFFQ69G5FAV")).iter().filter_map(number).collect();
    assert_eq!(pinned, (0..3_000).collect::<Vec<_>>());
    // While it is being copied, the ring goes round more than once.
    let sender = net.send(sent, 20_000, 1_000, 10_000);
    while !sender.is_finished() {
        let used = linked_once(&root);
        assert!(used <= limit, "{used} bytes in a ring of {limit}");
        thread::sleep(Duration::from_millis(20));
    }
    sent += sender.join().unwrap();
    assert!(evicted_numbers(&root) > 3_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let target = Target::open(to.to_str().unwrap(), "x").unwrap();
    runtime.block_on(target.put_all("nodes/n", &gathered.items)).unwrap();
    let copied: Vec<u64> = packets(&to.join("x/nodes/n/segments")).iter().filter_map(number).collect();
    assert_eq!(copied, pinned);
    pins.let_go();
    assert_eq!(fs::read_dir(ring.pins()).unwrap().count(), 0);
    net.send(sent, 100, 100, 0).join().unwrap();
    recorder.stop();
}

#[test]
fn a_snapshot_that_does_not_end_gives_way_to_the_recording() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("ring");
    let recorder = Recorder::start(&net, &root, &["--ring-size", "8MiB", "--compression", "none"]);
    let mut sent = net.send(0, 5_500, 1_000, 0).join().unwrap();
    thread::sleep(Duration::from_millis(800));
    let ring = Ring::open(&root).unwrap();
    sharkrec::api::ask_seal(&ring).expect("it seals");
    // More than half of the ring is held by somebody who is alive, and whose target hangs.
    let pins = Pins::new(&ring, "01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let window = Window { from_ns: 0, to_ns: i64::MAX };
    pins.note_wanted(&Wanted {
        window,
        to: "s3://far/away".into(),
        witness: None,
        name: None,
        reason: None,
        requester: "somebody".into(),
        allow_empty: false,
    })
    .unwrap();
    Gathered::pin(&ring, &pins, window, true).unwrap();
    let status = status_with(0, &root, &[]);
    assert!(
        status.contains("01ARZ3NDEKTSV4RRFFQ69G5FAV to s3://far/away is under way and holds 5."),
        "{status}"
    );
    sent += net.send(sent, 12_000, 1_000, 6_000).join().unwrap();
    recorder.stop();
    let counters = totals(&root.join("segments"));
    assert_eq!((counters.disk_dropped, counters.user_dropped), (0, 0), "{counters:?}");
    let seen = numbers(&packets(&root.join("segments")));
    assert!((sent - 1_000..sent).all(|number| seen.contains_key(&number)), "the newest are there");
    let held: Vec<_> = fs::read_dir(&pins.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(held.iter().any(|name| name == "given-up"), "{held:?}");
    assert!(held.iter().all(|name| !name.to_string_lossy().contains("pcapng")), "{held:?}");
}

#[test]
fn snapshots_beside_the_ring_take_half_of_its_size_at_most() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("ring");
    let recorder = Recorder::start(&net, &root, &["--ring-size", "4MiB", "--compression", "none"]);
    net.send(0, 500, 1_000, 0).join().unwrap();
    let take = ["snapshot", "--ring", root.to_str().unwrap(), "--since", "1m"];
    sharkrec_ok(&take);
    fs::write(root.join("snapshots/other"), vec![0; 2 << 20]).unwrap();
    let (code, error) = sharkrec_fails(&take);
    assert_eq!(code, 1);
    assert!(error.contains("half of the ring's 4.0 MiB: remove some"), "{error}");
    recorder.stop();
}

/// Bytes below a folder, each file once however many names it has there.
pub fn linked_once(dir: &Path) -> u64 {
    use std::collections::HashMap;
    use std::os::unix::fs::MetadataExt;
    fn walk(dir: &Path, sizes: &mut HashMap<u64, u64>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => walk(&entry.path(), sizes),
                Ok(meta) => drop(sizes.insert(meta.ino(), meta.len())),
                Err(_) => {}
            }
        }
    }
    let mut sizes = HashMap::new();
    walk(dir, &mut sizes);
    sizes.values().sum()
}

fn evicted_numbers(root: &Path) -> u64 {
    sharkrec::api::ask_seal(&Ring::open(root).unwrap()).expect("it seals");
    evicted(&root.join("log")).iter().map(|fact| fact.packets).sum()
}
