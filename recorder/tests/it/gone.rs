//! Interfaces that come and go by the hundred: what they counted stays, and nothing else of them does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use shark_schema::identity::{Fact, read_header, read_line};
use shark_schema::segment::{Block, Blocks, Counters, Sidecar};
use sharkrec::api::Status;

use crate::net::{Net, run, send_numbers};
use crate::process::{Recorder, sharkrec_ok, status_with};
use crate::reading::{bytes, facts, names, number, numbers, packets, packets_of, sidecars, totals};

/// Interfaces that are there at a time, and packets of each.
const AT_A_TIME: u64 = 50;
const EACH: u64 = 20;
/// Those of the interface that stays have higher numbers.
const STAYS: u64 = 1_000_000;

#[test]
fn three_hundred_interfaces_are_forgotten_and_their_counters_are_not() {
    let Some(net) = Net::new() else { return };
    come_and_go(&net, 6, |ring, more| Recorder::start_bare(&net, ring, more));
}

#[test]
fn two_workers_forget_an_interface_when_both_have_told_of_it() {
    let Some(net) = Net::new() else { return };
    come_and_go(&net, 2, |ring, more| {
        Recorder::start_bare(&net, ring, &[more, &["--workers", "2"]].concat())
    });
}

#[test]
fn sockets_of_interfaces_that_are_gone_are_closed_and_their_counters_stay() {
    let Some(net) = Net::new() else { return };
    come_and_go(&net, 2, |ring, more| {
        Recorder::start_without_bpf(&net, ring, &[more, &["--capture-buffer", "16MiB"]].concat())
    });
}

fn come_and_go(net: &Net, rounds: u64, start: impl FnOnce(&Path, &[&str]) -> Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = start(&ring, &["--iface", "v1", "--iface", "pod*", "--segment-age", "2s"]);
    for round in 0..rounds {
        let name = |place: u64| name_of((round * AT_A_TIME + place) * EACH, rounds);
        if round + 1 == rounds {
            only_one_is_left(&ring);
        }
        make(net, dir.path(), name);
        until(&ring, |status| {
            let is_known = |name: String| status.interfaces.iter().any(|of| of.name == name);
            (0..AT_A_TIME).all(|place| is_known(name(place)))
        });
        // The filter lets them in a moment later.
        thread::sleep(Duration::from_millis(100));
        net.in_sender(move || {
            for place in 0..AT_A_TIME {
                let first = (round * AT_A_TIME + place) * EACH;
                assert_eq!(send_numbers(&format!("10.97.{place}.9:4000"), first, EACH, 100, 0), EACH);
            }
        })
        .join()
        .unwrap();
        net.send(STAYS + round, 1, 100, 0).join().unwrap();
        let gone: Vec<String> = (0..AT_A_TIME).map(|place| format!("link del {}", name(place))).collect();
        batch(&["-n", &net.receiver], dir.path(), &gone);
        let offered = (round + 1) * (AT_A_TIME * EACH + 1);
        until(&ring, |status| status.totals.offered == offered);
    }
    only_one_is_left(&ring);
    let all = rounds * AT_A_TIME * EACH;
    let status = status(&ring);
    assert_eq!(status.interfaces[0].name, "v1");
    assert_eq!((status.gone.offered, status.gone.written + status.gone.lost()), (all, all));
    assert_eq!(status.totals.offered, all + rounds);
    let text = status_with(0, &ring, &[]);
    let row: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["(those", "gone)", &all.to_string()], "{text}");

    let to = dir.path().join("to");
    let (ring_text, to) = (ring.to_str().unwrap(), to.to_str().unwrap());
    sharkrec_ok(&["snapshot", "--ring", ring_text, "--since", "10m", "--to", to]);
    net.send(STAYS + rounds, 1, 100, 0).join().unwrap();
    recorder.stop();
    let segments = ring.join("segments");
    let counters = totals(&segments);
    assert_eq!(counters.offered, all + rounds + 1);
    let seen = numbers(&packets(&segments));
    assert!(seen.values().all(|times| *times == 1));
    assert_eq!(seen.len() as u64 + counters.lost(), counters.offered);
    each_packet_is_of_its_interface(&segments, rounds);
    // Either worker may have had the last packet.
    let last = sidecars(&segments).into_iter().max_by_key(|of| of.max_ns).unwrap();
    assert!(last.packets == 1 && names_in(&last) == ["v1"], "{:?}", last.interfaces);
    nothing_is_missing_in_sidecars_and_log(&ring, rounds);
    assert_eq!(known_in_the_newest_file(&ring.join("log")), ["v1"]);
}

/// Veth pairs, each with an address that nobody has behind it.
fn make(net: &Net, dir: &Path, name: impl Fn(u64) -> String) {
    let (a, b) = (&net.sender, &net.receiver);
    let lines = |each: &dyn Fn(u64, String) -> String| -> Vec<String> {
        (0..AT_A_TIME).map(|place| each(place, name(place))).collect()
    };
    let add = |_, name| format!("link add {name}x netns {a} type veth peer name {name} netns {b}");
    batch(&[], dir, &lines(&add));
    let up = |_, name: String| format!("link set {name} up");
    batch(&["-n", b], dir, &lines(&up));
    let ready = |place, name: String| {
        let nobody = format!("neigh add 10.97.{place}.9 lladdr 02:00:00:00:00:97 dev {name}x");
        format!("addr add 10.97.{place}.1/24 dev {name}x\nlink set {name}x up\n{nobody}")
    };
    batch(&["-n", a], dir, &lines(&ready));
}

