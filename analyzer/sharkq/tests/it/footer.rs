//! What stands under an answer: a recording that lost its beginning to its budget, asked about times it has, had and never had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shark_schema::identity::{Evicted, Fact};

use crate::bundled::snapshot;
use crate::captures::{self, Packet};
use crate::desk::Desk;
use crate::identity_facts as facts;
use crate::programs::{FIXTURES, built, finished, printed, within};

/// 2026-01-02T03:00:00Z.
const START: Duration = Duration::from_secs(1_767_322_800);

/// A packet of a kilobyte each 10 ms for ten minutes, of which the budget of the ring holds the last few.
pub fn rotated(desk: &Desk) -> PathBuf {
    let mut frame = captures::read(&PathBuf::from(FIXTURES).join("http/python.pcapng"))
        .into_iter()
        .map(|packet| packet.data)
        .max_by_key(Vec::len)
        .expect("there are packets");
    frame.resize(1_000, 0);
    let packets: Vec<Packet> = (0..60_000)
        .map(|number| Packet {
            time: START + Duration::from_millis(10 * number),
            original_len: frame.len() as u32,
            data: frame.clone(),
        })
        .collect();
    let capture = desk.at("night.pcap");
    captures::write(&capture, packets.iter());
    let mut replay = within(120, built("sharkrec"));
    replay.args([
        "record",
        "--compression",
        "none",
        "--ring-size",
        "20MiB",
        "--segment-size",
        "1MiB",
        "--read",
    ]);
    finished(replay.arg(&capture).arg("--ring").arg(desk.at("ring")));
    desk.at("ring")
}

#[test]
fn no_rows_and_a_gap_are_told_apart() {
    let desk = Desk::new();
    let ring = rotated(&desk);
    let ask = |arguments: &[&str]| {
        let output = desk.sharkq().arg("sql").arg(&ring).args(arguments).output().expect("it starts");
        let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        (output.status.code().expect("it ends by itself"), out, error)
    };
    let count = |from: &str, to: &str| {
        format!(
            "SELECT count(*) AS flows FROM flows WHERE ts >= '2026-01-02T{from}' AND ts < '2026-01-02T{to}'"
        )
    };
    // What was there is gone.
    let (code, out, error) = ask(&["--strict", "--format", "csv", "-c", &count("03:01:00", "03:02:00")]);
    assert_eq!((code, out.as_str()), (4, "flows\n0\n"), "{error}");
    assert!(
        error.starts_with("coverage: INCOMPLETE, 2026-01-02 03:01:00 UTC to 2026-01-02 03:02:00 UTC\n"),
        "{error}"
    );
    assert!(error.contains("0 packets, none lost, rotated out 2026-01-02 03:0"), "{error}");
    // What is there is whole, and nothing else happened then.
    let (code, out, error) = ask(&["--strict", "--format", "csv", "-c", &count("03:09:30", "03:09:40")]);
    assert_eq!((code, out.as_str()), (0, "flows\n0\n"), "{error}");
    assert!(error.starts_with("coverage: complete, 2026-01-02 03:09:30 UTC"), "{error}");
    assert!(error.contains("packets, none lost\n"), "{error}");
    // Without the flag the exit code says nothing of it.
    assert_eq!(ask(&["-c", &count("03:01:00", "03:02:00")]).0, 0);
    // A table without any row has the same footer.
    let (code, _, error) = ask(&[
        "--strict",
        "-c",
        "SELECT * FROM http WHERE ts BETWEEN '2026-01-02T03:09:30' AND '2026-01-02T03:09:40'",
    ]);
    assert_eq!(code, 0, "{error}");
    assert!(
        error.starts_with("coverage: complete, 2026-01-02 03:09:30 UTC to 2026-01-02 03:09:40 UTC\n"),
        "{error}"
    );
    // Never in the recording.
    let (code, _, error) = ask(&["--strict", "-c", &count("09:00:00", "09:10:00")]);
    assert_eq!(code, 4);
    assert!(
        error.contains("not in the recording: 2026-01-02 09:00:00 UTC to 2026-01-02 09:10:00 UTC"),
        "{error}"
    );
    // --around chooses rows and coverage alike.
    let (code, out, error) = ask(&[
        "--strict",
        "--around",
        "03:09:30",
        "--within",
        "20s",
        "--format",
        "csv",
        "-c",
        "SELECT count(*) AS flows FROM flows",
    ]);
    assert_eq!((code, out.as_str()), (0, "flows\n1\n"), "the conversation was alive then: {error}");
    assert!(
        error.starts_with("coverage: complete, 2026-01-02 03:09:10 UTC to 2026-01-02 03:09:50 UTC"),
        "{error}"
    );
    let (_, _, error) = ask(&["--around", "04:03", "--tz", "Europe/Berlin", "-c", "SELECT * FROM flows"]);
    assert!(
        error.starts_with("coverage: INCOMPLETE, 2026-01-02 04:00:00 CET to 2026-01-02 04:08:00 CET\n"),
        "{error}"
    );
    assert!(error.contains("rotated out 2026-01-02 04:00:00 CET to 2026-01-02 04:0"), "{error}");
    // No packet matters to that, so nothing stands under it; nor with -q.
    assert_eq!(ask(&["-c", "SELECT 1"]).2, "");
    assert_eq!(ask(&["-q", "-c", &count("03:01:00", "03:02:00")]).2, "");
}

