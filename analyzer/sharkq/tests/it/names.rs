//! The ledger of names: pods that come, go, share, swap and redirect, with their own logs of what they opened and with whom. Each flow's
//! names are held against those logs, by proof: none may be wrong, and none may be missing but where the table says so.

mod heir;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use shark_schema::identity::{Container, Fact, Pod, Record};

use crate::desk::Desk;
use crate::identity_facts::{self as facts, fact};
use crate::names_agents::{Agent, Flow, Net};
use crate::names_verdicts::{Rows, SECOND_NS, Verdicts};
use crate::programs::built;

/// Connections and questions of the load, before the recorder is killed and after.
const CALLS: [usize; 2] = [8_000, 4_000];
const ASKS: [usize; 2] = [6_000, 3_000];
/// Of the smaller cases each.
const SOME: usize = 10;

#[test]
fn no_flow_has_a_wrong_name() {
    let Some(net) = Net::up() else { return };
    let desk = Desk::new();
    let ring = desk.at("ring");
    let mut ledger = Ledger { net: &net, desk: &desk, flows: Vec::new(), pods: Vec::new() };
    ledger.play(&ring);
    facts::write_as(&ring.join("log"), ["", "names", "witness"], &ledger.facts());
    ledger.judge(&ring);
    ledger.conflicts(&ring);
    coverage_of_names_says_what_is_missing(&desk, &ring);
}

/// A pod as the API server would tell of it.
struct Told {
    pod: Pod,
    records: Vec<Record>,
}

struct Ledger<'a> {
    net: &'a Net,
    desk: &'a Desk,
    flows: Vec<Flow>,
    pods: Vec<Told>,
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64
}

