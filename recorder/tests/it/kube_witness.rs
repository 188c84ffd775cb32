//! `sharkrec witness`: everything of a cluster that names an endpoint, whatever its size, its rights and its restarts.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shark_fixtures::kube::{Server, WATCHED};
use shark_schema::identity::{Fact, Record};

use crate::kube::{feature, log_now, pod, status, story, until};
use crate::net::Net;
use crate::process::{PROGRAM, sharkrec_ok};
use crate::reading::facts;

pub const ADDRESS: &str = "127.0.0.1:7778";

/// A witness in the namespace of the API server; killed when dropped.
pub struct Witness {
    child: Child,
}

pub fn within(net: &Net) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", net.receiver)).arg(PROGRAM);
    command
}

impl Witness {
    pub fn start(net: &Net, ring: &Path, kubeconfig: &Path) -> Witness {
        let mut command = within(net);
        command.args(["witness", "--cluster", "test", "--listen", ADDRESS, "--ring"]).arg(ring);
        command.arg("--kubeconfig").arg(kubeconfig).stderr(Stdio::null());
        let _ = fs::remove_file(ring.join("control.sock"));
        let witness = Witness { child: command.spawn().expect("it starts") };
        let end = Instant::now() + Duration::from_secs(10);
        while !ring.join("control.sock").exists() {
            assert!(Instant::now() < end, "the witness did not start");
            thread::sleep(Duration::from_millis(10));
        }
        witness
    }

    pub fn stop(mut self) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn on(log: &Path, what: &str) {
    until(log, what, |record| feature(record, &format!("kube_{what}"), true).is_some());
}

/// One workload of every kind, with a pod each.
fn make_workloads(server: &Server) {
    let owned = |kind: &str, name: &str, uid: &Value| {
        json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true }] } })
    };
    let template = json!({ "metadata": { "labels": { "app": "x" } },
        "spec": { "restartPolicy": "Always", "containers": [{ "name": "main", "image": "shop/app:1" }] } });
    let mut set = json!({ "metadata": { "name": "cart-7d4b" }, "spec": { "replicas": 0,
        "selector": { "matchLabels": { "app": "x" } }, "template": template } });
    shark_fixtures::kube::merge(&mut set, &owned("Deployment", "cart", &json!("d-1")));
    let set = server.create("/apis/apps/v1/namespaces/default/replicasets", &set);
    let mut job = json!({ "metadata": { "name": "bill-42" }, "spec": { "template": template } });
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    shark_fixtures::kube::merge(&mut job, &owned("CronJob", "bill", &json!("c-1")));
    let job = server.create("/apis/batch/v1/namespaces/default/jobs", &job);
    server.pod("cart-7d4b-x", "n1", &owned("ReplicaSet", "cart-7d4b", &set["metadata"]["uid"]));
    server.pod("bill-42-x", "n1", &owned("Job", "bill-42", &job["metadata"]["uid"]));
    server.pod("db-0", "n1", &owned("StatefulSet", "db", &json!("s-1")));
    server.pod("agent-x", "n2", &owned("DaemonSet", "agent", &json!("a-1")));
    server.pod("proxy-n1", "n1", &owned("Node", "n1", &json!("n-1")));
    server.pod("alone", "n2", &Value::Null);
}

