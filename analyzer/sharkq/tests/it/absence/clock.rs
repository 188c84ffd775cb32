//! The clock was a year ahead once and came back. The clock of the machine is everybody's: here the
//! recorder sees it by libfaketime, and the kernel stamps the packets by it because their sender says when
//! they are sent (SO_TXTIME, socket(7)).

use std::path::{Path, PathBuf};

use super::{Ledger, Recorder, Wire, seconds, snapshot, strict_holds};
use crate::desk::Desk;
use crate::programs::is_permitted;

const YEAR_S: u64 = 365 * 86_400;

/// A file that says how much the clock is ahead, for libfaketime and the sender alike.
struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    /// None, with the reason printed, where there is no libfaketime.
    fn new(desk: &Desk) -> Option<Clock> {
        let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        if !Path::new(&library).exists() {
            println!("skipped: there is no {library}");
            return None;
        }
        let clock = Clock { file: desk.at("clock"), library };
        clock.is_ahead_by(0);
        Some(clock)
    }

    fn is_ahead_by(&self, seconds: u64) {
        let draft = self.file.with_extension("new");
        std::fs::write(&draft, format!("+{seconds}\n")).expect("a file");
        std::fs::rename(draft, &self.file).expect("it is replaced");
    }

    fn start(&self, wire: &Wire, ring: &Path) -> Recorder {
        let file = self.file.to_str().expect("a path");
        let environment = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        Recorder::start_with(wire, ring, &[], &environment)
    }
}

#[test]
fn what_is_blind_is_what_is_missing_while_the_clock_is_a_year_ahead() {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let Some(clock) = Clock::new(&desk) else { return };
    let mut wire = Wire::by_clock(&desk, "c", &[&clock.file]);
    let ring = desk.at("ring");
    seconds(0.5);
    let recorder = clock.start(&wire, &ring);
    seconds(3.0);
    recorder.stop();
    seconds(1.0);
    clock.is_ahead_by(YEAR_S);
    seconds(0.5);
    let recorder = clock.start(&wire, &ring);
    seconds(2.0);
    recorder.signal("KILL");
    recorder.ends();
    seconds(1.0);
    let recorder = clock.start(&wire, &ring);
    seconds(2.0);
    recorder.stop();
    seconds(0.5);
    clock.is_ahead_by(0);
    seconds(1.0);
    let recorder = clock.start(&wire, &ring);
    seconds(1.5);
    recorder.signal("STOP");
    seconds(4.0);
    recorder.signal("CONT");
    seconds(2.0);
    let snapshot = snapshot(&desk, &ring);
    recorder.stop();
    seconds(0.2);
    let sent = wire.sent();
    let ledger = Ledger::of(&desk, &ring, sent.clone());
    let is_ahead = |ns: &i64| *ns - sent[0] > (YEAR_S as i64 - 3_600) * 1_000_000_000;
    let ahead = ledger.seen.values().filter(|ns| is_ahead(ns)).count();
    assert!((1_200..2_000).contains(&ahead), "{ahead} packets have the stamps of the wrong clock");
    assert!(ledger.missing().len() >= 6, "{:?}", ledger.missing());
    ledger.balances("ring");
    strict_holds(&desk, &ring, &ledger);
    // The window of the snapshot ends now: what is stamped with a time to come is not in it.
    let ledger = Ledger::of(&desk, &snapshot, sent.clone());
    assert!(!ledger.seen.values().any(is_ahead));
    strict_holds(&desk, &snapshot, &ledger);
}
