//! Who was who in the shop: its pods in kubepods cgroups, its sockets and processes as the recorder witnessed them, its own ledger as
//! the truth. With sockets every end of every flow has its process; without, addresses decide, as of each flow's start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shark_schema::identity::{Fact, Feature, Pod, Record};

use crate::desk::Desk;
use crate::identity_facts::{self as facts, fact};
use crate::programs::is_permitted;
use crate::same::assert_same;
use crate::shop::record;

#[test]
fn every_flow_has_its_processes_where_addresses_are_rewritten() {
    named("dnat", 31);
}

#[test]
fn every_flow_has_its_processes_where_they_are_not() {
    named("plain", 32);
}

fn named(services: &str, seed: u64) {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    record(&desk, services, seed);
    let shop = Shop::read(&desk.at("ledger.ndjson"));
    if shop.pods.iter().any(|pod| pod["container_id"].is_null()) {
        eprintln!("skipped: no cgroup hierarchy of version 2 to write to");
        return;
    }
    let ring = desk.at("ring");
    facts::write(&ring.join("log"), "", &shop.facts());
    ends_are_named(&desk, &ring, &shop);
    calls_are_counted_once(&desk, &ring, &shop);
    if services == "dnat" {
        addresses_decide_without_sockets(&desk, &ring, &shop);
        addresses_prove_nothing_when_nobody_watches(&desk, &ring, &shop);
    }
}

/// What the ledger says of pods and processes.
pub struct Shop {
    events: Vec<Value>,
    pub pods: Vec<Value>,
    rewritten: bool,
}

impl Shop {
    pub fn read(ledger: &Path) -> Shop {
        let text = std::fs::read_to_string(ledger).expect("the ledger is there");
        let events: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect();
        let pods = events.iter().filter(|event| event["event"] == "pod").cloned().collect();
        Shop { rewritten: events[0]["services"] == "dnat", events, pods }
    }

    /// The pods and services as a witness would have told them before the traffic began.
    fn facts(&self) -> Vec<Record> {
        let start_ns = self.began_ns();
        let mut records = Vec::new();
        for pod in self.pods.iter().filter(|pod| pod["role"] != "external") {
            records.push(fact(start_ns, Fact::Pod(object(pod))));
            let Some(service_ip) = pod["service_ip"].as_str() else { continue };
            let (workload, port) = (text(pod, "workload"), pod["port"].as_u64().expect("a port") as u16);
            // Without rewriting the address is the pod's own, as a service without a cluster address has it.
            let ip = if self.rewritten { service_ip } else { "None" };
            let backend = if self.rewritten { text(pod, "ip") } else { service_ip };
            let protocol = if port == 53 { "UDP" } else { "TCP" };
            let service = facts::service(workload, ip, port, protocol, &[(backend, port)]);
            records.extend(service.map(|of| fact(start_ns, of)));
        }
        records
    }

    pub fn pod_of(&self, ip: &str) -> Option<&Value> {
        let own = |pod: &&Value| pod["ip"] == ip || pod["service_ip"] == ip;
        self.pods.iter().find(own)
    }

    /// The process a pod had then. One that comes or goes may have its sockets or not: whoever saw them is right.
    fn pid(&self, pod: &Value, ts_ns: i64, is_seen: impl Fn(i64) -> bool) -> Option<i64> {
        let of_pod = |event: &&Value| event["event"] == "process" && event["pod"] == pod["name"];
        let before = |event: &&Value| event["ts_ns"].as_i64() <= Some(ts_ns);
        let last = self.events.iter().filter(of_pod).rfind(before)?;
        let pid = last["pid"].as_i64().expect("a pid");
        match text(last, "change") {
            "starting" | "dying" => is_seen(pid).then_some(pid),
            "killed" => None,
            _ => Some(pid),
        }
    }

    /// What both ends of a flow must be, and what they are said to be.
    pub fn lines(&self, row: &Value) -> (String, String) {
        // Of a connection that was never accepted only who listened is known, and that is said.
        let listens = text(row, "dst").ends_with(" listener");
        assert!(!text(row, "src").ends_with(" listener"), "{row}");
        let without = |line: &str| {
            if line.ends_with(" socket") {
                line.to_owned()
            } else if let Some(line) = line.strip_suffix(" listener").filter(|_| listens) {
                format!("{line} socket")
            } else {
                format!("{} without", line.rsplit_once(' ').expect("words").0)
            }
        };
        let (src, dst, ns) = (text(row, "src_ip"), text(row, "dst_ip"), row["ns"].as_i64().expect("a time"));
        let ends = format!("{src} {dst}:{} {ns}", row["dst_port"]);
        (
            format!(
                "{ends} {} > {}",
                self.end(src, ns, text(row, "src")),
                self.end(dst, ns, text(row, "dst"))
            ),
            format!("{ends} {} > {}", without(text(row, "src")), without(text(row, "dst"))),
        )
    }

