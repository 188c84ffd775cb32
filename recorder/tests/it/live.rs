//! What is sent is recorded: every packet once, as it was, and other programs read it too.

use std::thread;
use std::time::Duration;

use shark_schema::identity::Fact;
use sharkrec::ring::Ring;

use crate::net::{MARKER, NOBODY, Net, ip, run, send_numbers};
use crate::process::{Recorder, sharkrec_ok};
use crate::reading::{facts, names, number, numbers, packets, sidecars, totals};

#[test]
fn every_packet_once_at_any_rate() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--segment-size", "4MiB"]);
    let mut sent = 0;
    for (count, size, rate) in [(500, 16, 1_000), (20_000, 600, 50_000), (20_000, 60, 0), (2_000, 1_400, 0)] {
        sent += net.send(sent, count, size, rate).join().unwrap();
    }
    recorder.stop();
    let segments = ring.join("segments");
    let seen = numbers(&packets(&segments));
    let counters = totals(&segments);
    assert_eq!(counters.lost(), 0, "{counters:?}");
    assert_eq!(seen.len() as u64, sent);
    assert!(seen.values().all(|times| *times == 1));
    assert_eq!(counters.written, packets(&segments).len() as u64);
    assert_eq!(counters.kernel_received, Some(counters.offered));
    assert!(names(&segments).len() > 3, "sealed by size");
}

#[test]
fn a_mark_that_no_snapshot_was_given_leaves_nothing_out() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    // A mark does not travel to another namespace: it is recorded where it is sent.
    let there = Net { sender: net.receiver.clone(), receiver: net.sender.clone() };
    let there = std::mem::ManuallyDrop::new(there);
    let recorder = Recorder::start_bare(&there, &ring, &["--iface", "v0"]);
    // It was taken back when its asker hung up.
    let taken_back = sharkrec::api::ask_leave_out(&Ring::open(&ring).unwrap()).expect("a mark").mark;
    thread::sleep(Duration::from_millis(200));
    let given = sharkrec::api::ask_leave_out(&Ring::open(&ring).unwrap()).expect("a mark");
    assert_ne!(given.mark, taken_back);
    assert!(given.connection(4000));
    // A mark that nobody gave out, one that was taken back, the right one from another port, and the right one.
    let sockets = [(0x5ec0_71d3, 4001), (taken_back, 4002), (given.mark, 4003), (given.mark, 4000)];
    net.in_sender(move || {
        for (first, (mark, port)) in (0..).step_by(100).zip(sockets) {
            let socket = std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
            socket2::SockRef::from(&socket).set_mark(mark).unwrap();
            for number in first..first + 100u64 {
                let mut payload = MARKER.to_vec();
                payload.extend(number.to_be_bytes());
                socket.send_to(&payload, format!("{NOBODY}:4000")).unwrap();
            }
        }
    })
    .join()
    .unwrap();
    thread::sleep(Duration::from_millis(300));
    recorder.stop();
    let seen: Vec<u64> = numbers(&packets(&ring.join("segments"))).into_keys().collect();
    assert_eq!(
        seen,
        (0..300).collect::<Vec<_>>(),
        "only what has the mark of now, from the port that was named"
    );
    let counters = totals(&ring.join("segments"));
    assert_eq!((counters.filtered, counters.lost()), (Some(100), 0), "{counters:?}");
}

#[test]
fn other_programs_open_a_segment_as_it_lies() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    net.send(0, 3_000, 300, 0).join().unwrap();
    thread::sleep(Duration::from_millis(900));
    // Still open: zstdcat complains of the missing end and gives everything so far.
    let open = run(
        "sh",
        &[
            "-c",
            &format!(
                "zstdcat {}/segments/*.open 2>/dev/null | tshark -r - 2>/dev/null | wc -l",
                ring.display()
            ),
        ],
    );
    assert_eq!(open.trim(), "3000");
    recorder.stop();
    let segment = ring.join("segments").join(names(&ring.join("segments"))[0].to_string());
    let segment = segment.to_str().unwrap();
    assert!(run("capinfos", &["-c", "-M", segment]).contains("3000"));
    assert_eq!(run("tshark", &["-r", segment]).lines().count(), 3_000);
    let tcpdump = run("sh", &["-c", &format!("zstdcat {segment} | tcpdump -n -r - 2>/dev/null | wc -l")]);
    assert_eq!(tcpdump.trim(), "3000");
    let whole = sharkrec_ok(&[
        "pcap",
        "--ring",
        ring.to_str().unwrap(),
        "-w",
        dir.path().join("w.pcapng").to_str().unwrap(),
    ]);
    assert_eq!(whole, "");
    assert!(run("capinfos", &["-c", "-M", dir.path().join("w.pcapng").to_str().unwrap()]).contains("3000"));
}

