//! Rows to ask KFL about: calls and flows from a seed, in the words of the schema, as an index on disk. In: a folder. Out:
//! tables whose rows hold, and lack, everything the expressions of `fixtures/kfl` ask for. The same seed gives the same rows.

mod protocols;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ArrowWriter;
use shark_schema::call::{CallBlock, CallRow};
use shark_schema::cell::{Cell, Pair, TextMap};
use shark_schema::shared::{DST, SRC};
use shark_schema::table::{Block, Source, Table};
use shark_schema::tables::dns::{self, DnsBlock, DnsRow};
use shark_schema::tables::flows::{self, FlowBlock, FlowRow};
use shark_schema::tables::http::{self, HttpBlock, HttpRow};

/// 2026-03-14 22:30:00 UTC: what `now()` is; a third of the rows is later.
pub const NOW_NS: i64 = 1_773_527_400_000_000_000;

const FLOWS: usize = 2500;
const HTTP: usize = 6000;
const DNS: usize = 2500;
const MINUTE_NS: i64 = 60_000_000_000;

/// Namespace, workload, pod, service, address, port, process, DNS name; empty is not known.
type Peer = [&'static str; 8];

#[rustfmt::skip]
const PEERS: &[Peer] = &[
    ["production", "payments", "payment-6f", "payment-service", "10.0.1.1", "8080", "java", ""],
    ["production", "web", "web-server-123", "web", "10.0.1.2", "80", "nginx", ""],
    ["production", "orders", "orders", "orders", "10.0.1.3", "8443", "orders", ""],
    ["production", "gateway", "api-gateway", "api-gateway", "10.0.53.101", "443", "envoy", "api.example.com"],
    ["staging", "users", "users-1", "user-service", "10.0.2.1", "8080", "python", ""],
    ["staging", "orders", "orders-594487879c-7ddxf", "", "10.0.2.2", "9000", "nginx", ""],
    ["payments", "ledger", "ledger-0", "ledger", "10.0.3.1", "5432", "postgres", ""],
    ["kube-system", "coredns", "coredns-1", "kube-dns", "10.96.0.10", "53", "coredns", ""],
    ["kube-system", "service-discovery", "service-discovery", "", "10.0.4.1", "53", "sd", ""],
    ["k8s-mule", "network-diagnostics", "network-diagnostics", "", "10.0.5.1", "4444", "curl", ""],
    ["k8s-mule", "miner", "miner-7", "", "10.0.5.2", "3333", "xmrig", ""],
    ["prod", "shop", "pod-name", "shop", "10.0.6.1", "8080", "node", ""],
    ["default", "bifrost", "bifrost-0", "bifrost", "192.168.7.1", "8000", "bifrost", ""],
    ["default", "frontend", "frontend-1", "", "192.168.7.2", "8080", "nginx", "www.domain.com"],
    ["ns1", "one", "one-1", "one", "fd00::1", "80", "one", ""],
    ["ns2", "two", "two-1", "two", "fd00::2", "80", "two", ""],
    ["", "", "", "", "203.0.113.9", "443", "", "s3.amazonaws.com"],
    ["", "", "", "", "203.0.113.10", "14433", "", "attacker.example.net"],
    ["", "", "", "", "1.1.1.1", "443", "", "cloudflare-dns.com"],
    ["", "", "", "", "8.8.8.8", "443", "", "dns.google"],
    ["", "", "", "", "198.51.100.7", "443", "", "cdn-provider.example.com"],
    ["", "", "", "", "198.51.100.8", "5432", "postgres", "db.example.com"],
    ["", "", "", "", "198.51.100.9", "6379", "", "redis.internal"],
    ["", "", "", "", "198.51.100.12", "443", "", "www.domain.com"],
    ["something", "something", "something-1", "something", "10.0.8.1", "80", "some", ""],
    ["monitoring", "exporter", "kube-prometheus-stack-prometheus-node-exporter", "", "10.0.8.2", "9100", "node", ""],
    ["", "", "", "", "169.254.169.254", "80", "", ""],
    ["", "", "", "", "198.51.100.11", "45700", "", "pool.minexmr.com"],
    ["production", "payment-service", "", "payment-service", "10.0.1.9", "8080", "", ""],
];

#[rustfmt::skip]
const PATHS: &[&str] = &[
    "/", "/api/v1/orders", "/api/v2/users/7", "/api/v1/charge", "/charge", "/orders/17", "/health", "/healthz", "/.env",
    "/actuator/info", "/server-info", "/version", "/latest/meta-data/iam/x", "/api/v1/secrets", "/v1/chat/completions",
    "/shop.Orders/CreateOrder", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/hello.Greeter/SayHello", "/example",
    "/api/users", "/img/logo.png", "/charge",
];

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "google.com", "example.com", "api.external-service.com", "pool.minexmr.com", "xmr.nanopool.org", "s3.amazonaws.com",
    "cloudflare-dns.com", "dns.google", "c2.bad.example", "darknet.example", "cdn-mirror.example", "data-relay.example",
    "steal-creds.example", "mining-pool.example", "front.shop.svc.cluster.local", "db.example.com",
];

