//! What the commands print: every format of one answer byte for byte, every way to give statements and captures, and the
//! catalogue, the cache and the completions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use arrow::util::pretty::pretty_format_batches;
use serde_json::Value;
use shark_schema::views;

use crate::desk::{Desk, refused};
use crate::programs::{FIXTURES, finished, printed};

/// Text that each format must quote in its own way, numbers, a list, a time, and NULL.
const ANSWER: &str = "SELECT * FROM (VALUES ('GET', 200, 0.5, 'a|b', TIMESTAMP '2026-11-21 03:12:00', make_array(1, 2)), \
                      ('say \"x\",', NULL, NULL, 'two' || chr(10) || 'lines', NULL, NULL)) AS t(method, status, ratio, text, ts, list)";

const FORMATS: &[(&str, &str)] = &[
    (
        "table",
        "\
+----------+--------+-------+-------+---------------------+--------+
| method   | status | ratio | text  | ts                  | list   |
+----------+--------+-------+-------+---------------------+--------+
| GET      | 200    | 0.5   | a|b   | 2026-11-21T03:12:00 | [1, 2] |
| say \"x\", |        |       | two   |                     |        |
|          |        |       | lines |                     |        |
+----------+--------+-------+-------+---------------------+--------+
(2 rows)
",
    ),
    (
        "csv",
        "method,status,ratio,text,ts,list\nGET,200,0.5,a|b,2026-11-21T03:12:00,\"[1, 2]\"\n\"say \"\"x\"\",\",,,\"two\nlines\",,\n",
    ),
    (
        "tsv",
        "method\tstatus\tratio\ttext\tts\tlist\nGET\t200\t0.5\ta|b\t2026-11-21T03:12:00\t[1, 2]\n\"say \"\"x\"\",\"\t\t\t\"two\nlines\"\t\t\n",
    ),
    (
        "json",
        "[{\"method\":\"GET\",\"status\":200,\"ratio\":0.5,\"text\":\"a|b\",\"ts\":\"2026-11-21T03:12:00\",\"list\":[1,2]},\
         {\"method\":\"say \\\"x\\\",\",\"status\":null,\"ratio\":null,\"text\":\"two\\nlines\",\"ts\":null,\"list\":null}]\n",
    ),
    (
        "ndjson",
        "{\"method\":\"GET\",\"status\":200,\"ratio\":0.5,\"text\":\"a|b\",\"ts\":\"2026-11-21T03:12:00\",\"list\":[1,2]}\n\
         {\"method\":\"say \\\"x\\\",\",\"status\":null,\"ratio\":null,\"text\":\"two\\nlines\",\"ts\":null,\"list\":null}\n",
    ),
    (
        "markdown",
        "| method | status | ratio | text | ts | list |\n| --- | --- | --- | --- | --- | --- |\n\
         | GET | 200 | 0.5 | a\\|b | 2026-11-21T03:12:00 | [1, 2] |\n| say \"x\", |  |  | two<br>lines |  |  |\n",
    ),
];

