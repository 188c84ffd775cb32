//! The any-socket filter in the kernel: real packets through veth pairs in a namespace of this test's own.
//! Needs root; otherwise it says that it skips.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, recv,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use shark_bpf::Reason;
use shark_bpf::any_socket::{AnySocket, can_run};

const MARK: u32 = 0x5ec;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
static PREBUILT: &[u8] = aya::include_bytes_aligned!("../prebuilt/any_socket.bpf.o");

#[test]
fn only_listed_interfaces_are_seen_and_edits_are_live() {
    let Some(wires) = Wires::new() else { return };
    let mut filter = AnySocket::load().expect("the program loads");
    check_edits(&wires, &mut filter);
}

#[test]
fn the_prebuilt_object_behaves_alike() {
    let Some(wires) = Wires::new() else { return };
    let mut filter = AnySocket::load_object(PREBUILT).expect("the prebuilt program loads");
    check_edits(&wires, &mut filter);
    check_marks(&wires, &mut filter);
    check_connections(&wires, AnySocket::load_object(PREBUILT), "10.99.0.1", "10.99.0.2");
}

#[test]
fn packets_of_marked_sockets_are_not_seen() {
    let Some(wires) = Wires::new() else { return };
    let mut filter = AnySocket::load().expect("the program loads");
    filter.list(wires.ifindex("v0"), 4096).expect("there is room");
    filter.attach(&wires.socket).expect("a filter can be attached");
    check_marks(&wires, &mut filter);
}

#[test]
fn both_directions_of_a_marked_connection_are_not_seen_ipv4() {
    let Some(wires) = Wires::new() else { return };
    check_connections(&wires, AnySocket::load(), "10.99.0.1", "10.99.0.2");
}

#[test]
fn both_directions_of_a_marked_connection_are_not_seen_ipv6() {
    let Some(wires) = Wires::new() else { return };
    check_connections(&wires, AnySocket::load(), "fd99::1", "fd99::2");
}

fn check_connections(wires: &Wires, filter: Result<AnySocket, Reason>, near: &str, far: &str) {
    let mut filter = filter.expect("the program loads");
    filter.list(wires.ifindex("v0"), 4096).expect("there is room");
    filter.attach(&wires.socket).expect("a filter can be attached");
    let echo = wires.echo(near, far);
    ignore(&filter, 4001);
    wires.drain();
    wires.talk(&echo, Some(MARK), 4001);
    assert_eq!(wires.tcp_ports(), [], "neither what was sent nor what came back");
    let left_out = left_out_of(&filter);
    assert!(left_out > 6, "{left_out} packets of a whole connection were left out");
    wires.talk(&echo, None, 4002);
    let seen = wires.tcp_ports();
    let from = |port: u16| seen.iter().filter(|seen| **seen == port).count();
    assert!(from(4002) >= 4 && from(echo.port()) >= 3, "both directions of another connection: {seen:?}");
    // The same ends once more, by somebody else.
    wires.talk(&echo, None, 4001);
    let seen = wires.tcp_ports();
    assert!(seen.contains(&4001) && seen.contains(&echo.port()), "{seen:?}");
    assert_eq!(left_out_of(&filter), left_out);
}

#[test]
fn what_is_no_object_is_refused() {
    let broken = AnySocket::load_object(b"not an object").expect_err("that is no object");
    assert!(broken.to_string().contains("refused"), "{broken}");
}

fn check_edits(wires: &Wires, filter: &mut AnySocket) {
    filter.attach(&wires.socket).expect("a filter can be attached");
    wires.drain();
    let (v0, w0) = (wires.ifindex("v0"), wires.ifindex("w0"));
    assert_eq!(wires.send_and_see(), [], "nothing is listed yet");
    filter.list(v0, 60).expect("there is room");
    assert_eq!(wires.send_and_see(), [("v0", 60)], "one interface is listed");
    filter.list(w0, 4096).expect("there is room");
    assert_eq!(wires.send_and_see(), [("v0", 60), ("w0", HEADERS + 500)], "a second one is");
    filter.list(v0, 100).expect("there is room");
    assert_eq!(wires.send_and_see(), [("v0", 100), ("w0", HEADERS + 500)], "its length was changed");
    filter.unlist(w0);
    filter.unlist(w0);
    assert_eq!(wires.send_and_see(), [("v0", 100)], "the second one is gone");
}

fn check_marks(wires: &Wires, filter: &mut AnySocket) {
    filter.list(wires.ifindex("v0"), 4096).expect("there is room");
    wires.drain();
    let seen = [("v0", HEADERS + 500)];
    assert_eq!(wires.send_and_see_from(5001, Some(MARK)), seen, "no mark is ignored yet");
    ignore(filter, 5002);
    assert_eq!(wires.send_and_see_from(5003, Some(MARK)), seen, "the mark was given for another port");
    assert_eq!(wires.send_and_see_from(5002, Some(MARK + 1)), seen, "another mark is nobody's");
    assert_eq!(wires.send_and_see_from(5002, None), seen);
    assert_eq!(wires.send_and_see_from(5002, Some(MARK)), []);
    ignore(filter, 5004);
    filter.own_marks().lock().expect("nobody panicked").forget(MARK);
    assert_eq!(wires.send_and_see_from(5004, Some(MARK)), seen, "the mark was taken back");
}

fn ignore(filter: &AnySocket, port: u16) {
    filter.own_marks().lock().expect("nobody panicked").ignore(MARK, port).expect("there is room");
}

