//! Two nodes with a recorder each: conversations within a node, between nodes, by IPv6 and over a virtual address, asked together.
//! The callers' own word is the truth: one row a call and side, both ends named on both nodes, and each call counted once.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shark_schema::identity::{Fact, NodeObject, Pod};

use crate::desk::Desk;
use crate::identity_facts::{self as facts, fact};
use crate::programs::{FIXTURES, built, is_installed, is_permitted, printed, within};
use crate::same::assert_same;

/// Answers with the name of its pod, on both kinds of address.
const SERVER: &str = r#"
import http.server, socket, socketserver, sys, threading
name = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = name.encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
class Server6(Server):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
for server in (Server(('0.0.0.0', 8080), Handler), Server6(('::', 8080), Handler)):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print('ready', flush=True)
sys.stdin.readline()
"#;

/// Opens a connection to each address before anybody records; told to, calls over it and over new ones, and says what it did.
const CLIENT: &str = r#"
import http.client, json, sys
name, rounds, *targets = sys.argv[1:]
def connect(target):
    host, port = target.rsplit(':', 1)
    c = http.client.HTTPConnection(host.strip('[]'), int(port), timeout=10); c.connect(); return c
old = [connect(t) for t in targets]
count = 0
def call(c, target, tell, kind):
    global count
    count += 1
    id = f'{name}-{count}'
    c.request('GET', '/' + kind, headers={'X-Request-Id': id})
    answer = c.getresponse(); body = answer.read().decode()
    if tell:
        src, dst = c.sock.getsockname(), c.sock.getpeername()
        print(json.dumps(dict(id=id, src=src[0], sport=src[1], dst=dst[0], dport=dst[1], pod=body, kind=kind)), flush=True)
for c, t in zip(old, targets): call(c, t, False, 'before')
print('ready', flush=True)
sys.stdin.readline()
for _ in range(int(rounds)):
    for c, t in zip(old, targets): call(c, t, True, 'old')
    for t in targets:
        c = connect(t); call(c, t, True, 'new'); call(c, t, True, 'new'); c.close()
print('done', flush=True)
sys.stdin.readline()
"#;

const ROUNDS: usize = 10;

#[test]
fn two_nodes_tell_of_each_call_once() {
    if !is_permitted() || !["ip", "nft", "nsenter", "python3"].iter().all(|tool| is_installed(tool)) {
        return;
    }
    let desk = Desk::new();
    let Some(net) = Net::up() else { return };
    let mut servers = [1, 3].map(|pod| net.python(pod, SERVER, &[&net.pod(pod).name()]));
    servers.iter_mut().for_each(|server| server.hears("ready"));
    let mut clients = [2, 4].map(|pod| {
        let near = net.pod(pod - 1).ip6.clone();
        let targets =
            [format!("{}:8080", net.pod(1).ip), format!("{}:8080", net.pod(3).ip), "10.96.0.10:80".into()];
        let more = format!("[{near}]:8080");
        let name = net.pod(pod).name();
        let arguments: Vec<&str> = [name.as_str(), "10"]
            .into_iter()
            .chain(targets.iter().map(String::as_str))
            .chain([more.as_str()])
            .collect();
        net.python(pod, CLIENT, &arguments)
    });
    clients.iter_mut().for_each(|client| client.hears("ready"));
    let recorders = [1, 2].map(|node| net.record(&desk, node));
    let mut calls: Vec<Value> = Vec::new();
    for client in &mut clients {
        client.told("go");
        calls.extend(client.until("done").iter().map(|line| serde_json::from_str(line).expect("JSON")));
    }
    // What the kernel's rings hold back, and the log's next write.
    std::thread::sleep(Duration::from_millis(2_500));
    let snapshots = [1, 2].map(|node| net.snapshot(&desk, node));
    drop(recorders);
    assert_eq!(calls.len(), 2 * 4 * 3 * ROUNDS);
    facts::write(&snapshots[0].join("cluster/log"), "two", &net.facts());
    let seen = Seen { desk: &desk, snapshots, net: &net, calls, pids: Pids::of(&servers, &clients) };
    seen.rows_are_the_calls();
    seen.each_call_counts_once();
    seen.processes_are_named();
    seen.observations_are_kept();
}

