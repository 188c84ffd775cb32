//! Other people's captures against tshark's view of them: every frame, TCP conversation, HTTP message and DNS message.
//! Runs where `SHARK_CORPUS` names the corpus. What differs is listed below with the reason, and nothing else may.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::desk::Desk;

const FOLDERS: [&str; 7] = ["http", "dns", "udp", "linktype", "pcapng", "pcapfile", "frag"];

/// Files and kinds of fields that differ from tshark 4.0.17, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "pcapng/pcapnggen__le_test102.pcapng",
        "frames",
        "Wireshark numbers three custom blocks as frames; they hold no packet (draft-ietf-opsawg-pcapng section 4.7)",
    ),
    ("pcapng/pcapnggen__le_test202.pcapng", "frames", "as le_test102"),
    (
        "pcapfile/tcpdump__timestamp_invalid_micro.pcap",
        "frames",
        "microseconds beyond a second: tshark prints their digits, here they are added",
    ),
    (
        "pcapng/zeek__vlan-pcp-dei.pcapng",
        "tcp",
        "the same packets with several VLAN tags: flows counts them at one place, as at a router on a stick",
    ),
    ("dns/zeek__ipv6-fragmented-dns.pcap", "dns", "a question that is sent again is one call"),
    (
        "http/ppp__HttpMalformedResponse.pcapng",
        "completeness",
        "4.0 leaves the first packet of a stream that begins without SYN out of tcp.completeness",
    ),
    ("http/wshark__http-ooo.pcap", "completeness", "as above"),
    ("linktype/packetnet__LinuxCookedCapturev2.pcap", "completeness", "as above"),
    ("linktype/zeek__raw_packets.pcap", "completeness", "as above"),
    ("pcapng/ppp__pcapng-example.pcapng", "completeness", "as above"),
    ("frag/ppp__frag_http_req.pcap", "completeness", "as above"),
    (
        "frag/zeek__ipv6-http-atomic-frag.pcap",
        "completeness",
        "a SYN in an atomic fragment (RFC 6946) is not counted by 4.0",
    ),
    (
        "http/suri__http-connect-tls.pcap",
        "http",
        "tshark takes a byte of the tunnel for a body of the answer to CONNECT, which has none (RFC 9110 section 9.3.6)",
    ),
    (
        "http/suri__http-multiple-cl.pcap",
        "http",
        "both Content-Length values are shown joined (RFC 9110 section 5.3), tshark shows the first and uses the last",
    ),
    (
        "http/zeek__methods.pcap",
        "http",
        "a request line that is a method alone is no request (RFC 9112 section 3)",
    ),
    ("http/zeek__methods.pcap", "pairs", "the same request"),
    ("pcapng/ppp__pcapng-example.pcapng", "http", "the head is cut by the snap length before its end"),
    (
        "dns/zeek__dynamic-update.pcap",
        "dns",
        "UPDATE: tshark names the prerequisite count differently and leaves n_answers empty (RFC 2136 section 2.2)",
    ),
];

#[test]
fn rows_are_what_tshark_sees() {
    let Some(corpus) = folder() else { return };
    let mut verdict = Verdict::default();
    for folder in FOLDERS {
        let mut files: Vec<PathBuf> = std::fs::read_dir(corpus.join(folder))
            .expect("the corpus")
            .map(|file| file.expect("a file").path())
            .collect();
        files.sort();
        files.iter().for_each(|file| compare(&corpus, file, &mut verdict));
    }
    verdict.judge();
}

/// The corpus, where there is one.
pub fn folder() -> Option<PathBuf> {
    let corpus = std::env::var_os("SHARK_CORPUS").map(PathBuf::from).filter(|path| path.is_dir());
    if corpus.is_none() {
        eprintln!("skipped: SHARK_CORPUS names no folder of captures");
    }
    corpus
}

#[derive(Default)]
struct Verdict {
    compared: BTreeMap<&'static str, u64>,
    differences: BTreeMap<(String, &'static str), Vec<String>>,
}

impl Verdict {
    fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        file: &str,
        kind: &'static str,
        what: &str,
        ours: T,
        theirs: T,
    ) {
        *self.compared.entry(kind).or_default() += 1;
        if ours != theirs {
            let difference = format!("{what}: {ours:?}, tshark {theirs:?}");
            self.differences.entry((file.to_owned(), kind)).or_default().push(difference);
        }
    }