fn batch(before: &[&str], dir: &Path, lines: &[String]) {
    let file = dir.join("batch");
    std::fs::write(&file, lines.join("\n")).unwrap();
    run("ip", &[before, &["-batch", file.to_str().unwrap()]].concat());
}

fn status(ring: &Path) -> Status {
    serde_json::from_str(&status_with(0, ring, &["--format", "json"])).unwrap()
}

fn until(ring: &Path, is_so: impl Fn(&Status) -> bool) {
    let end = Instant::now() + Duration::from_secs(25);
    while !is_so(&status(ring)) {
        assert!(Instant::now() < end, "{:#?}", status(ring));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Counters go into the log every ten seconds, and interfaces that are gone are forgotten then.
fn only_one_is_left(ring: &Path) {
    until(ring, |status| {
        // Nor is the socket that they share one of them.
        let names = status.interfaces.iter().map(|of| of.name.as_str());
        names.filter(|name| *name != "*").eq(["v1"])
    });
}

/// The name of the interface that a number is sent to. The interfaces of the last round have the names of
/// the first.
fn name_of(number: u64, rounds: u64) -> String {
    let (round, place) = (number / EACH / AT_A_TIME, number / EACH % AT_A_TIME);
    match number {
        STAYS.. => "v1".to_owned(),
        _ => format!("pod{}", place + AT_A_TIME * if round + 1 < rounds { round } else { 0 }),
    }
}

fn names_in(sidecar: &Sidecar) -> Vec<&str> {
    sidecar.interfaces.iter().map(|of| of.name.as_str()).collect()
}

/// Sidecars and interface blocks agree, and packets and counters are under the names that they belong to.
fn each_packet_is_of_its_interface(segments: &Path, rounds: u64) {
    for (name, sidecar) in names(segments).into_iter().zip(sidecars(segments)) {
        let raw = bytes(segments, name);
        let mut blocks = Blocks::new(&raw);
        let described =
            blocks.by_ref().filter(|item| matches!(item.as_ref().unwrap().block, Block::Interface(_)));
        assert_eq!(described.count(), sidecar.interfaces.len(), "{name}");
        assert!((0..).zip(&sidecar.interfaces).all(|(place, of)| of.id == place), "{name}");
        let mut written: BTreeMap<u32, u64> = BTreeMap::new();
        for packet in packets_of(&raw) {
            *written.entry(packet.interface).or_default() += 1;
            let of = &sidecar.interfaces[packet.interface as usize];
            assert_eq!(
                number(&packet).map(|number| name_of(number, rounds)).as_ref(),
                Some(&of.name),
                "{name}"
            );
        }
        let mut told: BTreeMap<u32, u64> = BTreeMap::new();
        for bucket in sidecar.buckets.iter().filter(|bucket| bucket.counters.written > 0) {
            *told.entry(bucket.interface).or_default() += bucket.counters.written;
        }
        assert_eq!(written, told, "{name}");
    }
}

/// Both have each interface's packets, to the last one.
fn nothing_is_missing_in_sidecars_and_log(ring: &Path, rounds: u64) {
    let mut of: [BTreeMap<String, Counters>; 2] = Default::default();
    for sidecar in sidecars(&ring.join("segments")) {
        for bucket in &sidecar.buckets {
            let Some(interface) = sidecar.interfaces.get(bucket.interface as usize) else { continue };
            *of[0].entry(interface.name.clone()).or_default() += &bucket.counters;
        }
    }
    for record in facts(&ring.join("log")) {
        if let Fact::Counters(counters) = record.fact {
            *of[1].entry(counters.interface).or_default() += &counters.counters;
        }
    }
    for (counted, what) in of.iter().zip(["sidecars", "log"]) {
        for pod in 0..(rounds - 1) * AT_A_TIME {
            let times = if pod < AT_A_TIME { 2 } else { 1 };
            let offered = counted.get(&format!("pod{pod}")).map(|of| of.offered);
            assert_eq!(offered, Some(times * EACH), "{what} of pod{pod}");
        }
    }
}

/// Interfaces of which the newest file of the log tells.
fn known_in_the_newest_file(log: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let newest: PathBuf =
        entries.filter(|path| path.to_string_lossy().ends_with(".facts.ndjson.zst")).max().unwrap();
    let text = String::from_utf8(zstd::decode_all(&std::fs::read(newest).unwrap()[..]).unwrap()).unwrap();
    let mut lines = text.lines();
    read_header(lines.next().unwrap()).unwrap();
    let known = lines.filter_map(|line| match read_line(1, line).unwrap()?.fact {
        Fact::Interface(of) => Some(of.name),
        _ => None,
    });
    known.collect()
}
