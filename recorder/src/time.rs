//! Clocks and times as people write them.
//! In: "10m", "2026-11-21T03:12:00Z", or nothing. Out: nanoseconds since 1970 (UTC).
//! Stamps are signed 64 bits everywhere; what does not fit is refused, never wrapped.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use shark_schema::identity::{Clock, Fact};
use shark_schema::manifest::Ulid;

use crate::log::Log;

/// The clock the kernel stamps packets with.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The clock of the kernel's events, which never steps.
pub fn boottime_ns() -> u64 {
    u64::try_from(nanos(clock_gettime(ClockId::Boottime))).unwrap_or(0)
}

/// A new ULID: sorts by the time it was made.
pub fn new_ulid() -> io::Result<Ulid> {
    let mut random = [0; 10];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(Ulid::new((now_ns() / 1_000_000).unsigned_abs(), random))
}

/// A moment: a duration before `now` ("10m"), or a time of day with its date and zone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is neither a duration before now (90s, 10m, 2h, 1d) nor a time (2026-11-21T03:12:00Z)")]
pub struct BadMoment(String);

pub fn parse_moment(text: &str, now_ns: i64) -> Result<i64, BadMoment> {
    if let Some(before) = parse_duration(text) {
        return Ok(now_ns.saturating_sub(i64::try_from(before.as_nanos()).unwrap_or(i64::MAX)));
    }
    let bad = || BadMoment(text.to_owned());
    let stamp: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    i64::try_from(stamp.as_nanosecond()).map_err(|_| bad())
}

/// "90s", "10m", "1h30m", "250ms".
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = next;
    }
    (!text.trim().is_empty()).then_some(total)
}

/// RFC 3339 in UTC; a stamp outside the calendar is printed as its number.
pub fn show(ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => format!("{ns} ns"),
    }
}

/// How far the packets' clock is from the one that never steps. Of five readings the narrowest is taken.
pub fn clock_reading() -> Clock {
    let read = || {
        let before = nanos(clock_gettime(ClockId::Boottime));
        let wall = nanos(clock_gettime(ClockId::Realtime));
        let after = nanos(clock_gettime(ClockId::Boottime));
        (after - before, wall - before - (after - before) / 2)
    };
    let (width, offset) = (0..5).map(|_| read()).min().expect("five readings");
    Clock { realtime_minus_boottime_ns: offset, step_ns: None, uncertainty_ns: (width + 1) / 2 }
}

/// More than slewing explains in the time between two readings (500 ppm of 10 s is 5 ms).
const STEP_NS: i64 = 10_000_000;

/// Reads the clock and writes the fact: the first, every step, and otherwise now and then.
pub fn watch_clock(before: Option<Clock>, log: &Log) -> Clock {
    let mut clock = clock_reading();
    if let Some(before) = before {
        let change = clock.realtime_minus_boottime_ns - before.realtime_minus_boottime_ns;
        clock.step_ns = (change.abs() > STEP_NS).then_some(change);
        if clock.step_ns.is_some() {
            tracing::warn!("the clock stepped by {} ms", change / 1_000_000);
        }
    }
    log.write(Fact::Clock(clock.clone()));
    clock
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "10", "m", "10x", "-5s", "1e999d", "99999999999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(parse_moment("10s", 60_000_000_000), Ok(50_000_000_000));
        assert_eq!(parse_moment("1970-01-01T00:00:01Z", 0), Ok(1_000_000_000));
        assert!(parse_moment("yesterday", 0).is_err());
    }
}
