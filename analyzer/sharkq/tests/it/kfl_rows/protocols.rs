//! Seeded rows of the protocols beside HTTP and DNS. In: flows that they ran on. Out: a table each.

use std::path::Path;

use shark_schema::call::CallBlock;
use shark_schema::table::{Block, Table};
use shark_schema::tables::diameter::{self, DiameterBlock, DiameterRow};
use shark_schema::tables::radius::{self, RadiusBlock, RadiusRow};
use shark_schema::tables::tls::{self, TlsBlock, TlsRow};

use super::{Chance, FLOWS, Flow, call_of, store};

/// Rows of each table.
const ROWS: usize = 600;

/// Writes their tables below a folder.
pub fn write(folder: &Path, flows: &[Flow], chance: &mut Chance) {
    rows(folder, &tls::TABLE, flows, chance, tls);
    rows(folder, &radius::TABLE, flows, chance, radius);
    rows(folder, &diameter::TABLE, flows, chance, diameter);
}

/// Rows of a table; `append` adds its own columns, and is told whether the call was answered.
fn rows<B: Block>(
    folder: &Path,
    table: &Table,
    flows: &[Flow],
    chance: &mut Chance,
    append: impl Fn(&mut B, bool, &mut Chance),
) {
    let (mut calls, mut own) = (CallBlock::default(), B::default());
    for number in 0..ROWS {
        let flow = &flows[chance.below(FLOWS as i64) as usize];
        let id = format!("{}{number:04}", table.name);
        let call = call_of(flow, &id, chance);
        calls.append(&call);
        append(&mut own, call.duration_ns.is_some(), chance);
    }
    store(folder, table, ROWS, |arrays| {
        calls.finish(arrays);
        own.finish(arrays);
    });
}

fn tls(own: &mut TlsBlock, answered: bool, chance: &mut Chance) {
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

fn radius(own: &mut RadiusBlock, answered: bool, chance: &mut Chance) {
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

fn diameter(own: &mut DiameterBlock, answered: bool, chance: &mut Chance) {
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