fn make_rest(server: &Server) {
    server.create(
        "/api/v1/namespaces",
        &json!({ "metadata": { "name": "shop", "labels": { "team": "red" } } }),
    );
    server.create("/api/v1/nodes", &json!({ "metadata": { "name": "n1", "labels": {
        "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1",
        "node.kubernetes.io/instance-type": "m5" } }, "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"] } }));
    server.patch("/api/v1/nodes/n1/status", &json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": "172.31.0.1" }, { "type": "Hostname", "address": "n1" }] } }));
    server.create(
        "/api/v1/namespaces/shop/services",
        &json!({ "metadata": { "name": "cart" }, "spec": {
        "clusterIP": "10.96.0.10", "selector": { "app": "cart" },
        "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] } }),
    );
    server.create("/apis/discovery.k8s.io/v1beta1/namespaces/shop/endpointslices", &json!({
        "metadata": { "name": "cart-1", "labels": { "kubernetes.io/service-name": "cart" } }, "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": ["10.244.1.2"], "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": "cart-7d4b-x", "namespace": "shop" },
            "topology": { "kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "z1" } }] }));
    server.create(
        "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies",
        &json!({
        "metadata": { "name": "deny" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } }),
    );
    server.create(
        "/api/v1/namespaces/shop/events",
        &json!({ "metadata": { "name": "cart.1" },
        "involvedObject": { "kind": "Pod", "name": "cart-7d4b-x", "namespace": "shop", "uid": "p-1" },
        "reason": "BackOff", "message": "restarting failed container", "type": "Warning", "count": 3,
        "source": { "component": "kubelet" }, "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:06Z" }),
    );
}

#[test]
fn everything_that_names_an_endpoint_is_witnessed_and_a_restart_misses_nothing() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    make_workloads(&server);
    make_rest(&server);
    let (ring, log) = (dir.path().join("witness"), dir.path().join("witness/log"));
    let kubeconfig = server.kubeconfig("admintoken");
    let witness = Witness::start(&net, &ring, &kubeconfig);
    for what in WATCHED {
        on(&log, what);
    }
    let records = log_now(&log);
    let mut owners: Vec<String> = records
        .iter()
        .filter_map(pod)
        .map(|pod| {
            let chain: Vec<String> = pod.owners.iter().map(|of| format!("{} {}", of.kind, of.name)).collect();
            format!("{}: {}", pod.name, chain.join(" < "))
        })
        .collect();
    owners.sort();
    // Each pod is told once: what owns it was known before.
    assert_eq!(
        owners,
        [
            "agent-x: DaemonSet agent",
            "alone: ",
            "bill-42-x: Job bill-42 < CronJob bill",
            "cart-7d4b-x: ReplicaSet cart-7d4b < Deployment cart",
            "db-0: StatefulSet db",
            "proxy-n1: Node n1",
        ]
    );
    others_are_told(&records);
    // An event that is counted again is told again, one that is only touched is not.
    let event = "/api/v1/namespaces/shop/events/cart.1";
    server.patch(event, &json!({ "metadata": { "labels": { "x": "y" } } }));
    server.patch(event, &json!({ "count": 4, "lastTimestamp": "2026-01-02T03:05:06Z" }));
    until(&log, "counted", |record| matches!(&record.fact, Fact::Event(event) if event.count == 4));

    // Nobody looks while these happen.
    witness.stop();
    server.delete_pod("alone");
    server.delete("/api/v1/namespaces/shop/services/cart");
    server.pod("later", "n2", &Value::Null);
    let stopped = facts(&log).last().unwrap().ts_ns;
    let witness = Witness::start(&net, &ring, &kubeconfig);
    let records = {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let records: Vec<Record> =
                log_now(&log).into_iter().filter(|record| record.ts_ns > stopped).collect();
            let services = records.iter().any(|record| feature(record, "kube_services", true).is_some());
            if services && records.iter().any(|record| feature(record, "kube_pods", true).is_some()) {
                break records;
            }
            assert!(Instant::now() < end, "{records:#?}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!(story(&records), ["later Pending", "alone deleted"]);
    let gone = records.iter().find(|record| matches!(&record.fact, Fact::Service(of) if of.name == "cart"));
    assert!(gone.is_some_and(|record| record.fact.deleted() && record.after_ns == Some(stopped)), "{gone:?}");
    let changed = records.iter().filter(|record| pod(record).is_some());
    assert!(changed.clone().all(|record| record.after_ns == Some(stopped)), "{records:#?}");
    // A file begins with everything that is there, and nothing that is gone.
    let ring_text = ring.to_str().unwrap();
    sharkrec::api::ask_seal(&sharkrec::ring::Ring::open(&ring).unwrap()).expect("it seals");
    server.running("later", "10.244.2.7");
    until(&log, "the next file", |record| pod(record).is_some_and(|pod| pod.phase == "Running"));
    let mut names: Vec<_> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let newest = dir.path().join("newest");
    fs::create_dir(&newest).unwrap();
    fs::copy(names.last().unwrap(), newest.join("1-1.facts.ndjson.zst.open")).unwrap();
    let mut stories = story(&log_now(&newest));
    stories.sort();
    assert_eq!(
        stories,
        [
            "agent-x Pending",
            "bill-42-x Pending",
            "cart-7d4b-x Pending",
            "db-0 Pending",
            "later Pending",
            "later Running 10.244.2.7",
            "proxy-n1 Pending",
        ]
    );
    let table = sharkrec_ok(&["status", "--ring", ring_text]);
    assert!(table.contains("kube      pods             on  since"), "{table}");
    witness.stop();
}

#[test]
fn a_cluster_of_many_pages_is_told_once_and_every_file_begins_with_all_of_it() {
    const PODS: usize = 1_100;
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    let pod_of = |number: usize| {
        json!({ "metadata": { "name": format!("p{number:04}") }, "spec": {
        "nodeName": format!("n{}", number % 7), "containers": [{ "name": "main", "image": "shop/app:1" }] } })
    };
    let pods: Vec<Value> = (0..PODS).map(pod_of).collect();
    server.create_many("/api/v1/namespaces/default/pods", &pods);
    let (ring, log) = (dir.path().join("witness"), dir.path().join("witness/log"));
    let witness = Witness::start(&net, &ring, &server.kubeconfig("admintoken"));
    on(&log, "pods");
    let expected: Vec<String> = (0..PODS).map(|number| format!("p{number:04} Pending")).collect();
    assert_eq!(story(&log_now(&log)), expected);
    let kube = status(&ring).kube.expect("watched");
    assert_eq!(kube.watches.iter().find(|watch| watch.what == "pods").unwrap().objects, Some(PODS as u64));
    witness.stop();
    // Nothing changed: a restart says nothing again, but the new file has everything.
    let before = fs::read_dir(&log).unwrap().count();
    let witness = Witness::start(&net, &ring, &server.kubeconfig("admintoken"));
    let stopped = facts(&log).last().unwrap().ts_ns;
    until(&log, "pods are watched again", |record| {
        record.ts_ns > stopped && feature(record, "kube_pods", true).is_some()
    });
    witness.stop();
    assert_eq!(fs::read_dir(&log).unwrap().count(), before + 1);
    let again = story(&facts(&log));
    assert_eq!(again.len(), 2 * PODS);
    let mut newest = again[PODS..].to_vec();
    newest.sort();
    assert_eq!(newest, expected);
}

fn others_are_told(records: &[Record]) {
    let find = |wanted: &dyn Fn(&Fact) -> bool| {
        let found: Vec<&Fact> =
            records.iter().map(|record| &record.fact).filter(|fact| wanted(fact)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        serde_json::to_value(found[0]).unwrap()
    };
    let namespace = find(&|fact| matches!(fact, Fact::Namespace(of) if of.name == "shop"));
    assert_eq!(namespace["labels"]["team"], "red");
    let node = find(&|fact| matches!(fact, Fact::Node(_)));
    assert_eq!(
        (&node["zone"], &node["region"], &node["instance_type"]),
        (&json!("z1"), &json!("r1"), &json!("m5"))
    );
    assert_eq!((&node["ips"], &node["pod_cidrs"]), (&json!(["172.31.0.1"]), &json!(["10.244.1.0/24"])));
    let service = find(&|fact| matches!(fact, Fact::Service(of) if of.name == "cart"));
    assert_eq!((&service["cluster_ips"], &service["kind"]), (&json!(["10.96.0.10"]), &json!("ClusterIP")));
    assert_eq!((&service["ports"][0]["port"], &service["ports"][0]["target"]), (&json!(80), &json!("8080")));
    let slice = find(&|fact| matches!(fact, Fact::EndpointSlice(_)));
    assert_eq!((&slice["service"], &slice["ports"][0]["port"]), (&json!("cart"), &json!(8080)));
    let endpoint = json!({ "addresses": ["10.244.1.2"], "ready": true, "pod": "cart-7d4b-x", "node": "n1", "zone": "z1" });
    assert_eq!(slice["endpoints"], json!([endpoint]));
    let policy = find(&|fact| matches!(fact, Fact::NetworkPolicy(_)));
    assert_eq!(policy["spec"], json!({ "podSelector": {}, "policyTypes": ["Ingress"] }));
    let event = find(&|fact| matches!(fact, Fact::Event(of) if of.reason == "BackOff"));
    assert_eq!(
        (&event["count"], &event["about"]["name"], &event["about_uid"]),
        (&json!(3), &json!("cart-7d4b-x"), &json!("p-1"))
    );
    assert_eq!(event["last_ns"], json!(1_767_323_046_000_000_000_i64));
}

#[test]
fn a_right_that_is_missing_is_told_and_the_others_are_used() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    server.create(&format!("{rbac}/clusterroles"), &json!({ "metadata": { "name": "witness" }, "rules": [
        { "apiGroups": [""], "resources": ["pods", "services", "nodes", "namespaces", "events"], "verbs": ["list", "watch"] },
        { "apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"] },
        { "apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"] },
        { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] }] }));
    server.create(
        &format!("{rbac}/clusterrolebindings"),
        &json!({ "metadata": { "name": "witness" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "witness" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "recorders" }] }),
    );
    let (ring, log) = (dir.path().join("witness"), dir.path().join("witness/log"));
    let witness = Witness::start(&net, &ring, &server.kubeconfig("readertoken"));
    for what in ["namespaces", "nodes", "replicasets", "pods", "services", "endpointslices", "events"] {
        on(&log, what);
    }
    let refused = |what: &str| {
        let record = until(&log, what, |record| {
            feature(record, &format!("kube_{what}"), false).is_some_and(|of| of.why.starts_with("refused"))
        });
        feature(&record, &format!("kube_{what}"), false).unwrap().why.clone()
    };
    let why = refused("networkpolicies");
    assert!(why.contains("User \"recorder\" cannot list resource \"networkpolicies\""), "{why}");
    let why = refused("jobs");
    assert!(why.contains("cannot watch resource \"jobs\""), "{why}");
    witness.stop();
    // The doctor finds the same, and sees through each watch what is there.
    let mut doctor = within(&net);
    doctor.args(["doctor", "--kube", "cluster", "--kubeconfig"]).arg(server.kubeconfig("readertoken"));
    let out = String::from_utf8(doctor.output().expect("it runs").stdout).unwrap();
    let verdict = |what: &str| {
        let line = out.lines().find(|line| line.split_whitespace().next() == Some(what));
        line.unwrap_or_else(|| panic!("{what}: {out}")).split_once(' ').unwrap().1.trim().to_owned()
    };
    for what in ["kube_namespaces", "kube_services", "kube_pods", "kube_endpointslices", "kube_events"] {
        assert_eq!(verdict(what), "ok", "{out}");
    }
    assert!(verdict("kube_networkpolicies").starts_with("refused (403)"), "{out}");
    assert!(verdict("kube_jobs").contains("cannot watch"), "{out}");
    let nowhere =
        within(&net).args(["doctor", "--kube", "node", "--kubeconfig", "/nowhere"]).output().unwrap();
    let out = String::from_utf8(nowhere.stdout).unwrap();
    assert!(out.contains("kube_connection      kubeconfig /nowhere"), "{out}");
}
