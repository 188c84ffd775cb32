//! tshark's word on PostgreSQL: the same statements, as many executions, the same rows by command tags, the same errors.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;

use super::{is_installed, values};
use crate::recording::{analysed, captures, read};

/// A row: command, statement, rows, error.
type Row = (String, String, i64, String);

#[test]
fn tshark_reads_the_same_postgresql() {
    if !is_installed() {
        return;
    }
    let mut compared = 0;
    for capture in captures("db").into_iter().filter(|path| is_of(path, "postgresql")) {
        let rows = rows(&capture);
        let of = |command: &str| rows.iter().filter(|row| row.0 == command).count();
        let types = values(&capture, "pgsql", "pgsql.type");
        let count = |name: &str| types.iter().filter(|told| *told == name).count();
        assert_eq!(of("Execute"), count("Execute"));
        assert_eq!(of("Query"), count("Simple query"));
        assert_eq!(of("FunctionCall"), count("Function call"));
        assert_eq!(of("Startup"), count("Startup message"));
        assert_eq!(of("CancelRequest"), count("Cancel request"));
        // Those that were parsed once are executed often; passwords are not kept.
        let sets_password = |text: &&str| text.contains("PASSWORD");
        let said: BTreeSet<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        let told = values(&capture, "pgsql", "pgsql.query");
        let told: BTreeSet<&str> = told.iter().map(String::as_str).collect();
        let kept = |set: BTreeSet<&str>| -> Vec<String> {
            set.into_iter()
                .filter(|text| !sets_password(text) && !text.is_empty())
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(kept(said), kept(told));
        // A row that came before the connection ended has no tag.
        let seen: i64 = rows.iter().filter(|row| row.3 != "57P01").map(|row| row.2).sum();
        let tags = values(&capture, "pgsql", "pgsql.tag");
        let numbers = tags.iter().filter_map(|tag| tag.rsplit_once(' ')?.1.parse::<i64>().ok());
        assert_eq!(seen, numbers.sum::<i64>());
        let mut codes: Vec<String> =
            rows.iter().map(|row| row.3.clone()).filter(|code| !code.is_empty()).collect();
        codes.sort();
        // Of errors; notices have codes too.
        let mut told = values(&capture, "pgsql", "pgsql.code");
        told.retain(|code| !code.starts_with("00"));
        told.sort();
        assert_eq!(codes, told);
        compared += types.len();
    }
    assert!(compared > 500, "{compared}");
}

pub fn is_of(path: &Path, system: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(system))
}

fn rows(capture: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in &analysed(&read(capture))["db"] {
        let text = |name: &str, row: usize| {
            let column = batch[name].as_string::<i32>();
            if column.is_valid(row) { column.value(row).to_owned() } else { String::new() }
        };
        let counts = batch["rows"].as_primitive::<Int64Type>();
        rows.extend((0..batch.num_rows()).map(|row| {
            let count = if counts.is_valid(row) { counts.value(row) } else { 0 };
            (text("command", row), text("statement", row), count, text("error_code", row))
        }));
    }
    rows
}
