//! tshark's word on MongoDB: the same commands, each joined to the same answer, of the same lengths.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;

use super::is_installed;
use super::postgresql::is_of;
use crate::recording::{analysed, captures, read};

#[test]
fn tshark_reads_the_same_mongodb() {
    if !is_installed() {
        return;
    }
    let mut compared = 0;
    for capture in captures("db").into_iter().filter(|path| is_of(path, "mongodb")) {
        let mut seen = Vec::new();
        for batch in &analysed(&read(&capture))["db"] {
            let operations = batch["operation"].as_string::<i32>();
            let bytes = |name: &str, row: usize| {
                let column = batch[name].as_primitive::<Int64Type>();
                if column.is_valid(row) { column.value(row).to_string() } else { "-".into() }
            };
            seen.extend((0..batch.num_rows()).map(|row| {
                format!(
                    "{} {} {}",
                    operations.value(row),
                    bytes("request_bytes", row),
                    bytes("response_bytes", row)
                )
            }));
        }
        seen.sort();
        let told = told(&capture);
        assert_eq!(seen, told);
        compared += told.len();
    }
    assert!(compared > 40, "{compared}");
}

/// Commands by their first key, with their length and that of what answers them; the fixtures have one message a packet.
fn told(capture: &Path) -> Vec<String> {
    let mut command = Command::new("tshark");
    // Left to itself it takes a message for TLS.
    command.arg("-r").arg(capture).args([
        "-d",
        "tcp.port==27017,mongo",
        "-Y",
        "mongo",
        "-T",
        "fields",
        "-E",
        "occurrence=f",
    ]);
    for field in ["message_length", "request_id", "response_to", "element.name"] {
        command.args(["-e", &format!("mongo.{field}")]);
    }
    let output = command.stderr(Stdio::null()).output().expect("tshark starts");
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let (asked, answers): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line[2] == "0x00000000");
    // Ids begin anew with each client, and are those of the answers in the order of the capture.
    let mut lengths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in answers.iter().rev() {
        lengths.entry(line[2]).or_default().push(line[0]);
    }
    let mut told: Vec<String> = asked
        .iter()
        .map(|line| {
            let answer = lengths.get_mut(line[1]).and_then(Vec::pop).unwrap_or("-");
            format!("{} {} {answer}", line[3], line[0])
        })
        .collect();
    told.sort();
    told
}
