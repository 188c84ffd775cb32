//! Seeded rows of the protocols beside HTTP and DNS. In: flows that they ran on. Out: a table each.

use std::path::Path;

use shark_schema::call::{CallBlock, CallRow};
use shark_schema::table::{Block, Table};
use shark_schema::tables::amqp::{self, AmqpBlock, AmqpRow};
use shark_schema::tables::db::{self, DbBlock, DbRow};
use shark_schema::tables::diameter::{self, DiameterBlock, DiameterRow};
use shark_schema::tables::icmp::{self, IcmpBlock, IcmpRow};
use shark_schema::tables::kafka::{self, KafkaBlock, KafkaRow};
use shark_schema::tables::ldap::{self, LdapBlock, LdapRow};
use shark_schema::tables::radius::{self, RadiusBlock, RadiusRow};
use shark_schema::tables::redis::{self, RedisBlock, RedisRow};
use shark_schema::tables::tls::{self, TlsBlock, TlsRow};
use shark_schema::tables::ws::{self, WsBlock, WsRow};

use super::{Chance, FLOWS, Flow, call_of, store};

/// Rows of each table.
const ROWS: usize = 600;

/// Writes their tables below a folder.
pub fn write(folder: &Path, flows: &[Flow], chance: &mut Chance) {
    rows(folder, &db::TABLE, flows, chance, db);
    rows(folder, &redis::TABLE, flows, chance, redis);
    rows(folder, &kafka::TABLE, flows, chance, kafka);
    rows(folder, &amqp::TABLE, flows, chance, amqp);
    rows(folder, &tls::TABLE, flows, chance, tls);
    rows(folder, &ldap::TABLE, flows, chance, ldap);
    rows(folder, &radius::TABLE, flows, chance, radius);
    rows(folder, &diameter::TABLE, flows, chance, diameter);
    rows(folder, &ws::TABLE, flows, chance, ws);
    rows(folder, &icmp::TABLE, flows, chance, icmp);
}