#[test]
fn every_format_of_one_answer() {
    let desk = Desk::new();
    for (format, text) in FORMATS {
        let ask = ["sql", &capture(), "--format", format, "-c", ANSWER];
        assert_eq!(printed(desk.sharkq().args(ask)), *text, "{format}");
    }
    let table = FORMATS[0].1.trim_end_matches("(2 rows)\n").trim_end();
    for format in ["parquet", "arrow"] {
        let file = desk.at(format);
        let ask = ["sql", &capture(), "--format", format, "-o", format, "-c", ANSWER];
        assert_eq!(printed(desk.sharkq().args(ask)), "", "{format}");
        let read = fs::File::open(file).unwrap();
        let batches: Vec<_> = if format == "arrow" {
            arrow::ipc::reader::FileReader::try_new(read, None).unwrap().map(Result::unwrap).collect()
        } else {
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(read).unwrap();
            reader.build().unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(pretty_format_batches(&batches).unwrap().to_string(), table, "{format}");
    }
}

const COUNT: &str = "SELECT count(*) AS calls, count(DISTINCT x_request_id) AS ids FROM http";

#[test]
fn every_way_to_ask() {
    let desk = Desk::new();
    let source = capture();
    let answer = printed(desk.sharkq().args(["sql", &source, "--format", "csv", "-c", COUNT]));
    assert!(answer.starts_with("calls,ids\n") && answer.len() > 12, "{answer}");
    fs::write(desk.at("question.sql"), format!("-- How many?\n{COUNT};\n")).unwrap();
    let from_file = ["sql", &source, "--format", "csv", "-f", "question.sql"];
    assert_eq!(printed(desk.sharkq().args(from_file)), answer);
    let to_file = ["sql", &source, "--format", "csv", "-f", "question.sql", "-o", "answer.csv"];
    assert_eq!(printed(desk.sharkq().args(to_file)), "");
    assert_eq!(fs::read_to_string(desk.at("answer.csv")).unwrap(), answer);
    let piped = given(&desk, &["sql", &source, "--format", "csv"], COUNT.as_bytes());
    assert_eq!(piped, answer);
    let both = ["sql", &source, "--format", "csv", "-c", COUNT, "-c", COUNT];
    assert_eq!(printed(desk.sharkq().args(both)), answer.repeat(2));
    let status =
        |more: &[&str]| desk.sharkq().args(["sql", &source]).args(more).output().unwrap().status.code();
    let none = "SELECT * FROM http WHERE false";
    assert_eq!((status(&["-c", none]), status(&["--exit-code", "-c", none])), (Some(0), Some(3)));
    assert_eq!(status(&["--exit-code", "-c", COUNT]), Some(0));
}

/// However the bytes come, the tables are the same.
#[test]
fn every_way_to_give_a_capture() {
    let desk = Desk::new();
    let stored = fs::read(capture()).unwrap();
    let plain = zstd::decode_all(&stored[..]).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(desk.at(name), bytes).unwrap();
    write("a.pcapng", &plain);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    write("a.pcapng.gz", &gzip.finish().unwrap());
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&plain).unwrap();
    write("a.pcapng.lz4", &lz4.finish().unwrap());
    // Several frames, an empty one and one that is to be skipped among them.
    let frame = |bytes: &[u8]| {
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(bytes).unwrap();
        lz4.finish().unwrap()
    };
    let (head, tail) = plain.split_at(plain.len() / 3);
    let skipped = b"\x50\x2a\x4d\x18\x05\0\0\0notes";
    write("frames.pcapng.lz4", &[&frame(head), &frame(b"")[..], skipped, &frame(tail)].concat());
    write("a.pcapng.zst", &stored);
    let digest = "SELECT count(*) AS n, min(ts) AS first, max(ts) AS last, sum(request_bytes) AS sent, \
                  sum(response_body_len) AS got, min(call_id) AS id FROM http";
    let of = |source: &str| printed(desk.sharkq().args(["sql", source, "--format", "csv", "-c", digest]));
    let told = of(&capture());
    for name in ["a.pcapng", "a.pcapng.gz", "a.pcapng.lz4", "frames.pcapng.lz4", "a.pcapng.zst"] {
        assert_eq!(of(name), told, "{name}");
    }
    for bytes in [&plain, &stored] {
        assert_eq!(
            given(&desk, &["sql", "-", "--format", "csv", "-c", digest], bytes),
            told,
            "standard input"
        );
    }
    several_at_once(&desk, &plain);
}

/// A capture cut in two is, as two sources, the capture.
fn several_at_once(desk: &Desk, plain: &[u8]) {
    let packets = crate::captures::read(&desk.at("a.pcapng"));
    let middle = packets.len() / 2;
    for (name, part) in
        [("1.pcap", &packets[..middle]), ("2.pcap", &packets[middle..]), ("all.pcap", &packets[..])]
    {
        crate::captures::write(&desk.at(name), part.iter());
    }
    let digest =
        "SELECT count(*) AS n, count(DISTINCT x_request_id) AS ids, sum(response_body_len) AS got FROM http";
    let of = |sources: &[&str]| {
        let mut command = desk.sharkq();
        command.arg("sql").args(sources);
        printed(command.args(["--format", "csv", "-c", digest]))
    };
    let whole = of(&["all.pcap"]);
    assert_eq!(of(&["1.pcap", "2.pcap"]), whole);
    assert_eq!(of(&["2.pcap", "1.pcap"]), whole);
    assert!(!plain.is_empty() && whole.len() > 10, "{whole}");
}

#[test]
fn info_adds_up() {
    let desk = Desk::new();
    let info: Value =
        serde_json::from_str(&printed(desk.sharkq().args(["info", &capture(), "--format", "json"]))).unwrap();
    let packets = crate::captures::read(Path::new(&capture()));
    assert_eq!(info["packets"], packets.len());
    let wire: u64 = packets.iter().map(|packet| u64::from(packet.original_len)).sum();
    assert_eq!(info["wire_bytes"], wire);
    assert_eq!((&info["damage"], &info["undecodable_packets"]), (&Value::Array(vec![]), &0.into()));
    let protocols = info["protocols"].as_array().unwrap();
    assert!(
        protocols.iter().any(|row| row["protocol"] == "http")
            && protocols.iter().any(|row| row["protocol"] == "dns")
    );
    let text = printed(desk.sharkq().args(["info", &capture()]));
    assert!(text.contains(&format!("Packets:       {}\n", packets.len())), "{text}");
}