#[test]
fn a_vlan_tag_is_put_back() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    let mut frame = vec![2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0x61, 0x23, 0x88, 0xB5];
    frame.extend((0..100).map(|n| n as u8));
    net.send_frame(frame.clone());
    // QinQ: the outer tag is taken out by the kernel, the inner stays in the bytes.
    let mut double = frame[..12].to_vec();
    double.extend([0x88, 0xA8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x2A, 0x88, 0xB5]);
    double.extend([0x55; 60]);
    net.send_frame(double.clone());
    recorder.stop();
    let recorded: Vec<Vec<u8>> = packets(&ring.join("segments")).into_iter().map(|p| p.data).collect();
    assert_eq!(recorded, [frame, double]);
}

#[test]
fn snaplen_keeps_the_length_and_counts_what_it_cuts() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--snaplen", "96"]);
    net.send(0, 100, 1_000, 0).join().unwrap();
    recorder.stop();
    let segments = ring.join("segments");
    let recorded = packets(&segments);
    assert_eq!(recorded.len(), 100);
    assert!(recorded.iter().all(|p| p.data.len() == 96 && p.original_len == 1_042), "{:?}", recorded[0]);
    let counters = totals(&segments);
    assert_eq!((counters.truncated, counters.policy_bytes), (100, 100 * (1_042 - 96)));
    assert_eq!(sidecars(&segments)[0].snaplen, 96);
}

#[test]
fn a_filter_lets_only_its_packets_in() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--filter", "udp dst port 4001 and not src port 9"]);
    for (port, first) in [(4000, 0), (4001, 1_000), (4002, 2_000)] {
        net.in_sender(move || send_numbers(&format!("10.99.0.9:{port}"), first, 50, 100, 0)).join().unwrap();
    }
    recorder.stop();
    let seen: Vec<u64> = packets(&ring.join("segments")).iter().filter_map(number).collect();
    assert_eq!(seen, (1_000..1_050).collect::<Vec<_>>());
    assert_eq!(totals(&ring.join("segments")).filtered, None, "a classic filter does not count");
}

#[test]
fn two_interfaces_and_two_workers() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start_bare(&net, &ring, &["--iface", "v1", "--iface", "w1", "--workers", "2"]);
    // Many flows, so that both workers of each group get some.
    for flow in 0..20 {
        net.send(flow * 100, 100, 64, 0).join().unwrap();
        let first = 10_000 + flow * 100;
        net.in_sender(move || send_numbers("10.98.0.9:4000", first, 100, 64, 0)).join().unwrap();
    }
    recorder.stop();
    let segments = ring.join("segments");
    let recorded = packets(&segments);
    let seen = numbers(&recorded);
    assert_eq!(seen.len(), 4_000);
    assert!(seen.values().all(|times| *times == 1));
    for packet in recorded.iter().filter(|p| number(p).is_some()) {
        assert_eq!(packet.interface == 1, number(packet).unwrap() >= 10_000);
    }
    let workers: Vec<u16> = sidecars(&segments).iter().map(|s| s.worker).collect();
    assert_eq!(workers, [0, 1], "both workers got packets");
    let first = &sidecars(&segments)[0];
    assert!(first.interfaces.iter().map(|i| i.name.as_str()).eq(["v1", "w1"]));
}

