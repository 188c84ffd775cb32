//! What is answered of a recording that was not indexed: what is in it and whether it is complete, from
//! sidecars and names, and questions about a time, from the segments of that time. The same as the index of
//! all of it says, or what cannot be known is said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use sharkq::source::Sources;
use sharkq::survey::Survey;

use crate::bundled;
use crate::captures::{self, Packet};
use crate::desk::Desk;
use crate::programs::{FIXTURES, built, finished, printed, within};

/// 2026-01-02T03:00:00Z.
const START: Duration = Duration::from_secs(1_767_322_800);
/// The shop's run is repeated, with this pause between the beginnings.
const PERIOD: Duration = Duration::from_secs(20);
const RUNS: u32 = 8;

/// The shop's run again and again, in a ring of many segments.
pub fn ring(desk: &Desk) -> PathBuf {
    let run = captures::read(&PathBuf::from(FIXTURES).join("shop/shop.pcapng.zst"));
    let first = run.iter().map(|packet| packet.time).min().expect("packets");
    let at = |number: u32, packet: &Packet| START + PERIOD * number + (packet.time - first);
    let packets: Vec<Packet> = (0..RUNS)
        .flat_map(|number| {
            run.iter().map(move |packet| Packet { time: at(number, packet), ..packet.clone() })
        })
        .collect();
    captures::write(&desk.at("runs.pcap"), packets.iter());
    let mut replay = within(120, built("sharkrec"));
    replay.args(["record", "--ring-size", "1GiB", "--segment-size", "1MiB", "--read"]);
    finished(replay.arg(desk.at("runs.pcap")).arg("--ring").arg(desk.at("ring")));
    desk.at("ring")
}