/// Rows of a table; `append` adds its own columns, and says whether the call failed.
fn rows<B: Block>(
    folder: &Path,
    table: &Table,
    flows: &[Flow],
    chance: &mut Chance,
    append: impl Fn(&mut B, &mut CallRow<'_>, &mut Chance),
) {
    let (mut calls, mut own, mut shared) = (CallBlock::default(), B::default(), Vec::new());
    for number in 0..ROWS {
        let flow = &flows[chance.below(FLOWS as i64) as usize];
        let id = format!("{}{number:04}", table.name);
        let mut call = call_of(flow, &id, chance);
        append(&mut own, &mut call, chance);
        calls.append(&call);
        shared.push(flow.shared());
    }
    store(folder, table, &shared, |arrays| {
        calls.finish(arrays);
        own.finish(arrays);
    });
}

#[rustfmt::skip]
const STATEMENTS: &[(&str, &str)] = &[
    ("SELECT", "SELECT * FROM users WHERE id = 1 UNION SELECT passwd FROM pg_shadow"),
    ("SELECT", "SELECT table_name FROM information_schema.tables"), ("SELECT", "SELECT 1"), ("UPDATE", "UPDATE orders SET x = 1"),
    ("INSERT", "INSERT INTO orders VALUES (1)"), ("TRUNCATE", "TRUNCATE orders"), ("DROP", "DROP TABLE orders"),
];

fn db(own: &mut DbBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    let answered = call.duration_ns.is_some();
    let failed = answered && chance.one_in(3);
    call.is_error = Some(failed || !answered);
    call.response_bytes = call.response_bytes.map(|bytes| bytes * 2);
    let system = chance.pick(&["postgresql", "mysql", "mongodb"]);
    let (operation, statement) = chance.pick(STATEMENTS);
    let (command, operation, errors) = match system {
        "postgresql" => (chance.pick(&["Query", "Execute"]), operation, ["23505", "42P01"]),
        "mysql" => (chance.pick(&["COM_QUERY", "COM_STMT_EXECUTE"]), operation, ["1062", "1146"]),
        _ => (chance.pick(&["OP_MSG", "OP_QUERY"]), chance.pick(&["find", "insert"]), ["11000", "26"]),
    };
    own.append(&DbRow {
        system: Some(system),
        database: chance.pick(&[Some("orders_db"), Some("mydb"), None]),
        user: chance.pick(&[Some("admin"), Some("app"), None]),
        command: Some(command),
        operation: Some(operation),
        collection: chance.pick(&[Some("users"), Some("orders")]),
        statement: (system != "mongodb").then_some(statement),
        error_code: failed.then(|| chance.pick(&errors)),
        error_message: failed.then(|| chance.pick(&["duplicate key", "no such table"])),
        error_code_name: (failed && system == "mongodb")
            .then(|| chance.pick(&["NamespaceNotFound", "DuplicateKey"])),
        statement_id: if system == "mysql" { chance.pick(&[Some(7), Some(8), None]) } else { None },
        ..DbRow::default()
    });
}

fn redis(own: &mut RedisBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    call.response_bytes = call.response_bytes.map(|bytes| bytes * 2);
    let (command, key, args) = chance.pick(&[
        ("GET", Some("session:17"), None),
        ("GET", Some("cart:9"), None),
        ("SET", Some("cart:9"), Some("x EX 60")),
        ("DEL", Some("cart:9"), None),
        ("CONFIG", None, Some("SET dir /tmp")),
        ("CONFIG", None, Some("GET maxmemory")),
        ("KEYS", None, Some("*")),
        ("CLIENT", None, Some("LIST")),
        ("DEBUG", None, Some("SLEEP 1")),
        ("FLUSHALL", None, None),
    ]);
    own.append(&RedisRow { command: Some(command), key, args, ..RedisRow::default() });
}

fn ws(own: &mut WsBlock, _: &mut CallRow<'_>, chance: &mut Chance) {
    let opcode = chance.pick(&["text", "binary", "ping", "close"]);
    own.append(&WsRow {
        opcode: Some(opcode),
        is_request: Some(chance.pick(&[true, false])),
        payload: Some(chance.pick(&["{\"op\":\"subscribe\"}", "{\"op\":\"tick\"}"]))
            .filter(|_| opcode == "text"),
        payload_len: Some(chance.pick(&[0, 18, 40_000])),
        ..WsRow::default()
    });
}

fn icmp(own: &mut IcmpBlock, _: &mut CallRow<'_>, chance: &mut Chance) {
    own.append(&IcmpRow {
        version: Some(chance.pick(&[4, 6])),
        type_name: Some(chance.pick(&["echo_request", "dest_unreachable", "time_exceeded"])),
        ..IcmpRow::default()
    });
}

fn kafka(own: &mut KafkaBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    call.request_bytes = call.request_bytes.map(|bytes| bytes * 15);
    let api = chance.pick(&[("PRODUCE", 0), ("FETCH", 1), ("METADATA", 3)]);
    own.append(&KafkaRow {
        api: Some(api.0),
        api_key: Some(api.1),
        client_id: chance.pick(&[Some("payment-processor"), Some("rdkafka"), None]),
        topic: chance.pick(&[Some("orders"), Some("orders-eu"), Some("logs"), None]),
        ..KafkaRow::default()
    });
}

fn amqp(own: &mut AmqpBlock, _: &mut CallRow<'_>, chance: &mut Chance) {
    own.append(&AmqpRow {
        method: Some(chance.pick(&["basic.publish", "basic.deliver", "queue.declare"])),
        exchange: chance.pick(&[Some("orders"), Some("logs"), None]),
        queue: Some("billing"),
        ..AmqpRow::default()
    });
}

fn tls(own: &mut TlsBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    let answered = call.duration_ns.is_some();
    const SUITES: [&[&str]; 3] = [
        &["TLS_AES_128_GCM_SHA256"],
        &["TLS_ECDHE_RSA_WITH_RC4_128_SHA", "TLS_AES_128_GCM_SHA256"],
        &["TLS_RSA_WITH_NULL_SHA"],
    ];
    let (cipher, cipher_num) =
        chance.pick(&[("TLS_AES_128_GCM_SHA256", 0x1301), ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", 0xc011)]);
    let (version, version_num) = chance.pick(&[("TLSv1.2", 771), ("TLSv1.3", 772)]);
    let alert = chance.pick(&[None, None, Some("unknown_ca"), Some("handshake_failure")]);
    let suites = chance.pick(&SUITES);
    let offered = chance.mostly(20, suites);
    own.append(&TlsRow {
        sni: chance.pick(&[Some("a.example"), Some("s3.amazonaws.com"), Some("shop.test"), None]),
        version: answered.then_some(version),
        version_num: answered.then_some(version_num),
        cipher: answered.then_some(cipher),
        cipher_num: answered.then_some(cipher_num),
        cipher_suites: offered,
        alpn: chance.pick(&[Some("h2"), Some("http/1.1"), None]),
        established: answered.then_some(alert.is_none()),
        alert: alert.filter(|_| answered),
        alert_by: alert.filter(|_| answered).map(|_| chance.pick(&["src", "dst"])),
        ja3: chance.pick(&[Some("aaaa"), Some("cccc"), None]),
        ja3s: chance.pick(&[Some("bbbb"), None]),
        ja4: chance.pick(&[Some("t13d1516h2"), Some("t12d1516h2"), None]),
        server_subject: chance.pick(&[Some("CN=shop.test"), Some("CN=other"), None]),
        server_issuer: chance.pick(&[Some("CN=an authority"), Some("CN=itself"), None]),
        ..TlsRow::default()
    });
}

fn radius(own: &mut RadiusBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    let answered = call.duration_ns.is_some();
    let (code, code_num) =
        chance.pick(&[("Access-Request", 1), ("Accounting-Request", 4), ("Status-Server", 12)]);
    own.append(&RadiusRow {
        code: Some(code),
        code_num: Some(code_num),
        username: chance.pick(&[Some("alice"), Some("bob"), None]),
        response_code: answered.then(|| chance.pick(&["Access-Accept", "Access-Reject"])),
        authenticator: chance.pick(&[Some("00ff"), Some("1234"), None]),
        ..RadiusRow::default()
    });
}

fn diameter(own: &mut DiameterBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    let answered = call.duration_ns.is_some();
    let (command, command_name) =
        chance.pick(&[("CCR", "Credit-Control"), ("ULR", "Update-Location"), ("DWR", "Device-Watchdog")]);
    own.append(&DiameterRow {
        command: Some(command),
        command_name: Some(command_name),
        origin_host: chance.pick(&[Some("client.example"), Some("mme.example")]),
        result_code: answered.then(|| chance.pick(&[2001, 3002, 5004])),
        ..DiameterRow::default()
    });
}

fn ldap(own: &mut LdapBlock, call: &mut CallRow<'_>, chance: &mut Chance) {
    let answered = call.duration_ns.is_some();
    let (result, result_code) =
        chance.pick(&[("success", 0), ("invalidCredentials", 49), ("noSuchObject", 32)]);
    own.append(&LdapRow {
        operation: Some(chance.pick(&["bind", "search", "modify"])),
        base_dn: chance.pick(&[Some("ou=people,dc=shop,dc=test"), Some("dc=shop,dc=test"), None]),
        result: answered.then_some(result),
        result_code: answered.then_some(result_code),
        ..LdapRow::default()
    });
}
