//! The shop's ledger as the notebook's figures show it: calls and queries under the names of the identity file, with the times
//! between which each must have been seen. In: the bundled ledger. It must never use what the analyzer computes with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::programs::FIXTURES;

/// What the ledger tells of one call or query, under the names of the identity file.
pub struct Call {
    pub protocol: &'static str,
    pub src: String,
    pub dst: String,
    pub endpoint: String,
    /// As the analyzer words it; none where the call did not fail.
    pub error: Option<String>,
    /// Of the caller: before its first and after its last packet.
    pub client_ns: [i64; 2],
    /// Of the callee: after the request's packets and around the response's; as the caller's where it told nothing.
    pub server_ns: [i64; 2],
}

impl Call {
    pub fn client_lasted_ns(&self) -> i64 {
        self.client_ns[1] - self.client_ns[0]
    }

    pub fn pair(&self) -> String {
        format!("{} {} {}", self.protocol, self.src, self.dst)
    }
}

/// The ledger, read by nothing that the analyzer shares.
pub struct Told {
    pub events: Vec<Value>,
    pub calls: Vec<Call>,
    /// Pods and workloads by address, a service's being those of the pod behind it.
    pub pods: BTreeMap<String, (String, String)>,
}

impl Told {
    pub fn read() -> Told {
        let text = fs::read_to_string(shop("ledger.ndjson")).expect("the ledger");
        let events: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
        let identities: Value =
            serde_json::from_slice(&fs::read(shop("identity.json")).expect("identities")).expect("JSON");
        let is_named = |ip: &Value| identities.as_array().expect("a list").iter().any(|one| one["ip"] == *ip);
        let mut pods = BTreeMap::new();
        for pod in events.iter().filter(|event| event["event"] == "pod" && is_named(&event["ip"])) {
            for ip in ["ip", "service_ip"].iter().filter_map(|key| pod[key].as_str()) {
                pods.insert(ip.to_owned(), (word(&pod["name"]), word(&pod["workload"])));
            }
        }
        let mut told = Told { events, calls: Vec::new(), pods };
        told.calls = told.of("http").chain(told.of("dns")).map(|event| told.call(event)).collect();
        told
    }

    pub fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event"] == kind && event["side"] == "client")
    }

    fn call(&self, event: &Value) -> Call {
        let protocol = if event["event"] == "http" { "http" } else { "dns" };
        let keys: &[&str] = match protocol {
            "http" => &["x_request_id"],
            _ => &["src_ip", "src_port", "transport", "trans_id", "query", "qtype"],
        };
        let same = |one: &&Value| {
            one["event"] == protocol
                && one["side"] == "server"
                && keys.iter().all(|key| one[key] == event[key])
        };
        let times = |one: &Value| ["start_ns", "end_ns"].map(|key| one[key].as_i64().expect("a time"));
        let client_ns = times(event);
        let server_ns = self.events.iter().find(same).map_or([client_ns[1]; 2], times);
        let error = match (protocol, event["status"].as_i64()) {
            ("http", None) => Some(word(&event["outcome"])),
            ("http", Some(status)) => (status >= 500).then(|| status.to_string()),
            _ if event["rcode"] == "NXDOMAIN" && is_expected(event) => None,
            _ => (event["rcode"] != "NOERROR").then(|| word(&event["rcode"])),
        };
        let [src, dst] = ["src_ip", "dst_ip"].map(|key| {
            let ip = word(&event[key]);
            self.pods.get(&ip).map_or(ip, |(_, workload)| workload.clone())
        });
        let endpoint = format!("{dst} {} {}", word(&event["method"]), word(&event["path"]));
        Call { protocol, src, dst, endpoint, error, client_ns, server_ns }
    }

    pub fn http(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.protocol == "http")
    }

    pub fn pod(&self, ip: &Value) -> String {
        self.pods.get(&word(ip)).map_or_else(|| word(ip), |(pod, _)| pod.clone())
    }

    /// Connections that were made or tried: ends and, of both addresses of a service, the one dialled.
    pub fn connections(&self, outcome: Option<&str>) -> BTreeSet<[String; 4]> {
        let dials = self.events.iter().filter(|event| {
            let over_tcp = event["side"] == "client" && event["transport"] != "udp";
            (over_tcp || event["event"] == "connect")
                && outcome.is_none_or(|wanted| event["outcome"] == wanted)
        });
        let ends = ["src_ip", "src_port", "dst_ip", "dst_port"];
        dials.map(|event| ends.map(|key| word(&event[key]))).collect()
    }
}

/// A file of the bundled run.
pub fn shop(name: &str) -> PathBuf {
    Path::new(FIXTURES).join("shop").join(name)
}

/// A value as the figures spell it.
pub fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the search list of the shop made of a name need not exist, nor need an address of version 6.
fn is_expected(event: &Value) -> bool {
    const SEARCH: [&str; 3] = [".shop.svc.cluster.local", ".svc.cluster.local", ".cluster.local"];
    let query = word(&event["query"]);
    let searched = SEARCH.iter().enumerate().find_map(|(at, suffix)| Some((at, query.strip_suffix(suffix)?)));
    let is_expansion = searched.is_some_and(|(at, name)| at > 0 || name.contains('.'));
    is_expansion || event["qtype"] == "AAAA"
}
