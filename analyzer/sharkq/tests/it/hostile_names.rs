//! Hostile texts wherever others choose them: in every protocol, in manifests, sidecars and logs, in the
//! names of interfaces and of files. Whatever a command prints of them is harmless byte by byte, and no
//! cell of a CSV begins a formula.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use shark_schema::identity::{Fact, Record};
use shark_schema::segment::{PacketHead, packet};

use crate::bundled;
use crate::captures;
use crate::desk::Desk;
use crate::identity_facts as facts;
use crate::programs::{FIXTURES, printed};
use crate::safety::{HOSTILE, is_harmless};

/// Texts of real captures that a client or a server chose, by where rows have them.
struct Chosen {
    capture: &'static str,
    table: &'static str,
    /// SQL of texts, lists of texts, or parts of texts.
    columns: &'static [&'static str],
    /// Columns in which the texts must arrive that have taken their place.
    arrive: &'static [&'static str],
}

#[rustfmt::skip]
const CHOSEN: &[Chosen] = &[
    Chosen { capture: "http/python", table: "http", columns: &["path", "user_agent", "x_request_id", "request_body", "response_body", "request_headers['user-agent']", "response_headers['server']"],
        arrive: &["path", "url", "user_agent", "request_headers", "response_headers", "request_header_list"] },
    Chosen { capture: "http/curl", table: "http", columns: &["path", "user_agent", "x_request_id", "response_headers['server']"],
        arrive: &["path", "x_request_id", "response_headers"] },
    Chosen { capture: "dns/dnsmasq", table: "dns", columns: &["string_to_array(query, '.')"],
        arrive: &["query"] },
    Chosen { capture: "redis/cli", table: "redis", columns: &["key", "args", "reply_error"],
        arrive: &["key", "args", "reply_error"] },
    Chosen { capture: "kafka/librdkafka", table: "kafka", columns: &["topic", "client_id", "\"group\""],
        arrive: &["topic", "client_id", "group"] },
    Chosen { capture: "amqp/pika", table: "amqp", columns: &["exchange", "routing_key", "queue", "reply_text", "consumer_tag", "content_type"],
        arrive: &["exchange", "routing_key", "queue", "consumer_tag"] },
    Chosen { capture: "db/mongodb-pymongo", table: "db", columns: &["collection", "database", "error_message"],
        arrive: &["collection", "database", "error_message"] },
    Chosen { capture: "db/mysql-client", table: "db", columns: &["statement", "database", "error_message", "\"user\""],
        arrive: &["statement", "database", "error_message", "user"] },
    Chosen { capture: "db/postgresql-psql", table: "db", columns: &["trim(statement)", "database", "error_message", "\"user\""],
        arrive: &["statement", "database", "error_message", "user"] },
    Chosen { capture: "ldap/slapd", table: "ldap", columns: &["base_dn", "'inetOrgPerson'"],
        arrive: &["base_dn", "filter"] },
    Chosen { capture: "radius/freeradius", table: "radius", columns: &["username", "calling_station", "called_station", "reply_msg", "session_id"],
        arrive: &["username", "calling_station", "called_station", "reply_msg"] },
    Chosen { capture: "diameter/freediameter", table: "diameter", columns: &["origin_host", "dest_realm", "session_id", "answering_host", "username"],
        arrive: &["origin_host", "dest_realm", "session_id", "answering_host", "username"] },
    Chosen { capture: "tls/handshakes", table: "tls", columns: &["sni", "alpn", "'shop test authority'", "server_subject"],
        arrive: &["sni", "server_issuer", "server_subject"] },
];

/// As many bytes as a text had: escapes that clear the screen, C1, a direction override; begins a formula.
const STEERING: &str = "=\u{1b}[2J\u{9b}31m\u{202e}\u{7}\u{1b}]0;x\u{7}\u{200f}\u{7f}";
/// Without control characters of ASCII, which some protocols have no place for.
const SOFT: &str = "=\u{202e}\u{9b}31m\u{2066}\u{200b}\u{85}+\u{feff}";
/// With what ends lines and cells: it ends some messages, too, and what is left of them must be harmless as
/// well.
const BREAKING: &str = "@\r\n+\t\u{85}\u{2028}\u{2066}\",;'|-\0\u{ad}";

fn hostile(text: &str, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in text.chars().cycle() {
        match len - bytes.len() {
            0 => break,
            left if left >= character.len_utf8() => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            left => bytes.extend(std::iter::repeat_n(b'=', left)),
        }
    }
    bytes
}

