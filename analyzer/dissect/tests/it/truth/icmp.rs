//! ICMP and ICMPv6 messages: type, code, sequence number and MTU, and which replies answer which requests.

use super::{Line, Verdict, counted, told};

#[test]
fn the_corpus_has_the_same_messages() {
    let mut verdict = Verdict::default();
    for (version, kind) in [("4", "icmp"), ("6", "icmpv6")] {
        let captures = told("icmp", "icmp", kind);
        if captures.is_empty() {
            return;
        }
        for capture in &captures {
            let mut ours = Vec::new();
            for row in capture.rows.iter().filter(|row| row["version"] == version) {
                ours.push(row.clone());
                if !row["rtt_ns"].is_empty() {
                    let reply = if version == "4" { "0" } else { "129" };
                    ours.push(Line::from_iter(
                        row.clone().into_iter().chain([("type_number".into(), reply.into())]),
                    ));
                }
            }
            let ours = counted(&ours, |row| text(row, ["type_number", "code", "sequence", "mtu"]));
            let theirs = counted(&capture.truth, |message| text(message, ["type", "code", "seq", "mtu"]));
            verdict.compare(&capture.file, &ours, &theirs);
            let answered = counted(&capture.rows, |row| {
                (row["version"] == version && !row["rtt_ns"].is_empty()).then(|| row["sequence"].clone())
            });
            let replied = counted(&capture.truth, |message| {
                (!message["resp_in"].is_empty()).then(|| message["seq"].clone())
            });
            verdict.compare(&capture.file, &answered, &replied);
        }
    }
    verdict.judge(&[], 30);
}

fn text(line: &Line, names: [&str; 4]) -> Option<String> {
    Some(names.map(|name| line[name].as_str()).join(" "))
}