#[test]
fn offload_and_direction_are_flagged() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    crate::net::ip(&format!("-n {} addr add 10.99.0.2/24 dev v1", net.receiver));
    let recorder = Recorder::start(&net, &ring, &["--filter", "tcp port 5001"]);
    let receiver = net.receiver.clone();
    let server = thread::spawn(move || {
        let script = "import socket\ns=socket.create_server(('10.99.0.2',5001))\nc,_=s.accept()\nn=0\nwhile True:\n d=c.recv(65536)\n if not d: break\n n+=len(d)\nprint(n)";
        run("ip", &["netns", "exec", &receiver, "timeout", "20", "python3", "-c", script])
    });
    let sent = net.in_sender(|| {
        use std::io::Write;
        let connect = || std::net::TcpStream::connect("10.99.0.2:5001");
        let mut stream = (0..100)
            .find_map(|_| {
                connect().ok().or_else(|| {
                    thread::sleep(Duration::from_millis(50));
                    None
                })
            })
            .expect("server");
        (0..200).map(|_| stream.write_all(&[7; 65_536]).map(|()| 65_536).unwrap()).sum::<u64>()
    });
    assert_eq!(sent.join().unwrap().to_string(), server.join().unwrap().trim());
    recorder.stop();
    use shark_schema::segment::flags;
    let recorded = packets(&ring.join("segments"));
    let to_server = |p: &&crate::reading::Recorded| p.flags & flags::DIRECTION_MASK == flags::INBOUND;
    assert!(recorded.iter().filter(to_server).all(|p| p.data[36..38] == 5001u16.to_be_bytes()));
    assert!(recorded.iter().any(|p| p.flags & flags::DIRECTION_MASK == flags::OUTBOUND));
    let large: Vec<_> = recorded.iter().filter(|p| p.data.len() > 10_000).collect();
    assert!(!large.is_empty(), "no super-frame was seen");
    assert!(large.iter().all(|p| p.flags & flags::SEGMENTATION_OFFLOAD != 0));
    assert!(recorded.iter().any(|p| p.flags & flags::CHECKSUM_NOT_READY != 0));
}

#[test]
fn a_device_that_is_made_anew_is_recorded_again() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start_bare(&net, &ring, &["--iface", "w1", "--iface", "v1"]);
    let send =
        |first| net.in_sender(move || send_numbers("10.98.0.9:4000", first, 100, 64, 0)).join().unwrap();
    send(0);
    thread::sleep(Duration::from_millis(300));
    ip(&format!("-n {} link del w1", net.receiver));
    thread::sleep(Duration::from_millis(1_500));
    let (a, b) = (&net.sender, &net.receiver);
    ip(&format!("link add w0 netns {a} type veth peer name w1 netns {b}"));
    ip(&format!("-n {a} addr add 10.98.0.1/24 dev w0"));
    ip(&format!("-n {a} link set w0 up"));
    ip(&format!("-n {b} link set w1 up"));
    ip(&format!("-n {a} neigh add 10.98.0.9 lladdr 02:00:00:00:00:98 dev w0"));
    thread::sleep(Duration::from_millis(2_500));
    send(100);
    recorder.stop();
    let segments = ring.join("segments");
    let recorded = packets(&segments);
    let of = |first: u64| {
        recorded.iter().filter(move |p| number(p).is_some_and(|n| (first..first + 100).contains(&n)))
    };
    assert_eq!((of(0).count(), of(100).count()), (100, 100));
    assert!(
        of(0).all(|p| p.interface == 0) && of(100).all(|p| p.interface == 2),
        "an id is never used twice"
    );
    let all = &sidecars(&segments).pop().unwrap().interfaces;
    assert!(all.iter().map(|i| i.name.as_str()).eq(["w1", "v1", "w1"]), "{all:?}");
    assert_ne!(all[0].ifindex, all[2].ifindex);
    assert_eq!(totals(&segments).lost(), 0);
    let told: Vec<String> = facts(&ring.join("log"))
        .into_iter()
        .filter_map(|record| match record.fact {
            Fact::Interface(of) if of.name == "w1" => Some(of.why),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["named by --iface", "the device is gone", "the device was made anew"]);
}

#[test]
fn interfaces_that_match_are_followed_as_they_come_and_go() {
    let Some(net) = Net::new() else { return };
    follow(&net, |ring| Recorder::start_bare(&net, ring, &["--iface", "pod*"]));
}

#[test]
fn without_bpf_too_with_a_socket_an_interface() {
    let Some(net) = Net::new() else { return };
    follow(&net, |ring| {
        Recorder::start_without_bpf(&net, ring, &["--iface", "pod*", "--capture-buffer", "16MiB"])
    });
}

