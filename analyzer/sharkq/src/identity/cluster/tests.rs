//! Whom addresses belonged to, by objects as a witness tells of them.

use shark_schema::identity::{Endpoint, EndpointSlice, Feature, LogHeader, Record, Service};

use super::*;

const SECOND_NS: i64 = 1_000_000_000;

fn pod(name: &str) -> Pod {
    let ips = vec!["10.0.0.1".into()];
    Pod { uid: name.into(), name: name.into(), ips, phase: "Running".into(), ..Pod::default() }
}

fn cluster(told: Vec<(i64, Option<i64>, Pod)>) -> Cluster {
    let facts = told.into_iter().map(|(at, after, pod)| said("n", at, after, Fact::Pod(pod)));
    Cluster::new(&History::new(&facts.collect::<Vec<_>>()))
}

fn said(node: &str, at: i64, after: Option<i64>, fact: Fact) -> (LogHeader, Record) {
    let header = LogHeader {
        log: "sharkrec".into(),
        format: 1,
        node: node.into(),
        cluster: String::new(),
        writer: "witness".into(),
        started_ns: 0,
    };
    let after_ns = after.map(|after| after * SECOND_NS);
    (header, Record { ts_ns: at * SECOND_NS, after_ns, fact })
}

fn watch(node: &str, at: i64, after: Option<i64>, name: &str, on: bool) -> (LogHeader, Record) {
    let feature = Feature { name: name.into(), on, cause: None, why: format!("at {at}") };
    said(node, at, after, Fact::Feature(feature))
}

fn owners<const N: usize>(cluster: &Cluster, at: [i64; N]) -> [Option<&str>; N] {
    let ip = "10.0.0.1".parse().expect("an address");
    at.map(|at| cluster.pod_at(0, ip, at * SECOND_NS).map(|pod| pod.name.as_str()))
}

#[test]
fn an_address_is_owned_from_the_start_to_the_end_of_a_pod() {
    let started = Pod { started_ns: Some(3 * SECOND_NS), ..pod("a") };
    let ended = Pod { phase: "Failed".into(), ended_ns: Some(7 * SECOND_NS), ..started.clone() };
    let told = cluster(vec![(5, None, started), (9, None, ended)]);
    assert_eq!(owners(&told, [2, 3, 7, 8, 9]), [None, Some("a"), Some("a"), None, None]);
    assert!(told.conflicts.is_empty());
}

#[test]
fn what_ended_before_anybody_looked_yields_to_what_runs() {
    let done = Pod {
        phase: "Succeeded".into(),
        started_ns: Some(SECOND_NS),
        ended_ns: Some(4 * SECOND_NS),
        ..pod("done")
    };
    let told = cluster(vec![(6, None, done), (3, None, pod("runs"))]);
    assert_eq!(owners(&told, [1, 2, 3, 6]), [Some("done"), Some("done"), Some("runs"), Some("runs")]);
}

#[test]
fn of_a_time_without_a_watch_nothing_is_said_but_what_both_sides_agree_on() {
    let changed = Pod { restarts: 1, ..pod("a") };
    let gone = Pod { deleted: true, ..changed.clone() };
    let told = cluster(vec![(1, None, pod("a")), (9, Some(5), changed), (20, Some(15), gone)]);
    assert_eq!(owners(&told, [4, 7, 14, 15, 18]), [Some("a"), Some("a"), Some("a"), None, None]);
}

