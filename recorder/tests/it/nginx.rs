//! nginx as a process, before a store: it turns one store's words into another's, or refuses what a policy would.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Killed when dropped.
pub struct Nginx {
    child: Child,
    /// With `access.log`, where the configuration asks for one.
    pub dir: tempfile::TempDir,
    pub port: u16,
}

impl Nginx {
    /// None, with the reason printed, where it is not installed. `servers` gives what stands in `http` for a free port.
    pub fn start(servers: impl FnOnce(u16) -> String) -> Option<Nginx> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            println!("skipped: no nginx");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|what| format!("{what}_temp_path {place}/{what};\n"))
            .collect();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let servers = servers(port);
        let configuration = format!(
            "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log; events {{ }}
             http {{ log_format said '$request_method $http_x_goog_if_generation_match $uri';
             access_log {place}/access.log said; client_max_body_size 0; {temporary} {servers} }}"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let child = Command::new("nginx").arg("-c").arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Nginx { child, dir, port };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "nginx does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(nginx)
    }

    /// Each with its method, its condition and its path.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
