//! KFL as people type it: wrong texts get a caret, a reason and a way out; no text whatever makes the program fail; a
//! question reads only the tables it is about; and what `--explain` prints is the same question.

use std::path::Path;

use proptest::prelude::*;
use sharkq::kfl;

use crate::captures;
use crate::desk::{Desk, refused};
use crate::kfl_rows::NOW_NS;
use crate::kfl_twins::{self, Seeded, pairs, spelled_out};
use crate::programs::{FIXTURES, finished, printed};

#[test]
fn wrong_texts_are_explained() {
    let folder = Path::new(FIXTURES).join("kfl");
    let texts = std::fs::read_to_string(folder.join("wrong.kfl")).expect("the texts");
    let mut found = String::new();
    for text in texts.lines() {
        let error = match kfl::compile(text, NOW_NS) {
            Ok(program) => panic!("{text} is not wrong: {:?}", program.sql()),
            Err(error) => error.to_string(),
        };
        assert!(error.lines().any(|line| line.trim_start().starts_with('^')), "no caret: {error}");
        found.push_str(&format!("{error}\n\n"));
    }
    let golden = folder.join("wrong.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &found).expect("written");
    }
    let expected = std::fs::read_to_string(&golden).expect("the explanations");
    assert_eq!(found, expected, "UPDATE_GOLDEN=1 writes them anew");
}

/// The published texts lie outside, so what is kept is where the caret stands, the reason and the suggestion.
#[test]
fn published_texts_that_are_refused_are_explained() {
    let Some(examples) = kfl_twins::examples() else { return };
    let mut found = String::from(
        "# What is said of published examples that are refused, by line: the caret's column and width, why, what to do.\n",
    );
    for example in &examples {
        let Err(error) = kfl::compile(&example.text, NOW_NS) else { continue };
        assert!(example.is_v1(), "{error}");
        let shown = error.to_string();
        let caret = shown.lines().nth(2).expect("a caret").strip_prefix("  ").expect("below the text");
        let column = caret.chars().take_while(|character| *character == ' ').count();
        let wide = caret.trim_start().len();
        assert_eq!(shown.lines().nth(1), Some(format!("  {}", example.text).as_str()));
        assert_eq!(caret.trim_start(), "^".repeat(wide), "{error}");
        let hint = error.fault.hint.unwrap_or_else(|| panic!("no way out: {shown}"));
        found.push_str(&format!("{}\t{column}+{wide}\t{}\t{hint}\n", example.line, error.fault.reason));
    }
    let golden = Path::new(FIXTURES).join("kfl/examples.refusals");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &found).expect("written");
    }
    let expected = std::fs::read_to_string(&golden).expect("the explanations");
    assert_eq!(found, expected, "UPDATE_GOLDEN=1 writes them anew");
}

#[test]
fn depth_is_refused_and_length_is_not() {
    let deep = [
        "(".repeat(10_000),
        "[".repeat(10_000),
        "!".repeat(10_000) + "http",
        "-".repeat(10_000) + "1",
        "http".to_string() + &".a".repeat(10_000),
        "path".to_string() + &"[0]".repeat(10_000),
        "1".to_string() + &" + 1".repeat(10_000) + " == 2",
        "http ? 1 : ".repeat(5_000),
        "dns_questions.exists(q, ".repeat(2_000),
        "(1 + 1 + ".repeat(5_000),
    ];
    for text in deep {
        let error = kfl::compile(&text, NOW_NS).expect_err("too deep").to_string();
        assert!(error.starts_with("the expression is nested more than 100 deep"), "{error}");
        assert!(error.len() < 500, "{error}");
    }
    let long: Vec<String> = (1..3000).map(|port| format!("dst.port == {port}")).collect();
    let seeded = Seeded::new();
    let program = kfl::compile(&long.join(" || "), NOW_NS).expect("long, not deep");
    assert_eq!(seeded.selected(&program), seeded.ids(&spelled_out("all: dst_port < 3000")));
    let endless = "http || ".repeat(20_000);
    let error = kfl::compile(&endless, NOW_NS).expect_err("too long").to_string();
    assert!(error.starts_with("the expression is longer than 65536 bytes"), "{error}");
}