#[test]
fn coverage_says_why() {
    let desk = Desk::new();
    let ring = rotated(&desk);
    let lines = printed(desk.sharkq().arg("coverage").arg(&ring));
    assert!(lines.starts_with("coverage: INCOMPLETE, 2026-01-02 03:0"), "{lines}");
    assert!(lines.contains("rotated out 2026-01-02 03:00:00 UTC to 2026-01-02 03:0"), "{lines}");
    let rows = printed(desk.sharkq().arg("coverage").arg(&ring).args(["--format", "ndjson"]));
    let row: serde_json::Value = serde_json::from_str(&rows).expect("one row");
    let blind = row["blind_seconds"].as_i64().expect("a number");
    let captured = row["captured"].as_i64().expect("a number");
    assert_eq!((&row["dropped"], &row["blind_why"]), (&0.into(), &"rotated_out".into()), "{row}");
    // 100 packets a second; a bucket counts as seen when any of its packets is left.
    assert!((600 - blind) * 100 - captured < 1_000 && blind > 300, "{row}");
    assert_eq!(captured, desk.value(&ring, "SELECT sum(packets) FROM segments").as_i64().expect("a number"));
    let strict = desk.sharkq().arg("coverage").arg(&ring).arg("--strict").output().expect("it starts");
    assert_eq!(strict.status.code(), Some(4));
    let strict = desk.sharkq().arg("coverage").arg(&ring).args(["--strict", "--since", "1m"]).output();
    assert_eq!(strict.expect("it starts").status.code(), Some(0));
}

#[test]
fn plaintext_that_nobody_asked_for_is_missed_by_questions_about_it() {
    let desk = Desk::new();
    let ring = rotated(&desk);
    plaintext_is_never_targeted(&desk, &ring, ["--since", "03:09:30"], "replayed from a file");
    // It says so of all of its packets, whenever they are from.
    let row = desk.rows(&ring, "SELECT state, from_ts, to_ts, captured, dropped FROM tls_coverage");
    assert_eq!(row.len(), 1, "{row:?}");
    let fields = row[0].as_object().expect("a row");
    assert_eq!(fields["state"], "not_targeted");
    assert!(fields.iter().all(|(name, value)| name == "state" || value.is_null()), "{row:?}");
}