fn left_out_of(filter: &AnySocket) -> u64 {
    filter.own_marks().lock().expect("nobody panicked").left_out()
}

/// This thread's own network namespace with two veth pairs, and a packet socket bound to nothing. The namespace ends with the thread.
struct Wires {
    socket: OwnedFd,
}

impl Wires {
    fn new() -> Option<Wires> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces and BPF need root");
            return None;
        }
        if let Err(reason) = can_run() {
            println!("skipped: {reason}");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).expect("root makes a namespace");
        for (name, net) in [("v", "10.99.0"), ("w", "10.98.0")] {
            ip(&format!("link add {name}0 type veth peer name {name}1"));
            for end in [0, 1] {
                // Without it the kernel sends router solicitations of its own.
                ip(&format!("link set {name}{end} addrgenmode none"));
                ip(&format!("link set {name}{end} up"));
            }
            ip(&format!("addr add {net}.1/24 dev {name}0"));
            ip(&format!("neigh add {net}.9 lladdr 02:00:00:00:00:09 dev {name}0"));
        }
        let family = AddressFamily::Packet;
        let socket =
            socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).expect("packet socket");
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 200_000)).expect("time-out");
        Some(Wires { socket })
    }

    /// Moves the far end of `v0` into the namespace of a thread that sends back what it is sent, one connection at a time.
    fn echo(&self, near: &str, far: &str) -> SocketAddr {
        let far: IpAddr = far.parse().expect("an address");
        let (bits, nodad) = if far.is_ipv4() { (24, "") } else { (64, " nodad") };
        let (tell, heard) = channel();
        let (moved, arrived) = channel::<()>();
        let (address, bound) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes a namespace");
            tell.send(nix::unistd::gettid()).expect("the test waits");
            arrived.recv().expect("the wire comes");
            ip("link set v1 addrgenmode none");
            ip("link set v1 up");
            ip(&format!("addr add {far}/{bits} dev v1{nodad}"));
            let listener = TcpListener::bind((far, 0)).expect("a free port");
            address.send(listener.local_addr().expect("it is bound")).expect("the test waits");
            for mut stream in listener.incoming().flatten() {
                let mut bytes = [0; 512];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    stream.write_all(&bytes[..length]).expect("the client reads");
                }
            }
        });
        ip(&format!("link set v1 netns {}", heard.recv().expect("it started")));
        moved.send(()).expect("it waits");
        if far.is_ipv6() {
            ip(&format!("addr add {near}/64 dev v0 nodad"));
        }
        bound.recv().expect("it listens")
    }

    /// One connection from a port of ours: 100 bytes there and back, then closed from here.
    fn talk(&self, echo: &SocketAddr, mark: Option<u32>, port: u16) {
        let family = if echo.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::empty(), None).expect("a socket");
        setsockopt(&fd, sockopt::ReuseAddr, &true).expect("an option");
        // A port at once free again: no TIME_WAIT is left behind.
        setsockopt(&fd, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).expect("an option");
        if let Some(mark) = mark {
            setsockopt(&fd, sockopt::Mark, &mark).expect("root sets marks");
        }
        let any: SocketAddr =
            if echo.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
        bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).expect("the port is free");
        connect(fd.as_raw_fd(), &SockaddrStorage::from(*echo)).expect("it listens");
        let mut stream = TcpStream::from(fd);
        stream.write_all(&[7; 100]).expect("it reads");
        stream.read_exact(&mut [0; 100]).expect("it answers");
    }

    /// Source ports of the TCP packets that came to be seen.
    fn tcp_ports(&self) -> Vec<u16> {
        let (mut ports, mut bytes) = (Vec::new(), [0; 2048]);
        while let Ok(length) = recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            let at = match ([bytes[12], bytes[13]], bytes[23], bytes[20]) {
                ([0x08, 0x00], 6, _) => 34,
                ([0x86, 0xdd], _, 6) => 54,
                _ => continue,
            };
            assert!(length > at + 20);
            ports.push(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        }
        ports
    }

    fn ifindex(&self, name: &str) -> u32 {
        nix::net::if_::if_nametoindex(name).expect("the interface was made")
    }

    fn drain(&self) {
        let mut buffer = [0; 2048];
        while recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
    }

    /// Sends a datagram of 500 bytes over each wire; which came to be seen, and how much of it.
    fn send_and_see(&self) -> Vec<(&'static str, usize)> {
        self.send_and_see_from(0, None)
    }

    fn send_and_see_from(&self, port: u16, mark: Option<u32>) -> Vec<(&'static str, usize)> {
        for (net, name) in [("10.99.0", "v0"), ("10.98.0", "w0")] {
            let sender = UdpSocket::bind((format!("{net}.1"), port)).expect("an address of this namespace");
            if let Some(mark) = mark {
                setsockopt(&sender, sockopt::Mark, &mark).expect("root sets marks");
            }
            let sent = sender.send_to(&[name.as_bytes()[0]; 500], (format!("{net}.9"), 9));
            assert_eq!(sent.expect("the wire is up"), 500);
        }
        let (mut seen, mut buffer) = (Vec::new(), [0; 2048]);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => seen.push((if buffer[HEADERS] == b'v' { "v0" } else { "w0" }, length)),
                Err(errno) if std::io::Error::from(errno).kind() == ErrorKind::WouldBlock => break,
                Err(errno) => panic!("recv: {errno}"),
            }
        }
        seen.sort_unstable();
        seen
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
