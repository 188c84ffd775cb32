//! No protocol is found where tshark finds none: probes look at every conversation, on whatever port.

use std::fs;

use super::{corpus, frames};
use crate::recording::analysed;

/// Tables, and the kinds of messages that stand behind their rows.
const KINDS: &[(&str, &[&str])] = &[
    ("http", &["http", "http2", "websocket"]),
    ("dns", &["dns"]),
    ("db", &[]),
    ("redis", &["resp"]),
    ("kafka", &["kafka"]),
    ("amqp", &["amqp"]),
    ("tls", &["tls"]),
    ("ldap", &["ldap"]),
    ("radius", &["radius"]),
    ("diameter", &["diameter"]),
];

/// Captures in which we find more, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "tcp/zeek__reassembly.pcap",
    "http",
    "a SEARCH whose request line is not captured to its end: what there is of it is shown",
)];

#[test]
fn nothing_is_taken_for_another_protocol() {
    let Some(corpus) = corpus() else { return };
    let (mut found, mut read) = (Vec::new(), 0);
    for folder in fs::read_dir(&corpus).expect("the corpus") {
        let folder = folder.expect("an entry").path();
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        if !folder.is_dir() || ["golden", "tools", "hostile", "pcapng"].contains(&name.as_str()) {
            continue;
        }
        for capture in fs::read_dir(&folder).expect("the corpus") {
            let path = capture.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "gz") {
                continue;
            }
            let file = format!("{name}/{}", path.file_name().expect("a name").to_string_lossy());
            read += 1;
            for (table, batches) in analysed(&frames(&path)) {
                let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
                let kinds = KINDS.iter().find(|(known, _)| *known == table).map(|(_, kinds)| *kinds);
                let is_told = |kind: &&str| corpus.join(format!("golden/{file}.{kind}.tsv")).exists();
                if kinds.is_some_and(|kinds| rows > 0 && !kinds.iter().any(is_told)) {
                    found.push((file.clone(), table));
                }
            }
        }
    }
    found.sort();
    let found: Vec<(&str, &str)> = found.iter().map(|(file, table)| (file.as_str(), *table)).collect();
    let listed: Vec<(&str, &str)> = EXCEPTIONS.iter().map(|(file, table, _)| (*file, *table)).collect();
    assert_eq!(found, listed);
    assert!(read > 120, "only {read} captures");
}
