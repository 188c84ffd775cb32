//! Names that others gave — to interfaces, nodes, snapshots, files — reach a terminal with their control
//! characters and invisible format characters spelled out. JSON keeps them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use shark_schema::segment::Sidecar;

use crate::net::{Net, ip, run};
use crate::process::{PROGRAM, Recorder, sharkrec, sharkrec_ok, status_with};
use crate::reading::{names, sidecars};

/// An escape sequence, C1, a bidirectional override and DEL, in the 15 bytes that a name may have.
const EVIL: &str = "e\x1b[31m\u{9b}\u{202e}\x7fz";
/// As it is spelled.
const SPELLED: &str = "e\\x1b[31m\\u{9b}\\u{202e}\\x7fz";

/// Fails where a byte stands that steers a terminal, or a character that is not seen. Lines end in line
/// feeds.
fn is_plain(what: &str, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        let is_control = (*byte < 0x20 && *byte != b'\n') || *byte == 0x7f;
        assert!(!is_control, "{what}: byte {byte:#04x} at {at} of {:?}", String::from_utf8_lossy(bytes));
    }
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    for character in text.chars() {
        let is_hidden = matches!(character, '\u{80}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}');
        assert!(!is_hidden, "{what}: {character:?} in {text:?}");
    }
}

/// What a run prints, on both its outputs.
fn plain(arguments: &[&str]) -> (String, String) {
    let output = sharkrec(arguments);
    is_plain(arguments[0], &output.stdout);
    is_plain(arguments[0], &output.stderr);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is plain");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn names_of_interfaces_nodes_files_and_snapshots_are_spelled_out() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let ring_text = ring.to_str().unwrap();
    let (a, b) = (&net.sender, &net.receiver);
    ip(&format!("link add x0 netns {a} type veth peer name x1 netns {b}"));
    run("ip", &["-n", b, "link", "set", "x1", "name", EVIL]);
    run("ip", &["-n", b, "link", "set", EVIL, "up"]);
    ip(&format!("-n {a} link set x0 up"));
    let node = format!("n\n{EVIL}");
    let recorder =
        Recorder::start_as(&net, &ring, &[PROGRAM], &["--iface", "v1", "--iface", "e*", "--node", &node]);
    net.send(0, 100, 100, 0).join().unwrap();
    thread::sleep(Duration::from_millis(300));

    let status = status_with(0, &ring, &[]);
    is_plain("status", status.as_bytes());
    assert!(status.contains(&format!("node      n\\n{SPELLED}\n")), "{status}");
    assert!(status.lines().any(|line| line.starts_with(&format!("{SPELLED} "))), "{status}");
    let json = status_with(0, &ring, &["--format", "json"]);
    is_plain("status --format json", json.as_bytes());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["node"], node, "JSON stays exact");
    assert!(json["interfaces"].as_array().unwrap().iter().any(|of| of["name"] == EVIL));

    // A snapshot that cannot be completed stays, with its name and its target.
    let to = dir.path().join(format!("to{EVIL}"));
    let to_text = to.to_str().unwrap();
    let named = ["--name", EVIL, "--reason", EVIL];
    let take = [&["snapshot", "--ring", ring_text, "--since", "1m", "--to", to_text][..], &named].concat();
    let (url, error) = plain(&take);
    assert!(url.starts_with("file://") && url.contains("%1B[31m"), "{url} {error}");
    let nobody = dir.path().join(format!("nobody\n{EVIL}"));
    fs::write(&nobody, "a file, and no folder").unwrap();
    let (_, error) =
        plain(&["snapshot", "--ring", ring_text, "--since", "1m", "--to", nobody.to_str().unwrap()]);
    assert!(error.contains(SPELLED), "{error}");
    interrupted(&ring, &nobody);
    let status = status_with(0, &ring, &[]);
    is_plain("status of an interrupted snapshot", status.as_bytes());
    assert!(status.contains("was interrupted") && status.contains(SPELLED), "{status}");

    // An interface that comes, gets another name and goes, as the recorder tells of it.
    ip(&format!("link add y0 netns {a} type veth peer name e2 netns {b}"));
    thread::sleep(Duration::from_millis(700));
    run("ip", &["-n", b, "link", "set", "e2", "name", "e\u{202e}\x1b]0;t"]);
    thread::sleep(Duration::from_millis(700));
    ip(&format!("-n {a} link del y0"));
    thread::sleep(Duration::from_millis(700));
    let (said, _) = recorder.stop();
    is_plain("record", said.as_bytes());
    assert!(said.contains("the device is now called e\\u{202e}\\x1b]0;t"), "{said}");

    let segments = ring.join("segments");
    assert!(sidecars(&segments)[0].interfaces.iter().any(|of| of.name == EVIL), "the sidecar stays exact");
    forge(&segments);
    let (listed, _) = plain(&["segments", "--ring", ring_text]);
    assert!(listed.contains(&format!("\n{SPELLED}\\n")), "{listed}");
    let (json, _) = plain(&["segments", "--ring", ring_text, "--json"]);
    let of: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(of["segment"], format!("{EVIL}\n"), "JSON stays exact");

    // What lies beside the segments, and is none.
    for file in [EVIL, "00-00000099-1.pcapng\x1b[2J.zst"] {
        fs::write(segments.join(file), "").unwrap();
        fs::write(ring.join("log").join(file), "").unwrap();
    }
    plain(&["segments", "--ring", ring_text]);
    status_with(1, &ring, &[]);
    let recorder = Recorder::start(&net, &ring, &[]);
    let (said, _) = recorder.stop();
    is_plain("record on a strange ring", said.as_bytes());

    let arguments =
        [&format!("--net=/run/netns/{b}"), PROGRAM, "estimate", "--for", "100ms", "--iface", EVIL];
    let estimate = run("nsenter", &arguments);
    is_plain("estimate", estimate.as_bytes());
    assert!(estimate.starts_with(SPELLED), "{estimate}");
}

/// As a snapshot leaves it that died.
fn interrupted(ring: &Path, to: &Path) {
    let pins = ring.join("pins").join(format!("01{EVIL}"));
    fs::create_dir_all(&pins).unwrap();
    fs::write(pins.join("lock"), "").unwrap();
    let wanted = sharkrec::snapshot::Wanted {
        window: shark_schema::manifest::Window { from_ns: 0, to_ns: 1 },
        to: to.to_str().unwrap().to_owned(),
        witness: None,
        name: Some(format!("{EVIL}\n")),
        reason: None,
        requester: String::new(),
        allow_empty: false,
    };
    fs::write(pins.join("wanted.json"), serde_json::to_vec(&wanted).unwrap()).unwrap();
}

/// A sidecar is a file: whoever can write it can say anything in it.
fn forge(segments: &Path) {
    let path = segments.join(names(segments)[0].sidecar());
    let sidecar = Sidecar::from_bytes(&fs::read(&path).unwrap()).unwrap();
    fs::write(&path, Sidecar { segment: format!("{EVIL}\n"), ..sidecar }.to_bytes()).unwrap();
}

#[test]
fn plain_text_stays_as_it_is() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--node", "knoten-ü"]);
    assert!(status_with(0, &ring, &[]).starts_with("node      knoten-ü\n"));
    recorder.stop();
    assert!(sharkrec_ok(&["segments", "--ring", ring.to_str().unwrap()]).starts_with("segment "));
}
