//! Inside of TLS: curl and Python against nginx, whose access log is the truth. Read from a ring while it is recorded, from the ring
//! after that, and from a snapshot: each request is one row, marked, with the processes of both ends; conversations are counted by
//! their packets. Then plaintext is lost in every way there is, and the coverage says so.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::captures;
use crate::desk::Desk;
use crate::pair::Pair;
use crate::programs::{finished, is_installed, is_permitted, printed, within};
use crate::same::assert_same;

/// Plaintext is heard of the whole machine: one test at a time, and of its recordings only what passed its own wire.
static ALONE: Mutex<()> = Mutex::new(());
pub const OWN: &str = "flow_id IN (SELECT flow_id FROM flows_all WHERE iface = 'server0')";

pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the library is found that they all use.
pub const BEGIN: &str = r#"
stat -Lc %i /proc/self/ns/net >"$DESK/netns"
for try in $(seq 200); do
    "$BIN/sharkrec" status --ring "$DESK/ring" --format json | grep -q '/libssl' && break; sleep 0.1
done
"#;

const REQUESTS: &str = r#"
for version in 1.2 1.3; do
    for number in 1 2 3; do curl -sk --tls-max $version "https://$SERVER_IP/curl-$version-$number?x=$number" || exit 1; done
    curl -sk --tls-max $version "https://$SERVER_IP/missing-$version" || exit 1
done
curl -s "http://$SERVER_IP/plain" "http://$SERVER_IP/missing-plain" || exit 1
python3 "$DESK/client.py" || exit 1
"#;

/// A connection of each version, with several requests.
const PYTHON: &str = r#"
import http.client, os, ssl
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl._create_unverified_context()
    context.maximum_version = version
    c = http.client.HTTPSConnection(os.environ["SERVER_IP"], 443, context=context)
    for n in range(5):
        c.request("GET", f"/python-{n}"); c.getresponse().read()
    for n in range(2):
        c.request("POST", f"/post-{n}", body=b"x" * 50_000); c.getresponse().read()
    c.close()
"#;
const TLS_CONNECTIONS: usize = 8 + 2;

/// What was recorded is written every 500 ms, sockets every two seconds.
const MEANWHILE: &str = r#"
sleep 3; SHARKQ_CACHE="$DESK/cache" "$BIN/sharkq" index "$DESK/ring" -o "$DESK/live"
"#;

#[test]
fn requests_are_the_access_log_and_conversations_count_once() {
    let _alone = alone();
    let Some((desk, snapshot)) = record("--tls", &[REQUESTS, MEANWHILE], PYTHON) else { return };
    let logged = access_log(&desk);
    assert_eq!(logged.len(), 8 + 2 + 14);
    for source in [desk.at("live"), desk.at("ring"), snapshot.clone()] {
        let rows = Rows { desk: &desk, source: &source };
        rows.are(&logged);
        rows.name_both_ends();
        rows.count_conversations_once();
    }
    conversations_are_those_of_the_wire(&desk);
    packets_are_those_of_the_plaintext(&desk, &snapshot, &logged);
    let alone = segment(&desk.at("ring/tls"));
    let rows = desk.rows(&alone, "SELECT DISTINCT tls, vantage FROM http");
    assert!(rows.len() == 1 && rows[0]["tls"] == true && rows[0]["vantage"] == "tls_uprobe", "{rows:?}");
    let lines = printed(desk.sharkq().arg("coverage").arg(&snapshot));
    assert!(lines.starts_with("coverage: complete, "), "{lines}");
    assert!(lines.contains(", plaintext of TLS: ") && lines.contains(" packets, none lost"), "{lines}");
    assert!(!lines.contains("lossy"), "{lines}");
    let verdict = printed(desk.sharkq().arg("verify").arg(&snapshot));
    assert!(verdict.contains(": ok, "), "{verdict}");
}

/// More in one call than is copied, and bytes that pass no socket.
const CUT: &str = r#"
import asyncio, http.client, os, ssl
server = os.environ["SERVER_IP"]
context = ssl._create_unverified_context()
async def memory():
    r, w = await asyncio.open_connection(server, 443, ssl=context)
    w.write(b"GET /memory HTTP/1.0\r\n\r\n")
    await r.read()
asyncio.run(memory())
c = http.client.HTTPSConnection(server, 443, context=context)
c.request("POST", "/cut", body=b"x" * 600_000); c.getresponse().read()
"#;

