//! nginx as a process: before a store it turns one store's words into another's, or refuses what a policy would; with TLS it is what
//! clients talk to. In: its configuration. Out: the requests that it logged.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Killed when dropped.
pub struct Nginx {
    child: Child,
    /// With its log.
    dir: TempDir,
    pub port: u16,
}

impl Nginx {
    /// Before a store. None, with the reason printed, where it is not installed. `servers` gives what stands in `http` for a free
    /// port.
    pub fn start(servers: impl FnOnce(u16) -> String) -> Option<Nginx> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            println!("skipped: no nginx");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let format = "$request_method $http_x_goog_if_generation_match $uri";
        let dir = tempfile::tempdir().unwrap();
        Some(Nginx::start_as(Command::new("nginx"), dir, port, format, &servers(port)))
    }

    /// By a command that ends in the program, and executes it itself. `servers` may name files of the folder.
    pub fn start_as(mut command: Command, dir: TempDir, port: u16, format: &str, servers: &str) -> Nginx {
        let place = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|what| format!("{what}_temp_path {place}/{what};\n"))
            .collect();
        let configuration = format!(
            "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log; events {{ }}
             http {{ log_format said '{format}'; access_log {place}/access.log said;
             client_max_body_size 0; {temporary} {servers} }}"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let child = command.arg("-c").arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Nginx { child, dir, port };
        // It listens before it writes that.
        let end = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(nginx.dir.path().join("pid")).map_or(true, |pid| pid.is_empty()) {
            assert!(Instant::now() < end, "nginx did not start");
            thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// In the order of its log.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    /// Ends it in order; gives the requests of its log, sorted.
    pub fn end(mut self) -> Vec<String> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, Signal::QUIT).expect("it is there");
        self.child.wait().unwrap();
        let mut lines = self.requests();
        lines.sort();
        lines
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
