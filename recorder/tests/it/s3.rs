//! A snapshot in a real S3 server, with strict signatures and conditional writes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use shark_schema::identity::{Fact, Feature};

use crate::net::Net;
use crate::nginx::Nginx;
use crate::process::{PROGRAM, Recorder};
use crate::reading::{facts, numbers, packets, totals};
use crate::snapshot::verify;

const KEY: &str = "AKTEST";
pub const SECRET: &str = "SKTEST";

#[test]
fn to_a_bucket_and_back() {
    let Some(server) = Server::start() else { return };
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--compression", "none"]);
    // More than one part, so that the upload is a multipart one.
    let sent = net.send(0, 15_000, 1_400, 0).join().unwrap();
    let witness = dir.path().join("witness");
    let (witnessed, _lock) = sharkrec::ring::Ring::create(&witness, "cluster_witness", "").unwrap();
    let log = sharkrec::log::Log::open(&witnessed, 1 << 20, "witness").unwrap();
    log.write(Fact::Feature(Feature {
        name: "kube_pods".into(),
        on: true,
        cause: None,
        why: "a test".into(),
    }));
    let with = ["--witness", witness.to_str().unwrap()];
    let output = server.snapshot(&ring, "s3://snaps/prod", SECRET, &with);
    let url = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(url.lines().count(), 1);
    let id = url.trim().strip_prefix("s3://snaps/prod/").expect("the URL below --to");
    let stored = server.root.join("snaps/prod").join(id);
    let lost = crate::reading::totals(&ring.join("segments")).lost();
    assert_eq!(numbers(&packets(&verify(&stored))).len() as u64 + lost, sent);
    assert_eq!(facts(&stored.join("cluster/log")).len(), 1);
    // Complete: neither again nor over it.
    let again = server.snapshot(&ring, "s3://snaps/prod", SECRET, &["--resume", id]);
    assert!(failed(&again, "complete already"));
    // Without its top manifest it is a torso, which is completed without sending everything again.
    std::fs::remove_file(stored.join("manifest.json")).unwrap();
    let resumed = server.snapshot(&ring, "s3://snaps/prod", SECRET, &["--resume", id, with[0], with[1]]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    verify(&stored);
    assert_eq!(facts(&stored.join("cluster/log")).len(), 1);
    recorder.stop();
}

#[test]
fn wrong_key_missing_right_and_wrong_bucket() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    sharkrec::ring::Ring::create(&ring, "n", "").unwrap();
    let directly = Some(server.port);
    let reading_only = Nginx::start(|port| may_only_read(port, server.port));
    for (port, to, key, secret, said) in [
        (directly, "s3://snaps/x", KEY, SECRET, "ok"),
        (directly, "s3://snaps/x", "AKNOBODY", SECRET, "the access key is not known there"),
        (directly, "s3://snaps/x", KEY, "WRONG", "the secret key is wrong"),
        (directly, "s3://nosuch/x", KEY, SECRET, "the bucket does not exist"),
        (reading_only.as_ref().map(|front| front.port), "s3://snaps/x", KEY, SECRET, "has not the right"),
    ] {
        let Some(port) = port else { continue };
        let sharkrec = |arguments: &[&str]| {
            let mut command = server.command("/proc/self/ns/net", secret);
            command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")).env("AWS_ACCESS_KEY_ID", key);
            command.args(arguments).output().unwrap()
        };
        // The doctor says the same, and leaves nothing behind where it is let in.
        let lines = String::from_utf8(sharkrec(&["doctor", "--to", to]).stdout).unwrap();
        let line = lines.lines().find(|line| line.starts_with(&format!("store {to}"))).unwrap();
        assert!(line.contains(said), "{line}");
        if said != "ok" {
            let (ring, start) = (ring.to_str().unwrap(), Instant::now());
            let output =
                sharkrec(&["snapshot", "--since", "1h", "--allow-empty", "--to", to, "--ring", ring]);
            assert!(failed(&output, said));
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        }
    }
    assert_eq!(crate::reading::disk_bytes(&server.root.join("snaps")), 0);
}