/// Pieces of expressions, right and wrong.
const PIECES: &[&str] = &[
    "http",
    "dns",
    "status_code",
    "path",
    "request.headers",
    "dns_answers",
    "elapsed_time",
    "timestamp",
    "src.ip",
    "q",
    "in",
    "and",
    "or",
    "not",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "?",
    ":",
    "(",
    ")",
    "[",
    "]",
    ".",
    ",",
    "..",
    "\"a\"",
    "\"10.0.0.0/8\"",
    "r\"a.*\"",
    "b\"x\"",
    "1",
    "0",
    "-1",
    "9223372036854775807",
    "1.5",
    "1e400",
    "true",
    "nil",
    "size(",
    "has(",
    "int(",
    "double(",
    "string(",
    "duration(\"1s\")",
    "timestamp(",
    "now()",
    "map_get(",
    ".contains(",
    ".matches(",
    ".exists(q, ",
    ".map(q, ",
    ".filter(q, ",
    ".all(q, ",
    ".exists_one(q, ",
    "'",
    "\\",
    "\u{e9}",
    "#",
    "0x",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pieces_make_it_fail(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40), close in 0..8_usize) {
        let text = pieces.join(" ") + &")".repeat(close);
        judge(&text);
    }

    #[test]
    fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_characters_make_it_fail(text in "\\PC{0,80}") {
        judge(&text);
    }
}

/// Either a condition or an explanation that points into the text.
fn judge(text: &str) {
    match kfl::compile(text, NOW_NS) {
        Ok(program) => drop(program.sql()),
        Err(error) => {
            assert!(
                error.fault.span.start <= error.fault.span.end && error.fault.span.end <= text.len().max(1)
            );
            assert!(error.to_string().contains('^'));
        }
    }
}

/// Conditions that compile also run: nothing a row holds ends the query. Pieces are joined to conditions that are whole.
#[test]
fn what_compiles_runs() {
    let seeded = Seeded::new();
    let numbers = [
        "status_code",
        "dst.port",
        "elapsed_time",
        "attempt",
        "0",
        "-1",
        "9223372036854775807",
        "int(path)",
        "size(path)",
    ];
    let texts = [
        "path",
        "src.ip",
        "request.headers[\"x\"]",
        "dns_questions[0]",
        "string(attempt)",
        "\"\"",
        "query_string.page",
    ];
    let mut conditions = Vec::new();
    for (at, one) in numbers.iter().enumerate() {
        for (sign, other) in ["+", "-", "*", "/", "%"].iter().zip(numbers.iter().cycle().skip(at)) {
            if !(["/", "%"].contains(sign) && *other == "0") {
                conditions.push(format!("{one} {sign} {other} > {one}"));
            }
        }
    }
    for one in texts {
        conditions.push(format!("{one} in dns_answers || {one} in request.headers || {one} < \"m\""));
        conditions.push(format!(
            "request.headers[{one}] == {one} || map_get(response.headers, {one}, {one}) == \"x\""
        ));
        conditions.push(format!("{one}.matches(\"^.{{3}}\") ? size({one}) > 3 : double({one}) < 0.5"));
        conditions.push(format!("dns_answers.map(a, a + {one}).exists(b, b.contains({one}))"));
    }
    conditions.extend([
        "dns_answers[9223372036854775807] == \"x\"".to_string(),
        "dns_answers[-1] == \"x\"".into(),
        "timestamp + duration(\"9223372036s\") > timestamp".into(),
        "timestamp - elapsed_time < now()".into(),
        "src.ip in [\"::/0\", \"0.0.0.0/0\", path]".into(),
    ]);
    for text in conditions {
        let program = kfl::compile(&text, NOW_NS).unwrap_or_else(|error| panic!("{error}"));
        seeded.selected(&program);
    }
}

