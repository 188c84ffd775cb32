//! The catalogue is whole: names are unique, sort columns exist, and `TABLES.md` is what the definitions say.

use std::collections::{HashMap, HashSet};

use shark_schema::reference;
use shark_schema::table::{Column, Table};
use shark_schema::tables::TABLES;

#[test]
fn every_table_is_well_formed() {
    for table in TABLES {
        let mut seen = HashSet::new();
        for column in table.columns() {
            assert!(seen.insert(column.name), "{}.{} is defined twice", table.name, column.name);
            let plain =
                column.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(plain, "{}.{} is not flat snake case", table.name, column.name);
        }
        for name in table.sort {
            assert!(table.column(name).is_some(), "{} sorts by an unknown column {name}", table.name);
        }
        let ids: HashSet<_> = table
            .schema()
            .fields()
            .iter()
            .map(|field| field.metadata()["PARQUET:field_id"].clone())
            .collect();
        assert_eq!(ids.len(), table.columns().count(), "{} has a field id twice", table.name);
    }
}

#[test]
fn tables_md_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/TABLES.md");
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(path, reference::markdown()).expect("TABLES.md is writable");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference::markdown(),
        "schema/TABLES.md is stale: UPDATE_TABLES=1 cargo test -p shark-schema"
    );
}

/// A reader that knows a field by its id must never find another one there, nor another type. What is gone keeps its id.
#[test]
fn field_ids_are_those_of_the_baseline() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/field-ids.txt");
    let mut baseline = std::fs::read_to_string(path).unwrap_or_default();
    let line = |table: &Table, column: &Column| {
        let kind = reference::type_name(&(column.data_type)());
        format!("{} {} {} {kind}", table.name, column.id, column.name)
    };
    let current: Vec<String> =
        TABLES.iter().flat_map(|table| table.columns().map(|column| line(table, column))).collect();
    let id = |line: &str| line.split(' ').take(2).map(str::to_owned).collect::<Vec<String>>();
    let known: HashMap<_, _> = baseline.lines().map(|line| (id(line), line.to_owned())).collect();
    let mut new = Vec::new();
    for line in &current {
        match known.get(&id(line)) {
            Some(before) => assert_eq!(before, line, "an id that is taken was given to another field"),
            None => new.push(line.as_str()),
        }
    }
    if std::env::var_os("UPDATE_TABLES").is_some() && !new.is_empty() {
        new.iter().for_each(|line| baseline.extend([*line, "\n"]));
        std::fs::write(path, baseline).expect("field-ids.txt is writable");
        new.clear();
    }
    assert!(new.is_empty(), "not in schema/field-ids.txt; UPDATE_TABLES=1 adds them: {new:#?}");
}