/// Three pods of 300 ms each, one after the other, and one that was there before; nothing of any other interface.
fn follow(net: &Net, start: impl FnOnce(&std::path::Path) -> Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let (a, b) = (&net.sender, &net.receiver);
    let make = |name: &str, subnet: u32| {
        ip(&format!("link add {name}x netns {a} type veth peer name {name} netns {b}"));
        let address = format!("10.97.{subnet}");
        ip(&format!("-n {a} addr add {address}.1/24 dev {name}x"));
        for (side, end) in [(a, format!("{name}x")), (b, name.to_owned())] {
            ip(&format!("-n {side} link set {end} addrgenmode none"));
            ip(&format!("-n {side} link set {end} up"));
        }
        ip(&format!("-n {a} neigh add {address}.9 lladdr 02:00:00:00:00:97 dev {name}x"));
    };
    let send = |subnet: u32| {
        let to = format!("10.97.{subnet}.9:4000");
        net.in_sender(move || send_numbers(&to, u64::from(subnet) * 100, 100, 200, 0)).join().unwrap()
    };
    make("pod0", 0);
    let recorder = start(&ring);
    net.send(10_000, 100, 200, 0).join().unwrap();
    for pod in 1..4 {
        make(&format!("pod{pod}"), pod);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(send(pod), 100);
        thread::sleep(Duration::from_millis(200));
        ip(&format!("-n {b} link del pod{pod}"));
    }
    send(0);
    recorder.stop();
    let segments = ring.join("segments");
    let recorded = packets(&segments);
    let seen = numbers(&recorded);
    assert!(seen.keys().copied().eq(0..400), "{} numbers", seen.len());
    assert!(seen.values().all(|times| *times == 1));
    let names: Vec<String> =
        sidecars(&segments).pop().unwrap().interfaces.into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["pod0", "pod1", "pod2", "pod3"]);
    assert!(recorded.iter().all(|p| number(p).is_none_or(|n| n / 100 == u64::from(p.interface))));
    assert_eq!(totals(&segments).lost(), 0);
    let of_pod1: Vec<String> = facts(&ring.join("log"))
        .into_iter()
        .filter_map(|record| match record.fact {
            Fact::Interface(of) if of.name == "pod1" => Some(of.why),
            _ => None,
        })
        .collect();
    assert_eq!(of_pod1, ["matches --iface 'pod*'", "the device is gone"]);
}

#[test]
fn the_fallback_records_the_same_packets() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (one, each) = (dir.path().join("one"), dir.path().join("each"));
    let interfaces = ["--iface", "lo", "--iface", "v1", "--iface", "w1"];
    let recorders = [
        Recorder::start_bare(&net, &one, &interfaces),
        Recorder::start_without_bpf(&net, &each, &interfaces),
    ];
    net.send(0, 2_000, 300, 20_000).join().unwrap();
    net.in_sender(|| send_numbers("10.98.0.9:4000", 2_000, 2_000, 300, 20_000)).join().unwrap();
    // A VLAN tag, and loopback, where every packet passes twice.
    let mut frame = vec![2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0x61, 0x23, 0x88, 0xB5];
    frame.extend([0x33; 80]);
    net.send_frame(frame);
    let ping = format!("--net=/run/netns/{}", net.receiver);
    run(
        "nsenter",
        &[
            &ping,
            "python3",
            "-c",
            "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nfor n in range(50): s.sendto(b'over loopback',('127.0.0.1',9))",
        ],
    );
    recorders.into_iter().for_each(|recorder| drop(recorder.stop()));
    let all = |ring: &std::path::Path| {
        let mut all: Vec<_> = packets(&ring.join("segments"))
            .into_iter()
            .map(|p| (p.interface, p.data, p.original_len, p.flags))
            .collect();
        all.sort();
        all
    };
    let (shared, separate) = (all(&one), all(&each));
    assert_eq!(shared.len(), 4_001 + 2 * 50, "the datagrams over loopback and their answers");
    assert!(shared == separate);
    let why = |ring: &std::path::Path| {
        facts(&ring.join("log")).into_iter().find_map(|record| match record.fact {
            Fact::Feature(of) if of.name == "any_socket" => Some((of.on, of.why)),
            _ => None,
        })
    };
    assert!(why(&one).unwrap().0);
    let (on, reason) = why(&each).unwrap();
    assert!(!on && reason.contains("CAP_BPF"), "{reason}");
}
