//! What is said of a bucket that cannot be reached, whichever kind of store it is. Nothing listens where these look.

use std::net::TcpListener;
use std::process::Command;

use crate::process::PROGRAM;

#[test]
fn plain_http_must_be_allowed_by_the_variable_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    sharkrec::ring::Ring::create(&ring, "n", "").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}");
    let account = format!(
        r#"{{"gcs_base_url":"{endpoint}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
    );
    for (to, variable, environment) in [
        (
            "s3://snaps/x",
            "AWS_ALLOW_HTTP",
            vec![("AWS_ENDPOINT", &*endpoint), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")],
        ),
        ("gs://snaps/x", "GOOGLE_ALLOW_HTTP", vec![("GOOGLE_SERVICE_ACCOUNT_KEY", &*account)]),
        (
            "az://snaps/x",
            "AZURE_ALLOW_HTTP",
            vec![
                ("AZURE_ENDPOINT", &*endpoint),
                ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
                ("AZURE_STORAGE_ACCOUNT_KEY", "YWE="),
            ],
        ),
    ] {
        let said = |allowed: &str| {
            let mut command = Command::new(PROGRAM);
            command.args(["snapshot", "--since", "1h", "--to", to, "--ring"]).arg(&ring);
            let output =
                command.env_clear().envs(environment.clone()).env(variable, allowed).output().unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
            String::from_utf8(output.stderr).unwrap()
        };
        let refused = said("false");
        let way_out =
            format!("plain http is not allowed; set {variable}=true, or give an endpoint with https");
        assert!(refused.contains(&way_out), "{refused}");
        let unreachable = said("true");
        assert!(unreachable.contains("no connection; check the endpoint"), "{unreachable}");
    }
}
