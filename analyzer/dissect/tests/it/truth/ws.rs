//! WebSocket frames: how many of each opcode, and the codes of close frames.

use super::{Counted, Line, Verdict, counted, told};

#[test]
fn the_corpus_has_the_same_frames() {
    let captures = told("websocket", "ws", "websocket");
    if captures.is_empty() {
        return;
    }
    let mut verdict = Verdict::default();
    for capture in &captures {
        let mut ours = Counted::new();
        for row in &capture.rows {
            let mut count = |opcode: &str, times: usize| *ours.entry(opcode.to_owned()).or_default() += times;
            count(number(&row["opcode"]), 1);
            let frames: usize = row["frames"].parse().expect("a number");
            if frames > 1 {
                count("0", frames - 1);
            }
            if row["opcode"] == "ping" && !row["response_bytes"].is_empty() {
                count("10", 1);
            }
        }
        let mut theirs = Counted::new();
        for opcode in capture.truth.iter().flat_map(|frame| frame["opcode"].split(',')) {
            *theirs.entry(opcode.to_owned()).or_default() += 1;
        }
        verdict.compare(&capture.file, &ours, &theirs);
        let code = |line: &Line| Some(line["close_code"].clone()).filter(|code| !code.is_empty());
        verdict.compare(&capture.file, &counted(&capture.rows, code), &counted(&capture.truth, code));
    }
    verdict.judge(&[], 50);
}

fn number(opcode: &str) -> &str {
    match opcode {
        "text" => "1",
        "binary" => "2",
        "close" => "8",
        "ping" => "9",
        "pong" => "10",
        other => other,
    }
}