fn wait(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

fn ip(octet: u8) -> String {
    format!("10.244.1.{octet}")
}

impl Ledger<'_> {
    /// A pod with a network namespace and an address, of which the cluster is told.
    fn pod(&mut self, name: &str, octet: u8, containers: &[&str]) {
        self.net.script(&["pod", name, &octet.to_string()]);
        self.tell(name, Some(octet), containers);
    }

    fn tell(&mut self, name: &str, octet: Option<u8>, containers: &[&str]) {
        let ids = containers.iter().map(|container| (*container, self.net.ids(name, container)));
        let ids: Vec<(&str, (String, String))> = ids.collect();
        // The API server knows a static pod by the uid of its mirror.
        let uid = if name.starts_with("static-") { format!("mirror-of-{name}") } else { ids[0].1.0.clone() };
        let mut pod = facts::pod(&uid, name, name, "", "");
        pod.ips = octet.map(ip).into_iter().collect();
        pod.host_network = octet.is_none();
        pod.containers = ids
            .into_iter()
            .map(|(name, (_, id))| Container {
                name: name.into(),
                id: Some(format!("containerd://{id}")),
                ..Container::default()
            })
            .collect();
        let records = vec![fact(now_ns(), Fact::Pod(pod.clone()))];
        self.pods.push(Told { pod, records });
    }

    fn retell(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        let told = self.pods.iter_mut().rfind(|told| told.pod.name == name).expect("a pod");
        change(&mut told.pod);
        told.records.push(fact(now_ns(), Fact::Pod(told.pod.clone())));
    }

    fn facts(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.pods.iter().flat_map(|told| told.records.clone()).collect();
        records.sort_by_key(|record| record.ts_ns);
        records
    }

    fn agent(&self, space: &str, pod: &str, container: &str, octet: u8) -> Agent {
        self.net.agent(space, pod, container, &ip(octet))
    }

    /// A command of flows to somebody: the pod, and the container whose process answers.
    fn flows(&mut self, agent: &mut Agent, command: &str, to: (&str, Option<&str>)) {
        agent.told(command);
        let answer = agent.answer();
        self.take(agent, answer, to);
    }

    fn take(&mut self, agent: &Agent, answer: Value, to: (&str, Option<&str>)) {
        for flow in answer.as_array().expect("a list") {
            self.flows.push(Flow::new(flow, agent, to));
        }
    }

    fn play(&mut self, ring: &Path) {
        let [client, server] = [2, 3];
        self.pod("client", client, &["app"]);
        self.pod("server", server, &["app", "late"]);
        self.pod("dead", 4, &["app"]);
        let mut a = self.agent("client", "client", "app", client);
        let mut b = self.agent("server", "server", "app", server);
        let mut dead = self.agent("dead", "dead", "app", 4);
        b.does("serve 0.0.0.0 8080");
        b.does("names 0.0.0.0 53");
        let b_ip = ip(server);
        let upgraded = self.replaced_program();
        let recorder = Recorder::start(self.net, ring);

        // N1: an open connection and a listener, which are there when the recorder is killed.
        dead.does("serve 0.0.0.0 7000");
        self.flows(&mut dead, &format!("hold N1-held {b_ip} 8080"), ("server", Some("app")));
        // N5, N10: many connections on a small ring, questions from sockets without a peer.
        self.load(&mut a, &b_ip, 0);
        self.upgraded(upgraded, &mut a);
        self.shared_ports(&b_ip);
        self.two_addresses(&mut a);
        self.later_processes(&mut a, &b_ip);
        self.redirected(&mut a);
        self.static_pod(&mut a);
        self.orphan(&mut a, &b_ip);
        self.swapped(&mut a, &b_ip);
        self.terminating(&mut a);

        // What was captured last is not on the disk at once.
        wait(3_000);
        recorder.kill();
        drop(dead);
        self.net.script(&["gone", "dead"]);
        self.retell("dead", |pod| pod.deleted = true);
        self.pod("heir", 4, &["app"]);
        let mut heir = self.agent("heir", "heir", "app", 4);
        wait(500);
        let recorder = Recorder::start(self.net, ring);
        let to_b = ("server", Some("app"));
        self.flows(&mut heir, &format!("refused N1 {} 9 {SOME}", ip(client)), ("client", None));
        // Where the dead one listened nobody does.
        self.flows(&mut a, &format!("refused N1 {} 7000 {SOME}", ip(4)), ("heir", None));
        self.flows(&mut a, &format!("asks N1 {} 7001 2", ip(4)), ("heir", None));
        self.flows(&mut heir, &format!("calls N1 {b_ip} 8080 {SOME} fin"), to_b);
        self.load(&mut a, &b_ip, 1);
        wait(1_500);
        recorder.stop();
    }

    fn load(&mut self, a: &mut Agent, b_ip: &str, round: usize) {
        let to_b = ("server", Some("app"));
        self.flows(a, &format!("calls N5 {b_ip} 8080 {} fin", CALLS[round]), to_b);
        self.flows(a, &format!("calls N5-reset {b_ip} 8080 {} rst", CALLS[round] / 4), to_b);
        self.flows(a, &format!("asks N10 {b_ip} 53 {}", ASKS[round]), to_b);
    }

    /// N12: started through a link, and replaced before the recorder came.
    fn replaced_program(&mut self) -> Agent {
        self.pod("old", 24, &["app"]);
        let [program, link] = ["upgraded", "started"].map(|name| self.desk.at(name));
        let python = std::fs::canonicalize("/usr/bin/python3").expect("Python");
        std::fs::copy(python, &program).expect("a copy");
        std::os::unix::fs::symlink(&program, &link).expect("a link");
        let mut agent = self.net.agent_of(&link, "old", "old", "app", &ip(24));
        std::fs::remove_file(&program).expect("it is there");
        agent.does("serve 0.0.0.0 80");
        agent
    }

    fn upgraded(&mut self, upgraded: Agent, a: &mut Agent) {
        self.flows(a, &format!("calls N12 {} 80 {SOME} fin", ip(24)), ("old", Some("app")));
        drop(upgraded);
    }

    /// N3: two pods of one network ask from one port, one after the other.
    fn shared_ports(&mut self, b_ip: &str) {
        self.net.script(&["pod", "shared", "20"]);
        let mut askers = ["host-one", "host-two"].map(|name| {
            self.tell(name, None, &["app"]);
            self.agent("shared", name, "app", 20)
        });
        // As a node has it, the network has connections of its own.
        self.flows(&mut askers[0], &format!("hold N3 {b_ip} 8080"), ("server", Some("app")));
        for port in 0..SOME {
            for asker in &mut askers {
                self.flows(asker, &format!("asks N3 {b_ip} 53 1 {}", 5_300 + port), ("server", Some("app")));
                wait(if port == 0 { 700 } else { 60 });
            }
        }
        for port in 0..2 * SOME {
            for asker in &mut askers {
                let command = format!("asks N3-at-once {b_ip} 53 1 {}", 5_400 + port);
                self.flows(asker, &command, ("server", Some("app")));
            }
        }
        // N4, of two pods: each listens on an address of its own.
        let [one, two] = &mut askers;
        one.does("serve 10.244.1.20 9000");
        two.does("serve 127.0.0.1 9000");
        let mut client = self.agent("client", "client", "app", 2);
        self.flows(&mut client, &format!("calls N4 {} 9000 {SOME} rst", ip(20)), ("host-one", Some("app")));
    }

    /// N4, of two containers of a pod.
    fn two_addresses(&mut self, a: &mut Agent) {
        self.pod("proxied", 21, &["proxy", "app"]);
        let mut proxy = self.agent("proxied", "proxied", "proxy", 21);
        let mut app = self.agent("proxied", "proxied", "app", 21);
        proxy.does("serve 10.244.1.21 8443");
        app.does("serve 127.0.0.1 8443");
        for end in ["rst", "fin"] {
            let command = format!("calls N4 {} 8443 {SOME} {end}", ip(21));
            self.flows(a, &command, ("proxied", Some("proxy")));
        }
    }

    /// N7: asked before they are there, from the ports that ask them again.
    fn later_processes(&mut self, a: &mut Agent, b_ip: &str) {
        self.flows(a, &format!("refused N7 {b_ip} 7777 1 45001"), ("server", None));
        self.flows(a, &format!("asks N7 {b_ip} 7778 1 45002"), ("server", None));
        wait(2_000);
        let mut late = self.agent("server", "server", "late", 3);
        late.does("serve 0.0.0.0 7777");
        late.does("names 0.0.0.0 7778");
        self.flows(a, &format!("calls N7-later {b_ip} 7777 1 fin 45001"), ("server", Some("late")));
        self.flows(a, &format!("asks N7-later {b_ip} 7778 1 45003"), ("server", Some("late")));
    }

    /// N8: what comes to the application goes to its sidecar.
    fn redirected(&mut self, a: &mut Agent) {
        self.pod("meshed", 22, &["app", "sidecar"]);
        let mut app = self.agent("meshed", "meshed", "app", 22);
        let mut sidecar = self.agent("meshed", "meshed", "sidecar", 22);
        sidecar.does("serve 0.0.0.0 15006");
        app.does("serve 0.0.0.0 8080");
        self.net.script(&["redirect", "meshed", "8080", "15006"]);
        for end in ["rst", "fin"] {
            let command = format!("calls N8 {} 8080 {SOME} {end}", ip(22));
            self.flows(a, &command, ("meshed", Some("sidecar")));
        }
    }

    /// N9: the cgroups of a static pod.
    fn static_pod(&mut self, a: &mut Agent) {
        self.pod("static-etcd", 23, &["etcd"]);
        let mut etcd = self.agent("static-etcd", "static-etcd", "etcd", 23);
        etcd.does("serve 0.0.0.0 2379");
        self.flows(a, &format!("calls N9 {} 2379 {SOME} fin", ip(23)), ("static-etcd", Some("etcd")));
        let command = format!("refused N9 {} 9 {SOME}", ip(2));
        self.flows(&mut etcd, &command, ("client", None));
    }

    /// N2: a pod dies and leaves a connection that nobody ends; another has its address a second later.
    fn orphan(&mut self, a: &mut Agent, b_ip: &str) {
        self.pod("orphaned", 12, &["app"]);
        let mut agent = self.agent("orphaned", "orphaned", "app", 12);
        self.flows(&mut agent, &format!("hold N2 {b_ip} 8080"), ("server", Some("app")));
        self.net.script(&["cut", "orphaned"]);
        agent.does("orphan");
        drop(agent);
        self.net.script(&["gone", "orphaned"]);
        self.retell("orphaned", |pod| pod.deleted = true);
        wait(1_000);
        self.pod("adopter", 12, &["app"]);
        let mut adopter = self.agent("adopter", "adopter", "app", 12);
        self.flows(a, &format!("refused N2 {} 7000 {SOME}", ip(12)), ("adopter", None));
        self.flows(a, &format!("asks N2 {} 7001 2", ip(12)), ("adopter", None));
        self.flows(&mut adopter, &format!("refused N2 {} 9 {SOME}", ip(2)), ("client", None));
        self.flows(&mut adopter, &format!("calls N2 {b_ip} 8080 {SOME} fin"), ("server", Some("app")));
    }

    /// N2: two pods swap their addresses, and an old connection of one of them stays.
    fn swapped(&mut self, a: &mut Agent, b_ip: &str) {
        self.pod("left", 10, &["app"]);
        self.pod("right", 11, &["app"]);
        let mut left = self.agent("left", "left", "app", 10);
        let mut right = self.agent("right", "right", "app", 11);
        self.flows(&mut left, &format!("hold N2 {b_ip} 8080"), ("server", Some("app")));
        self.net.script(&["swap", "left", "10", "right", "11"]);
        self.retell("left", |pod| pod.ips = vec![ip(11)]);
        self.retell("right", |pod| pod.ips = vec![ip(10)]);
        left.does(&format!("moved {}", ip(11)));
        right.does(&format!("moved {}", ip(10)));
        self.flows(a, &format!("refused N2-swapped {} 7000 {SOME}", ip(10)), ("right", None));
        self.flows(a, &format!("asks N2-swapped {} 7001 2", ip(11)), ("left", None));
        for (agent, name) in [(&mut left, "left"), (&mut right, "right")] {
            self.flows(agent, &format!("calls N2 {b_ip} 8080 {SOME} fin"), ("server", Some("app")));
            self.flows(agent, &format!("refused N2-swapped {} 9 {SOME}", ip(2)), ("client", None));
            assert!(self.flows.iter().any(|flow| flow.pod[0] == name));
        }
    }

    fn judge(&self, ring: &Path) {
        let mut verdicts = Verdicts::default();
        let ends = "src_ip, dst_ip, src_port, dst_port, CAST(ts AS BIGINT) AS ns, src_pod, dst_pod";
        let flows = format!(
            "SELECT proto, {ends}, src_container, dst_container, src_identity, dst_identity, src_pid, dst_pid, \
             CAST(end_ts AS BIGINT) AS end_ns FROM flows"
        );
        let rows = Rows::new(self.desk.rows(ring, &flows));
        for flow in &self.flows {
            match rows.of(flow) {
                Some(row) => verdicts.judge(flow, row, flow.case.as_str()),
                None => verdicts.absent.push(format!("{flow:?}")),
            }
        }
        // Calls in datagrams are of their own time.
        let dns = format!(
            "SELECT 'udp' AS proto, {ends}, 'of a call' AS src_identity, 'of a call' AS dst_identity, \
             CAST(ts AS BIGINT) AS end_ns FROM dns"
        );
        let rows = Rows::new(self.desk.rows(ring, &dns));
        for flow in self.flows.iter().filter(|flow| flow.is_answered_question()) {
            match rows.of(flow) {
                Some(row) => verdicts.judge(flow, row, "a call"),
                None => verdicts.absent.push(format!("call {flow:?}")),
            }
        }
        verdicts.print(self.flows.len());
        assert!(self.flows.len() >= 20_000, "only {} flows", self.flows.len());
        assert!(
            verdicts.wrong.is_empty(),
            "{} wrong: {:#?}",
            verdicts.wrong.len(),
            verdicts.first_of(&verdicts.wrong)
        );
        assert!(
            verdicts.null.is_empty(),
            "{} NULL: {:#?}",
            verdicts.null.len(),
            verdicts.first_of(&verdicts.null)
        );
        assert!(
            verdicts.absent.is_empty(),
            "{} without a row: {:#?}",
            verdicts.absent.len(),
            verdicts.first_of(&verdicts.absent)
        );
        let upgraded =
            "SELECT DISTINCT dst_process || ' ' || dst_comm AS name FROM flows WHERE dst_ip = '10.244.1.24'";
        assert_eq!(self.desk.value(ring, upgraded), "upgraded started");
    }
}

