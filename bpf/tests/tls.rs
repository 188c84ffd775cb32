//! What Python says to itself over TLS through OpenSSL, as the probes hear it, by fresh objects and by prebuilt ones, and where
//! they cannot. Real sockets over loopback; needs root, Python and openssl, otherwise it says that it skips.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use shark_bpf::Reason;
use shark_bpf::tls::{AttachError, Connection, Kind, Losses, Plaintext, Probes, start, start_object};

static PREBUILT: &[u8] = aya::include_bytes_aligned!("../prebuilt/tls.bpf.o");

type Start = fn() -> Result<(Probes, Plaintext), Reason>;
const STARTS: [Start; 2] = [start, || start_object(PREBUILT)];

/// A server and a client, both of which print the client's port; the library's path comes first.
const PYTHON: &str = r#"
import os, socket, ssl, sys, threading
def library():
    return next(line.split()[-1] for line in open("/proc/self/maps") if "libssl" in line and "r-xp" in line)
if len(sys.argv) == 1:
    print(library()); sys.exit()
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
client = ssl._create_unverified_context()
listener = socket.create_server((sys.argv[2], 0), family=socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET)
def serve():
    s = server.wrap_socket(listener.accept()[0], server_side=True)
    asked = s.recv(100)
    s.sendall(b"answer to " + asked)
    s.sendall(b"z" * 20000)
    s.recv(100)
thread = threading.Thread(target=serve)
thread.start()
c = client.wrap_socket(socket.create_connection(listener.getsockname()[:2]))
print(os.getpid(), c.getsockname()[1], listener.getsockname()[1])
c.sendall(b"question")
got = b""
while len(got) < 20018:
    got += c.recv(4096)
c.close()
thread.join()
"#;

#[derive(Debug)]
struct Heard {
    kind: Kind,
    offset: u64,
    other: u64,
    flags: (bool, bool, bool),
    connection: Connection,
    at_ns: u64,
    data: Vec<u8>,
}

#[test]
fn both_ends_of_a_connection_say_the_same() {
    for start in STARTS {
        let Some(ready) = ready("both", start) else { return };
        both_ends_say_the_same(ready);
    }
}

fn both_ends_say_the_same(((mut probes, mut told), library, dir): Ready) {
    let attached = probes.attach(&library).expect("OpenSSL has these functions");
    for address in ["127.0.0.1", "::1"] {
        let said = python(&[dir.to_str().expect("text"), address]);
        let numbers: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [pid, client, server] = numbers[..] else { panic!("{said}") };
        let mut heard = Vec::new();
        told.drain(|event| {
            if event.pid == pid {
                heard.push(Heard {
                    kind: event.kind,
                    offset: event.offset,
                    other: event.other,
                    flags: (event.begun, event.first, event.client),
                    connection: event.connection,
                    at_ns: event.at_boottime_ns,
                    data: event.data.to_vec(),
                });
            }
        });
        let of = |port: u32, kind: Kind| -> Vec<&Heard> {
            heard.iter().filter(|h| u32::from(h.connection.local.1) == port && h.kind == kind).collect()
        };
        let whole = |all: &[&Heard]| -> Vec<u8> {
            let mut at = 0;
            all.iter()
                .flat_map(|h| {
                    assert_eq!(h.offset, at, "{h:?}");
                    at += h.data.len() as u64;
                    h.data.clone()
                })
                .collect()
        };
        let (question, asked) = (of(client, Kind::Sent), of(server, Kind::Received));
        assert_eq!((whole(&question), whole(&asked)), (b"question".to_vec(), b"question".to_vec()));
        assert_eq!((question[0].flags, asked[0].flags), ((true, true, true), (true, true, false)));
        assert!(question[0].at_ns <= asked[0].at_ns);
        let (answer, got) = (whole(&of(server, Kind::Sent)), whole(&of(client, Kind::Received)));
        assert!(answer.starts_with(b"answer to question") && answer.len() == 20_018, "{}", answer.len());
        assert_eq!(answer, got);
        assert!(of(server, Kind::Sent).iter().all(|h| h.other == 8 && !h.flags.1));
        assert_eq!((of(client, Kind::EndedHere).len(), of(server, Kind::EndedHere).len()), (1, 1));
        let cookies: std::collections::HashSet<u64> = heard.iter().map(|h| h.connection.cookie).collect();
        assert_eq!(cookies.len(), 2, "two sockets");
        for h in &heard {
            let (ip, here) = (address.parse().expect("an address"), u32::from(h.connection.local.1));
            assert_eq!((h.connection.local.0, h.connection.peer.0), (ip, ip));
            assert_eq!(u32::from(h.connection.peer.1), if here == client { server } else { client });
        }
    }
    drop(attached);
    python(&[dir.to_str().expect("text"), "127.0.0.1"]);
    let mut later = 0;
    told.drain(|event| later += usize::from(event.data == b"question"));
    assert_eq!(later, 0, "it was let go");
    let Losses { bytes, cut_bytes, .. } = told.losses();
    assert_eq!((bytes, cut_bytes), (0, 0));
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn a_file_without_the_functions_says_which() {
    for start in STARTS {
        let Some(((mut probes, _told), _, dir)) = ready("missing", start) else { return };
        let other = File::open("/proc/self/exe").expect("this program");
        let error = probes.attach(&other).expect_err("no OpenSSL");
        assert!(matches!(error, AttachError::Missing("SSL_free")), "{error}");
        let _ = fs::remove_dir_all(dir);
    }
}

type Ready = ((Probes, Plaintext), File, PathBuf);

/// With Python's library and a certificate's folder; None, with the reason printed, where something is missing.
fn ready(name: &str, start: Start) -> Option<Ready> {
    let dir = std::env::temp_dir().join(format!("shark-bpf-tls-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=localhost", "-days", "2"])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        println!("skipped: no openssl program");
        return None;
    }
    let tls = match start() {
        Ok(started) => started,
        Err(reason) if !nix::unistd::geteuid().is_root() => {
            println!("skipped: {reason}");
            return None;
        }
        Err(reason) => panic!("{reason}"),
    };
    let library = File::open(python(&[]).trim()).expect("the library Python runs");
    Some((tls, library, dir))
}

fn python(arguments: &[&str]) -> String {
    let output = Command::new("python3").args(["-c", PYTHON]).args(arguments).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
