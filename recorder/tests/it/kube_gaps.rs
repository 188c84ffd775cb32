//! An API server that goes away, comes back, has forgotten, hangs, refuses or was never there: packets are recorded all the
//! same, and the log says from when to when nobody could know.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shark_fixtures::kube::Server;
use shark_schema::identity::{Feature, Record};
use sharkrec::api::Status;

use crate::kube::{feature, is_terminating, log_now, pod, recorder, status, story, until};
use crate::net::Net;
use crate::reading::{facts, numbers, packets};

/// The facts about a feature, in order.
fn feature_story(records: &[Record], name: &str) -> Vec<(Record, Feature)> {
    let of = |record: &Record| {
        let found = feature(record, name, true).or(feature(record, name, false))?;
        Some((record.clone(), found.clone()))
    };
    records.iter().filter_map(of).collect()
}

fn count_pods(log: &Path) -> usize {
    story(&log_now(log)).len()
}

fn until_pods(log: &Path, count: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while count_pods(log) < count {
        assert!(Instant::now() < end, "{count} facts: {:#?}", story(&log_now(log)));
        thread::sleep(Duration::from_millis(50));
    }
}

fn watched(status: &Status, what: &str) -> (bool, String) {
    let watches = &status.kube.as_ref().expect("watched").watches;
    let watch = watches.iter().find(|watch| watch.what == what).expect("a watch");
    (watch.on, watch.why.clone())
}

#[test]
fn what_happens_while_the_api_server_is_away_is_told_later_with_the_time_that_bounds_it() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Without its cache the server reads etcd's history, as long as etcd has it.
    let Some(mut server) = Server::start(&net.receiver, dir.path(), &["--watch-cache=false"]) else { return };
    server.start_second();
    let (ring, log) = (dir.path().join("ring"), dir.path().join("ring/log"));
    server.pod("a", "n1", &Value::Null);
    server.running("a", "10.244.1.2");
    let recorder = recorder(&net, &ring, &server.kubeconfig("admintoken"));
    until(&log, "pods are watched", |record| feature(record, "kube_pods", true).is_some());
    let before = log_now(&log).len();

    // Away, and etcd remembers: every step comes later.
    server.down();
    until(&log, "it is away", |record| {
        feature(record, "kube_pods", false).is_some_and(|of| of.why.contains("refused"))
    });
    let (on, why) = watched(&status(&ring), "pods");
    assert!(!on && why.contains("no connection to https://127.0.0.1:16443"), "{why}");
    server.delete_pod("a");
    server.pod("b", "n1", &Value::Null);
    server.running("b", "10.244.1.2");
    net.send(0, 100, 100, 0).join().unwrap();
    server.up();
    until_pods(&log, 4);
    server.pod("c", "n1", &Value::Null);
    until_pods(&log, 5);

    // Away, and etcd forgets: only the outcome is known.
    server.down();
    until(&log, "it is away again", |record| {
        record.ts_ns > log_now(&log)[before + 3].ts_ns
            && feature(record, "kube_pods", false).is_some_and(|of| of.why.contains("refused"))
    });
    server.delete_pod("b");
    server.pod("d", "n1", &Value::Null);
    server.delete_pod("d");
    server.pod("e", "n1", &Value::Null);
    server.running("e", "10.244.1.2");
    server.compact();
    server.up();
    until_pods(&log, 7);
    server.running("c", "10.244.1.4");
    until_pods(&log, 8);
    assert!(watched(&status(&ring), "pods").0);
    net.send(100, 100, 100, 0).join().unwrap();
    recorder.stop();

    let records = facts(&log);
    assert_eq!(
        story(&records),
        [
            "a Running 10.244.1.2",
            "a deleted 10.244.1.2",
            "b Pending",
            "b Running 10.244.1.2",
            "c Pending",
            "e Running 10.244.1.2",
            "b deleted 10.244.1.2",
            "c Running 10.244.1.4",
        ]
    );
    let told = feature_story(&records, "kube_pods");
    let line = |(_, feature): &(Record, Feature)| {
        let why = feature.why.split([':', ' ']).next().unwrap_or_default();
        format!("{} {why}", if feature.on { "on" } else { "off" })
    };
    let lines: Vec<String> = told.iter().map(line).collect();
    assert_eq!(
        lines,
        ["off not", "on listed;", "off no", "on the", "off no", "off expired", "on listed"],
        "{told:#?}"
    );
    // Changes of a gap lie between the last word before it and the time they were learned.
    let is_told = |record: &&Record| pod(record).is_some_and(|pod| !is_terminating(pod));
    let pods: Vec<&Record> = records.iter().filter(is_told).collect();
    for (at, gap) in [(1, 2), (2, 2), (3, 2), (5, 4), (6, 4)] {
        let after_ns = pods[at].after_ns.unwrap_or_else(|| panic!("{:?}", pods[at]));
        assert_eq!(told[gap].0.after_ns, Some(after_ns), "{at}");
        assert!(told[gap - 1].0.ts_ns <= after_ns && after_ns <= told[gap].0.ts_ns, "{at}");
        assert!(told[gap].0.ts_ns <= pods[at].ts_ns, "{at}");
    }
    assert!([0, 4, 7].iter().all(|at| pods[*at].after_ns.is_none()), "{pods:#?}");
    assert_eq!(told[5].0.after_ns, told[4].0.after_ns, "another reason, the same gap: {told:#?}");
    assert_eq!(numbers(&packets(&ring.join("segments"))).len(), 200);
}

