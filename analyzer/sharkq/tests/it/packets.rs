//! `sharkq pcap`: the packets behind rows are those of the recording, byte for byte, all of them and no others; tshark
//! picks them too, as an outside witness.

use std::path::Path;
use std::process::Stdio;

use crate::captures::{self, Packet};
use crate::desk::Desk;
use crate::first_answer;
use crate::pair::Pair;
use crate::programs::{FIXTURES, finished, is_installed, is_permitted, printed, within};

#[test]
fn packets_of_a_flow_are_those_tshark_finds() {
    let desk = Desk::new();
    let source = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let busiest = "SELECT src_port FROM flows WHERE proto = 'tcp' GROUP BY src_port ORDER BY sum(orig_pkts) DESC LIMIT 1";
    let port = desk.value(Path::new(&source), busiest);
    let ours = chosen(&desk, &source, &["--where", &format!("proto = 'tcp' AND src_port = {port}")]);
    assert!(ours.len() > 20, "{} packets", ours.len());
    all_are_of(&ours, &captures::read(Path::new(&source)));
    if is_installed("tshark") {
        assert_eq!(ours, picked(&desk, &source, &format!("tcp.port == {port}")));
    }
}

#[test]
fn packets_of_a_call_hold_its_bytes_and_little_else() {
    let desk = Desk::new();
    let source = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let failed = "SELECT x_request_id, status_code FROM http WHERE status_code >= 500 ORDER BY ts LIMIT 1";
    let failed = &desk.rows(Path::new(&source), failed)[0];
    let (id, status) = (failed["x_request_id"].as_str().expect("an id"), &failed["status_code"]);
    let condition = format!("x_request_id = '{id}'");
    let ours = chosen(&desk, &source, &["--from", "http", "--where", &condition]);
    all_are_of(&ours, &captures::read(Path::new(&source)));
    let holds = |words: &str| {
        ours.iter().any(|packet| packet.data.windows(words.len()).any(|w| w == words.as_bytes()))
    };
    assert!(holds(id) && holds(&format!("HTTP/1.1 {status}")), "{} packets", ours.len());
    // The same question of the packets alone gives the same call.
    let again = format!("SELECT DISTINCT x_request_id FROM http WHERE status_code = {status}");
    let rows = desk.rows(&desk.at("chosen.pcapng"), &again);
    assert_eq!((rows.len(), rows[0]["x_request_id"].as_str()), (1, Some(id)));
}

#[test]
fn everything_is_everything_and_nothing_is_nothing() {
    let desk = Desk::new();
    let source = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let all = captures::read(Path::new(&source));
    let ours = chosen(&desk, &source, &[]);
    if is_installed("tshark") {
        assert_eq!(ours, picked(&desk, &source, "ip || ipv6"));
    }
    all_are_of(&ours, &all);
    assert_eq!(chosen(&desk, &source, &["--where", "false"]), vec![]);
    let none = ["pcap", &source, "--where", "false", "--exit-code", "-w", "none.pcapng"];
    assert_eq!(desk.sharkq().args(none).output().unwrap().status.code(), Some(3));
}

/// Datagrams larger than the link takes: the kernel fragments them, and every fragment comes along.
#[test]
fn fragments_come_with_their_datagram() {
    if !is_permitted() || !is_installed("tshark") {
        return;
    }
    let desk = Desk::new();
    let client = "\"$BIN/shark-shop\" packets --to $SERVER_IP:9999 --count 20 --rate 200 --size 5000";
    let server = "tail -f /dev/null";
    Pair { server, client, port: None, options: "" }.record(&desk);
    let segment = captures::segments(&desk.at("ring"))[0].to_str().expect("a path").to_owned();
    let ours = chosen(&desk, &segment, &["--where", "proto = 'udp' AND dst_port = 9999"]);
    // Four fragments each, and not the ICMP messages that nobody listens there.
    assert_eq!(ours.len(), 80);
    assert_eq!(ours, picked(&desk, &segment, "ip.proto == 17 && !icmp"));
    let flow =
        &desk.rows(Path::new(&segment), "SELECT orig_pkts, orig_bytes FROM flows WHERE dst_port = 9999")[0];
    assert_eq!((&flow["orig_pkts"], &flow["orig_bytes"]), (&20.into(), &(20 * 5000).into()));
}

