//! Bad input, one line a case: the exit code, one sentence that says what to do, and nothing on standard output.
//! `DESK` stands for the desk's folder. Answers from damaged files are answers, with a warning and the exit code of a failure.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::desk::{Desk, refused};
use crate::programs::{FIXTURES, finished, is_installed, within};

/// Source, further arguments, and the sentence.
const SOURCES: &[(&str, &str)] = &[
    ("nosuch.pcap", "nosuch.pcap: there is no such file or directory"),
    (
        "folder",
        "folder: neither a ring (no segments/), nor a snapshot (no nodes/), nor an index (no tables/); name a capture \
         file or one of those",
    ),
    (
        "empty.pcap",
        "empty.pcap is not a capture file: it is empty; sharkq reads pcap and pcapng, plain or in gzip, zstd or lz4",
    ),
    (
        "text.pcap",
        "text.pcap is not a capture file: it begins with no known magic number; sharkq reads pcap and pcapng, plain or \
         in gzip, zstd or lz4",
    ),
];

const STATEMENTS: &[(&str, &str)] = &[
    ("selec 1", "that is not SQL: Expected: an SQL statement, found: selec at Line: 1, Column: 1"),
    ("select 'a", "that is not SQL: Unterminated string literal at Line: 1, Column: 8"),
    (
        "select statuscode from http",
        "there is no column statuscode; did you mean status_code? (`sharkq tables TABLE` lists columns)",
    ),
    ("select nosuch from http", "there is no column nosuch (`sharkq tables TABLE` lists columns)"),
    ("select * from htp", "there is no table htp; did you mean http? (`sharkq tables` lists them)"),
    ("drop table http", "a recording is only asked, never changed: DropTable is refused"),
    ("create table x as select 1", "a recording is only asked, never changed: CreateMemoryTable is refused"),
    (
        "create external table x stored as csv location '/etc/passwd'",
        "a recording is only asked, never changed: CreateExternalTable is refused",
    ),
    (
        "insert into http select * from http",
        "a recording is only asked, never changed: Insert Into is refused",
    ),
    (
        "select 1 from http where host or method",
        "Cannot infer common argument type for logical boolean operation Utf8 OR Utf8",
    ),
    ("select 1 / 0", "Divide by zero error"),
    ("delete from http", "a recording is only asked, never changed: Delete is refused"),
    ("copy http to 'x.csv'", "a recording is only asked, never changed: COPY is refused"),
];

const COMMANDS: &[(&str, &str)] = &[
    ("sql CAPTURE -f nosuch.sql", "nosuch.sql cannot be read: No such file or directory (os error 2)"),
    ("sql CAPTURE --identity nosuch.json -c x", "nosuch.json: No such file or directory (os error 2)"),
    (
        "sql CAPTURE --identity text.pcap -c x",
        "text.pcap: not an identity file (a JSON array of owners): expected value at line 1 column 1",
    ),
    ("sql - ", "standard input is the capture; give the statement with -c or -f"),
    ("pcap - -w x", "packets are read a second time, which standard input does not allow; name a file"),
    (
        "pcap CAPTURE --from htp -w x",
        "rows of htp do not lead to packets, those of flows, flow_copies, http, dns, db, redis, kafka, amqp, tls, ws, ldap, radius, diameter, icmp do; did you mean http?",
    ),
    ("pcap CAPTURE --where nosuch=1 -w x", "there is no column nosuch (`sharkq tables TABLE` lists columns)"),
    ("index CAPTURE -o folder", "folder exists; give a folder that does not"),
    ("tables htp", "there is no table htp; did you mean http? (`sharkq tables` lists them)"),
    ("verify nosuch", "nosuch: there is no such file or directory"),
    ("verify folder", "folder is neither a snapshot nor a ring: there is nothing to verify"),
    ("verify text.pcap", "text.pcap has no sidecar beside it: there is nothing to verify it against"),
];

