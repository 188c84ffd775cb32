//! The shop as its cluster told of it: a real API server, and a witness that watched it, while three generations of pods came, moved,
//! ended and took over each other's addresses. During the third nobody could watch. The shop's own ledgers are the truth.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shark_fixtures::kube::{Server, merge};

use crate::desk::Desk;
use crate::identity::{ENDS, Shop, without_witness};
use crate::programs::{READY, built, finished, folder, is_permitted, printed, within};
use crate::same::assert_same;

/// In the plans of these seeds, each run's pods have addresses that other pods of the run before had.
const GENERATIONS: [u64; 3] = [311, 218, 239];
const BLIND: Duration = Duration::from_secs(60);

#[test]
fn every_end_is_whose_the_cluster_said_it_was() {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let net = Net::new();
    let Some(server) = Server::start(&net.0, desk.folder(), &["--watch-cache=false"]) else { return };
    let mut cluster = Cluster { desk: &desk, server, sets: BTreeMap::new() };
    cluster.make_owners();
    let witness = Witness::start(&net, &desk, &cluster.server.kubeconfig("admintoken"));
    witness.told("\"kube_pods\",\"on\":true");

    let first = cluster.play(GENERATIONS[0], Some(&witness));
    // One completes, and keeps its address in its status; the others are gone.
    cluster.complete(&first[4]);
    cluster.delete(first.iter().filter(|pod| pod["role"] != "ingress"));
    let second = cluster.play(GENERATIONS[1], Some(&witness));
    cluster.mark(&witness);
    cluster.server.start_second();
    cluster.server.down();
    let blind = Instant::now();
    cluster.delete(&second);
    let third = cluster.play(GENERATIONS[2], None);
    cluster.server.compact();
    thread::sleep(BLIND.saturating_sub(blind.elapsed()));
    cluster.server.up();
    witness.told_of(&third);
    witness.watches();
    witness.stop();

    let mut snapshot = within(60, built("sharkrec"));
    snapshot.args(["snapshot", "--since", "10m", "--ring"]).arg(desk.at("ring"));
    snapshot.arg("--to").arg(desk.at("snapshots")).arg("--witness").arg(desk.at("witness"));
    let url = printed(&mut snapshot);
    let snapshot = PathBuf::from(url.trim().trim_start_matches("file://"));
    let shops: Vec<Shop> =
        GENERATIONS.iter().map(|seed| Shop::read(&desk.at(&format!("ledger-{seed}.ndjson")))).collect();
    addresses_were_reused(&shops);
    ends_are_the_ledgers(&desk, &snapshot, &shops);
    objects_are_rows(&desk, &snapshot);
    the_gap_is_recorded(&desk, &snapshot);
    addresses_alone_name_nobody_wrongly(&desk, &snapshot, &shops);
}

/// A network namespace of its own for the API server and its witness.
struct Net(String);

impl Net {
    fn new() -> Net {
        let name = format!("sq{}-api", std::process::id());
        finished(within(10, "ip").args(["netns", "add", &name]));
        finished(within(10, "ip").args(["-n", &name, "link", "set", "lo", "up"]));
        Net(name)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = within(10, "ip").args(["netns", "del", &self.0]).status();
    }
}

struct Witness {
    child: Child,
    log: PathBuf,
}

impl Witness {
    fn start(net: &Net, desk: &Desk, kubeconfig: &Path) -> Witness {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", net.0)).arg(built("sharkrec"));
        command.args(["witness", "--cluster", "test", "--ring"]).arg(desk.at("witness"));
        command.arg("--kubeconfig").arg(kubeconfig).stdin(Stdio::null()).stderr(Stdio::null());
        Witness { child: command.spawn().expect("it starts"), log: desk.at("witness/log") }
    }