/// Writes the tables below a folder.
pub fn write(folder: &Path) {
    let mut chance = Chance(0x5eed);
    let flows: Vec<Flow> = (0..FLOWS).map(|number| Flow::new(number, &mut chance)).collect();
    let mut block = FlowBlock::default();
    let shared: Vec<Shared> = flows.iter().map(|flow| flow.append(&mut block, &mut chance)).collect();
    store(folder, &flows::TABLE, &shared, |arrays| block.finish(arrays));
    http_rows(folder, &flows, &mut chance);
    dns_rows(folder, &flows, &mut chance);
    protocols::write(folder, &flows, &mut chance);
}

/// What a row has in common with the others of its flow, by column.
type Shared = HashMap<&'static str, Value>;

enum Value {
    Text(Option<String>),
    Int(Option<i32>),
    Bool(Option<bool>),
    Labels(Option<Vec<Pair<'static>>>),
}

fn text(value: Option<&str>) -> Value {
    Value::Text(value.map(str::to_owned))
}

/// The column of rows that have this in common with others; what is not there is not known.
fn column(name: &str, kind: &DataType, rows: &[Shared]) -> ArrayRef {
    let values = rows.iter().map(|row| row.get(name));
    match kind {
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.map(|value| match value {
            Some(Value::Text(text)) => text.as_deref(),
            _ => None,
        }))),
        DataType::Int32 => Arc::new(Int32Array::from_iter(values.map(|value| match value {
            Some(Value::Int(number)) => *number,
            _ => None,
        }))),
        DataType::Boolean => Arc::new(BooleanArray::from_iter(values.map(|value| match value {
            Some(Value::Bool(is_so)) => *is_so,
            _ => None,
        }))),
        _ => {
            let mut labels = TextMap::builder();
            for value in values {
                let of = match value {
                    Some(Value::Labels(labels)) => labels.as_deref(),
                    _ => None,
                };
                TextMap::append(&mut labels, of);
            }
            TextMap::finish(&mut labels)
        }
    }
}

