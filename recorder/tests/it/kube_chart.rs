//! The chart, installed by Helm into a real API server: what its pods would run is run here, with the rights, capabilities and
//! environment that the pods have, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shark_fixtures::kube::{Server, WATCHED};
use shark_schema::identity::{Fact, Record};

use crate::kube::{feature, pod, until};
use crate::net::Net;
use crate::process::PROGRAM;
use crate::reading::{facts, numbers, packets};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart");

struct Helm<'a> {
    program: PathBuf,
    net: &'a Net,
    kubeconfig: PathBuf,
}

impl Helm<'_> {
    fn new<'a>(net: &'a Net, server: &Server) -> Option<Helm<'a>> {
        let Some(program) = std::env::var_os("SHARK_HELM").map(PathBuf::from) else {
            println!("skipped: no Helm; export SHARK_HELM=\"$(deploy/install-helm.sh)\"");
            return None;
        };
        Some(Helm { program, net, kubeconfig: server.kubeconfig("admintoken") })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut helm = Command::new("nsenter");
        helm.arg(format!("--net=/run/netns/{}", self.net.receiver)).arg(&self.program).args(arguments);
        helm.arg("--kubeconfig").arg(&self.kubeconfig).output().expect("helm runs")
    }

    fn ok(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn install(&self, release: &str, more: &[&str]) {
        let mut arguments = vec!["install", release, CHART, "--namespace", "sharkrec", "--create-namespace"];
        arguments.extend(more);
        self.ok(&arguments);
    }
}

/// A container of the cluster, as a process: in its network, with its environment, its capabilities and its service account.
struct Container {
    spec: Value,
    token: String,
    host_network: bool,
    user: u64,
}

impl Container {
    /// The only container of a workload, and a token of its service account.
    fn of(server: &Server, path: &str) -> Container {
        let workload = server.ask("admintoken", "GET", path, "", &Value::Null).expect("it is there");
        let pod = &workload["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().expect("a service account");
        let path = format!("/api/v1/namespaces/sharkrec/serviceaccounts/{account}/token");
        let token = server.create(&path, &json!({ "spec": { "expirationSeconds": 3600 } }));
        Container {
            spec: pod["containers"][0].clone(),
            token: token["status"]["token"].as_str().expect("a token").to_owned(),
            host_network: pod["hostNetwork"] == true,
            user: [&pod["containers"][0], pod]
                .iter()
                .find_map(|of| of["securityContext"]["runAsUser"].as_u64())
                .expect("a user"),
        }
    }

    fn capabilities(&self) -> Vec<String> {
        let added = self.spec["securityContext"]["capabilities"]["add"].as_array();
        added.into_iter().flatten().map(|name| name.as_str().expect("a name").to_lowercase()).collect()
    }

    fn start(&self, net: &Net, server: &Server, ring: &Path, more: &[(&str, &str)]) -> Child {
        let account = ring.with_extension("account");
        fs::create_dir_all(&account).unwrap();
        fs::write(account.join("token"), &self.token).unwrap();
        fs::write(account.join("namespace"), "sharkrec").unwrap();
        fs::copy(server.certificate(), account.join("ca.crt")).unwrap();
        let bounds: Vec<String> = self.capabilities().iter().map(|name| format!("+{name}")).collect();
        let bounds = format!("-all,{}", bounds.join(",")).trim_end_matches(',').to_owned();
        // Where a pod finds its service account; only this process sees it there.
        let mount = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && \
            cp -r \"$1\" /run/secrets/kubernetes.io/serviceaccount && shift && exec \"$@\"";
        let mut command = Command::new("nsenter");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg(format!("--net=/run/netns/{}", net.receiver));
        command.args(["unshare", "--mount", "sh", "-c", mount, "sh"]).arg(&account);
        let user = self.user.to_string();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.args(["--bounding-set", &bounds, "--inh-caps", &bounds]).arg(program(ring));
        command.args(self.spec["args"].as_array().expect("arguments").iter().filter_map(Value::as_str));
        for one in self.spec["env"].as_array().expect("an environment") {
            command.env(one["name"].as_str().unwrap(), one["value"].as_str().unwrap_or_default());
        }
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "16443");
        command.env("SHARKREC_RING", ring).envs(more.iter().copied());
        let child = command.stderr(Stdio::null()).spawn().expect("it starts");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !ring.join("control.sock").exists() {
            assert!(std::time::Instant::now() < end, "it did not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        child
    }
}

/// The program where everybody may run it, and a folder that is a volume of whoever does.
fn program(ring: &Path) -> PathBuf {
    let dir = ring.parent().expect("a folder");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.join("sharkrec");
    if !program.exists() {
        fs::copy(PROGRAM, &program).unwrap();
    }
    program
}

fn stop(mut child: Child) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(child.wait().expect("it ends").success());
}

/// Features in the log, the last word about each.
fn features(records: &[Record]) -> std::collections::BTreeMap<String, (bool, String)> {
    let of = |record: &Record| match &record.fact {
        Fact::Feature(of) => Some((of.name.clone(), (of.on, of.why.clone()))),
        _ => None,
    };
    records.iter().filter_map(of).collect()
}

#[test]
fn what_the_chart_grants_is_enough_for_everything_and_for_nothing_else() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    let Some(helm) = Helm::new(&net, &server) else { return };
    helm.ok(&["lint", "--strict", CHART]);
    helm.install("sharkrec", &["--set", "cluster=test", "--set", "recorder.interfaces={v*}"]);
    server.pod("a", "n1", &Value::Null);