/// Packets of the last ten seconds are there, and others of them are not.
#[test]
fn what_is_gone_from_within_the_steps_of_the_counters_is_told() {
    let desk = Desk::new();
    let ring = rotated(&desk);
    let footer = |exit_code: i32| {
        let mut ask = desk.sharkq();
        ask.args(["coverage", "--strict", "--since", "5s"]).arg(&ring);
        let output = ask.output().expect("it starts");
        assert_eq!(output.status.code(), Some(exit_code), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let node = desk.value(&ring, "SELECT min(node) FROM segments");
    let ns = (START + Duration::from_secs(598)).as_nanos() as i64;
    let gone = |number: i64, segment: &str| {
        let evicted = Evicted {
            segment: segment.into(),
            worker: 0,
            seq: 900,
            packets: 7,
            bytes_stored: 0,
            min_ns: Some(ns),
            max_ns: Some(ns + 1),
            interfaces: vec!["eth0".into()],
            sidecar_sha256: None,
            why: "somebody removed its file".into(),
        };
        let record = facts::fact(ns + number, Fact::Evicted(evicted));
        facts::write_as(&ring.join("log"), [node.as_str().expect("a name"), "", "recorder"], &[record]);
    };
    // One that is there was not given up by whom it was taken from.
    let last = desk.value(&ring, "SELECT max(segment_id) FROM segments");
    gone(1, last.as_str().expect("a name"));
    assert!(!footer(0).contains("rotated out"));
    gone(2, "00-00000900-1767323398000000000.pcapng.zst");
    let told =
        "rotated out 2026-01-02 03:09:58 UTC to 2026-01-02 03:09:58.000 UTC (somebody removed its file)";
    let lines = footer(4);
    assert!(lines.contains(told), "{lines}");
}

/// Of a recording without it, of which a part is asked about.
pub fn plaintext_is_never_targeted(desk: &Desk, source: &Path, time: [&str; 2], why: &str) {
    let footer = |arguments: &[&str]| {
        let mut ask = desk.sharkq();
        ask.arg(arguments[0]).arg(source).args(&arguments[1..]);
        let output = finished(ask.args(time).arg("--strict"));
        String::from_utf8(output.stderr).expect("text")
    };
    let never = format!(", plaintext of TLS: never targeted: {why}\n");
    let about_it = [
        "SELECT path FROM http WHERE tls",
        "SELECT path FROM http_all WHERE status_code = 200 AND tls = true ORDER BY ts",
        "SELECT count(*) FROM api_calls WHERE coalesce(tls, false)",
        "SELECT count(*) FILTER (WHERE tls) FROM http",
        "SELECT tls, count(*) FROM http GROUP BY tls",
    ];
    for sql in about_it {
        let footer = footer(&["sql", "-c", sql]);
        assert!(footer.starts_with("coverage: complete, 20"), "{sql}: {footer}");
        assert_eq!(footer.matches(&never).count(), 1, "{sql}: {footer}");
    }
    assert!(footer(&["kfl", "http && tls"]).ends_with(&never));
    let about_others = [
        "SELECT * FROM http",
        "SELECT path FROM http WHERE NOT tls",
        "SELECT path FROM http WHERE path = '/tls'",
        "SELECT tls FROM http WHERE status_code = 200",
        "SELECT * FROM sockets",
        "SELECT count(*) FROM flows",
    ];
    for sql in about_others {
        let footer = footer(&["sql", "-c", sql]);
        assert!(
            footer.starts_with("coverage: complete, 20") && !footer.contains("plaintext"),
            "{sql}: {footer}"
        );
    }
    for text in ["http && !tls", "http && status_code == 500", "flow"] {
        let footer = footer(&["kfl", text]);
        assert!(
            footer.starts_with("coverage: complete, 20") && !footer.contains("plaintext"),
            "{text}: {footer}"
        );
    }
    let all = printed(desk.sharkq().arg("coverage").arg(source));
    assert_eq!(all.matches(&never).count(), 1, "{all}");
}

#[test]
fn interfaces_never_recorded_are_named() {
    let desk = Desk::new();
    let snapshot = snapshot(&desk);
    let lines = printed(desk.sharkq().arg("coverage").arg(&snapshot));
    assert!(lines.starts_with("coverage: complete, 20"), "{lines}");
    assert!(!lines.contains("lost, never targeted"), "a replay leaves out no packets: {lines}");
}
