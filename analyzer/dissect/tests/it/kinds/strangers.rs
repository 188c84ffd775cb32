//! What is none of the protocols that are read is not taken for one of them, and who speaks another than was expected is told.

use super::made::{CLIENT, MS, S, SERVER, Tcp, answer, question, rows};
use super::{dns, in_stream};

#[test]
fn binary_datagrams_are_not_dns() {
    let pfcp = b"\x21\x01\0\x1a\0\0\x01\0\0\x3c\0\x05\0\x0a\0\0\x02\0\x60\0\x04\xe9\0\0\0\0\0\0\0\0";
    let ntp = [&b"\x23\0\x06\x20"[..], &[0; 44]].concat();
    let radius_like = [&[1, 2, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &[0; 20]].concat();
    for bytes in [&pfcp[..], &ntp, &radius_like] {
        for port in [8805, 4000, 123] {
            let frames = [question(S, port, bytes), answer(S + MS, port, bytes)];
            assert_eq!(rows(&frames, "flows", &["l7"]), ["[]"]);
        }
    }
}

/// A whole message of DNS is one wherever it is.
#[test]
fn dns_at_another_port() {
    let (asked, told) = (dns(7, "a.example", 1, None), dns(7, "a.example", 1, Some([192, 0, 2, 1])));
    let frames = [question(S, 8600, &asked), answer(S + MS, 8600, &told)];
    assert_eq!(rows(&frames, "dns", &["query", "pairing"]), ["a.example,complete"]);
    let mut tcp = Tcp::opened(8600);
    tcp.call(&in_stream(&asked), &in_stream(&told));
    assert_eq!(rows(&tcp.frames, "dns", &["query", "pairing"]), ["a.example,complete"]);
}

/// TDS, SMB and Bitcoin, from the middle on.
#[test]
fn binary_streams_are_not_dns() {
    let tds = [&b"\x04\x01\x01\x2b\0\x34\x01\0\x81\x05\0\0\0\0\0\0\0\0\x26\x04"[..], &[0; 270]].concat();
    let smb = [&b"\0\0\0\x54\xfeSMB\x40\0\0\0\0\0\0\0\0\0\x01\0"[..], &[0; 68]].concat();
    let bitcoin = [&b"\xf9\xbe\xb4\xd9inv\0\0\0\0\0\0\0\0\0\x25\0\0\0"[..], &[0; 37]].concat();
    for bytes in [&tds, &smb, &bitcoin] {
        for port in [1433, 445, 8333, 50000] {
            let mut tcp = Tcp::to(port);
            for _ in 0..4 {
                tcp.call(bytes, bytes);
            }
            assert_eq!(rows(&tcp.frames, "flows", &["l7"]), ["[]"], "{port}");
        }
    }
}

#[test]
fn sip_and_rtsp_are_not_http() {
    let messages: [&[u8]; 3] = [
        b"OPTIONS sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/TCP c\r\n\r\n",
        b"SUBSCRIBE sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/TCP c\r\n\r\n",
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    ];
    for message in messages {
        let mut tcp = Tcp::opened(5060);
        message.chunks(7).for_each(|bytes| tcp.say(CLIENT, bytes));
        tcp.say(SERVER, b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP c\r\n\r\n");
        assert_eq!(rows(&tcp.frames, "flows", &["l7"]), ["[]"]);
    }
}

/// The server answers a ClientHello in plain text.
#[test]
fn tls_at_a_port_that_speaks_something_else() {
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 5, 1, 0]);
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"-ERR what is this\r\n",
    ];
    for told in answers {
        let mut tcp = Tcp::opened(80);
        tcp.call(&hello, told);
        tcp.close();
        assert_eq!(
            rows(&tcp.frames, "tls", &["established", "is_error", "error_type"]),
            ["false,true,not_tls"]
        );
    }
}
