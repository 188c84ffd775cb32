//! May an answer about calls inside of TLS be believed: what of the plaintext was recorded in the time that was asked about.
//! In: the table `tls_coverage` of a session. Out: a line a node, and whether any is known to be missing.
//! What a program that cannot be read said was never aimed at, nor what was said while nobody asked for plaintext: it is named, like an
//! interface that nobody recorded.

use super::{number, rows, text, time};
use crate::rounds::BUCKET_NS;
use crate::session::{QueryError, Session};
use crate::times::Stretch;

/// What a node recorded of it.
#[derive(Clone, Debug, Default)]
pub struct PlaintextCoverage {
    /// The node.
    pub node: String,
    captured: i64,
    lost: i64,
    /// What was lost, removed, refused or not asked for, and when.
    missing: Vec<Missing>,
    unreadable: Vec<String>,
    /// Somebody asked for it at some time.
    targeted: bool,
}

#[derive(Clone, Debug)]
struct Missing {
    state: String,
    stretch: Stretch,
    why: String,
}

/// Of plaintext that nobody asked for.
const NOT_TARGETED: &str = "not_targeted";
/// Of what is missing as many are told one by one.
const SHOWN: usize = 3;

impl PlaintextCoverage {
    /// Of a stretch of time, by node.
    pub async fn of(session: &Session, asked: Stretch) -> Result<Vec<PlaintextCoverage>, QueryError> {
        let sql = format!(
            "SELECT node, state, from_ts, to_ts, library, why, process, sum(captured), sum(dropped) \
             FROM tls_coverage WHERE {} GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 3, 2, 5, 6, 7",
            overlaps(asked)
        );
        let mut nodes: Vec<PlaintextCoverage> = Vec::new();
        for batch in rows(session, &sql).await? {
            for row in 0..batch.num_rows() {
                let node = text(&batch, 0, row);
                if nodes.last().is_none_or(|last| last.node != node) {
                    nodes.push(PlaintextCoverage { node, ..PlaintextCoverage::default() });
                }
                let Some(of) = nodes.last_mut() else { continue };
                of.captured += number(&batch, 7, row);
                of.lost += number(&batch, 8, row);
                let stretch = Stretch { from_ns: time(&batch, 2, row), to_ns: time(&batch, 3, row) };
                let [state, library, mut why, process] = [1, 4, 5, 6].map(|column| text(&batch, column, row));
                if !process.is_empty() {
                    why = format!("process {process}: {why}");
                }
                match library.is_empty() {
                    true => of.add(state, stretch, why),
                    false => of.add_unreadable(&library, &why),
                }
            }
        }
        Ok(nodes)
    }

    fn add(&mut self, state: String, stretch: Stretch, why: String) {
        self.targeted |= state != NOT_TARGETED;
        if state == "ok" {
            return;
        }
        match self.missing.last_mut().filter(|last| last.state == state && last.reaches(stretch)) {
            // Its buckets, and the words of the log, may tell of one loss.
            Some(last) if state == "lossy" && (last.why.is_empty() || why.is_empty()) => {
                last.why.push_str(&why);
                last.stretch = last.stretch.hull(stretch);
            }
            _ => self.add_missing(Missing { state, stretch, why }),
        }
    }

    /// Reasons of several processes may alternate.
    fn add_missing(&mut self, new: Missing) {
        let is_same =
            |of: &&mut Missing| of.state == new.state && of.why == new.why && of.reaches(new.stretch);
        match self.missing.iter_mut().rev().find(is_same) {
            Some(same) => same.stretch = same.stretch.hull(new.stretch),
            None => self.missing.push(new),
        }
    }

    /// By the name of the file and the reason; the table has its whole path, and who ran it.
    fn add_unreadable(&mut self, library: &str, why: &str) {
        self.targeted = true;
        let path = library.split(" (").next().unwrap_or(library);
        let name = path.rsplit('/').next().unwrap_or(path);
        let short = format!("{name} ({})", why.split(';').next().unwrap_or(why));
        if !self.unreadable.contains(&short) {
            self.unreadable.push(short);
        }
    }

    /// True where some of what was asked for is known to be missing.
    pub fn is_incomplete(&self) -> bool {
        self.missing.iter().any(|missing| missing.state != NOT_TARGETED)
    }

    /// Whether anybody asked for it, at any time.
    pub fn is_targeted(&self) -> bool {
        self.targeted
    }

