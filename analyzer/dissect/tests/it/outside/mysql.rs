//! tshark's word on MySQL: the same commands and statements, the same logins, the same errors.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;

use super::postgresql::is_of;
use super::{is_installed, values};
use crate::recording::{analysed, captures, read};

#[test]
fn tshark_reads_the_same_mysql() {
    if !is_installed() {
        return;
    }
    let mut compared = 0;
    // What is compressed has but the row of its login.
    let is_read = |name: &str| !name.contains("compressed");
    for capture in captures("db").into_iter().filter(|path| is_of(path, "mysql")) {
        if !is_read(&capture.to_string_lossy()) {
            continue;
        }
        let rows = analysed(&read(&capture)).remove("db").expect("the table");
        let texts = |name: &str, of: &dyn Fn(&str) -> bool| {
            let mut texts = Vec::new();
            for batch in &rows {
                let (column, commands) =
                    (batch[name].as_string::<i32>(), batch["command"].as_string::<i32>());
                let seen =
                    (0..batch.num_rows()).filter(|&row| column.is_valid(row) && of(commands.value(row)));
                texts.extend(seen.map(|row| column.value(row).to_owned()));
            }
            texts.sort();
            texts
        };
        let told = |field: &str| {
            let mut told = values(&capture, "mysql", field);
            told.sort();
            told
        };
        let is_text = |command: &str| matches!(command, "COM_QUERY" | "COM_STMT_PREPARE");
        let keep = |mut texts: Vec<String>| {
            texts.retain(|text| !text.contains("IDENTIFIED"));
            texts
        };
        assert_eq!(keep(texts("statement", &is_text)), keep(told("mysql.query")));
        // The number of a progress report of MariaDB, which is no error.
        let mut codes = told("mysql.error_code");
        codes.retain(|code| code != "65535");
        assert_eq!(texts("error_code", &|_| true), codes);
        assert_eq!(texts("user", &|command| command == "Login"), told("mysql.user"));
        let commands = texts("command", &|command| command != "Login");
        // tshark takes the content of a file for a command.
        let mut told_commands = told("mysql.command");
        told_commands.retain(|code| code.parse::<u8>().is_ok_and(|code| code < 0x20));
        assert_eq!(commands.len(), told_commands.len());
        // An id stands in what executes it and in the answer to what prepares it.
        let mut ids = Vec::new();
        for batch in &rows {
            ids.extend(
                batch["statement_id"].as_primitive::<Int64Type>().iter().flatten().map(|id| id.to_string()),
            );
        }
        ids.sort();
        assert_eq!(ids, told("mysql.stmt_id"));
        compared += commands.len();
    }
    assert!(compared > 60, "{compared}");
}