/// A server of nginx that lets reading through and answers the rest as S3 does where a policy does not allow it.
fn may_only_read(port: u16, behind: u16) -> String {
    let denied = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code>\
        <Message>Access Denied</Message><RequestId>656c76696e6727732072657175657374</RequestId></Error>";
    format!(
        "server {{ listen 127.0.0.1:{port}; location / {{
         if ($request_method !~ ^(GET|HEAD)$) {{ return 403 '{denied}'; }}
         default_type application/xml; proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1;
         proxy_set_header Host $http_host; }} }}"
    )
}

#[test]
fn an_upload_over_a_recorded_interface_is_not_recorded() {
    let Some(net) = Net::new() else { return };
    let Some(server) = upload_over_the_wire(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    server.uploads_unrecorded(&net, &ring);
    assert_eq!(feature(&ring, "own_uploads_excluded").map(|of| of.on), Some(true));
    assert_eq!(feature(&ring, "any_socket").map(|of| of.on), Some(true));
}

/// As kube-proxy does it: the client connects to the address of a service, and what is on the wire has that of a pod.
#[test]
fn an_upload_to_the_address_of_a_service_is_not_recorded() {
    let Some(net) = Net::new() else { return };
    if !Path::new("/usr/sbin/nft").exists() {
        println!("skipped: nft is not installed");
        return;
    }
    let Some(mut server) = upload_over_the_wire(&net) else { return };
    crate::net::ip(&format!("-n {} route add 10.96.0.0/16 via 10.99.0.1", net.receiver));
    let rules = "add table ip services; add chain ip services output { type nat hook output priority -100; };
        add rule ip services output ip daddr 10.96.0.10 dnat to 10.99.0.1";
    let nft = format!("--net=/run/netns/{}", net.receiver);
    crate::net::run("nsenter", &[&nft, "nft", rules]);
    server.host = "10.96.0.10";
    let dir = tempfile::tempdir().unwrap();
    server.uploads_unrecorded(&net, &dir.path().join("ring"));
}

#[test]
fn where_bpf_is_refused_an_upload_is_recorded_and_the_log_says_so() {
    let Some(net) = Net::new() else { return };
    let Some(server) = upload_over_the_wire(&net) else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let arguments = ["--iface", "v1", "--compression", "none"];
    let recorder = Recorder::start_without_bpf(&net, &ring, &arguments);
    let (uploaded, recorded) = server.upload(recorder, &net, &ring);
    assert!(recorded > (uploaded >> 16) as usize, "{recorded} packets of {uploaded} bytes");
    let off = feature(&ring, "own_uploads_excluded").expect("a fact");
    assert!(!off.on && off.why.contains("CAP_BPF"), "{off:?}");
}

/// A server at the other end of the recorded wire.
fn upload_over_the_wire(net: &Net) -> Option<Server> {
    crate::net::ip(&format!("-n {} addr add 10.99.0.2/24 dev v1", net.receiver));
    Server::start_at("10.99.0.1", &format!("/run/netns/{}", net.sender))
}

fn feature(ring: &Path, name: &str) -> Option<Feature> {
    facts(&ring.join("log")).into_iter().find_map(|record| match record.fact {
        Fact::Feature(feature) if feature.name == name => Some(feature),
        _ => None,
    })
}

impl Server {
    /// Uploads a snapshot as [`Server::upload`] does, and checks that no packet of it was recorded and that all were counted.
    fn uploads_unrecorded(&self, net: &Net, ring: &Path) {
        let arguments = ["--iface", "v1", "--compression", "none"];
        let (uploaded, recorded) = self.upload(Recorder::start_bare(net, ring, &arguments), net, ring);
        assert!(uploaded > 100 << 20, "{uploaded} bytes were uploaded");
        assert_eq!(recorded, 0, "packets of the upload");
        let left_out = totals(&ring.join("segments")).filtered;
        assert!(left_out > Some(uploaded >> 16), "{left_out:?} packets of it were left out, and counted");
    }

    /// Fills a ring, takes a snapshot of it over the recorded wire, and ends the recorder. Bytes uploaded, and packets of
    /// the upload in the ring.
    fn upload(&self, recorder: Recorder, net: &Net, ring: &Path) -> (u64, usize) {
        let sent = net.send(0, 80_000, 1_400, 60_000).join().unwrap();
        let from = format!("/run/netns/{}", net.receiver);
        let output = self.snapshot_from(&from, ring, "s3://snaps/wire", SECRET, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // By somebody else, to the same port: recorded as ever.
        let request = format!("http://10.99.0.1:{}/", self.port);
        let curl = ["curl", "-s", "-o", "/dev/null", "--local-port", "4444", &request];
        crate::net::run("nsenter", &[&[&*format!("--net={from}")], &curl[..]].concat());
        recorder.stop();
        let recorded = packets(&ring.join("segments"));
        let lost = crate::reading::totals(&ring.join("segments")).lost();
        assert_eq!(numbers(&recorded).len() as u64 + lost, sent);
        let has_port = |p: &crate::reading::Recorded, port: u16| {
            let tcp = p.data.len() > 38 && p.data[12..14] == [8, 0] && p.data[23] == 6;
            tcp && [34, 36].iter().any(|at| p.data[*at..at + 2] == port.to_be_bytes())
        };
        let (others, own): (Vec<_>, Vec<_>) =
            recorded.iter().filter(|p| has_port(p, self.port)).partition(|p| has_port(p, 4444));
        assert!(others.len() >= 7, "a whole connection: {}", others.len());
        (crate::reading::disk_bytes(&self.root), own.len())
    }
}

pub fn failed(output: &Output, sentence: &str) -> bool {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(sentence), "{error}");
    output.status.code() == Some(1) && output.stdout.is_empty()
}

/// SHARK_S3S_FS, else where deploy/install-s3s.sh puts it, else from $PATH.
fn program() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let installed = cache.map(|dir| dir.join("sharkrec/s3s/bin/s3s-fs")).filter(|path| path.exists());
    std::env::var_os("SHARK_S3S_FS").map(PathBuf::from).or(installed).unwrap_or_else(|| "s3s-fs".into())
}

