//! dnsmasq asked by dnsperf, recorded live: every query sent is a row and no other, with dnsperf's own counts and dnsmasq's
//! log as witnesses.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::desk::Desk;
use crate::pair::Pair;
use crate::programs::{is_installed, is_permitted};
use crate::same::assert_same;
use crate::shop::no_loss_is_shown;

/// Names that exist, and names that do not.
const KNOWN: usize = 50;
const UNKNOWN: usize = 20;
const TYPES: [&str; 4] = ["A", "AAAA", "TXT", "MX"];

#[test]
fn every_query_over_udp_is_a_row() {
    every_query_is_a_row("udp", 20);
}

#[test]
fn every_query_over_tcp_is_a_row() {
    // dnsmasq hangs up after a hundred queries of a connection, whoever waits; four connections share these 280.
    every_query_is_a_row("tcp", 1);
}

/// dnsperf goes through the list so many times.
fn every_query_is_a_row(transport: &str, turns: usize) {
    if !is_permitted() || !is_installed("dnsmasq") || !is_installed("dnsperf") {
        return;
    }
    let desk = Desk::new();
    let questions = write_questions(&desk);
    let server = "dnsmasq --keep-in-foreground --conf-file=\"$DESK/dnsmasq.conf\"";
    let client = format!(
        "dnsperf -s $SERVER_IP -m {transport} -d \"$DESK/questions\" -n {turns} -c 4 -T 1 -q 20 -t 10 >\"$DESK/report\""
    );
    let snapshot = Pair { server, client: &client, port: Some(53), options: "" }.record(&desk);
    let report = Report::read(&desk.at("report"));
    let told: Vec<String> = questions.iter().cycle().take(questions.len() * turns).cloned().collect();
    assert_eq!((report.sent, report.completed, report.lost), (told.len(), told.len(), 0));

    let rows =
        desk.rows(&snapshot, "SELECT query, qtype, rcode, transport, pairing, dst_port, dst_ip FROM dns");
    let text = |row: &serde_json::Value, column: &str| row[column].as_str().unwrap_or("-").to_owned();
    let seen: Vec<String> =
        rows.iter().map(|row| format!("{} {}", text(row, "query"), text(row, "qtype"))).collect();
    assert_same("queries", &told, &seen);
    assert!(rows.iter().all(|row| text(row, "transport") == transport && text(row, "pairing") == "complete"));
    for (rcode, count) in &report.rcodes {
        assert_eq!(rows.iter().filter(|row| text(row, "rcode") == *rcode).count(), *count, "{rcode}");
    }
    assert_eq!(report.rcodes.iter().map(|(_, count)| count).sum::<usize>(), rows.len());
    assert_same("the server's log", &logged(&desk.at("dnsmasq.log")), &seen);
    answers_are_those_configured(&desk, &snapshot);
    no_loss_is_shown(&desk, &snapshot);
}

/// Writes what dnsmasq answers and what dnsperf asks; gives the questions as rows have them.
fn write_questions(desk: &Desk) -> Vec<String> {
    let log = desk.at("dnsmasq.log");
    let mut conf = format!(
        "no-resolv\nno-hosts\nuser=root\nport=53\nbind-interfaces\nlisten-address=10.9.0.2\nlocal=/shop.test/\n\
         log-queries\nlog-facility={}\ncache-size=1000\npid-file={}\n",
        log.display(),
        desk.at("dnsmasq.pid").display()
    );
    let (mut asked, mut questions) = (String::new(), Vec::new());
    for number in 0..KNOWN {
        let _ = writeln!(conf, "host-record=n{number}.shop.test,10.77.0.{number},fd00::{number:x}");
        let _ = writeln!(conf, "txt-record=n{number}.shop.test,number {number}");
    }
    for number in 0..KNOWN + UNKNOWN {
        for kind in TYPES {
            let _ = writeln!(asked, "n{number}.shop.test {kind}");
            questions.push(format!("n{number}.shop.test {kind}"));
        }
    }
    fs::write(desk.at("dnsmasq.conf"), conf).unwrap();
    fs::write(desk.at("questions"), asked).unwrap();
    questions
}

fn answers_are_those_configured(desk: &Desk, snapshot: &Path) {
    let sql = "SELECT DISTINCT query, qtype, answers FROM dns WHERE cardinality(answers) > 0";
    let seen: Vec<String> = desk
        .rows(snapshot, sql)
        .iter()
        .map(|row| format!("{} {} {}", row["query"], row["qtype"], row["answers"]))
        .collect();
    let told: Vec<String> = (0..KNOWN)
        .flat_map(|number| {
            let (address, zero) = (
                format!("10.77.0.{number}"),
                if number == 0 { "fd00::".into() } else { format!("fd00::{number:x}") },
            );
            [("A", address), ("AAAA", zero), ("TXT", format!("number {number}"))]
                .map(|(kind, data)| format!("\"n{number}.shop.test\" \"{kind}\" [\"{data}\"]"))
        })
        .collect();
    assert_same("answers", &told, &seen);
}

/// What dnsperf says of its run.
struct Report {
    sent: usize,
    completed: usize,
    lost: usize,
    rcodes: Vec<(String, usize)>,
}

impl Report {
    fn read(path: &Path) -> Report {
        let text = fs::read_to_string(path).expect("dnsperf's report");
        let value = |label: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
            line.unwrap_or_else(|| panic!("no {label} in {text}")).trim()
        };
        let count = |label: &str| {
            value(label).split_whitespace().next().expect("a number").parse().expect("a number")
        };
        // NOERROR 4000 (71.43%), NXDOMAIN 1600 (28.57%)
        let rcodes = value("Response codes:").split(", ").map(|part| {
            let (name, rest) = part.split_once(' ').expect("a code and a count");
            (name.to_owned(), rest.split(' ').next().expect("a count").parse().expect("a number"))
        });
        Report {
            sent: count("Queries sent:"),
            completed: count("Queries completed:"),
            lost: count("Queries lost:"),
            rcodes: rcodes.collect(),
        }
    }
}

/// Lines `query[A] n1.shop.test from 10.9.0.1` of dnsmasq's log.
fn logged(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("dnsmasq's log");
    let question = |line: &str| {
        let (kind, rest) = line.split_once("query[")?.1.split_once("] ")?;
        Some(format!("{} {kind}", rest.split(" from ").next()?))
    };
    text.lines().filter_map(question).collect()
}