#[test]
fn what_is_missing_stands_under_answers_about_calls() {
    let _alone = alone();
    let Some((desk, _)) = record("--tls", &[PYTHON_ONLY], CUT) else { return };
    let ring = desk.at("ring");
    footer_is_of_calls_alone(&desk, &ring, "lossy");
    let lost = "SELECT why, dropped FROM tls_coverage WHERE state = 'lossy'";
    let told = desk.rows(&ring, lost);
    let of = |why: &str| {
        let found = told.iter().find(|row| row["why"].to_string().contains(why));
        found.unwrap_or_else(|| panic!("nothing because of {why} in {told:?}"))["dropped"].as_i64()
    };
    assert!(of("calls with more bytes than are copied: ") >= Some(1));
    assert!(of("no socket was used by the call") >= Some(1));
    // What one end could not tell, the other did.
    let healed = format!(
        "SELECT concat_ws(' ', method, path, request_body_len, pairing) AS line FROM http WHERE tls AND {OWN} ORDER BY path"
    );
    let rows = desk.rows(&ring, &healed);
    let lines: Vec<&str> = rows.iter().map(|row| text(row, "line")).collect();
    assert_eq!(lines, ["POST /cut 600000 complete", "GET /memory 0 complete"]);
}

const LARGE: &str = r#"
import http.client, os, ssl
for n in range(40):
    c = http.client.HTTPSConnection(os.environ["SERVER_IP"], 443, context=ssl._create_unverified_context())
    c.request("POST", "/large", body=os.urandom(100_000)); c.getresponse().read(); c.close()
"#;

#[test]
fn plaintext_that_was_rotated_out_is_no_loss_of_packets() {
    let _alone = alone();
    let options = "--tls --tls-size 1MiB --compression none";
    let Some((desk, snapshot)) = record(options, &[PYTHON_ONLY], LARGE) else { return };
    footer_is_of_calls_alone(&desk, &desk.at("ring"), "rotated out");
    footer_is_of_calls_alone(&desk, &snapshot, "rotated out");
}

const PYTHON_ONLY: &str = "python3 \"$DESK/client.py\" || exit 1";

/// Nobody takes one series for the other: the packets are all there.
fn footer_is_of_calls_alone(desk: &Desk, source: &Path, state: &str) {
    let ask = |sql: &str| {
        let mut ask = desk.sharkq();
        let output = ask.arg("sql").arg(source).args(["--strict", "-c", sql]).output().expect("it starts");
        (output.status.code().expect("it ends"), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, footer) = ask("SELECT path FROM http WHERE tls AND path = '/never'");
    assert_eq!(code, 4, "{footer}");
    assert!(footer.starts_with("coverage: INCOMPLETE, "), "{footer}");
    let line = footer.lines().find(|line| line.contains(", plaintext of TLS: ")).expect("its line");
    assert!(line.contains(&format!(", {state} 20")), "{footer}");
    let (code, footer) = ask("SELECT * FROM flows");
    assert!(code == 0 && footer.starts_with("coverage: complete, "), "{footer}");
    assert!(footer.ends_with(", none lost\n") && !footer.contains("plaintext"), "{footer}");
    assert_eq!(desk.value(source, "SELECT count(*) FROM coverage WHERE state <> 'ok'"), 0);
}

struct Rows<'a> {
    desk: &'a Desk,
    source: &'a Path,
}

