//! What is answered of a recording that was not indexed: what is in it and whether it is complete, from sidecars and names. The same as
//! the index of all of it says, or what cannot be known is said.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bundled;
use crate::desk::Desk;
use crate::programs::printed;

/// What `info` and `coverage` say, each as JSON.
fn said(desk: &Desk, source: &Path) -> [Value; 2] {
    [&["info", "--format", "json"][..], &["coverage", "--format", "json"]].map(|words| {
        let text = printed(desk.sharkq().args(words).arg(source));
        serde_json::from_str(&text).expect("JSON")
    })
}

#[test]
fn what_is_in_a_recording_is_known_without_an_index_and_is_what_the_index_says() {
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    for source in [desk.at("ring"), snapshot] {
        let [mut info, mut coverage] = said(&desk, &source);
        assert_eq!(printed(desk.sharkq().args(["cache", "ls"])), "", "nothing was indexed");
        assert_eq!((&info["protocols"], &info["not_ip_packets"]), (&Value::Null, &Value::Null));
        let unread = info["segments_not_read"].as_u64().expect("a number");
        assert!(unread > 0 && coverage[0]["segments_not_read"] == unread, "{coverage}");
        let text = printed(desk.sharkq().arg("info").arg(&source));
        assert!(text.contains("Protocols:     not known yet") && text.contains("Not read:      "), "{text}");
        let text = printed(desk.sharkq().arg("coverage").arg(&source));
        assert!(text.starts_with("coverage: complete, ") && text.contains("not read (--strict"), "{text}");
        let text = printed(desk.sharkq().args(["coverage", "--strict"]).arg(&source));
        assert!(text.starts_with("coverage: complete, ") && !text.contains("not read"), "{text}");
        printed(desk.sharkq().args(["info", "--protocols"]).arg(&source));
        let [indexed, whole] = said(&desk, &source);
        assert!(indexed["protocols"].as_array().is_some_and(|rows| rows.len() > 2), "{indexed}");
        for name in [
            "protocols",
            "rows",
            "not_ip_packets",
            "undecodable_packets",
            "fragments",
            "incomplete_datagrams",
        ] {
            info[name] = indexed[name].clone();
        }
        info["segments_not_read"] = 0.into();
        coverage[0]["segments_not_read"] = 0.into();
        assert_eq!((info, coverage), (indexed, whole));
        printed(desk.sharkq().args(["cache", "clear"]));
    }
}

/// What `coverage` says of a damaged recording, and its exit code with and without --strict.
fn judged(desk: &Desk, source: &Path) -> [(Option<i32>, String); 2] {
    [&["coverage"][..], &["coverage", "--strict"]].map(|words| {
        let output = desk.sharkq().args(words).arg(source).output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    })
}

#[test]
fn damage_is_a_blind_stretch_without_an_index_as_well() {
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    for (source, of) in [(desk.at("ring"), "ring"), (snapshot, "snapshot")] {
        let segment = find(&source, ".pcapng.zst");
        let sidecar = PathBuf::from(format!("{}.json", segment.display()));
        let (bytes, told) =
            (fs::read(&segment).expect("it is there"), fs::read(&sidecar).expect("it is there"));
        let restore = || {
            fs::remove_file(&segment).expect("it is there");
            fs::write(&segment, &bytes).expect("it is written");
            let _ = fs::remove_file(&sidecar);
            fs::write(&sidecar, &told).expect("it is written");
        };
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            restore();
            let mut bytes = bytes.clone();
            change(&mut bytes);
            fs::write(&segment, bytes).expect("it is written");
            judged(&desk, &source)
        };
        let incomplete = |what: &str, said: &[(Option<i32>, String); 2]| {
            for (code, text) in said {
                assert!(
                    text.starts_with("coverage: INCOMPLETE, ") && text.contains("gap "),
                    "{of}, {what}: {text}"
                );
                assert!(!text.contains("not read"), "{of}, {what}: {text}");
                assert!(matches!(code, Some(0 | 1 | 4)), "{of}, {what}: {code:?}");
            }
            assert_ne!(said[1].0, Some(0), "{of}, {what}");
        };
        incomplete("cut", &changed(&|bytes| bytes.truncate(bytes.len() / 2)));
        incomplete("longer", &changed(&|bytes| bytes.extend([0; 100])));
        incomplete("its head is gone", &changed(&|bytes| bytes[..64].fill(0)));
        // A byte in its middle is found by who reads it; nobody else calls it read.
        let middle = changed(&|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        assert!(
            middle[0].1.starts_with("coverage: complete, ") && middle[0].1.contains("not read (--strict"),
            "{}",
            middle[0].1
        );
        let (code, text) = &middle[1];
        assert!(
            *code == Some(1) && text.starts_with("coverage: INCOMPLETE, ") && text.contains("gap "),
            "{text}"
        );
        restore();
        fs::remove_file(&sidecar).expect("it is there");
        incomplete("no sidecar", &judged(&desk, &source));
        restore();
        assert!(
            judged(&desk, &source)
                .iter()
                .all(|(code, text)| *code == Some(0) && text.starts_with("coverage: complete"))
        );
        // A sidecar that counts fewer packets: the chain is what a ring has, its manifest what a snapshot has.
        if of == "snapshot" {
            let mut sidecar_of: Value = serde_json::from_slice(&told).expect("JSON");
            sidecar_of["losses"] = Value::Array(vec![]);
            sidecar_of["node"] = "another".into();
            fs::remove_file(&sidecar).expect("it is there");
            fs::write(&sidecar, serde_json::to_vec_pretty(&sidecar_of).expect("JSON"))
                .expect("it is written");
            incomplete("another sidecar", &judged(&desk, &source));
        }
    }
}

/// The first file below a folder whose name ends so.
fn find(folder: &Path, ending: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false
                    if path.to_string_lossy().ends_with(ending)
                        && !path.to_string_lossy().contains(".facts.") =>
                {
                    return path;
                }
                false => {}
            }
        }
    }
    panic!("nothing below {} ends in {ending}", folder.display());
}
