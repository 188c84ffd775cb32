//! Logs that somebody made to break their reader: small files that unpack to gigabytes, clusters of a
//! hundred thousand pods, addresses with thousands of owners, policies whose rows multiply. Each command
//! ends in seconds and in a gigabyte, and what was not read is said.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use shark_schema::identity::arrows::{Encoder, Head};
use shark_schema::identity::{Fact, NetworkPolicy, Progress, Record, to_line};
use shark_schema::table::Block;
use shark_schema::tables::processes::{self, ProcessBlock, ProcessRow};

use crate::bundled;
use crate::desk::Desk;
use crate::identity_facts as facts;

const MEMORY: usize = 1 << 30;
/// In a build with debug assertions, on a machine that others use as well.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `info`, `verify` and a statement say of a source, each in bounded time and memory.
fn asked(desk: &Desk, source: &Path, sql: &str) -> Vec<(Option<i32>, String)> {
    let commands: [&[&str]; 3] = [&["info"], &["verify"], &["sql", "--strict", "-c", sql]];
    let ask = |words: &&[&str]| {
        let begun = Instant::now();
        let mut command = desk.sharkq_of(MEMORY);
        let output = command.arg(words[0]).arg(source).args(&words[1..]).output().expect("it starts");
        let took = begun.elapsed();
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        println!("{} {}: {took:?}, {:?}", words[0], source.display(), output.status.code());
        assert!(took < PATIENCE, "{words:?} took {took:?}: {said}");
        let is_broken =
            output.status.code().is_none() || said.contains("panicked") || said.contains("memory alloc");
        assert!(!is_broken, "{words:?} {}: {said}", output.status);
        (output.status.code(), said)
    };
    commands.iter().map(ask).collect()
}

/// A zstd file of a beginning and of a part that is repeated until it unpacks to two gigabytes.
fn bomb(beginning: &[u8], part: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.write_all(beginning).expect("memory takes it");
    let many = part.repeat((1 << 20) / part.len() + 1);
    for _ in 0..(2_u64 << 30) / many.len() as u64 {
        encoder.write_all(&many).expect("memory takes it");
    }
    encoder.finish().expect("memory takes it")
}

fn header(writer: &str, node: &str) -> Vec<u8> {
    let head = json!({"log": "sharkrec", "format": 1, "node": node, "cluster": "", "writer": writer, "started_ns": 1});
    to_line(&head)
}

/// A policy whose specification is as large in memory as its line allows.
fn heavy(number: usize) -> Vec<u8> {
    let spec = json!({"ingress": vec![json!({"a": number}); 20_000]});
    let of = NetworkPolicy { uid: "u".into(), spec, ..NetworkPolicy::default() };
    to_line(&facts::fact(1, Fact::NetworkPolicy(of)))
}

/// A ring and a snapshot of the same replay, with the name of their node.
fn sources(desk: &Desk) -> (PathBuf, PathBuf, String) {
    let snapshot = bundled::snapshot(desk);
    let folder =
        fs::read_dir(snapshot.join("nodes")).expect("a snapshot").next().expect("a node").expect("it");
    (desk.at("ring"), snapshot, folder.file_name().to_string_lossy().into_owned())
}

const COUNT: &str = "SELECT count(*) FROM flows";