pub struct Server {
    child: Child,
    pub root: PathBuf,
    host: &'static str,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// None, with the reason printed, where s3s-fs is not installed.
    pub fn start() -> Option<Server> {
        Server::start_at("127.0.0.1", "/proc/self/ns/net")
    }

    /// Without keys: who asks is let in.
    pub fn start_open() -> Option<Server> {
        Server::start_with("127.0.0.1", "/proc/self/ns/net", &[])
    }

    /// On an address of another network namespace.
    fn start_at(host: &'static str, namespace: &str) -> Option<Server> {
        Server::start_with(host, namespace, &["--access-key", KEY, "--secret-key", SECRET])
    }

    fn start_with(host: &'static str, namespace: &str, keys: &[&str]) -> Option<Server> {
        let program = program();
        if Command::new(&program).arg("--version").output().is_err() {
            println!("skipped: no s3s-fs in $PATH or SHARK_S3S_FS; deploy/install-s3s.sh installs it");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        std::fs::create_dir_all(root.join("snaps")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let net = format!("--net={namespace}");
        let child = Command::new("nsenter")
            .arg(&net)
            .arg(&program)
            .args(keys)
            .args(["--host", host, "--port", &port.to_string()])
            .arg(&root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let listening = format!("ss -Htln sport = :{port} | grep -q LISTEN");
        while !Command::new("nsenter").args([&net, "sh", "-c", &listening]).status().unwrap().success() {
            assert!(Instant::now() < end, "s3s-fs does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(Server { child, root, host, port, _dir: dir })
    }

    fn snapshot(&self, ring: &Path, to: &str, secret: &str, more: &[&str]) -> Output {
        self.snapshot_from("/proc/self/ns/net", ring, to, secret, more)
    }

    fn snapshot_from(&self, namespace: &str, ring: &Path, to: &str, secret: &str, more: &[&str]) -> Output {
        let mut command = self.command(namespace, secret);
        command
            .args(["snapshot", "--since", "1h", "--to", to, "--ring"])
            .arg(ring)
            .args(more)
            .output()
            .unwrap()
    }

    /// `sharkrec` with the server in its environment.
    pub fn command(&self, namespace: &str, secret: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={namespace}"))
            .arg(PROGRAM)
            .env("AWS_ENDPOINT", format!("http://{}:{}", self.host, self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