    /// Nothing of it was sent earlier.
    pub fn began_ns(&self) -> i64 {
        self.events[0]["ts_ns"].as_i64().expect("a time")
    }

    /// The line an end must have.
    fn end(&self, ip: &str, ts_ns: i64, seen: &str) -> String {
        let pod = self.pod_of(ip).unwrap_or_else(|| panic!("{ip} is no address of the shop"));
        let known = pod["role"] != "external";
        let of =
            |value: &Value| if known { value.as_str().unwrap_or("-").to_owned() } else { "-".to_owned() };
        let pid = self.pid(pod, ts_ns, |pid| seen.contains(&format!("/{pid} ")));
        // Without rewriting the service has the one address only, and its pod another to speak from.
        let service = pod["service_ip"].is_string() && (self.rewritten || pod["service_ip"] == ip);
        let dialled = self.rewritten && pod["service_ip"] == ip;
        let container = match (known, pid) {
            (true, _) => format!("{}-app", text(pod, "workload")),
            (false, _) => text(pod, "container_id")[..12].to_owned(),
        };
        format!(
            "{} {} {container} {} {} {} {} {}",
            of(&pod["name"]),
            of(&pod["workload"]),
            text(pod, "pod_uid"),
            if service { text(pod, "workload") } else { "-" },
            pid.map_or("-".to_owned(), |pid| format!("shark-shop/{pid}")),
            if dialled { "service" } else { "pod" },
            if pid.is_some() { "socket" } else { "without" },
        )
    }
}

fn object(pod: &Value) -> Pod {
    facts::pod(
        text(pod, "pod_uid"),
        text(pod, "name"),
        text(pod, "workload"),
        text(pod, "ip"),
        text(pod, "container_id"),
    )
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} in {of}"))
}

/// The columns of an end, as one line; how it is known without a socket is another question.
pub const ENDS: &str = "SELECT src_ip, dst_ip, proto, dst_port, CAST(ts AS BIGINT) AS ns, dst_dns, dst_nat_ip, src_zone, \
    concat_ws(' ', coalesce(src_pod, '-'), coalesce(src_workload, '-'), coalesce(src_container, '-'), \
      coalesce(src_pod_uid, '-'), coalesce(src_service, '-'), \
      CASE WHEN src_pid IS NULL THEN '-' ELSE concat(src_process, '/', src_pid) END, src_kind, src_identity) AS src, \
    concat_ws(' ', coalesce(dst_pod, '-'), coalesce(dst_workload, '-'), coalesce(dst_container, '-'), \
      coalesce(dst_pod_uid, '-'), coalesce(dst_service, '-'), \
      CASE WHEN dst_pid IS NULL THEN '-' ELSE concat(dst_process, '/', dst_pid) END, dst_kind, dst_identity) AS dst FROM flows_recorded WHERE proto IN ('tcp', 'udp')";

fn ends_are_named(desk: &Desk, ring: &Path, shop: &Shop) {
    let rows = desk.rows(ring, ENDS);
    assert!(rows.len() > 100, "only {} flows", rows.len());
    let (told, seen): (Vec<String>, Vec<String>) = rows.iter().map(|row| shop.lines(row)).unzip();
    assert_same("ends", &told, &seen);
    names_are_those_asked_for(&rows, shop);
    let command = "SELECT count(*) FROM flows f JOIN processes p ON p.pid = f.src_pid AND p.pod_uid = f.src_pod_uid \
                   WHERE p.cmdline LIKE '%pod' AND p.exe LIKE '%/shark-shop'";
    let all = "SELECT count(*) FROM flows WHERE src_pid IS NOT NULL";
    assert!(desk.value(ring, command).as_i64() >= desk.value(ring, all).as_i64());
    let sockets =
        "SELECT count(*) FROM sockets WHERE pod IS NOT NULL AND container IS NOT NULL AND namespace = 'shop'";
    assert!(desk.value(ring, sockets).as_i64() > Some(100));
}

/// Whoever dials a service has just been told its address.
fn names_are_those_asked_for(rows: &[Value], shop: &Shop) {
    let dialled = rows.iter().filter(|row| row["proto"] == "tcp" && row["dst_port"] == 8080);
    let mut named = 0;
    for row in dialled {
        let pod = shop.pod_of(text(row, "dst_ip")).expect("a pod");
        if pod["service_ip"] == row["dst_ip"] {
            let name = format!("{}.shop.svc.cluster.local", text(pod, "workload"));
            assert_eq!(row["dst_dns"], name.as_str(), "{row}");
            named += 1;
            if shop.rewritten && shop.pid(pod, row["ns"].as_i64().expect("a time"), |_| false).is_some() {
                assert_eq!(row["dst_nat_ip"], pod["ip"], "{row}");
            }
        }
    }
    assert!(named > 20, "only {named} were dialled by name");
}

