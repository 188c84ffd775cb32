//! Programs with every way to speak TLS, against nginx: each call that nginx logged is among the plaintext of its client, or the library
//! or the process that made it is named as one whose plaintext is missing. Real programs; those that are not installed are named.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use shark_schema::identity::{EventsLost, Fact, Feature, LossCause, OffCause};
use shark_schema::segment::flags;

use crate::net::{Net, run};
use crate::process::{PROGRAM, Recorder, sharkrec_ok};
use crate::reading::facts;
use crate::tls::{Scene, in_net, lost, payload, plaintext, spawn, to_server, wait_for_library};
use crate::tls_programs::{PORT, PYTHON_LIBRARY};

/// How the calls of a program are accounted for.
enum Expected {
    /// Every call is read.
    Rows,
    /// A file of this name is said to be unreadable, with this reason.
    Unreadable(&'static str, &'static str),
    /// The process is named, whose calls have no connection.
    Unplaced,
}

struct Program {
    name: &'static str,
    command: Vec<String>,
    expected: Expected,
    /// False for one that ends after the handshake.
    calls: bool,
    /// A file that is no library by its name and may have one within that is read.
    within: Option<&'static str>,
}

const PYTHON: &str = "import http.client, ssl, sys
c = http.client.HTTPSConnection('127.0.0.1', int(sys.argv[1]), context=ssl._create_unverified_context())
c.request('GET', '/' + sys.argv[2]); c.getresponse().read()";

const PYTHON_ASYNC: &str = "import asyncio, ssl, sys
async def main():
    r, w = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]), ssl=ssl._create_unverified_context())
    w.write(b'GET /' + sys.argv[2].encode() + b' HTTP/1.0\\r\\n\\r\\n'); await r.read()
asyncio.run(main())";

const PYOPENSSL: &str = "import socket, sys
from OpenSSL import SSL
c = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), socket.create_connection(('127.0.0.1', int(sys.argv[1]))))
c.set_connect_state(); c.do_handshake()
c.sendall(b'GET /' + sys.argv[2].encode() + b' HTTP/1.0\\r\\n\\r\\n'); c.recv(1000)";

const CURL_CFFI: &str = "import sys
from curl_cffi import requests
requests.get(f'https://127.0.0.1:{sys.argv[1]}/{sys.argv[2]}', verify=False)";

/// The server is none of gRPC, and its certificate is nobody's: the library is loaded and shakes hands.
const GRPC: &str = "import grpc, sys
channel = grpc.secure_channel('127.0.0.1:' + sys.argv[1], grpc.ssl_channel_credentials())
try: grpc.channel_ready_future(channel).result(timeout=1)
except grpc.FutureTimeoutError: pass";

const NODE: &str = "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; process.removeAllListeners('warning');
require('https').get(`https://127.0.0.1:${process.argv[1]}/${process.argv[2]}`, answer => answer.resume())";

