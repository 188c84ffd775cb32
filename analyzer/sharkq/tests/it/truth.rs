//! What the shop's ledger says must be in the tables: one line a call, a query and a connection, for each address under
//! which a recorded interface saw it. In: ledger and identities. Out: lines to be compared as multisets, nothing rounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::desk::Desk;
use crate::same::assert_same;

pub struct Ledger {
    events: Vec<Value>,
    /// Addresses of pods, by the service address that the node rewrites to them.
    behind: BTreeMap<String, String>,
    /// Names of pods by address, as the identity file has them.
    names: BTreeMap<String, Value>,
}

impl Ledger {
    pub fn read(ledger: &Path, identity: &Path) -> Ledger {
        let text = std::fs::read_to_string(ledger).expect("the ledger is there");
        let events: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect();
        assert_eq!(events.last().expect("events")["event"], "end", "the ledger is whole");
        let rewritten = events[0]["services"] == "dnat";
        let behind = events
            .iter()
            .filter(|event| rewritten && event["event"] == "pod" && event["service_ip"].is_string())
            .map(|pod| (text_of(&pod["service_ip"]), text_of(&pod["ip"])));
        let identities: Vec<Value> =
            serde_json::from_slice(&std::fs::read(identity).expect("identities")).expect("JSON");
        Ledger {
            behind: behind.collect(),
            names: identities.iter().map(|one| (text_of(&one["ip"]), one["pod"].clone())).collect(),
            events,
        }
    }

    /// The addresses a caller's packets went to: the one it dialled, and the pod's behind it.
    fn seen_at<'a>(&'a self, event: &'a Value) -> impl Iterator<Item = &'a str> {
        let dialled = event["dst_ip"].as_str().expect("an address");
        let behind = self.behind.get(dialled).map(String::as_str);
        std::iter::once(dialled).chain(behind)
    }

    fn of(&self, kind: &'static str, side: &'static str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event"] == kind && event["side"] == side)
    }

    fn name(&self, ip: &str) -> String {
        text_of(self.names.get(ip).unwrap_or(&Value::Null))
    }

    fn ends(&self, event: &Value, dst_ip: &str) -> String {
        let src_ip = text_of(&event["src_ip"]);
        format!(
            "{src_ip}:{} ({}) {dst_ip}:{} ({})",
            event["src_port"],
            self.name(&src_ip),
            event["dst_port"],
            self.name(dst_ip)
        )
    }

    fn http(&self) -> Vec<String> {
        let line = |call: &Value, ip: &str| {
            let answered = !call["status"].is_null();
            let response = if answered { call["response_body_bytes"].clone() } else { Value::Null };
            let query = if call["query"] == "" { &Value::Null } else { &call["query"] };
            let fields = [
                &call["x_request_id"],
                &call["method"],
                &call["host"],
                &call["path"],
                query,
                &call["status"],
                &call["request_body_bytes"],
                &response,
            ];
            let words: Vec<String> = fields.into_iter().map(text_of).collect();
            format!("{} {} {}", words.join(" "), call["interim"], self.ends(call, ip))
        };
        let calls = self.of("http", "client");
        calls.flat_map(|call| self.seen_at(call).map(move |ip| line(call, ip))).collect()
    }

    fn dns(&self) -> Vec<String> {
        let line = |query: &Value, ip: &str| {
            let fields = ["transport", "trans_id", "query", "qtype", "rcode", "truncated"];
            let words: Vec<String> = fields.iter().map(|field| text_of(&query[field])).collect();
            format!("{} {} {}", words.join(" "), query["answers"], self.ends(query, ip))
        };
        let queries = self.of("dns", "client");
        queries.flat_map(|query| self.seen_at(query).map(move |ip| line(query, ip))).collect()
    }

    /// Every TCP connection that a call, a query or nothing at all was made over; `outcome` narrows it.
    fn connections(&self, outcome: Option<&str>) -> Vec<String> {
        let over_tcp = self.events.iter().filter(|event| {
            let dials = event["side"] == "client" || event["event"] == "connect";
            dials && event["transport"] != "udp" && outcome.is_none_or(|wanted| event["outcome"] == wanted)
        });
        let lines: BTreeSet<String> =
            over_tcp.flat_map(|event| self.seen_at(event).map(move |ip| self.ends(event, ip))).collect();
        lines.into_iter().collect()
    }
}

/// Compares everything the ledger tells with the tables of a recording.
pub fn compare(desk: &Desk, source: &Path, identity: &Path, ledger: &Ledger) {
    let named = ["--identity", identity.to_str().expect("a path")];
    let rows = |sql: &str| desk.rows_with(source, sql, &named);
    let ends = |row: &Value| {
        let [src, src_pod, dst, dst_pod] =
            ["src_ip", "src_pod", "dst_ip", "dst_pod"].map(|column| text_of(&row[column]));
        // A pod behind a rewritten address may be proven by its sockets; the identity file does not name it there.
        let behind = ledger.behind.get(&dst).map(|pod| ledger.name(pod));
        let dst_pod = if behind.as_ref() == Some(&dst_pod) { ledger.name(&dst) } else { dst_pod };
        format!("{src}:{} ({src_pod}) {dst}:{} ({dst_pod})", row["src_port"], row["dst_port"])
    };
    let lines = |sql: &str, words: &[&str], list: &str| -> Vec<String> {
        let line = |row: &Value| {
            let words: Vec<String> = words.iter().map(|word| text_of(&row[word])).collect();
            let list = if row[list].is_null() { "[]".into() } else { row[list].to_string() };
            format!("{} {list} {}", words.join(" "), ends(row))
        };
        rows(sql).iter().map(line).collect()
    };
    let http = lines(
        "SELECT * FROM http_all",
        &[
            "x_request_id",
            "method",
            "host",
            "path",
            "query",
            "status_code",
            "request_body_len",
            "response_body_len",
        ],
        "interim_statuses",
    );
    assert!(http.len() > 200, "only {} calls", http.len());
    assert_same("http", &ledger.http(), &http);
    let words = ["transport", "trans_id", "query", "qtype", "rcode", "truncated"];
    let dns = lines("SELECT * FROM dns_all", &words, "answers");
    assert!(dns.len() > 100, "only {} queries", dns.len());
    assert_same("dns", &ledger.dns(), &dns);
    let flows = |condition: &str| {
        let sql =
            format!("SELECT * FROM flows_all WHERE proto = 'tcp' AND conn_state IS NOT NULL AND {condition}");
        let lines: BTreeSet<String> = rows(&sql).iter().map(ends).collect();
        lines.into_iter().collect::<Vec<String>>()
    };
    assert_same("connections", &ledger.connections(None), &flows("true"));
    let (reset, refused) = (ledger.connections(Some("reset")), ledger.connections(Some("refused")));
    assert!(!reset.is_empty() && !refused.is_empty(), "the incident was not played");
    assert_same("resets", &reset, &flows("conn_state = 'RSTR'"));
    assert_same("refused", &refused, &flows("conn_state = 'REJ'"));
    let trusted = "SELECT count(*) AS n FROM flows WHERE missed_bytes > 0 OR capture_state <> 'complete'";
    let untrusted = format!("{trusted} AND proto = 'tcp'");
    assert_eq!(rows(&untrusted)[0]["n"], 0, "flows that are not whole");
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}
