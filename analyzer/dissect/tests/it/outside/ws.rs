//! A server and a client of Python's websockets, as tshark reads them.

use super::{cells, is_installed, tshark};
use crate::recording::captures;

#[test]
fn tshark_reads_the_same_ws() {
    if !is_installed() {
        return;
    }
    for capture in captures("ws") {
        let frames: usize =
            cells(&capture, "ws", &["frames"]).iter().map(|n| n.parse::<usize>().unwrap()).sum();
        let pongs = cells(&capture, "ws", &["opcode", "pairing"]);
        let pongs = pongs.iter().filter(|line| *line == "ping\tcomplete").count();
        let opcodes = tshark(&capture, "websocket", &["websocket.opcode"]);
        assert_eq!(frames + pongs, opcodes.len());
        let sent: u64 =
            cells(&capture, "ws", &["payload_len"]).iter().map(|n| n.parse::<u64>().unwrap()).sum();
        let lengths = [
            "websocket.payload_length",
            "websocket.payload_length_ext_16",
            "websocket.payload_length_ext_64",
        ];
        let theirs = tshark(&capture, "websocket and not websocket.opcode == 10", &lengths);
        let length = |line: &String| {
            let mut lengths = line.split('\t').filter_map(|length| length.parse::<u64>().ok());
            lengths.next_back().expect("a length")
        };
        let unasked = cells(&capture, "ws", &["opcode", "payload_len"]);
        let unasked: u64 =
            unasked.iter().filter_map(|line| line.strip_prefix("pong\t")?.parse::<u64>().ok()).sum();
        assert_eq!(sent - unasked, theirs.iter().map(length).sum::<u64>());
        let closed = cells(&capture, "ws", &["close_code", "close_reason"]);
        let closed: Vec<_> = closed.into_iter().filter(|line| line != "\t").collect();
        let fields = ["websocket.payload.close.status_code", "websocket.payload.close.reason"];
        assert_eq!(closed, tshark(&capture, "websocket.opcode == 8", &fields));
    }
}
