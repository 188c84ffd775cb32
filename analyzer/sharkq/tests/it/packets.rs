//! `sharkq pcap`: the packets behind rows are those of the recording, byte for byte, all of them and no others; tshark
//! picks them too, as an outside witness.

use std::path::Path;
use std::process::Stdio;

use crate::captures::{self, Packet};
use crate::desk::Desk;
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
