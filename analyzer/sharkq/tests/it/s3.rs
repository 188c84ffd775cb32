//! A snapshot in a real S3 server: uploaded by the recorder, asked where it lies, verified where it lies.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bundled;
use crate::desk::{Desk, refused};
use crate::programs::{FIXTURES, built, printed, within};

#[test]
fn a_bucket_answers_as_a_folder_does() {
    let desk = Desk::new();
    let Some(server) = Server::start(&desk) else { return };
    bundled::snapshot(&desk);
    let mut upload = within(60, built("sharkrec"));
    upload.args(["snapshot", "--since", "1970-01-01T00:00:00Z", "--to", "s3://snaps/prod", "--ring"]);
    let url = printed(server.reached_by(upload.arg(desk.at("ring"))));
    let url = url.trim();
    let stored = server.root.join(url.strip_prefix("s3://").expect("a bucket"));
    let ask = |source: &str, sql: &str| {
        let mut command = desk.sharkq();
        command.args(["sql", source, "--format", "csv", "-c", sql]);
        command.arg(format!("--identity={FIXTURES}/shop/identity.json"));
        printed(server.reached_by(&mut command))
    };
    for sql in [
        "SELECT * FROM http ORDER BY call_id",
        "SELECT * FROM dns ORDER BY call_id",
        "SELECT * FROM flows ORDER BY flow_id",
        "SELECT * FROM segments",
        "SELECT * FROM coverage ORDER BY bucket, iface",
    ] {
        let answer = ask(url, sql);
        assert!(answer.lines().count() > 1, "{sql}");
        assert_eq!(answer, ask(stored.to_str().expect("a path"), sql), "{sql}");
    }
    // A prefix with one snapshot in it, and a segment by itself.
    let count = "SELECT count(*) AS n FROM http";
    assert_eq!(ask("s3://snaps/prod", count), ask(url, count));
    let segment = server.object(&stored, ".pcapng.zst");
    assert_eq!(ask(&format!("{url}/{segment}"), count), ask(url, count));
    let verified = printed(server.reached_by(desk.sharkq().args(["verify", url])));
    assert!(verified.contains(": ok, "), "{verified}");
    let path = stored.join(&segment);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let altered = server.reached_by(desk.sharkq().args(["verify", url])).output().unwrap();
    assert_eq!(altered.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&altered.stdout).starts_with(&format!("altered: {url}/{segment}: ")));
}

#[test]
fn wrong_bucket_wrong_key_wrong_name() {
    let desk = Desk::new();
    let Some(server) = Server::start(&desk) else { return };
    let asks = |source: &str, secret: &str| {
        let mut command = desk.sharkq();
        server
            .reached_by(command.args(["sql", source, "-c", "select 1"]))
            .env("AWS_SECRET_ACCESS_KEY", secret);
        refused(&command.output().unwrap())
    };
    let said = |text: &str| (1, format!("sharkq: {text}"));
    assert_eq!(asks("s3://nosuch/x", SECRET), said("s3://nosuch/x: the bucket does not exist"));
    let wrong = "s3://snaps/x: the secret key is wrong; check AWS_SECRET_ACCESS_KEY";
    assert_eq!(asks("s3://snaps/x", "WRONG"), said(wrong));
    let nothing = "s3://snaps/x: neither a ring (no segments/), nor a snapshot (no nodes/), nor an index (no tables/); \
                   name a capture file or one of those";
    assert_eq!(asks("s3://snaps/x", SECRET), said(nothing));
    assert_eq!(asks("s3://snaps/x.pcap", SECRET).0, 1);
}

const KEY: &str = "AKTEST";
const SECRET: &str = "SKTEST";

/// s3s-fs over a folder of the desk; killed when dropped.
struct Server {
    child: Child,
    root: PathBuf,
    port: u16,
}

impl Server {
    /// None, with the reason printed, where it is not installed.
    fn start(desk: &Desk) -> Option<Server> {
        let root = desk.at("s3");
        fs::create_dir_all(root.join("snaps")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program());
        command.args([
            "--access-key",
            KEY,
            "--secret-key",
            SECRET,
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        let Ok(child) = command.arg(&root).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            eprintln!("skipped: no s3s-fs; deploy/install-s3s.sh installs it");
            return None;
        };
        let server = Server { child, root, port };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "s3s-fs does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn reached_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    /// Path of the one object below a snapshot's segments with this ending.
    fn object(&self, stored: &std::path::Path, ending: &str) -> String {
        let node =
            fs::read_dir(stored.join("nodes")).unwrap().next().unwrap().unwrap().path().join("segments");
        let names = fs::read_dir(&node).unwrap().map(|entry| entry.unwrap().path());
        let path =
            names.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).expect("a segment");
        path.strip_prefix(stored).unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where deploy/install-s3s.sh puts it, unless told otherwise.
fn program() -> PathBuf {
    let told = std::env::var_os("SHARK_S3S_FS").map(PathBuf::from);
    told.unwrap_or_else(|| {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_default();
        let installed = cache.join("sharkrec/s3s/bin/s3s-fs");
        if installed.exists() { installed } else { "s3s-fs".into() }
    })
}