    /// Every difference is listed, every line of the list is needed, and together they are at most 2 %.
    fn judge(&self) {
        let listed: BTreeSet<(&str, &str)> =
            EXCEPTIONS.iter().map(|(file, kind, _)| (*file, *kind)).collect();
        let found: BTreeSet<(&str, &str)> =
            self.differences.keys().map(|(file, kind)| (file.as_str(), *kind)).collect();
        let unlisted: Vec<_> = self
            .differences
            .iter()
            .filter(|((file, kind), _)| !listed.contains(&(file.as_str(), *kind)))
            .collect();
        assert!(unlisted.is_empty(), "differs from tshark: {unlisted:#?}");
        let unneeded: Vec<_> = listed.difference(&found).collect();
        assert!(unneeded.is_empty(), "no longer differs: {unneeded:?}");
        let compared: u64 = self.compared.values().sum();
        let differ: usize = self.differences.values().map(Vec::len).sum();
        eprintln!("{differ} of {compared} fields differ: {:?}", self.compared);
        assert!(compared > 20_000 && (differ as u64) * 50 <= compared, "{differ} of {compared} differ");
    }
}

type Line = BTreeMap<String, String>;

/// A table of the golden truth; a repeated value counts by its last, innermost one.
fn golden(corpus: &Path, file: &str, table: &str) -> Vec<Line> {
    let Ok(text) = std::fs::read(corpus.join(format!("golden/{file}.{table}.tsv"))) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.split('\n');
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let row = |line: &str| {
        names.iter().map(|name| name.to_string()).zip(line.split('\t').map(str::to_owned)).collect()
    };
    lines.filter(|line| !line.is_empty()).map(row).collect()
}

fn innermost(cell: &str) -> &str {
    cell.rsplit('|').next().unwrap_or_default()
}

fn number(cell: &str) -> Option<i64> {
    match innermost(cell).strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => innermost(cell).parse().ok(),
    }
}

fn time_ns(cell: &str) -> Option<i64> {
    let (seconds, fraction) = cell.split_once('.')?;
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(seconds.parse::<i64>().ok()?.saturating_mul(1_000_000_000).saturating_add(fraction.parse().ok()?))
}

const PACKETS: &str = "SELECT 'packet' AS kind, packet_id, CAST(ts AS BIGINT) AS ts, caplen, len, src_ip, dst_ip, \
    src_port, dst_port, tcp_flags, tcp_seq, tcp_ack, payload_len, flow_id FROM packets";
const FLOWS: &str = "SELECT 'flow' AS kind, flow_id, src_ip, src_port, orig_pkts, resp_pkts, orig_bytes, resp_bytes, \
    orig_wire_bytes + resp_wire_bytes AS bytes, completeness FROM flows WHERE proto = 'tcp'";
const HTTP: &str = "SELECT 'http' AS kind, flow_id, method, url, path || coalesce('?' || query, '') AS uri, \
    status_code, request_headers, response_headers, request_body_len, response_body_len, interim_statuses, \
    pairing FROM http";
const DNS: &str = "SELECT 'dns' AS kind, trans_id, query, qtype, opcode, pairing, rcode_num, authoritative, truncated, \
    n_answers, n_authority, n_additional FROM dns";

/// Rows of a capture by kind.
fn rows(capture: &Path) -> BTreeMap<String, Vec<Value>> {
    let desk = Desk::new();
    let index = desk.at("index");
    // A damaged capture is indexed as far as it goes and says so with the code 1.
    let made = desk.sharkq().arg("index").arg(capture).args(["--packets", "-o"]).arg(&index).output();
    assert!(matches!(made.expect("it starts").status.code(), Some(0 | 1)), "{}", capture.display());
    let mut sorted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for sql in [PACKETS, FLOWS, HTTP, DNS] {
        let mut command = desk.sharkq();
        command.arg("sql").arg(&index).args(["--format", "ndjson", "-c", sql]);
        let output = command.output().expect("it starts");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let row: Value = serde_json::from_str(line).expect("a row is JSON");
            sorted.entry(row["kind"].as_str().expect("a kind").to_owned()).or_default().push(row);
        }
    }
    sorted
}

