//! `sharkq verify`: what was altered, is missing or was added is named, with the exit code for it; what is whole is ok.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bundled::snapshot;
use crate::desk::Desk;

#[test]
fn every_kind_of_tampering_is_named() {
    let desk = Desk::new();
    let whole = snapshot(&desk);
    assert_eq!(verdict(&desk, &whole), (0, vec![]));
    assert_eq!(verdict(&desk, &desk.at("ring")), (0, vec![]));
    let object = |ending: &str| {
        let mut found = below(&whole).into_iter().filter(|path| path.ends_with(ending));
        found.next().unwrap_or_else(|| panic!("nothing ends in {ending}"))
    };
    let (segment, sidecar) = (object(".pcapng.zst"), object(".pcapng.zst.json"));
    let (node, facts) = (object("/manifest.json"), object(".facts.ndjson.zst"));
    let node_folder = node.trim_end_matches("manifest.json");
    let added = format!("{node_folder}segments/extra.bin");
    let flip_of = |path: &str| flip(&desk, &whole, path);
    assert_eq!(flip_of(&segment), (5, vec![("altered".into(), segment.clone())]));
    assert_eq!(flip_of(&sidecar), (5, vec![("altered".into(), sidecar.clone())]));
    assert_eq!(flip_of(&facts), (5, vec![("altered".into(), facts.clone())]));
    let (code, problems) = flip_of(&node);
    assert!(code == 5 && problems.contains(&("altered".into(), node.clone())), "{problems:?}");
    for lost in [&segment, &sidecar, &facts] {
        let seen = tampered(&desk, &whole, |copy| fs::remove_file(copy.join(lost)).unwrap());
        assert_eq!(seen, (5, vec![("missing".into(), lost.to_string())]));
    }
    let seen = tampered(&desk, &whole, |copy| fs::write(copy.join(&added), "more").unwrap());
    assert_eq!(seen, (5, vec![("added".into(), added)]));
    let (code, problems) =
        tampered(&desk, &whole, |copy| fs::remove_file(copy.join("manifest.json")).unwrap());
    assert!(code == 5 && problems.contains(&("missing".into(), "manifest.json".into())), "{problems:?}");
}

/// A byte in the middle of a number of the top manifest: whatever it makes of the sums, it must not pass.
#[test]
fn a_changed_count_in_the_top_manifest_does_not_pass() {
    let desk = Desk::new();
    let whole = snapshot(&desk);
    let seen = tampered(&desk, &whole, |copy| {
        let path = copy.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let sha256 = manifest["nodes"][0]["sha256"].as_str().unwrap().replace(['0', '1'], "2");
        manifest["nodes"][0]["sha256"] = sha256.into();
        fs::write(&path, manifest.to_string()).unwrap();
    });
    assert_eq!(seen.0, 5, "{seen:?}");
    assert!(
        seen.1.iter().any(|(kind, object)| kind == "altered" && object.starts_with("nodes/")),
        "{seen:?}"
    );
}

/// Of what the top manifest says about a node each number is compared with the manifest of the node, and that with the sidecars.
#[test]
fn every_number_that_is_said_twice_is_compared() {
    let desk = Desk::new();
    let whole = snapshot(&desk);
    let changed = |change: &dyn Fn(&mut Value)| {
        tampered(&desk, &whole, |copy| {
            let path = copy.join("manifest.json");
            let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut manifest["nodes"][0]);
            fs::write(&path, manifest.to_string()).unwrap();
        })
    };
    let altered = (5, vec![("altered".to_owned(), "manifest.json".to_owned())]);
    for number in ["packets", "segments", "bytes_stored"] {
        assert_eq!(changed(&|node| node[number] = 7.into()), altered, "{number}");
    }
    assert_eq!(changed(&|node| node["loss"]["kernel_dropped"] = 7.into()), altered);
    assert_eq!(changed(&|node| node["wanted"]["from_ns"] = 7.into()), altered);
    assert_eq!(changed(&|node| node["real"]["to_ns"] = 7.into()), altered);
    // The manifest of the node as well, with its hash in the top manifest as it should be.
    let seen = tampered(&desk, &whole, |copy| {
        let node = below(copy).into_iter().find(|path| path.ends_with("/manifest.json")).unwrap();
        let mut manifest: Value = serde_json::from_slice(&fs::read(copy.join(&node)).unwrap()).unwrap();
        manifest["packets"] = 7.into();
        let bytes = manifest.to_string();
        fs::write(copy.join(&node), &bytes).unwrap();
        let top = copy.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&top).unwrap()).unwrap();
        let entry = &mut manifest["nodes"][0];
        (entry["packets"], entry["size"]) = (7.into(), bytes.len().into());
        entry["sha256"] = sha256(bytes.as_bytes()).into();
        fs::write(&top, manifest.to_string()).unwrap();
    });
    assert_eq!(seen.0, 5);
    assert!(seen.1.iter().any(|(kind, of)| kind == "altered" && of.ends_with("/manifest.json")), "{seen:?}");
}

