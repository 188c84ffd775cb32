//! Pods as a real API server tells them: the log has what happened, in order, and says when nobody could know.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shark_fixtures::kube::Server;
use shark_schema::identity::{Fact, Feature, Pod, Record, read_line};
use sharkrec::api::Status;

use crate::net::Net;
use crate::process::{Recorder, sharkrec_ok};
use crate::reading::{facts, numbers, packets};

/// Everything in a log so far, also of its open file.
pub fn log_now(dir: &Path) -> Vec<Record> {
    let mut names: Vec<_> = fs::read_dir(dir).expect("folder").flatten().map(|entry| entry.path()).collect();
    names.retain(|path| path.to_string_lossy().contains(".facts.ndjson.zst"));
    names.sort();
    let mut records = Vec::new();
    for path in names {
        // Closed under our eyes.
        let Ok(file) = fs::File::open(&path) else { return log_now(dir) };
        let mut lines = BufReader::new(zstd::stream::read::Decoder::new(file).expect("zstd"));
        let mut line = String::new();
        // An open file ends in the middle of its frame.
        while lines.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            records.extend(read_line(2, &line).ok().flatten());
            line.clear();
        }
    }
    records
}

/// Waits until the log has it.
pub fn until(dir: &Path, what: &str, found: impl Fn(&Record) -> bool) -> Record {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let records = log_now(dir);
        if let Some(record) = records.iter().rfind(|record| found(record)) {
            return record.clone();
        }
        assert!(Instant::now() < end, "the log never said: {what}\n{records:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

pub fn feature<'a>(record: &'a Record, name: &str, on: bool) -> Option<&'a Feature> {
    match &record.fact {
        Fact::Feature(feature) if feature.name == name && feature.on == on => Some(feature),
        _ => None,
    }
}

pub fn pod(record: &Record) -> Option<&Pod> {
    match &record.fact {
        Fact::Pod(pod) => Some(pod),
        _ => None,
    }
}

/// A pod that is to be deleted, and is still there.
pub fn is_terminating(pod: &Pod) -> bool {
    !pod.deleted && pod.deletion_ns.is_some()
}

/// Name, state and addresses of every fact about pods, in order; that they are to be deleted is left out.
pub fn story(records: &[Record]) -> Vec<String> {
    let line = |pod: &Pod| {
        let state = if pod.deleted { "deleted" } else { &pod.phase };
        format!("{} {state} {}", pod.name, pod.ips.join(",")).trim_end().to_owned()
    };
    records.iter().filter_map(pod).filter(|pod| !is_terminating(pod)).map(line).collect()
}

pub fn status(ring: &Path) -> Status {
    serde_json::from_str(&sharkrec_ok(&["status", "--ring", ring.to_str().unwrap(), "--format", "json"]))
        .unwrap()
}

pub fn recorder(net: &Net, ring: &Path, kubeconfig: &Path) -> Recorder {
    let kubeconfig = kubeconfig.to_str().unwrap();
    Recorder::start(net, ring, &["--node", "n1", "--kube", "node", "--kubeconfig", kubeconfig])
}

