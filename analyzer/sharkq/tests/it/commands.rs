//! psql's backslash commands and DuckDB's dot twins, typed into a pipe: what each prints, sets and writes.

use std::fs;

use crate::desk::{Desk, refused};
use crate::output::given;
use crate::programs::FIXTURES;

const ONE: &str = "SELECT 1 AS one, 'a' AS letter;";
const TABLE: &str =
    "+-----+--------+\n| one | letter |\n+-----+--------+\n| 1   | a      |\n+-----+--------+\n(1 row)\n";

fn source() -> String {
    format!("{FIXTURES}/shop/shop.pcapng.zst")
}

/// What these lines print.
fn typed(desk: &Desk, lines: &[&str]) -> String {
    given(desk, &["sql", "--allow-files", &source()], lines.join("\n").as_bytes())
}

#[test]
fn what_is_set_stays_set() {
    let desk = Desk::new();
    let wide = typed(&desk, &["\\x on", ONE, "\\x off", ONE]);
    let expected = format!(
        "Expanded display is on.\n-[ row 1 ]\none    | 1\nletter | a\n(1 row)\nExpanded display is off.\n{TABLE}"
    );
    assert_eq!(wide, expected);
    assert_eq!(typed(&desk, &["\\x", "\\x"]), "Expanded display is on.\nExpanded display is off.\n");
    for [on, off] in [["\\timing", "\\timing"], ["\\timing on", "\\timing off"], [".timer on", ".timer off"]]
    {
        let text = typed(&desk, &[on, ONE, off, ONE]);
        let rest = text.strip_prefix(&format!("Timing is on.\n{TABLE}Time: ")).expect(&text);
        let (time, rest) = rest.split_once(" ms\n").expect(&text);
        assert!(time.parse::<f64>().is_ok_and(|ms| ms > 0.0), "{text}");
        assert_eq!(rest, format!("Timing is off.\n{TABLE}"));
    }
    for mode in ["\\f csv", ".mode csv"] {
        assert_eq!(typed(&desk, &[mode, ONE]), "one,letter\n1,a\n");
    }
}

#[test]
fn files_are_written_and_read() {
    let desk = Desk::new();
    for [to, from] in [["\\o", "\\i"], [".output", ".read"]] {
        fs::write(
            desk.at("ask.sql"),
            format!("-- Two lines, and no semicolon at the end.\n{}", ONE.trim_end_matches(';')),
        )
        .unwrap();
        let write = format!("{to} answer.txt");
        let read = format!("{from} ask.sql");
        assert_eq!(typed(&desk, &[&write, &read, ONE, to, &read]), TABLE);
        assert_eq!(fs::read_to_string(desk.at("answer.txt")).unwrap(), TABLE.repeat(2));
    }
    fs::write(desk.at("self.sql"), "\\i self.sql").unwrap();
    fs::write(desk.at("bad.sql"), "\\timing maybe").unwrap();
    for (line, why) in [
        ("\\i self.sql", "self.sql: more than 16 files read each other"),
        ("\\i none.sql", "none.sql cannot be read: No such file or directory (os error 2)"),
        ("\\i bad.sql", "\\timing: on or off"),
        ("\\o no/such/folder", "no/such/folder cannot be written: No such file or directory (os error 2)"),
        (".nonsense", "there is no command .nonsense; \\? lists them"),
        ("\\d+ htp", "there is no table htp; did you mean http? (\\d lists them)"),
    ] {
        fs::write(desk.at("line.sql"), line).unwrap();
        let output =
            desk.sharkq().args(["sql", "--allow-files", &source(), "-f", "line.sql"]).output().unwrap();
        assert_eq!(refused(&output), (1, format!("sharkq: {why}")), "{line}");
    }
}

/// What came from elsewhere reads and overwrites no files, by any of the names of those commands, nor from below another.
#[test]
fn scripts_open_no_files_unless_they_are_allowed_to() {
    let desk = Desk::new();
    fs::write(desk.at("victim"), "precious").unwrap();
    for line in ["\\o victim", ".output victim", "\\i victim", ".read victim", "SELECT 1;\n\\o victim"] {
        fs::write(desk.at("line.sql"), line).unwrap();
        let words: [&[&str]; 2] = [&["-q", "-f", "line.sql"], &["-q", "-c", line]];
        for more in words {
            let output = desk.sharkq().args(["sql", &source()]).args(more).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}: {error}");
            assert!(
                error.contains("names a file, which scripts may not; --allow-files lets them"),
                "{error}"
            );
            assert!(!error.contains("precious"), "{error}");
        }
        assert_eq!(fs::read_to_string(desk.at("victim")).unwrap(), "precious", "{line}");
    }
}

#[test]
fn tables_are_listed_and_told_about() {
    let desk = Desk::new();
    let list = typed(&desk, &["\\d"]);
    for word in ["\\dt", ".tables", ".schema"] {
        assert_eq!(typed(&desk, &[word]), list, "{word}");
    }
    let names = shark_schema::tables::TABLES.iter().map(|table| table.name).chain([
        "api_calls",
        "entries",
        "flows_all",
    ]);
    names.for_each(|name| {
        assert!(list.lines().any(|line| line.split(' ').next() == Some(name)), "{name}: {list}")
    });
    let short = typed(&desk, &["\\d http"]);
    assert_eq!(typed(&desk, &[".schema http"]), short);
    let long = typed(&desk, &["\\d+ http"]);
    let line =
        |text: &str| text.lines().find(|line| line.starts_with("status_code ")).expect("a column").to_owned();
    assert!(line(&long).starts_with(&line(&short)) && line(&long).contains(", kfl=status_code"), "{long}");
    assert_eq!(long.lines().count(), short.lines().count());
    // Columns of a view as well.
    assert!(typed(&desk, &["\\d+ api_calls"]).contains("\nflow_id "));
    assert!(typed(&desk, &["\\df"]).lines().any(|name| name == "date_bin"));
}

#[test]
fn all_commands_are_in_the_list_and_the_last_ends_it() {
    let desk = Desk::new();
    let help = typed(&desk, &["\\?"]);
    assert_eq!(typed(&desk, &[".help"]), help);
    for word in ["\\d", "\\d+", "\\dt", "\\df", "\\x", "\\timing", "\\f", "\\o", "\\i", "\\?", "\\q"] {
        assert!(help.lines().any(|line| line.split(' ').next() == Some(word)), "{word}: {help}");
    }
    for word in ["\\q", ".quit"] {
        assert_eq!(typed(&desk, &[ONE, word, ONE]), TABLE);
    }
}