fn calls_are_counted_once(desk: &Desk, ring: &Path, shop: &Shop) {
    let of = |kind: &str| {
        let clients = shop.events.iter().filter(|event| event["event"] == kind && event["side"] == "client");
        clients.count()
    };
    for protocol in ["http", "dns"] {
        let counted =
            desk.value(ring, &format!("SELECT count(*) FROM api_calls WHERE protocol = '{protocol}'"));
        assert_eq!(counted, of(protocol), "{protocol}");
        let shown = desk.value(ring, &format!("SELECT count(*) FROM {protocol}"));
        assert_eq!(shown, of(protocol), "{protocol}");
    }
    let links = desk.value(ring, "SELECT count(*) FROM nat_links").as_i64().expect("a number");
    assert_eq!(links > 50, shop.rewritten, "{links} links");
    let copies = "SELECT count(*) FROM flows_all";
    let observed = "SELECT sum(observations) FROM flows_recorded";
    assert_eq!(desk.value(ring, copies), desk.value(ring, observed));
}

/// The same packets with another history: pods that came, went, ended, shared a node's address, or claimed one together.
fn addresses_decide_without_sockets(desk: &Desk, ring: &Path, shop: &Shop) {
    let bare = without_witness(desk, ring);
    let of = |role: &str| shop.pods.iter().find(|pod| pod["role"] == role).expect("a pod");
    let (cart, front, payment) = (of("cart"), of("front"), of("payment"));
    // In the middle of the flows of each.
    let middle = |pod: &Value| {
        let ip = text(pod, "ip");
        let of = format!("proto IN ('tcp', 'udp') AND (src_ip = '{ip}' OR dst_ip = '{ip}')");
        let times =
            desk.rows(&bare, &format!("SELECT CAST(ts AS BIGINT) AS ns FROM flows WHERE {of} ORDER BY ts"));
        assert!(times.len() > 8, "only {} flows of {ip}", times.len());
        times[times.len() / 2]["ns"].as_i64().expect("a time") + 1
    };
    let [reused_ns, completed_ns, claimed_ns] = [cart, front, payment].map(middle);
    let start_ns = shop.began_ns();
    let mut records = Vec::new();
    // The cart's address was reused by another pod, of which the first time there is no more than its end.
    let (old, new) = (
        Pod { uid: "old".into(), name: "old".into(), ..object(cart) },
        Pod { uid: "new".into(), name: "new".into(), started_ns: Some(reused_ns - 5), ..object(cart) },
    );
    let done =
        Pod { phase: "Succeeded".into(), ended_ns: Some(start_ns), uid: "done".into(), ..object(cart) };
    let host = Pod { host_network: true, uid: "host".into(), ..object(cart) };
    records.extend([&old, &done, &host].map(|pod| fact(start_ns, Fact::Pod(pod.clone()))));
    records.push(fact(reused_ns - 10, Fact::Pod(Pod { deleted: true, ..old })));
    records.push(fact(reused_ns, Fact::Pod(new)));
    // The front end completed; its address stays in its status.
    let front = object(front);
    records.push(fact(start_ns, Fact::Pod(front.clone())));
    records.push(fact(completed_ns, Fact::Pod(Pod { phase: "Succeeded".into(), ..front })));
    // Two claim the payment's.
    let other = Pod { uid: "other".into(), name: "other".into(), ..object(payment) };
    records.push(fact(start_ns, Fact::Pod(object(payment))));
    records.push(fact(claimed_ns, Fact::Pod(other)));
    records.sort_by_key(|record| record.ts_ns);
    facts::write(&bare.join("log"), "", &records);
    let (cart_ip, front_ip, pay_ip) = (text(cart, "ip"), text(of("front"), "ip"), text(payment, "ip"));
    let told = |ip: &str, ns: i64| match ip {
        ip if ip == cart_ip && ns < reused_ns - 10 => "old",
        ip if ip == cart_ip => "new",
        ip if ip == front_ip && ns < completed_ns => text(of("front"), "name"),
        ip if ip == pay_ip && ns < claimed_ns => text(payment, "name"),
        _ => "-",
    };
    let mut counts = BTreeMap::new();
    for row in desk.rows(&bare, "SELECT CAST(ts AS BIGINT) AS ns, * FROM flows WHERE proto IN ('tcp', 'udp')")
    {
        let ns = row["ns"].as_i64().expect("a time");
        for end in ["src", "dst"] {
            let pod = row[format!("{end}_pod")].as_str().unwrap_or("-").to_owned();
            assert_eq!(pod, told(text(&row, &format!("{end}_ip")), ns), "{end} of {row}");
            let proof = text(&row, &format!("{end}_identity")).to_owned();
            assert_eq!(pod != "-", proof == "ip_interval", "{end} of {row}");
            *counts.entry(pod).or_insert(0) += 1;
        }
    }
    for pod in ["old", "new", text(of("front"), "name"), text(payment, "name")] {
        assert!(counts.get(pod).is_some_and(|count| *count > 3), "{pod}: {counts:?}");
    }
    let conflicts =
        desk.rows(&bare, "SELECT ip, array_to_string(claims, ' ') AS claims FROM identity_conflicts");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0]["ip"], pay_ip);
    assert!(text(&conflicts[0], "claims").contains("shop/other"), "{conflicts:?}");
    let intervals =
        desk.rows(&bare, "SELECT name, valid_to IS NULL AS open FROM pods WHERE pod_uid IN ('old', 'new')");
    assert_eq!(intervals.len(), 2, "{intervals:?}");
}

