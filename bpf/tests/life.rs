//! Sockets and processes as the kernel tells of them: real connections over loopback in a namespace of this test's own, real
//! processes, by fresh objects and by prebuilt ones. Needs root; otherwise it says that it skips.

use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use shark_bpf::Reason;
use shark_bpf::processes::{self, Processes};
use shark_bpf::sockets::{Event, Kind, Sockets, TCP_LISTEN};

static PREBUILT_SOCKETS: &[u8] = aya::include_bytes_aligned!("../prebuilt/sockets.bpf.o");
static PREBUILT_PROCESSES: &[u8] = aya::include_bytes_aligned!("../prebuilt/processes.bpf.o");

type Start<T> = fn() -> Result<T, Reason>;
const SOCKETS: [Start<Sockets>; 2] = [Sockets::start, || Sockets::start_object(PREBUILT_SOCKETS)];
const PROCESSES: [Start<Processes>; 2] = [Processes::start, || Processes::start_object(PREBUILT_PROCESSES)];
const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn a_connection_from_its_first_to_its_last_state() {
    for (start, address) in SOCKETS.into_iter().flat_map(|start| ADDRESSES.map(|address| (start, address))) {
        let Some(mut sockets) = started(start) else { return };
        let listener = TcpListener::bind((address, 0)).expect("loopback is up");
        let port = listener.local_addr().expect("it is bound").port();
        let mut client = TcpStream::connect((address, port)).expect("it listens");
        let client_port = client.local_addr().expect("it is bound").port();
        let (mut server, _) = listener.accept().expect("a connection");
        std::io::Write::write_all(&mut client, &[1; 3000]).expect("it is open");
        std::io::Read::read_exact(&mut server, &mut [0; 3000]).expect("it is open");
        drop(client);
        assert_eq!(std::io::Read::read(&mut server, &mut [0; 8]).expect("the end"), 0);
        drop(server);
        drop(listener);
        let events = all(&mut sockets, |event| event.local.1 == port || event.peer.1 == port);
        let kinds = |local: u16| -> Vec<Kind> {
            let of =
                events.iter().filter(|event| event.local.1 == local || (event.local.1 == 0 && local != port));
            of.map(|event| event.kind).collect()
        };
        assert_eq!(kinds(client_port), [Kind::Connecting, Kind::Connected, Kind::Closing, Kind::Closed]);
        let server_side =
            [Kind::Listening, Kind::Accepted, Kind::Owned, Kind::Closing, Kind::Closed, Kind::Closed];
        assert_eq!(kinds(port), server_side);
        let ip: IpAddr = address.parse().expect("an address");
        for event in &events {
            let certain =
                matches!(event.kind, Kind::Connecting | Kind::Listening | Kind::Owned | Kind::Closing);
            assert_eq!(event.pid, certain.then(std::process::id), "{event:?}");
            assert!(
                event.local.0 == ip && event.protocol == 6 && event.netns == netns() && event.cookie != 0
            );
        }
        let connected = events.iter().find(|event| event.kind == Kind::Connected).expect("an event");
        assert_eq!((connected.local, connected.peer), ((ip, client_port), (ip, port)));
        let closed = events.iter().find(|event| event.kind == Kind::Closed && event.local.1 == client_port);
        assert_eq!(closed.map(|event| (event.sent_bytes, event.received_bytes)), Some((3_000, 0)));
        let closed = events.iter().rfind(|event| event.kind == Kind::Closed && event.peer.1 == client_port);
        assert_eq!(closed.map(|event| (event.sent_bytes, event.received_bytes)), Some((0, 3_000)));
        let one_life = |port: u16| events.iter().filter(move |e| e.local.1 == port).map(|e| e.cookie);
        assert_eq!(one_life(client_port).collect::<std::collections::HashSet<_>>().len(), 1);
    }
}

#[test]
fn a_connection_that_is_refused() {
    for start in SOCKETS {
        let Some(mut sockets) = started(start) else { return };
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("it is bound");
        TcpStream::connect(free).expect_err("nobody listens any more");
        let events = all(&mut sockets, |event| event.peer.1 == free.port());
        let kinds: Vec<Kind> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Connecting, Kind::Failed]);
        assert_eq!(events[1].error, libc::ECONNREFUSED as u32);
        assert_ne!(events[1].local.1, 0);
    }
}