/// Rows of a table by their ids.
fn rows(desk: &Desk, source: &Path, table: &str, id: &str, time: &[&str]) -> BTreeMap<String, Value> {
    let sql = format!("SELECT * FROM {table}");
    let rows = desk.rows_with(source, &sql, time);
    rows.into_iter().map(|row| (row[id].as_str().expect("an id").to_owned(), row)).collect()
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

#[test]
fn a_question_about_a_time_reads_its_segments_and_has_the_rows_of_the_whole() {
    let desk = Desk::new();
    let ring = ring(&desk);
    let segments = captures::segments(&ring);
    assert!(segments.len() >= 8, "{}", segments.len());
    let index = desk.at("index");
    finished(desk.sharkq().arg("index").arg(&ring).arg("-o").arg(&index));
    // Within the run that begins at 100 s; the margin reaches from 70 s to 132 s.
    let time = ["--since", "2026-01-02T03:01:40Z", "--until", "2026-01-02T03:01:42Z"];
    let (since, until) = ("2026-01-02T03:01:10", "2026-01-02T03:02:12");
    let flows = rows(&desk, &index, "flows", "flow_id", &time);
    let began = |row: &Value| flows.get(text(row, "flow_id")).is_some_and(|flow| text(flow, "ts") >= since);
    for (table, id) in [("http", "call_id"), ("dns", "call_id"), ("flows", "flow_id")] {
        let whole = rows(&desk, &index, table, id, &time);
        let part = rows(&desk, &ring, table, id, &time);
        let is_inside = |row: &&Value| began(row) && text(row, "end_ts") < until;
        let inside: Vec<&Value> = whole.values().filter(is_inside).collect();
        assert!(inside.len() > 50, "{table}: {} of {}", inside.len(), whole.len());
        for row in inside {
            assert_eq!(Some(row), part.get(text(row, id)), "{table}");
        }
        // The others are of conversations that began before.
        let others: Vec<&Value> =
            part.iter().filter(|(id, _)| !whole.contains_key(*id)).map(|of| of.1).collect();
        assert!(others.len() < 50, "{table}: {others:?}");
    }
    let ask = |more: &[&str]| {
        let output = desk.sharkq().arg("sql").arg(&ring).args(more).output().expect("it starts");
        let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        (output.status.code(), out, error)
    };
    let count = "SELECT count(*) AS n FROM http";
    let (code, _, error) = ask(&[&["--strict", "-c", count][..], &time].concat());
    assert_eq!(code, Some(0), "{error}");
    assert!(
        error.starts_with("coverage: complete, 2026-01-02 03:01:40 UTC to 2026-01-02 03:01:42 UTC\n"),
        "{error}"
    );
    let said =
        format!(" of {}; what began before 2026-01-02 03:01:10 UTC is told of from there on", segments.len());
    assert!(
        error.contains(&said) && error.contains("; what came after 2026-01-02 03:02:12 UTC is"),
        "{error}"
    );
    // All segments are told of, and those of other times are not missed.
    let sql = "SELECT count(*) AS n, CAST(sum(packets) AS BIGINT) AS packets FROM segments";
    assert_eq!(desk.rows_with(&ring, sql, &time), desk.rows(&index, sql));
    let [packets, wide] = ["30s", "10m"].map(|margin| {
        let file = desk.at("some.pcapng");
        let mut pcap = desk.sharkq();
        pcap.arg("pcap").arg(&ring).args(time).args(["--margin", margin, "http", "-w"]);
        let output = finished(pcap.arg(&file));
        (captures::read(&file).len(), String::from_utf8(output.stderr).expect("text"))
    });
    assert!(packets.0 > 100 && packets.1.contains("segments read: "), "{packets:?}");
    assert!(wide.0 >= packets.0 && !wide.1.contains("segments read: "), "{wide:?}");
    // The whole is never answered from a part, and a part is from the whole once that is there.
    let (_, all, error) = ask(&["--format", "csv", "-c", count]);
    assert_eq!(all, printed(desk.sharkq().arg("sql").arg(&index).args(["--format", "csv", "-c", count])));
    assert!(!error.contains("segments read: "), "{error}");
    assert!(!ask(&[&["-c", count][..], &time].concat()).2.contains("segments read: "));
    // What is missing is told where it is of that time, and only there.
    let gone = |path: &Path| {
        fs::remove_file(path).expect("a segment");
        fs::remove_file(format!("{}.json", path.display())).expect("its sidecar");
    };
    gone(&segments[2]);
    assert_eq!(ask(&[&["--strict", "-c", count][..], &time].concat()).0, Some(0));
    let inside = segments.iter().rposition(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        name.parse::<shark_schema::segment::Name>().expect("a name").first_ns as u128
            <= (START + Duration::from_secs(101)).as_nanos()
    });
    gone(&segments[inside.expect("one")]);
    let (code, _, error) = ask(&[&["--strict", "-c", count][..], &time].concat());
    assert_eq!(code, Some(4), "{error}");
    assert!(error.contains("is missing)") && error.contains("segments read: "), "{error}");
}

/// What `info` and `coverage` say, each as JSON.
fn said(desk: &Desk, source: &Path) -> [Value; 2] {
    [&["info", "--format", "json"][..], &["coverage", "--format", "json"]].map(|words| {
        let text = printed(desk.sharkq().args(words).arg(source));
        serde_json::from_str(&text).expect("JSON")
    })
}

#[test]
fn what_is_in_a_recording_is_known_without_an_index_and_is_what_the_index_says() {
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    for source in [desk.at("ring"), snapshot] {
        let [mut info, mut coverage] = said(&desk, &source);
        assert_eq!(printed(desk.sharkq().args(["cache", "ls"])), "", "nothing was indexed");
        assert_eq!((&info["protocols"], &info["not_ip_packets"]), (&Value::Null, &Value::Null));
        let unread = info["segments_not_read"].as_u64().expect("a number");
        assert!(unread > 0 && coverage[0]["segments_not_read"] == unread, "{coverage}");
        let text = printed(desk.sharkq().arg("info").arg(&source));
        assert!(text.contains("Protocols:     not known yet") && text.contains("Not read:      "), "{text}");
        let text = printed(desk.sharkq().arg("coverage").arg(&source));
        assert!(text.starts_with("coverage: complete, ") && text.contains("not read (--strict"), "{text}");
        let text = printed(desk.sharkq().args(["coverage", "--strict"]).arg(&source));
        assert!(text.starts_with("coverage: complete, ") && !text.contains("not read"), "{text}");
        printed(desk.sharkq().args(["info", "--protocols"]).arg(&source));
        let [indexed, whole] = said(&desk, &source);
        assert!(indexed["protocols"].as_array().is_some_and(|rows| rows.len() > 2), "{indexed}");
        for name in [
            "protocols",
            "rows",
            "not_ip_packets",
            "undecodable_packets",
            "fragments",
            "incomplete_datagrams",
        ] {
            info[name] = indexed[name].clone();
        }
        info["segments_not_read"] = 0.into();
        coverage[0]["segments_not_read"] = 0.into();
        assert_eq!((info, coverage), (indexed, whole));
        printed(desk.sharkq().args(["cache", "clear"]));
    }
}