/// Who rewrites everything is found out by the hash that `sharkrec snapshot` printed.
#[test]
fn the_hash_of_the_top_manifest_tells_what_nothing_else_can() {
    let desk = Desk::new();
    let whole = snapshot(&desk);
    let ask = |source: &Path, sha256: &str| {
        let output = desk.sharkq().arg("verify").arg(source).args(["--sha256", sha256]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (_, text) = ask(&whole, "00");
    let (_, sha256) = text.rsplit_once("manifest.json has SHA-256 ").expect("it is printed");
    assert_eq!(ask(&whole, sha256.trim()).0, 0);
    let copy = desk.at("copy");
    for (field, value) in [("requester", "somebody@else"), ("reason", "nothing happened")] {
        let seen = tampered(&desk, &whole, |copy| {
            let path = copy.join("manifest.json");
            let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            manifest[field] = value.into();
            fs::write(&path, serde_json::to_string_pretty(&manifest).unwrap()).unwrap();
        });
        assert_eq!(seen.0, 0, "it agrees with itself: {seen:?}");
        let (code, text) = ask(&copy, sha256.trim());
        assert!(code == 5 && text.contains("expected was"), "{field}: {text}");
    }
}

#[test]
fn a_hole_in_the_numbers_is_a_problem_unless_something_says_why() {
    let desk = Desk::new();
    let ring = crate::footer::rotated(&desk);
    assert_eq!(verdict(&desk, &ring), (0, vec![]), "what was evicted is told in the log");
    let segments = below(&ring.join("segments"));
    let inner = segments.iter().filter(|name| name.ends_with(".pcapng")).nth(4).expect("five segments");
    fs::remove_file(ring.join("segments").join(inner)).unwrap();
    fs::remove_file(ring.join("segments").join(format!("{inner}.json"))).unwrap();
    let (code, problems) = verdict(&desk, &ring);
    assert!(
        code == 5 && problems.iter().all(|(kind, _)| kind == "missing") && problems.len() == 1,
        "{problems:?}"
    );
    // Coverage says the same.
    let lines = String::from_utf8(desk.sharkq().arg("coverage").arg(&ring).output().unwrap().stdout).unwrap();
    assert!(lines.contains("gap 2026-01-02 03:0") && lines.contains("is missing)"), "{lines}");
}

/// Numbers at the ends of what a number can be, in names, sidecars and the log.
#[test]
fn forged_numbers_end_in_an_answer() {
    let desk = Desk::new();
    let ring = crate::footer::rotated(&desk);
    let segments = ring.join("segments");
    let name = below(&segments).into_iter().find(|name| name.ends_with(".pcapng")).unwrap();
    let path = segments.join(format!("{name}.json"));
    let mut sidecar: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (sidecar["min_ns"], sidecar["max_ns"]) = (i64::MIN.into(), i64::MAX.into());
    sidecar["buckets"][0]["start_ns"] = i64::MAX.into();
    fs::write(&path, sidecar.to_string()).unwrap();
    let far = format!("00-{}-1.pcapng", u64::MAX);
    fs::copy(segments.join(&name), segments.join(&far)).unwrap();
    let evicted = |seq: u64| {
        let fact = shark_schema::identity::Evicted {
            segment: format!("00-{seq:08}-1.pcapng"),
            worker: 0,
            seq,
            packets: u64::MAX,
            bytes_stored: 0,
            min_ns: Some(i64::MAX),
            max_ns: Some(i64::MIN),
            interfaces: Vec::new(),
            sidecar_sha256: None,
            why: String::new(),
        };
        crate::identity_facts::fact(i64::MAX, shark_schema::identity::Fact::Evicted(fact))
    };
    let node = sidecar["node"].as_str().unwrap();
    let facts = [evicted(u64::MAX), evicted(u64::MAX - 1), evicted(0)];
    crate::identity_facts::write_as(&ring.join("log"), [node, "", "recorder"], &facts);
    for arguments in [&["coverage"][..], &["verify"], &["info"]] {
        let output = desk.sharkq().args(arguments).arg(&ring).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 1 | 5)) && !error.contains("panicked"),
            "{arguments:?}: {code:?} {error}"
        );
    }
    let strict = desk.sharkq().args(["coverage", "--strict"]).arg(&ring).output().unwrap();
    assert_eq!(strict.status.code(), Some(4), "{}", String::from_utf8_lossy(&strict.stderr));
}

