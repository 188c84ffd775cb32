//! Messages of MongoDB in literals: the odd branches.

use Direction::{Backward as S, Forward as C};

use super::*;

/// A document of elements, each of a type, a name and a value.
fn document(elements: &[(u8, &str, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = elements
        .iter()
        .flat_map(|(kind, name, value)| [&[*kind], name.as_bytes(), &[0], value].concat())
        .collect();
    [&(body.len() as u32 + 5).to_le_bytes()[..], &body, &[0]].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32 + 1).to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn binary(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], &[0], bytes].concat()
}

fn int(number: i32) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn framed(id: u32, answers: u32, code: u32, body: &[u8]) -> Vec<u8> {
    let numbers = [body.len() as u32 + 16, id, answers, code];
    [&numbers.map(u32::to_le_bytes).concat(), body].concat()
}

fn msg(id: u32, answers: u32, flags: u32, sections: &[&[u8]]) -> Vec<u8> {
    framed(id, answers, OP_MSG, &[&flags.to_le_bytes()[..], &sections.concat()].concat())
}

fn body(document: &[u8]) -> Vec<u8> {
    [&[0], document].concat()
}

fn sequence(name: &str, documents: &[u8]) -> Vec<u8> {
    let len = (4 + name.len() + 1 + documents.len()) as u32;
    [&[1][..], &len.to_le_bytes(), name.as_bytes(), &[0], documents].concat()
}

fn find(id: u32) -> Vec<u8> {
    let filter = document(&[(0x10, "age", int(30))]);
    msg(
        id,
        0,
        0,
        &[&body(&document(&[(2, "find", text("users")), (3, "filter", filter), (2, "$db", text("mydb"))]))],
    )
}

fn heard_by(mongodb: &mut Mongodb, said: &[(Direction, Vec<u8>)]) -> Vec<Message> {
    let mut heard: Vec<Message> = Vec::new();
    for (direction, bytes) in said {
        let mut at = 0;
        while at < bytes.len() {
            let open = heard.iter().find(|message| Mongodb::meta(message).role == Role::Request);
            at += match mongodb.parse(*direction, &bytes[at..], open) {
                Parsed::Message(len, message) => {
                    heard.push(message);
                    len
                }
                Parsed::Part(len) => len,
                _ => break,
            };
        }
    }
    heard
}

fn heard(said: &[(Direction, Vec<u8>)]) -> Vec<Message> {
    heard_by(&mut Mongodb::default(), said)
}

fn request(message: &Message) -> &Request {
    match message {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a response"),
    }
}

fn response(message: &Message) -> &Response {
    match message {
        Message::Response(response) => response,
        Message::Request(_) => panic!("a request"),
    }
}

fn shown(message: &Message, show: render::Show) -> String {
    render::command(&request(message).asked.facts, show)
}