fn store(folder: &Path, table: &Table, shared: &[Shared], finish: impl FnOnce(&mut Vec<ArrayRef>)) {
    let mut arrays = Vec::new();
    finish(&mut arrays);
    let mut own = arrays.into_iter();
    let rows = 0..shared.len() as i64;
    let columns = table.columns().map(|of| match (of.source, of.name) {
        (Source::Flow(_) | Source::Endpoint(..), name) => column(name, &(of.data_type)(), shared),
        // The packets behind a row; some rows lead to none.
        (Source::Segment, _) => Arc::new(rows.clone().map(|_| Some("seed")).collect::<StringArray>()),
        (Source::Row, "first_frame" | "last_frame") => {
            Arc::new(rows.clone().map(|row| (row % 11 != 0).then_some(row + 1)).collect::<Int64Array>())
        }
        (Source::Row, _) => own.next().expect("an array for each column of the rows"),
    });
    let batch = table.batch(columns.collect()).expect("arrays as the schema has them");
    let schema = Arc::new(Schema::new(table.schema().fields().clone()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).expect("the same types");
    let below = folder.join("tables").join(table.name);
    std::fs::create_dir_all(&below).expect("a folder");
    let file = File::create(below.join("run-00000.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, schema, None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

/// Numbers that look random and are always the same (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: i64) -> i64 {
        (self.next() % end as u64) as i64
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as i64) as usize]
    }

    fn one_in(&mut self, many: i64) -> bool {
        self.below(many) == 0
    }

    /// The value, or not known once in so many.
    fn mostly<T>(&mut self, many: i64, value: T) -> Option<T> {
        (!self.one_in(many)).then_some(value)
    }
}

struct Flow {
    id: String,
    ts: i64,
    src: Peer,
    dst: Peer,
    src_port: i32,
    node: &'static str,
    vantage: Option<&'static str>,
}

/// Minutes: a tenth of the rows is ten years older, or later, than the others.
fn far_away(chance: &mut Chance) -> i64 {
    if chance.one_in(10) { chance.pick(&[-5_256_000, 5_256_000]) } else { 0 }
}