#[test]
fn what_is_to_be_deleted_keeps_its_heir_from_having_a_name() {
    let terminating = Pod { deletion_ns: Some(40 * SECOND_NS), grace_ns: Some(30 * SECOND_NS), ..pod("old") };
    let heir = Pod { started_ns: Some(15 * SECOND_NS), ..pod("heir") };
    let told = |last: Pod| {
        let old = [(1, None, pod("old")), (11, None, terminating.clone()), (30, None, last)];
        cluster(old.into_iter().chain([(20, None, heir.clone())]).collect())
    };
    // Its deletion was asked for at 10, its heir began at 15 and is told with the address at 20, it is gone at 30, and was
    // given until 40.
    let gone = told(Pod { deleted: true, ..terminating.clone() });
    assert_eq!(owners(&gone, [9, 12, 14]), [Some("old"); 3]);
    assert_eq!(owners(&gone, [15, 20, 29, 30, 39]), [None; 5]);
    assert_eq!(owners(&gone, [40, 50]), [Some("heir"); 2]);
    let conflict = &gone.conflicts[..];
    assert_eq!(conflict.len(), 1);
    assert_eq!((conflict[0].conflict.from_ns, conflict[0].conflict.to_ns), (15 * SECOND_NS, 40 * SECOND_NS));
    // One that says that it has ended has given its address back.
    let over = Pod { phase: "Failed".into(), ended_ns: Some(25 * SECOND_NS), ..terminating.clone() };
    assert_eq!(owners(&told(over), [20, 24, 26, 31]), [None, None, Some("heir"), Some("heir")]);
    // Without an heir nobody contradicts, and after its end nobody has the address.
    let alone = vec![(1, None, pod("old")), (11, None, terminating.clone())];
    let gone = (30, None, Pod { deleted: true, ..terminating.clone() });
    let alone = cluster(alone.into_iter().chain([gone]).collect());
    assert_eq!(owners(&alone, [12, 29, 31]), [Some("old"), Some("old"), None]);
    assert!(alone.conflicts.is_empty());
}

#[test]
fn a_static_pod_is_known_by_its_containers() {
    let container = |id: &str| shark_schema::identity::Container {
        name: "etcd".into(),
        id: Some(format!("containerd://{id}")),
        ..Default::default()
    };
    let mirror = Pod { containers: vec![container("c1")], host_network: true, ..pod("etcd-n1") };
    let mut told = cluster(vec![(1, None, mirror)]);
    let name = |told: &Cluster, uid, id| told.pod_of(uid, id).map(|pod| pod.name.clone());
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    assert_eq!(name(&told, Some(hash), Some("c1")).as_deref(), Some("etcd-n1"));
    assert_eq!(name(&told, Some(hash), Some("c2")), None);
    assert_eq!(name(&told, None, Some("c1")).as_deref(), Some("etcd-n1"));
    // A container that came later, of the same manifest; another manifest is another pod.
    told.learn_alias(hash, "c1");
    assert_eq!(name(&told, Some(hash), Some("c2")).as_deref(), Some("etcd-n1"));
    assert_eq!(name(&told, Some("e41d8cd98f00b204e9800998ecf8427e"), Some("c2")), None);
    assert_eq!(name(&told, Some("etcd-n1"), Some("c9")).as_deref(), Some("etcd-n1"), "by its uid");
}

#[test]
fn labels_are_those_of_the_time() {
    let labelled = |app: &str| Pod { labels: [("app".into(), app.into())].into(), ..pod("a") };
    let (one, two, three) = (labelled("one"), labelled("two"), labelled("three"));
    let restarted = Pod { restarts: 1, ..two.clone() };
    let told = cluster(vec![(3, None, one), (5, None, two), (7, Some(6), restarted), (12, Some(9), three)]);
    let at = |second: i64| Some(told.pod("a")?.labels_at(second * SECOND_NS)?["app"].as_str());
    assert_eq!([1, 3, 4].map(at), [Some("one"); 3]);
    assert_eq!([5, 6, 8].map(at), [Some("two"); 3]);
    // They changed at a time when nobody watched.
    assert_eq!([9, 11, 12].map(at), [None, None, Some("three")]);
}

#[test]
fn nothing_is_claimed_from_when_nobody_watches_any_more() {
    let told = |node: &str| said(node, 1, None, Fact::Pod(pod("a")));
    let on = |node: &str, at: i64| watch(node, at, None, "kube_pods", true);
    let off = |node: &str, at: i64, after| watch(node, at, after, "kube_pods", false);
    let until = |facts: &[(LogHeader, Record)]| {
        let cluster = Cluster::new(&History::new(facts));
        (1..30).find(|at| owners(&cluster, [*at]) == [None])
    };
    let begun = [on("n", 1), told("n")];
    let with = |more: &[(LogHeader, Record)]| until(&[&begun[..], more].concat());
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[off("n", 9, None)]), Some(9));
    // Since the last word of the server, however often the reason changes.
    assert_eq!(with(&[off("n", 9, Some(6)), off("n", 12, None)]), Some(6));
    assert_eq!(with(&[off("n", 9, None), on("n", 12)]), None);
    assert_eq!(with(&[off("n", 5, None), on("n", 8), off("n", 12, Some(10))]), Some(10));
    assert_eq!(with(&[watch("n", 9, None, "kube_services", false)]), None);
    // Somebody else watches the pod longer, or another pod.
    assert_eq!(with(&[off("n", 9, None), told("m")]), None);
    assert_eq!(with(&[off("n", 9, None), told("m"), off("m", 15, None)]), Some(15));
    let other = said("m", 1, None, Fact::Pod(Pod { ips: vec![], ..pod("b") }));
    assert_eq!(with(&[off("n", 9, None), other]), Some(9));
    // Told again by the next list, of which the log does not tell the end.
    assert_eq!(with(&[off("n", 9, None), said("n", 13, Some(9), Fact::Pod(pod("a")))]), Some(13));
}