#[test]
fn a_server_that_hangs_is_noticed_and_nothing_is_missed_when_it_goes_on() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    server.start_second();
    let (ring, log) = (dir.path().join("ring"), dir.path().join("ring/log"));
    let recorder = recorder(&net, &ring, &server.kubeconfig("admintoken"));
    until(&log, "pods are watched", |record| feature(record, "kube_pods", true).is_some());
    server.freeze(true);
    server.pod("a", "n1", &Value::Null);
    server.delete_pod("a");
    let off = until(&log, "it hangs", |record| {
        feature(record, "kube_pods", false).is_some_and(|of| of.why.starts_with("no answer"))
    });
    assert!(off.after_ns.is_some_and(|after_ns| after_ns < off.ts_ns));
    net.send(0, 100, 100, 0).join().unwrap();
    server.freeze(false);
    until_pods(&log, 2);
    recorder.stop();
    assert_eq!(story(&facts(&log)), ["a Pending", "a deleted"]);
    assert_eq!(numbers(&packets(&ring.join("segments"))).len(), 100);
}

#[test]
fn an_api_server_that_comes_late_and_a_right_that_is_missing_are_told() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    let (ring, log) = (dir.path().join("ring"), dir.path().join("ring/log"));
    // Neither the configuration nor the server is there.
    server.down();
    let kubeconfig = server.kubeconfig("readertoken");
    let late = fs::read(&kubeconfig).unwrap();
    fs::remove_file(&kubeconfig).unwrap();
    let recorder = recorder(&net, &ring, &kubeconfig);
    until(&log, "there is no configuration", |record| {
        feature(record, "kube_pods", false).is_some_and(|of| of.why.contains("readertoken.kubeconfig"))
    });
    net.send(0, 100, 100, 0).join().unwrap();
    fs::write(&kubeconfig, late).unwrap();
    until(&log, "there is no server", |record| {
        feature(record, "kube_pods", false).is_some_and(|of| of.why.contains("refused"))
    });
    server.up();
    until(&log, "there is no right", |record| {
        feature(record, "kube_pods", false).is_some_and(|of| {
            of.why.starts_with("refused (403): pods is forbidden: User \"recorder\" cannot list")
        })
    });
    assert!(!watched(&status(&ring), "pods").0);
    // Pods may be read, what owns them may not.
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    server.create(
        &format!("{rbac}/clusterroles"),
        &json!({ "metadata": { "name": "pods" },
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"] }] }),
    );
    server.create(
        &format!("{rbac}/clusterrolebindings"),
        &json!({ "metadata": { "name": "pods" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pods" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "recorders" }] }),
    );
    let owner = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "cart-7d4b", "uid": "22222222-0000-0000-0000-000000000000", "controller": true }] } });
    server.pod("cart-7d4b-x", "n1", &owner);
    until(&log, "the pod", |record| pod(record).is_some_and(|pod| pod.owners.len() == 1));
    let refused = until(&log, "owners are refused", |record| feature(record, "kube_owners", false).is_some());
    let why = &feature(&refused, "kube_owners", false).unwrap().why;
    assert!(why.starts_with("refused (403): replicasets.apps \"cart-7d4b\" is forbidden"), "{why}");
    assert!(watched(&status(&ring), "pods").0);
    recorder.stop();
    assert_eq!(numbers(&packets(&ring.join("segments"))).len(), 100);
}