/// What no table has the content of is told apart, to the byte: the shop's capture from its middle on, where some conversations
/// speak TLS and others what nobody knows.
#[test]
fn info_tells_what_is_not_read() {
    let desk = Desk::new();
    let mut packets = crate::captures::read(Path::new(&capture()));
    packets.drain(..packets.len() / 2);
    let mut told: BTreeMap<Ends, Told> = BTreeMap::new();
    for packet in &mut packets {
        let bytes = u64::from(packet.original_len);
        let data = &mut packet.data;
        let tcp = 14 + usize::from(data[14] & 0xf) * 4;
        if data[12..14] != [8, 0] || data[23] != 6 {
            continue;
        }
        let end = 14 + usize::from(u16::from_be_bytes([data[16], data[17]]));
        let mut ends =
            [(26, tcp), (30, tcp + 2)].map(|(ip, port)| [&data[ip..ip + 4], &data[port..port + 2]].concat());
        let class = class_of(&ends);
        ends.sort();
        let conversation = told.entry(ends).or_default();
        let text = tcp + usize::from(data[tcp + 12] >> 4) * 4;
        // A SYN, or the answer to one.
        let is_first = data[tcp + 13] & 2 != 0;
        let payload = &mut data[text..end];
        conversation.bytes += bytes;
        conversation.speaks |= !payload.is_empty();
        conversation.begins |= is_first;
        match class {
            0 if payload.len() > 8 => payload[..8].copy_from_slice(b"SSH-2.0-"),
            0 | 1 => payload.fill(0xff),
            _ => {}
        }
    }
    crate::captures::write(&desk.at("cut.pcap"), packets.iter());
    let info: Value =
        serde_json::from_str(&printed(desk.sharkq().args(["info", "cut.pcap", "--format", "json"]))).unwrap();
    let rows = info["protocols"].as_array().unwrap();
    let sum = |column: &str, is_counted: &dyn Fn(&Value) -> bool| -> u64 {
        rows.iter().filter(|row| is_counted(row)).map(|row| row[column].as_u64().expect("a count")).sum()
    };
    let of_class = |class: u8| -> u64 {
        let of_it = told.iter().filter(|(ends, told)| told.speaks && class_of(ends) == class);
        of_it.map(|(_, told)| told.bytes).sum()
    };
    assert!(of_class(0) > 0 && of_class(1) > 0 && of_class(2) > 0, "{told:?}");
    assert_eq!(sum("bytes", &|row| row["encrypted"] == true), of_class(0), "{rows:?}");
    assert_eq!(sum("bytes", &|row| row["protocol"] == "unrecognised"), of_class(1), "{rows:?}");
    let torn = told.values().filter(|told| !told.begins).count();
    assert!(torn > 0, "the middle is between two conversations");
    assert_eq!(sum("mid_stream", &|row| row["transport"] == "tcp"), torn as u64, "{rows:?}");
    let not_ip: u64 = packets
        .iter()
        .filter(|packet| packet.data[12..14] == [8, 6])
        .map(|packet| u64::from(packet.original_len))
        .sum();
    assert_eq!(sum("bytes", &|_| true) + not_ip, info["wire_bytes"].as_u64().unwrap());
    let not_ip_packets = info["not_ip_packets"].as_u64().unwrap();
    assert_eq!(sum("packets", &|_| true) + not_ip_packets, packets.len() as u64);
}

/// Addresses and ports, the lesser first.
type Ends = [Vec<u8>; 2];

/// Of a conversation over TCP.
#[derive(Debug, Default)]
struct Told {
    bytes: u64,
    speaks: bool,
    begins: bool,
}

/// Two thirds of the conversations that are not about names: 0 for SSH, 1 for what nobody knows.
fn class_of(ends: &Ends) -> u8 {
    let ports = ends.each_ref().map(|end| u16::from_be_bytes([end[4], end[5]]));
    if ports.contains(&53) { 2 } else { (ports[0].max(ports[1]) % 3) as u8 }
}