/// Texts below a value, of those that are long enough not to be anything else.
fn texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let is_keyword = ["application/json", "text/plain", "text/html"].contains(&text.as_str());
            if text.len() >= 4 && !is_keyword && !text.bytes().all(|byte| byte.is_ascii_digit()) {
                found.insert(text.clone());
            }
        }
        Value::Array(all) => all.iter().for_each(|one| texts(one, found)),
        Value::Object(all) => all.values().for_each(|one| texts(one, found)),
        _ => {}
    }
}

/// Writes captures in which hostile texts stand for those that others chose, seen at an interface with a
/// hostile name, each on a day of its own.
fn poisoned(desk: &Desk, chosen: &Chosen) -> [PathBuf; 3] {
    let source = PathBuf::from(FIXTURES).join(format!("{}.pcapng", chosen.capture));
    let mut found = BTreeSet::new();
    for column in chosen.columns {
        let sql = format!("SELECT {column} AS text FROM {}", chosen.table);
        desk.rows(&source, &sql).iter().for_each(|row| texts(row, &mut found));
    }
    let mut found: Vec<String> = found.into_iter().collect();
    found.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let packets = captures::read(&source);
    [STEERING, SOFT, BREAKING].map(|text| {
        let day_s = 86_400 * text.len() as u64;
        let path = desk.at(&format!("{}-{day_s}.pcapng", chosen.capture.replace('/', "-")));
        fs::write(&path, replaced(&packets, &found, text, Duration::from_secs(day_s))).expect("a capture");
        path
    })
}

/// A capture of these packets, later, with a hostile text in the place of each of the old ones.
fn replaced(packets: &[captures::Packet], old: &[String], text: &str, later: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(
        b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0",
    );
    bytes.extend_from_slice(b"\x01\0\0\0\x34\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x10\0");
    bytes.extend_from_slice(&hostile(text, 16));
    bytes.extend_from_slice(b"\x09\0\x01\0\x09\0\0\0\0\0\0\0\x34\0\0\0");
    for seen in packets {
        let mut data = seen.data.clone();
        for old in old {
            let new = hostile(text, old.len());
            let places = 0..data.len().saturating_sub(old.len() - 1);
            let places: Vec<usize> = places.filter(|at| data[*at..].starts_with(old.as_bytes())).collect();
            places.into_iter().for_each(|at| data[at..at + new.len()].copy_from_slice(&new));
        }
        let (ts_ns, original_len) = ((seen.time + later).as_nanos() as i64, seen.original_len);
        packet(&mut bytes, &PacketHead { interface: 0, ts_ns, original_len, flags: 0, dropped: 0 }, &data);
    }
    bytes
}

/// Harmless, also in what it says to standard error; gives the output.
fn harmless(desk: &Desk, words: &[&str], sources: &[&str], more: &[&str], allowed: &[u8]) -> String {
    let output = desk.sharkq().args(words).args(sources).args(more).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some() && !error.contains("panicked"), "{words:?} {more:?}: {error}");
    is_harmless(&output.stdout, allowed);
    is_harmless(&output.stderr, b"");
    String::from_utf8(output.stdout).expect("checked above")
}

/// Cells of comma- or tab-separated lines.
fn cells(text: &str, separator: char) -> Vec<String> {
    let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            other if !is_quoted && (other == separator || other == '\n') => {
                cells.push(std::mem::take(&mut cell))
            }
            other => cell.push(other),
        }
    }
    assert!(!is_quoted, "a quote is not closed");
    cells
}

