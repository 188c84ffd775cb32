//! Bad input: one clear sentence and the right exit code, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use shark_schema::identity::{Fact, Feature, OffCause};

use crate::net::Net;
use crate::process::{PROGRAM, Recorder, sharkrec, sharkrec_fails};
use crate::reading::{facts, numbers, packets, totals};

#[test]
fn what_cannot_work_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("file"), "x").unwrap();
    fs::write(path("bad.toml"), "ring-siez = '1GiB'").unwrap();
    fs::create_dir(path("damaged")).unwrap();
    fs::write(path("damaged/ring.json"), "{").unwrap();
    let ring = path("ring");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["record", "--ring", &ring, "--iface", "nosuch0"], 1, "'nosuch0' does not exist"),
        (&["record", "--ring", &ring, "--iface", "a-name-that-is-too-long-for-linux"], 1, "does not exist"),
        (&["record", "--ring", &ring], 2, "--iface"),
        (&["record", "--iface", "lo"], 2, "--ring"),
        (&["record", "--ring", &ring, "--iface", "lo", "--ring-size", "ten"], 2, "--ring-size: 'ten'"),
        (&["record", "--ring", &ring, "--iface", "lo", "--ring-size", "1KiB"], 2, "at least 1MiB"),
        (&["record", "--ring", &ring, "--iface", "lo", "--compression", "lzma"], 2, "lzma"),
        (&["record", "--ring", &ring, "--iface", "lo", "--node", "../../etc"], 2, "part of a path"),
        (&["record", "--ring", &ring, "--iface", "lo", "--filter", "tcp prot 80"], 1, "at 'prot'"),
        (&["record", "--ring", &ring, "--iface", "lo", "--filter", "host nowhere"], 1, "not an address"),
        (&["record", "--ring", &ring, "--read", &path("nosuch.pcap")], 1, "nosuch.pcap"),
        (&["record", "--ring", &ring, "--iface", "lo", "--config", &path("bad.toml")], 1, "bad.toml"),
        (&["record", "--ring", &path("file/ring"), "--iface", "lo"], 1, "file"),
        (&["status", "--ring", &path("empty")], 1, "is not a ring"),
        (&["status", "--ring", &path("nosuch")], 1, "nosuch"),
        (&["segments", "--ring", &path("damaged")], 1, "ring.json"),
        (&["snapshot", "--ring", &path("empty"), "--since", "1m"], 1, "is not a ring"),
        (&["snapshot", "--ring", &ring, "--since", "yesterday"], 2, "'yesterday'"),
        (&["snapshot", "--ring", &ring, "--since", "1m", "--until", "2m"], 2, "ends before it starts"),
        (&["pcap", "--ring", &path("empty"), "-w", "-"], 1, "is not a ring"),
        (&["estimate", "--iface", "nosuch0"], 1, "'nosuch0' does not exist"),
        (&["estimate", "--iface", "lo", "--for", "soon"], 2, "'soon'"),
    ];
    for (arguments, code, sentence) in cases {
        let (got, error) = sharkrec_fails(arguments);
        assert!(got == *code && error.contains(sentence), "{arguments:?}: {got} {error}");
    }
    assert!(!Path::new(&ring).join("segments").exists());
    let unknown = sharkrec(&["record", "--nosuch"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(sharkrec(&["--help"]).status.success());
    assert!(sharkrec(&["completions", "bash"]).status.success());
}

#[test]
fn places_that_cannot_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    sharkrec::ring::Ring::create(&ring, "n", "").unwrap();
    let ring = ring.to_str().unwrap();
    // A port that was free a moment ago, and refuses.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    let output = Command::new(PROGRAM)
        .args(["snapshot", "--ring", ring, "--since", "1m", "--to", "s3://bucket/x"])
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "k")
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("s3://bucket/x") && error.contains("no connection"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    for (to, sentence) in [("ftp://x/y", "is not a place"), ("/proc/nowhere", "/proc/nowhere")] {
        let (code, error) = sharkrec_fails(&["snapshot", "--ring", ring, "--since", "1m", "--to", to]);
        assert!(code == 1 && error.contains(sentence), "{error}");
    }
}

#[test]
fn an_ordinary_user_is_told_what_is_missing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    let (dir, program) = program_for_anybody();
    let ring = dir.path().join("ring");
    let as_nobody = |arguments: &[&str]| {
        let output = Command::new("setpriv").args(NOBODY).arg(&program).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = as_nobody(&["record", "--ring", ring.to_str().unwrap(), "--iface", "lo"]);
    assert!(code == Some(1) && error.contains("not permitted") && error.contains("CAP_NET_RAW"), "{error}");
    sharkrec::ring::Ring::create(&ring, "n", "").unwrap();
    let (code, error) = as_nobody(&["status", "--ring", ring.to_str().unwrap()]);
    assert!(code == Some(1) && error.contains("ermission denied"), "{error}");
}

#[test]
fn an_ordinary_user_with_cap_net_raw_records_and_is_told_what_is_off() {
    let Some(net) = Net::new() else { return };
    let (dir, program) = program_for_anybody();
    let ring = dir.path().join("ring");
    let rights = ["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw"];
    let command = [&["setpriv"], &NOBODY[..], &rights, &[program.to_str().unwrap()]].concat();
    let recorder = Recorder::start_as(&net, &ring, &command, &["--iface", "v1"]);
    let sent = net.send(0, 10_000, 300, 10_000).join().unwrap();
    thread::sleep(Duration::from_millis(300));
    recorder.stop();
    let seen = numbers(&packets(&ring.join("segments")));
    assert_eq!((seen.len() as u64, sent), (10_000, 10_000));
    assert!(seen.values().all(|times| *times == 1));
    assert_eq!(totals(&ring.join("segments")).lost(), 0);
    let features = facts(&ring.join("log")).into_iter().filter_map(|record| match record.fact {
        // Nobody asked for it.
        Fact::Feature(Feature { cause: Some(OffCause::NotTargeted), .. }) => None,
        Fact::Feature(Feature { name, on, why, .. }) => {
            assert!(!on && why.contains("not permitted") && why.contains("CAP_BPF"), "{name}: {why}");
            Some(name)
        }
        _ => None,
    });
    let off: Vec<String> = features.collect();
    assert_eq!(off, ["any_socket", "own_uploads_excluded", "processes", "sockets"]);
}

const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// A copy of it, since the build directory may be closed to others, in a folder where anybody may make files.
fn program_for_anybody() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let program = dir.path().join("sharkrec");
    fs::copy(PROGRAM, &program).unwrap();
    (dir, program)
}

#[test]
fn two_recorders_do_not_share_a_ring() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    let (code, error) = sharkrec_fails(&["record", "--ring", ring.to_str().unwrap(), "--iface", "lo"]);
    assert!(code == 1 && error.contains("in use by another recorder"), "{error}");
    recorder.stop();
}
