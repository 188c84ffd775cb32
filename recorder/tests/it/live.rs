//! What is sent is recorded: every packet once, as it was, and other programs read it too.

use std::thread;
use std::time::Duration;

use shark_schema::identity::Fact;

use crate::net::{Net, ip, run, send_numbers};
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
