//! AMQP in the corpus: each method with its channel, its arguments and the size of its content.

use super::{Counted, Line, Verdict, counted, told};

/// Captures that differ, and why.
const DIFFER: &[(&str, &str)] = &[];

/// Cells of a row and of tshark's message, by their names.
const SAME: &[(&str, &str)] = &[
    ("channel", "channel"),
    ("exchange", "exchange"),
    ("routing_key", "routing_key"),
    ("delivery_tag", "delivery_tag"),
    ("reply_code", "reply_code"),
    ("reply_text", "reply_text"),
];

#[test]
fn the_corpus_has_the_same_amqp() {
    let mut verdict = Verdict::default();
    let captures = told("amqp", "amqp", "amqp");
    if captures.is_empty() {
        return;
    }
    for told in captures {
        verdict.compare(&told.file, &counted(&told.rows, sent), &counted(&told.truth, asked));
        let answers = counted(&told.rows, answered);
        let answers_told: Counted = counted(&told.truth, answer);
        verdict.compare(&told.file, &answers, &answers_told);
        let sizes = |line: &Line, name: &str| (!line[name].is_empty()).then(|| line[name].clone());
        let ours = counted(&told.rows, |row| sizes(row, "body_len"));
        verdict.compare(&told.file, &ours, &counted(&told.truth, |line| sizes(line, "body_size")));
    }
    verdict.judge(DIFFER, 130);
}

/// What a row's first half says.
fn sent(row: &Line) -> Option<String> {
    let cells = SAME.iter().map(|(ours, _)| row[*ours].as_str());
    Some(format!("{} {}", row["method"], cells.collect::<Vec<_>>().join(" ")))
}

fn asked(line: &Line) -> Option<String> {
    let cells = SAME.iter().map(|(_, theirs)| line[*theirs].as_str());
    method(line)
        .filter(|name| !is_answer(name))
        .map(|name| format!("{name} {}", cells.collect::<Vec<_>>().join(" ")))
}

/// The method that a row's answer answers, with its channel.
fn answered(row: &Line) -> Option<String> {
    let both = !row["request_bytes"].is_empty() && !row["response_bytes"].is_empty();
    both.then(|| format!("{} {}", row["method"], row["channel"]))
}

fn answer(line: &Line) -> Option<String> {
    let name = method(line).filter(|name| is_answer(name))?;
    let asked = name.strip_suffix("-ok").or(name.strip_suffix("-empty")).expect("an answer");
    Some(format!("{asked} {}", line["channel"]))
}

fn is_answer(name: &str) -> bool {
    name.ends_with("-ok") || name.ends_with("-empty")
}

/// `class.method` of a method frame.
fn method(line: &Line) -> Option<String> {
    let class = match line["class"].as_str() {
        "10" => "connection",
        "20" => "channel",
        "40" => "exchange",
        "50" => "queue",
        "60" => "basic",
        "85" => "confirm",
        "90" => "tx",
        _ => return None,
    };
    let name = line["method_name"].strip_prefix("Method: ")?.split(' ').next()?.to_lowercase();
    Some(format!("{class}.{name}"))
}