/// Segments that cannot have packets of the rows are not opened: harm to them is not met, and harm to the others is told.
#[test]
fn only_segments_that_can_have_the_packets_are_read() {
    let desk = Desk::new();
    let ring = first_answer::ring(&desk);
    let segments = captures::segments(&ring);
    let source = ring.to_str().expect("a path");
    let call = "SELECT h.call_id, h.first_segment, h.last_segment, f.first_segment AS begun FROM http h
        JOIN flows f USING (flow_id) WHERE h.first_segment = h.last_segment AND h.first_segment = f.first_segment
        AND h.ts > '2026-01-02T03:01:05' ORDER BY h.ts LIMIT 1";
    let call = &desk.rows(&ring, call)[0];
    let condition = format!("call_id = '{}'", call["call_id"].as_str().expect("an id"));
    let question = ["--from", "http", "--where", &condition];
    let before = chosen(&desk, source, &question);
    assert!(before.len() >= 2, "{} packets", before.len());
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let is_of_call = |path: &Path| call["first_segment"].as_str().is_some_and(|of| of.ends_with(&name(path)));
    let at = segments.iter().position(|path| is_of_call(path)).expect("the segment of the call");
    let harm = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("a segment");
        let len = bytes.len();
        bytes[32..len / 2].fill(0);
        std::fs::remove_file(path).expect("it is there");
        std::fs::write(path, bytes).expect("it is written");
    };
    // Windows of neighbours may overlap by the packets that came at the same time.
    let others: Vec<&Path> =
        (0..segments.len()).filter(|other| other.abs_diff(at) > 1).map(|other| &*segments[other]).collect();
    assert!(others.len() > 5, "{} others", others.len());
    others.into_iter().for_each(harm);
    assert_eq!(chosen(&desk, source, &question), before);
    harm(&segments[at]);
    let output = desk.sharkq().args(["pcap", source, "-w", "-"]).args(question).output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("warning: ") && said.contains(&name(&segments[at])), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

/// What `sharkq pcap` writes, read by another library; also through standard output.
fn chosen(desk: &Desk, source: &str, more: &[&str]) -> Vec<Packet> {
    let file = desk.at("chosen.pcapng");
    let pcap = |output: &str| {
        let mut command = desk.sharkq();
        command.args(["pcap", source, "-w", output]).args(more);
        command
    };
    assert_eq!(printed(&mut pcap("chosen.pcapng")), "");
    assert_eq!(finished(&mut pcap("-")).stdout, std::fs::read(&file).expect("written"));
    captures::read(&file)
}

/// What tshark finds with a display filter.
fn picked(desk: &Desk, source: &str, filter: &str) -> Vec<Packet> {
    let file = desk.at("picked.pcapng");
    let mut tshark = within(60, "tshark");
    tshark.args(["-r", source, "-Y", filter, "-F", "pcapng", "-w"]).arg(&file);
    finished(tshark.stderr(Stdio::piped()));
    captures::read(&file)
}

/// Each is in the recording with the same stamp and bytes, in its order.
fn all_are_of(ours: &[Packet], recording: &[Packet]) {
    let mut rest = recording.iter();
    for packet in ours {
        assert!(rest.any(|other| other == packet), "not in the recording, or not in its order: {packet:?}");
    }
}

/// Packets of TCP to and from a server at port 8080, each once, and whether they go to it.
fn of_a_server(desk: &Desk) -> Vec<(bool, Packet)> {
    let source = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let once = chosen(desk, &source, &["--where", "proto = 'tcp' AND dst_port = 8080"]);
    let is_to_server = |packet: &Packet| {
        let header = 14 + usize::from(packet.data[14] & 15) * 4;
        packet.data.get(header + 2..header + 4) == Some(&[0x1f, 0x90][..])
    };
    let once = once.into_iter().filter(|packet| packet.data.len() > 38).take(2_000);
    once.map(|packet| (is_to_server(&packet), packet)).collect()
}

