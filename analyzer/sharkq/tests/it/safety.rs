//! Text that others chose, on its way to a terminal and into spreadsheets; statements made to break the engine; who may read what is
//! written; what interrupted processes leave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::desk::{Desk, refused};
use crate::programs::{FIXTURES, finished, printed, within};

fn source() -> String {
    format!("{FIXTURES}/shop/shop.pcapng.zst")
}

/// ESC, BEL, DEL, a C1 introducer, a direction override, a zero-width space, a byte order mark.
pub const HOSTILE: &str = "\u{1b}[31m\u{7}\u{7f}\u{9b}31m\u{202e}\u{200b}\u{feff}\r\tend";

/// Byte by byte: no control byte but the line feed, no C1 in UTF-8, no format character.
pub fn is_harmless(bytes: &[u8], allowed: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    for (at, byte) in bytes.iter().enumerate() {
        let is_bad = (*byte < 0x20 && *byte != b'\n' && !allowed.contains(byte)) || *byte == 0x7f;
        assert!(!is_bad, "byte {byte:#04x} at {at} of {text:?}");
    }
    let hidden = |c: &char| matches!(*c, '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    assert_eq!(text.chars().find(hidden), None, "{text:?}");
}

/// A value and a column's name, as any text of the wire could be.
fn hostile_statement() -> String {
    format!("SELECT '{HOSTILE}' AS text, ['{HOSTILE}'] AS texts, 1 AS \"{HOSTILE}\"")
}

#[test]
fn no_format_for_people_lets_control_characters_through() {
    let desk = Desk::new();
    for format in ["table", "csv", "tsv", "markdown", "json", "ndjson"] {
        let output =
            finished(desk.sharkq().args(["sql", &source(), "--format", format, "-c", &hostile_statement()]));
        is_harmless(&output.stdout, if format == "tsv" { b"\t" } else { b"" });
        let text = String::from_utf8(output.stdout).unwrap();
        if format.ends_with("json") {
            let rows: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
            let row = if format == "json" { &rows[0] } else { &rows };
            assert_eq!(row["text"], HOSTILE, "{format} is exact");
            assert_eq!(row["texts"][0], HOSTILE, "{format} is exact");
        } else {
            let spelled = "\\x1b[31m\\x07\\x7f\\u{9b}31m\\u{202e}\\u{200b}\\u{feff}\\r\\tend";
            assert_eq!(text.matches(spelled).count(), 3, "{format}: {text}");
        }
    }
    let script = format!("\\x on\n{};\n", hostile_statement());
    fs::write(desk.at("x.sql"), script).unwrap();
    is_harmless(&finished(desk.sharkq().args(["sql", &source(), "-f", "x.sql"])).stdout, b"");
}

/// Paths, header fields, pods and names of files: each where it stands in an answer, a list, a warning or an error.
#[test]
fn what_others_named_is_spelled_out_wherever_it_is_printed() {
    let desk = Desk::new();
    let named = desk.at(&format!("a{}b.pcapng.zst", HOSTILE.replace('\t', "")));
    fs::copy(source(), &named).unwrap();
    let path = named.to_str().expect("UTF-8");
    let asked: [&[&str]; 8] = [
        &["sql", path, "-c", "SELECT DISTINCT first_segment FROM flows"],
        &["sql", path, "--format", "csv", "-c", "SELECT * FROM segments"],
        &["sql", path, "--format", "markdown", "-c", "SELECT * FROM coverage"],
        &["kfl", path, "http", "--limit", "3"],
        &["info", path],
        &["coverage", path],
        &["cache", "ls"],
        &["verify", path],
    ];
    for words in asked {
        let output = desk.sharkq().args(words).output().unwrap();
        is_harmless(&output.stdout, b"");
        is_harmless(&output.stderr, b"");
    }
    fs::write(&named, &fs::read(source()).unwrap()[..2000]).unwrap();
    for words in [&["info", path][..], &["sql", path, "-c", "SELECT 1"], &["sql", path, "-f", "no\u{1b}such"]]
    {
        let output = desk.sharkq().args(words).output().unwrap();
        is_harmless(&output.stderr, b"");
        assert!(!output.stderr.is_empty(), "{words:?} warns");
    }
    let owner = serde_json::json!([{ "ip": "10.0.0.1", "pod": HOSTILE }]);
    fs::write(desk.at("who.json"), owner.to_string()).unwrap();
    let output = desk.sharkq().args(["kfl", &source(), "http", "--identity", "who.json"]).output().unwrap();
    is_harmless(&output.stdout, b"");
    is_harmless(&output.stderr, b"");
}

#[test]
fn texts_that_spreadsheets_would_run_are_defused_and_numbers_are_not() {
    let desk = Desk::new();
    let sql = "SELECT '=1+1' AS a, '+x' AS b, '-y' AS c, '@z' AS d, E'\\tt' AS e, E'\\rr' AS f, -5 AS g, -1.5 AS h, 'ok' AS i";
    let ask = |more: &[&str]| {
        printed(desk.sharkq().args(["sql", &source(), "-c", sql]).args(more))
            .lines()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(ask(&["--format", "csv"]), "'=1+1,'+x,'-y,'@z,'\\tt,'\\rr,-5,-1.5,ok");
    assert_eq!(ask(&["--format", "tsv"]), "'=1+1\t'+x\t'-y\t'@z\t'\\tt\t'\\rr\t-5\t-1.5\tok");
    assert_eq!(ask(&["--format", "csv", "--raw-cells"]), "=1+1,+x,-y,@z,\\tt,\\rr,-5,-1.5,ok");
    let header =
        printed(desk.sharkq().args(["sql", &source(), "--format", "csv", "-c", "SELECT 1 AS \"=x\""]));
    assert_eq!(header, "'=x\n1\n");
}

#[test]
fn endless_chains_are_refused_and_long_lists_are_answered() {
    let desk = Desk::new();
    let chains = [
        format!("SELECT 1{}", " OR 1 = 1".repeat(30_000)),
        format!("SELECT 1{}", "+1".repeat(30_000)),
        format!("SELECT 1{}", "::int".repeat(30_000)),
        format!("SELECT {}1", "NOT ".repeat(30_000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(30_000)),
    ];
    for chain in chains {
        fs::write(desk.at("chain.sql"), &chain).unwrap();
        let begun = Instant::now();
        let output = desk.sharkq().args(["sql", &source(), "-f", "chain.sql"]).output().unwrap();
        let (code, sentence) = refused(&output);
        assert_eq!(code, 1, "{}", &chain[..40]);
        assert!(sentence.contains("more than 2000 operators and keywords"), "{sentence}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
    let list = (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    fs::write(desk.at("list.sql"), format!("SELECT count(*) AS n FROM flows WHERE src_port IN ({list})"))
        .unwrap();
    assert!(printed(desk.sharkq().args(["sql", &source(), "-f", "list.sql"])).contains("(1 row)"));
    // As many as are allowed do not break it either.
    fs::write(
        desk.at("most.sql"),
        format!("SELECT count(*) FROM flows WHERE src_port = 1{}", " OR src_port = 2".repeat(600)),
    )
    .unwrap();
    printed(desk.sharkq().args(["sql", &source(), "-f", "most.sql"]));
    let expression = vec!["status_code == 200"; 30_000].join(" || ");
    assert!(
        sharkq::kfl::compile(&expression, 0)
            .expect_err("too long")
            .to_string()
            .starts_with("the expression is longer")
    );
}

#[test]
fn a_pipe_in_the_place_of_a_manifest_is_no_wait() {
    let desk = Desk::new();
    for (folder, manifest) in [("snapshot", "manifest.json"), ("ring", "ring.json")] {
        fs::create_dir_all(desk.at(folder).join(if folder == "ring" { "segments" } else { "nodes" }))
            .unwrap();
        printed(within(10, "mkfifo").arg(desk.at(folder).join(manifest)));
        let begun = Instant::now();
        for command in [&["info"][..], &["verify"]] {
            let output = desk.sharkq().args(command).arg(folder).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code().is_some(), "{command:?} {folder}: {error}");
            assert!(!error.contains("panicked"), "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{folder} took {:?}", begun.elapsed());
    }
}

#[test]
fn packets_that_were_not_indexed_are_an_error_with_a_way_out() {
    let desk = Desk::new();
    for sql in ["SELECT count(*) FROM packets", "SELECT 1 FROM flows WHERE EXISTS (SELECT 1 FROM packets)"] {
        let (code, sentence) = refused(&desk.sharkq().args(["sql", &source(), "-c", sql]).output().unwrap());
        assert_eq!(code, 1);
        assert!(
            sentence.contains("packets were not indexed; `sharkq index SRC --packets -o DIR`"),
            "{sentence}"
        );
    }
    printed(desk.sharkq().args(["index", &source(), "--packets", "-o", "index"]));
    let counted = desk.value(&desk.at("index"), "SELECT count(*) FROM packets");
    assert!(counted.as_i64().is_some_and(|packets| packets > 100), "{counted}");
}

#[test]
fn options_stand_anywhere_on_the_command_line() {
    let desk = Desk::new();
    let source = source();
    let after = printed(desk.sharkq().args(["kfl", &source, "http", "-q", "--limit", "2"]));
    for words in [
        ["kfl", &source, "-q", "http", "--limit", "2"],
        ["kfl", "-q", &source, "--limit", "2", "http"],
        ["kfl", &source, "--limit", "2", "-q", "http"],
    ] {
        assert_eq!(printed(desk.sharkq().args(words)), after, "{words:?}");
    }
    let output = desk.sharkq().args(["kfl", &source]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    printed(desk.sharkq().args(["sql", "-c", "SELECT 1", &source, "--format", "csv"]));
}

#[test]
fn what_holds_payloads_is_its_owners_alone() {
    let desk = Desk::new();
    let source = source();
    printed(desk.sharkq().args(["pcap", &source, "-w", "out.pcapng"]));
    printed(desk.sharkq().args(["sql", &source, "-c", "SELECT 1", "-o", "out.csv"]));
    printed(desk.sharkq().args(["kfl", &source, "http", "-o", "out.txt"]));
    printed(desk.sharkq().args(["sql", "--allow-files", &source, "-c", "\\o typed.txt\nSELECT 1"]));
    printed(desk.sharkq().args(["index", &source, "-o", "index"]));
    let mode = |name: &str| fs::metadata(desk.at(name)).unwrap().permissions().mode() & 0o777;
    for file in ["out.pcapng", "out.csv", "out.txt", "typed.txt"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    assert_eq!(mode("index"), 0o700);
}

#[test]
fn what_interrupted_processes_left_is_listed_and_swept() {
    let desk = Desk::new();
    let mut gone = within(10, "true").spawn().unwrap();
    let id = gone.id();
    gone.wait().unwrap();
    let cache = desk.at("cache");
    let left = cache.join(format!(".0123.{id}.part"));
    let alive = cache.join(format!(".4567.{}.part", std::process::id()));
    let make = || {
        fs::create_dir_all(left.join("tables")).unwrap();
        fs::write(left.join("tables/half"), [0; 1000]).unwrap();
        fs::create_dir_all(&alive).unwrap();
    };
    make();
    let list = printed(desk.sharkq().args(["cache", "ls"]));
    assert!(list.contains(&format!(".0123.{id}.part")) && list.contains("1000 bytes"), "{list}");
    assert!(list.contains("interrupted") && !list.contains(".4567."), "{list}");
    printed(desk.sharkq().args(["cache", "clear"]));
    assert!(!left.exists() && alive.exists());
    make();
    printed(desk.sharkq().args(["info", &source()]));
    assert!(!left.exists() && alive.exists());
    // Beside an index of one's own as well.
    let beside = desk.at(&format!(".mine.{id}.part"));
    fs::create_dir_all(&beside).unwrap();
    printed(desk.sharkq().args(["index", &source(), "-o", "mine"]));
    assert!(!beside.exists());
}

#[test]
fn errors_of_stores_are_told_by_their_kind() {
    let desk = Desk::new();
    let mut nobody = desk.sharkq();
    nobody
        .args(["info", "s3://bucket/x"])
        .env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
        .env("AWS_REGION", "x");
    let (code, sentence) = refused(&nobody.output().unwrap());
    assert_eq!(code, 1);
    assert!(
        sentence.ends_with("no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket"),
        "{sentence}"
    );
    for name in ["s3://bucket/403", "s3://accessdenied-403/AccessDenied"] {
        let mut unreached = desk.sharkq();
        unreached.args(["info", name]).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        unreached
            .env("AWS_REGION", "x")
            .env("AWS_ENDPOINT", "http://127.0.0.1:1")
            .env("AWS_ALLOW_HTTP", "true");
        let (code, sentence) = refused(&unreached.output().unwrap());
        assert_eq!(code, 1);
        assert!(
            sentence.ends_with("the store cannot be reached; check its address and the network"),
            "{sentence}"
        );
    }
}

#[test]
fn fields_that_nothing_fills_are_refused() {
    let desk = Desk::new();
    for (text, field) in [
        ("node_ip == \"10.0.0.1\"", "node_ip"),
        ("http && conn_group_id > 0", "conn_group_id"),
        ("local_annotations[\"a\"] == \"b\"", "local_annotations"),
    ] {
        let (code, sentence) = refused(&desk.sharkq().args(["kfl", &source(), text]).output().unwrap());
        assert_eq!(code, 1);
        assert!(
            sentence.starts_with(&format!("sharkq: this version does not record {field};")),
            "{sentence}"
        );
        let output = desk.sharkq().args(["pcap", &source(), text, "-w", "never"]).output().unwrap();
        assert_eq!(refused(&output).0, 1);
    }
    let fields = printed(desk.sharkq().args(["kfl", "--fields"]));
    let line = fields.lines().find(|line| line.starts_with("node_ip ")).expect("it is listed");
    assert!(line.ends_with("[this version does not record it]"), "{line}");
}