#[test]
fn each_is_one_sentence() {
    let desk = prepared();
    for (source, sentence) in SOURCES {
        for command in
            [&["sql", "-c", "select 1"][..], &["info"], &["index", "-o", "never"], &["pcap", "-w", "never"]]
        {
            let output = desk.sharkq().args(command).arg(source).output().unwrap();
            assert_eq!(refused(&output), (1, format!("sharkq: {sentence}")), "{command:?} {source}");
            assert!(!desk.at("never").exists(), "{command:?} {source} left something");
        }
    }
    for (statement, sentence) in STATEMENTS {
        let output = desk.sharkq().args(["sql", &capture(), "-c", statement]).output().unwrap();
        assert_eq!(refused(&output), (1, format!("sharkq: {sentence}")), "{statement}");
    }
    for (command, sentence) in COMMANDS {
        let arguments = command.replace("CAPTURE", &capture());
        let output = desk.sharkq().args(arguments.split_whitespace()).output().unwrap();
        assert_eq!(refused(&output), (1, format!("sharkq: {sentence}")), "{command}");
        assert!(!desk.at("x").exists(), "{command} left something");
    }
}

#[test]
fn usage_is_exit_code_2() {
    let desk = Desk::new();
    for arguments in
        [&["sql"][..], &["nosuch"], &["sql", "x", "--format", "nosuch"], &["sql", "x", "--threads", "0"]]
    {
        let output = desk.sharkq().args(arguments).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
}

/// What was read before the damage is answered from, with a warning; a file that merely ends early is no failure.
#[test]
fn damaged_files_say_where() {
    let desk = prepared();
    let stored = fs::read(capture()).unwrap();
    let plain = zstd::decode_all(&stored[..]).unwrap();
    let (mut flipped, middle) = (plain.clone(), plain.len() / 2);
    // The total length of a block in the middle: blocks are a multiple of four long, so this is no length.
    let block = block_after(&plain, middle);
    flipped[block + 4] ^= 1;
    let mut flipped_stored = stored.clone();
    flipped_stored[stored.len() / 2] ^= 1;
    for (name, bytes, code, words) in [
        ("cut.pcapng.zst", &stored[..stored.len() / 2], 0, "is cut short at byte"),
        ("cut.pcapng", &plain[..middle], 0, "is cut short at byte"),
        ("flipped.pcapng", &flipped[..], 1, &format!("is damaged at byte {block} (")),
        ("flipped.pcapng.zst", &flipped_stored[..], 1, "is damaged at byte"),
    ] {
        fs::write(desk.at(name), bytes).unwrap();
        let count = ["sql", "-q", name, "--format", "csv", "-c", "SELECT count(*) > 100 AS many FROM flows"];
        let output = desk.sharkq().args(count).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name}: {error}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "many\ntrue\n", "{name}");
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
        assert!(error.starts_with(&format!("sharkq: warning: {name} ")) && error.contains(words), "{error}");
    }
}

