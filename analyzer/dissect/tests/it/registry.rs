//! Nothing is half wired: a call table has a layer and captures with golden rows, and each of those has a table.

use std::collections::BTreeSet;
use std::fs;

use shark_dissect::protocols::{PROTOCOLS, call_tables};
use shark_schema::tables::TABLES;

use crate::recording::{FIXTURES, captures};

/// Folders of `fixtures` that hold no captures of a protocol.
const OTHERS: &[&str] = &["incidents", "kfl", "make", "shop", "src", "tests"];

#[test]
fn tables_layers_and_fixtures_belong_together() {
    let tables: BTreeSet<&str> =
        TABLES.iter().filter(|table| table.call.is_some()).map(|table| table.name).collect();
    let dissected: BTreeSet<&str> = call_tables().iter().map(|table| table.name).collect();
    assert_eq!(tables, dissected, "call tables and layers");
    let folders: BTreeSet<String> = fs::read_dir(FIXTURES)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a plain name"))
        .filter(|name| !OTHERS.contains(&name.as_str()) && !name.starts_with('.'))
        .collect();
    assert_eq!(
        folders,
        tables.iter().map(|name| name.to_string()).collect(),
        "folders of fixtures and call tables"
    );
    for table in tables {
        assert!(!captures(table).is_empty(), "fixtures/{table} has no capture");
        for capture in captures(table) {
            let size = fs::metadata(&capture).expect("it is there").len();
            assert!(size <= 200 * 1024, "{} has {size} bytes", capture.display());
            let golden =
                fs::read_to_string(capture.with_extension(format!("{table}.tsv"))).expect("golden rows");
            assert!(golden.lines().count() > 1, "{} gives no row of {table}", capture.display());
        }
    }
}

#[test]
fn protocols_are_told_apart() {
    let names: BTreeSet<(&str, String)> =
        PROTOCOLS.iter().map(|protocol| (protocol.name, format!("{:?}", protocol.over))).collect();
    assert_eq!(names.len(), PROTOCOLS.len(), "one name, one carrier, one layer");
    assert!(call_tables().iter().all(|table| table.column("first_frame").is_some()), "rows lead to packets");
}