impl Rows<'_> {
    fn ask(&self, sql: &str) -> Vec<Value> {
        self.desk.rows(self.source, &sql.replace("{OWN}", OWN))
    }

    fn are(&self, logged: &[String]) {
        let sql = "SELECT method, concat(path, coalesce('?' || query, '')) AS uri, status_code AS status, tls FROM http \
                   WHERE pairing = 'complete' AND {OWN}";
        let line = |row: &Value| {
            let scheme = if row["tls"] == true { "https" } else { "http" };
            format!("{} {} {} {scheme}", text(row, "method"), text(row, "uri"), row["status"])
        };
        let seen: Vec<String> = self.ask(sql).iter().map(line).collect();
        assert_same(&self.source.display().to_string(), logged, &seen);
    }

    fn name_both_ends(&self) {
        let sql = "SELECT h.path, h.vantage, h.call_id, f.src_process, f.dst_process, f.src_identity, f.dst_identity, \
                   array_to_string(f.l7, ' ') AS l7 FROM http h JOIN flows f ON f.flow_id = h.flow_id WHERE h.tls AND f.iface = 'server0'";
        for row in self.ask(sql) {
            let client = if text(&row, "path").starts_with("/p") { "python3" } else { "curl" };
            assert!(text(&row, "src_process").starts_with(client), "{row}");
            assert_eq!(text(&row, "dst_process"), "nginx", "{row}");
            assert_eq!(
                (text(&row, "src_identity"), text(&row, "dst_identity")),
                ("socket", "socket"),
                "{row}"
            );
            assert_eq!((text(&row, "vantage"), text(&row, "l7")), ("tls_uprobe", "tls http"), "{row}");
        }
        let twice = "SELECT call_id FROM http GROUP BY call_id HAVING count(*) > 1";
        assert!(self.ask(twice).is_empty());
    }

    /// One row a conversation; all observations: of the wire, and of the programs at both ends.
    fn count_conversations_once(&self) {
        let sql = "SELECT dst_port, observations, count(*) AS n, count(DISTINCT src_port) AS ports FROM flows \
                   WHERE proto = 'tcp' AND iface = 'server0' GROUP BY 1, 2 ORDER BY 1";
        let lines: Vec<String> = self
            .ask(sql)
            .iter()
            .map(|row| format!("{} {} {} {}", row["dst_port"], row["observations"], row["n"], row["ports"]))
            .collect();
        assert_eq!(lines, ["80 1 1 1", &format!("443 3 {TLS_CONNECTIONS} {TLS_CONNECTIONS}")]);
        let all = "SELECT iface, vantage, count(*) AS n, count(DISTINCT flow_id) AS flows FROM flows_all \
                   WHERE dst_port = 443 AND {OWN} GROUP BY 1, 2";
        let rows = self.ask(all);
        let client =
            format!("tls-{}", std::fs::read_to_string(self.desk.at("netns")).expect("a number").trim());
        assert!(rows.iter().any(|row| text(row, "iface") == client), "{rows:?}");
        assert_eq!(rows.len(), 3, "{rows:?}");
        for row in rows {
            assert_eq!(row["vantage"] == "tls_uprobe", text(&row, "iface") != "server0", "{row}");
            assert_eq!(
                (&row["n"], &row["flows"]),
                (&TLS_CONNECTIONS.into(), &TLS_CONNECTIONS.into()),
                "{row}"
            );
        }
    }
}

/// The packets alone give the same conversations, figure by figure.
fn conversations_are_those_of_the_wire(desk: &Desk) {
    let bare = desk.at("bare");
    for folder in ["segments", "log"] {
        std::fs::create_dir_all(bare.join(folder)).expect("a folder");
        for entry in std::fs::read_dir(desk.at("ring").join(folder)).expect("a ring").flatten() {
            std::fs::copy(entry.path(), bare.join(folder).join(entry.file_name())).expect("a copy");
        }
    }
    let sql = "SELECT flow_id, ts, end_ts, orig_bytes, resp_bytes, orig_pkts, resp_pkts, orig_wire_bytes, resp_wire_bytes, \
               conn_state, history, missed_bytes, capture_state, iface, first_frame, last_frame FROM flows \
               WHERE iface = 'server0'";
    let lines =
        |source: &Path| -> Vec<String> { desk.rows(source, sql).iter().map(Value::to_string).collect() };
    assert_same("flows", &lines(&bare), &lines(&desk.at("ring")));
    assert_eq!(desk.value(&bare, "SELECT count(*) FROM http WHERE tls"), 0);
    let coverage = "SELECT node, bucket, iface, state, captured, dropped FROM coverage ORDER BY 1, 2, 3";
    assert_eq!(desk.rows(&bare, coverage), desk.rows(&desk.at("ring"), coverage));
}

