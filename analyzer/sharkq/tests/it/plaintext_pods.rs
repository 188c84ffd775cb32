//! Who spoke inside of TLS: curl and Python, nginx and a server in Python, each in a container of its own. Two share each address,
//! so that only their sockets tell them apart: by the ids of pods and containers alone, and by name once a witness has told of them.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use shark_fixtures::net::containers::{Containers, Ids};
use shark_schema::identity::{Container, Fact, Pod};

use crate::desk::Desk;
use crate::identity_facts::{self as facts, fact};
use crate::pair::Pair;
use crate::plaintext::{BEGIN, OWN, access_log, alone, can_record, is_heard, write_nginx};
use crate::same::assert_same;

/// Who runs a program: the name of a container, the workload of its pod, the pod's uid.
struct Speaker {
    name: &'static str,
    process: &'static str,
    workload: &'static str,
    pod_uid: &'static str,
    /// All of its container's id.
    digit: &'static str,
}

/// Paths of requests are `/CLIENT-VERSION-SERVER-NUMBER`.
const SPEAKERS: [Speaker; 4] = [
    Speaker {
        name: "caller-app",
        process: "curl",
        workload: "caller",
        pod_uid: "5f0c1b7a-1d2e-4c3f-8a41-6b7c8d9e0f11",
        digit: "a",
    },
    Speaker {
        name: "worker-app",
        process: "python",
        workload: "worker",
        pod_uid: "5f0c1b7a-1d2e-4c3f-8a41-6b7c8d9e0f22",
        digit: "b",
    },
    Speaker {
        name: "web-app",
        process: "nginx",
        workload: "web",
        pod_uid: "5f0c1b7a-1d2e-4c3f-8a41-6b7c8d9e0f33",
        digit: "c",
    },
    Speaker {
        name: "side",
        process: "python",
        workload: "web",
        pod_uid: "5f0c1b7a-1d2e-4c3f-8a41-6b7c8d9e0f33",
        digit: "d",
    },
];

const CURL: &str = r#"
for version in 1.2 1.3; do
    for number in 1 2 3; do
        curl -sk --tls-max $version "https://$SERVER_IP/caller-$version-web-$number" || exit 1
        curl -sk --tls-max $version "https://$SERVER_IP:8443/caller-$version-side-$number" || exit 1
    done
done
"#;

const CLIENT: &str = r#"
import http.client, os, ssl
for name, version in ("1.2", ssl.TLSVersion.TLSv1_2), ("1.3", ssl.TLSVersion.TLSv1_3):
    for server, port in ("web", 443), ("side", 8443):
        context = ssl._create_unverified_context()
        context.maximum_version = version
        c = http.client.HTTPSConnection(os.environ["SERVER_IP"], port, context=context)
        for n in range(5):
            c.request("GET", f"/worker-{name}-{server}-{n}"); c.getresponse().read()
        c.close()
"#;
/// Connections of each client to each server.
const CONNECTIONS: [(&str, i64); 2] = [("caller", 6), ("worker", 2)];

const SERVER: &str = r#"
import http.server, os, ssl
desk = os.environ["DESK"]
log = open(f"{desk}/server.log", "w", buffering=1)
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_request(self, code="-", size="-"):
        log.write(f"{self.command} {self.path} {int(code)} https\n")
