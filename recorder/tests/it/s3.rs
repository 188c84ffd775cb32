//! A snapshot in a real S3 server, with strict signatures and conditional writes.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::net::Net;
use crate::process::{PROGRAM, Recorder};
use crate::reading::{numbers, packets};
use crate::snapshot::verify;

const KEY: &str = "AKTEST";
const SECRET: &str = "SKTEST";

#[test]
fn to_a_bucket_and_back() {
    let Some(server) = Server::start() else { return };
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--compression", "none"]);
    // More than one part, so that the upload is a multipart one.
    let sent = net.send(0, 15_000, 1_400, 0).join().unwrap();
    let output = server.snapshot(&ring, "s3://snaps/prod", SECRET, &[]);
    let url = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(url.lines().count(), 1);
    let id = url.trim().strip_prefix("s3://snaps/prod/").expect("the URL below --to");
    let stored = server.root.join("snaps/prod").join(id);
    let lost = crate::reading::totals(&ring.join("segments")).lost();
    assert_eq!(numbers(&packets(&verify(&stored))).len() as u64 + lost, sent);
    // Complete: neither again nor over it.
    let again = server.snapshot(&ring, "s3://snaps/prod", SECRET, &["--resume", id]);
    assert!(failed(&again, "complete already"));
    // Without its top manifest it is a torso, which is completed without sending everything again.
    std::fs::remove_file(stored.join("manifest.json")).unwrap();
    let resumed = server.snapshot(&ring, "s3://snaps/prod", SECRET, &["--resume", id]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    verify(&stored);
    recorder.stop();
}

#[test]
fn wrong_key_and_wrong_bucket() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    sharkrec::ring::Ring::create(&ring, "n", "").unwrap();
    let start = Instant::now();
    assert!(failed(&server.snapshot(&ring, "s3://snaps/x", "WRONG", &[]), "access is denied"));
    assert!(failed(&server.snapshot(&ring, "s3://nosuch/x", SECRET, &[]), "bucket does not exist"));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

fn failed(output: &Output, sentence: &str) -> bool {
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

struct Server {
    child: Child,
    root: PathBuf,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// None, with the reason printed, where s3s-fs is not installed.
    fn start() -> Option<Server> {
        let program = program();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        std::fs::create_dir_all(root.join("snaps")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(&program)
            .args([
                "--access-key",
                KEY,
                "--secret-key",
                SECRET,
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .arg(&root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: no s3s-fs in $PATH or SHARK_S3S_FS; deploy/install-s3s.sh installs it");
            return None;
        };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "s3s-fs does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(Server { child, root, port, _dir: dir })
    }

    fn snapshot(&self, ring: &Path, to: &str, secret: &str, more: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(["snapshot", "--since", "1h", "--to", to, "--ring"])
            .arg(ring)
            .args(more)
            .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .output()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