fn compare(corpus: &Path, capture: &Path, verdict: &mut Verdict) {
    let file = capture.strip_prefix(corpus).expect("below the corpus").to_string_lossy().into_owned();
    let rows = rows(capture);
    let of = |kind: &str| rows.get(kind).map(Vec::as_slice).unwrap_or_default();
    let streams = frames(corpus, &file, of("packet"), verdict);
    conversations(corpus, &file, of("flow"), &streams, verdict);
    http(corpus, &file, of("http"), &streams, verdict);
    dns(corpus, &file, of("dns"), verdict);
}

/// Compares frames; returns tshark's stream number of each flow.
fn frames(corpus: &Path, file: &str, packets: &[Value], verdict: &mut Verdict) -> BTreeMap<String, String> {
    let by_number: BTreeMap<i64, &Value> =
        packets.iter().map(|packet| (packet["packet_id"].as_i64().expect("a number"), packet)).collect();
    let truth = golden(corpus, file, "frames");
    verdict.check(file, "frames", "count", packets.len(), truth.len());
    let mut streams: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for frame in &truth {
        let Some(packet) = by_number.get(&number(&frame["frame"]).expect("a number")) else { continue };
        let at = format!("frame {}", frame["frame"]);
        let mut same = |name: &str, ours: Value, theirs: Value| {
            verdict.check(file, "frames", &format!("{at} {name}"), ours, theirs);
        };
        if !frame["time"].is_empty() {
            same("time", packet["ts"].clone(), time_ns(&frame["time"]).into());
        }
        same("len", packet["len"].clone(), number(&frame["len"]).into());
        same("caplen", packet["caplen"].clone(), number(&frame["caplen"]).into());
        if matches!(frame["l4"].as_str(), "tcp" | "udp") {
            same("src", packet["src_ip"].clone(), innermost(&frame["src"]).into());
            same("dst", packet["dst_ip"].clone(), innermost(&frame["dst"]).into());
            if !frame["sport"].is_empty() {
                same("sport", packet["src_port"].clone(), number(&frame["sport"]).into());
                same("dport", packet["dst_port"].clone(), number(&frame["dport"]).into());
            }
        }
        if frame["l4"] == "tcp" && !frame["tcp_flags"].is_empty() {
            let flags = number(&frame["tcp_flags"]).expect("flags");
            let letters: String = "FSRPAUEC"
                .chars()
                .enumerate()
                .filter(|(bit, _)| flags >> bit & 1 == 1)
                .map(|(_, c)| c)
                .collect();
            same("flags", packet["tcp_flags"].clone(), letters.into());
            same("seq", packet["tcp_seq"].clone(), number(&frame["seq_raw"]).into());
            same("payload", packet["payload_len"].clone(), number(&frame["payload_len"]).into());
            if flags & 16 != 0 {
                same("ack", packet["tcp_ack"].clone(), number(&frame["ack_raw"]).into());
            }
            if let Some(flow) = packet["flow_id"].as_str() {
                streams.entry(flow.to_owned()).or_default().insert(frame["stream"].clone());
            }
        }
    }
    let mut flows: BTreeMap<&String, usize> = BTreeMap::new();
    for (flow, numbers) in &streams {
        verdict.check(file, "streams", &format!("streams of flow {flow}"), numbers.len(), 1);
        numbers.iter().for_each(|number| *flows.entry(number).or_default() += 1);
    }
    for (stream, count) in &flows {
        verdict.check(file, "streams", &format!("flows of stream {stream}"), *count, 1);
    }
    let alone = streams.iter().filter(|(_, numbers)| numbers.iter().all(|number| flows[number] == 1));
    alone.filter_map(|(flow, numbers)| Some((flow.clone(), numbers.first()?.clone()))).collect()
}

