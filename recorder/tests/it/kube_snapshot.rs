//! Snapshots fetch the log of the cluster's witness, by HTTP or from its directory, or say why they go without.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use shark_fixtures::kube::Server;
use shark_schema::manifest::{Manifest, ObjectKind};

use crate::kube::{recorder, story, until};
use crate::kube_witness::{ADDRESS, Witness, on, within};
use crate::net::Net;
use crate::reading::{disk_bytes, facts};
use crate::snapshot::{folder, verify};

#[test]
fn a_snapshot_has_the_witness_s_log_or_says_why_not() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    server.pod("a", "n1", &Value::Null);
    let kubeconfig = server.kubeconfig("admintoken");
    let (ring, witnessed, to) = (dir.path().join("ring"), dir.path().join("witness"), dir.path().join("to"));
    let recorder = recorder(&net, &ring, &kubeconfig);
    let witness = Witness::start(&net, &witnessed, &kubeconfig);
    on(&witnessed.join("log"), "pods");
    net.send(0, 10, 100, 0).join().unwrap();
    let take = |more: &[&str]| -> (Manifest, std::path::PathBuf, String) {
        let mut command = within(&net);
        command.args(["snapshot", "--since", "5m", "--ring"]).arg(&ring).arg("--to").arg(&to).args(more);
        let Output { status, stdout, stderr } = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert!(status.success(), "{said}");
        let at = folder(&String::from_utf8(stdout).unwrap());
        verify(&at);
        (Manifest::from_bytes(&fs::read(at.join("manifest.json")).unwrap()).unwrap(), at, said)
    };
    let url = format!("http://{ADDRESS}");
    for place in [url.as_str(), witnessed.to_str().unwrap()] {
        server.running("a", &format!("10.244.1.{}", place.len()));
        let address = format!("a Running 10.244.1.{}", place.len());
        until(&witnessed.join("log"), "told", |record| {
            story(std::slice::from_ref(record)) == [address.as_str()]
        });
        let (manifest, at, said) = take(&["--witness", place]);
        assert!(said.contains("--cluster: the witness says 'test', this recorder ''"), "{said}");
        assert!(manifest.missing.is_empty(), "{:?}", manifest.missing);
        assert!(!manifest.cluster_log.is_empty());
        assert!(
            manifest
                .cluster_log
                .iter()
                .all(|of| of.kind == ObjectKind::Log && of.path.starts_with("cluster/log/"))
        );
        assert_eq!(story(&facts(&at.join("cluster/log"))).last(), Some(&address));
    }
    let answers = |more: &[&str], path: &str, code: &str| {
        let mut curl = Command::new("nsenter");
        curl.arg(format!("--net=/run/netns/{}", net.receiver));
        let out = curl
            .args(["curl", "-s", "--path-as-is", "-w", "%{http_code}", "-o", "/dev/null"])
            .args(more)
            .arg(format!("{url}{path}"))
            .output();
        assert_eq!(String::from_utf8(out.unwrap().stdout).unwrap(), code, "{path}");
    };
    let long = format!("X: {}", "x".repeat(20_000));
    answers(&[], "/healthz", "200");
    answers(&[], "/status", "200");
    answers(&[], "/log/../ring.json", "404");
    answers(&[], "/log/..%2fring.json", "404");
    answers(&["-X", "POST"], "/log", "405");
    answers(&["-X", "DELETE"], "/log", "405");
    answers(&["-H", &long], "/healthz", "400");
    witness.stop();
    let before = disk_bytes(&ring.join("pins"));
    for (more, why) in [
        (&["--witness", url.as_str()][..], "http://127.0.0.1:7778: no connection: Connection refused"),
        (&["--witness", "/nowhere"], "/nowhere: No such file or directory"),
        (&["--witness", "https://x"], "--witness: 'https://x' is neither http://HOST:PORT nor a directory"),
        (&[], "its place was not given (--witness or SHARKREC_WITNESS)"),
    ] {
        let (manifest, _, said) = take(more);
        let [missing] = &manifest.missing[..] else { panic!("{:?}", manifest.missing) };
        assert_eq!(missing.what, "log of the cluster's witness");
        assert!(missing.why.starts_with(why), "{}", missing.why);
        assert!(said.contains(&missing.why), "{said}");
        assert!(manifest.cluster_log.is_empty());
    }
    // A dead witness's directory is as good; and a dead recorder knew of a cluster too.
    recorder.stop();
    let (manifest, _, _) = take(&["--witness", witnessed.to_str().unwrap()]);
    assert!(manifest.missing.is_empty() && !manifest.cluster_log.is_empty());
    assert_eq!(take(&[]).0.missing.len(), 1);
    assert_eq!(disk_bytes(&ring.join("pins")), before);
}