#[test]
fn the_pods_of_a_node_are_in_the_log_as_they_live_move_end_and_follow_each_other() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    let (ring, log) = (dir.path().join("ring"), dir.path().join("ring/log"));
    server.pod("old", "n1", &Value::Null);
    server.running("old", "10.244.1.2");
    let recorder = recorder(&net, &ring, &server.kubeconfig("admintoken"));
    until(&log, "pods are watched", |record| feature(record, "kube_pods", true).is_some());

    // A Deployment's pod, whose ReplicaSet the recorder must look up.
    let set = server.create("/apis/apps/v1/namespaces/default/replicasets", &json!({
        "metadata": { "name": "cart-7d4b", "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment",
            "name": "cart", "uid": "11111111-0000-0000-0000-000000000000", "controller": true }] },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "cart" } },
            "template": { "metadata": { "labels": { "app": "cart" } },
                "spec": { "containers": [{ "name": "main", "image": "shop/app:1" }] } } },
    }));
    let owner = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "cart-7d4b", "uid": set["metadata"]["uid"], "controller": true }] } });
    let cart = server.pod("cart-7d4b-x", "n1", &owner);
    let owned = until(&log, "the workload", |record| pod(record).is_some_and(|pod| pod.owners.len() == 2));
    let chain: Vec<_> =
        pod(&owned).unwrap().owners.iter().map(|of| format!("{}/{}", of.kind, of.name)).collect();
    assert_eq!(chain, ["ReplicaSet/cart-7d4b", "Deployment/cart"]);
    server.running("cart-7d4b-x", "10.244.1.3");
    // Completed: it keeps its address in the API, and owns it no more.
    server.succeeded("old");
    // Its address goes to another pod, while it still exists.
    server.pod("new", "n1", &Value::Null);
    server.running("new", "10.244.1.2");
    server.delete_pod("old");
    // Moved: made again under its name on another node, and back.
    server.delete_pod("new");
    server.pod("new", "n2", &Value::Null);
    server.running("new", "10.244.2.9");
    server.delete_pod("new");
    let again = server.pod("new", "n1", &Value::Null);
    server.running("new", "10.244.1.3");
    server.delete_pod("cart-7d4b-x");
    until(&log, "the last", |record| pod(record).is_some_and(|pod| pod.uid == cart && pod.deleted));
    net.send(0, 100, 100, 0).join().unwrap();

    let told = status(&ring).kube.expect("watched");
    assert_eq!((told.scope.as_str(), told.server.as_deref()), ("n1", Some("https://127.0.0.1:16443")));
    let pods = told.watches.iter().find(|watch| watch.what == "pods").unwrap();
    assert!(pods.on && pods.objects == Some(1), "{pods:?}");
    recorder.stop();
    let records = facts(&log);
    assert_eq!(
        story(&records),
        [
            "old Running 10.244.1.2",
            "cart-7d4b-x Pending",
            "cart-7d4b-x Pending",
            "cart-7d4b-x Running 10.244.1.3",
            "old Succeeded 10.244.1.2",
            "new Pending",
            "new Running 10.244.1.2",
            "old deleted 10.244.1.2",
            "new deleted 10.244.1.2",
            "new Pending",
            "new Running 10.244.1.3",
            "cart-7d4b-x deleted 10.244.1.3",
        ]
    );
    assert!(records.iter().filter(|record| pod(record).is_some()).all(|record| record.after_ns.is_none()));
    let last = records.iter().filter_map(pod).rfind(|pod| pod.name == "new").unwrap();
    assert_eq!((last.uid.as_str(), last.node.as_deref(), last.restarts), (again.as_str(), Some("n1"), 0));
    assert_eq!(last.containers[0].id.as_deref(), Some("containerd://new"));
    assert_eq!(last.containers[0].image_id.as_deref(), Some("shop/app@sha256:0f"));
    assert_eq!((last.containers[0].ports[0].port, last.labels["app"].as_str()), (8080, "new"));
    assert_eq!(last.started_ns, Some(1_767_323_045_000_000_000));
    // Of each pod that was deleted while it ran, the log says when that was asked for.
    let terminating: Vec<_> = records.iter().filter_map(pod).filter(|pod| is_terminating(pod)).collect();
    let names: Vec<_> = terminating.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["old", "new", "cart-7d4b-x"]);
    let old = records.iter().filter_map(pod).find(|pod| pod.phase == "Succeeded").unwrap();
    assert_eq!((old.ended_ns, old.restarts), (Some(1_767_323_100_000_000_000), 1));
    assert!(!format!("{records:?}").contains("hunter2"), "the environment of a pod is in the log");
    // The packets do not mind.
    assert_eq!(numbers(&packets(&ring.join("segments"))).len(), 100);
}