/// Nothing listens at port 1 of the loopback: refused or unreachable is what the variable of the store alone decides.
#[test]
fn a_store_is_reached_as_its_own_variable_allows_and_given_up_soon() {
    let account = r#"{"gcs_base_url":"http://127.0.0.1:1","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;
    let azure = [
        ("AZURE_ENDPOINT", "http://127.0.0.1:1"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "YWE="),
    ];
    let aws =
        [("AWS_ENDPOINT", "http://127.0.0.1:1"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")];
    let variables = ["AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP"];
    let desk = Desk::new();
    let asked = |source: &str, environment: &[(&str, &str)], is_allowed: &dyn Fn(&str) -> bool| {
        let start = Instant::now();
        let mut ask = desk.sharkq();
        ask.args(["sql", source, "-c", "select 1"]).envs(environment.iter().copied());
        ask.envs(variables.map(|name| (name, if is_allowed(name) { "true" } else { "false" })));
        let (code, said) = refused(&ask.output().unwrap());
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(code, 1, "{said}");
        said
    };
    for (source, environment, own) in [
        ("s3://bucket/snapshot", &aws[..], variables[0]),
        ("gs://bucket/snapshot", &[("GOOGLE_SERVICE_ACCOUNT_KEY", account)], variables[1]),
        ("az://bucket/snapshot", &azure, variables[2]),
    ] {
        let said = asked(source, environment, &|name| name != own);
        let way_out = format!("plain http is not allowed; set {own}=true, or give an endpoint with https");
        assert_eq!(said, format!("sharkq: {source}: {way_out}"));
        let said = asked(source, environment, &|name| name == own);
        let nobody = "the store cannot be reached; check its address and the network";
        assert_eq!(said, format!("sharkq: {source}: {nobody}"));
    }
}

#[test]
fn without_permission() {
    if !is_root() || !is_installed("setpriv") {
        eprintln!("skipped: needs root and setpriv, to become an ordinary user");
        return;
    }
    let desk = Desk::new();
    // Out of a folder that only root may enter.
    fs::set_permissions(desk.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_sharkq"), desk.at("sharkq")).unwrap();
    for (name, mode) in [("secret.pcapng.zst", 0o600), ("open.pcapng.zst", 0o644)] {
        fs::copy(capture(), desk.at(name)).unwrap();
        fs::set_permissions(desk.at(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let as_nobody = |name: &str| -> Output {
        let mut command = within(60, "setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "./sharkq",
            "sql",
            name,
            "-c",
            "select 1",
        ]);
        command.env("SHARKQ_CACHE", desk.at("cache")).current_dir(desk.folder()).output().unwrap()
    };
    let sentence = "sharkq: secret.pcapng.zst: permission denied; run as a user who may read it";
    assert_eq!(refused(&as_nobody("secret.pcapng.zst")), (1, sentence.to_owned()));
    let cache = desk.at("cache");
    let sentence = format!(
        "sharkq: the cache {} cannot be used; set SHARKQ_CACHE: Permission denied (os error 13)",
        cache.display()
    );
    assert_eq!(refused(&as_nobody("open.pcapng.zst")), (1, sentence));
}

#[test]
fn a_full_disk() {
    if !is_root() {
        eprintln!("skipped: needs root, to mount a small disk");
        return;
    }
    let desk = Desk::new();
    let full = desk.at("full");
    let disk = Disk::mount(&full);
    let fails = |command: &mut Command, words: &[&str]| {
        let (code, sentence) = refused(&command.output().unwrap());
        assert_eq!(code, 1, "{sentence}");
        assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
        let left: Vec<_> = fs::read_dir(disk.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "cache"), "{left:?} was left behind");
    };
    let no_space = "No space left on device";
    let source = capture();
    let mut sql = desk.sharkq();
    fails(
        sql.env("SHARKQ_CACHE", disk.0.join("cache")).args(["sql", &source, "-c", "select 1"]),
        &["full/cache", no_space],
    );
    let rows = ["sql", &source, "-c", "SELECT * FROM http", "-o", "full/rows.json", "--format", "json"];
    fails(desk.sharkq().args(rows), &["full/rows.json cannot be written: ", no_space]);
    let rows = ["sql", &source, "-c", "SELECT * FROM http", "-o", "full/rows.parquet", "--format", "parquet"];
    fails(desk.sharkq().args(rows), &["full/rows.parquet cannot be written: ", no_space]);
    fails(
        desk.sharkq().args(["pcap", &source, "-w", "full/x.pcapng"]),
        &["full/x.pcapng cannot be written: ", no_space],
    );
    fails(desk.sharkq().args(["index", &source, "-o", "full/index"]), &["full/", no_space]);
}

fn capture() -> String {
    format!("{FIXTURES}/shop/shop.pcapng.zst")
}

fn prepared() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.at("folder")).unwrap();
    fs::write(desk.at("empty.pcap"), "").unwrap();
    fs::write(desk.at("text.pcap"), "All that the little shop sells is made of text.\n").unwrap();
    desk
}

/// Offset of the first block that begins at or after `from`, by their total lengths.
fn block_after(bytes: &[u8], from: usize) -> usize {
    let mut at = 0;
    while at < from {
        at += u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    at
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0")
}

/// A disk of 64 KiB, taken away when dropped.
struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn mount(at: &Path) -> Disk<'_> {
        fs::create_dir(at).unwrap();
        finished(within(10, "mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at));
        Disk(at)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = within(10, "umount").arg(self.0).status();
    }
}
