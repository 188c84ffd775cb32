//! Plaintext of real programs: curl, Python and a C program against nginx over loopback, held against nginx's own log; tshark
//! reads it, the packets have none of it, and what cannot be read or was lost is said.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shark_schema::identity::{EventsLost, Fact, Feature, LossCause, OffCause};
use shark_schema::segment::flags;
use tempfile::TempDir;

use crate::net::{Net, run};
use crate::nginx::Nginx;
use crate::process::{PROGRAM, Recorder, sharkrec_ok};
use crate::reading::{Recorded, bytes, disk_bytes, evicted, facts, names, packets, sidecars, totals};
use crate::snapshot::{folder, verify};
use crate::tls_programs::{
    PORT, PYTHON_CLIENT, PYTHON_LARGE, PYTHON_LIBRARY, PYTHON_MEMORY, PYTHON_WAITING, SECRET, nginx,
    static_program,
};

/// Plaintext is heard of the whole machine: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn requests_are_as_nginx_logged_them_and_only_among_the_plaintext() {
    let Some(Scene { net, _alone, dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    for number in 0..6 {
        for version in ["1.2", "1.3"] {
            let url = format!("https://127.0.0.1:{PORT}/curl-{version}-{number}");
            let said = in_net(&net, "curl", &["-sk", "--tls-max", version, &url]);
            assert!(said.starts_with(SECRET), "{said}");
        }
    }
    in_net(&net, "python3", &["-c", PYTHON_CLIENT, &PORT.to_string()]);
    thread::sleep(Duration::from_millis(300));
    let status = sharkrec_ok(&["status", "--ring", ring.to_str().unwrap(), "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tls"]["segments"], 1, "{status}");
    let to = dir.path().join("to");
    let url = sharkrec_ok(&[
        "snapshot",
        "--ring",
        ring.to_str().unwrap(),
        "--since",
        "1m",
        "--to",
        to.to_str().unwrap(),
    ]);
    recorder.stop();
    let logged = nginx.end();
    assert_eq!(logged.len(), 12 + 11);

    let folder = folder(&url);
    verify(&folder);
    let node = fs::read_dir(folder.join("nodes")).unwrap().next().unwrap().unwrap().path();
    for tls in [ring.join("tls"), node.join("tls")] {
        assert_eq!(totals(&tls).lost(), 0);
        let [segment] = &names(&tls)[..] else { panic!("one segment in {}", tls.display()) };
        assert_eq!(segment.worker, 99);
        let segment = tls.join(segment.to_string());
        assert_eq!(requests(&segment, &interface(&net)), logged);
        let follow = run("tshark", &["-r", segment.to_str().unwrap(), "-q", "-z", "follow,tcp,ascii,0"]);
        assert!(follow.contains("GET /curl-1.2-0 HTTP/1.1") && follow.contains(SECRET), "{follow}");
    }
    assert_eq!(fs::metadata(ring.join("tls")).unwrap().permissions().mode() & 0o777, 0o700);
    let wire = ring.join("segments");
    assert!(totals(&wire).written > 100);
    for name in names(&wire) {
        let raw = bytes(&wire, name);
        for text in [SECRET, "GET /", "HTTP/1.1"] {
            assert!(!raw.windows(text.len()).any(|window| window == text.as_bytes()), "{text} in {name}");
        }
    }
    let tls = feature(&ring, "tls");
    assert!(tls.on && tls.cause.is_none(), "{tls:?}");
}

#[test]
fn bytes_and_times_of_both_ends_agree() {
    let Some(Scene { net, _alone, dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    // More in one call than is copied; nginx reads it in small parts.
    in_net(&net, "python3", &["-c", PYTHON_LARGE, &PORT.to_string(), "1", "600000"]);
    // Without a socket in the call: Python's own way between memory and socket.
    in_net(&net, "python3", &["-c", PYTHON_MEMORY, &PORT.to_string()]);
    thread::sleep(Duration::from_millis(300));
    // A snapshot has what was lost until then, whenever the next regular report is.
    let to = dir.path().join("to");
    let arguments = ["--since", "1h", "--to", to.to_str().unwrap()];
    sharkrec_ok(&[&["snapshot", "--ring", ring.to_str().unwrap()], &arguments[..]].concat());
    let nodes = fs::read_dir(&to).unwrap().next().unwrap().unwrap().path().join("nodes");
    let node = fs::read_dir(nodes).unwrap().next().unwrap().unwrap().path();
    let told = lost(&node);
    for cause in [LossCause::Cut, LossCause::Unplaced] {
        assert!(told.iter().any(|of| of.cause == Some(cause)), "{cause:?}: {told:?}");
    }
    recorder.stop();
    let logged = nginx.end();
    assert_eq!(logged, ["GET /memory", "POST /large"]);
    let recorded = plaintext(&ring, &net);
    let (sent, received) = (to_server(&recorded, flags::OUTBOUND), to_server(&recorded, flags::INBOUND));
    // All of the second request, and of the first what the server read, is there.
    let bytes_of = |all: &[&Recorded]| all.iter().map(|packet| payload(packet).len()).sum::<usize>();
    let heads =
        |all: &[&Recorded]| all.iter().filter(|packet| payload(packet).starts_with(b"POST /large")).count();
    assert_eq!((heads(&sent), heads(&received)), (1, 1));
    assert!(bytes_of(&received) > 600_100, "{}", bytes_of(&received));
    let sequence = |packet: &Recorded| u32::from_be_bytes(packet.data[38..42].try_into().unwrap());
    let body = sent.iter().find(|packet| payload(packet).len() == 8192).unwrap();
    let copied: usize = sent.iter().filter(|p| sequence(p) >= sequence(body)).map(|p| payload(p).len()).sum();
    assert_eq!(copied, 256 << 10);
    // An end is told when the library's state is freed, which may be after the socket was closed and the peer knew.
    for packet in sent.iter().filter(|packet| !payload(packet).is_empty()) {
        let at = sequence(packet);
        let same = received.iter().find(|other| sequence(other) == at && port(other) == port(packet));
        assert!(same.is_none_or(|other| other.ts_ns >= packet.ts_ns), "read before it was written");
    }
    let lost = lost(&ring);
    let cut = lost.iter().find(|of| of.cause == Some(LossCause::Cut)).expect("a cut");
    assert_eq!(cut.events, 1);
    assert!(cut.why.ends_with(&format!(": {} bytes", 600_000 - (256 << 10))), "{cut:?}");
    let unplaced = lost.iter().find(|of| of.cause == Some(LossCause::Unplaced)).expect("memory");
    assert!(unplaced.events >= 1, "{unplaced:?}");
}

#[test]
fn what_the_ring_of_events_has_no_room_for_is_a_gap_and_counted() {
    let Some(Scene { net, _alone, dir: _dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    recorder.signal(Signal::STOP);
    let (count, size) = (200, 100_000usize);
    in_net(&net, "python3", &["-c", PYTHON_LARGE, &PORT.to_string(), &count.to_string(), &size.to_string()]);
    recorder.signal(Signal::CONT);
    // Until the ring is empty again; what comes then is whole.
    thread::sleep(Duration::from_secs(3));
    in_net(&net, "curl", &["-sk", &format!("https://127.0.0.1:{PORT}/after")]);
    recorder.stop();
    nginx.end();
    let recorded = plaintext(&ring, &net);
    assert!(recorded.iter().any(|packet| payload(packet).starts_with(b"GET /after")));
    let counters = totals(&ring.join("tls"));
    assert!(counters.kernel_dropped > 0, "{counters:?}");
    let got: usize = to_server(&recorded, flags::OUTBOUND).iter().map(|packet| payload(packet).len()).sum();
    let missing = (count * size).saturating_sub(got);
    assert!(missing > 0);
    let lost = lost(&ring);
    let full = lost.iter().find(|of| of.cause == Some(LossCause::RingFull)).expect("a loss");
    let said: usize = full.why.split(' ').rev().nth(1).unwrap().parse().unwrap();
    // What the writer had no room for is counted beside, with its headers.
    let overload = counters.overload_bytes as usize;
    assert!(said + overload >= missing, "{missing} bytes are missing, {overload}, {full:?}");
    assert!(full.events >= counters.kernel_dropped, "{full:?} {counters:?}");
}

#[test]
fn a_static_library_is_read_by_its_symbols_or_said_to_be_unreadable() {
    let Some(Scene { net, _alone, dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    let Some(program) = static_program(dir.path()) else { return };
    let stripped = dir.path().join("stripped");
    run("strip", &["-o", stripped.to_str().unwrap(), program.to_str().unwrap()]);
    for (program, cause) in [(&program, None), (&stripped, Some(OffCause::Unreadable))] {
        let mut child = spawn(
            &net,
            program.to_str().unwrap(),
            &[&PORT.to_string(), program.file_name().unwrap().to_str().unwrap()],
        );
        let told = wait_for_library(&ring, program.to_str().unwrap());
        assert_eq!((told.on, told.cause), (cause.is_none(), cause), "{told:?}");
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert!(child.wait().unwrap().success());
    }
    thread::sleep(Duration::from_millis(200));
    recorder.stop();
    assert_eq!(nginx.end(), ["GET /program", "GET /stripped"]);
    let recorded = plaintext(&ring, &net);
    let sent: Vec<_> =
        to_server(&recorded, flags::OUTBOUND).into_iter().filter(|p| !payload(p).is_empty()).collect();
    assert_eq!(sent.len(), 1);
    assert!(payload(sent[0]).starts_with(b"GET /program "));
    let told = feature(&ring, &format!("tls_library {}", stripped.display()));
    assert_eq!((told.on, told.cause), (false, Some(OffCause::Unreadable)), "{told:?}");
    assert!(told.why.starts_with("statically linked OpenSSL: it has no symbol SSL_"), "{told:?}");
}

#[test]
fn libraries_of_other_mounts_are_read_and_those_that_are_not_openssl_are_named() {
    let Some(Scene { net, _alone, dir, ring, nginx, recorder }) = Scene::start(&[]) else { return };
    let known = wait_for_library(&ring, "libssl");
    assert!(known.on, "{known:?}");
    // As in a container: the library lies where only this process sees it.
    let mount = dir.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let library = run("python3", &["-c", PYTHON_LIBRARY]);
    let inside = "mount -t tmpfs none $0 && cp $1 $0/ && LD_LIBRARY_PATH=$0 exec python3 -c \"$2\" $3";
    let port = PORT.to_string();
    let arguments = [mount.to_str().unwrap(), library.trim(), PYTHON_WAITING, &port];
    let mut child = spawn(&net, "unshare", &[&["-m", "sh", "-c", inside][..], &arguments].concat());
    let told = wait_for_library(&ring, mount.to_str().unwrap());
    assert!(told.on, "{told:?}");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
    let other = "import ctypes, sys; ctypes.CDLL('libgnutls.so.30'); sys.stdin.readline()";
    let mut child = spawn(&net, "python3", &["-c", other]);
    let told = wait_for_library(&ring, "libgnutls.so");
    assert_eq!((told.on, told.cause), (false, Some(OffCause::Unreadable)), "{told:?}");
    assert!(told.why.starts_with("GnuTLS is not OpenSSL"), "{told:?}");
    let status = sharkrec_ok(&["status", "--ring", ring.to_str().unwrap()]);
    assert!(status.contains(": plaintext cannot be read: GnuTLS is not OpenSSL; first seen in"), "{status}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    thread::sleep(Duration::from_millis(200));
    recorder.stop();
    assert_eq!(nginx.end(), ["GET /waiting"]);
    let recorded = plaintext(&ring, &net);
    for direction in [flags::OUTBOUND, flags::INBOUND] {
        let heads = to_server(&recorded, direction);
        assert_eq!(heads.iter().filter(|packet| payload(packet).starts_with(b"GET /waiting")).count(), 1);
    }
}

#[test]
fn plaintext_keeps_to_its_budget_and_survives_a_kill() {
    let options = ["--tls-size", "1MiB", "--compression", "none", "--ring-size", "32MiB"];
    let Some(Scene { net, _alone, dir: _dir, ring, nginx, recorder }) = Scene::start(&options) else {
        return;
    };
    let mut most = 0;
    for _ in 0..4 {
        in_net(&net, "python3", &["-c", PYTHON_LARGE, &PORT.to_string(), "10", "100000"]);
        most = most.max(disk_bytes(&ring.join("tls")));
    }
    assert!((200_000..=1 << 20).contains(&most), "{most}");
    in_net(&net, "curl", &["-sk", &format!("https://127.0.0.1:{PORT}/before-the-kill")]);
    // What is flushed every 500 ms and written is there after a kill.
    thread::sleep(Duration::from_millis(1_100));
    recorder.kill();
    assert!(names(&ring.join("tls")).iter().any(|name| name.open));
    let recorder = Recorder::start_bare(&net, &ring, &[&RECORDED[..], &options].concat());
    wait_for_library(&ring, "libssl");
    in_net(&net, "curl", &["-sk", &format!("https://127.0.0.1:{PORT}/after-the-kill")]);
    thread::sleep(Duration::from_millis(100));
    recorder.stop();
    nginx.end();
    let tls = ring.join("tls");
    assert!(names(&tls).iter().all(|name| !name.open));
    totals(&tls);
    assert!(disk_bytes(&tls) <= 1 << 20);
    let all = packets(&tls);
    for path in ["GET /before-the-kill", "GET /after-the-kill"] {
        assert!(all.iter().any(|packet| payload(packet).starts_with(path.as_bytes())), "{path}");
    }
    assert!(evicted(&ring.join("log")).iter().any(|of| of.worker == 99), "it was ten times its budget");
}

#[test]
fn without_the_right_packets_are_recorded_and_plaintext_is_said_to_be_missing() {
    let Some((net, _alone)) = alone() else { return };
    for dropped in ["-bpf,-perfmon,-sys_admin", "-sys_admin"] {
        let dir = tempfile::tempdir().unwrap();
        let ring = dir.path().join("ring");
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", net.receiver))
            .args([
                "setpriv",
                &format!("--bounding-set={dropped}"),
                PROGRAM,
                "record",
                "--iface",
                "v1",
                "--tls",
            ])
            .arg("--ring")
            .arg(&ring)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !ring.join("control.sock").exists() {
            assert!(Instant::now() < end, "the recorder did not start");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(net.send(0, 50, 100, 0).join().unwrap(), 50);
        thread::sleep(Duration::from_millis(300));
        kill_process(Pid::from_child(&child), Signal::TERM).expect("signal");
        assert!(child.wait().unwrap().success());
        let tls = feature(&ring, "tls");
        assert_eq!((tls.on, tls.cause), (false, Some(OffCause::Refused)), "{dropped}: {tls:?}");
        assert!(tls.why.contains("not permitted") && tls.why.contains("CAP_SYS_ADMIN"), "{dropped}: {tls:?}");
        // What is said of features before a start is of another recorder.
        let facts = facts(&ring.join("log"));
        let at = |wanted: fn(&Fact) -> bool| facts.iter().position(|record| wanted(&record.fact));
        let started = at(|fact| matches!(fact, Fact::Start(_)));
        assert!(started < at(|fact| matches!(fact, Fact::Feature(of) if of.name == "tls")), "{facts:?}");
        assert_eq!(totals(&ring.join("segments")).written, 50);
    }
}

/// What is recorded of a scene.
const RECORDED: [&str; 3] = ["--iface", "lo", "--tls"];

/// nginx with TLS, and a recorder that reads its library. What is named first goes last.
pub struct Scene {
    pub net: Net,
    pub _alone: MutexGuard<'static, ()>,
    pub dir: TempDir,
    pub ring: PathBuf,
    pub nginx: Nginx,
    pub recorder: Recorder,
}

impl Scene {
    pub fn start(more: &[&str]) -> Option<Scene> {
        let (net, _alone) = alone()?;
        let dir = tempfile::tempdir().unwrap();
        let ring = dir.path().join("ring");
        let nginx = nginx(&net);
        let recorder = Recorder::start_bare(&net, &ring, &[&RECORDED[..], more].concat());
        wait_for_library(&ring, "libssl");
        Some(Scene { net, _alone, dir, ring, nginx, recorder })
    }
}

fn alone() -> Option<(Net, MutexGuard<'static, ()>)> {
    let guard = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    Net::new().map(|net| (net, guard))
}

pub fn spawn(net: &Net, program: &str, arguments: &[&str]) -> Child {
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", net.receiver))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn in_net(net: &Net, program: &str, arguments: &[&str]) -> String {
    let namespace = format!("--net=/run/netns/{}", net.receiver);
    run("nsenter", &[&[&namespace, program][..], arguments].concat())
}

/// What `status` says of a library, once it says something.
pub fn wait_for_library(ring: &Path, part: &str) -> Feature {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let status = sharkrec_ok(&["status", "--ring", ring.to_str().unwrap(), "--format", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let libraries = status["tls"]["libraries"].as_array().cloned().unwrap_or_default();
        let found = libraries.iter().find(|of| of["name"].as_str().is_some_and(|name| name.contains(part)));
        if let Some(found) = found {
            return serde_json::from_value(found.clone()).unwrap();
        }
        assert!(Instant::now() < end, "no {part} in {status}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// What the log last says of one.
fn feature(ring: &Path, start: &str) -> Feature {
    let mut features = facts(&ring.join("log")).into_iter().filter_map(|record| match record.fact {
        Fact::Feature(of) => (of.name == start || of.name.starts_with(&format!("{start} "))).then_some(of),
        _ => None,
    });
    features.next_back().unwrap_or_else(|| panic!("no fact of {start}"))
}

pub fn lost(ring: &Path) -> Vec<EventsLost> {
    let of_tls = facts(&ring.join("log")).into_iter().filter_map(|record| match record.fact {
        Fact::EventsLost(lost) if lost.feature == "tls" => Some(lost),
        _ => None,
    });
    of_tls.collect()
}

/// As tshark reads them, without the copies of the other end; sorted.
fn requests(segment: &Path, interface: &str) -> Vec<String> {
    let filter = format!("http.request && frame.interface_name == \"{interface}\"");
    let fields =
        ["-T", "fields", "-E", "separator=/s", "-e", "http.request.method", "-e", "http.request.uri"];
    let text = run("tshark", &[&["-r", segment.to_str().unwrap(), "-Y", &filter][..], &fields].concat());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Of the namespace of a test: its interface bears the number that the kernel gave it.
fn interface(net: &Net) -> String {
    let namespace = fs::metadata(format!("/run/netns/{}", net.receiver)).unwrap();
    format!("tls-{}", namespace.ino())
}

pub fn plaintext(ring: &Path, net: &Net) -> Vec<Recorded> {
    let name = interface(net);
    let interfaces = sidecars(&ring.join("tls")).into_iter().flat_map(|sidecar| sidecar.interfaces);
    let id = interfaces.into_iter().find(|of| of.name == name).expect("its interface").id;
    let mut all = packets(&ring.join("tls"));
    all.retain(|packet| packet.interface == id);
    all
}

/// Packets to the server as one of the ends saw them.
pub fn to_server(packets: &[Recorded], direction: u32) -> Vec<&Recorded> {
    let is_to = |packet: &&Recorded| {
        packet.data[36..38] == PORT.to_be_bytes() && packet.flags & flags::DIRECTION_MASK == direction
    };
    packets.iter().filter(is_to).collect()
}

fn port(packet: &Recorded) -> u16 {
    u16::from_be_bytes([packet.data[34], packet.data[35]])
}

/// Behind Ethernet, IPv4 and TCP without options.
pub fn payload(packet: &Recorded) -> &[u8] {
    packet.data.get(54..).unwrap_or_default()
}