#[test]
fn datagrams_connected_or_not() {
    for (start, address) in SOCKETS.into_iter().flat_map(|start| ADDRESSES.map(|address| (start, address))) {
        let Some(mut sockets) = started(start) else { return };
        sockets.datagrams().expect("this kernel tells of datagrams");
        let server = UdpSocket::bind((address, 0)).expect("loopback");
        let to = server.local_addr().expect("it is bound");
        let free = UdpSocket::bind((address, 0)).expect("loopback");
        let bound = UdpSocket::bind((address, 0)).expect("loopback");
        bound.connect(to).expect("it is there");
        for _ in 0..10 {
            free.send_to(b"x", to).expect("it is there");
            bound.send(b"x").expect("it is there");
        }
        let ports = [&free, &bound].map(|socket| socket.local_addr().expect("it is bound").port());
        drop((free, bound));
        let events = all(&mut sockets, |event| event.protocol == 17);
        for (port, peer) in ports.into_iter().zip([0, to.port()]) {
            let sent: Vec<&Event> = events.iter().filter(|event| event.local.1 == port).collect();
            let [begun, sent] = sent[..] else { panic!("once is enough: {sent:?}") };
            assert_eq!((begun.kind, begun.peer.1, begun.pid), (Kind::Bound, 0, Some(std::process::id())));
            assert_eq!((begun.local, begun.cookie), (sent.local, sent.cookie));
            assert!(begun.at_boottime_ns < sent.at_boottime_ns && begun.cgroup_id == sent.cgroup_id);
            assert_eq!((sent.kind, sent.peer.1, sent.pid), (Kind::Sent, peer, Some(std::process::id())));
            let gone =
                events.iter().find(|event| event.kind == Kind::Released && event.cookie == sent.cookie);
            assert!(gone.is_some_and(|gone| gone.at_boottime_ns > sent.at_boottime_ns));
        }
    }
}

/// Where the client resets, no process closes what was accepted: who used it is known all the same, also who only reads that it
/// is over.
#[test]
fn who_accepted_is_known_by_the_first_use() {
    for start in SOCKETS {
        let Some(mut sockets) = started(start) else { return };
        sockets.accepting().expect("this kernel tells of it");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let to = listener.local_addr().expect("it is bound");
        let port = to.port();
        for reads_first in [true, false] {
            let client = TcpStream::connect(to).expect("it listens");
            let (mut server, _) = listener.accept().expect("a connection");
            let mut byte = [0];
            if reads_first {
                std::io::Write::write_all(&mut &client, b"x").expect("it is open");
                std::io::Read::read_exact(&mut server, &mut byte).expect("it is open");
            }
            // SO_LINGER of 0 makes a reset of the close.
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::Linger, &linger)
                .expect("a socket");
            drop(client);
            std::io::Read::read(&mut server, &mut byte).expect_err("it was reset");
            let _ = std::io::Read::read(&mut server, &mut byte);
        }
        let events = all(&mut sockets, |event| event.local.1 == port);
        let owned: Vec<&Event> = events.iter().filter(|event| event.kind == Kind::Owned).collect();
        assert_eq!(owned.len(), 2, "once each: {events:?}");
        assert!(owned.iter().all(|event| event.pid == Some(std::process::id())), "{owned:?}");
    }
}

#[test]
fn datagram_sockets_without_a_word_are_told_where_they_are_bound() {
    for (start, address) in
        SOCKETS.into_iter().flat_map(|start| ["0.0.0.0", "::"].map(|address| (start, address)))
    {
        let Some(mut sockets) = started(start) else { return };
        let server = UdpSocket::bind((address, 0)).expect("a port");
        let port = server.local_addr().expect("it is bound").port();
        drop(server);
        let events = all(&mut sockets, |event| event.local.1 == port);
        let kinds: Vec<Kind> = events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Bound, Kind::Released]);
        assert_eq!(events[0].local.0, address.parse::<IpAddr>().expect("an address"));
    }
}

