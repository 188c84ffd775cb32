//! Packets of MySQL in literals: the odd branches.

use Direction::{Backward as S, Forward as C};

use super::*;

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_le_bytes();
    [&len[..3], &[sequence], body].concat()
}

fn heard_by(mysql: &mut Mysql, said: &[(Direction, Vec<u8>)]) -> Vec<String> {
    let mut heard = Vec::new();
    let mut open = std::collections::VecDeque::new();
    for (direction, bytes) in said {
        let mut at = 0;
        while at < bytes.len() {
            at += match mysql.parse(*direction, &bytes[at..], open.front()) {
                Parsed::Message(len, message) => {
                    heard.push(short(&message));
                    match message {
                        Message::Request(_) if Mysql::meta(&message).is_alone() => {}
                        Message::Request(_) => open.push_back(message),
                        Message::Response(_) => drop(open.pop_front()),
                    }
                    len
                }
                Parsed::Part(len) | Parsed::Skip(len) => len,
                Parsed::Become(len, ..) => {
                    heard.push("becomes".into());
                    len
                }
                Parsed::More(_) => break,
                _ => {
                    heard.push("malformed".into());
                    break;
                }
            };
        }
    }
    heard
}

fn short(message: &Message) -> String {
    match message {
        Message::Request(request) => {
            let name = request.command.name();
            format!("{name} {:?} {:?}", request.statement.as_deref().unwrap_or("-"), request.statement_id)
        }
        Message::Response(response) => {
            let error =
                response.error.as_ref().map(|error| (error.code, error.sqlstate.as_deref().unwrap_or("-")));
            format!("{:?} {:?} {error:?}", response.rows, response.statement_id)
        }
    }
}

