//! Whether plaintext of TLS can be heard here: a program that uses OpenSSL says a sentence to itself, and both ends must be heard; the
//! memory maps of processes that are not ours must be readable, and the kernel must tell of new mappings. In: nothing. Out: nothing, or
//! why not and what would help. It touches loopback and children of its own, and ends within seconds.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use shark_bpf::mappings::{Event, Mappings};
use shark_bpf::tls::{Kind, Plaintext, Probes};

use super::mapped::{INIT, Mapped};
use crate::time::now_ns;

/// How long a program may take until it listens, and a sentence to be heard.
const PATIENCE: Duration = Duration::from_secs(2);

/// A program that is both ends: its server prints `ACCEPT ADDRESS:PORT`, its client gets that as its last argument, and
/// says what it reads. None needs a certificate.
struct Talker {
    program: &'static str,
    server: &'static [&'static str],
    client: &'static [&'static str],
}

const KEY: &str = "0123456789abcdef";

const TALKERS: [Talker; 2] = [
    Talker {
        program: "openssl",
        server: &["s_server", "-nocert", "-psk", KEY, "-accept", "127.0.0.1:0"],
        client: &["s_client", "-psk", KEY, "-quiet", "-connect"],
    },
    Talker { program: "python3", server: &["-c", PYTHON, "server"], client: &["-c", PYTHON, "client"] },
];

/// Without a certificate there are ciphers up to TLS 1.2 only.
const PYTHON: &str = r#"
import socket, ssl, sys
is_server = sys.argv[1] == "server"
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
tls.maximum_version = ssl.TLSVersion.TLSv1_2
tls.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")
if is_server:
    listener = socket.create_server(("127.0.0.1", 0))
    print("ACCEPT 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    tls.wrap_socket(listener.accept()[0], server_side=True).recv(100)
else:
    host, port = sys.argv[2].split(":")
    tls.wrap_socket(socket.create_connection((host, int(port)))).sendall(sys.stdin.readline().encode())
sys.stdin.read()
"#;

pub fn check() -> anyhow::Result<()> {
    let mut tls = shark_bpf::tls::start()
        .map_err(|reason| anyhow::anyhow!("{reason}; plaintext needs CAP_SYS_ADMIN, too"))?;
    others_are_readable()?;
    mappings_are_told()?;
    let mut failed = Vec::new();
    for talker in &TALKERS {
        match talker.try_to(&mut tls) {
            Ok(()) => return Ok(()),
            Err(error) if is_absent(&error) => {}
            Err(error) => failed.push(format!("{}: {error:#}", talker.program)),
        }
    }
    ensure!(
        failed.is_empty(),
        "functions of programs can be watched, but nothing was heard: {}",
        failed.join("; ")
    );
    bail!(
        "functions of programs can be watched, but nothing here speaks TLS through OpenSSL to try it on: where `openssl` or `python3` \
         is, this says ok or why not; `sharkrec status` lists the libraries that `record --tls` meets in running programs"
    )
}

/// A child may always be asked: what counts are the processes of others.
fn others_are_readable() -> anyhow::Result<()> {
    let entries = fs::read_dir("/proc").context("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let (mut asked, mut refused) = (0, Vec::new());
    for pid in pids.filter(|pid| *pid != std::process::id() && *pid != INIT) {
        // A process that has ended meanwhile says nothing; one without code of files, such as a thread of the kernel, is well.
        let result = Mapped::of(pid).and_then(|all| all.first().map(|mapped| mapped.open(pid)).transpose());
        asked += 1;
        if result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            refused.push(pid);
        }
    }
    let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let first = refused.first().map_or(String::new(), |pid| format!("{pid} ({})", comm(pid).trim_end()));
    ensure!(
        refused.is_empty(),
        "the memory maps of {} of {asked} processes, or the files in them, may not be read, among them those of {first}: give \
         CAP_SYS_PTRACE and CAP_SYS_ADMIN, or their plaintext is missing",
        refused.len()
    );
    Ok(())
}

/// A program that is started maps itself.
fn mappings_are_told() -> anyhow::Result<()> {
    let without = "libraries are looked for every 250 ms only, and what is shorter is missing";
    let mut mappings = Mappings::start().map_err(|reason| anyhow::anyhow!("{reason}; {without}"))?;
    let mut child = Kept(Command::new("/proc/self/exe").arg("--version").stdout(Stdio::null()).spawn()?);
    child.0.wait()?;
    let (mut is_seen, pid) = (false, child.0.id());
    mappings.drain(|event| is_seen |= matches!(event, Event::Mapped(mapping) if mapping.pid == pid));
    ensure!(is_seen, "what process {pid} mapped was not seen; {without}");
    Ok(())
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A child that does not outlive the check.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Talker {
    fn try_to(&self, (probes, told): &mut (Probes, Plaintext)) -> anyhow::Result<()> {
        let mut server = self.start(self.server, None)?;
        let stdout = server.0.stdout.take().context("no output")?;
        let address = address(stdout).context("its server does not listen")?;
        let pid = server.0.id();
        let mapped = Mapped::of(pid)?;
        let library = mapped.iter().find(|mapped| mapped.is_openssl()).context("it uses no libssl")?;
        let file = library.open(pid).with_context(|| library.path.clone())?;
        let attached = probes.attach(&file).map_err(|error| anyhow::anyhow!("{}: {error}", library.path))?;
        let result = self.say(told, pid, &address).with_context(|| library.path.clone());
        drop(attached);
        result
    }

    fn start(&self, arguments: &[&str], address: Option<&str>) -> io::Result<Kept> {
        let mut command = Command::new(self.program);
        command.args(arguments).args(address);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map(Kept)
    }

    /// Both ends must be heard, each with its process.
    fn say(&self, told: &mut Plaintext, server: u32, address: &str) -> anyhow::Result<()> {
        let mut client = self.start(self.client, Some(address))?;
        let sentence = format!("sharkrec doctor {}\n", now_ns());
        let stdin = client.0.stdin.as_mut().context("no input")?;
        stdin.write_all(sentence.as_bytes()).context("its client does not listen to us")?;
        let client = client.0.id();
        let (mut sent, mut received) = (false, false);
        let asked = Instant::now();
        while !(sent && received) && asked.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
            told.drain(|event| {
                let is_ours = event.data == sentence.as_bytes();
                sent |= is_ours && event.kind == Kind::Sent && event.pid == client;
                received |= is_ours && event.kind == Kind::Received && event.pid == server;
            });
        }
        let unplaced = told.losses().unplaced_calls;
        ensure!(unplaced == 0 || (sent && received), "{unplaced} calls were seen, but no socket of theirs");
        ensure!(sent, "what process {client} sent was not seen");
        ensure!(received, "what process {server} received was not seen");
        Ok(())
    }
}

/// Where a server says that it listens.
fn address(stdout: ChildStdout) -> Option<String> {
    let (found, told) = channel();
    thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        for line in lines {
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                // Nobody waits any longer.
                let _ = found.send(address.to_owned());
            }
        }
    });
    told.recv_timeout(PATIENCE).ok()
}