#[test]
fn only_the_tables_asked_about_are_read() {
    let seeded = Seeded::new();
    let columns = [("id", "coalesce(call_id, flow_id)")];
    for (text, tables) in [
        ("http && status_code >= 500", &["http"][..]),
        ("http && !(path.contains(\"/a\") || request.headers[\"x\"] == \"y\")", &["http"]),
        ("dns && rcode == \"NXDOMAIN\"", &["dns"]),
        ("dns && dns_questions.exists(q, q.contains(\"a\"))", &["dns"]),
        // The protocol of a flow is a column.
        ("protocol == \"HTTP\" && src.workload == \"web\"", &["flows", "http"]),
        ("tcp && conn_state == \"open\"", &["flows"]),
        ("status_code >= 500", &["http", "dns"]),
        ("http || dns", &["http", "dns"]),
        // Names learnt from DNS and processes are known of flows.
        ("http && dst.dns == \"dns.google\"", &["flows", "http"]),
        ("redis && redis_type == \"GET\"", &["redis"]),
        ("mysql && mysql_error_code == 1062", &["db"]),
        ("http && dns", &[]),
    ] {
        let program = kfl::compile(text, NOW_NS).expect(text);
        let read = seeded.runtime.block_on(seeded.session.reads(&program, &columns)).expect(text);
        assert_eq!(read, tables, "{text}");
    }
    // What the engine itself says, and that statistics can rule out parts of files.
    let program = kfl::compile("http && status_code >= 500", NOW_NS).expect("a text");
    let sql = format!("EXPLAIN {}", program.sql().expect("SQL").replace('*', "call_id"));
    let answers = seeded.runtime.block_on(seeded.session.run(&sql)).expect("a plan");
    let plan = arrow::util::pretty::pretty_format_batches(&answers[0].batches).expect("text").to_string();
    assert!(plan.contains("tables/http/") && plan.contains("status_code_max@0 >= 500"), "{plan}");
    assert!(!plan.contains("tables/dns/") && !plan.contains("tables/flows/"), "{plan}");
}

/// What `--explain` prints is SQL that gives the same rows; functions of functions have no syntax in its dialect.
#[test]
fn explained_is_the_same_question() {
    let seeded = Seeded::new();
    let (mut same, mut with_lambda) = (0, 0);
    for (name, text) in pairs("texts.kfl") {
        let program = kfl::compile(&text, NOW_NS).expect("a text");
        let sql = program.sql().unwrap_or_else(|error| panic!("{name}: {error}"));
        if sql.contains(") -> ") {
            with_lambda += 1;
            continue;
        }
        let ids = sql.replacen("SELECT *", "SELECT coalesce(call_id, flow_id)", 1);
        assert_eq!(seeded.ids(&ids), seeded.selected(&program), "{name}: {sql}");
        same += 1;
    }
    assert!(same > 200 && with_lambda < 20, "{same} {with_lambda}");
}

#[test]
fn the_command_lists_calls() {
    let desk = Desk::new();
    let capture = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let failed = desk.value(Path::new(&capture), "SELECT count(*) FROM http WHERE status_code >= 500");
    let failed = failed.as_u64().expect("a number") as usize;
    assert!(failed > 5);
    let kfl = |more: &[&str]| printed(desk.sharkq().args(["kfl", &capture]).args(more));
    let text = "http && status_code >= 500";
    let table = kfl(&[text]);
    assert_eq!(table.lines().count(), failed.min(100) + 5, "{table}");
    assert!(
        table.lines().nth(1).is_some_and(|head| head.contains("operation") && head.contains("latency_ms"))
    );
    assert!(table.lines().all(|line| line.chars().count() < 160), "too wide for a terminal:\n{table}");
    assert_eq!(kfl(&[text, "--limit", "3", "--format", "ndjson"]).lines().count(), 3);
    assert_eq!(kfl(&["", "--limit", "0", "--format", "csv"]).lines().count() - 1, all(&desk, &capture));
    assert!(kfl(&[text, "--explain"]).ends_with("-- reads http\n"));
    assert_eq!(kfl(&[text, "-o", "rows.csv", "--format", "csv"]), "");
    assert_eq!(std::fs::read_to_string(desk.at("rows.csv")).expect("written").lines().count(), failed + 1);
    // A table for people stops somewhere, and says so.
    let output = finished(desk.sharkq().args(["kfl", &capture, ""]));
    let said = String::from_utf8(output.stderr).expect("text");
    let mut said = said.lines();
    assert_eq!(said.next(), Some("sharkq: the first 100 entries; --limit 0 lists all"));
    assert!(said.next().is_some_and(|line| line.starts_with("coverage: ")));
    let output = desk
        .sharkq()
        .args(["kfl", &capture, "gql_operation != \"\"", "--exit-code"])
        .output()
        .expect("it runs");
    let sentence =
        "sharkq: this version does not record gql_operation; `sharkq kfl --fields` lists what can be asked";
    assert_eq!(refused(&output), (1, sentence.to_owned()));
    let fields = printed(desk.sharkq().args(["kfl", "--fields"]));
    assert!(kfl::fields::all().all(|field| fields.contains(field.name)), "{fields}");
}