#[test]
fn the_catalogue_is_printed() {
    let desk = Desk::new();
    let all = printed(desk.sharkq().arg("tables"));
    for (name, doc) in views::names() {
        let listed = all.lines().filter(|line| line.split(' ').next() == Some(name));
        assert!(listed.eq([format!("{name:<18} {doc}")]), "{name}: {all}");
        let one = printed(desk.sharkq().args(["tables", name]));
        assert!(views::columns(name).iter().all(|column| one.contains(column.name)), "{one}");
    }
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/TABLES.md");
    let markdown = printed(desk.sharkq().args(["tables", "--markdown"]));
    assert_eq!(markdown.trim_end(), fs::read_to_string(reference).unwrap().trim_end());
    // What SQL sees is what the catalogue says.
    let columns = "SELECT table_name, count(*) AS n FROM information_schema.columns
        WHERE table_schema <> 'information_schema' GROUP BY 1 ORDER BY 1";
    let seen = desk.rows(Path::new(&capture()), columns);
    for (name, _) in views::names() {
        let row = seen.iter().find(|row| row["table_name"] == name).expect("every table is there");
        let described = printed(desk.sharkq().args(["tables", name])).lines().skip(2).count();
        assert!(described > 0 && row["n"] == described, "{name}: {} and {described}", row["n"]);
    }
    assert_eq!(seen.len(), views::names().count());
    let (code, error) = refused(&desk.sharkq().args(["tables", "http_al"]).output().unwrap());
    assert!(code == 1 && error.contains("did you mean http_all?"), "{error}");
}

/// An index of an earlier schema has no rows in the tables that came later: nobody takes that for an answer.
#[test]
fn an_index_of_another_schema_says_so() {
    let desk = Desk::new();
    let index = desk.at("index");
    finished(desk.sharkq().args(["index", &capture(), "-o"]).arg(&index));
    let ask = || {
        let output = finished(desk.sharkq().arg("sql").arg(&index).args(["-c", "SELECT 1"]));
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(!ask().contains("schema"));
    let path = index.join("index.json");
    let note = std::fs::read_to_string(&path).expect("its note");
    let earlier = note.replace(&format!("\"{}\"", shark_schema::table::SCHEMA_VERSION), "\"1.0\"");
    assert_ne!(note, earlier);
    std::fs::write(&path, earlier).expect("written");
    assert!(ask().contains("has the tables of schema 1.0"), "{}", ask());
}

#[test]
fn the_cache_is_used_listed_and_cleared() {
    let desk = Desk::new();
    let list = || printed(desk.sharkq().args(["cache", "ls"]));
    assert_eq!(list(), "");
    let ask = || printed(desk.sharkq().args(["sql", &capture(), "-c", COUNT]));
    let first = ask();
    let listed = list();
    assert!(listed.lines().count() == 1 && listed.contains("shop.pcapng.zst"), "{listed}");
    // The second answer comes from the cache: its files stay as they are.
    let made = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let index = desk.at("cache").join(listed.split_whitespace().next().unwrap()).join("index.json");
    let before = made(&index);
    assert_eq!((ask(), made(&index)), (first, before));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(desk.at("cache")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700, "it holds payloads");
    let cleared = printed(desk.sharkq().args(["cache", "clear"]));
    assert!(cleared.starts_with("removed 1 indexes, "), "{cleared}");
    assert_eq!((list(), index.exists()), (String::new(), false));
}

#[test]
fn the_cache_gives_up_what_was_asked_longest_ago() {
    let desk = Desk::new();
    let ask = |bodies: &str, limit: u64| {
        let mut command = desk.sharkq();
        command.args(["sql", &capture(), "--bodies", bodies, "-c", COUNT]);
        printed(command.env("SHARKQ_CACHE_LIMIT", limit.to_string()))
    };
    let kept = || -> BTreeSet<String> {
        let listed = printed(desk.sharkq().args(["cache", "ls"]));
        listed.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let added = |bodies: &str, limit: u64| {
        let before = kept();
        ask(bodies, limit);
        let new: Vec<String> = kept().difference(&before).cloned().collect();
        assert_eq!(new.len(), 1, "{new:?}");
        new[0].clone()
    };
    let (first, second) = (added("100", u64::MAX), added("200", u64::MAX));
    ask("100", u64::MAX);
    let bytes = |name: &String| -> u64 {
        let files = files_below(&desk.at("cache").join(name));
        files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
    };
    // Room for two and a half.
    let third = added("300", bytes(&first) * 5 / 2);
    assert_eq!(kept(), BTreeSet::from([first.clone(), third.clone()]), "not {second}");
    // The one that was just made stays, whatever the limit is.
    let last = added("400", 1);
    assert_eq!(kept(), BTreeSet::from([last]));
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn completions_of_every_shell() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(desk.sharkq().args(["completions", shell]));
        assert!(["sql", "index", "pcap", "verify"].iter().all(|verb| script.contains(verb)), "{shell}");
    }
}

/// Standard output of `sharkq` with these bytes on its standard input.
pub fn given(desk: &Desk, arguments: &[&str], input: &[u8]) -> String {
    let mut command = desk.sharkq();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn capture() -> String {
    format!("{FIXTURES}/shop/shop.pcapng.zst")
}