/// The witness lost its server in the middle: what addresses and services are called from then on nobody could check; sockets still
/// prove who spoke.
fn addresses_prove_nothing_when_nobody_watches(desk: &Desk, ring: &Path, shop: &Shop) {
    let bare = without_witness(desk, ring);
    let times = desk.rows(&bare, "SELECT CAST(ts AS BIGINT) AS ns FROM flows ORDER BY ts");
    let lost_ns = times[times.len() / 2]["ns"].as_i64().expect("a time");
    let mut records = shop.facts();
    for what in ["kube_pods", "kube_services", "kube_endpointslices"] {
        let feature =
            |on, why: &str| Fact::Feature(Feature { name: what.into(), on, cause: None, why: why.into() });
        records.push(fact(shop.began_ns(), feature(true, "listed; every change is watched")));
        let late_ns = lost_ns + 2_000_000_000;
        let off = fact(late_ns, feature(false, "no answer"));
        records.push(Record { after_ns: Some(lost_ns), ..off });
    }
    records.sort_by_key(|record| record.ts_ns);
    let mut counts = BTreeMap::new();
    for log in [&bare, ring] {
        facts::write(&log.join("log"), "", &records);
        for row in
            desk.rows(log, "SELECT CAST(ts AS BIGINT) AS ns, * FROM flows WHERE proto IN ('tcp', 'udp')")
        {
            let is_watched = row["ns"].as_i64().expect("a time") < lost_ns;
            for end in ["src", "dst"] {
                let proof = text(&row, &format!("{end}_identity"));
                let pod = row[format!("{end}_pod")].as_str();
                let by_address = ["ip_interval", "service", "node"].contains(&proof);
                assert!(is_watched || !by_address, "{end} of {row}");
                assert!(is_watched || row[format!("{end}_service")].is_null(), "{end} of {row}");
                let proves = ["ip_interval", "socket", "listener", "cgroup", "netns"].contains(&proof);
                assert!(pod.is_none() || proves, "{end} of {row}");
                let by = format!("{proof}{}", if pod.is_some() { ", a pod" } else { "" });
                *counts.entry((log == ring, is_watched, by)).or_insert(0) += 1;
            }
        }
    }
    let count = |is_ring, is_watched, by: &str| {
        counts.get(&(is_ring, is_watched, by.to_owned())).copied().unwrap_or(0)
    };
    assert!(count(false, true, "ip_interval, a pod") > 20 && count(false, true, "service") > 3, "{counts:?}");
    assert!(count(false, false, "none") > 20, "{counts:?}");
    assert!(count(true, false, "socket, a pod") > 20, "{counts:?}");
    let open = "SELECT count(*) FILTER (WHERE valid_to IS NULL) AS open, count(*) AS n FROM";
    for table in ["pods", "services"] {
        let rows = desk.rows(&bare, &format!("{open} {table}"));
        assert!(rows[0]["open"] == 0 && rows[0]["n"].as_i64() > Some(3), "{table}: {rows:?}");
    }
}

/// The ring with its packets and its recorder's facts, and nothing else.
pub fn without_witness(desk: &Desk, ring: &Path) -> PathBuf {
    let bare = desk.at("bare");
    for folder in ["segments", "log"] {
        std::fs::create_dir_all(bare.join(folder)).expect("a folder");
        for entry in std::fs::read_dir(ring.join(folder)).expect("a ring").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.contains(".arrows") && !name.contains("-900000.") {
                std::fs::copy(entry.path(), bare.join(folder).join(name)).expect("a copy");
            }
        }
    }
    bare
}