fn all(desk: &Desk, capture: &str) -> usize {
    let count = "SELECT (SELECT count(*) FROM http) + (SELECT count(*) FROM dns)
        + (SELECT count(*) FROM icmp) + (SELECT count(*) FROM flows)";
    desk.value(Path::new(capture), count).as_u64().expect("a number") as usize
}

/// As bad SQL does: exit code 1 and an explanation; and before anything is read.
#[test]
fn a_wrong_text_is_refused_before_the_source_is_read() {
    let desk = Desk::new();
    for command in [&["kfl", "nosuch.pcap"][..], &["pcap", "nosuch.pcap", "-w", "x"]] {
        let output = desk.sharkq().args(command).arg("http && statuscode >= 500").output().expect("it runs");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        let said = String::from_utf8(output.stderr).expect("text");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "sharkq: there is no field statuscode",
                "  http && statuscode >= 500",
                "          ^^^^^^^^^^",
                "  did you mean status_code? (`sharkq kfl --fields` lists all)",
            ]
        );
    }
    let output = desk.sharkq().args(["kfl", "nosuch.pcap", "http"]).output().expect("it runs");
    assert_eq!(refused(&output), (1, "sharkq: nosuch.pcap: there is no such file or directory".into()));
    let output = desk.sharkq().args(["kfl", "http"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn packets_behind_an_expression_are_those_behind_its_sql() {
    let desk = Desk::new();
    let capture = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let pcap = |more: &[&str]| finished(desk.sharkq().args(["pcap", &capture, "-w", "-"]).args(more)).stdout;
    for (text, table, condition) in [
        ("http && status_code >= 500", "http", "status_code >= 500"),
        ("dns && rcode == \"NXDOMAIN\"", "dns", "rcode = 'NXDOMAIN'"),
        ("tcp && dst.port == 8080", "flows", "proto = 'tcp' AND dst_port = 8080"),
        ("", "flows", "true"),
    ] {
        let ours = pcap(&["--kfl", text]);
        assert_eq!(ours, pcap(&["--from", table, "--where", condition]), "{text}");
        if !text.is_empty() {
            assert_eq!(ours, pcap(&[text]), "as the last word");
        }
        std::fs::write(desk.at("chosen.pcapng"), &ours).expect("written");
        assert!(captures::read(&desk.at("chosen.pcapng")).len() > 10, "{text}");
    }
    let output =
        desk.sharkq().args(["pcap", &capture, "http", "--from", "dns", "-w", "x"]).output().expect("it runs");
    let sentence = "sharkq: an expression says already which rows; leave out --from and --where";
    assert_eq!(refused(&output), (1, sentence.into()));
    // A file that is not there is no expression.
    let output =
        desk.sharkq().args(["pcap", &capture, "nosuch.pcapng", "-w", "x"]).output().expect("it runs");
    assert_eq!(refused(&output), (1, "sharkq: nosuch.pcapng: there is no such file or directory".into()));
}