#[test]
fn services_and_nodes_lose_their_names_with_their_watch() {
    let service = Service {
        uid: "s".into(),
        namespace: "shop".into(),
        name: "cart".into(),
        cluster_ips: vec!["10.9.0.1".into()],
        ..Service::default()
    };
    let slice = EndpointSlice {
        uid: "e".into(),
        namespace: "shop".into(),
        service: Some("cart".into()),
        ports: vec![Port { port: 80, ..Port::default() }],
        endpoints: vec![Endpoint { addresses: vec!["10.0.0.1".into()], ..Endpoint::default() }],
        ..EndpointSlice::default()
    };
    let node = NodeObject {
        uid: "n".into(),
        name: "n".into(),
        ips: vec!["10.8.0.1".into()],
        ..NodeObject::default()
    };
    let mut facts: Vec<_> = [Fact::Service(service), Fact::EndpointSlice(slice), Fact::Node(node)]
        .map(|fact| said("n", 1, None, fact))
        .into();
    for (at, what) in [(5, "kube_endpointslices"), (7, "kube_services"), (9, "kube_nodes")] {
        facts.push(watch("n", at, None, what, false));
    }
    let cluster = Cluster::new(&History::new(&facts));
    let at = |ip: &str, at: i64| {
        let (ip, ns) = (ip.parse().expect("an address"), at * SECOND_NS);
        let service = cluster.service_at(0, (ip, 80), ns).map(|of| of.name.as_str());
        let served = cluster.served_at(0, (ip, 80), ns).map(|of| of.name.as_str());
        service.or(served).or(cluster.node_at(0, ip, ns).map(|of| of.name.as_str()))
    };
    for (ip, name, until) in [("10.0.0.1", "cart", 5), ("10.9.0.1", "cart", 7), ("10.8.0.1", "n", 9)] {
        assert_eq!([at(ip, until - 1), at(ip, until), at(ip, until + 9)], [Some(name), None, None], "{ip}");
    }
}

#[test]
fn what_came_to_serve_unwatched_serves_since_its_pod_began() {
    let service =
        Service { uid: "s".into(), namespace: "shop".into(), name: "cart".into(), ..Service::default() };
    let begun =
        Pod { name: "a".into(), namespace: "shop".into(), started_ns: Some(12 * SECOND_NS), ..pod("a") };
    let endpoint =
        Endpoint { addresses: vec!["10.0.0.1".into()], pod: Some("a".into()), ..Endpoint::default() };
    let slice = EndpointSlice {
        uid: "e".into(),
        namespace: "shop".into(),
        service: Some("cart".into()),
        ports: vec![Port { port: 80, ..Port::default() }],
        endpoints: vec![endpoint],
        ..EndpointSlice::default()
    };
    let facts = [
        said("n", 1, None, Fact::Service(service)),
        said("n", 15, Some(5), Fact::Pod(begun)),
        said("n", 15, Some(5), Fact::EndpointSlice(slice)),
    ];
    let cluster = Cluster::new(&History::new(&facts));
    let ip = "10.0.0.1".parse().expect("an address");
    let served = |at: i64| cluster.served_at(0, (ip, 80), at * SECOND_NS).is_some();
    assert_eq!([6, 11, 12, 14, 16].map(served), [false, false, true, true, true]);
}

#[test]
fn pods_of_the_host_network_own_no_address() {
    let told = cluster(vec![(1, None, Pod { host_network: true, ..pod("host") })]);
    assert_eq!(owners(&told, [1, 5]), [None, None]);
}
