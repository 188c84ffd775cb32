//! A lost packet takes what was in it and nothing else: the end of a message is known where its length is.

use super::made::{CLIENT, SERVER, Tcp, rows};
use super::{dns, get, in_stream, response};

const HTTP: [&str; 3] = ["path", "status_code", "pairing"];

#[test]
fn the_rest_of_an_http_response_is_lost() {
    for lost in [1, 700, 1000] {
        let mut tcp = Tcp::opened(80);
        tcp.say(CLIENT, &get("/1"));
        let whole = response(200, 1000);
        tcp.say_beginning(SERVER, &whole, whole.len() - lost);
        tcp.call(&get("/2"), &response(500, 3));
        tcp.call(&get("/3"), &response(404, 0));
        assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/1,200,lossy", "/2,500,complete", "/3,404,complete"]);
    }
}

#[test]
fn the_rest_of_an_http_request_is_lost() {
    let mut tcp = Tcp::opened(80);
    let post = [&b"POST /up HTTP/1.1\r\nContent-Length: 900\r\n\r\n"[..], &[b'x'; 900]].concat();
    tcp.say_beginning(CLIENT, &post, post.len() - 900);
    tcp.say(SERVER, &response(201, 0));
    tcp.call(&get("/2"), &response(200, 2));
    assert_eq!(rows(&tcp.frames, "http", &HTTP), ["/up,201,lossy", "/2,200,complete"]);
}

/// The last chunk says that it is the last: what is lost with it is not known, but the next call is whole.
#[test]
fn the_end_of_a_chunked_body_is_lost() {
    let chunked = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for at_hand in 46..chunked.len() {
        let mut tcp = Tcp::opened(80);
        tcp.say(CLIENT, &get("/1"));
        tcp.say_beginning(SERVER, chunked, at_hand);
        tcp.call(&get("/2"), &response(503, 1));
        let seen = rows(&tcp.frames, "http", &HTTP);
        assert_eq!(seen, ["/1,200,lossy", "/2,503,complete"], "{at_hand}");
    }
}

