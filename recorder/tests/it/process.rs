//! The `sharkrec` program as a process: started in a namespace, stopped by signals, asked by its own subcommands.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::net::Net;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sharkrec");

/// What CAP_SYS_ADMIN permits includes BPF.
pub const WITHOUT_BPF: [&str; 2] = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"];

/// A recorder of `v1`; killed when dropped.
pub struct Recorder {
    child: Child,
}

impl Recorder {
    pub fn start(net: &Net, ring: &Path, more: &[&str]) -> Recorder {
        let mut arguments = vec!["--iface", "v1"];
        arguments.extend(more);
        Recorder::start_bare(net, ring, &arguments)
    }

    pub fn start_bare(net: &Net, ring: &Path, arguments: &[&str]) -> Recorder {
        Recorder::start_as(net, ring, &[PROGRAM], arguments)
    }

    /// Without the right to load BPF programs.
    pub fn start_without_bpf(net: &Net, ring: &Path, arguments: &[&str]) -> Recorder {
        Recorder::start_as(net, ring, &[&WITHOUT_BPF[..], &[PROGRAM]].concat(), arguments)
    }

    /// By a command that ends in the program, and executes it itself.
    pub fn start_as(net: &Net, ring: &Path, command: &[&str], arguments: &[&str]) -> Recorder {
        let _ = std::fs::remove_file(ring.join("control.sock"));
        // nsenter and setpriv exec the program itself, so that signals reach it.
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", net.receiver))
            .args(command)
            .args(["record", "--ring"])
            .arg(ring)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("sharkrec starts");
        let recorder = Recorder { child };
        let end = Instant::now() + Duration::from_secs(10);
        while !ring.join("control.sock").exists() {
            assert!(Instant::now() < end, "the recorder did not start");
            thread::sleep(Duration::from_millis(10));
        }
        recorder
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("signal");
    }

    /// Ends it in order; gives what it said and how long it took.
    pub fn stop(self) -> (String, Duration) {
        self.stop_by(Signal::TERM)
    }

    pub fn stop_by(mut self, signal: Signal) -> (String, Duration) {
        let start = Instant::now();
        self.signal(signal);
        let status = self.child.wait().expect("it ends");
        let took = start.elapsed();
        let mut said = String::new();
        let stderr = self.child.stderr.take();
        std::io::Read::read_to_string(&mut stderr.expect("piped"), &mut said).expect("text");
        assert!(status.success(), "{said}");
        (said, took)
    }

    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("it ends");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn sharkrec(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("sharkrec runs")
}

/// Standard output of a run that must succeed.
pub fn sharkrec_ok(arguments: &[&str]) -> String {
    let output = sharkrec(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What `status` prints of a ring, which must end with this exit code.
pub fn status_with(code: i32, ring: &Path, more: &[&str]) -> String {
    let output = sharkrec(&[&["status", "--ring", ring.to_str().expect("a path")], more].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Exit code and standard error of a run that must fail, which must say so in one line.
pub fn sharkrec_fails(arguments: &[&str]) -> (i32, String) {
    let output = sharkrec(arguments);
    let error = String::from_utf8(output.stderr).expect("text");
    let own: Vec<&str> = error.lines().filter(|line| line.starts_with("sharkrec: ")).collect();
    assert_eq!(own.len(), 1, "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    let parts: Vec<&str> = own[0].split(": ").collect();
    assert!(parts.windows(2).all(|two| two[0] != two[1]), "said twice: {}", own[0]);
    (output.status.code().expect("no signal"), own[0].to_owned())
}