server = http.server.ThreadingHTTPServer((os.environ["SERVER_IP"], 8443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{desk}/nginx/cert.pem", f"{desk}/nginx/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
open(f"{desk}/listens", "w")
server.serve_forever()
"#;

#[test]
fn every_request_has_the_pods_that_spoke() {
    let _alone = alone();
    if !can_record() {
        return;
    }
    let Some(containers) = Containers::make(SPEAKERS.iter().map(Speaker::ids).collect()) else {
        eprintln!("skipped: no cgroup hierarchy of version 2 to write to");
        return;
    };
    let desk = Desk::new();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let snapshot = record(&desk, &containers);
    if !is_heard(&desk, &snapshot) {
        return;
    }
    let mut logged = access_log(&desk);
    let of_python = std::fs::read_to_string(desk.at("server.log")).expect("the log is there");
    logged.extend(of_python.lines().map(str::to_owned));
    assert_eq!(logged.len(), 2 * 2 * (3 + 5));
    let by_id = Speaker::by_id;
    let ring = desk.at("ring");
    ends_are(&desk, &ring, &logged, by_id);
    ends_are(&desk, &snapshot, &logged, by_id);
    let pods = pods().map(|pod| fact(began.as_nanos() as i64, Fact::Pod(pod)));
    facts::write(&ring.join("log"), "", &pods);
    ends_are(&desk, &ring, &logged, Speaker::by_name);
    conversations_are_counted(&desk, &ring);
}

impl Speaker {
    fn ids(&self) -> Ids {
        Ids { pod_uid: self.pod_uid.into(), container_id: self.digit.repeat(64) }
    }

    fn by_id(&self) -> String {
        let Speaker { process, pod_uid, .. } = self;
        format!("- - - {pod_uid} {} {process} pod socket", self.digit.repeat(12))
    }

    fn by_name(&self) -> String {
        let Speaker { process, pod_uid, workload, name, .. } = self;
        format!("{workload}-1 {workload} shop {pod_uid} {name} {process} pod socket")
    }
}

/// The clients' are on the network of their node, whose address is no pod's; the servers share a pod.
fn pods() -> [Pod; 3] {
    let pod = |speaker: &Speaker, ip: &str| {
        let Speaker { pod_uid, workload, .. } = speaker;
        facts::pod(pod_uid, &format!("{workload}-1"), workload, ip, &speaker.ids().container_id)
    };
    let [caller, worker, web, side] = &SPEAKERS;
    let host = |speaker| Pod { host_network: true, ..pod(speaker, "10.9.0.1") };
    let mut server = pod(web, "10.9.0.2");
    let id = format!("containerd://{}", side.ids().container_id);
    server.containers.push(Container { name: side.name.into(), id: Some(id), ..Container::default() });
    [host(caller), host(worker), server]
}

fn record(desk: &Desk, containers: &Containers) -> std::path::PathBuf {
    write_nginx(desk);
    for (file, text) in [("curl.sh", CURL), ("client.py", CLIENT), ("server.py", SERVER)] {
        std::fs::write(desk.at(file), text).expect("a file");
    }
    let [caller, worker, web, side] = &containers.all[..] else { panic!("one for each") };
    let [caller, worker, web, side] =
        [caller, worker, web, side].map(|of| of.entrance().display().to_string());
    let server = format!(
        "sh -c 'echo $$ >{side}; exec python3 \"$DESK/server.py\"' &\n\
         until test -e \"$DESK/listens\"; do sleep 0.05; done\n\
         echo $$ >{web}; exec nginx -c \"$DESK/nginx/nginx.conf\"\n"
    );
    let client = format!(
        "{BEGIN}\nsh -c 'echo $$ >{caller}; exec sh \"$DESK/curl.sh\"' || exit 1\n\
         sh -c 'echo $$ >{worker}; exec python3 \"$DESK/client.py\"' || exit 1\n"
    );
    std::fs::write(desk.at("server.sh"), server).expect("a file");
    let server = "sh \"$DESK/server.sh\"";
    Pair { server, client: &client, port: Some(443), options: "--tls" }.record(desk)
}

/// The columns of an end as one line.
const END: &str = "concat_ws(' ', coalesce({}_pod, '-'), coalesce({}_workload, '-'), coalesce({}_namespace, '-'), {}_pod_uid, \
                   {}_container, regexp_replace({}_process, '[0-9.]+$', ''), {}_kind, {}_identity)";
/// Those that calls have, too.
const NAMES: &str =
    "concat_ws(' ', coalesce({}_pod, '-'), coalesce({}_workload, '-'), coalesce({}_namespace, '-'))";

/// Each request is there once, and all that saw it say the same: the packets, and the programs at both ends.
fn ends_are(desk: &Desk, source: &Path, logged: &[String], end: fn(&Speaker) -> String) {
    let [src, dst] = ["o.src", "o.dst"].map(|of| END.replace("{}", of));
    let [called_src, called_dst] = ["h.src", "h.dst"].map(|of| NAMES.replace("{}", of));
    let sql = format!(
        "SELECT concat_ws(' ', h.method, h.path, h.status_code, 'https') AS request, o.iface = 'server0' AS packets, \
         {src} AS src, {dst} AS dst, {called_src} AS called_src, {called_dst} AS called_dst \
         FROM http h JOIN flows_all o ON o.flow_id = h.flow_id WHERE h.tls AND h.{OWN}"
    );
    let line = |row: &Value| {
        let columns = ["request", "packets", "src", "dst", "called_src", "called_dst"];
        columns.map(|name| row[name].to_string()).join(" ")
    };
    let seen: Vec<String> = desk.rows(source, &sql).iter().map(line).collect();
    let mut told = Vec::new();
    for request in logged {
        let (src, dst) = speakers(request);
        let (src, dst) = (end(src), end(dst));
        let names = |end: &str| end.split(' ').take(3).collect::<Vec<&str>>().join(" ");
        for packets in [true, false, false] {
            let (called_src, called_dst) = (names(&src), names(&dst));
            told.push(format!("{request:?} {packets} {src:?} {dst:?} {called_src:?} {called_dst:?}"));
        }
    }
    assert_same(&source.display().to_string(), &told, &seen);
}

/// By the path of a request.
fn speakers(request: &str) -> (&'static Speaker, &'static Speaker) {
    let path = request.split(' ').nth(1).expect("a path").trim_start_matches('/');
    let words: Vec<&str> = path.split('-').collect();
    let find = |word: &str| {
        let found = SPEAKERS.iter().find(|speaker| speaker.name.split('-').next() == Some(word));
        found.unwrap_or_else(|| panic!("nobody is {word} in {request}"))
    };
    (find(words[0]), find(words[2]))
}

fn conversations_are_counted(desk: &Desk, ring: &Path) {
    let sql = "SELECT concat_ws(' ', src_workload, dst_pod, dst_container, count(*)) AS line FROM flows \
               WHERE iface = 'server0' AND proto = 'tcp' GROUP BY src_workload, dst_pod, dst_container";
    let seen: Vec<String> =
        desk.rows(ring, sql).iter().map(|row| row["line"].as_str().expect("text").to_owned()).collect();
    let told = CONNECTIONS.iter().flat_map(|(client, number)| {
        ["web-app", "side"].map(|container| format!("{client} web-1 {container} {number}"))
    });
    assert_same("conversations", &told.collect::<Vec<String>>(), &seen);
    let states = desk.rows(
        ring,
        "SELECT state, why, process, sum(captured) > 0 AS some FROM tls_coverage WHERE library IS NULL GROUP BY 1, 2, 3",
    );
    assert!(matches!(&states[..], [only] if only["state"] == "ok" && only["some"] == true), "{states:?}");
}