struct Pids {
    by_pod: [(u32, u32); 4],
}

impl Pids {
    fn of(servers: &[Program; 2], clients: &[Program; 2]) -> Pids {
        let [one, three] = [0, 1].map(|at| servers[at].child.id());
        let [two, four] = [0, 1].map(|at| clients[at].child.id());
        Pids { by_pod: [(1, one), (2, two), (3, three), (4, four)] }
    }
}

struct Seen<'a> {
    desk: &'a Desk,
    snapshots: [PathBuf; 2],
    net: &'a Net,
    calls: Vec<Value>,
    pids: Pids,
}

impl Seen<'_> {
    fn rows(&self, sql: &str) -> Vec<Value> {
        self.desk.rows_with(&self.snapshots[0], sql, &[self.snapshots[1].to_str().expect("a path")])
    }

    fn name(&self, ip: &str) -> String {
        self.net.pods.iter().find(|pod| pod.ip == ip || pod.ip6 == ip).map_or("-".into(), PodPlace::name)
    }

    /// Each call at the address its caller dialled, and where that was virtual, also at the backend's.
    fn rows_are_the_calls(&self) {
        let mut told = Vec::new();
        for call in &self.calls {
            let text = |key: &str| call[key].as_str().expect("text").to_owned();
            let (src, answered) = (text("src"), text("pod"));
            let mut line = |dst: &str, port: u64, nat: &str| {
                told.push(format!(
                    "{} {src}:{} {} > {dst}:{port} {answered} web {nat}",
                    text("id"),
                    call["sport"],
                    self.name(&src)
                ));
            };
            let backend = self.net.pods.iter().find(|pod| pod.name() == answered).expect("a pod");
            if text("dst") == "10.96.0.10" {
                line("10.96.0.10", 80, &backend.ip);
                line(&backend.ip, 8080, "10.96.0.10");
            } else {
                line(&text("dst"), 8080, "-");
            }
        }
        let rows = self.rows(
            "SELECT h.x_request_id, h.src_ip, h.src_port, h.src_pod, h.dst_ip, h.dst_port, h.dst_pod, \
             coalesce(h.dst_service, 'web') AS service, coalesce(f.dst_nat_ip, '-') AS nat \
             FROM http_all h JOIN flows_recorded f ON f.flow_id = h.flow_id WHERE h.path <> '/before'",
        );
        let seen: Vec<String> = rows
            .iter()
            .map(|row| {
                let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
                format!(
                    "{} {}:{} {} > {}:{} {} {} {}",
                    text("x_request_id"),
                    text("src_ip"),
                    row["src_port"],
                    text("src_pod"),
                    text("dst_ip"),
                    row["dst_port"],
                    text("dst_pod"),
                    text("service"),
                    text("nat")
                )
            })
            .collect();
        assert_same("calls", &told, &seen);
        let service = "SELECT count(*) AS n FROM http_all WHERE dst_ip = '10.96.0.10' AND dst_service IS DISTINCT FROM 'web'";
        assert_eq!(self.rows(service)[0]["n"], 0);
    }

    fn each_call_counts_once(&self) {
        let sql = "SELECT h.x_request_id AS id FROM api_calls a JOIN http h ON h.call_id = a.call_id \
                   WHERE h.path <> '/before'";
        let seen: Vec<String> =
            self.rows(sql).iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
        let told: Vec<String> =
            self.calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect();
        assert_same("counted", &told, &seen);
        let shown = self.rows("SELECT x_request_id AS id FROM http WHERE path <> '/before'");
        let shown: Vec<String> =
            shown.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
        assert_same("shown", &told, &shown);
    }

    fn processes_are_named(&self) {
        let rows = self.rows(
            "SELECT src_ip, dst_ip, dst_pod, src_pid, dst_pid, src_identity, dst_identity, src_container, dst_container, \
             src_process, dst_process, src_zone, dst_zone, is_cross_zone, dst_kind FROM flows_recorded WHERE proto = 'tcp'",
        );
        // A flow for each new connection and each old one; over the virtual address two.
        assert_eq!(rows.len(), 2 * (3 + 2) * (ROUNDS + 1), "{rows:?}");
        for row in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} of {row}")).to_owned();
            let (src, dst) = (self.name(&text("src_ip")), text("dst_pod"));
            for (pod, end) in [(src, "src"), (dst, "dst")] {
                let pod = self.net.pods.iter().find(|other| other.name() == pod).expect("a pod");
                let pid = self.pids.by_pod.iter().find(|(number, _)| *number == pod.number).expect("a pid").1;
                assert_eq!(row[format!("{end}_pid")], pid, "{end} of {row}");
                assert_eq!(text(&format!("{end}_identity")), "socket", "{row}");
                assert_eq!(text(&format!("{end}_container")), format!("{}-app", pod.workload()), "{row}");
                assert!(text(&format!("{end}_process")).starts_with("python3"), "{row}");
                assert_eq!(text(&format!("{end}_zone")), format!("zone-{}", pod.node), "{row}");
            }
            assert_eq!(row["is_cross_zone"], text("src_zone") != text("dst_zone"), "{row}");
            assert_eq!(text("dst_kind"), if text("dst_ip") == "10.96.0.10" { "service" } else { "pod" });
        }
    }

    /// Every direct conversation passed two interfaces, each side of a translation one.
    fn observations_are_kept(&self) {
        let rows = self.rows(
            "SELECT dst_nat_ip IS NULL AS direct, observations, count(*) AS n FROM flows_recorded WHERE proto = 'tcp' GROUP BY 1, 2",
        );
        let per_client = 3 * (ROUNDS + 1);
        for row in &rows {
            let (direct, n) = (row["direct"] == true, row["n"].as_u64().expect("a number") as usize);
            assert_eq!(row["observations"], if direct { 2 } else { 1 }, "{rows:?}");
            assert_eq!(n, if direct { 2 * per_client } else { 4 * (ROUNDS + 1) }, "{rows:?}");
        }
        let between = self.rows(
            "SELECT node, iface, vantage, count(*) AS n FROM flows_all \
             WHERE src_ip = '10.244.1.3' AND dst_ip = '10.244.2.2' AND dst_nat_ip IS NULL GROUP BY 1, 2, 3 ORDER BY 1",
        );
        let words: Vec<String> = between
            .iter()
            .map(|row| {
                format!("{} {} {} {}", row["node"], row["iface"], row["vantage"], row["n"]).replace('"', "")
            })
            .collect();
        let n = ROUNDS + 1;
        assert_eq!(words, [format!("node-1 veth2 client {n}"), format!("node-2 veth3 server {n}")]);
        let before = self.rows("SELECT DISTINCT vantage FROM flows WHERE dst_ip = '10.96.0.10'");
        assert!(before.len() == 1 && before[0]["vantage"] == "client", "{before:?}");
    }
}