/// A recorder seals its segment while somebody reads the ring.
#[test]
fn a_segment_that_was_sealed_meanwhile_is_read_by_its_new_name() {
    let desk = Desk::new();
    bundled::snapshot(&desk);
    let sealed = captures::segments(&desk.at("ring")).pop().expect("a segment");
    let packets = captures::read(&sealed).len() as u64;
    let sidecar = format!("{}.json", sealed.display());
    let [open, aside] = ["open", "aside"].map(|ending| format!("{}.{ending}", sealed.display()));
    fs::rename(&sealed, &open).expect("it is there");
    fs::rename(&sidecar, &aside).expect("it is there");
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    let sources = Sources::open(&[desk.at("ring").display().to_string()], runtime.handle()).expect("a ring");
    fs::rename(&open, &sealed).expect("it is there");
    fs::rename(&aside, &sidecar).expect("it is there");
    let stats = Survey::of(&sources, 1).expect("it is read").stats();
    let last = stats.last().expect("a file");
    assert_eq!((last.packets, last.damage.as_deref()), (packets, None));
}

/// What `coverage` says of a damaged recording, and its exit code with and without --strict.
fn judged(desk: &Desk, source: &Path) -> [(Option<i32>, String); 2] {
    [&["coverage"][..], &["coverage", "--strict"]].map(|words| {
        let output = desk.sharkq().args(words).arg(source).output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    })
}

#[test]
fn damage_is_a_blind_stretch_without_an_index_as_well() {
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    for (source, of) in [(desk.at("ring"), "ring"), (snapshot, "snapshot")] {
        let segment = find(&source, ".pcapng.zst");
        let sidecar = PathBuf::from(format!("{}.json", segment.display()));
        let (bytes, told) =
            (fs::read(&segment).expect("it is there"), fs::read(&sidecar).expect("it is there"));
        let restore = || {
            fs::remove_file(&segment).expect("it is there");
            fs::write(&segment, &bytes).expect("it is written");
            let _ = fs::remove_file(&sidecar);
            fs::write(&sidecar, &told).expect("it is written");
        };
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            restore();
            let mut bytes = bytes.clone();
            change(&mut bytes);
            fs::write(&segment, bytes).expect("it is written");
            judged(&desk, &source)
        };
        let incomplete = |what: &str, said: &[(Option<i32>, String); 2]| {
            for (code, text) in said {
                assert!(
                    text.starts_with("coverage: INCOMPLETE, ") && text.contains("gap "),
                    "{of}, {what}: {text}"
                );
                assert!(!text.contains("not read"), "{of}, {what}: {text}");
                assert!(matches!(code, Some(0 | 1 | 4)), "{of}, {what}: {code:?}");
            }
            assert_ne!(said[1].0, Some(0), "{of}, {what}");
        };
        incomplete("cut", &changed(&|bytes| bytes.truncate(bytes.len() / 2)));
        incomplete("longer", &changed(&|bytes| bytes.extend([0; 100])));
        incomplete("its head is gone", &changed(&|bytes| bytes[..64].fill(0)));
        // A byte in its middle is found by who reads it; nobody else calls it read.
        let middle = changed(&|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        assert!(
            middle[0].1.starts_with("coverage: complete, ") && middle[0].1.contains("not read (--strict"),
            "{}",
            middle[0].1
        );
        let (code, text) = &middle[1];
        assert!(
            *code == Some(1) && text.starts_with("coverage: INCOMPLETE, ") && text.contains("gap "),
            "{text}"
        );
        restore();
        fs::remove_file(&sidecar).expect("it is there");
        incomplete("no sidecar", &judged(&desk, &source));
        restore();
        assert!(
            judged(&desk, &source)
                .iter()
                .all(|(code, text)| *code == Some(0) && text.starts_with("coverage: complete"))
        );
        // A sidecar that counts fewer packets: the chain is what a ring has, its manifest what a snapshot
        // has.
        if of == "snapshot" {
            let mut sidecar_of: Value = serde_json::from_slice(&told).expect("JSON");
            sidecar_of["losses"] = Value::Array(vec![]);
            sidecar_of["node"] = "another".into();
            fs::remove_file(&sidecar).expect("it is there");
            fs::write(&sidecar, serde_json::to_vec_pretty(&sidecar_of).expect("JSON"))
                .expect("it is written");
            incomplete("another sidecar", &judged(&desk, &source));
        }
    }
}