fn no_formula(text: &str, separator: char) {
    for cell in cells(text, separator) {
        let is_number = cell.parse::<f64>().is_ok();
        assert!(is_number || !cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
    }
}

/// What each command prints of these sources, of these statements in every format for people and
/// spreadsheets.
fn everything_is_harmless(desk: &Desk, sources: &[&str], statements: &[String]) {
    for statement in statements {
        for format in ["table", "markdown", "json", "ndjson", "csv", "tsv"] {
            let allowed: &[u8] = if format == "tsv" { b"\t" } else { b"" };
            let text =
                harmless(desk, &["sql", "-q"], sources, &["--format", format, "-c", statement], allowed);
            match format {
                "csv" => no_formula(&text, ','),
                "tsv" => no_formula(&text, '\t'),
                _ => {}
            }
        }
    }
    let script = format!("\\x on\n{};\n", statements.join(";\n"));
    fs::write(desk.at("expanded.sql"), script).expect("a script");
    harmless(desk, &["sql"], sources, &["-f", "expanded.sql"], b"");
    for format in ["table", "markdown", "csv", "json"] {
        let text = harmless(desk, &["kfl"], sources, &["", "--limit", "0", "--format", format], b"");
        if format == "csv" {
            no_formula(&text, ',');
        }
    }
    harmless(desk, &["info"], sources, &[], b"");
    harmless(desk, &["info"], sources, &["--format", "json"], b"");
    for format in ["table", "csv", "json"] {
        harmless(desk, &["coverage"], sources, &["--format", format], b"");
    }
    // What is typed is printed again in errors.
    let typed = hostile(STEERING, 40);
    let typed = String::from_utf8(typed).expect("text");
    for more in [
        vec!["-c".to_owned(), format!("SELECT \"{typed}\" FROM flows")],
        vec!["-c".to_owned(), format!("SELECT * FROM \"{typed}\"")],
        vec!["-c".to_owned(), format!("SELECT {typed}")],
        vec!["-c".to_owned(), "SELECT 1".to_owned(), "-o".to_owned(), format!("no/{typed}")],
        vec!["-c".to_owned(), "SELECT 1".to_owned(), "--identity".to_owned(), format!("no{typed}")],
    ] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        harmless(desk, &["sql"], sources, &more, b"");
    }
    for text in [
        typed.clone(),
        format!("path == \"{typed}"),
        format!("dst.name == \"{typed}:80\""),
        format!("{typed} == 1"),
    ] {
        harmless(desk, &["kfl"], sources, &[&text], b"");
    }
    harmless(desk, &["tables"], &[&typed], &[], b"");
    harmless(desk, &["info"], &[&format!("no{typed}")], &[], b"");
    harmless(desk, &["verify"], &[&format!("no{typed}")], &[], b"");
}