/// Of the time of all packets there is a log, but for what the killed recorder wrote after its last word.
fn coverage_of_names_says_what_is_missing(desk: &Desk, ring: &Path) {
    let missing = "SELECT coalesce(sum(CAST(to_ts AS BIGINT) - CAST(from_ts AS BIGINT)), 0) FROM name_coverage \
                   WHERE feature IN ('sockets', 'processes') AND state <> 'ok'";
    let missing = desk.value(ring, missing).as_i64().expect("a number");
    assert!(missing < 25 * SECOND_NS, "{missing} ns");
    let strict = |ring: &Path, sql: &str| {
        let output =
            desk.sharkq().arg("sql").arg(ring).args(["--strict", "-c", sql]).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // The log of sockets is gone: who asks for names is told, who does not is not.
    let bare = desk.at("bare");
    let copied = Command::new("cp").arg("-r").arg(ring).arg(&bare).status().expect("cp starts");
    assert!(copied.success());
    for entry in std::fs::read_dir(bare.join("log")).expect("a log").flatten() {
        if entry.file_name().to_string_lossy().contains(".sockets.") {
            std::fs::remove_file(entry.path()).expect("it is there");
        }
    }
    let (code, error) = strict(&bare, "SELECT src_pod, count(*) FROM flows GROUP BY 1");
    assert_eq!(code, Some(4), "{error}");
    assert!(error.contains(", names, sockets missing "), "{error}");
    let (_, error) = strict(&bare, "SELECT count(*) FROM flows");
    assert!(!error.contains(", names, "), "{error}");
}

struct Recorder {
    child: Child,
}

impl Recorder {
    fn start(net: &Net, ring: &Path) -> Recorder {
        let _ = std::fs::remove_file(ring.join("control.sock"));
        let mut command = net.at_node(&built("sharkrec"));
        command.arg("record").arg("--ring").arg(ring).args(["--ring-size", "256MiB", "--cluster", "names"]);
        command.args(["--node", "node-1", "--iface", "ve*"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let recorder = Recorder { child: child.expect("it starts") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ring.join("control.sock").exists() {
            assert!(Instant::now() < deadline, "the recorder is not ready");
            wait(20);
        }
        wait(500);
        recorder
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    fn stop(mut self) {
        let signalled = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill starts");
        assert!(signalled.success());
        self.child.wait().expect("it ends");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
