//! Every fixture gives the rows that lie beside it as text, written anew by UPDATE_GOLDEN=1 and read by people before they
//! are committed.

use std::fs;
use std::path::Path;

use shark_dissect::protocols::call_tables;

use crate::recording::{analysed, captures, lines, read};

#[test]
fn fixtures_give_their_golden_rows() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut stale = Vec::new();
    for table in call_tables() {
        for capture in captures(table.name) {
            let rows = analysed(&read(&capture));
            for name in [table.name, "flows"] {
                let golden = capture.with_extension(format!("{name}.tsv"));
                let text = lines(&rows[name], |_| true).join("\n") + "\n";
                if update {
                    fs::write(&golden, &text).expect("the golden rows can be written");
                } else if let Some(difference) = difference(&golden, &text) {
                    stale.push(difference);
                }
            }
        }
    }
    assert!(stale.is_empty(), "UPDATE_GOLDEN=1 writes them anew:\n{}", stale.join("\n"));
}

/// The first line that is another one.
fn difference(golden: &Path, text: &str) -> Option<String> {
    let told = fs::read_to_string(golden).unwrap_or_default();
    if told == text {
        return None;
    }
    let at = told.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(nothing)").to_owned();
    Some(format!("{} line {}:\n  golden {}\n  now    {}", golden.display(), at + 1, line(&told), line(text)))
}
