//! nginx and a client of every shape of exchange, recorded live: the table is nginx's access log, line by line.
//! Then packets are lost on purpose: what is left may be less, and never wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::captures::{self, Packet};
use crate::desk::Desk;
use crate::determinism::same_for_all_threads;
use crate::pair::Pair;
use crate::programs::{built, finished, is_installed, is_permitted, within};
use crate::same::assert_same;
use crate::shop::no_loss_is_shown;

const REQUESTS: usize = 20_000;
/// One packet in so many is deleted.
const ONE_IN: u64 = 100;
const SEEDS: std::ops::Range<u64> = 1..4;

const CALLS: &str = "SELECT method, concat(path, coalesce('?' || query, '')) AS uri, status_code AS status, \
                     response_body_len AS body_bytes, x_request_id AS id FROM http";

#[test]
fn twenty_thousand_requests_are_the_access_log() {
    if !is_permitted() || !is_installed("nginx") {
        return;
    }
    let desk = Desk::new();
    let snapshot = record(&desk);
    let access = lines_of(&desk.at("nginx/access.ndjson"));
    let told: Vec<String> = access.iter().map(line).collect();
    assert_eq!(told.len(), REQUESTS);
    let seen: Vec<String> = desk.rows(&snapshot, CALLS).iter().map(line).collect();
    assert_same("http", &told, &seen);
    every_shape_is_there(&desk, &snapshot);
    no_loss_is_shown(&desk, &snapshot);
    let halves = "SELECT count(*) AS n FROM http WHERE pairing <> 'complete' OR \
                  x_request_id IS DISTINCT FROM response_headers['x-request-id']";
    assert_eq!(desk.value(&snapshot, halves), 0);
    // Larger than a round, so that rounds and runs are cut.
    same_for_all_threads(&desk, &snapshot, &[2]);
    for seed in SEEDS {
        losing_packets(&desk, &told, seed);
    }
}

fn record(desk: &Desk) -> std::path::PathBuf {
    let mut write = within(30, built("shark-shop"));
    write.args(["nginx-conf", "--listen", "10.9.0.2:80", "--dir"]);
    finished(write.arg(desk.at("nginx")));
    let client = format!(
        "\"$BIN/shark-shop\" load-http --to $SERVER_IP:80 --requests {REQUESTS} --log \"$DESK/load.ndjson\""
    );
    let server = "nginx -c \"$DESK/nginx/nginx.conf\"";
    Pair { server, client: &client, port: Some(80), options: "" }.record(desk)
}

/// At least one in twenty of each, by the client's word and by the table's.
fn every_shape_is_there(desk: &Desk, snapshot: &Path) {
    let sent = lines_of(&desk.at("load.ndjson"));
    let share = |name: &str, count: usize| assert!(count * 20 >= REQUESTS, "only {count} {name}");
    share("pipelined", sent.iter().filter(|l| l["pipelined"] == true).count());
    let in_table = |name: &str, condition: &str| {
        let count = desk.value(snapshot, &format!("SELECT count(*) FROM http WHERE {condition}"));
        share(name, count.as_u64().expect("a count") as usize);
    };
    in_table("HEAD", "method = 'HEAD'");
    in_table("304", "status_code = 304");
    in_table("after 100 Continue", "interim_statuses[1] = 100");
    in_table("chunked requests", "request_headers['transfer-encoding'] = 'chunked'");
    in_table("chunked responses", "response_headers['transfer-encoding'] = 'chunked'");
}

/// Deletes packets with a seed and holds what is left against what was told.
fn losing_packets(desk: &Desk, told: &[String], seed: u64) {
    let packets: Vec<Packet> =
        captures::segments(&desk.at("ring")).iter().flat_map(|segment| captures::read(segment)).collect();
    let full = desk.at("full.pcap");
    captures::write(&full, packets.iter());
    let mut draw = Draw(seed);
    let deleted: BTreeSet<usize> =
        (0..packets.len()).filter(|_| draw.next().is_multiple_of(ONE_IN)).collect();
    let left = packets.iter().enumerate().filter(|(at, _)| !deleted.contains(at));
    let thinned = desk.at(&format!("thinned-{seed}.pcap"));
    captures::write(&thinned, left.map(|(_, packet)| packet));

    let mixed = "SELECT x_request_id, response_headers['x-request-id'] AS echoed, pairing FROM http \
                 WHERE x_request_id <> response_headers['x-request-id']";
    assert_eq!(desk.rows(&thinned, mixed), Vec::<Value>::new(), "seed {seed}: halves of two calls in a row");
    let complete = format!("{CALLS} WHERE pairing = 'complete'");
    let whole: BTreeSet<String> = desk.rows(&thinned, &complete).iter().map(line).collect();
    let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
    let invented: Vec<&String> = whole.iter().filter(|line| !told.contains(line.as_str())).collect();
    assert!(invented.is_empty(), "seed {seed}: complete, but not what happened: {invented:?}");
    let lost = explain_what_is_missing(desk, &full, &packets, &deleted, &whole);
    eprintln!(
        "seed {seed}: {} of {} packets deleted, {lost} of {} calls not complete",
        deleted.len(),
        packets.len(),
        told.len()
    );
    assert!(lost > 0 && lost * 5 < told.len(), "seed {seed}: {lost} calls are not complete");
}

/// Calls of a connection that are not whole follow each other in runs: each run has lost a packet of its connection
/// between its first and its last one. Returns how many calls are not whole.
fn explain_what_is_missing(
    desk: &Desk,
    full: &Path,
    packets: &[Packet],
    deleted: &BTreeSet<usize>,
    whole: &BTreeSet<String>,
) -> usize {
    let mut connections: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    let sql =
        CALLS.replace("FROM http", ", src_port, first_frame, last_frame FROM http ORDER BY first_frame, id");
    for row in desk.rows(full, &sql) {
        connections.entry(row["src_port"].as_u64().expect("a port")).or_default().push(row);
    }
    let mut lost = 0;
    for (port, rows) in connections {
        let is_whole = |row: &Value| whole.contains(&line(row));
        for run in rows.chunk_by(|a, b| is_whole(a) == is_whole(b)).filter(|run| !is_whole(&run[0])) {
            lost += run.len();
            let frame = |row: &Value, which: &str| row[which].as_u64().expect("a frame") as usize - 1;
            let first = run.iter().map(|row| frame(row, "first_frame")).min().expect("a run");
            let last = run.iter().map(|row| frame(row, "last_frame")).max().expect("a run");
            let explained = deleted.range(first..=last).any(|at| client_port(&packets[*at]) == port);
            assert!(
                explained,
                "no packet of port {port} was deleted in frames {first} to {last}, yet lost: {run:#?}"
            );
        }
    }
    lost
}

/// Of an Ethernet frame with IPv4 and TCP: the port that is not the server's.
fn client_port(packet: &Packet) -> u64 {
    let tcp = 14 + usize::from(packet.data[14] & 0xf) * 4;
    let port = |at: usize| u64::from(u16::from_be_bytes([packet.data[at], packet.data[at + 1]]));
    if port(tcp) == 80 { port(tcp + 2) } else { port(tcp) }
}

fn lines_of(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the log is there");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn line(call: &Value) -> String {
    let fields = ["method", "uri", "status", "body_bytes", "id"];
    fields.map(|field| call[field].to_string()).join(" ")
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same packets for the same seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
