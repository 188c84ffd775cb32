//! Whose sockets these were: real processes in cgroups that are named as the kubelet names them, before and after the recorder
//! starts, over IPv4 and IPv6, TCP and UDP, with BPF and without.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use shark_schema::identity::Fact;
use shark_schema::identity::arrows::Decoder;
use shark_schema::table::Table;
use shark_schema::tables::{processes, sockets};

use crate::net::{Net, run};
use crate::process::{Recorder, sharkrec_ok};
use crate::reading::facts;

type Row = serde_json::Map<String, Value>;

#[test]
fn every_socket_has_its_process_container_and_pod() {
    let Some(net) = Net::new() else { return };
    let Some(pods) = Pods::new(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let mut server = pods.python(0, SERVER);
    let ports = server.says();
    let mut before = pods.python(1, CLIENT);
    before.hears(&ports);
    let before_ports = before.says();
    let recorder = Recorder::start(&net, &ring, &[]);
    // Short ones, and one that is still there at the end.
    let mut short = pods.python(1, CLIENT);
    short.hears(&ports);
    let short_ports = short.says();
    short.hears("end");
    short.wait();
    let mut refused = pods.python(1, REFUSED);
    let refused_port = refused.says();
    refused.wait();
    thread::sleep(Duration::from_millis(1_200));
    before.hears("end");
    before.wait();
    recorder.stop();
    server.end();

    let log = ring.join("log");
    let processes = last_rows(&log, &processes::TABLE, "proc_id");
    let rows = last_rows(&log, &sockets::TABLE, "sock_id");
    let ends = [("127.0.0.1", "tcp"), ("::1", "tcp"), ("127.0.0.1", "udp"), ("::1", "udp")];
    let to: Vec<&str> = ports.split(' ').collect();
    let is_old = [(&before_ports, &before, true), (&short_ports, &short, false)];
    for (ports, client, is_old) in is_old {
        for (at, port) in ports.split(' ').enumerate() {
            let (ip, proto) = ends[at];
            let here = one(&rows, |row| row["local_port"] == number(port) && row["proto"] == proto);
            pods.check(here, client, 1, &processes);
            assert_eq!((&here["local_ip"], &here["op"]), (&ip.into(), &"connect".into()), "{here:?}");
            assert_eq!((&here["peer_ip"], &here["peer_port"]), (&ip.into(), &number(to[at])));
            assert_eq!(here.contains_key("start_ts"), !is_old, "known only of what began later");
            assert!(here.contains_key("end_ts"), "{here:?}");
            let proof = if is_old && proto == "udp" { "file" } else { "call" };
            assert_eq!(here["pid_proof"], proof, "{here:?}");
            if proto == "tcp" {
                assert_eq!((&here["tx_bytes"], &here["rx_bytes"]), (&1_000.into(), &2_000.into()));
                // The other end, accepted by the server.
                let there =
                    one(&rows, |row| row.get("peer_port") == Some(&number(port)) && row["proto"] == "tcp");
                pods.check(there, &server, 0, &processes);
                assert_eq!(
                    (&there["op"], &there["local_port"]),
                    (&"accept".into(), &number(to[at])),
                    "{there:?}"
                );
                assert_eq!((&there["tx_bytes"], &there["rx_bytes"]), (&2_000.into(), &1_000.into()));
            }
        }
    }
    let failed = one(&rows, |row| row.get("peer_port") == Some(&number(&refused_port)));
    pods.check(failed, &refused, 1, &processes);
    assert_eq!(failed["result"], "ECONNREFUSED");
    for (at, listening) in to.iter().enumerate() {
        let (ip, proto) = ends[at];
        let row = one(&rows, |row| {
            row["local_port"] == number(listening) && row["proto"] == proto && !row.contains_key("peer_port")
        });
        pods.check(row, &server, 0, &processes);
        assert_eq!(
            (&row["local_ip"], &row["op"]),
            (&ip.into(), &["listen", "bind"][usize::from(at > 1)].into())
        );
    }
    assert!(!facts(&log).iter().any(|record| matches!(record.fact, Fact::EventsLost(_))));
    for feature in ["processes", "sockets", "datagram_sockets"] {
        assert!(is_on(&log, feature).0, "{feature}: {}", is_on(&log, feature).1);
    }
}

#[test]
fn a_process_that_was_over_before_anybody_looked_has_its_container_pod_and_network() {
    let Some(net) = Net::new() else { return };
    let Some(pods) = Pods::new(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    // It hears of the process when that is gone.
    recorder.signal(Signal::STOP);
    let mut refused = pods.python(1, &AGAIN.replace("PROGRAM", REFUSED));
    let port = refused.says();
    refused.wait();
    recorder.signal(Signal::CONT);
    recorder.stop();
    let log = ring.join("log");
    let rows = last_rows(&log, &sockets::TABLE, "sock_id");
    let socket = one(&rows, |row| row.get("peer_port") == Some(&number(&port)));
    pods.is_of(socket, 1);
    assert_eq!(socket.get("pid"), Some(&refused.pid.into()), "{socket:?}");
    let processes = last_rows(&log, &processes::TABLE, "proc_id");
    let process = &processes[socket["proc_id"].as_str().unwrap()];
    pods.is_of(process, 1);
    assert!(process["cmdline"].as_str().unwrap().contains("again -c \nimport socket"), "{process:?}");
    assert!(process["exe"].as_str().unwrap().contains("python3"), "{process:?}");
    assert_eq!((&socket["netns"], &process["netns"]), (&pods.netns.into(), &pods.netns.into()));
}

#[test]
fn without_bpf_proc_tells_the_same_of_what_lives_long_enough() {
    let Some(net) = Net::new() else { return };
    let Some(pods) = Pods::new(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (one_ring, other_ring) = (dir.path().join("bpf"), dir.path().join("proc"));
    let mut server = pods.python(0, SERVER);
    let ports = server.says();
    let recorders = [
        Recorder::start_bare(&net, &one_ring, &["--iface", "v1"]),
        Recorder::start_without_bpf(&net, &other_ring, &["--iface", "w1"]),
    ];
    let mut client = pods.python(1, CLIENT);
    client.hears(&ports);
    client.says();
    thread::sleep(Duration::from_millis(2_500));
    client.hears("end");
    client.wait();
    thread::sleep(Duration::from_millis(2_500));
    recorders.into_iter().for_each(|recorder| drop(recorder.stop()));
    server.end();
    let mut found = Vec::new();
    for ring in [&one_ring, &other_ring] {
        let log = ring.join("log");
        let processes = last_rows(&log, &processes::TABLE, "proc_id");
        let rows = last_rows(&log, &sockets::TABLE, "sock_id");
        let mut of_ours: Vec<Vec<String>> = Vec::new();
        for row in rows.values().filter(|row| row["netns"] == pods.netns) {
            let owner = [&server, &client].into_iter().position(|of| row.get("pid") == Some(&of.pid.into()));
            pods.check(row, [&server, &client][owner.expect("one of them")], owner.unwrap(), &processes);
            let columns = [
                "proto",
                "op",
                "local_ip",
                "local_port",
                "peer_ip",
                "peer_port",
                "comm",
                "proc_id",
                "cgroup",
            ];
            let mut texts: Vec<String> =
                columns.iter().map(|name| row.get(*name).unwrap_or(&Value::Null).to_string()).collect();
            texts.push(row.contains_key("end_ts").to_string());
            of_ours.push(texts);
        }
        of_ours.sort();
        found.push(of_ours);
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0].len(), 4 + 4 + 2, "the server's, the client's, and what was accepted");
    for feature in ["processes", "sockets"] {
        let (on, why) = is_on(&other_ring.join("log"), feature);
        assert!(!on && why.contains("CAP_BPF"), "{why}");
    }
}

#[test]
fn a_snapshot_takes_the_files_and_each_stands_alone() {
    let Some(net) = Net::new() else { return };
    let Some(pods) = Pods::new(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ring, to) = (dir.path().join("ring"), dir.path().join("to"));
    let mut server = pods.python(0, SERVER);
    let ports = server.says();
    let recorder = Recorder::start(&net, &ring, &[]);
    net.send(0, 10, 100, 0).join().unwrap();
    let take = || {
        let arguments =
            ["snapshot", "--ring", ring.to_str().unwrap(), "--since", "1m", "--to", to.to_str().unwrap()];
        let url = sharkrec_ok(&arguments);
        let snapshot = PathBuf::from(url.trim().strip_prefix("file://").unwrap());
        crate::snapshot::verify(&snapshot);
        let node = fs::read_dir(snapshot.join("nodes")).unwrap().next().unwrap().unwrap().path();
        node.join("log")
    };
    let first = take();
    let mut client = pods.python(1, CLIENT);
    client.hears(&ports);
    let client_ports = client.says();
    thread::sleep(Duration::from_millis(1_100));
    let alive = take();
    thread::sleep(Duration::from_millis(1_100));
    recorder.kill();
    let dead = take();
    for (log, has_client) in [(&first, false), (&alive, true), (&dead, true)] {
        let files = files(log, &sockets::TABLE);
        // Each file alone tells of the server, which was there before them all.
        for file in &files {
            let rows = rows_of(file, &sockets::TABLE);
            assert!(rows.iter().any(|row| row.get("pid") == Some(&server.pid.into())), "{}", file.display());
        }
        let rows = last_rows(log, &sockets::TABLE, "sock_id");
        let port = number(client_ports.split(' ').next().unwrap());
        assert_eq!(rows.values().any(|row| row["local_port"] == port), has_client);
        assert!(!last_rows(log, &processes::TABLE, "proc_id").is_empty());
    }
    // What the killed one left is closed by the next.
    assert!(
        fs::read_dir(ring.join("log")).unwrap().any(|e| e.unwrap().path().ends_with(".open"))
            || !files(&ring.join("log"), &sockets::TABLE).is_empty()
    );
    let next = Recorder::start(&net, &ring, &[]);
    next.stop();
    let port = number(client_ports.split(' ').next().unwrap());
    let rows = last_rows(&ring.join("log"), &sockets::TABLE, "sock_id");
    assert!(rows.values().any(|row| row["local_port"] == port && row.get("pid") == Some(&client.pid.into())));
    client.hears("end");
    client.wait();
    server.end();
}

#[test]
fn events_that_nobody_could_take_are_counted() {
    let Some(net) = Net::new() else { return };
    let Some(pods) = Pods::new(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    recorder.signal(Signal::STOP);
    let mut many = pods.python(0, MANY);
    assert_eq!(many.says(), "done");
    many.wait();
    recorder.signal(Signal::CONT);
    thread::sleep(Duration::from_millis(500));
    recorder.stop();
    let lost = facts(&ring.join("log")).into_iter().find_map(|record| match record.fact {
        Fact::EventsLost(lost) if lost.feature == "sockets" => Some(lost),
        _ => None,
    });
    let lost = lost.expect("a fact");
    let rows = last_rows(&ring.join("log"), &sockets::TABLE, "sock_id");
    let ours = rows.values().filter(|row| row["netns"] == pods.netns).count();
    // Two ends of each connection, with three or four events each.
    assert!(lost.events > 10_000 && ours > 1_000 && ours < 20_000, "{lost:?}, {ours} rows");
    assert!(lost.why.contains("full"), "{}", lost.why);
}

/// Ten thousand connections.
const MANY: &str = r"
import socket
l = socket.create_server(('127.0.0.1', 0)); to = l.getsockname()
for n in range(10000):
    c = socket.create_connection(to); s = l.accept()[0]; c.close(); s.close()
print('done', flush=True)
";

/// Listens on both kinds of address; answers a thousand bytes with two thousand.
const SERVER: &str = r"
import socket, sys, threading
def tcp(family, host):
    s = socket.socket(family); s.bind((host, 0)); s.listen()
    def one(c):
        n = 0
        while n < 1000: n += len(c.recv(1000))
        c.sendall(b'y' * 2000)
        c.recv(1); c.close()
    def all():
        while True: threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=all, daemon=True).start()
    return s
def udp(family, host):
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind((host, 0)); return s
s = [tcp(socket.AF_INET, '127.0.0.1'), tcp(socket.AF_INET6, '::1'), udp(socket.AF_INET, '127.0.0.1'), udp(socket.AF_INET6, '::1')]
print(*[x.getsockname()[1] for x in s], flush=True)
sys.stdin.readline()
";

const CLIENT: &str = r"
import socket, sys
to = [int(p) for p in sys.stdin.readline().split()]
s = []
for at, (family, host) in enumerate([(socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')]):
    c = socket.create_connection((host, to[at])); c.sendall(b'x' * 1000)
    n = 0
    while n < 2000: n += len(c.recv(2000))
    s.append(c)
for at, (family, host) in enumerate([(socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')]):
    c = socket.socket(family, socket.SOCK_DGRAM); c.connect((host, to[2 + at])); c.send(b'x'); s.append(c)
print(*[x.getsockname()[1] for x in s], flush=True)
sys.stdin.readline()
";

const REFUSED: &str = r"
import socket
s = socket.socket(); s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]; s.close()
try: socket.create_connection(('127.0.0.1', port))
except ConnectionRefusedError: print(port, flush=True)
";

/// Starts itself again, as container runtimes do.
const AGAIN: &str = r#"
import os
os.execv('/proc/self/exe', ['again', '-c', """PROGRAM"""])
"#;

/// Two pods: cgroups of version 2 in a network namespace.
struct Pods {
    root: PathBuf,
    groups: [PathBuf; 2],
    namespace: String,
    netns: u64,
}

const UID: &str = "7b1e0c52-93c4-4f7e-8a55-0d6c2b9e410";

impl Pods {
    fn new(net: &Net) -> Option<Pods> {
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let Some(mount) = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists()) else {
            println!("skipped: no cgroup version 2 here");
            return None;
        };
        let root = mount.join(format!("{}-kubepods", net.receiver));
        let groups = [0, 1].map(|pod| {
            let id = format!("{pod}{}", "ab12".repeat(16))[..64].to_owned();
            root.join("burstable").join(format!("pod{UID}{pod}")).join(id)
        });
        groups.iter().for_each(|group| fs::create_dir_all(group).unwrap());
        let namespace = format!("/run/netns/{}", net.receiver);
        let enter = format!("--net={namespace}");
        let up = "echo 0 > /proc/sys/net/ipv6/conf/lo/disable_ipv6; ip link set lo down; ip link set lo up";
        run("nsenter", &[&enter, "sh", "-c", up]);
        let link = run("nsenter", &[&enter, "readlink", "/proc/self/ns/net"]);
        let netns = link.trim().trim_start_matches("net:[").trim_end_matches(']').parse().unwrap();
        Some(Pods { root, groups, namespace, netns })
    }

    fn python(&self, pod: usize, program: &str) -> Process {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.groups[pod].display());
        let mut child = Command::new("sh")
            .args([
                "-c",
                &enter,
                "sh",
                "nsenter",
                &format!("--net={}", self.namespace),
                "python3",
                "-c",
                program,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Process { pid: child.id(), child, input, output }
    }

    /// The row names this process, its container and its pod, and so does the row of the process.
    fn check(&self, socket: &Row, process: &Process, pod: usize, processes: &BTreeMap<String, Row>) {
        assert_eq!(socket.get("pid"), Some(&process.pid.into()), "{socket:?}");
        let of = &processes[socket["proc_id"].as_str().unwrap()];
        assert_eq!(of["pid"], process.pid);
        assert!(of["cmdline"].as_str().unwrap().contains("python3 -c \nimport socket"), "{of:?}");
        assert!(of["exe"].as_str().unwrap().contains("python3"), "{of:?}");
        assert_eq!((&of["comm"], &of["uid"]), (&"python3".into(), &0.into()));
        [socket, of].into_iter().for_each(|row| self.is_of(row, pod));
        assert_eq!((&socket["netns"], &of["netns"]), (&self.netns.into(), &self.netns.into()));
    }

    fn is_of(&self, row: &Row, pod: usize) {
        let path = &self.groups[pod];
        let container = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(row.get("container_id"), Some(&container.into()), "{row:?}");
        assert_eq!(row["pod_uid"], format!("{UID}{pod}"));
        assert!(path.to_str().unwrap().ends_with(row["cgroup"].as_str().unwrap()));
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for group in &self.groups {
            for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ = Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status();
            }
            for _ in 0..50 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            let _ = group.parent().map(fs::remove_dir);
        }
        let _ = fs::remove_dir(self.root.join("burstable"));
        let _ = fs::remove_dir(&self.root);
    }
}

/// A program that is told what to do over its standard input.
struct Process {
    pid: u32,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended");
        line.trim().to_owned()
    }

    fn hears(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn wait(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    fn end(&mut self) {
        self.hears("");
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(text: &str) -> Value {
    text.parse::<u64>().unwrap().into()
}

fn one(rows: &BTreeMap<String, Row>, wanted: impl Fn(&Row) -> bool) -> &Row {
    let found: Vec<&Row> = rows.values().filter(|row| wanted(row)).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0]
}

fn is_on(log: &Path, feature: &str) -> (bool, String) {
    let found = facts(log).into_iter().find_map(|record| match record.fact {
        Fact::Feature(of) if of.name == feature => Some((of.on, of.why)),
        _ => None,
    });
    found.expect("a fact of the feature")
}

/// Closed files of a table, in order.
fn files(log: &Path, table: &Table) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(&format!(".{}.arrows.zst", table.name)));
    files.sort();
    files
}

fn rows_of(file: &Path, table: &'static Table) -> Vec<Row> {
    let bytes = zstd::decode_all(fs::File::open(file).unwrap()).expect("a whole frame");
    let mut lines = arrow::json::LineDelimitedWriter::new(Vec::new());
    for batch in Decoder::new(table, &bytes[..]).expect("a file of the table") {
        lines.write(&batch.expect("a whole batch")).unwrap();
    }
    lines.finish().unwrap();
    let text = String::from_utf8(lines.into_inner()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last row of every id.
pub fn last_rows(log: &Path, table: &'static Table, id: &str) -> BTreeMap<String, Row> {
    let rows = files(log, table).into_iter().flat_map(|file| rows_of(&file, table));
    rows.map(|row| (row[id].as_str().unwrap().to_owned(), row)).collect()
}
