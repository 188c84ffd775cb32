//! What the doctor says where everything works, where rights are missing, and of stores that do and do not let it in.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

use crate::net::Net;
use crate::process::{PROGRAM, WITHOUT_BPF};

#[test]
fn everything_works_here() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = ask(&net, &[], &["--ring", dir.path().to_str().unwrap()]);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = said.keys().map(String::as_str).collect();
    let all = "any_socket capture cgroups clock disk filter processes sockets tls workers";
    assert_eq!(names.join(" "), all);
    assert!(said.values().all(|result| result == "ok"), "{said:?}");
}

#[test]
fn what_is_refused_is_said_and_the_rest_is_ok() {
    let Some(net) = Net::new() else { return };
    let (code, said) = ask(&net, &WITHOUT_BPF, &[]);
    assert_eq!(code, Some(0), "packets are recorded all the same");
    for (feature, result) in &said {
        let needs_bpf = ["any_socket", "cgroups", "processes", "sockets", "tls"].contains(&feature.as_str());
        assert_eq!(result == "ok", !needs_bpf, "{feature}: {result}");
        assert!(!needs_bpf || result.contains("permi") || result.contains("CAP_"), "{feature}: {result}");
    }
    assert!(said["tls"].contains("CAP_SYS_ADMIN"), "{said:?}");
    let launcher = ["setpriv", "--bounding-set=-net_raw,-sys_admin,-bpf,-perfmon"];
    let (code, said) = ask(&net, &launcher, &[]);
    assert_eq!(code, Some(1), "without packets there is no recording");
    assert!(said["capture"].contains("CAP_NET_RAW"), "{said:?}");
}

#[test]
fn plaintext_is_tried_with_what_is_there() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = format!("PATH={}", dir.path().display());
    let tls = || ask(&net, &["env", &path], &[]).1["tls"].clone();
    let nothing = tls();
    assert!(nothing.starts_with("functions of programs can be watched, but nothing here"), "{nothing}");
    symlink("/bin/true", dir.path().join("openssl")).unwrap();
    let silent = tls();
    assert!(silent.ends_with("nothing was heard: openssl: its server does not listen"), "{silent}");
    // A program of that name that does not help takes nothing from the other.
    symlink("/usr/bin/python3", dir.path().join("python3")).unwrap();
    assert_eq!(tls(), "ok");
}

#[test]
fn a_store_is_tried() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("snapshots");
    let (_, said) = ask(&net, &[], &["--to", folder.to_str().unwrap()]);
    assert_eq!(said[&format!("store {}", folder.display())], "ok");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
    let (_, said) = ask(&net, &[], &["--to", "/proc/nothing"]);
    assert!(said["store /proc/nothing"].contains("/proc/nothing"), "{said:?}");
}

/// Each feature with what was said of it.
fn ask(net: &Net, launcher: &[&str], more: &[&str]) -> (Option<i32>, BTreeMap<String, String>) {
    let out = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", net.receiver))
        .args(launcher)
        .args([PROGRAM, "doctor", "--json"])
        .args(more)
        .env_remove("SHARKREC_TO")
        .output()
        .unwrap();
    let lines = String::from_utf8(out.stdout).unwrap();
    let said = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        (text("feature"), text("result"))
    });
    (out.status.code(), said.collect())
}
