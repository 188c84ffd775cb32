//! Redis in the corpus: the words of each command, the type and the error of each reply.

use super::{Line, Verdict, counted, told};

/// Captures that differ, and why.
const DIFFER: &[(&str, &str)] =
    &[("redis/zeek__pubsub-resp3.pcap", "tshark 4.0 does not know RESP3: its maps come apart into rows")];

#[test]
fn the_corpus_has_the_same_redis() {
    let mut verdict = Verdict::default();
    let captures = told("redis", "redis", "resp");
    if captures.is_empty() {
        return;
    }
    for told in captures {
        let ours = counted(&told.rows, command);
        let (asked, answered): (Vec<Line>, Vec<Line>) =
            told.truth.into_iter().partition(|line| line["dport"] == "6379");
        verdict.compare(&told.file, &ours, &counted(&asked, words));
        verdict.compare(&told.file, &counted(&told.rows, reply), &counted(&answered, value));
    }
    verdict.judge(DIFFER, 26_000);
}

/// The command of a row; of one that was sent as a line tshark tells nothing.
fn command(row: &Line) -> Option<String> {
    let words = [&row["command"], &row["key"], &row["args"]].map(String::as_str);
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let as_array: usize = words.iter().map(|word| "$1\r\n\r\n".len() + word.chars().count()).sum();
    let is_array = row["request_bytes"].parse::<usize>().is_ok_and(|sent| sent >= as_array);
    is_array.then(|| format!("{}: {}", row["src_port"], words.join(" ")))
}

fn words(line: &Line) -> Option<String> {
    let mut words: Vec<String> = line["values"].split('|').skip(1).map(text).collect();
    words[0].make_ascii_uppercase();
    if let [name, .., secret] = words.as_mut_slice()
        && name == "AUTH"
    {
        *secret = "?".to_owned();
    }
    Some(format!("{}: {}", line["sport"], words.join(" ")))
}

/// What is not text was written in hexadecimal.
fn text(value: &str) -> String {
    let Some(hex) = value.strip_prefix("hex:") else { return value.to_owned() };
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal");
    String::from_utf8_lossy(&(0..hex.len() / 2).map(byte).collect::<Vec<_>>()).into_owned()
}

fn reply(row: &Line) -> Option<String> {
    let is_reply = !row["response_bytes"].is_empty();
    is_reply.then(|| format!("{}: {} {}", row["src_port"], row["reply_type"], row["reply_error"]))
}

fn value(line: &Line) -> Option<String> {
    let kind = match line["kinds"].split('|').next().unwrap_or_default() {
        "string" => "simple",
        "integer" => "int",
        "bulk_string" => "bulk",
        kind => kind,
    };
    let error = if kind == "error" { line["values"].as_str() } else { "" };
    Some(format!("{}: {kind} {error}", line["dport"]))
}