#[test]
fn sockets_that_were_open_before() {
    for start in SOCKETS {
        let Some(first) = started(start) else { return };
        drop(first);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let server = listener.accept().expect("a connection").0;
        let datagrams = UdpSocket::bind("[::1]:0").expect("loopback");
        let mut sockets = start().expect("it started a moment ago");
        let open = sockets.open().expect("all sockets");
        let here: Vec<&Event> = open.iter().filter(|event| event.netns == netns()).collect();
        let find = |local: u16, peer: u16| {
            let found = here.iter().find(|event| event.local.1 == local && event.peer.1 == peer);
            found.unwrap_or_else(|| panic!("{local} {peer}: {here:?}"))
        };
        let client_port = client.local_addr().expect("it is bound").port();
        assert_eq!(find(port, 0).state, TCP_LISTEN);
        let datagram_port = datagrams.local_addr().expect("it is bound").port();
        for (local, peer) in [(port, 0), (port, client_port), (client_port, port), (datagram_port, 0)] {
            let event = find(local, peer);
            assert_eq!((event.pid, event.kind), (Some(std::process::id()), Kind::Open));
            assert!(event.cookie != 0 && event.process_start_ns > 0 && event.cgroup_id > 0, "{event:?}");
        }
        assert_eq!(find(datagram_port, 0).local.0, "::1".parse::<IpAddr>().expect("an address"));
        drop((client, server));
    }
}

#[test]
fn a_process_from_fork_to_exit() {
    for start in PROCESSES {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: BPF needs root");
        }
        let mut processes = start().expect("root may");
        let mut child =
            Command::new("/bin/sh").args(["-c", "kill -9 $$", "a name", ""]).spawn().expect("a shell");
        let status = child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9));
        let mut events = Vec::new();
        let end = Instant::now() + Duration::from_secs(5);
        while events.len() < 3 && Instant::now() < end {
            processes.drain(|event| events.extend((event.pid == child.id()).then_some(event)));
        }
        let kinds: Vec<&processes::Kind> = events.iter().map(|event| &event.kind).collect();
        let arguments = ["/bin/sh", "-c", "kill -9 $$", "a name", ""].map(str::to_owned).to_vec();
        let executed = processes::Kind::Executed { path: "/bin/sh".to_owned(), arguments: Some(arguments) };
        assert_eq!(kinds, [&processes::Kind::Forked, &executed, &processes::Kind::Exited(9)]);
        for event in &events {
            assert_eq!((event.parent, event.uid), (std::process::id(), 0));
            assert_eq!(event.start_boottime_ns, events[0].start_boottime_ns);
        }
        assert_eq!((events[1].comm.as_str(), processes.lost()), ("sh", 0));
    }
}

/// Also of one that is over before anybody could look.
#[test]
fn a_process_has_the_network_namespace_it_was_in() {
    for start in PROCESSES {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: BPF needs root");
        }
        let mut processes = start().expect("root may");
        let ours = netns();
        let program = ["--net", "/bin/sh", "-c", "exec stat -L -c %i /proc/self/ns/net"];
        let child = Command::new("unshare").args(program).stdout(Stdio::piped()).spawn().expect("it starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it ends");
        let theirs: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("an inode");
        assert_ne!(ours, theirs);
        let mut told = Vec::new();
        let end = Instant::now() + Duration::from_secs(5);
        while told.len() < 4 && Instant::now() < end {
            processes.drain(|event| {
                let is_end = matches!(event.kind, processes::Kind::Exited(_));
                told.extend((event.pid == pid && !is_end).then_some(event.netns));
            });
        }
        assert_eq!(told, [ours, ours, theirs, theirs].map(Some));
    }
}

/// In a namespace of this thread's own, with loopback up.
fn started(start: Start<Sockets>) -> Option<Sockets> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces and BPF need root");
        return None;
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("root makes a namespace");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip is installed");
    assert!(up.success());
    Some(start().expect("root may"))
}

fn netns() -> u32 {
    let link = std::fs::read_link("/proc/thread-self/ns/net").expect("proc is mounted");
    link.to_str()
        .and_then(|text| text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok())
        .expect("an inode")
}

fn all(sockets: &mut Sockets, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    let here = netns();
    sockets.drain(|event| {
        let here = event.netns == here || event.kind == Kind::Released;
        events.extend((here && (wanted(&event) || event.kind == Kind::Released)).then_some(event));
    });
    // A release tells a cookie and nothing else: those of other namespaces' sockets are told apart by it.
    let ours: std::collections::HashSet<u64> =
        events.iter().filter(|event| event.kind != Kind::Released).map(|event| event.cookie).collect();
    events.retain(|event| ours.contains(&event.cookie));
    events.sort_by_key(|event| event.at_boottime_ns);
    assert_eq!(sockets.lost(), 0);
    events
}