fn greeting(capabilities: u32) -> Vec<u8> {
    let [low, high] = [capabilities as u16, (capabilities >> 16) as u16].map(u16::to_le_bytes);
    let body = [
        &b"\x0a8.0.30\0\x01\0\0\0salt8byt\0"[..],
        &low,
        &[45, 2, 0],
        &high,
        &[21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        b"saltsaltsalt\0mysql_native_password\0",
    ];
    packet(0, &body.concat())
}

fn login(capabilities: u32) -> Vec<u8> {
    let body = [&(capabilities | 0x8208).to_le_bytes()[..], &[0; 4], &[45], &[0; 23], b"me\0\x03abcshop\0"];
    packet(1, &body.concat())
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
const DEPRECATE_EOF: u32 = 1 << 24;

/// Beyond the login.
fn logged_in(capabilities: u32) -> Mysql {
    let mut mysql = Mysql::default();
    let said = [(S, greeting(u32::MAX)), (C, login(capabilities)), (S, packet(2, OK))];
    assert_eq!(heard_by(&mut mysql, &said), ["Login \"-\" None", "None None None"]);
    mysql
}

fn command(code: u8, body: &[u8]) -> (Direction, Vec<u8>) {
    (C, packet(0, &[&[code], body].concat()))
}

fn answers(bodies: &[&[u8]]) -> (Direction, Vec<u8>) {
    (S, bodies.iter().enumerate().flat_map(|(at, body)| packet(at as u8 + 1, body)).collect())
}

#[test]
fn results_end_in_every_way() {
    let query = || command(3, b"SELECT 1");
    let mut mysql = logged_in(0);
    let result: &[&[u8]] = &[&[1], b"\x03def", EOF, b"\x011", b"\x012", EOF];
    assert_eq!(heard_by(&mut mysql, &[query(), answers(result)])[1], "Some(2) None None");
    // With more results to come, and an error in the last.
    let more: &[&[u8]] = &[
        &[1],
        b"\x03def",
        EOF,
        b"\x011",
        &[0xfe, 0, 0, 10, 0],
        &[0, 3, 0, 10, 0, 0, 0],
        b"\xff\x28\x04#42000no",
    ];
    assert_eq!(heard_by(&mut mysql, &[query(), answers(more)])[1], "Some(4) None Some((1064, \"42000\"))");
    let mut mysql = logged_in(DEPRECATE_EOF);
    let result: &[&[u8]] = &[&[1], b"\x03def", b"\x011", &[0xfe, 0, 0, 2, 0, 0, 0]];
    assert_eq!(heard_by(&mut mysql, &[query(), answers(result)])[1], "Some(1) None None");
    let none: &[&[u8]] = &[&[1], b"\x03def", &[0xfe, 0, 0, 2, 0, 0, 0]];
    assert_eq!(heard_by(&mut mysql, &[query(), answers(none)])[1], "Some(0) None None");
    // A progress report of MariaDB is no error.
    assert_eq!(
        heard_by(&mut mysql, &[query(), answers(&[b"\xff\xff\xff\x01\x01\x01\0\0\0", OK])])[1],
        "Some(0) None None"
    );
}

#[test]
fn statements_are_remembered_by_id() {
    for capabilities in [0, DEPRECATE_EOF] {
        let mut mysql = logged_in(capabilities);
        let prepared = [0, 7, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        let all: Vec<&[u8]> = vec![&prepared, b"\x03def", b"\x03def", EOF, b"\x03def", EOF];
        let all: Vec<&[u8]> = all.into_iter().filter(|body| capabilities == 0 || *body != EOF).collect();
        let heard = heard_by(&mut mysql, &[command(0x16, b"SELECT ?"), answers(&all)]);
        assert_eq!(heard, ["COM_STMT_PREPARE \"SELECT ?\" None", "None Some(7) None"]);
        let execute = command(0x17, &[7, 0, 0, 0, 0, 1, 0, 0, 0]);
        let heard = heard_by(
            &mut mysql,
            &[execute, answers(&[OK]), command(0x19, &[7, 0, 0, 0]), command(0x1a, &[7, 0, 0, 0])],
        );
        assert_eq!(heard[0], "COM_STMT_EXECUTE \"SELECT ?\" Some(7)");
        assert_eq!(heard[2..], ["COM_STMT_CLOSE \"SELECT ?\" Some(7)", "COM_STMT_RESET \"-\" Some(7)"]);
    }
}

#[test]
fn rows_behind_a_cursor_are_fetched() {
    let mut mysql = logged_in(0);
    let cursor: &[&[u8]] = &[&[1], b"\x03def", &[0xfe, 0, 0, 0x42, 0]];
    assert_eq!(
        heard_by(&mut mysql, &[command(0x17, &[1, 0, 0, 0, 1, 1, 0, 0, 0]), answers(cursor)])[1],
        "Some(0) None None"
    );
    let rows: &[&[u8]] = &[b"\0\0\x01", b"\0\0\x02", EOF];
    assert_eq!(
        heard_by(&mut mysql, &[command(0x1c, &[1, 0, 0, 0, 2, 0, 0, 0]), answers(rows)])[1],
        "Some(2) None None"
    );
}

#[test]
fn a_file_is_no_command() {
    let mut mysql = logged_in(0);
    let file = [packet(2, b"\x01\x02"), packet(3, b"")].concat();
    let said = [
        command(3, b"LOAD DATA LOCAL INFILE 'x'"),
        (S, packet(1, b"\xfbx")),
        (C, file),
        (S, packet(4, &[0, 2, 0, 2, 0, 0, 0])),
    ];
    assert_eq!(heard_by(&mut mysql, &said)[1], "Some(2) None None");
}

#[test]
fn what_is_longer_than_a_packet() {
    let mut mysql = logged_in(0);
    let mut text = vec![b' '; FULL];
    text[..9].copy_from_slice(b"\x03SELECT 1");
    let asked = [packet(0, &text), packet(1, b" FROM t")].concat();
    assert!(matches!(mysql.parse(C, &asked[..9000], None), Parsed::Part(9000)));
    assert!(matches!(mysql.parse(C, &asked[9000..FULL + 4], None), Parsed::Part(_)));
    assert!(matches!(mysql.parse(C, &asked[FULL + 4..], None), Parsed::Message(11, _)));
    // One that ends with its packet is followed by an empty one.
    assert!(matches!(mysql.parse(C, &packet(0, &text), None), Parsed::Part(_)));
    assert!(matches!(mysql.parse(C, &packet(1, b""), None), Parsed::Message(4, _)));
}

#[test]
fn logins_of_every_kind() {
    let tls = packet(1, &[&0x8a08_u32.to_le_bytes()[..], &[0; 28]].concat());
    assert_eq!(heard_by(&mut Mysql::default(), &[(S, greeting(u32::MAX)), (C, tls)]), ["becomes"]);
    let switch = [
        (S, greeting(u32::MAX)),
        (C, login(0)),
        (S, packet(2, b"\xfeplugin\0salt")),
        (C, packet(3, b"proof")),
        (S, packet(4, b"\x01\x04")),
    ];
    let mut mysql = Mysql::default();
    assert_eq!(heard_by(&mut mysql, &switch), ["Login \"-\" None"]);
    assert_eq!(
        heard_by(&mut mysql, &[(S, packet(5, b"\xff\x15\x04#28000no"))]),
        ["None None Some((1045, \"28000\"))"]
    );
    let full = packet(0, b"\xff\x10\x04Too many connections");
    assert_eq!(Mysql::probe(&full), Probe::Yes);
    assert_eq!(heard_by(&mut Mysql::default(), &[(S, full)]), ["None None Some((1040, \"-\"))"]);
    let mut mysql = logged_in(0);
    let said = [
        command(0x11, b"you\0\x01xother\0"),
        (S, packet(1, b"\xfeplugin\0salt")),
        (C, packet(2, b"proof")),
        (S, packet(3, OK)),
    ];
    assert_eq!(heard_by(&mut mysql, &said), ["COM_CHANGE_USER \"-\" None", "None None None"]);
    assert_eq!(mysql.asks.session().and_then(|session| session.user.clone()).as_deref(), Some("you"));
    // What is compressed is not read.
    let mut mysql = logged_in(1 << 5);
    assert_eq!(heard_by(&mut mysql, &[(C, b"\x05\0\0\0\0\0\0\x01\0\0\0\x0e".to_vec())]), [""; 0]);
}

#[test]
fn attributes_before_a_query() {
    let mut mysql = logged_in(1 << 27);
    let none = command(3, b"\0\x01SELECT 1");
    let some = command(3, b"\x02\x01\x02\x01\xfd\0\x01a\x06\0\0\x02hiSELECT 2");
    let heard = heard_by(&mut mysql, &[none, answers(&[OK]), some]);
    assert_eq!(
        (heard[0].as_str(), heard[2].as_str()),
        ("COM_QUERY \"SELECT 1\" None", "COM_QUERY \"SELECT 2\" None")
    );
}

#[test]
fn starts_are_found_and_nothing_else() {
    assert_eq!(Mysql::probe(&greeting(0)), Probe::Yes);
    assert_eq!(Mysql::probe(&greeting(0)[..20]), Probe::More);
    assert_eq!(Mysql::probe(&login(0)), Probe::Yes);
    let chain = [b"junk!".to_vec(), packet(0, b"\x03select 1")].concat();
    assert_eq!(Mysql::resync(&chain), Some(5));
    assert_eq!(Mysql::resync(&packet(1, OK)), Some(0));
    assert_eq!(Mysql::resync(&packet(0, b"\x03what")), None);
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\0\x01", b"SSH-2.0-x", b"\0\0\0\x20\0\x03\0\0user\0"]
    {
        assert_eq!(Mysql::probe(bytes), Probe::No, "{bytes:?}");
    }
}

#[test]
fn broken_packets() {
    let mut mysql = logged_in(0);
    assert_eq!(heard_by(&mut mysql, &[(C, packet(0, b"\x7f"))]), ["malformed"]);
    assert_eq!(heard_by(&mut mysql, &[(C, packet(3, b"\x03"))]), ["malformed"]);
    assert_eq!(heard_by(&mut mysql, &[(C, packet(0, b""))]), ["malformed"]);
    assert_eq!(heard_by(&mut mysql, &[(S, packet(1, b""))]), ["malformed"]);
}