    let recorder = Container::of(&server, "/apis/apps/v1/namespaces/sharkrec/daemonsets/sharkrec");
    let witness = Container::of(&server, "/apis/apps/v1/namespaces/sharkrec/deployments/sharkrec-witness");
    assert!(recorder.host_network && !witness.host_network);
    for container in [&recorder, &witness] {
        let context = &container.spec["securityContext"];
        assert_eq!(
            (&context["privileged"], &context["allowPrivilegeEscalation"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    }
    assert_eq!(recorder.capabilities(), ["net_raw", "bpf", "net_admin", "perfmon", "sys_ptrace"]);
    assert!(witness.capabilities().is_empty());
    assert_eq!((recorder.user, witness.user), (0, 65_532));

    let (ring, data) = (dir.path().join("ring"), dir.path().join("data"));
    let recording = recorder.start(&net, &server, &ring, &[("SHARKREC_NODE", "n1")]);
    let witnessing = witness.start(&net, &server, &data, &[]);
    until(&ring.join("log"), "the node's pods", |record| feature(record, "kube_pods", true).is_some());
    for what in WATCHED {
        until(&data.join("log"), what, |record| feature(record, &format!("kube_{what}"), true).is_some());
    }
    let owner = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "gone", "uid": "33333333-0000-0000-0000-000000000000", "controller": true }] } });
    server.pod("b", "n1", &owner);
    until(&ring.join("log"), "owners are looked up", |record| feature(record, "kube_owners", true).is_some());
    net.send(0, 100, 100, 0).join().unwrap();
    stop(recording);
    stop(witnessing);
    let of_recorder = features(&facts(&ring.join("log")));
    for name in [
        "any_socket",
        "own_uploads_excluded",
        "processes",
        "sockets",
        "datagram_sockets",
        "kube_pods",
        "kube_owners",
    ] {
        assert!(of_recorder.get(name).is_some_and(|(on, _)| *on), "{name}: {of_recorder:#?}");
    }
    let pods: Vec<String> =
        facts(&data.join("log")).iter().filter_map(pod).map(|pod| pod.name.clone()).collect();
    assert_eq!(pods, ["a", "b"]);
    assert_eq!(numbers(&packets(&ring.join("segments"))).len(), 100);

    // Neither may write anything, nor read what it need not.
    for container in [&recorder, &witness] {
        for (method, path) in [
            ("GET", "/api/v1/secrets"),
            ("GET", "/api/v1/namespaces/default/configmaps"),
            ("POST", "/api/v1/namespaces/default/pods"),
            ("POST", "/api/v1/namespaces/default/events"),
            ("DELETE", "/api/v1/namespaces/default/pods/a"),
        ] {
            let body = if method == "POST" { json!({ "metadata": { "name": "x" } }) } else { Value::Null };
            let answer = server.ask(&container.token, method, path, "application/json", &body);
            assert!(
                answer
                    .as_ref()
                    .is_err_and(|error| error.contains("\"code\": 403") || error.contains("\"code\":403")),
                "{method} {path}: {answer:?}"
            );
        }
    }
    let roles = server
        .ask(
            "admintoken",
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles?labelSelector=app.kubernetes.io/name=sharkrec",
            "",
            &Value::Null,
        )
        .unwrap();
    let rules = roles["items"].as_array().unwrap().iter().flat_map(|role| role["rules"].as_array().unwrap());
    let verbs: Vec<&str> =
        rules.flat_map(|rule| rule["verbs"].as_array().unwrap()).filter_map(Value::as_str).collect();
    assert!(
        !verbs.is_empty() && verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb)),
        "{verbs:?}"
    );
}