    /// Waits until its log has a text.
    fn told(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(90);
        while !log_text(&self.log).contains(text) {
            assert!(Instant::now() < end, "the witness never said {text}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until it watches everything again.
    fn watches(&self) {
        let end = Instant::now() + Duration::from_secs(90);
        for what in ["pods", "services", "endpointslices", "nodes"] {
            let last = |on: bool, log: &str| log.rfind(&format!("\"kube_{what}\",\"on\":{on}"));
            let is_on = |log: String| last(true, &log) > last(false, &log);
            while !is_on(log_text(&self.log)) {
                assert!(Instant::now() < end, "the witness never watched {what} again");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Waits until it has told of running pods and of what leads to them.
    fn told_of(&self, pods: &[Value]) {
        pods.iter().for_each(|pod| self.told(text(pod, "container_id")));
        pods.iter().filter_map(slice_of).for_each(|slice| self.told(&slice));
    }

    fn stop(mut self) {
        finished(within(5, "sh").args(["-c", &format!("kill -TERM {}", self.child.id())]));
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All facts so far; an open file ends in the middle of its frame.
fn log_text(log: &Path) -> String {
    let entries = std::fs::read_dir(log).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let mut text = Vec::new();
    for file in files {
        if let Ok(Ok(mut file)) = File::open(file).map(zstd::Decoder::new) {
            let _ = file.read_to_end(&mut text);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What a cluster's controllers and kubelets would do.
struct Cluster<'a> {
    desk: &'a Desk,
    server: Server,
    /// Uids of the ReplicaSets, by workload.
    sets: BTreeMap<&'static str, String>,
}

const NODE: &str = "n1";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1beta1/namespaces/shop/endpointslices";
const SERVICES: [(&str, &str, u16); 4] = [
    ("coredns", "10.96.0.10", 53),
    ("cart", "10.96.0.20", 8080),
    ("payment", "10.96.0.30", 8080),
    ("front", "10.96.0.40", 8080),
];

impl Cluster<'_> {
    fn make_owners(&mut self) {
        self.server.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } }));
        let labels = json!({ "topology.kubernetes.io/zone": "z1" });
        self.server.create("/api/v1/nodes", &json!({ "metadata": { "name": NODE, "labels": labels } }));
        self.server.create("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", &json!({
            "metadata": { "name": "only-shop" }, "spec": { "podSelector": { "matchLabels": { "app": "cart" } },
                "policyTypes": ["Ingress"], "ingress": [{ "from": [{ "podSelector": {} }] }] } }));
        for (name, ip, port) in SERVICES {
            self.server.create("/api/v1/namespaces/shop/services", &json!({
                "metadata": { "name": name },
                "spec": { "clusterIP": ip, "selector": { "app": name }, "ports": [{ "port": port, "protocol": protocol(port) }] },
            }));
            let template = json!({ "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "shop/app:1" }] } });
            let set = self.server.create("/apis/apps/v1/namespaces/shop/replicasets", &json!({
                "metadata": { "name": format!("{name}-5d"), "ownerReferences": [owner("Deployment", name, &format!("d-{name}"))] },
                "spec": { "replicas": 0, "selector": { "matchLabels": { "app": name } }, "template": template },
            }));
            self.sets.insert(name, text(&set["metadata"], "uid").to_owned());
        }
    }

    /// A generation of pods: created, started, asked and recorded. Gives them with the uids that they got.
    fn play(&self, seed: u64, watched: Option<&Witness>) -> Vec<Value> {
        let told = printed(within(10, built("shark-shop")).args(["pods", "--seed", &seed.to_string()]));
        let pods = told.lines().map(|line| serde_json::from_str::<Value>(line).expect("a pod"));
        let mut pods: Vec<Value> = pods.filter(|pod| pod["role"] != "external").collect();
        pods.iter_mut().for_each(|pod| pod["uid"] = json!(self.start(pod)));
        pods.iter().for_each(|pod| self.lead_to(pod));
        if let Some(witness) = watched {
            witness.told_of(&pods);
        }
        let uids: serde_json::Map<String, Value> =
            pods.iter().map(|pod| (text(pod, "name").to_owned(), pod["uid"].clone())).collect();
        let file = self.desk.at("uids.json");
        std::fs::write(&file, Value::Object(uids).to_string()).expect("it is written");
        self.record(seed, &file);
        pods
    }

    fn start(&self, pod: &Value) -> String {
        let workload = text(pod, "workload");
        let owner = match text(pod, "workload_kind") {
            "DaemonSet" => owner("DaemonSet", workload, "s-1"),
            _ => owner("ReplicaSet", &format!("{workload}-5d"), &self.sets[workload]),
        };
        let made = self.server.create(PODS, &json!({
            "metadata": { "name": pod["name"], "labels": { "app": workload }, "ownerReferences": [owner] },
            "spec": { "nodeName": NODE, "containers": [{ "name": format!("{workload}-app"), "image": "shop/app:1" }] },
        }));
        let mut status = status(pod, json!({ "running": {} }));
        merge(
            &mut status,
            &json!({ "status": { "phase": "Running", "podIP": pod["ip"], "podIPs": [{ "ip": pod["ip"] }],
            "startTime": now() } }),
        );
        self.server.patch(&format!("{PODS}/{}/status", text(pod, "name")), &status);
        text(&made["metadata"], "uid").to_owned()
    }

    /// The slice of a pod's service has that pod alone.
    fn lead_to(&self, pod: &Value) {
        let Some(name) = slice_of(pod) else { return };
        let slice = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": pod["workload"] } },
            "addressType": "IPv4", "ports": [{ "port": pod["port"], "protocol": protocol(pod["port"].as_u64().expect("a port") as u16) }],
            "endpoints": [{ "addresses": [pod["ip"]], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": pod["name"], "namespace": "shop", "uid": pod["uid"] } }] });
        self.server.create(SLICES, &slice);
    }

    fn record(&self, seed: u64, uids: &Path) {
        let record = format!(
            "\"$BIN/sharkrec\" record --cluster test --node {NODE} --ring \"$DESK/ring\" --ring-size 1GiB $(printf -- '--iface %s ' $SHOP_IFACES)"
        );
        let mut shop = within(120, built("shark-shop"));
        shop.args([
            "run",
            "--seed",
            &seed.to_string(),
            "--services",
            "dnat",
            "--record",
            &record,
            "--ready",
            READY,
        ]);
        shop.arg("--ledger").arg(self.desk.at(&format!("ledger-{seed}.ndjson")));
        shop.arg("--uids").arg(uids).arg("--state").arg(self.desk.folder());
        finished(shop.env("BIN", folder()).env("DESK", self.desk.folder()));
    }

    /// Objects of no traffic: once the witness has told of them, it is known to have watched until now.
    fn mark(&self, witness: &Witness) {
        self.server.create("/api/v1/namespaces", &json!({ "metadata": { "name": "marks" } }));
        let at = |group: &str, plural: &str| format!("{group}/namespaces/marks/{plural}");
        self.server.create("/api/v1/nodes", &json!({ "metadata": { "name": "mark-node" } }));
        self.server.create(
            &at("/api/v1", "pods"),
            &json!({ "metadata": { "name": "mark-pod" },
            "spec": { "containers": [{ "name": "main", "image": "shop/app:1" }] } }),
        );
        self.server.create(
            &at("/api/v1", "services"),
            &json!({ "metadata": { "name": "mark-service" },
            "spec": { "clusterIP": "10.96.0.99", "ports": [{ "port": 9, "protocol": "TCP" }] } }),
        );
        self.server.create(
            &at("/apis/discovery.k8s.io/v1beta1", "endpointslices"),
            &json!({
            "metadata": { "name": "mark", "labels": { "kubernetes.io/service-name": "mark-slice" } },
            "addressType": "IPv4", "ports": [], "endpoints": [] }),
        );
        ["node", "pod", "service", "slice"].iter().for_each(|what| witness.told(&format!("\"mark-{what}\"")));
    }

    fn complete(&self, pod: &Value) {
        self.server.create("/api/v1/namespaces/shop/events", &json!({
            "metadata": { "name": "done.1" }, "type": "Normal", "reason": "Completed", "message": "it is done", "count": 1,
            "involvedObject": { "kind": "Pod", "namespace": "shop", "name": pod["name"], "uid": pod["uid"] },
            "source": { "component": "kubelet" }, "firstTimestamp": now(), "lastTimestamp": now() }));
        let terminated = json!({ "terminated": { "exitCode": 0, "finishedAt": now() } });
        let mut status = status(pod, terminated);
        merge(&mut status, &json!({ "status": { "phase": "Succeeded" } }));
        self.server.patch(&format!("{PODS}/{}/status", text(pod, "name")), &status);
    }

    fn delete<'a>(&self, pods: impl IntoIterator<Item = &'a Value>) {
        for pod in pods {
            self.server.delete(&format!("{PODS}/{}", text(pod, "name")));
            if let Some(slice) = slice_of(pod) {
                self.server.delete(&format!("{SLICES}/{slice}"));
            }
        }
    }
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true })
}

/// Name of the slice that leads to a pod; of those that offer a service.
fn slice_of(pod: &Value) -> Option<String> {
    pod["service_ip"].as_str()?;
    Some(format!("{}-{}", text(pod, "workload"), text(pod, "ip").replace('.', "-")))
}

fn protocol(port: u16) -> &'static str {
    if port == 53 { "UDP" } else { "TCP" }
}

fn status(pod: &Value, state: Value) -> Value {
    json!({ "status": { "containerStatuses": [{
        "name": format!("{}-app", text(pod, "workload")), "ready": true, "restartCount": 0, "image": "shop/app:1",
        "imageID": "shop/app@sha256:0f", "containerID": format!("containerd://{}", text(pod, "container_id")), "state": state }] } })
}

fn now() -> String {
    printed(within(5, "date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).trim().to_owned()
}

/// Addresses that one pod had after another, of another workload.
fn addresses_were_reused(shops: &[Shop]) {
    let owners = |shop: &Shop| -> BTreeMap<String, String> {
        let pair = |pod: &Value| (text(pod, "ip").to_owned(), text(pod, "workload").to_owned());
        shop.pods.iter().map(pair).collect()
    };
    for pair in shops.windows(2) {
        let (before, after) = (owners(&pair[0]), owners(&pair[1]));
        let reused = after.iter().filter(|(ip, of)| before.get(*ip).is_some_and(|old| old != *of)).count();
        assert!(reused >= 2, "{reused} addresses were taken over");
    }
}

/// The generation of a time.
fn shop_at(shops: &[Shop], ns: i64) -> &Shop {
    shops.iter().rfind(|shop| shop.began_ns() <= ns).unwrap_or(&shops[0])
}

fn ends_are_the_ledgers(desk: &Desk, snapshot: &Path, shops: &[Shop]) {
    let rows = desk.rows(snapshot, ENDS);
    assert!(rows.len() > 1_000, "only {} flows", rows.len());
    let lines = rows.iter().map(|row| shop_at(shops, row["ns"].as_i64().expect("a time")).lines(row));
    let (told, seen): (Vec<String>, Vec<String>) = lines.unzip();
    assert_same("ends", &told, &seen);
}

/// Each object that was made is in the table of its kind.
fn objects_are_rows(desk: &Desk, snapshot: &Path) {
    let count = |sql: &str| desk.value(snapshot, sql).as_i64().expect("a number");
    assert_eq!(count("SELECT count(DISTINCT name) FROM pods WHERE namespace = 'shop'"), 3 * 5);
    let pods = "SELECT count(*) FROM pods WHERE workload_kind = 'DaemonSet' AND workload = 'ingress' AND node = 'n1'";
    assert!(count(pods) >= 3);
    let services =
        desk.rows(snapshot, "SELECT DISTINCT name FROM services WHERE namespace = 'shop' ORDER BY name");
    let names: Vec<&str> = services.iter().map(|row| text(row, "name")).collect();
    assert_eq!(names, ["cart", "coredns", "front", "payment"]);
    assert_eq!(count("SELECT count(DISTINCT name) FROM nodes WHERE name = 'n1' AND zone = 'z1'"), 1);
    let labelled = |op: &str| {
        let of = |end: &str| format!("({end}_pod IS NOT NULL AND {end}_labels['app'] {op} {end}_workload)");
        count(&format!("SELECT count(*) FROM flows WHERE {} OR {}", of("src"), of("dst")))
    };
    assert_eq!(labelled("IS DISTINCT FROM"), 0);
    assert!(labelled("=") > 1_000);
    let event = "SELECT count(*) FROM k8s_events WHERE reason = 'Completed' AND kind = 'Pod' AND name LIKE 'ingress-%'";
    assert_eq!(count(event), 1);
    assert_eq!(
        count(
            "SELECT count(DISTINCT name) FROM network_policies WHERE name = 'only-shop' AND subject_workload = 'cart'"
        ),
        1
    );
}

/// Nobody could tell what changed meanwhile, and both sides of that time are in the log.
fn the_gap_is_recorded(desk: &Desk, snapshot: &Path) {
    let witnessed = log_text(&snapshot.join("cluster/log"));
    assert!(witnessed.contains("\"name\":\"kube_pods\",\"on\":false"), "{witnessed}");
    assert!(witnessed.contains("\"after_ns\""), "{witnessed}");
    // Between the generations nobody recorded, but what was recorded is whole.
    let states = "SELECT count(*) FROM coverage WHERE state NOT IN ('ok', 'recorder_restart')";
    assert_eq!(desk.value(snapshot, states), 0);
    assert_eq!(desk.value(snapshot, "SELECT sum(dropped) FROM coverage"), 0);
}

/// Without what the recorder saw of sockets and cgroups the cluster's own word is all there is.
fn addresses_alone_name_nobody_wrongly(desk: &Desk, snapshot: &Path, shops: &[Shop]) {
    let bare = without_witness(desk, &desk.at("ring"));
    for entry in std::fs::read_dir(snapshot.join("cluster/log")).expect("the witness's log").flatten() {
        std::fs::copy(entry.path(), bare.join("log").join(entry.file_name())).expect("a copy");
    }
    let mut named = [0; 3];
    for row in desk.rows(&bare, "SELECT CAST(ts AS BIGINT) AS ns, * FROM flows WHERE proto IN ('tcp', 'udp')")
    {
        let ns = row["ns"].as_i64().expect("a time");
        let generation = shops.iter().rposition(|shop| shop.began_ns() <= ns).unwrap_or(0);
        for end in ["src", "dst"] {
            let Some(pod) = row[format!("{end}_pod")].as_str() else { continue };
            let told = shops[generation].pod_of(text(&row, &format!("{end}_ip"))).expect("a pod");
            assert_eq!(pod, text(told, "name"), "{end} of {row}");
            named[generation] += 1;
        }
    }
    assert!(named.iter().all(|count| *count > 100), "{named:?}");
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} in {of}"))
}
