//! Two namespaces with a veth pair between them, and a sender that numbers its packets.
//! In: counts and rates. Out: real packets on `v1` in the second namespace. Cleaned up when dropped.

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where packets go: an address nobody has, so that no answer mixes in.
pub const NOBODY: &str = "10.99.0.9";
pub const MARKER: &[u8; 8] = b"SHARKREC";

pub struct Net {
    pub sender: String,
    pub receiver: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Net {
    /// None, with the reason printed, without root.
    pub fn new() -> Option<Net> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let id = format!("rec{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let net = Net { sender: format!("{id}a"), receiver: format!("{id}b") };
        let (a, b) = (&net.sender, &net.receiver);
        ip(&format!("netns add {a}"));
        ip(&format!("netns add {b}"));
        for pair in ["v", "w"] {
            ip(&format!("link add {pair}0 netns {a} type veth peer name {pair}1 netns {b}"));
        }
        ip(&format!("-n {a} addr add 10.99.0.1/24 dev v0"));
        ip(&format!("-n {a} addr add 10.98.0.1/24 dev w0"));
        for (side, number) in [(a, 0), (b, 1)] {
            // No IPv6, so that nothing but what a test sends is on the wire.
            let quiet = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done";
            run("ip", &["netns", "exec", side, "sh", "-c", quiet]);
            for device in ["lo".to_owned(), format!("v{number}"), format!("w{number}")] {
                ip(&format!("-n {side} link set {device} up"));
            }
        }
        ip(&format!("-n {a} neigh add {NOBODY} lladdr 02:00:00:00:00:99 dev v0"));
        ip(&format!("-n {a} neigh add 10.98.0.9 lladdr 02:00:00:00:00:98 dev w0"));
        Some(net)
    }

    /// Runs `work` on a thread that lives in the sender's namespace.
    pub fn in_sender<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.sender);
        thread::spawn(move || {
            let namespace = File::open(path).expect("namespace exists");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            work()
        })
    }

    /// Sends numbers `first..first + count` in packets of `size` payload bytes, `rate` a second; 0 is as fast as it goes.
    /// Gives the number of packets that the kernel took.
    pub fn send(&self, first: u64, count: u64, size: usize, rate: u64) -> thread::JoinHandle<u64> {
        self.in_sender(move || send_numbers(&format!("{NOBODY}:4000"), first, count, size, rate))
    }

    /// A frame as it is, on `v0`.
    pub fn send_frame(&self, frame: Vec<u8>) {
        self.in_sender(move || {
            let mut socket = afpacket::sync::RawPacketStream::new().expect("packet socket");
            socket.bind("v0").expect("bind");
            assert_eq!(socket.write(&frame).expect("send"), frame.len());
        })
        .join()
        .expect("sender");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.sender));
        ip(&format!("netns del {}", self.receiver));
    }
}

pub fn send_numbers(to: &str, first: u64, count: u64, size: usize, rate: u64) -> u64 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.connect(to).expect("connect");
    let mut payload = noise(size.max(16));
    payload[..8].copy_from_slice(MARKER);
    let start = Instant::now();
    let mut taken = 0;
    for number in first..first + count {
        payload[8..16].copy_from_slice(&number.to_be_bytes());
        taken += u64::from(socket.send(&payload).is_ok());
        if rate > 0 && number % 16 == 0 {
            let due = Duration::from_secs_f64((number - first) as f64 / rate as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    taken
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

pub fn ip(arguments: &str) {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