fn conversations(
    corpus: &Path,
    file: &str,
    flows: &[Value],
    streams: &BTreeMap<String, String>,
    verdict: &mut Verdict,
) {
    let truth = golden(corpus, file, "tcp");
    for flow in flows {
        let Some(stream) = streams.get(flow["flow_id"].as_str().expect("an id")) else { continue };
        let Some(theirs) = truth.iter().find(|line| line["stream"] == *stream) else { continue };
        let forward = flow["src_ip"] == theirs["a_ip"].as_str()
            && flow["src_port"].as_i64() == number(&theirs["a_port"]);
        let (ab, ba) = if forward { ("orig", "resp") } else { ("resp", "orig") };
        let mut same = |kind, name: &str, ours: &Value| {
            verdict.check(
                file,
                kind,
                &format!("stream {stream} {name}"),
                ours.as_i64(),
                number(&theirs[name]),
            );
        };
        same("tcp", "bytes", &flow["bytes"]);
        same("tcp", "packets_ab", &flow[format!("{ab}_pkts")]);
        same("tcp", "packets_ba", &flow[format!("{ba}_pkts")]);
        same("tcp", "payload_ab", &flow[format!("{ab}_bytes")]);
        same("tcp", "payload_ba", &flow[format!("{ba}_bytes")]);
        same("completeness", "completeness", &flow["completeness"]);
    }
}

/// How often each message is there.
type Multiset = BTreeMap<String, usize>;

fn add(set: &mut Multiset, parts: &[&str]) {
    *set.entry(parts.join(" ")).or_default() += 1;
}

