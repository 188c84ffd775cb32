//! Messages of PostgreSQL in literals: the odd branches.

use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// What a conversation gives: `>` begins what the client sends.
fn heard(said: &[(Direction, Vec<u8>)]) -> Vec<String> {
    heard_by(&mut Postgresql::default(), said)
}

fn heard_by(postgresql: &mut Postgresql, said: &[(Direction, Vec<u8>)]) -> Vec<String> {
    let mut heard = Vec::new();
    for (direction, bytes) in said {
        let mut at = 0;
        while at < bytes.len() {
            at += match postgresql.parse(*direction, &bytes[at..], None) {
                Parsed::Message(len, message) => {
                    heard.push(short(&message));
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
            let statement = request.statement.as_deref().unwrap_or("-");
            format!("{} {} {statement}", number(request.number), request.command)
        }
        Message::Response(response) => {
            let error = response.error.as_ref().and_then(|error| error.code.as_deref()).unwrap_or("-");
            let rows = response.tag_rows.or(response.data_rows);
            format!(
                "{} {} {rows:?} {error}",
                number(response.number),
                response.operation.as_deref().unwrap_or("-")
            )
        }
    }
}

fn number(number: Option<u64>) -> String {
    number.map_or("?".into(), |number| number.to_string())
}

use Direction::{Backward as S, Forward as C};

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(portal: &str, name: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0C{code}\0Mno\0\0").as_bytes())
}

#[test]
fn an_error_passes_over_all_before_the_next_sync() {
    let batch =
        [parse("s", "SELECT 1"), bind("", "s"), execute(""), bind("", "s"), execute(""), sync()].concat();
    let next = [bind("", "s"), execute(""), sync()].concat();
    let answers = [message(b'1', b""), message(b'2', b""), error("22012"), ready()].concat();
    let answer = [message(b'2', b""), message(b'D', &[0, 0]), complete("SELECT 1"), ready()].concat();
    let heard = heard(&[(C, batch), (C, next), (S, answers), (S, answer)]);
    let expected = [
        "1 Execute SELECT 1",
        "2 Execute SELECT 1",
        "3 Execute SELECT 1",
        "1 - None 22012",
        "3 SELECT Some(1) -",
    ];
    assert_eq!(heard, expected);
}

#[test]
fn what_fails_before_it_is_executed() {
    let asked = [parse("", "SELEC"), message(b'D', b"S\0"), sync()].concat();
    let said = heard(&[(C, asked), (S, [error("42601"), ready()].concat())]);
    assert_eq!(said, ["1 Parse SELEC", "1 - None 42601"]);
    // Flushed, and refused before the Sync is sent.
    let asked = [parse("", "SELEC"), message(b'H', b"")].concat();
    let said = heard(&[(C, asked), (S, error("42601")), (C, sync()), (S, ready())]);
    assert_eq!(said, ["1 Parse SELEC", "1 - None 42601"]);
    let asked = [parse("", "SELEC"), message(b'H', b"")].concat();
    let more = [bind("", ""), execute(""), sync()].concat();
    let said = heard(&[(C, asked), (S, error("42601")), (C, more), (S, ready())]);
    assert_eq!(said, ["1 Execute SELEC", "1 - None 42601"]);
}

#[test]
fn a_sync_before_the_data_of_a_copy_is_ignored() {
    let asked = [parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()].concat();
    let begins = [message(b'1', b""), message(b'2', b""), message(b'G', &[0, 0, 0])].concat();
    let data = [sync(), message(b'd', b"1\n"), message(b'c', b""), sync()].concat();
    let query = message(b'Q', b"SELECT 2\0");
    let answer = [complete("SELECT 2"), ready()].concat();
    let ends = [complete("COPY 1"), ready()].concat();
    let said = heard(&[(C, asked), (S, begins), (C, data), (S, ends), (C, query), (S, answer)]);
    assert_eq!(
        said,
        ["1 Execute COPY t FROM STDIN", "1 COPY Some(1) -", "2 Query SELECT 2", "2 SELECT Some(2) -"]
    );
}

#[test]
fn errors_that_nobody_asked_for() {
    let said = heard(&[
        (C, message(b'Q', b"SELECT 1\0")),
        (S, [complete("SELECT 1"), complete("INSERT 0 3"), ready(), error("57P01")].concat()),
    ]);
    assert_eq!(said, ["1 Query SELECT 1", "1 SELECT Some(4) -", "? - None 57P01"]);
    // One of the commit that a Sync brings.
    let asked =
        [parse("", "INSERT"), bind("", ""), execute(""), sync(), message(b'Q', b"SELECT 1\0")].concat();
    let said = heard(&[
        (C, asked),
        (S, [complete("INSERT 0 1"), error("23503"), ready(), complete("SELECT 1"), ready()].concat()),
    ]);
    assert_eq!(said[2..], ["1 INSERT Some(1) -", "? - None 23503", "2 SELECT Some(1) -"]);
}

#[test]
fn a_fatal_error_ends_the_connection() {
    let mut postgresql = Postgresql::default();
    heard_by(&mut postgresql, &[(C, message(b'Q', b"SELECT 1\0")), (S, error("57P01"))]);
    let last = postgresql.end(S, End::Fin).map(|last| short(&last));
    assert_eq!(last.as_deref(), Some("1 - None 57P01"));
}

#[test]
fn encryption_is_asked_for_first() {
    let tls = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f].to_vec();
    let startup = b"\0\0\0\x1a\0\x03\0\0user\0me\0a\0secret\0\0".to_vec();
    assert_eq!(Postgresql::probe(&tls), Probe::Yes);
    assert_eq!(Postgresql::probe(&startup), Probe::Yes);
    assert_eq!(heard(&[(C, tls.clone()), (S, b"S".to_vec())]), ["becomes"]);
    let login = [message(b'R', &[0, 0, 0, 0]), ready()].concat();
    let said = heard(&[(C, tls.clone()), (S, b"N".to_vec()), (C, startup.clone()), (S, login)]);
    assert_eq!(said, ["1 Startup -", "1 - None -"]);
    let said = heard(&[(C, tls), (S, b"N".to_vec()), (C, startup.clone()), (C, startup)]);
    assert_eq!(said, ["1 Startup -", "malformed"]);
}

#[test]
fn a_long_message_passes_in_parts_and_over_gaps() {
    let mut postgresql = Postgresql::default();
    heard_by(&mut postgresql, &[(C, message(b'Q', b"SELECT 1\0"))]);
    let mut row = message(b'D', &[0; 8]);
    row[1..5].copy_from_slice(&1_000_000_u32.to_be_bytes());
    assert!(matches!(postgresql.parse(S, &row, None), Parsed::Part(13)));
    assert!(matches!(postgresql.gap(S, b"", 999_988, None), Gap::Part));
    assert!(matches!(postgresql.gap(S, b"", 1, None), Gap::Lost(None)));
    assert_eq!(
        heard_by(&mut postgresql, &[(S, [complete("SELECT 1"), ready()].concat())]),
        ["1 SELECT Some(1) -"]
    );
}

#[test]
fn starts_are_found_and_nothing_else() {
    let chain = [b"junk".to_vec(), message(b'Q', b"SELECT 1\0")].concat();
    assert_eq!(Postgresql::resync(&chain), Some(4));
    let chain = [message(b'2', b""), complete("SELECT 1"), ready()].concat();
    assert_eq!(Postgresql::resync(&chain), Some(0));
    assert_eq!(Postgresql::resync(&[bind("", "s"), execute("")].concat()), Some(0));
    assert_eq!(Postgresql::resync(b"1\0\0\0\x04"), None);
    assert_eq!(Postgresql::resync(b"Q\0\0\0\x0aGET /\x01\0"), None);
    for bytes in
        [&b"\x16\x03\x01\x02"[..], b"GET / HTTP/1.1", b"\0\0\0\x20\0\x12\0\x01", b"SSH-2.0", b"R\0\0\0\x09"]
    {
        assert_ne!(Postgresql::probe(bytes), Probe::Yes, "{bytes:?}");
    }
}

#[test]
fn broken_lengths() {
    assert_eq!(heard(&[(C, b"Q\0\0\0\x03".to_vec())]), ["malformed"]);
    assert_eq!(heard(&[(C, b"Q\xff\xff\xff\xff".to_vec())]), ["malformed"]);
    assert_eq!(heard(&[(C, b"\0\0\0\x04\0\0\0\0".to_vec())]), ["malformed"]);
    assert_eq!(heard(&[(C, message(b'B', b"no end"))]), ["malformed"]);
}