    /// The line under a result.
    pub fn line(&self, stretch: &dyn Fn(Stretch) -> String) -> String {
        if !self.targeted {
            let why = self.missing.last().map_or("", |missing| &missing.why);
            return format!("{}, plaintext of TLS: never targeted: {why}", self.node);
        }
        let mut parts = vec![format!("{}, plaintext of TLS: {} packets", self.node, self.captured)];
        parts.push(match self.lost {
            0 if self.missing.iter().all(|missing| missing.state != "lossy") => "none lost".into(),
            0 => "some lost".into(),
            lost => format!("{lost} calls or parts of calls lost"),
        });
        for missing in self.missing.iter().take(SHOWN) {
            let why = if missing.why.is_empty() { "" } else { ": " };
            let state = missing.state.replace('_', " ");
            parts.push(format!("{state} {}{why}{}", stretch(missing.stretch), missing.why));
        }
        if self.missing.len() > SHOWN {
            parts.push(format!("and {} more such stretches", self.missing.len() - SHOWN));
        }
        parts.extend(self.unreadable.iter().take(SHOWN).map(|why| format!("unreadable {why}")));
        if self.unreadable.len() > SHOWN {
            parts.push(format!("and {} more unreadable", self.unreadable.len() - SHOWN));
        }
        parts.join(", ")
    }
}

impl Missing {
    /// Nothing else can have been between the two.
    fn reaches(&self, next: Stretch) -> bool {
        let ends = self.stretch.to_ns.zip(next.from_ns);
        ends.is_none_or(|(end_ns, begin_ns)| begin_ns <= end_ns.saturating_add(BUCKET_NS))
    }
}

/// Rows that have a part in it.
pub(super) fn overlaps(asked: Stretch) -> String {
    let moment = |ns: i64| format!("arrow_cast({ns}, 'Timestamp(ns)')");
    let from = asked.from_ns.map(|ns| format!("(to_ts IS NULL OR to_ts >= {})", moment(ns)));
    let to = asked.to_ns.map(|ns| format!("(from_ts IS NULL OR from_ts <= {})", moment(ns)));
    let conditions: Vec<String> = from.into_iter().chain(to).collect();
    if conditions.is_empty() { "true".into() } else { conditions.join(" AND ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds.
    const S: i64 = 1_000_000_000;

    fn of(rows: &[(&str, i64, Option<i64>, &str)]) -> PlaintextCoverage {
        let mut coverage = PlaintextCoverage { node: "n".into(), ..PlaintextCoverage::default() };
        for (state, from_s, to_s, why) in rows {
            let stretch = Stretch { from_ns: Some(from_s * S), to_ns: to_s.map(|to_s| to_s * S) };
            coverage.add((*state).into(), stretch, (*why).into());
        }
        coverage
    }

    fn line(of: &PlaintextCoverage) -> String {
        let seconds = |ns: Option<i64>| ns.map_or(String::new(), |ns| (ns / S).to_string());
        of.line(&|stretch| format!("{}-{}", seconds(stretch.from_ns), seconds(stretch.to_ns)))
    }

    #[test]
    fn nobody_misses_what_nobody_asked_for() {
        let never = of(&[("not_targeted", 10, Some(20), "a reason"), ("not_targeted", 21, None, "a reason")]);
        assert!(!never.is_incomplete() && !never.is_targeted());
        assert_eq!(line(&never), "n, plaintext of TLS: never targeted: a reason");
        let rows = [
            ("not_targeted", 10, Some(20), "a reason"),
            ("ok", 20, Some(30), ""),
            ("ok", 30, Some(40), ""),
            ("not_targeted", 41, None, "a reason"),
        ];
        let at_times = of(&rows);
        assert!(!at_times.is_incomplete() && at_times.is_targeted());
        let told = "n, plaintext of TLS: 0 packets, none lost, not targeted 10-20: a reason, not targeted 41-: a reason";
        assert_eq!(line(&at_times), told);
    }

    #[test]
    fn losses_are_one_only_where_nothing_lies_between() {
        let lost = of(&[
            ("lossy", 10, Some(20), ""),
            ("lossy", 12, Some(22), "full"),
            ("lossy", 30, Some(40), "full"),
        ]);
        assert!(lost.is_incomplete());
        assert_eq!(line(&lost), "n, plaintext of TLS: 0 packets, some lost, lossy 10-40: full");
        let twice = of(&[("lossy", 10, Some(20), "full"), ("lossy", 90, Some(100), "full")]);
        assert!(
            line(&twice).ends_with(", some lost, lossy 10-20: full, lossy 90-100: full"),
            "{}",
            line(&twice)
        );
    }
}
