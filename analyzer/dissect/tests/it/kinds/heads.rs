//! Heads that break the rules, or are cut by the capture, still are what they are.

use super::made::{CLIENT, SERVER, Tcp, question, rows};
use super::{dns, get, response};

const HTTP: [&str; 4] = ["method", "path", "status_code", "pairing"];

fn after(first: &[u8], answer: &[u8]) -> Vec<String> {
    let mut tcp = Tcp::opened(80);
    tcp.call(first, answer);
    tcp.call(&get("/2"), &response(200, 2));
    rows(&tcp.frames, "http", &HTTP)
}

#[test]
fn a_first_request_that_breaks_the_rules() {
    let requests: [(&[u8], &str); 6] = [
        (b"get /a HTTP/1.1\r\nHost: x\r\n\r\n", "get,/a"),
        (b"GET /a HTTP/1.1\r\nX: a\0b\r\n\r\n", "GET,/a"),
        (b"GET /a HTTP/1.1\r\nno colon here\r\nHost: x\r\n\r\n", "GET,/a"),
        (b"GET /a b?c d HTTP/1.1\r\nHost: x\r\n\r\n", "GET,/a b"),
        (b"GET /a HTTP/1.1\r\n: nameless\r\n\x01: y\r\n\r\n", "GET,/a"),
        (b"CONNECT mail.example:25 / HTTP/1.0\r\nHELO x\r\n\r\n", "CONNECT,mail.example:25 /"),
    ];
    for (request, right) in requests {
        assert_eq!(
            after(request, &response(400, 3)),
            [format!("{right},400,complete"), "GET,/2,200,complete".into()]
        );
    }
}

#[test]
fn more_fields_than_are_kept() {
    let fields: String = (0..300).map(|at| format!("X-{at}: v\r\n")).collect();
    let asked = format!("GET /1 HTTP/1.1\r\n{fields}\r\n");
    let told = format!("HTTP/1.1 502 x\r\n{fields}Content-Length: 3\r\n\r\nabc");
    assert_eq!(after(asked.as_bytes(), told.as_bytes()), ["GET,/1,502,complete", "GET,/2,200,complete"]);
}

#[test]
fn a_body_of_nothing_has_the_length_0() {
    let mut tcp = Tcp::opened(80);
    let told = b"HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\nContent-Length: 90\r\n\r\n";
    tcp.call(b"HEAD /1 HTTP/1.1\r\n\r\n", told);
    tcp.call(&get("/2"), b"HTTP/1.1 304 x\r\nContent-Encoding: br\r\n\r\n");
    tcp.call(&get("/3"), b"HTTP/1.1 200 x\r\nContent-Encoding: own\r\nContent-Length: 2\r\n\r\nab");
    let seen = rows(&tcp.frames, "http", &["response_body_len", "response_body"]);
    assert_eq!(seen, ["0,", "0,", "2,ab"]);
}

/// Of what the capture cut there is the beginning.
#[test]
fn heads_that_the_capture_cut() {
    let mut tcp = Tcp::opened(80);
    let long = format!("GET /1 HTTP/1.1\r\nCookie: {}\r\n\r\n", "c".repeat(400));
    tcp.call(long.as_bytes(), &response(500, 700));
    tcp.frames.iter_mut().for_each(|frame| frame.cut(96));
    let seen = rows(&tcp.frames, "http", &HTTP);
    assert_eq!(seen, ["GET,/1,,lossy", ",,500,lossy"]);
}

#[test]
fn statements_and_questions_that_the_capture_cut() {
    let packet =
        |sequence: u8, body: &[u8]| [&(body.len() as u32).to_le_bytes()[..3], &[sequence], body].concat();
    let mut tcp = Tcp::to(3306);
    let text = [&b"\x03SELECT a FROM orders WHERE b IN ("[..], &[b'1'; 500]].concat();
    tcp.say(CLIENT, &packet(0, &text));
    tcp.say(SERVER, &packet(1, &[0, 0, 0, 2, 0, 0, 0]));
    tcp.frames.iter_mut().for_each(|frame| frame.cut(90));
    assert_eq!(rows(&tcp.frames, "db", &["statement", "pairing"]), ["SELECT a FROM orders WHERE b IN,lossy"]);
    let mut datagram = question(1, 53, &dns(7, "a.example", 1, None));
    datagram.cut(datagram.data.len() - 3);
    assert_eq!(rows(&[datagram], "dns", &["trans_id"]), ["7"]);
}