struct PodPlace {
    number: u32,
    node: u32,
    ip: String,
    ip6: String,
    uid: String,
    container: String,
}

impl PodPlace {
    fn workload(&self) -> &'static str {
        if self.number % 2 == 1 { "web" } else { "caller" }
    }

    fn name(&self) -> String {
        format!("{}-{}", self.workload(), self.number)
    }
}

/// The testbed; gone when dropped.
struct Net {
    name: String,
    pods: Vec<PodPlace>,
}

impl Net {
    fn up() -> Option<Net> {
        if !Path::new("/sys/fs/cgroup/cgroup.procs").exists()
            && !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists()
        {
            eprintln!("skipped: no cgroup hierarchy of version 2");
            return None;
        }
        let mut net = Net { name: format!("v{}", std::process::id() % 1_000_000), pods: Vec::new() };
        let output = net.script(&["up"]).output().expect("it starts");
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(words.contains("ermi"), "{words}");
            eprintln!("skipped: {words}");
            return None;
        }
        for line in printed(&mut net.script(&["pods"])).lines() {
            let mut words = line.split(' ').map(str::to_owned);
            let mut next = || words.next().expect("a word");
            net.pods.push(PodPlace {
                number: next().parse().expect("a number"),
                node: next().parse().expect("a number"),
                ip: next(),
                ip6: next(),
                uid: next(),
                container: next(),
            });
        }
        Some(net)
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = within(60, format!("{FIXTURES}/make/two-nodes.sh"));
        command.args(arguments).env("NET", &self.name);
        command
    }

    fn pod(&self, number: u32) -> &PodPlace {
        self.pods.iter().find(|pod| pod.number == number).expect("a pod")
    }

    fn python(&self, pod: u32, program: &str, arguments: &[&str]) -> Program {
        let mut command = Command::new(format!("{FIXTURES}/make/two-nodes.sh"));
        command
            .env("NET", &self.name)
            .args(["run", &pod.to_string(), "python3", "-c", program])
            .args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Program { child, input, output: BufReader::new(output) }
    }

    fn record(&self, desk: &Desk, node: u32) -> Recorder {
        let ring = desk.at(&format!("ring-{node}"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}-n{node}", self.name)).arg(built("sharkrec"));
        command.arg("record").arg("--ring").arg(&ring).args(["--ring-size", "256MiB", "--cluster", "two"]);
        command.args(["--node", &format!("node-{node}")]);
        for pod in self.pods.iter().filter(|pod| pod.node == node) {
            command.args(["--iface", &format!("veth{}", pod.number)]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let recorder = Recorder { child: child.expect("it starts") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ring.join("control.sock").exists() {
            assert!(Instant::now() < deadline, "the recorder of node {node} is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        recorder
    }

    fn snapshot(&self, desk: &Desk, node: u32) -> PathBuf {
        let mut command = within(60, built("sharkrec"));
        command.args(["snapshot", "--since", "10m", "--ring"]).arg(desk.at(&format!("ring-{node}")));
        let url = printed(command.arg("--to").arg(desk.at("snapshots")));
        PathBuf::from(url.trim().trim_start_matches("file://"))
    }

    fn facts(&self) -> Vec<shark_schema::identity::Record> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        let ts_ns = now.as_nanos() as i64 - 60_000_000_000;
        let mut records = Vec::new();
        for node in [1, 2] {
            let node = NodeObject {
                uid: format!("node-{node}"),
                name: format!("node-{node}"),
                ips: vec![format!("172.31.0.{node}")],
                zone: Some(format!("zone-{node}")),
                ..NodeObject::default()
            };
            records.push(fact(ts_ns, Fact::Node(node)));
        }
        for place in &self.pods {
            let pod = facts::pod(&place.uid, &place.name(), place.workload(), &place.ip, &place.container);
            let ips = vec![place.ip.clone(), place.ip6.clone()];
            let node = Some(format!("node-{}", place.node));
            records.push(fact(ts_ns, Fact::Pod(Pod { ips, node, ..pod })));
        }
        let backends: Vec<(&str, u16)> =
            [1, 3].iter().map(|number| (self.pod(*number).ip.as_str(), 8080)).collect();
        records.extend(facts::service("web", "10.96.0.10", 80, "TCP", &backends).map(|of| fact(ts_ns, of)));
        records
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.script(&["down"]).output();
    }
}

struct Recorder {
    child: Child,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// A program in a pod that is told what to do over its standard input.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn told(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it listens");
    }

    fn hears(&mut self, wanted: &str) {
        assert!(self.until(wanted).is_empty());
    }

    /// What it says before it says this.
    fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("text") > 0, "it ended: {lines:?}");
            if line.trim() == wanted {
                return lines;
            }
            lines.push(line.trim().to_owned());
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