#[test]
fn small_logs_of_facts_that_unpack_to_gigabytes_are_cut_and_said_to_be() {
    let desk = Desk::new();
    let (ring, snapshot, node) = sources(&desk);
    let progress = |seq| {
        let of = Progress { worker: 0, recorded_until_ns: 1, seq };
        to_line(&Record { ts_ns: 1, after_ns: None, fact: Fact::Progress(of) })
    };
    let lines: [(&str, Vec<u8>); 4] = [
        ("facts", [progress(1), progress(2)].concat()),
        ("no lines", b" ".repeat(4096)),
        ("no facts", b"{\"ts_ns\":1,\"fact\":\"stop\"}\n".to_vec()),
        ("objects", [heavy(1), heavy(2)].concat()),
    ];
    for (what, part) in lines {
        let bytes = bomb(&header("recorder", &node), &part);
        println!("{what}: {} bytes", bytes.len());
        assert!(bytes.len() < 1 << 20, "{what}: {} bytes", bytes.len());
        let places = [(&ring, ring.join("log")), (&snapshot, snapshot.join("nodes").join(&node).join("log"))];
        // The first of them shows that both are read alike.
        for (source, log) in places.into_iter().take(if what == "facts" { 2 } else { 1 }) {
            let path = log.join("2-900000.facts.ndjson.zst");
            fs::write(&path, &bytes).expect("a log");
            let said = asked(&desk, source, COUNT);
            let [(_, info), (verified, report), (strict, answer)] = said.as_slice() else { panic!("three") };
            assert!(info.contains("left out"), "{what}: {info}");
            assert_eq!(*verified, Some(5), "{what}: {report}");
            assert_eq!(*strict, Some(4), "{what}: {answer}");
            assert!(answer.contains("the recorder's log says more than can be read"), "{what}: {answer}");
            fs::remove_file(path).expect("it is there");
        }
    }
    // What a witness told of is missed by who asks for names.
    let log = snapshot.join("cluster/log");
    fs::create_dir_all(&log).expect("a folder");
    fs::write(log.join("2-900000.facts.ndjson.zst"), bomb(&header("witness", ""), &progress(1)))
        .expect("a log");
    let said = asked(&desk, &snapshot, "SELECT count(*) FROM flows WHERE src_pod = 'x'");
    assert_eq!(said[2].0, Some(4), "{}", said[2].1);
    assert!(
        said[2].1.contains("kube_pods missing") && said[2].1.contains("a log says more than can be read"),
        "{}",
        said[2].1
    );
}

#[test]
fn a_small_log_of_processes_that_unpacks_to_gigabytes_is_cut_and_said_to_be() {
    let desk = Desk::new();
    let (ring, snapshot, node) = sources(&desk);
    let head = Head { node: node.clone(), cluster: String::new(), started_ns: 1 };
    let mut encoder = Encoder::new(&processes::TABLE, &head);
    let beginning = encoder.take();
    let mut rows = ProcessBlock::default();
    for number in 0..500 {
        let id = format!("p{number}");
        rows.append(&ProcessRow {
            proc_id: Some(&id),
            pid: Some(7),
            start_ts: Some(5),
            ..ProcessRow::default()
        });
    }
    encoder.append(&mut rows);
    let bytes = bomb(&beginning, &encoder.take());
    println!("{} bytes", bytes.len());
    assert!(bytes.len() < 2 << 20, "{} bytes", bytes.len());
    for (source, log) in
        [(&ring, ring.join("log")), (&snapshot, snapshot.join("nodes").join(&node).join("log"))]
    {
        let path = log.join("2-900000.processes.arrows.zst");
        fs::write(&path, &bytes).expect("a log");
        let said = asked(&desk, source, "SELECT count(*) FROM processes");
        assert!(said[0].1.contains("900000.processes.arrows.zst: damaged behind row"), "{}", said[0].1);
        assert_eq!(said[1].0, Some(5), "{}", said[1].1);
        fs::remove_file(path).expect("it is there");
    }
}

/// Lines of a log: a template with a word that each line has something else for.
fn written(log: &Path, lines: impl Iterator<Item = Vec<u8>>) {
    fs::create_dir_all(log).expect("a folder");
    let file = fs::File::create(log.join("2-900000.facts.ndjson.zst")).expect("a log");
    let mut encoder = zstd::stream::write::Encoder::new(file, 1).expect("an encoder").auto_finish();
    encoder.write_all(&header("witness", "")).expect("it is written");
    lines.for_each(|line| encoder.write_all(&line).expect("it is written"));
}

/// A line of a fact, with other words in the place of some of it.
fn filled(template: &str, words: &[(&str, String)]) -> Vec<u8> {
    words.iter().fold(template.to_owned(), |line, (from, to)| line.replace(from, to)).into_bytes()
}