#[test]
fn a_command_and_its_batch() {
    let batch = document(&[(3, "0", document(&[])), (3, "1", document(&[]))]);
    let cursor =
        document(&[(4, "firstBatch", batch), (0x12, "id", vec![0; 8]), (2, "ns", text("mydb.users"))]);
    let answer = document(&[(3, "cursor", cursor), (1, "ok", 1_f64.to_le_bytes().to_vec())]);
    let heard = heard(&[(C, find(7)), (S, msg(9, 7, 0, &[&body(&answer)]))]);
    let facts = &request(&heard[0]).asked.facts;
    assert_eq!(
        (facts.operation.as_deref(), facts.collection.as_deref(), facts.database.as_deref()),
        (Some("find"), Some("users"), Some("mydb"))
    );
    assert_eq!(
        shown(&heard[0], render::Show::Values),
        r#"{"find":"users","filter":{"age":30},"$db":"mydb"}"#
    );
    assert_eq!(shown(&heard[0], render::Show::Shape), r#"{"find":"users","filter":{"age":?},"$db":"mydb"}"#);
    let answer = response(&heard[1]);
    assert_eq!((answer.facts.counted, answer.facts.ok), (Some(2), Some(true)));
    assert_eq!(Mongodb::meta(&heard[0]).pairing, Mongodb::meta(&heard[1]).pairing);
}

#[test]
fn documents_beside_the_command() {
    let command = document(&[(2, "insert", text("users")), (2, "$db", text("mydb"))]);
    let documents = [document(&[(2, "a", text("b"))]), document(&[(0x0a, "c", vec![])])].concat();
    // The documents may come first, and a checksum last.
    for sections in [
        [body(&command), sequence("documents", &documents)],
        [sequence("documents", &documents), body(&command)],
    ] {
        let bytes = msg(1, 0, CHECKSUM | MORE_TO_COME, &[&sections[0], &sections[1], &[1, 2, 3, 4]]);
        let heard = heard(&[(C, bytes)]);
        assert!(Mongodb::meta(&heard[0]).is_alone());
        let all = r#"{"insert":"users","$db":"mydb","documents":[{"a":"b"},{"c":null}]}"#;
        assert_eq!(shown(&heard[0], render::Show::Values), all);
        assert_eq!(
            shown(&heard[0], render::Show::Shape),
            r#"{"insert":"users","$db":"mydb","documents":[{"a":?}]}"#
        );
    }
}

#[test]
fn failures_of_the_command_and_of_a_write() {
    let failed = document(&[
        (0x10, "ok", int(0)),
        (2, "errmsg", text("no")),
        (0x10, "code", int(59)),
        (2, "codeName", text("CommandNotFound")),
    ]);
    let one = document(&[(0x10, "index", int(0)), (0x10, "code", int(11000)), (2, "errmsg", text("E11000"))]);
    let errors = document(&[(3, "0", one), (3, "1", document(&[(0x10, "code", int(1))]))]);
    let written =
        document(&[(0x10, "n", int(3)), (4, "writeErrors", errors), (1, "ok", 1_f64.to_le_bytes().to_vec())]);
    let heard = heard(&[(S, msg(9, 7, 0, &[&body(&failed)])), (S, msg(9, 8, 0, &[&body(&written)]))]);
    let failure = &response(&heard[0]).facts.failure;
    assert_eq!(
        (failure.code, failure.name.as_deref(), failure.message.as_deref()),
        (Some(59), Some("CommandNotFound"), Some("no"))
    );
    let written = &response(&heard[1]).facts;
    assert_eq!((written.ok, written.n), (Some(true), Some(3)));
    assert_eq!(written.write_failure.as_ref().and_then(|failure| failure.code), Some(11000));
}

#[test]
fn proofs_are_not_kept() {
    let start = document(&[
        (0x10, "saslStart", int(1)),
        (5, "payload", binary(b"n,,n=ann,r=abc")),
        (2, "$db", text("admin")),
    ]);
    let go_on = document(&[(0x10, "saslContinue", int(1)), (5, "payload", binary(b"p=proof"))]);
    let inner = document(&[(0x10, "saslStart", int(1)), (5, "payload", binary(b"\0bob\0secret"))]);
    let hello = document(&[(0x10, "hello", int(1)), (3, "speculativeAuthenticate", inner)]);
    let user = document(&[(2, "createUser", text("eve")), (2, "pwd", text("secret"))]);
    let said: Vec<_> =
        [start, go_on, hello, user].iter().map(|document| (C, msg(1, 0, 0, &[&body(document)]))).collect();
    let heard = heard(&said);
    let users: Vec<_> = heard.iter().map(|message| request(message).asked.user.as_deref()).collect();
    assert_eq!(users, [Some("ann"), Some("ann"), Some("bob"), Some("bob")]);
    assert_eq!(shown(&heard[0], render::Show::Values), r#"{"saslStart":1,"payload":?,"$db":"admin"}"#);
    assert_eq!(
        shown(&heard[2], render::Show::Values),
        r#"{"hello":1,"speculativeAuthenticate":{"saslStart":1,"payload":?}}"#
    );
    assert_eq!(shown(&heard[3], render::Show::Values), r#"{"createUser":"eve","pwd":?}"#);
    assert_eq!(request(&heard[3]).asked.facts.collection, None);
}

#[test]
fn an_answer_that_goes_on() {
    let ok = body(&document(&[(0x10, "ok", int(1))]));
    let heard = heard(&[
        (C, find(7)),
        (S, msg(20, 7, MORE_TO_COME, &[&ok])),
        (S, msg(21, 20, MORE_TO_COME, &[&ok])),
        (S, msg(22, 21, 0, &[&ok])),
        (S, msg(23, 22, 0, &[&ok])),
    ]);
    let further: Vec<bool> = heard.iter().map(|message| Mongodb::meta(message).is_alone()).collect();
    assert_eq!(further, [false, false, true, true, false]);
    let asked = response(&heard[3]).asked.as_ref().and_then(|asked| asked.facts.operation.clone());
    assert_eq!(asked.as_deref(), Some("find"));
}

#[test]
fn what_came_before_op_msg() {
    let hello = [
        &0_u32.to_le_bytes()[..],
        b"admin.$cmd\0",
        &[0; 4],
        &[0xff; 4],
        &document(&[(0x10, "ismaster", int(1))]),
    ]
    .concat();
    let query = [&0_u32.to_le_bytes()[..], b"mydb.users\0", &[0; 8], &document(&[])].concat();
    let reply = [&[0; 16][..], &2_u32.to_le_bytes(), &document(&[]), &document(&[])].concat();
    let insert = [&0_u32.to_le_bytes()[..], b"mydb.users\0", &document(&[])].concat();
    let heard = heard(&[
        (C, framed(1, 0, OP_QUERY, &hello)),
        (C, framed(2, 0, OP_QUERY, &query)),
        (S, framed(3, 2, OP_REPLY, &reply)),
        (C, framed(4, 0, OP_INSERT, &insert)),
    ]);
    let asked: Vec<_> =
        [0, 1, 3].iter().map(|&at| request(&heard[at]).asked.facts.operation.as_deref()).collect();
    assert_eq!(asked, [Some("ismaster"), Some("find"), Some("insert")]);
    assert_eq!(response(&heard[2]).returned, Some(2));
    assert!(Mongodb::meta(&heard[3]).is_alone());
}

#[test]
fn what_is_compressed() {
    use std::io::Write;
    let inner = find(7)[16..].to_vec();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&inner).expect("memory takes all");
    let zlib = zlib.finish().expect("memory takes all");
    let zstd = zstd::encode_all(inner.as_slice(), 1).expect("memory takes all");
    for (compressor, content, expected) in [
        (0, &inner, Some("find")),
        (1, &inner, None),
        (2, &zlib, Some("find")),
        (3, &zstd, Some("find")),
        (2, &inner, None),
    ] {
        let body =
            [&OP_MSG.to_le_bytes()[..], &(inner.len() as u32).to_le_bytes(), &[compressor], content].concat();
        let heard = heard(&[(C, framed(7, 0, OP_COMPRESSED, &body))]);
        assert_eq!(request(&heard[0]).asked.facts.operation.as_deref(), expected);
    }
}

#[test]
fn any_cut_gives_the_same() {
    let batch =
        document(&[(3, "0", document(&[(2, "x", text("long enough to be cut"))])), (3, "1", document(&[]))]);
    let cursor = document(&[(4, "nextBatch", batch)]);
    let answer = msg(
        9,
        7,
        0,
        &[&body(&document(&[(3, "cursor", cursor), (0x10, "ok", int(1)), (0x0b, "r", b"a\0i\0".to_vec())]))],
    );
    for at in 1..answer.len() {
        let mut mongodb = Mongodb::default();
        let mut buffer = answer[..at].to_vec();
        let mut message = None;
        for more in [&answer[at..], &[]] {
            while !buffer.is_empty() {
                match mongodb.parse(S, &buffer, None) {
                    Parsed::Part(len) => drop(buffer.drain(..len)),
                    Parsed::Message(len, whole) => {
                        buffer.drain(..len);
                        message = Some(whole);
                    }
                    _ => break,
                }
            }
            buffer.extend_from_slice(more);
        }
        let message = message.expect("a message");
        assert_eq!(
            (response(&message).facts.counted, response(&message).facts.ok),
            (Some(2), Some(true)),
            "{at}"
        );
    }
}

#[test]
fn missing_bytes_in_what_is_passed() {
    let mut mongodb = Mongodb::default();
    let large = document(&[(2, "a", text(&"x".repeat(9000)))]);
    let command = document(&[(2, "insert", text("users")), (2, "$db", text("mydb"))]);
    let bytes = msg(1, 0, 0, &[&body(&command), &sequence("documents", &large)]);
    assert!(heard_by(&mut mongodb, &[(C, bytes[..1000].to_vec())]).is_empty());
    assert!(matches!(mongodb.gap(C, b"", 5000, None), Gap::Part));
    assert!(matches!(mongodb.gap(C, b"", 50_000, None), Gap::Lost(None)));
    assert_eq!(heard_by(&mut mongodb, &[(C, bytes[6000..].to_vec())]).len(), 1);
}

/// Whatever of a message is missing at its end, the next begins where its length says.
#[test]
fn a_message_ends_in_a_gap() {
    let bytes = find(1);
    for at in 4..bytes.len() {
        let mut mongodb = Mongodb::default();
        let mut used = 0;
        while used < at {
            let Parsed::Part(len) = mongodb.parse(C, &bytes[used..at], None) else { break };
            used += len;
        }
        let gap = mongodb.gap(C, &bytes[used..at], (bytes.len() - at) as u64, None);
        assert!(matches!(gap, Gap::Message(_)) == (at >= 16) && !matches!(gap, Gap::Lost(_)), "{at}");
        assert_eq!(heard_by(&mut mongodb, &[(C, find(2))]).len(), 1);
    }
}

#[test]
fn probes_and_broken_messages() {
    assert_eq!(Mongodb::probe(&find(1)), Probe::Yes);
    assert_eq!(Mongodb::probe(&find(1)[..20]), Probe::More);
    assert_eq!(Mongodb::resync(&[b"junk".to_vec(), find(1)].concat()), Some(4));
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 random",
        b"\x16\x03\x01\x06\0",
        b"*1\r\n$4\r\nPING\r\n",
        &[0; 40],
        &framed(1, 0, OP_MSG, &[0xff; 30]),
    ] {
        assert_eq!(Mongodb::probe(bytes), Probe::No, "{bytes:?}");
    }
    let is_broken = |bytes: &[u8]| {
        let mut mongodb = Mongodb::default();
        let first = mongodb.parse(C, bytes, None);
        matches!(first, Parsed::Malformed)
            || matches!(mongodb.parse(C, &bytes[16..], None), Parsed::Malformed)
    };
    assert!(is_broken(&framed(1, 0, OP_MSG, &[])));
    assert!(is_broken(&framed(1, 0, 9, &[0; 20])));
    assert!(is_broken(&msg(1, 0, 0, &[&body(&[9, 0, 0, 0, 0x99, b'a', 0, 0, 0])])));
    assert!(is_broken(&msg(1, 0, 0, &[&body(&[9, 0, 0, 0, 2, b'a', 0, 0xff, 0xff, 0xff, 0xff])])));
    assert!(is_broken(&msg(1, 0, 0, &[&[7, 0, 0]])));
}
