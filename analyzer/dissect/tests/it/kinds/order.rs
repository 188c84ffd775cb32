//! Order in the streams, and in time, decides what was known when; order in the file does not.

use super::made::{CLIENT, MS, S, SERVER, Sent, Tcp, answer, question, rows};
use super::{dns, get, response};

const HTTP: [&str; 3] = ["path", "status_code", "pairing"];
const RIGHT: [&str; 3] = ["/1,200,complete", "/2,503,complete", "/3,200,complete"];

fn three_calls() -> Tcp {
    let mut tcp = Tcp::opened(80);
    tcp.call(&get("/1"), &response(200, 2));
    tcp.call(&get("/2"), &response(503, 2000));
    tcp.call(&get("/3"), &response(200, 2));
    tcp.close();
    tcp
}

/// Frames of the same stamps, in another order of the file.
fn restamped(frames: &[Sent]) -> Vec<Sent> {
    let mut stamps: Vec<i64> = frames.iter().map(|frame| frame.ts_ns).collect();
    stamps.sort_unstable();
    frames.iter().zip(stamps).map(|(frame, ts_ns)| Sent { ts_ns, ..frame.clone() }).collect()
}

#[test]
fn any_two_frames_are_swapped() {
    let frames = three_calls().frames;
    for at in 3..frames.len() - 4 {
        for by in 1..4 {
            let mut swapped = frames.clone();
            swapped.swap(at, (at + by).min(frames.len() - 4));
            // Stamps that are right, and those of a capture that took the packets in this order.
            for frames in [swapped.clone(), restamped(&swapped)] {
                let mut seen = rows(&frames, "http", &HTTP);
                seen.sort();
                assert_eq!(seen, RIGHT, "{at} and {by} behind it");
            }
        }
    }
}

/// Two queues are written one after the other: all of an end's packets behind all of the other's.
#[test]
fn an_end_comes_behind_the_other() {
    let frames = three_calls().frames;
    for first in [CLIENT, SERVER] {
        let is_first = |frame: &&Sent| (frame.data[29] == 1) == (first == CLIENT);
        let (one, other): (Vec<&Sent>, Vec<&Sent>) = frames.iter().partition(is_first);
        let queues: Vec<Sent> = one.into_iter().chain(other).cloned().collect();
        assert_eq!(rows(&queues, "http", &HTTP), RIGHT);
    }
}

#[test]
fn a_redis_reply_is_captured_before_its_command() {
    let mut tcp = Tcp::opened(6379);
    tcp.call(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
    tcp.call(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\nx\r\n");
    tcp.call(b"*2\r\n$3\r\nGET\r\n$1\r\nb\r\n", b"$-1\r\n");
    let mut frames = tcp.frames;
    frames.swap(6, 7);
    let frames = restamped(&frames);
    let mut seen = rows(&frames, "redis", &["command", "key", "hit", "pairing"]);
    seen.sort();
    assert_eq!(seen, ["GET,a,true,complete", "GET,b,false,complete", "PING,,,complete"]);
}

#[test]
fn a_datagram_is_captured_behind_its_answer() {
    let query = dns(7, "shop.example", 1, None);
    let told = dns(7, "shop.example", 1, Some([192, 0, 2, 1]));
    // The file is out of order, and then the stamps are.
    let by_file = [answer(5 * MS, 53, &told), question(4 * MS, 53, &query)];
    let by_stamp = [answer(4 * MS, 53, &told), question(5 * MS, 53, &query)];
    let right = ["shop.example,NOERROR,complete"];
    assert_eq!(rows(&by_file, "dns", &["query", "rcode", "pairing"]), right);
    assert_eq!(rows(&by_stamp, "dns", &["query", "rcode", "pairing"]), right);
    // An answer that nobody asked for is one, however long it waits.
    assert_eq!(rows(&by_file[..1], "dns", &["query", "pairing"]), ["shop.example,response_only"]);
}

/// What is lost is lost: nothing waits for ever, and nothing is joined to what it does not answer.
#[test]
fn a_request_that_never_comes() {
    let mut tcp = Tcp::opened(80);
    tcp.call(&get("/1"), &response(200, 2));
    tcp.lose(CLIENT, get("/2").len());
    tcp.say(SERVER, &response(503, 2));
    tcp.call(&get("/3"), &response(404, 2));
    tcp.close();
    assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,complete", ",503,lossy", "/3,404,complete"]);
}

/// A clock that is set back does not mix what was before with what comes after.
#[test]
fn the_clock_is_set_back() {
    let mut tcp = three_calls();
    for frame in &mut tcp.frames[6..] {
        frame.ts_ns -= 3600 * S;
    }
    let mut seen = rows(&tcp.frames, "http", &HTTP);
    seen.sort();
    assert_eq!(seen, RIGHT);
}