fn template(fact: Fact) -> String {
    String::from_utf8(to_line(&facts::fact(1, fact))).expect("text")
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

#[test]
fn a_hundred_thousand_pods_and_ten_thousand_services_are_read_in_seconds() {
    const PODS: usize = 100_000;
    const SERVICES: usize = 10_000;
    let desk = Desk::new();
    let (_, snapshot, _) = sources(&desk);
    let pod = template(Fact::Pod(facts::pod("UID", "NAME", "WORK", "ADDRESS", "CID")));
    let pods = (0..PODS).map(|number| {
        let id = format!("{number:06}");
        let words = [
            ("UID", format!("11111111-2222-3333-4444-{number:012}")),
            ("NAME", format!("pod-{id}")),
            ("WORK", format!("work-{}", number / 10)),
            ("ADDRESS", address(number + 1)),
            ("CID", id.repeat(10)),
            ("\"node-1\"", format!("\"node-{}\"", number % 5_000)),
        ];
        filled(&pod, &words)
    });
    let backends: Vec<String> = (0..10).map(|number| format!("ADDRESS{number}.")).collect();
    let backends: Vec<(&str, u16)> = backends.iter().map(|text| (text.as_str(), 8080)).collect();
    let [service, slice] = facts::service("SERVICE", "CLUSTERIP", 80, "TCP", &backends).map(template);
    let services = (0..SERVICES).flat_map(|number| {
        let backends = (0..10).map(|at| {
            let places = [
                "ADDRESS0.",
                "ADDRESS1.",
                "ADDRESS2.",
                "ADDRESS3.",
                "ADDRESS4.",
                "ADDRESS5.",
                "ADDRESS6.",
                "ADDRESS7.",
                "ADDRESS8.",
                "ADDRESS9.",
            ];
            (places[at], address(number * 10 + at + 1))
        });
        let mut words = vec![
            ("SERVICE", format!("service-{number:05}")),
            ("CLUSTERIP", format!("172.{}.{}.1", number >> 8, number & 255)),
        ];
        words.extend(backends);
        [filled(&service, &words), filled(&slice, &words)]
    });
    let node = template(Fact::Node(shark_schema::identity::NodeObject {
        uid: "NODE".into(),
        name: "NODE".into(),
        ..Default::default()
    }));
    let nodes = (0..5_000).map(|number| filled(&node, &[("NODE", format!("node-{number}"))]));
    written(&snapshot.join("cluster/log"), nodes.chain(pods).chain(services));
    let said = asked(&desk, &snapshot, "SELECT count(*) AS n, count(DISTINCT workload) AS w FROM pods");
    assert!(said[2].1.contains("100000") && said[2].1.contains("10000"), "{}", said[2].1);
    assert_eq!(said[0].0, Some(0), "{}", said[0].1);
    let counted = desk.value(&snapshot, "SELECT count(*) FROM services WHERE cardinality(endpoints) = 10");
    assert_eq!(counted, SERVICES);
}

#[test]
fn one_address_of_twenty_thousand_pods_belongs_to_none_of_them() {
    let desk = Desk::new();
    let (_, snapshot, _) = sources(&desk);
    let pod = template(Fact::Pod(facts::pod("UID", "NAME", "WORK", "10.9.9.9", "CID")));
    let pods = (0..20_000).map(|number| {
        let [uid, name, time] =
            [format!("u{number}"), format!("pod-{number}"), format!("\"ts_ns\":{},", 1 + number)];
        filled(&pod, &[("UID", uid), ("NAME", name), ("\"ts_ns\":1,", time)])
    });
    written(&snapshot.join("cluster/log"), pods);
    let said = asked(
        &desk,
        &snapshot,
        "SELECT max(cardinality(claims)) AS most FROM identity_conflicts WHERE ip = '10.9.9.9'",
    );
    assert!(said[2].1.contains(" 16 "), "{}", said[2].1);
}

#[test]
fn policies_whose_rows_multiply_are_cut_and_said_to_be() {
    let desk = Desk::new();
    let (_, snapshot, _) = sources(&desk);
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/8"}});
    let rule = json!({"from": vec![block; 1_000], "ports": vec![json!({"port": 1}); 1_000]});
    let spec = json!({"podSelector": {}, "ingress": vec![rule; 20]});
    let policy = NetworkPolicy {
        uid: "u".into(),
        namespace: "shop".into(),
        name: "many".into(),
        spec,
        ..NetworkPolicy::default()
    };
    written(
        &snapshot.join("cluster/log"),
        [to_line(&facts::fact(1, Fact::NetworkPolicy(policy)))].into_iter(),
    );
    let said = asked(&desk, &snapshot, "SELECT count(*) AS n FROM network_policies");
    let warning = "network policies allow more than the table network_policies has rows for";
    assert!(
        said[0].1.contains(warning) && said[2].1.contains(warning) && said[2].1.contains("1000000"),
        "{}",
        said[2].1
    );
}
