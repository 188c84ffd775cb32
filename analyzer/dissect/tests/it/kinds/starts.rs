//! Where a conversation begins: behind the header of a proxy, behind a keep-alive, with a command whose login was not seen.

use super::made::{ACK, CLIENT, MS, S, SERVER, Tcp, answer, question, rows};
use super::{dns, get, response};

const HTTP: [&str; 4] = ["path", "status_code", "pairing", "first_frame"];
const LINE: &[u8] = b"PROXY TCP4 192.0.2.9 192.0.2.1 50000 80\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\xc3\x50\0\x50";

/// In one packet with the request, in one of its own, and cut anywhere.
#[test]
fn a_proxy_before_http() {
    for header in [LINE, BINARY] {
        for cut in 0..header.len() + 5 {
            let bytes = [header, &get("/1")].concat();
            let mut tcp = Tcp::opened(80);
            if cut > 0 {
                tcp.say(CLIENT, &bytes[..cut]);
            }
            tcp.say(CLIENT, &bytes[cut..]);
            tcp.say(SERVER, &response(200, 2));
            tcp.call(&get("/2"), &response(500, 2));
            let seen = rows(&tcp.frames, "http", &HTTP);
            let first = if cut > 0 && cut <= header.len() { 5 } else { 4 };
            assert_eq!(seen[0], format!("/1,200,complete,{first}"), "{cut}");
            assert!(seen.len() == 2 && seen[1].starts_with("/2,500,complete"));
        }
    }
}

#[test]
fn a_proxy_before_redis_and_before_a_server_that_greets() {
    for header in [LINE, BINARY] {
        let mut tcp = Tcp::opened(6379);
        tcp.call(&[header, b"*1\r\n$4\r\nPING\r\n"].concat(), b"+PONG\r\n");
        assert_eq!(rows(&tcp.frames, "redis", &["command", "pairing"]), ["PING,complete"]);
        let mut tcp = Tcp::opened(3306);
        tcp.say(CLIENT, header);
        let greeting = b"\x0a8.0.36\0\x07\0\0\0abcdefgh\0\xff\xf7\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0";
        tcp.say(SERVER, &[&[greeting.len() as u8, 0, 0, 0][..], greeting].concat());
        assert_eq!(rows(&tcp.frames, "flows", &["l7"]), ["[mysql]"]);
    }
}

#[test]
fn a_proxy_before_datagrams() {
    let frames = [
        question(S, 53, &[BINARY, &dns(7, "a.example", 1, None)].concat()),
        answer(S + MS, 53, &dns(7, "a.example", 1, Some([192, 0, 2, 1]))),
    ];
    assert_eq!(rows(&frames, "dns", &["query", "pairing"]), ["a.example,complete"]);
}

/// With a byte that says nothing (Windows), and without (Linux).
#[test]
fn a_capture_begins_with_a_keep_alive() {
    for byte in [&b"\0"[..], b""] {
        for from in [CLIENT, SERVER] {
            let mut tcp = Tcp::to(80);
            let (seq, ack) = (tcp.next[from] - 1, tcp.next[1 - from]);
            tcp.segment(from, seq, Some(ack), ACK, byte);
            tcp.ack(1 - from);
            tcp.ts_ns += S;
            tcp.call(&get("/1"), &response(200, 2));
            tcp.call(&get("/2"), &response(500, 2));
            let seen = rows(&tcp.frames, "http", &["path", "status_code", "pairing"]);
            assert_eq!(seen, ["/1,200,complete", "/2,500,complete"]);
            assert_eq!(rows(&tcp.frames, "flows", &["missed_bytes"]), ["0"]);
        }
    }
}

/// Silent keep-alives alone: the port tells who serves.
#[test]
fn the_port_tells_the_server_without_a_word() {
    for port in [443, 5432, 6379, 9092] {
        let mut tcp = Tcp::to(port);
        tcp.ack(SERVER);
        tcp.ack(CLIENT);
        let seen = rows(&tcp.frames, "flows", &["src_ip", "dst_port", "orientation"]);
        assert_eq!(seen, [format!("10.0.0.1,{port},port")]);
    }
    let mut tcp = Tcp::to(40001);
    tcp.ack(SERVER);
    assert_eq!(rows(&tcp.frames, "flows", &["src_ip", "orientation"]), ["10.0.0.2,first_seen"]);
}

#[test]
fn the_first_command_of_a_capture_is_told() {
    let packet = |sequence: u8, body: &[u8]| [&[body.len() as u8, 0, 0, sequence][..], body].concat();
    let mut tcp = Tcp::to(3306);
    tcp.call(&packet(0, b"\x16DELETE FROM a"), &packet(1, b"\0\x05\0\0\0\0\0\0\0\0\0\0"));
    tcp.call(&packet(0, b"\x17\x05\0\0\0\0\x01\0\0\0"), &packet(1, &[0, 3, 0, 2, 0, 0, 0]));
    let seen = rows(&tcp.frames, "db", &["command", "statement", "rows", "pairing"]);
    assert_eq!(
        seen,
        ["COM_STMT_PREPARE,DELETE FROM a,,complete", "COM_STMT_EXECUTE,DELETE FROM a,3,complete"]
    );
}

/// ListOffsets of version 0, as old clients begin with, and Metadata; both without a name.
#[test]
fn a_kafka_client_without_a_name() {
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes(), body].concat();
    let offsets = [
        &b"\0\x02\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\0"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01",
    ]
    .concat();
    let mut empty = offsets.clone();
    empty[8..10].fill(0);
    for (request, api) in [
        (&offsets[..], "LIST_OFFSETS"),
        (&empty, "LIST_OFFSETS"),
        (b"\0\x03\0\0\0\0\0\0\xff\xff\0\0\0\0", "METADATA"),
    ] {
        let mut tcp = Tcp::opened(9092);
        tcp.call(&framed(request), &framed(&[0; 8]));
        assert_eq!(rows(&tcp.frames, "kafka", &["api", "pairing"]), [format!("{api},complete")]);
    }
}