#[test]
fn the_rest_of_a_redis_value_is_lost() {
    let bulk = [&b"$2000\r\n"[..], &[b'v'; 2000], b"\r\n"].concat();
    for at_hand in [7, 1000, 2007, 2008] {
        let mut tcp = Tcp::opened(6379);
        tcp.say(CLIENT, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
        tcp.say_beginning(SERVER, &bulk, at_hand);
        tcp.call(b"*2\r\n$3\r\nGET\r\n$1\r\nb\r\n", b"$-1\r\n");
        let seen = rows(&tcp.frames, "redis", &["key", "pairing"]);
        assert_eq!(seen, ["a,lossy", "b,complete"], "{at_hand}");
    }
}

#[test]
fn the_rest_of_a_postgresql_query_and_of_a_row_is_lost() {
    let message = |kind: &[u8], body: &[u8]| [kind, &(4 + body.len() as u32).to_be_bytes(), body].concat();
    let ready = message(b"Z", b"I");
    let done = [message(b"C", b"SELECT 1\0"), ready.clone()].concat();
    let mut tcp = Tcp::opened(5432);
    let startup = message(b"", b"\0\x03\0\0user\0shop\0\0");
    tcp.call(&startup, &[message(b"R", &[0; 4]), ready].concat());
    let query = message(b"Q", &[&b"SELECT 1 -- "[..], &[b'c'; 1500], b"\0"].concat());
    tcp.say_beginning(CLIENT, &query, 17);
    tcp.say(SERVER, &done);
    tcp.say(CLIENT, &message(b"Q", b"SELECT 2\0"));
    let row = message(b"D", &[b'r'; 3000]);
    tcp.say_beginning(SERVER, &row, 1400);
    tcp.say(SERVER, &done);
    tcp.call(&message(b"Q", b"SELECT 3\0"), &done);
    let seen = rows(&tcp.frames, "db", &["statement", "rows", "pairing"]);
    let right =
        [",,complete", "SELECT 1 -- ,1,lossy", "SELECT 2,1,lossy", "SELECT 3,1,complete"].map(str::to_owned);
    assert_eq!(seen.len(), right.len());
    for (seen, right) in seen.iter().zip(&right) {
        let (statement, rest) = right.rsplit_once(",1,").unwrap_or((right.as_str(), ""));
        assert!(seen.starts_with(statement.trim_end()) && seen.ends_with(rest), "{seen}");
    }
}

#[test]
fn the_rest_of_a_mysql_command_is_lost() {
    let packet =
        |sequence: u8, body: &[u8]| [&(body.len() as u32).to_le_bytes()[..3], &[sequence], body].concat();
    let ok = packet(1, &[0, 1, 0, 2, 0, 0, 0]);
    let mut tcp = Tcp::to(3306);
    tcp.call(&packet(0, b"\x03INSERT INTO a VALUES (0)"), &ok);
    let query = packet(0, &[&b"\x03INSERT INTO a VALUES (1) -- "[..], &[b'c'; 2000]].concat());
    tcp.say_beginning(CLIENT, &query, 29);
    tcp.say(SERVER, &ok);
    tcp.call(&packet(0, b"\x03DELETE FROM a"), &ok);
    let seen = rows(&tcp.frames, "db", &["statement", "rows", "pairing"]);
    assert_eq!(
        seen,
        [
            "INSERT INTO a VALUES (0),1,complete",
            "INSERT INTO a VALUES (1),1,lossy",
            "DELETE FROM a,1,complete"
        ]
    );
}

#[test]
fn the_rest_of_an_amqp_body_is_lost() {
    let frame = |kind: u8, payload: &[u8]| {
        [&[kind, 0, 1][..], &(payload.len() as u32).to_be_bytes(), payload, b"\xce"].concat()
    };
    let header = frame(2, b"\0\x3c\0\0\0\0\0\0\0\0\x07\xd0\0\0");
    let mut tcp = Tcp::opened(5672);
    tcp.say(CLIENT, b"AMQP\0\0\x09\x01");
    let publish = [frame(1, b"\0\x3c\0\x28\0\0\x02ex\x01k\0"), header, frame(3, &[b'x'; 2000])].concat();
    tcp.say_beginning(CLIENT, &publish, publish.len() - 1500);
    tcp.call(&frame(1, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0"), &frame(1, b"\0\x32\0\x0b\x01q\0\0\0\0\0\0\0\0"));
    let seen = rows(&tcp.frames, "amqp", &["method", "pairing"]);
    assert_eq!(seen, ["basic.publish,lossy", "queue.declare,complete"]);
}

/// Ids tell what is answered: a gap takes the calls that were in it.
#[test]
fn pipelined_calls_with_ids_keep_their_answers() {
    for lost in [CLIENT, SERVER] {
        let mut tcp = Tcp::opened(53);
        let message = |id: u16, address| in_stream(&dns(id, &format!("n{id}.example"), 1, address));
        for from in [CLIENT, SERVER] {
            for id in 1..=4 {
                let bytes = message(id, (from == SERVER).then_some([192, 0, 2, id as u8]));
                if id == 3 && from == lost {
                    tcp.lose(from, bytes.len());
                } else {
                    tcp.say(from, &bytes);
                }
            }
            tcp.ack(1 - from);
        }
        let mut seen = rows(&tcp.frames, "dns", &["trans_id", "pairing", "is_error"]);
        seen.sort();
        let third = if lost == CLIENT { "3,response_only,false" } else { "3,lossy," };
        assert_eq!(seen, ["1,complete,false", "2,complete,false", third, "4,complete,false"]);
    }
}

#[test]
fn kafka_answers_are_found_again_at_a_quiet_point() {
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes(), body].concat();
    let heartbeat =
        |id: u8| framed(&[b"\0\x0c\0\x01\0\0\0", &[id][..], b"\0\x02me\0\x03grp\0\0\0\x01\0\x01m"].concat());
    let told = |id: u8| framed(&[b"\0\0\0", &[id][..], b"\0\0\0\0\0\0"].concat());
    let mut tcp = Tcp::opened(9092);
    tcp.call(&heartbeat(1), &told(1));
    tcp.say(CLIENT, &heartbeat(2));
    tcp.lose(SERVER, told(2).len());
    tcp.ack(CLIENT);
    tcp.say(CLIENT, &heartbeat(3));
    tcp.say_beginning(SERVER, &told(3), 9);
    tcp.call(&heartbeat(4), &told(4));
    let seen = rows(&tcp.frames, "kafka", &["correlation_id", "pairing"]);
    assert_eq!(seen[0], "1,complete");
    assert_eq!(seen[1], "2,lossy");
    assert_eq!(seen[3], "4,complete");
}

/// The channel's declare takes nothing of the publish around it.
#[test]
fn interleaved_messages_keep_their_own_start_and_bytes() {
    let frame = |kind: u8, channel: u8, payload: &[u8]| {
        [&[kind, 0, channel][..], &(payload.len() as u32).to_be_bytes(), payload, b"\xce"].concat()
    };
    let mut tcp = Tcp::opened(5672);
    tcp.say(CLIENT, b"AMQP\0\0\x09\x01");
    let publish = frame(1, 1, b"\0\x3c\0\x28\0\0\x02ex\x01k\0");
    let declare = frame(1, 2, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0");
    let header = frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0");
    let body = frame(3, 1, b"hello");
    tcp.say(CLIENT, &publish);
    tcp.say(CLIENT, &declare);
    tcp.say(SERVER, &frame(1, 2, b"\0\x32\0\x0b\x01q\0\0\0\0\0\0\0\0"));
    tcp.say(CLIENT, &header);
    tcp.say(CLIENT, &body);
    let seen = rows(&tcp.frames, "amqp", &["method", "request_bytes", "first_frame", "last_frame"]);
    let bytes = publish.len() + header.len() + body.len();
    assert_eq!(seen, [format!("basic.publish,{bytes},5,9"), format!("queue.declare,{},6,7", declare.len())]);
}

/// Entries of one search come between those of another.
#[test]
fn interleaved_searches_keep_their_own_bytes() {
    let entry = |id: u8| [b"\x30\x0a\x02\x01", &[id][..], b"\x64\x05\x04\x01a\x30\x00"].concat();
    let done = |id: u8| [b"\x30\x0c\x02\x01", &[id][..], b"\x65\x07\x0a\x01\x00\x04\x00\x04\x00"].concat();
    let mut tcp = Tcp::opened(389);
    for id in 1..3 {
        let search = b"\x63\x1f\x04\x00\x0a\x01\x02\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00\x87\x0aobjectClas\x30\x00";
        let search = &search[..search.len()];
        tcp.say(CLIENT, &[&[0x30, 3 + search.len() as u8, 2, 1, id][..], search].concat());
    }
    for bytes in [entry(1), entry(2), entry(1), done(1), done(2)] {
        tcp.say(SERVER, &bytes);
    }
    let seen = rows(&tcp.frames, "ldap", &["message_id", "entries", "response_bytes"]);
    assert_eq!(seen, ["1,2,38", "2,1,26"]);
}
