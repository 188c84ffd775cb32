//! The bundled run of the shop, replayed through the recorder: what a machine without namespaces can show.

use std::path::{Path, PathBuf};

use crate::desk::Desk;
use crate::programs::{FIXTURES, built, finished, printed, within};
use crate::shop::answers_are_the_ledgers;
use crate::truth::{self, Ledger};

#[test]
fn the_ledger_is_in_the_tables() {
    let desk = Desk::new();
    let snapshot = snapshot(&desk);
    let [ledger, identity] =
        ["ledger.ndjson", "identity.json"].map(|name| Path::new(FIXTURES).join("shop").join(name));
    truth::compare(&desk, &snapshot, &identity, &Ledger::read(&ledger, &identity));
    answers_are_the_ledgers(&desk, &snapshot, &ledger, &identity);
}

/// A ring in `ring` that holds the bundled run, and a snapshot of it.
pub fn snapshot(desk: &Desk) -> PathBuf {
    let capture = format!("{FIXTURES}/shop/shop.pcapng.zst");
    let mut replay = within(60, built("sharkrec"));
    replay.args(["record", "--ring-size", "1GiB", "--read", &capture, "--ring"]);
    finished(replay.arg(desk.at("ring")));
    let mut snapshot = within(60, built("sharkrec"));
    snapshot.args(["snapshot", "--since", "1970-01-01T00:00:00Z", "--ring"]);
    snapshot.arg(desk.at("ring")).arg("--to").arg(desk.at("snapshots"));
    let url = printed(&mut snapshot);
    PathBuf::from(url.trim().trim_start_matches("file://"))
}
