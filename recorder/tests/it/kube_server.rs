//! A real API server with its etcd, in the namespace of the recorder; `deploy/install-kube-apiserver.sh` builds both.
//! In: SHARK_KUBE, the folder of both programs. Out: requests as an administrator, kubeconfigs, stops and starts.
//! There is no kubelet: pods live by patches of their status, as a kubelet would send them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::net::Net;

/// What a witness of the whole cluster watches.
pub const WATCHED: [&str; 9] = [
    "namespaces",
    "nodes",
    "replicasets",
    "jobs",
    "pods",
    "services",
    "endpointslices",
    "networkpolicies",
    "events",
];

pub struct Server {
    dir: PathBuf,
    namespace: String,
    programs: PathBuf,
    more: Vec<String>,
    etcd: Child,
    /// What the recorder talks to.
    api: Option<Child>,
    /// What changes things while that is away, as in a cluster with several.
    second: Option<Child>,
}

const PORT: u16 = 16_443;
const SECOND_PORT: u16 = 16_444;
const START: Duration = Duration::from_secs(90);

impl Server {
    /// None, with the reason printed, where there is no API server to start.
    pub fn start(net: &Net, dir: &Path, more: &[&str]) -> Option<Server> {
        let Some(programs) = std::env::var_os("SHARK_KUBE").map(PathBuf::from) else {
            println!("skipped: no API server; export SHARK_KUBE=\"$(deploy/install-kube-apiserver.sh)\"");
            return None;
        };
        let dir = dir.join("kube");
        fs::create_dir_all(&dir).unwrap();
        let key =
            Command::new("openssl").args(["genrsa", "-out"]).arg(dir.join("sa.key")).arg("2048").output();
        assert!(key.expect("openssl runs").status.success());
        let tokens =
            "admintoken,admin,admin,\"system:masters\"\nreadertoken,recorder,recorder,\"recorders\"\n";
        fs::write(dir.join("tokens.csv"), tokens).unwrap();
        let etcd = within(&net.receiver, &programs.join("etcd"), &dir.join("etcd.log"))
            .arg(format!("--data-dir={}", dir.join("etcd").display()))
            .args([
                "--listen-client-urls=http://127.0.0.1:12379",
                "--advertise-client-urls=http://127.0.0.1:12379",
            ])
            .args(["--listen-peer-urls=http://127.0.0.1:12380", "--unsafe-no-fsync"])
            .spawn()
            .expect("etcd starts");
        let (namespace, more) = (net.receiver.clone(), more.iter().map(|one| (*one).to_owned()).collect());
        let mut server = Server { dir, namespace, programs, more, etcd, api: None, second: None };
        server.up();
        Some(server)
    }

    /// From now on changes are made through a second API server over the same etcd.
    pub fn start_second(&mut self) {
        self.second = Some(self.spawn(SECOND_PORT));
        self.wait_until_ready();
    }

    /// Starts the API server, and waits until it is ready.
    pub fn up(&mut self) {
        assert!(self.api.is_none());
        self.api = Some(self.spawn(PORT));
        if self.second.is_none() {
            self.wait_until_ready();
        }
    }