/// An index that is being made is found by its lock, whoever makes it; one whose process was killed is
/// counted, and the next question clears it away and is answered.
#[test]
fn interrupted_indexes_are_counted_and_cleared() {
    let desk = Desk::new();
    let ring = ring(&desk);
    let sql = ["-q", "--format", "csv", "-c", "SELECT count(*) AS n FROM flows"];
    let mut killed = desk.sharkq();
    killed.arg("sql").arg(&ring).args(sql).stdout(Stdio::null());
    let mut killed = killed.spawn().expect("it starts");
    let unfinished = || {
        let folder = fs::read_dir(desk.at("cache")).into_iter().flatten().flatten().map(|entry| entry.path());
        folder
            .filter(|path| path.extension().is_some_and(|ending| ending == "part"))
            .find(|path| path.join("tables").exists())
    };
    let begun = Instant::now();
    let half = loop {
        if let Some(half) = unfinished() {
            break half;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no index is begun");
        std::thread::sleep(Duration::from_millis(5));
    };
    let list = || {
        let output = finished(desk.sharkq().args(["cache", "ls"]));
        String::from_utf8(output.stderr).expect("text")
    };
    assert_eq!(list(), "", "it is being made");
    // The number in its name may be that of any process.
    let process = half.to_string_lossy().split('.').rev().nth(1).expect("a number").to_owned();
    finished(within(5, "kill").args(["-9", &process]));
    killed.wait().expect("it ends");
    let renamed = half.with_file_name(".0123.1.part");
    fs::rename(&half, &renamed).expect("it is there");
    assert!(
        list().ends_with(&format!("1 indexes, 1 of them interrupted, {} bytes\n", bytes_below(&renamed))),
        "{}",
        list()
    );
    // Of a process that cannot be seen from here.
    let elsewhere = desk.at("cache/.4567.4194304.part");
    fs::create_dir(&elsewhere).expect("a folder");
    let lock = fs::File::create(elsewhere.join("at-work")).expect("a file");
    lock.lock().expect("nobody else has it");
    let flows = printed(desk.sharkq().arg("sql").arg(&ring).args(sql));
    assert!(flows.lines().nth(1).and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 1_000), "{flows}");
    assert!(!renamed.exists() && elsewhere.exists());
    assert!(list().contains("1 indexes, 0 of them interrupted, "), "{}", list());
    drop(lock);
    assert!(list().contains("2 indexes, 1 of them interrupted, "), "{}", list());
    printed(desk.sharkq().args(["cache", "clear"]));
    assert!(!elsewhere.exists() && list().is_empty());
}

fn bytes_below(folder: &Path) -> u64 {
    let sizes = fs::read_dir(folder).expect("a folder").flatten().map(|entry| match entry.path().is_dir() {
        true => bytes_below(&entry.path()),
        false => entry.metadata().expect("a file").len(),
    });
    sizes.sum()
}

/// The first file below a folder whose name ends so.
fn find(folder: &Path, ending: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false
                    if path.to_string_lossy().ends_with(ending)
                        && !path.to_string_lossy().contains(".facts.") =>
                {
                    return path;
                }
                false => {}
            }
        }
    }
    panic!("nothing below {} ends in {ending}", folder.display());
}
