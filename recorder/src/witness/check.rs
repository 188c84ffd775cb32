//! Whether processes, sockets and cgroups can be told here: a process is started, a connection made, and their events looked for.
//! In: nothing. Out: for each feature nothing, or why not. It touches nothing but loopback and a child of its own.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use shark_bpf::processes::{self, Processes};
use shark_bpf::sockets::{self, Sockets};

use super::cgroup::{Groups, Membership};

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A short-lived child must be seen from its start to its exit.
pub fn processes() -> anyhow::Result<()> {
    let mut told = Processes::start().map_err(|reason| anyhow::anyhow!("{reason}"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg("--version")
        .stdout(Stdio::null())
        .spawn()
        .context("no process can be started")?;
    child.wait()?;
    let (mut executed, mut exited) = (false, false);
    let asked = Instant::now();
    while !(executed && exited) && asked.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
        told.drain(|event| {
            executed |= event.pid == child.id() && matches!(event.kind, processes::Kind::Executed { .. });
            exited |= event.pid == child.id() && matches!(event.kind, processes::Kind::Exited(0));
        });
    }
    ensure!(executed, "the start of process {} was not seen", child.id());
    ensure!(exited, "the exit of process {} was not seen", child.id());
    Ok(())
}

/// A connection over loopback must be seen at both ends, with this process.
pub fn sockets() -> anyhow::Result<()> {
    connection().map(drop)
}

/// The kernel's number of this process's cgroup must lead to the path that /proc has.
pub fn cgroups() -> anyhow::Result<()> {
    let event = connection()?;
    let text = std::fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    let Some(ours) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
        bail!(
            "there is no cgroup version 2: containers are known by process only ({})",
            Membership::of_process(&text).path
        );
    };
    let mut groups = Groups::new();
    let found = groups.path(event.cgroup_id);
    // A cgroup namespace shows a part of the path.
    ensure!(
        found.is_some_and(|path| path.ends_with(ours) || ours == "/"),
        "cgroup {} of a socket is {} below /sys/fs/cgroup, /proc/self/cgroup says {ours}",
        event.cgroup_id,
        found.unwrap_or("nowhere")
    );
    Ok(())
}

fn connection() -> anyhow::Result<sockets::Event> {
    let mut told = Sockets::start().map_err(|reason| anyhow::anyhow!("{reason}"))?;
    let listener = TcpListener::bind("127.0.0.1:0").context("loopback is down?")?;
    let there = listener.local_addr()?;
    let client = TcpStream::connect(there)?;
    let here = client.local_addr()?;
    let (server, _) = listener.accept()?;
    drop((client, server));
    let pid = Some(std::process::id());
    let (mut connected, mut accepted) = (None, false);
    let asked = Instant::now();
    while !(connected.is_some() && accepted) && asked.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
        told.drain(|event| {
            accepted |= event.kind == sockets::Kind::Accepted && event.peer.1 == here.port();
            let is_ours = event.local.1 == here.port() && event.peer.1 == there.port() && event.pid == pid;
            if is_ours && connected.is_none() {
                connected = Some(event);
            }
        });
    }
    ensure!(accepted, "an accepted connection was not seen");
    connected.context("a connection was not seen together with its process")
}
