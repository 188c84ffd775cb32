//! The shop, live: recorded by the recorder while it runs, held against its own ledger, call by call.

use std::path::{Path, PathBuf};

use crate::desk::Desk;
use crate::programs::{FIXTURES, READY, built, finished, folder, is_permitted, printed, within};
use crate::truth::{self, Ledger};

#[test]
fn the_ledger_is_in_the_tables() {
    live("auto", 21);
}

#[test]
fn so_it_is_without_rewritten_addresses() {
    live("plain", 22);
}

fn live(services: &str, seed: u64) {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let snapshot = record(&desk, services, seed);
    let (ledger, identity) = (desk.at("ledger.ndjson"), desk.at("identity.json"));
    let verified = printed(desk.sharkq().arg("verify").arg(&snapshot));
    assert!(verified.contains(": ok, "), "{verified}");
    no_loss_is_shown(&desk, &snapshot);
    truth::compare(&desk, &snapshot, &identity, &Ledger::read(&ledger, &identity));
    answers_are_the_ledgers(&desk, &snapshot, &ledger, &identity);
}

/// Plays a run of the shop while `sharkrec` records every pod's interface; gives the snapshot.
pub fn record(desk: &Desk, services: &str, seed: u64) -> PathBuf {
    built("sharkrec");
    let record = "\"$BIN/sharkrec\" record --ring \"$DESK/ring\" --ring-size 1GiB $(printf -- '--iface %s ' $SHOP_IFACES)";
    let then = "\"$BIN/sharkrec\" snapshot --since 10m --ring \"$DESK/ring\" --to \"$DESK/snapshots\" >\"$DESK/url\"";
    let mut shop = within(120, built("shark-shop"));
    shop.args(["run", "--seed", &seed.to_string(), "--services", services])
        .args(["--record", record, "--ready", READY, "--then", then])
        .arg("--ledger")
        .arg(desk.at("ledger.ndjson"))
        .arg("--state")
        .arg(desk.folder());
    finished(shop.env("BIN", folder()).env("DESK", desk.folder()));
    let url = std::fs::read_to_string(desk.at("url")).expect("the snapshot's address");
    assert_eq!(url.lines().count(), 1, "{url}");
    PathBuf::from(url.trim().trim_start_matches("file://"))
}

pub fn no_loss_is_shown(desk: &Desk, source: &Path) {
    let states = desk.rows(source, "SELECT state, count(*) AS n FROM coverage GROUP BY state");
    assert!(states.len() == 1 && states[0]["state"] == "ok", "{states:?}");
    let lost = "SELECT sum(kernel_dropped) AS kernel, sum(user_dropped) AS queue, \
                (SELECT sum(dropped) FROM coverage) AS told FROM segments";
    let lost = &desk.rows(source, lost)[0];
    assert_eq!((&lost["kernel"], &lost["queue"], &lost["told"]), (&0.into(), &0.into(), &0.into()));
}

/// The five questions of `fixtures/incidents`, answered from the recording and judged by the shop.
pub fn answers_are_the_ledgers(desk: &Desk, source: &Path, ledger: &Path, identity: &Path) {
    for question in ["1-failing", "2-slow", "3-resets", "4-nxdomain", "5-leak"] {
        let rows = desk.at(&format!("{question}.json"));
        let mut ask = desk.sharkq();
        ask.arg("sql").arg(source).arg("--identity").arg(identity);
        ask.arg("-f").arg(format!("{FIXTURES}/incidents/{question}.sql"));
        finished(ask.args(["--format", "json", "-o"]).arg(&rows));
        let mut judge = within(30, built("shark-shop"));
        judge.args(["compare", "--incident", &question[2..]]);
        let verdict = printed(judge.arg("--ledger").arg(ledger).arg("--rows").arg(&rows));
        assert!(verdict.contains("same as the ledger"), "{verdict}");
        assert!(!verdict.contains("(0 rows)"), "{verdict}");
    }
}