/// Writes packets that were seen at times and interfaces, in the order of their time.
fn write_seen(desk: &Desk, file: &str, mut seen: Vec<(std::time::Duration, u32, &Packet)>) {
    seen.sort_by_key(|(time, ..)| *time);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(
        b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0",
    );
    for name in [b"left", b"rite", b"more", b"last"] {
        bytes.extend_from_slice(b"\x01\0\0\0\x28\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x04\0");
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(b"\x09\0\x01\0\x09\0\0\0\0\0\0\0\x28\0\0\0");
    }
    for (time, interface, packet) in &seen {
        let head = shark_schema::segment::PacketHead {
            interface: *interface,
            ts_ns: time.as_nanos() as i64,
            original_len: packet.original_len,
            flags: 0,
            dropped: 0,
        };
        shark_schema::segment::packet(&mut bytes, &head, &packet.data);
    }
    std::fs::write(desk.at(file), bytes).unwrap();
}

/// What the rows of flows count of a capture.
fn counted(desk: &Desk, file: &str) -> Option<usize> {
    let sql = "SELECT CAST(sum(orig_pkts + resp_pkts) AS BIGINT) FROM flows";
    desk.value(Path::new(file), sql).as_u64().map(|packets| packets as usize)
}

/// Two ends of a link, the one before the other in turns: requests first at one, answers first at the other.
#[test]
fn packets_seen_at_several_interfaces_are_written_once() {
    let desk = Desk::new();
    let once = of_a_server(&desk);
    let delay = std::time::Duration::from_micros(5);
    let mut seen = Vec::new();
    for (is_to_server, packet) in &once {
        let near = u32::from(!is_to_server);
        seen.push((packet.time, near, packet));
        seen.push((packet.time + delay, 1 - near, packet));
    }
    let all = seen.len();
    write_seen(&desk, "twice.pcapng", seen);
    let ours = chosen(&desk, "twice.pcapng", &[]);
    assert_eq!(counted(&desk, "twice.pcapng"), Some(ours.len()), "as many as the rows count");
    assert_eq!(ours.len(), once.len());
    assert_eq!(chosen(&desk, "twice.pcapng", &["--all-interfaces"]).len(), all);
    calls_are_whole(&desk, "twice.pcapng");
}

/// A tap gives each direction an interface of its own; a second one, further on, sees the same a moment
/// later.
#[test]
fn packets_of_a_tap_are_written_once() {
    let desk = Desk::new();
    let once = of_a_server(&desk);
    assert!(once.iter().filter(|(is_to_server, _)| *is_to_server).count() * 3 > once.len());
    let tap = |first: u32, delay_us: u64| {
        let delay = std::time::Duration::from_micros(delay_us);
        once.iter().map(move |(is_to_server, packet)| {
            (packet.time + delay, first + u32::from(*is_to_server), packet)
        })
    };
    let plain = |packets: &[Packet]| {
        let mut data: Vec<Vec<u8>> = packets.iter().map(|packet| packet.data.clone()).collect();
        data.sort();
        data
    };
    let wanted = plain(&once.iter().map(|(_, packet)| packet.clone()).collect::<Vec<_>>());
    for (file, seen) in
        [("tap.pcapng", tap(0, 0).collect::<Vec<_>>()), ("taps.pcapng", tap(0, 0).chain(tap(2, 7)).collect())]
    {
        let all = seen.len();
        write_seen(&desk, file, seen);
        let ours = chosen(&desk, file, &[]);
        assert_eq!(ours.len(), once.len(), "{file}");
        assert_eq!(plain(&ours), wanted, "{file}");
        assert_eq!(counted(&desk, file), Some(ours.len()), "{file}: as many as the rows count");
        assert_eq!(chosen(&desk, file, &["--all-interfaces"]).len(), all, "{file}");
        calls_are_whole(&desk, file);
    }
}

/// The packets behind calls have request and response once each, from head to end.
fn calls_are_whole(desk: &Desk, file: &str) {
    let calls = chosen(desk, file, &["--from", "http"]);
    let alone: Vec<Vec<u8>> = calls.iter().map(|packet| packet.data.clone()).collect();
    let distinct: std::collections::BTreeSet<&Vec<u8>> = alone.iter().collect();
    assert!(distinct.len() * 100 >= alone.len() * 99, "{} of {}", distinct.len(), alone.len());
    let sql = "SELECT count(*) FROM http WHERE status_code IS NOT NULL";
    let all = desk.value(Path::new(file), sql);
    std::fs::rename(desk.at("chosen.pcapng"), desk.at("calls.pcapng")).unwrap();
    assert!(all.as_u64().is_some_and(|calls| calls > 10), "{all}");
    assert_eq!(desk.value(Path::new("calls.pcapng"), sql), all);
}