fn known(text: &'static str) -> Option<&'static str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Labels of its pod.
fn labels([_, workload, pod, ..]: Peer) -> Option<Vec<(Cow<'static, str>, Cow<'static, str>)>> {
    let labels: &[(&str, &str)] = match workload {
        _ if pod.is_empty() => return None,
        "payments" => &[("app", "payments"), ("tier", "backend"), ("version", "canary")],
        "web" => &[("app", "checkout"), ("version", "v2")],
        "orders" => &[("app", "checkout"), ("tier", "middle"), ("version", "v1")],
        "users" => &[("tier", "backend"), ("version", "canary")],
        _ => &[],
    };
    Some(labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

impl Flow {
    fn new(number: usize, chance: &mut Chance) -> Flow {
        Flow {
            id: format!("f{number:04}"),
            ts: NOW_NS + (chance.below(90) - 60) * MINUTE_NS + far_away(chance) * MINUTE_NS,
            src: chance.pick(PEERS),
            dst: chance.pick(PEERS),
            src_port: chance.pick(&[8080, 40000, 51234, 60123]),
            node: chance.pick(&["ip-10-0-25-170.ec2.internal", "node-b"]),
            vantage: chance.pick(&[Some("client"), Some("server"), Some("tls_uprobe"), None]),
        }
    }

    fn append(&self, block: &mut FlowBlock, chance: &mut Chance) -> Shared {
        let proto = chance.pick(&["tcp", "tcp", "tcp", "udp", "sctp", "icmp", "icmp6"]);
        let state = chance.pick(&["S0", "SF", "SF", "REJ", "RSTO", "RSTR", "S1", "S2", "S3", "SH"]);
        let is_reset = state.starts_with("RST") && proto == "tcp";
        let close = match state {
            "S0" | "S1" | "SH" => chance.pick(&["open", "timeout"]),
            _ if is_reset => chance.pick(&["rst_src", "rst_dst"]),
            _ => "fin",
        };
        let l7: &[&str] = chance.pick(&[&["http"][..], &["tls"], &["dns"], &["http", "tls"], &[]]);
        let bytes = [0_i64; 4].map(|_| chance.below(1 << chance_bits(proto)));
        let zones = [chance.pick(&["a", "b"]), chance.pick(&["a", "b"])];
        let duration_ns =
            chance.pick(&[Some(0), Some(1_000_000), Some(90_000_000), Some(3_000_000_000), None]);
        let is_icmp = proto.starts_with("icmp");
        let mut shared = Shared::from([
            ("flow_id", text(Some(&self.id))),
            ("snapshot_id", text(chance.pick(&[Some("01SNAP"), None]))),
            ("cluster", text(chance.pick(&[Some("east"), Some("west")]))),
            ("node", text(Some(self.node))),
            ("vantage", text(self.vantage)),
        ]);
        let port = (!is_icmp).then_some(self.src_port);
        let proof = |peer: Peer| Some(if peer[0].is_empty() { "none" } else { "ip_interval" });
        shared.extend(endpoint("src", self.src, port));
        shared.extend(of_flows("src", self.src, zones[0], chance, |_| proof(self.src)));
        shared.extend(endpoint("dst", self.dst, self.dst[5].parse().ok().filter(|_| !is_icmp)));
        let pick = |chance: &mut Chance| chance.pick(&[Some("socket"), Some("none"), None]);
        shared.extend(of_flows("dst", self.dst, zones[1], chance, pick));
        let is_cross_namespace = Some(self.src[0] != self.dst[0]).filter(|_| !self.dst[0].is_empty());
        shared.insert("is_cross_zone", Value::Bool(Some(zones[0] != zones[1])));
        shared.insert("is_cross_namespace", Value::Bool(is_cross_namespace));
        block.append(&FlowRow {
            ts: Some(self.ts),
            end_ts: Some(self.ts + MINUTE_NS),
            duration_ns,
            proto: Some(proto),
            l7: chance.pick(&[Some(l7), None]),
            orig_bytes: Some(bytes[0]),
            resp_bytes: Some(bytes[1]),
            orig_pkts: Some(1 + bytes[0] / 700),
            resp_pkts: Some(bytes[1] / 900),
            orig_ip_bytes: Some(bytes[0] + 40),
            resp_ip_bytes: Some(bytes[1] + 40),
            conn_state: (proto == "tcp").then_some(state),
            close_reason: Some(if proto == "tcp" { close } else { "timeout" }),
            rst_by: is_reset.then(|| chance.pick(&["src", "dst", "middlebox"])),
            missed_bytes: Some(bytes[2] % 3),
            completeness: (proto == "tcp").then(|| chance.pick(&[1, 7, 31, 33, 47])),
            ..FlowRow::default()
        });
        shared
    }

    /// What its calls have in common.
    fn shared(&self) -> Shared {
        let mut shared = Shared::from([
            ("flow_id", text(Some(&self.id))),
            ("snapshot_id", text(Some("01SNAP"))),
            ("cluster", text(Some("east"))),
            ("node", text(Some(self.node))),
            ("vantage", text(self.vantage)),
        ]);
        shared.extend(endpoint("src", self.src, Some(self.src_port)));
        shared.extend(endpoint("dst", self.dst, self.dst[5].parse().ok()));
        shared
    }
}

/// The name of a column of an endpoint.
fn of_end(prefix: &str, column: &str) -> &'static str {
    let both = SRC.iter().chain(DST).map(|column| column.name);
    let is_it =
        |name: &&str| name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) == Some(column);
    both.into_iter().find(is_it).expect("a column of endpoints")
}

fn endpoint(prefix: &str, peer: Peer, port: Option<i32>) -> Vec<(&'static str, Value)> {
    let mut columns =
        vec![(of_end(prefix, "ip"), text(Some(peer[4]))), (of_end(prefix, "port"), Value::Int(port))];
    for (at, name) in ["namespace", "workload", "pod", "service"].into_iter().enumerate() {
        columns.push((of_end(prefix, name), text(known(peer[at]))));
    }
    columns
}

/// The columns of an endpoint that only flows have.
fn of_flows(
    prefix: &str,
    peer: Peer,
    zone: &str,
    chance: &mut Chance,
    proof: impl FnOnce(&mut Chance) -> Option<&'static str>,
) -> Vec<(&'static str, Value)> {
    let kind = known(peer[1]).map(|_| chance.pick(&["Deployment", "StatefulSet"]));
    vec![
        (of_end(prefix, "workload_kind"), text(kind)),
        (of_end(prefix, "container"), text(known(peer[1]))),
        (of_end(prefix, "zone"), text(Some(zone))),
        (of_end(prefix, "labels"), Value::Labels(labels(peer))),
        (of_end(prefix, "dns"), text(known(peer[7]))),
        (of_end(prefix, "process"), text(known(peer[6]))),
        (of_end(prefix, "identity"), text(proof(chance))),
    ]
}

fn chance_bits(proto: &str) -> u32 {
    if proto == "tcp" { 24 } else { 12 }
}

/// What a call has of its flow.
fn call_of<'a>(flow: &'a Flow, id: &'a str, chance: &mut Chance) -> CallRow<'a> {
    let ts = flow.ts + chance.below(50) * 1_000_000_000;
    let duration = chance.pick(&[
        None,
        Some(900_000),
        Some(5_000_000),
        Some(150_000_000),
        Some(2_500_000_000),
        Some(6_000_000_000),
    ]);
    let pairing = if duration.is_none() { chance.pick(&["request_only", "lossy"]) } else { "complete" };
    CallRow {
        call_id: Some(id),
        ts: Some(ts),
        end_ts: duration.map(|duration| ts + duration),
        duration_ns: duration,
        request_bytes: Some(80 + chance.below(900)),
        response_bytes: duration.map(|_| 60 + chance.below(9000)),
        tls: chance.pick(&[Some(true), Some(false), None]),
        trace_id: chance.pick(&[Some("4bf92f3577b34da6a3ce929d0e0e4736"), None]),
        pairing: Some(pairing),
        ..CallRow::default()
    }
}

fn http_rows(folder: &Path, flows: &[Flow], chance: &mut Chance) {
    let (mut calls, mut own, mut shared) = (CallBlock::default(), HttpBlock::default(), Vec::new());
    for number in 0..HTTP {
        let flow = &flows[chance.below(FLOWS as i64) as usize];
        let id = format!("h{number:04}");
        let mut call = call_of(flow, &id, chance);
        let answered = call.duration_ns.is_some();
        let status = answered.then(|| chance.pick(&[200, 200, 201, 304, 401, 404, 429, 500, 500, 503]));
        call.is_error = Some(status.is_none_or(|status| status >= 500));
        call.error_type = if answered { None } else { Some("timeout") };
        calls.append(&call);
        shared.push(flow.shared());
        append_http(&mut own, status, chance);
    }
    store(folder, &http::TABLE, &shared, |arrays| {
        calls.finish(arrays);
        own.finish(arrays);
    });
}

fn append_http(own: &mut HttpBlock, status: Option<i32>, chance: &mut Chance) {
    let path = chance.pick(PATHS);
    let inner = chance.pick(&[None, None, None, Some("grpc"), Some("graphql"), Some("ws")]);
    let method = if inner == Some("grpc") { "POST" } else { chance.pick(&["GET", "GET", "POST", "PUT"]) };
    let query =
        chance.pick(&[None, Some("page=2&q=blue%20shoes"), Some("page=7"), Some("debug=1"), Some("a=43")]);
    let mut sent: Vec<(Cow<'_, str>, Cow<'_, str>)> = vec![("host".into(), "shop.example".into())];
    for (name, values) in [
        ("user-agent", &["Mozilla/4.0", "curl/8", "kube-probe/1.27+"][..]),
        ("authorization", &["Bearer x", "AWS4-HMAC-SHA256 x", "Token y", ""]),
        ("accept", &["application/dns-json", "*/*"]),
        ("upgrade", &["websocket"]),
        ("content-type", &["application/json", "text/plain"]),
        ("x-aws-ec2-metadata-token-ttl-seconds", &["60"]),
        ("x", &["y", "z"]),
        ("a", &["b", "d"]),
        ("cookie", &["sid=abc; theme=dark", "sid=xyz"]),
        ("content-length", &["12", "many", "4096"]),
    ] {
        if chance.one_in(3) {
            sent.push((name.into(), chance.pick(values).into()));
        }
    }
    let received: Vec<(Cow<'_, str>, Cow<'_, str>)> = vec![
        ("server".into(), chance.pick(&["nginx", "envoy"]).into()),
        ("set-cookie".into(), chance.pick(&["sid=new; Path=/; Secure\ntheme=light", "lang=en"]).into()),
    ];
    let trailers: Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> = (inner == Some("grpc") && !chance.one_in(3))
        .then(|| vec![("grpc-status".into(), chance.pick(&["0", "5", "14", "bad"]).into())]);
    let bytes = [0; 4].map(|_| chance.below(2_000_000));
    own.append(&HttpRow {
        method: chance.mostly(40, method),
        host: Some("shop.example"),
        path: Some(path),
        route: chance.pick(&[Some("/orders/{id}"), None]),
        query,
        url: Some("http://shop.example/x"),
        status_code: status,
        version: chance.pick(&[Some("1.1"), Some("2"), Some("1.0")]),
        user_agent: chance.pick(&[Some("curl/8"), None]),
        content_type: chance.pick(&[Some("text/html"), Some("application/json")]),
        request_headers: chance.mostly(50, &sent),
        response_headers: status.map(|_| &received[..]),
        request_body: chance.pick(&[None, Some("{\"card\":\"4111\"}"), Some("a=1")]),
        response_body: chance.pick(&[None, Some("stack trace: NullPointer"), Some("ok")]),
        request_body_len: Some(bytes[0] / 100),
        response_body_len: status.map(|_| bytes[1]),
        ttfb_ns: status.map(|_| bytes[2] * 1000),
        x_request_id: chance.pick(&[Some("r-1"), Some("r-2"), None]),
        attempt: chance.pick(&[Some(1), Some(3), None]),
        inner,
        response_trailers: trailers.as_deref(),
        reason: chance.pick(&[Some("OK"), Some("Not Found")]),
        request_head_len: Some(bytes[3] / 1000),
        response_head_len: status.map(|_| bytes[3] / 2000),
        ..HttpRow::default()
    });
}

fn dns_rows(folder: &Path, flows: &[Flow], chance: &mut Chance) {
    let (mut calls, mut own, mut shared) = (CallBlock::default(), DnsBlock::default(), Vec::new());
    for number in 0..DNS {
        let flow = &flows[chance.below(FLOWS as i64) as usize];
        let id = format!("d{number:04}");
        let mut call = call_of(flow, &id, chance);
        let answered = call.duration_ns.is_some();
        if !answered && chance.one_in(4) {
            call.pairing = Some("response_only");
        }
        calls.append(&call);
        shared.push(flow.shared());
        let (rcode, rcode_num) = chance.pick(&[("NOERROR", 0), ("NXDOMAIN", 3), ("SERVFAIL", 2)]);
        let name = chance.pick(NAMES);
        let names = [name, "second.example"];
        let answers: &[&str] = if rcode_num > 0 {
            &[]
        } else {
            chance.pick(&[&["10.0.0.1"][..], &["10.0.0.1", "10.0.0.2"], &[]])
        };
        let types: &[&str] = &["A", "A"][..answers.len()];
        let is_double = chance.one_in(8);
        own.append(&DnsRow {
            query: if is_double { Some(name) } else { chance.mostly(60, name) },
            qtype: chance.pick(&[Some("A"), Some("AAAA"), Some("TXT"), None]),
            rcode: answered.then_some(rcode),
            rcode_num: answered.then_some(rcode_num),
            answers: answered.then_some(answers),
            answer_types: answered.then_some(types),
            truncated: chance.pick(&[Some(true), Some(false), None]),
            transport: chance.pick(&[Some("udp"), Some("tcp")]),
            search_expansion: chance.pick(&[Some(true), Some(false)]),
            questions: is_double.then_some(&names[..]),
            ..DnsRow::default()
        });
    }
    store(folder, &dns::TABLE, &shared, |arrays| {
        calls.finish(arrays);
        own.finish(arrays);
    });
}
