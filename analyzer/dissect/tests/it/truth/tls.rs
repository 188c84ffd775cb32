//! Handshakes: the first ClientHello and the last ServerHello of each conversation, and alerts that can be read.

use std::collections::BTreeMap;

use super::{Counted, Line, Verdict, counted, told};

const EXCEPTIONS: &[(&str, &str)] = &[(
    "tls/zeek__hrr.pcap",
    "the ServerHello after the retry comes out of order, which tshark does not put together",
)];

#[test]
fn tls() {
    let mut verdict = Verdict::default();
    let captures = told("tls", "tls", "tls");
    if captures.is_empty() {
        return;
    }
    for capture in &captures {
        let (mut first, mut last) = (BTreeMap::new(), BTreeMap::new());
        for message in &capture.truth {
            let stream = &message["stream"];
            match message["hs_type"].as_str() {
                "1" => drop(first.entry(stream).or_insert(message)),
                "2" => drop(last.insert(stream, message)),
                _ => {}
            }
        }
        let alerts = capture.truth.iter().filter(|message| message["alert_level"] == "2");
        let mut theirs = Counted::new();
        theirs.extend(counted(first.into_values(), |hello| {
            let offered = &hello["n_client_ciphers"];
            Some(format!("hello {} {} {} of {offered}", hello["sport"], hello["sni"], hello["ja3_hash"]))
        }));
        theirs.extend(counted(last.into_values(), |hello| {
            let cipher = i64::from_str_radix(hello["cipher"].trim_start_matches("0x"), 16).expect("a number");
            Some(format!("agreed {} {cipher} {}", hello["dport"], hello["ja3s_hash"]))
        }));
        theirs.extend(counted(alerts, |alert| Some(format!("alert {}", alert_name(&alert["alert_desc"])))));
        verdict.compare(&capture.file, &ours(&capture.rows), &theirs);
    }
    verdict.judge(EXCEPTIONS, 15);
}

fn ours(rows: &[Line]) -> Counted {
    let mut ours = counted(rows, |row| {
        let offered = row["cipher_suites"].split(", ").count();
        let text = format!("hello {} {} {} of {offered}", row["src_port"], row["sni"], row["ja3"]);
        (!row["ja3"].is_empty()).then_some(text)
    });
    ours.extend(counted(rows, |row| {
        let text = format!("agreed {} {} {}", row["src_port"], row["cipher_num"], row["ja3s"]);
        (!row["cipher_num"].is_empty()).then_some(text)
    }));
    ours.extend(counted(rows, |row| {
        (!["", "encrypted"].contains(&row["alert"].as_str())).then(|| format!("alert {}", row["alert"]))
    }));
    ours
}

/// Of the alerts in the corpus (RFC 8446 section 6).
fn alert_name(number: &str) -> &str {
    match number {
        "40" => "handshake_failure",
        "48" => "unknown_ca",
        other => other,
    }
}