#[test]
fn links_and_pipes_are_strangers_and_a_damaged_log_is_found() {
    let desk = Desk::new();
    snapshot(&desk);
    let ring = desk.at("ring");
    std::os::unix::fs::symlink("/etc/passwd", ring.join("segments/link.pcapng")).unwrap();
    assert_eq!(verdict(&desk, &ring), (5, vec![("added".into(), "segments/link.pcapng".into())]));
    fs::remove_file(ring.join("segments/link.pcapng")).unwrap();
    let log = below(&ring).into_iter().find(|path| path.ends_with(".facts.ndjson.zst")).unwrap();
    flip_byte(&ring.join(&log));
    assert_eq!(verdict(&desk, &ring), (5, vec![("altered".into(), log)]));
}

#[test]
fn a_ring_is_checked_as_a_snapshot_is() {
    let desk = Desk::new();
    snapshot(&desk);
    let ring = desk.at("ring");
    let segment = below(&ring).into_iter().find(|path| path.ends_with(".pcapng.zst")).unwrap();
    flip_byte(&ring.join(&segment));
    assert_eq!(verdict(&desk, &ring), (5, vec![("altered".into(), segment.clone())]));
    // Whoever asks without verifying is warned all the same: the frame carries its checksum.
    let mut question = desk.sharkq();
    question.args(["sql", "-q"]).arg(&ring).args(["-c", "SELECT count(*) FROM flows"]);
    let asked = question.output().expect("it starts");
    let error = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.code() == Some(1) && error.contains("is damaged at byte"), "{error}");
    // A segment by itself is checked against its sidecar.
    let (code, problems) = verdict(&desk, &ring.join(&segment));
    assert!(code == 5 && problems[0].0 == "altered", "{problems:?}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes one byte of one file of a copy, checks the copy.
fn flip(desk: &Desk, whole: &Path, path: &str) -> (i32, Vec<(String, String)>) {
    tampered(desk, whole, |copy| flip_byte(&copy.join(path)))
}

fn flip_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn tampered(desk: &Desk, whole: &Path, tamper: impl Fn(&Path)) -> (i32, Vec<(String, String)>) {
    let copy = desk.at("copy");
    let _ = fs::remove_dir_all(&copy);
    for path in below(whole) {
        fs::create_dir_all(copy.join(&path).parent().unwrap()).unwrap();
        fs::copy(whole.join(&path), copy.join(&path)).unwrap();
    }
    tamper(&copy);
    verdict(desk, &copy)
}

/// Exit code, and what is wrong with which object.
fn verdict(desk: &Desk, source: &Path) -> (i32, Vec<(String, String)>) {
    let mut verify = desk.sharkq();
    let output = verify.args(["verify", "--format", "json"]).arg(source).output().unwrap();
    let reports: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let problems = reports[0]["problems"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let named = problems.iter().map(|problem| (text(&problem["kind"]), text(&problem["object"])));
    (output.status.code().unwrap(), named.collect())
}

/// Paths of all files below a folder, from it.
fn below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner)).unwrap() {
            let (entry, path) = entry.map(|e| (e.file_type().unwrap(), inner.join(e.file_name()))).unwrap();
            if entry.is_dir() {
                folders.push(path);
            } else if entry.is_file() {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}