/// Messages tshark has must be there as often, and no others.
fn same_messages(file: &str, kind: &'static str, ours: &Multiset, theirs: &Multiset, verdict: &mut Verdict) {
    for message in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let count = |set: &Multiset| set.get(message).copied().unwrap_or(0);
        verdict.check(file, kind, message, count(ours), count(theirs));
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn http(
    corpus: &Path,
    file: &str,
    rows: &[Value],
    streams: &BTreeMap<String, String>,
    verdict: &mut Verdict,
) {
    let (mut ours, mut theirs) = (Multiset::new(), Multiset::new());
    let truth = golden(corpus, file, "http");
    for message in &truth {
        let sizes = [message["content_length"].as_str(), message["file_data_len"].as_str()];
        if !message["method"].is_empty() {
            let start = [message["stream"].as_str(), &message["method"], &message["uri"], &message["host"]];
            add(&mut theirs, &[&start[..], &sizes].concat());
        } else if !message["status"].is_empty() {
            add(&mut theirs, &[&[message["stream"].as_str(), &message["status"]][..], &sizes].concat());
        }
    }
    for row in rows {
        let Some(stream) = row["flow_id"].as_str().and_then(|flow| streams.get(flow)) else { continue };
        // tshark shows no length for an empty body.
        let len = |name: &str| text(&row[name]).trim_start_matches('0').to_owned();
        if row["method"].is_string() {
            let absolute = truth.iter().any(|message| message["uri"] == text(&row["url"]));
            let uri = text(&row[if absolute { "url" } else { "uri" }]);
            let fields = &row["request_headers"];
            let parts = [
                text(&row["method"]),
                uri,
                text(&fields["host"]),
                text(&fields["content-length"]),
                len("request_body_len"),
            ];
            let parts: Vec<&str> =
                std::iter::once(stream.as_str()).chain(parts.iter().map(String::as_str)).collect();
            add(&mut ours, &parts);
        }
        // What a gap touched has no trustworthy counterpart there.
        if row["status_code"].is_number() && row["pairing"] != "lossy" {
            let announced = text(&row["response_headers"]["content-length"]);
            add(&mut ours, &[stream, &text(&row["status_code"]), &announced, &len("response_body_len")]);
        }
        for interim in row["interim_statuses"].as_array().into_iter().flatten() {
            add(&mut ours, &[stream, &interim.to_string(), "", ""]);
        }
    }
    same_messages(file, "http", &ours, &theirs, verdict);
    pairs(file, &truth, rows, streams, verdict);
}

/// Which response answered which request, in the streams in which tshark says so of each response.
fn pairs(
    file: &str,
    truth: &[Line],
    rows: &[Value],
    streams: &BTreeMap<String, String>,
    verdict: &mut Verdict,
) {
    let is_request = |line: &&Line| !line["method"].is_empty();
    let asked = |frame: &str| {
        let mut requests = truth.iter().filter(is_request).filter(|line| line["frame"] == frame);
        requests.next().filter(|_| requests.next().is_none())
    };
    // RFC 9110 section 15.2: what comes before the answer, but for a change of the protocol.
    let is_final = |status: i64| status >= 200 || status == 101;
    let (mut theirs, mut doubtful) = (Multiset::new(), BTreeSet::new());
    for answer in truth.iter().filter(|line| number(&line["status"]).is_some_and(is_final)) {
        let stream = answer["stream"].as_str();
        match asked(&answer["request_in"]).filter(|request| request["stream"] == stream) {
            Some(request) => add(&mut theirs, &[stream, &request["method"], &answer["status"]]),
            None => drop(doubtful.insert(stream)),
        }
    }
    let is_certain = |stream: &str| !doubtful.contains(stream);
    let mut ours = Multiset::new();
    let is_pair = |row: &&Value| row["method"].is_string() && row["status_code"].is_number();
    // As above: what a gap touched is left out.
    for row in rows.iter().filter(is_pair).filter(|row| row["pairing"] != "lossy") {
        let Some(stream) = row["flow_id"].as_str().and_then(|flow| streams.get(flow)) else { continue };
        if is_certain(stream) {
            add(&mut ours, &[stream, &text(&row["method"]), &text(&row["status_code"])]);
        }
    }
    theirs.retain(|pair, _| is_certain(pair.split(' ').next().unwrap_or_default()));
    same_messages(file, "pairs", &ours, &theirs, verdict);
}

fn dns(corpus: &Path, file: &str, rows: &[Value], verdict: &mut Verdict) {
    let (mut ours, mut theirs) = (Multiset::new(), Multiset::new());
    for message in golden(corpus, file, "dns") {
        let id = number(&message["id"]).unwrap_or_default().to_string();
        let name = message["qnames"].split('|').next().unwrap_or_default().to_lowercase();
        let name = name.trim_end_matches('.');
        let of = |name: &str| message[name].split('|').next().unwrap_or_default().to_owned();
        match message["response"].as_str() {
            "1" => {
                let figures = ["rcode", "aa", "tc", "n_answers", "n_auth", "n_add"].map(of);
                add(&mut theirs, &[&["R", &id, name][..], &figures.each_ref().map(String::as_str)].concat());
            }
            _ => add(&mut theirs, &["Q", &id, name, &type_name(&of("qtypes")), opcode_name(&of("opcode"))]),
        }
    }
    for row in rows {
        let (id, name) = (text(&row["trans_id"]), text(&row["query"]));
        if row["pairing"] != "response_only" {
            add(&mut ours, &["Q", &id, &name, &text(&row["qtype"]), &text(&row["opcode"])]);
        }
        if let Some(rcode) = row["rcode_num"].as_i64() {
            let bit = |name: &str| row[name].as_bool().map_or(String::new(), |set| u8::from(set).to_string());
            let count = |name: &str| text(&row[name]);
            let figures = [
                (rcode & 0xf).to_string(),
                bit("authoritative"),
                bit("truncated"),
                count("n_answers"),
                count("n_authority"),
                count("n_additional"),
            ];
            add(&mut ours, &[&["R", &id, &name][..], &figures.each_ref().map(String::as_str)].concat());
        }
    }
    same_messages(file, "dns", &ours, &theirs, verdict);
}

/// Names of the IANA registry "Resource Record (RR) TYPEs", those that are asked for in the corpus.
fn type_name(number: &str) -> String {
    let names = [
        ("1", "A"),
        ("2", "NS"),
        ("5", "CNAME"),
        ("6", "SOA"),
        ("12", "PTR"),
        ("13", "HINFO"),
        ("15", "MX"),
        ("16", "TXT"),
        ("28", "AAAA"),
        ("29", "LOC"),
        ("33", "SRV"),
        ("35", "NAPTR"),
        ("43", "DS"),
        ("48", "DNSKEY"),
        ("64", "SVCB"),
        ("65", "HTTPS"),
        ("255", "ANY"),
        ("257", "CAA"),
    ];
    let found = names.iter().find(|(of, _)| *of == number);
    found.map_or_else(
        || if number.is_empty() { String::new() } else { format!("TYPE{number}") },
        |(_, name)| (*name).into(),
    )
}

/// Names of the IANA registry "DNS OpCodes".
fn opcode_name(number: &str) -> &'static str {
    match number {
        "0" => "QUERY",
        "2" => "STATUS",
        "4" => "NOTIFY",
        "5" => "UPDATE",
        "" => "",
        _ => "another",
    }
}
