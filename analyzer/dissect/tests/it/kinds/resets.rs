//! Resets that no end accepts end nothing, and what was sent before one counts; numbers that come again begin another connection.

use super::made::{ACK, CLIENT, MS, RST, S, SERVER, Tcp, rows};
use super::{get, response};

const HTTP: [&str; 3] = ["path", "status_code", "pairing"];

/// Of a connection long gone, before the window and behind it.
#[test]
fn a_reset_outside_of_the_window() {
    for offset in [300_000_000, 65_000, u32::MAX - 1] {
        for flags in [RST, RST | ACK] {
            let mut tcp = Tcp::opened(80);
            tcp.call(&get("/1"), &response(200, 2));
            let (seq, ack) = (tcp.next[SERVER].wrapping_add(offset), tcp.next[CLIENT]);
            tcp.segment(SERVER, seq, (flags & ACK != 0).then_some(ack), flags, b"");
            tcp.call(&get("/2"), &response(503, 2));
            tcp.close();
            assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,complete", "/2,503,complete"]);
            let flow = rows(&tcp.frames, "flows", &["conn_state", "close_reason", "rst_by"]);
            assert_eq!(flow, ["SF,fin,"]);
        }
    }
}

/// Inside of the window, but not where the last byte ended: it is challenged (RFC 5961), and the connection goes on.
#[test]
fn a_reset_that_is_challenged() {
    let mut tcp = Tcp::opened(6379);
    let ping = |tcp: &mut Tcp| tcp.call(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
    ping(&mut tcp);
    let (seq, ack) = (tcp.next[SERVER] + 500, tcp.next[CLIENT]);
    tcp.segment(SERVER, seq, Some(ack), RST | ACK, b"");
    (0..100).for_each(|_| ping(&mut tcp));
    let seen = rows(&tcp.frames, "redis", &["pairing"]);
    assert_eq!((seen.len(), seen.iter().all(|pairing| pairing == "complete")), (101, true));
    assert_eq!(rows(&tcp.frames, "flows", &["rst_by"]), [""]);
}

#[test]
fn a_reset_overtakes_the_answer() {
    let mut tcp = Tcp::opened(80);
    tcp.say(CLIENT, &get("/1"));
    let ack = tcp.next[CLIENT];
    tcp.segment(SERVER, tcp.next[SERVER] + response(200, 9).len() as u32, Some(ack), RST | ACK, b"");
    tcp.say(SERVER, &response(200, 9));
    assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,complete"]);
    assert_eq!(rows(&tcp.frames, "flows", &["conn_state", "close_reason"]), ["RSTR,rst_dst"]);
}

/// What comes to an end that had reset the connection was not taken.
#[test]
fn an_answer_that_comes_too_late() {
    let mut tcp = Tcp::opened(80);
    tcp.say(CLIENT, &get("/1"));
    tcp.ack(SERVER);
    tcp.segment(CLIENT, tcp.next[CLIENT], None, RST, b"");
    tcp.say(SERVER, &response(200, 9));
    let columns = ["path", "status_code", "pairing", "error_type"];
    assert_eq!(rows(&tcp.frames, "http", &columns), ["/1,,request_only,reset"]);
    assert_eq!(rows(&tcp.frames, "flows", &["conn_state", "close_reason"]), ["RSTO,rst_src"]);
}

#[test]
fn a_refused_connection() {
    let mut tcp = Tcp::to(5432);
    let client = tcp.next[CLIENT];
    tcp.segment(CLIENT, client - 1, None, super::made::SYN, b"");
    tcp.segment(SERVER, 0, Some(client), RST | ACK, b"");
    assert_eq!(rows(&tcp.frames, "flows", &["conn_state", "close_reason", "rst_by"]), ["REJ,rst_dst,dst"]);
}

/// A capture that is sent once more, with the same numbers.
#[test]
fn the_same_numbers_again() {
    for pause_ns in [70 * S, 4 * S] {
        let mut tcp = Tcp::opened(80);
        tcp.call(&get("/1"), &response(200, 2));
        tcp.close();
        let mut frames = tcp.frames.clone();
        for round in 1..3 {
            frames.extend(
                tcp.frames.iter().map(|frame| super::made::Sent {
                    ts_ns: frame.ts_ns + round * pause_ns,
                    ..frame.clone()
                }),
            );
        }
        assert_eq!(rows(&frames, "http", &HTTP), ["/1,200,complete"; 3]);
        assert_eq!(rows(&frames, "flows", &["conn_state"]), ["SF"; 3]);
    }
}

/// Neither beginning nor end is seen, only a long silence.
#[test]
fn the_same_numbers_again_in_the_middle() {
    let mut tcp = Tcp::to(6379);
    tcp.call(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
    tcp.call(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\nx\r\n");
    let again =
        tcp.frames.iter().map(|frame| super::made::Sent { ts_ns: frame.ts_ns + 70 * S, ..frame.clone() });
    let frames: Vec<_> = tcp.frames.iter().cloned().chain(again).collect();
    assert_eq!(
        rows(&frames, "redis", &["command"]).len(),
        2 * rows(&tcp.frames, "redis", &["command"]).len()
    );
    assert_eq!(rows(&frames, "flows", &["capture_state"]), ["mid_stream"; 2]);
}

/// A SYN that is sent again because nobody answered it begins nothing new.
#[test]
fn a_syn_is_sent_again() {
    let mut tcp = Tcp::to(80);
    for _ in 0..3 {
        tcp.segment(CLIENT, tcp.next[CLIENT] - 1, None, super::made::SYN, b"");
        tcp.ts_ns += 3 * S;
    }
    tcp.open();
    tcp.call(&get("/1"), &response(200, 2));
    tcp.ts_ns += MS;
    assert_eq!(rows(&tcp.frames, "flows", &["conn_state", "orig_pkts"]), ["S1,7"]);
}
