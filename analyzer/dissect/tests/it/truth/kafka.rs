//! Kafka in the corpus: the header of each request, its topic, group and acknowledgements, and the id and error of each response.

use std::collections::BTreeMap;

use super::{Line, Verdict, counted, told};

/// Captures that differ, and why.
const DIFFER: &[(&str, &str)] = &[(
    "kafka/ndpi__kafka.pcapng",
    "a conversation captured from a response on, by which nothing can tell what it is",
)];

#[test]
fn the_corpus_has_the_same_kafka() {
    let mut verdict = Verdict::default();
    let captures = told("kafka", "kafka", "kafka");
    if captures.is_empty() {
        return;
    }
    for told in captures {
        let (requests, responses): (Vec<Line>, Vec<Line>) =
            told.truth.into_iter().partition(|line| !line["api_version"].is_empty());
        verdict.compare(&told.file, &counted(&told.rows, asked), &counted(&requests, request));
        verdict.compare(&told.file, &counted(&told.rows, answered), &counted(&responses, response));
        // What bodies say, where tshark says it.
        let ours: BTreeMap<String, &Line> = told.rows.iter().map(|row| (id(row, "src_port"), row)).collect();
        let same = |line: &Line, port: &str, theirs: &str, name: &str| {
            let said = line[theirs].split('|').next().unwrap_or_default().to_owned();
            let row = ours.get(&id(line, port)).filter(|_| !said.is_empty() && said != "[ Null ]")?;
            Some((
                format!("{} {name} {}", id(line, port), row[name]),
                format!("{} {name} {said}", id(line, port)),
            ))
        };
        let pairs = requests
            .iter()
            .flat_map(|line| {
                [("topics", "topic"), ("group", "group"), ("required_acks", "acks")]
                    .map(|(theirs, name)| same(line, "sport", theirs, name))
            })
            .chain(responses.iter().map(|line| same(line, "dport", "errors", "error_code")))
            .flatten();
        let (ours, theirs): (Vec<String>, Vec<String>) = pairs.unzip();
        let count = |texts: Vec<String>| texts.into_iter().map(|text| (text, 1)).collect();
        verdict.compare(&told.file, &count(ours), &count(theirs));
    }
    verdict.judge(DIFFER, 700);
}

fn id(line: &Line, port: &str) -> String {
    format!("{}/{}", line[port], line["correlation_id"])
}

fn asked(row: &Line) -> Option<String> {
    let cells =
        ["src_port", "api_key", "api_version", "correlation_id", "client_id"].map(|name| row[name].as_str());
    (!row["request_bytes"].is_empty()).then(|| cells.join(" "))
}

fn request(line: &Line) -> Option<String> {
    let cells =
        ["sport", "api_key", "api_version", "correlation_id", "client_id"].map(|name| line[name].as_str());
    Some(cells.join(" "))
}

/// With the bytes behind its size, as tshark has it.
fn answered(row: &Line) -> Option<String> {
    let len: usize = row["response_bytes"].parse().ok()?;
    Some(format!("{} {}", id(row, "src_port"), len - 4))
}

fn response(line: &Line) -> Option<String> {
    Some(format!("{} {}", id(line, "dport"), line["len"]))
}