/// tshark finds the requests in them, and no packet of the wire is among them; nor the other way around.
fn packets_are_those_of_the_plaintext(desk: &Desk, snapshot: &Path, logged: &[String]) {
    if !is_installed("tshark") {
        return;
    }
    let packets = |expression: &str| {
        let file = desk.at("rows.pcapng");
        finished(desk.sharkq().arg("pcap").arg(snapshot).args([expression, "-w"]).arg(&file));
        let mut read = within(60, "tshark");
        read.arg("-r").arg(&file).args(["-T", "fields", "-E", "separator=/s", "-e", "frame.interface_name"]);
        let text = printed(read.args(["-e", "http.request.method", "-e", "http.request.uri"]));
        text.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    let mut inside = packets("http && tls");
    assert!(inside.iter().all(|line| line.starts_with("tls-")), "{inside:?}");
    let own = desk.rows(snapshot, &format!("SELECT DISTINCT iface FROM flows_all WHERE {OWN}"));
    inside.retain(|line| own.iter().any(|row| line.starts_with(text(row, "iface"))));
    let request = |line: &String| {
        let mut words = line.split(' ').skip(1).filter(|word| !word.is_empty());
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    let seen: Vec<String> = inside.iter().filter_map(request).collect();
    let https = logged.iter().filter(|line| line.ends_with(" https"));
    let told: Vec<String> =
        https.map(|line| line.split(' ').take(2).collect::<Vec<&str>>().join(" ")).collect();
    assert_same("requests in packets", &told, &seen);
    let outside = packets("http && !tls");
    assert!(!outside.is_empty() && outside.iter().all(|line| line.starts_with("server0")), "{outside:?}");
    let wire = packets("flow && dst.port == 443 && !tls");
    let counted = desk.value(
        snapshot,
        "SELECT sum(orig_pkts + resp_pkts) FROM flows WHERE iface = 'server0' AND dst_port = 443",
    );
    assert_eq!(counted, wire.len());
    assert!(wire.iter().all(|line| line.trim() == "server0"), "{wire:?}");
}

/// Records what the client does beside nginx; nothing where that cannot be done.
fn record(options: &str, script: &[&str], python: &str) -> Option<(Desk, PathBuf)> {
    if !can_record() {
        return None;
    }
    let desk = Desk::new();
    write_nginx(&desk);
    std::fs::write(desk.at("client.py"), python).expect("a file");
    std::fs::write(desk.at("client.sh"), [BEGIN, &script.concat()].concat()).expect("a file");
    let server = "nginx -c \"$DESK/nginx/nginx.conf\"";
    let client = "exec sh \"$DESK/client.sh\"";
    let snapshot = Pair { server, client, port: Some(443), options }.record(&desk);
    is_heard(&desk, &snapshot).then_some((desk, snapshot))
}

pub fn can_record() -> bool {
    is_permitted() && ["nginx", "curl", "openssl", "python3"].into_iter().all(is_installed)
}

/// Not where the kernel refuses.
pub fn is_heard(desk: &Desk, source: &Path) -> bool {
    let off = desk.rows(source, "SELECT why FROM tls_coverage WHERE state = 'off'");
    off.iter().for_each(|why| eprintln!("skipped: {why}"));
    off.is_empty()
}

/// What listens at 10.9.0.2, with TLS and without.
pub fn write_nginx(desk: &Desk) {
    let dir = desk.at("nginx");
    std::fs::create_dir(&dir).expect("a folder");
    let key =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let mut make = within(30, "openssl");
    make.args(key).args(["-subj", "/CN=shop.test", "-keyout", "key.pem", "-out", "cert.pem"]);
    finished(make.current_dir(&dir));
    let place = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {place}/{what};\n"))
        .collect();
    let text = format!(
        "daemon off; pid {place}/pid; error_log {place}/error.log; worker_processes 1; user root;
         events {{ worker_connections 64; }}
         http {{ log_format short '$request_method $request_uri $status $scheme'; access_log {place}/access.log short;
         client_max_body_size 100m; {temporary}
         server {{ listen 10.9.0.2:443 ssl; listen 10.9.0.2:80; ssl_protocols TLSv1.2 TLSv1.3;
         ssl_certificate {place}/cert.pem; ssl_certificate_key {place}/key.pem;
         location /missing {{ return 404; }} location / {{ return 200 'you asked for $request_uri'; }} }} }}"
    );
    std::fs::write(dir.join("nginx.conf"), text).expect("a file");
}

pub fn access_log(desk: &Desk) -> Vec<String> {
    let log = std::fs::read_to_string(desk.at("nginx/access.log")).expect("the log is there");
    log.lines().map(str::to_owned).collect()
}

fn segment(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(".zst")).collect();
    assert!(!captures::read(&segments[0]).is_empty());
    segments.swap_remove(0)
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} in {of}"))
}