#[test]
fn every_call_is_read_or_its_program_is_named() {
    let Some(Scene { net, _alone, dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    let mut programs = programs(dir.path());
    programs.retain(|program| {
        let is_there = Command::new(&program.command[0]).arg("--version").output().is_ok();
        if !is_there {
            println!("skipped: {} is not installed", program.command[0]);
        }
        is_there
    });
    let mut pids = Vec::new();
    for program in &programs {
        // Who is the first to run a file that has a library within may be too early: that one is not counted.
        let first = program.within.map(|_| "first".to_owned());
        let counted = (0..2).map(|number| format!("{}-{number}", program.name));
        for path in first.into_iter().chain(counted) {
            let url = format!("https://127.0.0.1:{PORT}/{path}");
            let fill = |text: &String| {
                text.replace("{url}", &url).replace("{port}", &PORT.to_string()).replace("{path}", &path)
            };
            let command: Vec<String> = program.command.iter().map(fill).collect();
            let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
            let mut child = spawn(&net, &command[0], &arguments);
            pids.push((program.name, child.id()));
            drop(child.stdin.take());
            child.wait().unwrap();
            if let Some(file) = program.within.filter(|_| path == "first") {
                wait_until_examined(&ring, file);
                pids.pop();
            }
        }
    }
    // What a process did a moment ago is told of within this time.
    thread::sleep(Duration::from_millis(500));
    recorder.stop();
    let logged: BTreeSet<String> = nginx.end().into_iter().collect();
    let read = read(&ring, &net);
    let (unreadable, lost) = (unreadable(&ring), lost(&ring));
    println!("{:<16} {:>6} {:>5}  otherwise", "program", "calls", "read");
    for Program { name, expected, calls, .. } in &programs {
        let of =
            |all: &BTreeSet<String>| all.iter().filter(|path| path.contains(&format!("/{name}-"))).count();
        let (made, read) = (of(&logged), of(&read));
        let whose = |process: &str| {
            pids.iter().any(|(of, pid)| of == name && process.starts_with(&format!("{pid} (")))
        };
        let is_unplaced = |of: &&EventsLost| {
            of.cause == Some(LossCause::Unplaced) && of.process.as_deref().is_some_and(whose)
        };
        let unplaced: Vec<_> = lost.iter().filter(is_unplaced).collect();
        println!(
            "{name:<16} {made:>6} {read:>5}  {}",
            match expected {
                Expected::Rows => String::new(),
                Expected::Unreadable(file, _) => format!("{file} is unreadable"),
                Expected::Unplaced => format!(
                    "{} calls of {} processes",
                    unplaced.iter().map(|of| of.events).sum::<u64>(),
                    unplaced.len()
                ),
            }
        );
        assert_eq!(made, if *calls { 2 } else { 0 }, "{name}: {logged:?}");
        match expected {
            Expected::Rows => assert_eq!(read, made, "{name}: {lost:?}"),
            Expected::Unreadable(file, why) => {
                assert_eq!(read, 0, "{name}");
                let is_named = |of: &Feature| of.name.contains(file) && of.why.starts_with(why);
                assert!(unreadable.iter().any(is_named), "{name}: {unreadable:?}");
            }
            Expected::Unplaced => {
                assert_eq!(read, 0, "{name}");
                assert_eq!(unplaced.len(), 2, "{name}: {lost:?}");
            }
        }
    }
}

/// Node.js may also be built with the libraries of the system: then there is nothing to wait for.
fn wait_until_examined(ring: &Path, file: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    let is_named = || {
        let status = sharkrec_ok(&["status", "--ring", ring.to_str().unwrap(), "--format", "json"]);
        status.contains(file)
    };
    while Instant::now() < end && !is_named() {
        thread::sleep(Duration::from_millis(100));
    }
}

/// `{url}`, `{port}` and `{path}` are filled in for each call.
fn programs(dir: &Path) -> Vec<Program> {
    let python = "/usr/bin/python3";
    let venv = env::var("SHARK_PYTHON").unwrap_or_else(|_| "python3".into());
    let helm = env::var("SHARK_HELM").unwrap_or_else(|_| "helm".into());
    let mut all = Vec::new();
    let mut add = |name, expected, calls, command: &[&str]| {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let within = match name {
            "node" => Some("/node"),
            "pyopenssl" => Some("_rust.abi3.so"),
            "curl_cffi" => Some("_wrapper.abi3.so"),
            _ => None,
        };
        all.push(Program { name, command, expected, calls, within });
    };
    let script = |python, code| [python, "-c", code, "{port}", "{path}"];
    add("curl", Expected::Rows, true, &["curl", "-sk", "{url}"]);
    add("python", Expected::Rows, true, &script(python, PYTHON));
    add("asyncio", Expected::Unplaced, true, &script(python, PYTHON_ASYNC));
    add("node", Expected::Unplaced, true, &["node", "-e", NODE, "{port}", "{path}"]);
    add("pyopenssl", Expected::Rows, true, &script(&venv, PYOPENSSL));
    add("curl_cffi", Expected::Rows, true, &script(&venv, CURL_CFFI));
    let within = "statically linked BoringSSL: it has no symbol";
    add("grpc", Expected::Unreadable("cygrpc", within), false, &script(&venv, GRPC));
    let gnutls = Expected::Unreadable("libgnutls.so", "GnuTLS is not OpenSSL");
    add("wget", gnutls, true, &["wget", "-q", "--no-check-certificate", "-O", "/dev/null", "{url}"]);
    let java = Expected::Unreadable("libjvm.so", "Java's own TLS");
    add("java", java, false, &["keytool", "-printcert", "-sslserver", "127.0.0.1:{port}"]);
    let rustls = Expected::Unreadable(PROGRAM, "rustls is not OpenSSL");
    let doctor = format!("AWS_ENDPOINT_URL=https://127.0.0.1:{PORT}");
    let keys = ["AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=c"];
    let asks = ["env", &doctor, keys[0], keys[1], keys[2], PROGRAM, "doctor", "--to", "s3://bucket/prefix"];
    add("rustls", rustls, false, &asks);
    let go = Expected::Unreadable("helm", "Go's crypto/tls is not OpenSSL");
    let cache = dir.join("helm").display().to_string();
    let files = [format!("HELM_CACHE_HOME={cache}"), format!("HELM_CONFIG_HOME={cache}")];
    let asks = ["repo", "add", "{path}", "{url}", "--insecure-skip-tls-verify"];
    add("go", go, true, &[&["env", &files[0], &files[1], &helm][..], &asks].concat());
    all
}

/// Containers that live for a moment, each with a library of its own.
#[test]
fn who_lives_for_a_moment_is_read_or_named() {
    let Some(Scene { net, _alone, dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    let library = run("/usr/bin/python3", &["-c", PYTHON_LIBRARY]);
    // As in a container of an image that was just pulled: its programs and libraries are files that nobody has run.
    let inside = "mount -t tmpfs none $0 && cp $1 $2 $0/ && export LD_LIBRARY_PATH=$0 && p=$0/$(basename $2) && shift 2 && exec \"$p\" \"$@\"";
    let port = PORT.to_string();
    let mut made = Vec::new();
    for number in 0..24 {
        let mount = dir.path().join(format!("own-{number}"));
        fs::create_dir(&mount).unwrap();
        let path = format!("moment-{number}");
        let url = format!("https://127.0.0.1:{PORT}/{path}");
        let program = match number % 2 {
            0 => vec!["/usr/bin/curl", "-sk", &url],
            _ => vec!["/usr/bin/python3", "-c", PYTHON, &port, &path],
        };
        let arguments =
            [&["-m", "sh", "-c", inside, mount.to_str().unwrap(), library.trim()][..], &program].concat();
        let mut child = spawn(&net, "env", &[&["PYTHONHOME=/usr", "unshare"][..], &arguments].concat());
        drop(child.stdin.take());
        made.push((format!("GET /{path}"), child.id()));
        assert!(child.wait().unwrap().success(), "{path}");
    }
    thread::sleep(Duration::from_millis(300));
    recorder.stop();
    assert_eq!(nginx.end().len(), made.len());
    let (read, lost) = (read(&ring, &net), lost(&ring));
    let mut late = 0;
    for (call, pid) in &made {
        let is_named = lost.iter().any(|of| {
            let process = of.process.as_deref().unwrap_or_default();
            of.cause == Some(LossCause::Late) && process.starts_with(&format!("{pid} ("))
        });
        late += usize::from(!read.contains(call));
        assert!(read.contains(call) || is_named, "{call} of {pid} is neither: {lost:?}");
    }
    println!(
        "{} calls of processes with a library of their own, {} read, {late} named",
        made.len(),
        made.len() - late
    );
}

/// One that has every right but to look into the processes of others.
#[test]
fn processes_that_may_not_be_asked_are_said_to_be_missing() {
    let Some(Scene { net, _alone, dir: _dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    recorder.stop();
    let without = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    let mut doctor = Command::new("nsenter");
    doctor.arg(format!("--net=/run/netns/{}", net.receiver)).args(without).args([PROGRAM, "doctor"]);
    let said = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    let tls = said.lines().find(|line| line.starts_with("tls ")).unwrap();
    assert!(tls.contains("may not be read") && tls.contains("CAP_SYS_PTRACE"), "{tls}");
    let command = [&without[..], &[PROGRAM]].concat();
    let recorder = Recorder::start_as(&net, &ring, &command, &["--iface", "lo", "--tls"]);
    let told = wait_for_library(&ring, "tls_processes");
    assert_eq!((told.on, told.cause), (false, Some(OffCause::Refused)), "{told:?}");
    assert!(told.why.contains("CAP_SYS_PTRACE"), "{told:?}");
    in_net(&net, "curl", &["-sk", &format!("https://127.0.0.1:{PORT}/unseen")]);
    recorder.stop();
    assert_eq!(nginx.end(), ["GET /unseen"]);
}

/// Calls as their clients made them.
fn read(ring: &Path, net: &Net) -> BTreeSet<String> {
    let recorded = plaintext(ring, net);
    let sent = to_server(&recorded, flags::OUTBOUND);
    let head = |bytes: &[u8]| {
        let line = bytes.split(|byte| *byte == b'\r').next()?;
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    sent.into_iter().filter_map(|packet| head(payload(packet))).collect()
}

/// What was ever said to be unreadable.
fn unreadable(ring: &Path) -> Vec<Feature> {
    let features = facts(&ring.join("log")).into_iter().filter_map(|record| match record.fact {
        Fact::Feature(of) => (of.cause == Some(OffCause::Unreadable)).then_some(of),
        _ => None,
    });
    features.collect()
}
