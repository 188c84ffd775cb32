//! tshark's word on Redis: the words of every command, and the errors of replies. It knows no RESP3, so of replies no more is
//! compared.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::{frames, is_installed, sorted};
use crate::recording::{analysed, captures, read};

#[test]
fn tshark_reads_the_same_redis() {
    if !is_installed() {
        return;
    }
    for capture in captures("redis") {
        let rows = analysed(&read(&capture)).remove("redis").expect("the table");
        let mut commands = Vec::new();
        let whole = "tcp.dstport == 6379 && resp.array && !resp.fragment && !resp.reassembled_in_next_frame";
        for frame in frames(&capture, whole, &["resp.array.length", "resp.bulk_string.value"]) {
            let mut words = frame[1].iter().map(|hex| unhex(hex));
            for len in &frame[0] {
                let len = len.parse().expect("a length");
                commands.push(words.by_ref().take(len).collect::<Vec<_>>().join(" "));
            }
        }
        let mut ours = sorted(&rows, |batch, row| command(batch, row).unwrap_or_default());
        ours.retain(|text| !text.is_empty());
        // Of a broken command tshark still shows the header.
        commands.retain(|text| !text.is_empty());
        let mut theirs: Vec<&str> = commands.iter().map(String::as_str).collect();
        for ours in &ours {
            let at = theirs.iter().position(|theirs| is_same(ours, theirs));
            theirs.remove(at.unwrap_or_else(|| panic!("tshark has no {ours}")));
        }
        assert!(theirs.is_empty(), "only tshark has {theirs:?}");
        let mut errors = sorted(&rows, |batch, row| {
            let error = batch["reply_error"].as_string::<i32>();
            if error.is_valid(row) { error.value(row).to_owned() } else { String::new() }
        });
        errors.retain(|text| !text.is_empty());
        let told = frames(&capture, "resp.error", &["resp.error"]);
        // tshark's lines part values with commas; what follows `with args` is not kept.
        let told = told.iter().map(|frame| frame[0][0].clone()).collect::<BTreeSet<_>>();
        let ours = errors.iter().map(|text| text.split(',').next().unwrap_or_default().to_owned());
        assert_eq!(ours.collect::<BTreeSet<_>>(), told);
    }
}

/// The words of a command as the row has them; none where it was sent as a line, which is nothing to tshark. A secret may have
/// been shorter than the mark in its place.
fn command(batch: &RecordBatch, row: usize) -> Option<String> {
    let sent = batch["request_bytes"].as_primitive::<Int64Type>();
    let words: Vec<&str> = ["command", "key", "args"]
        .into_iter()
        .map(|name| batch[name].as_string::<i32>())
        .filter(|text| text.is_valid(row))
        .map(|text| text.value(row))
        .collect();
    let as_array: usize = words.iter().map(|word| "$1\r\n\r\n".len() + word.chars().count()).sum();
    let is_array = sent.is_valid(row) && sent.value(row) > as_array as i64;
    is_array.then(|| words.join(" "))
}

/// The same words, but for the case of the first, secrets, and the end of a long one.
fn is_same(ours: &str, theirs: &str) -> bool {
    let pairs = ours.split(' ').zip(theirs.split(' '));
    let words = |text: &str| text.split(' ').count();
    let mut is_first = true;
    words(ours) == words(theirs)
        && pairs.into_iter().all(|(ours, theirs)| {
            let first = std::mem::take(&mut is_first) && ours.eq_ignore_ascii_case(theirs);
            first || ours == theirs || ours == "?" || (ours.len() > 1000 && theirs.starts_with(ours))
        })
}

fn unhex(text: &str) -> String {
    let bytes: Vec<u8> = (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
