//! Where packets are seen neither splits nor doubles a conversation: tags of each direction, taps, mirrors.

use super::made::{CLIENT, MS, SERVER, Sent, Tcp, answer, question, rows};
use super::{dns, get, response};

const HTTP: [&str; 3] = ["path", "status_code", "pairing"];
const FLOW: [&str; 4] = ["orig_pkts", "resp_pkts", "conn_state", "observations"];

fn call_with(change: impl FnOnce(&mut Tcp)) -> Tcp {
    let mut tcp = Tcp::to(80);
    change(&mut tcp);
    tcp.open();
    tcp.call(&get("/1"), &response(200, 2));
    tcp.call(&get("/2"), &response(500, 2));
    tcp.close();
    tcp
}

#[test]
fn tags_of_one_direction_or_of_each() {
    for vlans in [[Some(7), None], [None, Some(7)], [Some(7), Some(8)]] {
        let tcp = call_with(|tcp| tcp.vlans = vlans);
        assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,complete", "/2,500,complete"]);
        assert_eq!(rows(&tcp.frames, "flows", &FLOW), ["8,4,SF,1"]);
    }
}

/// Two networks with the same addresses, ports and, by chance, times.
#[test]
fn equal_addresses_of_two_networks() {
    let one = call_with(|tcp| tcp.vlans = [Some(7); 2]);
    let other = call_with(|tcp| (tcp.vlans, tcp.next) = ([Some(8); 2], [77_000_000, 3_000_000_000]));
    let frames: Vec<Sent> =
        one.frames.iter().zip(&other.frames).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let mut seen = rows(&frames, "http", &HTTP);
    seen.sort();
    assert_eq!(seen, ["/1,200,complete", "/1,200,complete", "/2,500,complete", "/2,500,complete"]);
    assert_eq!(rows(&frames, "flows", &FLOW), ["8,4,SF,1"; 2]);
}

/// A router that has one port shows each packet with the tag of either network.
#[test]
fn a_router_on_a_stick() {
    let tcp = call_with(|tcp| tcp.vlans = [Some(7); 2]);
    let frames: Vec<Sent> = tcp
        .frames
        .iter()
        .flat_map(|frame| {
            let mut routed = frame.clone();
            (routed.data[15], routed.ts_ns) = (8, frame.ts_ns + 1000);
            [frame.clone(), routed]
        })
        .collect();
    assert_eq!(rows(&frames, "http", &HTTP), ["/1,200,complete", "/2,500,complete"]);
    assert_eq!(rows(&frames, "flows", &FLOW), ["8,4,SF,2"]);
}

#[test]
fn a_tap_has_an_interface_for_each_direction() {
    let tcp = call_with(|tcp| tcp.ifaces = [1, 2]);
    assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,complete", "/2,500,complete"]);
    assert_eq!(rows(&tcp.frames, "flows", &FLOW), ["8,4,SF,1"]);
    let datagrams = [
        question(MS, 53, &dns(7, "a.example", 1, None)),
        Sent { iface: 1, ..answer(2 * MS, 53, &dns(7, "a.example", 1, Some([192, 0, 2, 1]))) },
    ];
    assert_eq!(rows(&datagrams, "flows", &FLOW), ["1,1,SF,1"]);
}

/// As with `tcpdump -i any`, or a mirror of both ports that a packet passes.
#[test]
fn every_packet_twice() {
    let twice = |frames: &[Sent]| -> Vec<Sent> {
        frames
            .iter()
            .flat_map(|frame| [frame.clone(), Sent { ts_ns: frame.ts_ns + 8000, ..frame.clone() }])
            .collect()
    };
    let frames = twice(&call_with(|_| {}).frames);
    assert_eq!(rows(&frames, "http", &HTTP), ["/1,200,complete", "/2,500,complete"]);
    assert_eq!(rows(&frames, "flows", &FLOW), ["8,4,SF,2"]);
    let datagrams = twice(&[
        question(MS, 53, &dns(7, "a.example", 1, None)),
        answer(2 * MS, 53, &dns(7, "a.example", 1, Some([192, 0, 2, 1]))),
    ]);
    assert_eq!(rows(&datagrams, "dns", &["query", "pairing"]), ["a.example,complete"]);
    assert_eq!(rows(&datagrams, "flows", &FLOW), ["1,1,SF,2"]);
}

/// What the end itself sends again counts, and is no mirror's doing.
#[test]
fn a_retransmission_is_a_packet() {
    let mut tcp = Tcp::opened(80);
    tcp.say(CLIENT, &get("/1"));
    let mut again = tcp.frames[3].clone();
    again.ts_ns += 200 * MS;
    tcp.frames.push(again);
    tcp.ts_ns += 300 * MS;
    tcp.say(SERVER, &response(200, 2));
    assert_eq!(rows(&tcp.frames, "flows", &FLOW), ["4,2,S1,1"]);
    assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,complete"]);
}