/// Columns of a table that hold a hostile text.
fn arrived(desk: &Desk, source: &Path, table: &str) -> BTreeSet<String> {
    // Domain names have escapes of their own for what is no letter (RFC 1035 section 5.1).
    let is_hostile = |value: &Value| {
        let text = value.to_string();
        text.contains(['\u{9b}', '\u{202e}'])
            || ["\\u001b", "\\\\027", "\\\\226"].iter().any(|part| text.contains(part))
    };
    let rows = desk.rows(source, &format!("SELECT * FROM {table}"));
    let columns = rows.iter().filter_map(Value::as_object).flatten();
    columns.filter(|(_, value)| is_hostile(value)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn hostile_texts_of_every_protocol_are_harmless_wherever_they_are_printed() {
    let desk = Desk::new();
    let paths: Vec<[PathBuf; 3]> = CHOSEN.iter().map(|chosen| poisoned(&desk, chosen)).collect();
    let mut missing = Vec::new();
    for (chosen, [steering, soft, _]) in CHOSEN.iter().zip(&paths) {
        let mut columns = arrived(&desk, steering, chosen.table);
        columns.extend(arrived(&desk, soft, chosen.table));
        println!("{}: {columns:?}", chosen.capture);
        let lacking = chosen.arrive.iter().filter(|column| !columns.contains(**column));
        missing.extend(lacking.map(|column| format!("{column} of {}", chosen.capture)));
    }
    assert!(missing.is_empty(), "these do not arrive: {missing:?}");
    let tables =
        CHOSEN.iter().map(|chosen| chosen.table).chain(["flows", "api_calls", "segments", "coverage"]);
    let tables: BTreeSet<&str> = tables.collect();
    let statements: Vec<String> = tables.iter().map(|table| format!("SELECT * FROM {table}")).collect();
    let sources: Vec<&str> = paths.iter().flatten().map(|path| path.to_str().expect("text")).collect();
    everything_is_harmless(&desk, &sources, &statements);
}

/// Every text of these fields of a JSON document becomes hostile.
fn poison(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(all) => {
            for (name, value) in all.iter_mut() {
                match value {
                    Value::String(text) if fields.contains(&name.as_str()) => *text = HOSTILE.into(),
                    other => poison(other, fields),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| poison(one, fields)),
        _ => {}
    }
}

/// Facts of every kind that has texts, all of them hostile but for what says what it is of.
fn hostile_facts(ts_ns: i64) -> Vec<Record> {
    let h = HOSTILE;
    let labels = json!({h: h, "app": h});
    let port = json!({"name": h, "protocol": h, "port": 80, "target": h, "node_port": 30_000});
    let container =
        json!({"name": h, "id": format!("containerd://{h}"), "image": h, "image_id": h, "ports": [port]});
    let about = json!({"kind": h, "name": h});
    let pod = |uid: &str| {
        json!({"fact": "pod", "uid": uid, "namespace": h, "name": h, "deleted": false, "labels": labels, "owners": [about],
               "ips": ["10.244.0.2", h], "node": h, "host_network": false, "phase": h, "containers": [container], "service_account": h,
               "started_ns": 1, "qos_class": h})
    };
    let all = vec![
        pod("u1"),
        pod(h),
        json!({"fact": "service", "uid": h, "namespace": h, "name": h, "deleted": false, "kind": h, "cluster_ips": ["10.96.0.1", h],
               "external_ips": [h], "ports": [port], "selector": labels, "labels": labels}),
        json!({"fact": "endpoint_slice", "uid": h, "namespace": h, "name": h, "deleted": false, "service": h, "ports": [port],
               "endpoints": [{"addresses": ["10.244.0.2", h], "ready": true, "pod": h, "node": h, "zone": h}]}),
        json!({"fact": "node", "uid": h, "name": h, "deleted": false, "ips": ["10.0.0.9", h], "pod_cidrs": [h], "zone": h, "region": h,
               "labels": labels, "kubelet_version": h, "kernel": h, "instance_type": h}),
        json!({"fact": "namespace", "uid": h, "name": h, "deleted": false, "labels": labels}),
        json!({"fact": "network_policy", "uid": h, "namespace": h, "name": h, "deleted": false,
               "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": h, "except": [h]}}], "ports": [{"port": h, "protocol": h}]}]}}),
        json!({"fact": "event", "uid": h, "namespace": h, "kind": h, "reason": h, "message": h, "about": about, "about_uid": h,
               "component": h, "count": 1, "first_ns": ts_ns, "last_ns": ts_ns}),
        json!({"fact": "interface", "name": h, "ifindex": 1, "state": "not_targeted", "why": h}),
        json!({"fact": "feature", "name": h, "on": false, "why": h}),
        json!({"fact": "feature", "name": "kube_pods", "on": false, "cause": "refused", "why": h}),
        json!({"fact": "feature", "name": "tls", "on": false, "cause": "refused", "why": h}),
        json!({"fact": "evicted", "segment": h, "worker": 0, "seq": 7, "packets": 1, "bytes_stored": 1, "min_ns": ts_ns, "max_ns": ts_ns + 1,
               "interfaces": [h], "sidecar_sha256": h, "why": h}),
        json!({"fact": "evicted", "segment": "00-00000900-1767323398000000000.pcapng.zst", "worker": 0, "seq": 900, "packets": 1,
               "bytes_stored": 1, "min_ns": ts_ns, "max_ns": ts_ns + 1, "interfaces": [h], "sidecar_sha256": h, "why": h}),
        json!({"fact": "stalled", "thread": h, "since_ns": ts_ns, "over": false, "why": h}),
        json!({"fact": "disk", "writing": false, "why": h}),
        json!({"fact": "recovered", "segment": h, "packets": 0, "torn_bytes": 1, "aside": h}),
        json!({"fact": "events_lost", "feature": "sockets", "events": 3, "why": h}),
        json!({"fact": "events_lost", "feature": "tls", "events": 3, "why": h}),
        json!({"fact": "log_removed", "series": "sockets", "bytes": 3, "from_ns": ts_ns, "to_ns": ts_ns + 1_000_000_000, "why": h}),
    ];
    let record = |mut fact: Value| {
        fact["ts_ns"] = ts_ns.into();
        serde_json::from_value::<Record>(fact).expect("a fact")
    };
    all.into_iter().map(record).collect()
}

