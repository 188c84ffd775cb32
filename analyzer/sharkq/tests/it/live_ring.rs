//! A ring while its recorder runs: the segment that is open is read to its last whole packet, and what is
//! said is said of the node. And a ring whose log of names was larger than its part: names of what the log
//! no longer tells of are called rotated out.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shark_schema::segment::Name;

use crate::absence::{Recorder, Wire};
use crate::bundled;
use crate::captures;
use crate::desk::Desk;
use crate::programs::{built, finished, is_permitted, within};

/// Output and errors of a command that must succeed.
fn said(desk: &Desk, words: &[&str], ring: &Path) -> [String; 2] {
    let output = finished(desk.sharkq().args(&words[..1]).arg(ring).args(&words[1..]));
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"))
}

#[test]
fn a_healthy_live_ring_is_complete_and_told_of_by_node() {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let wire = Wire::new(&desk, "c");
    let ring = desk.at("ring");
    let options = ["--node", "node-of-the-ring", "--segment-age", "2s"];
    let recorder = Recorder::start(&wire, &ring, &options);
    let mut packets = Vec::new();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(1_300));
        let open = std::fs::read_dir(ring.join("segments")).expect("a ring").flatten();
        let open = open.filter(|entry| entry.file_name().to_string_lossy().ends_with(".open")).count();
        assert_eq!(open, 1, "a segment is open");
        let sql = "SELECT coalesce(CAST(sum(orig_pkts + resp_pkts) AS BIGINT), 0) AS n FROM flows";
        let [rows, errors] = said(&desk, &["sql", "--strict", "--format", "ndjson", "-c", sql], &ring);
        let row: serde_json::Value = serde_json::from_str(rows.trim()).expect("JSON");
        packets.push(row["n"].as_u64().expect("a number"));
        let [lines, warnings] = said(&desk, &["coverage", "--strict"], &ring);
        for text in [&errors, &lines] {
            assert!(text.starts_with("coverage: complete, 20"), "{text}");
            assert!(text.contains("\n  node-of-the-ring: ") && text.contains(", none lost"), "{text}");
        }
        for text in [&errors, &lines, &warnings] {
            assert!(
                !text.contains("cut short") && !text.contains(".pcapng") && !text.contains("warning"),
                "{text}"
            );
        }
    }
    // It grows as the recorder writes: four hundred packets a second.
    assert!(packets.windows(2).all(|pair| pair[1] > pair[0] + 200), "{packets:?}");
    recorder.stop();
    assert!(captures::segments(&ring).len() >= 2);
}

/// A recorder makes the file of its next segment before it writes the first byte of it.
#[test]
fn an_open_segment_without_a_byte_is_no_damage() {
    let desk = Desk::new();
    bundled::snapshot(&desk);
    let ring = desk.at("ring");
    let last = captures::segments(&ring).pop().expect("a segment");
    let name: Name = last.file_name().and_then(|name| name.to_str()).expect("text").parse().expect("a name");
    let next = Name { seq: name.seq + 1, open: true, ..name };
    std::fs::write(ring.join("segments").join(next.to_string()), "").expect("a file");
    for words in [&["sql", "-c", "SELECT count(*) FROM flows"][..], &["coverage"], &["info"]] {
        let [rows, errors] = said(&desk, words, &ring);
        let text = format!("{rows}{errors}");
        assert!(!text.contains("not a capture file") && !text.contains("warning"), "{words:?}: {text}");
    }
}

/// Connections that a server answers and closes, one after the other: more than the log of their names has
/// room for, and some more when it was pruned.
const CONNECTIONS: &str = "
import socket, threading, time
server = socket.create_server(('127.0.0.1', 7777), backlog=64)
def serve():
    while True:
        peer, _ = server.accept(); peer.recv(16); peer.sendall(b'done'); peer.close()
threading.Thread(target=serve, daemon=True).start()
for count, pause in ((3000, 6), (100, 0)):
    for _ in range(count):
        c = socket.create_connection(('127.0.0.1', 7777)); c.sendall(b'do'); c.recv(16); c.close()
    time.sleep(pause)
";

/// A network namespace with nothing but its loopback; gone when dropped.
struct Loopback {
    name: String,
}

impl Loopback {
    fn new() -> Loopback {
        let name = format!("rotated{}", std::process::id());
        finished(within(20, "ip").args(["netns", "add", &name]));
        let loopback = Loopback { name };
        finished(within(20, "ip").args(["-n", &loopback.name, "link", "set", "lo", "up"]));
        loopback
    }

    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let _ = within(20, "ip").args(["netns", "del", &self.name]).status();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn names_whose_log_was_removed_before_its_packets_are_rotated_out() {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let loopback = Loopback::new();
    let ring = desk.at("ring");
    let mut record = loopback.inside(&built("sharkrec"));
    // The smallest part that a log of sockets can have: a few hundred connections.
    record.args(["record", "--iface", "lo", "--node", "node-1", "--ring-size", "6MiB", "--ring"]).arg(&ring);
    let log = std::fs::File::create(desk.at("said")).expect("a file");
    let mut recorder = Killed(record.stdin(Stdio::null()).stderr(log).spawn().expect("it starts"));
    let end = Instant::now() + Duration::from_secs(20);
    while !ring.join("control.sock").exists() {
        assert!(Instant::now() < end, "{}", std::fs::read_to_string(desk.at("said")).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut connections = loopback.inside(Path::new("timeout"));
    finished(connections.args(["60", "python3", "-c", CONNECTIONS]));
    std::thread::sleep(Duration::from_secs(3));
    finished(within(5, "kill").arg(recorder.0.id().to_string()));
    recorder.0.wait().expect("it ends");
    let told = desk.value(&ring, "SELECT count(*) FROM sockets");
    let flows = desk.value(&ring, "SELECT count(*) FROM flows WHERE proto = 'tcp' AND dst_port = 7777");
    assert!(flows.as_u64() > Some(1_000), "{flows} flows");
    if std::fs::read_to_string(desk.at("said")).unwrap_or_default().contains("sockets") && told == 0 {
        eprintln!("skipped: this kernel tells nothing of sockets");
        return;
    }
    let strict = |sql: &str| {
        let output =
            desk.sharkq().arg("sql").arg(&ring).args(["--strict", "-c", sql]).output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, error) = strict("SELECT dst_process, count(*) FROM flows GROUP BY 1");
    assert_eq!(code, Some(4), "{error}");
    assert!(error.contains("node-1, names, "), "{error}");
    assert!(
        error.contains("sockets rotated out 20")
            && error.contains(": the log of names reached its part of the ring"),
        "{error}"
    );
    // Packets are all there, and who asks for no names is told of none.
    let (code, error) = strict("SELECT count(*) FROM flows");
    assert_eq!((code, error.contains("names")), (Some(0), false), "{error}");
    let rows = "SELECT DISTINCT state FROM name_coverage WHERE feature = 'sockets' ORDER BY 1";
    let states: Vec<String> =
        desk.rows(&ring, rows).iter().map(|row| row["state"].as_str().expect("text").into()).collect();
    assert_eq!(states, ["ok", "rotated_out"]);
}
