//! The catalogue is whole: names are unique, sort columns exist, and `TABLES.md` is what the definitions say.

use std::collections::HashSet;

use shark_schema::reference;
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