#[test]
fn hostile_texts_of_manifests_sidecars_and_logs_are_harmless_wherever_they_are_printed() {
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    let first_ns =
        desk.value(&snapshot, "SELECT CAST(min(ts) AS BIGINT) FROM flows").as_i64().expect("a time");
    let old =
        fs::read_dir(snapshot.join("nodes")).expect("a snapshot").next().expect("a node").expect("it").path();
    // No name of a file has a slash or a zero, and these are long enough.
    let node = snapshot.join("nodes").join(HOSTILE);
    fs::rename(&old, &node).expect("a folder can have such a name");
    let rewrite = |path: &Path, fields: &[&str], more: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&fs::read(path).expect("it is there")).expect("JSON");
        poison(&mut value, fields);
        more(&mut value);
        fs::write(path, value.to_string()).expect("it is written");
    };
    let lacks = |value: &mut Value| value["missing"] = json!([{"what": HOSTILE, "why": HOSTILE}]);
    let names = |value: &mut Value| {
        lacks(value);
        value["name"] = HOSTILE.into();
        value["reason"] = HOSTILE.into();
    };
    let common = ["node", "cluster", "recorder", "kernel", "zstd", "requester", "filter", "config_sha256"];
    rewrite(&snapshot.join("manifest.json"), &[&common[..], &["id", "sha256"]].concat(), &names);
    rewrite(&node.join("manifest.json"), &[&common[..], &["snapshot_id", "sha256"]].concat(), &lacks);
    let folder: Vec<PathBuf> = fs::read_dir(node.join("segments"))
        .expect("segments")
        .map(|entry| entry.expect("it").path())
        .collect();
    for sidecar in folder.iter().filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
        rewrite(
            sidecar,
            &[&common[..], &["name", "segment_id", "sha256", "prev_sidecar_sha256"]].concat(),
            &|value| {
                for interface in value["interfaces"].as_array_mut().into_iter().flatten() {
                    interface["pod"] = json!({"namespace": HOSTILE, "name": HOSTILE, "uid": HOSTILE});
                }
            },
        );
    }
    let all = hostile_facts(first_ns);
    facts::write_as(&node.join("log"), [HOSTILE, HOSTILE, "recorder"], &all);
    facts::write_as(&snapshot.join("cluster/log"), ["", HOSTILE, "witness"], &all);
    // Objects, links and folders that no manifest lists.
    fs::write(snapshot.join(format!("{HOSTILE}.pcapng")), "no capture").expect("a file");
    fs::write(node.join("segments").join(HOSTILE), "no segment").expect("a file");
    std::os::unix::fs::symlink("nowhere", snapshot.join(format!("link{HOSTILE}"))).expect("a link");
    fs::write(node.join("log").join(format!("3-1.facts.ndjson.zst{HOSTILE}")), "no log").expect("a file");
    let source = snapshot.to_str().expect("text");
    let tables = [
        "snapshots",
        "segments",
        "coverage",
        "name_coverage",
        "tls_coverage",
        "pods",
        "services",
        "nodes",
        "network_policies",
        "k8s_events",
        "identity_conflicts",
        "flows",
        "http",
    ];
    for (table, column) in [
        ("snapshots", "reason"),
        ("snapshots", "created_by"),
        ("snapshots", "cluster"),
        ("segments", "node"),
        ("coverage", "node"),
        ("coverage", "why"),
        ("coverage", "iface"),
        ("name_coverage", "why"),
        ("pods", "name"),
        ("pods", "labels"),
        ("services", "name"),
        ("nodes", "name"),
        ("network_policies", "peer_cidr"),
        ("k8s_events", "message"),
    ] {
        let arrived = arrived(&desk, &snapshot, table);
        assert!(arrived.contains(column), "{table}.{column} has nothing hostile: {arrived:?}");
    }
    let statements: Vec<String> = tables.iter().map(|table| format!("SELECT * FROM {table}")).collect();
    everything_is_harmless(&desk, &[source], &statements);
    for format in [&[][..], &["--format", "json"]] {
        let report = harmless(&desk, &["verify"], &[source], format, b"");
        assert!(report.contains("no manifest lists it"), "{report}");
    }
    harmless(&desk, &["cache", "ls"], &[], &[], b"");
    // An index of it tells the same.
    printed(desk.sharkq().args(["index", source, "-o", "index"]));
    harmless(&desk, &["info"], &["index"], &[], b"");
}

#[test]
fn hostile_facts_are_facts() {
    let all = hostile_facts(1);
    let kinds: BTreeSet<String> =
        all.iter().map(|record| format!("{:?}", std::mem::discriminant(&record.fact))).collect();
    assert!(kinds.len() >= 15 && all.iter().any(|record| matches!(record.fact, Fact::LogRemoved(_))));
}