#[test]
fn values_are_checked_and_every_part_of_the_chart_is_accepted() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(&net.receiver, dir.path(), &[]) else { return };
    let Some(helm) = Helm::new(&net, &server) else { return };
    for (set, why) in [
        ("recorder.ringSize=lots", "ringSize"),
        ("recorder.snaplen=10", "snaplen"),
        ("recorder.interfaces={}", "interfaces"),
        ("recorder.env.PATH=x", "env"),
        ("witness.port=80", "port"),
        ("privileged=true", "privileged"),
        ("image.digest=latest", "digest"),
    ] {
        let output = helm.run(&["template", "x", CHART, "--set", set]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{set}: {said}");
    }
    // Everything that is off by default; the server checks what it gets.
    helm.install("full", &[
        "--set", "recorder.snaplen=256,recorder.filter=not port 22,recorder.processes=false",
        "--set", "recorder.snapshotTo=s3://incidents/prod,recorder.snapshotSecret=store",
            "--set-string",
            "recorder.env.SHARKREC_WORKERS=2",
        "--set", "recorder.podAnnotations.a=b,recorder.serviceAccountAnnotations.c=d,recorder.nodeSelector.e=f",
        "--set", "witness.persistence.enabled=true,witness.persistence.storageClassName=fast,witness.allowFrom={10.0.0.0/8}",
        "--set", "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "--set", "imagePullSecrets[0].name=pull,witness.tolerations[0].operator=Exists",
    ]);
    let recorder = Container::of(&server, "/apis/apps/v1/namespaces/sharkrec/daemonsets/full-sharkrec");
    assert_eq!(recorder.capabilities(), ["net_raw", "bpf", "net_admin"]);
    let ring = dir.path().join("ring");
    let more = [("SHARKREC_NODE", "n1"), ("SHARKREC_IFACE", "v*")];
    stop(recorder.start(&net, &server, &ring, &more));
    let start = facts(&ring.join("log")).into_iter().find_map(|record| match record.fact {
        Fact::Start(start) => Some(start),
        _ => None,
    });
    assert!(
        start.is_some_and(|start| start.snaplen == 256 && start.filter.as_deref() == Some("not port 22"))
    );
    let policy = "/apis/networking.k8s.io/v1/namespaces/sharkrec/networkpolicies/full-sharkrec-witness";
    let policy = server.ask("admintoken", "GET", policy, "", &Value::Null).expect("a policy");
    assert_eq!(policy["spec"]["ingress"][0]["from"][0]["ipBlock"]["cidr"], "10.0.0.0/8");
    // Nobody to witness the cluster: recorders are told nothing of one.
    helm.install("bare", &["--set", "witness.enabled=false"]);
    let bare = Container::of(&server, "/apis/apps/v1/namespaces/sharkrec/daemonsets/bare-sharkrec");
    assert!(!bare.spec.to_string().contains("SHARKREC_WITNESS"));
    let deployments = "/apis/apps/v1/namespaces/sharkrec/deployments";
    let deployments = server.ask("admintoken", "GET", deployments, "", &Value::Null).unwrap();
    assert_eq!(deployments["items"].as_array().map(Vec::len), Some(1));
}