    fn wait_until_ready(&self) {
        let end = Instant::now() + START;
        let answers = |path| self.ask("admintoken", "GET", path, "", &Value::Null).is_ok();
        while !answers("/readyz") || !answers("/api/v1/namespaces/default") {
            assert!(Instant::now() < end, "the API server is not ready: see {}", self.dir.display());
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn spawn(&self, port: u16) -> Child {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let log = self.dir.join(format!("api-{port}.log"));
        within(&self.namespace, &self.programs.join("kube-apiserver"), &log)
            .args(["--etcd-servers=http://127.0.0.1:12379", "--bind-address=127.0.0.1"])
            .args(["--advertise-address=127.0.0.1", "--insecure-port=0"])
            .args(["--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none"])
            .args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"])
            // Nothing makes service accounts or says that nodes are ready here.
            .arg("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", at("certs")))
            .arg(format!("--service-account-key-file={}", at("sa.key")))
            .arg(format!("--service-account-signing-key-file={}", at("sa.key")))
            .arg(format!("--token-auth-file={}", at("tokens.csv")))
            .args(&self.more)
            .spawn()
            .expect("the API server starts")
    }

    pub fn down(&mut self) {
        let mut api = self.api.take().expect("it is up");
        // In order it would wait a minute for its watches.
        api.kill().expect("kill");
        api.wait().expect("it ends");
    }

    /// Stops it without closing its connections, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let pid = Pid::from_raw(self.api.as_ref().expect("it is up").id() as i32).expect("a pid");
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).expect("signal");
    }

    pub fn certificate(&self) -> PathBuf {
        self.dir.join("certs/apiserver.crt")
    }

    /// As kubectl would use it, with the certificate checked.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        let path = self.dir.join(format!("{token}.kubeconfig"));
        let certificate = self.certificate();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": url(PORT), "certificate-authority": certificate } }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.ask("admintoken", "POST", path, "application/json", object).expect("created")
    }

    /// Many of a kind, over one connection.
    pub fn create_many(&self, path: &str, objects: &[Value]) {
        let request = |object: &Value| {
            let body = object.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            format!(
                "url = \"{}{path}\"\nheader = \"Authorization: Bearer admintoken\"\nheader = \"Content-Type: application/json\"\n\
                 data-binary = \"{body}\"\ninsecure\nfail\noutput = /dev/null\nsilent\nshow-error\n",
                url(PORT)
            )
        };
        let config = self.dir.join("many.curl");
        fs::write(&config, objects.iter().map(request).collect::<Vec<_>>().join("next\n")).unwrap();
        let mut curl = Command::new("nsenter");
        curl.arg(format!("--net=/run/netns/{}", self.namespace)).args(["curl", "--config"]).arg(&config);
        let out = curl.output().expect("curl runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn patch(&self, path: &str, change: &Value) -> Value {
        self.ask("admintoken", "PATCH", path, "application/merge-patch+json", change).expect("patched")
    }

    pub fn delete(&self, path: &str) {
        let now = json!({ "gracePeriodSeconds": 0, "propagationPolicy": "Background" });
        self.ask("admintoken", "DELETE", path, "application/json", &now).expect("deleted");
    }

    /// A pod on a node, without anybody who runs it.
    pub fn pod(&self, name: &str, node: &str, more: &Value) -> String {
        let mut pod = json!({
            "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "nodeName": node, "containers": [{
                "name": "main", "image": "shop/app:1", "env": [{ "name": "PASSWORD", "value": "hunter2" }],
                "ports": [{ "containerPort": 8080, "name": "http" }] }] },
        });
        merge(&mut pod, more);
        let made = self.create("/api/v1/namespaces/default/pods", &pod);
        made["metadata"]["uid"].as_str().expect("a uid").to_owned()
    }

    pub fn status(&self, name: &str, status: &Value) {
        self.patch(&format!("/api/v1/namespaces/default/pods/{name}/status"), &json!({ "status": status }));
    }

    pub fn running(&self, name: &str, ip: &str) {
        self.status(name, &json!({
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "startTime": "2026-01-02T03:04:05Z",
            "containerStatuses": [{ "name": "main", "ready": true, "restartCount": 0, "image": "shop/app:1",
                "imageID": "shop/app@sha256:0f", "containerID": format!("containerd://{name}") }],
        }));
    }

    pub fn succeeded(&self, name: &str) {
        self.status(name, &json!({
            "phase": "Succeeded",
            "containerStatuses": [{ "name": "main", "ready": false, "restartCount": 1, "image": "shop/app:1",
                "imageID": "shop/app@sha256:0f", "containerID": format!("containerd://{name}"),
                "state": { "terminated": { "exitCode": 0, "finishedAt": "2026-01-02T03:05:00Z" } } }],
        }));
    }

    pub fn delete_pod(&self, name: &str) {
        self.delete(&format!("/api/v1/namespaces/default/pods/{name}"));
    }

    /// Makes etcd forget every change before now, as it does by itself every five minutes.
    pub fn compact(&self) {
        let now = self.http("http://127.0.0.1:12379/v3/kv/range", &json!({ "key": "AA==" }));
        let revision = now["header"]["revision"].as_str().expect("a revision").to_owned();
        self.http(
            "http://127.0.0.1:12379/v3/kv/compaction",
            &json!({ "revision": revision, "physical": true }),
        );
    }

    fn http(&self, url: &str, body: &Value) -> Value {
        self.request(url, "", "POST", "application/json", body).expect("etcd answers")
    }

    pub fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let port = if self.second.is_some() { SECOND_PORT } else { PORT };
        self.request(&format!("{}{path}", url(port)), token, method, kind, body)
    }

    fn request(
        &self,
        url: &str,
        token: &str,
        method: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let mut curl = Command::new("nsenter");
        curl.arg(format!("--net=/run/netns/{}", self.namespace));
        curl.args(["curl", "-sk", "--max-time", "10", "--fail-with-body", "-X", method]);
        if !token.is_empty() {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        if !body.is_null() {
            curl.args(["-H", &format!("Content-Type: {kind}"), "--data-binary", &body.to_string()]);
        }
        let out = curl.arg(url).output().expect("curl runs");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() { Ok(serde_json::from_str(&text).unwrap_or(Value::Null)) } else { Err(text) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.api.iter_mut().chain(&mut self.second).chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// A program in a namespace of the network, with what it says in a file; nsenter execs it, so that signals reach it.
fn within(namespace: &str, program: &Path, log: &Path) -> Command {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
    command
}

/// Puts everything of `more` into `object`.
pub fn merge(object: &mut Value, more: &Value) {
    match (object, more) {
        (Value::Object(object), Value::Object(more)) => {
            for (name, value) in more {
                merge(object.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (object, more) if !more.is_null() => *object = more.clone(),
        _ => {}
    }
}
