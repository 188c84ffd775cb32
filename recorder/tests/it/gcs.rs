//! A snapshot by way of Google's XML API. No server that knows Google's conditions can be had here, so nginx stands before the S3
//! server, whose XML is the same, and turns the one into the other: create-only of Google into create-only of S3. Keys are not tried.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::net::Net;
use crate::nginx::Nginx;
use crate::process::{PROGRAM, Recorder};
use crate::reading::{numbers, packets, totals};
use crate::s3::{Server, failed};
use crate::snapshot::verify;

#[test]
fn to_a_bucket_and_back() {
    let Some(front) = Front::start() else { return };
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--compression", "none"]);
    // More than one part, so that the upload is a multipart one.
    let sent = net.send(0, 15_000, 1_400, 0).join().unwrap();
    let output = front.snapshot(&ring, "gs://snaps/prod", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let url = String::from_utf8(output.stdout).unwrap();
    let id = url.trim().strip_prefix("gs://snaps/prod/").expect("the URL below --to");
    let stored = front.server.root.join("snaps/prod").join(id);
    let lost = totals(&ring.join("segments")).lost();
    assert_eq!(numbers(&packets(&verify(&stored))).len() as u64 + lost, sent);
    // Manifests, and nothing else, are created only where there is none.
    let said = front.nginx.requests();
    let conditional: Vec<&String> = said.iter().filter(|line| line.starts_with("PUT 0 ")).collect();
    assert_eq!(conditional.len(), 2, "{said:?}");
    assert!(conditional.iter().all(|line| line.ends_with("/manifest.json")), "{conditional:?}");
    assert!(said.iter().any(|line| line.starts_with("POST - ") && line.ends_with(".pcapng")), "{said:?}");
    // A torso is completed, and what is there is read, not sent again.
    fs::remove_file(stored.join("manifest.json")).unwrap();
    let again = front.snapshot(&ring, "gs://snaps/prod", &["--resume", id]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    verify(&stored);
    let more = front.nginx.requests().split_off(said.len());
    assert_eq!(more.iter().filter(|line| line.starts_with("PUT")).count(), 1, "{more:?}");
    assert!(failed(&front.snapshot(&ring, "gs://snaps/prod", &["--resume", id]), "complete already"));
    assert!(failed(&front.snapshot(&ring, "gs://nosuch/x", &[]), "bucket does not exist"));
    recorder.stop();
}

/// What stands before the S3 server; both end when dropped.
struct Front {
    nginx: Nginx,
    server: Server,
}

impl Front {
    /// None, with the reason printed, where a server is not installed.
    fn start() -> Option<Front> {
        let server = Server::start_open()?;
        Some(Front { nginx: Nginx::start(|port| translating(port, server.port))?, server })
    }

    fn snapshot(&self, ring: &Path, to: &str, more: &[&str]) -> Output {
        let account = format!(
            r#"{{"gcs_base_url":"http://127.0.0.1:{}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#,
            self.nginx.port
        );
        let mut command = Command::new(PROGRAM);
        command.args(["snapshot", "--since", "1h", "--to", to, "--ring"]).arg(ring).args(more);
        let environment = [("GOOGLE_SERVICE_ACCOUNT_KEY", &*account), ("GOOGLE_ALLOW_HTTP", "true")];
        command.env_clear().envs(environment).output().unwrap()
    }
}

fn translating(port: u16, behind: u16) -> String {
    format!(
        "map $http_x_goog_if_generation_match $none_match {{ 0 '*'; default ''; }}
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1;
         proxy_set_header Authorization ''; proxy_set_header If-None-Match $none_match; }} }}"
    )
}
