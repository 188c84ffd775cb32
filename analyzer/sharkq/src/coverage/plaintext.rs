//! May an answer about calls inside of TLS be believed: what of the plaintext was recorded in the time that was asked about.
//! In: the table `tls_coverage` of a session. Out: a line a node, and whether any is known to be missing.
//! What a program that cannot be read said was never aimed at: it is named, like an interface that nobody recorded.

use super::{number, rows, text, time};
use crate::session::{QueryError, Session};
use crate::times::Stretch;

/// What a node recorded of it.
#[derive(Clone, Debug, Default)]
pub struct PlaintextCoverage {
    /// The node.
    pub node: String,
    captured: i64,
    lost: i64,
    /// What was lost, removed or refused, and when.
    missing: Vec<Missing>,
    unreadable: Vec<String>,
}

#[derive(Clone, Debug)]
struct Missing {
    state: String,
    stretch: Stretch,
    why: String,
}

/// Of what is missing as many are told one by one.
const SHOWN: usize = 3;

impl PlaintextCoverage {
    /// Of a stretch of time, by node.
    pub async fn of(session: &Session, asked: Stretch) -> Result<Vec<PlaintextCoverage>, QueryError> {
        let sql = format!(
            "SELECT node, state, from_ts, to_ts, library, why, sum(captured), sum(dropped) \
             FROM tls_coverage WHERE {} GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 3, 2, 5, 6",
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
                of.captured += number(&batch, 6, row);
                of.lost += number(&batch, 7, row);
                let stretch = Stretch { from_ns: time(&batch, 2, row), to_ns: time(&batch, 3, row) };
                let [state, library, why] = [1, 4, 5].map(|column| text(&batch, column, row));
                match library.is_empty() {
                    true => of.add(state, stretch, why),
                    false => of.add_unreadable(&library, &why),
                }
            }
        }
        Ok(nodes)
    }

    fn add(&mut self, state: String, stretch: Stretch, why: String) {
        match (state.as_str(), self.missing.last_mut()) {
            ("ok", _) => {}
            // Its buckets, and the words of the log, may tell of one loss.
            ("lossy", Some(last)) if last.state == state && (last.why.is_empty() || why.is_empty()) => {
                last.why.push_str(&why);
                last.stretch = last.stretch.hull(stretch);
            }
            (_, Some(last)) if last.state == state && last.why == why => {
                last.stretch = last.stretch.hull(stretch);
            }
            _ => self.missing.push(Missing { state, stretch, why }),
        }
    }

    /// By the name of the file and the reason; the table has its whole path, and who ran it.
    fn add_unreadable(&mut self, library: &str, why: &str) {
        let path = library.split(" (").next().unwrap_or(library);
        let name = path.rsplit('/').next().unwrap_or(path);
        let short = format!("{name} ({})", why.split(';').next().unwrap_or(why));
        if !self.unreadable.contains(&short) {
            self.unreadable.push(short);
        }
    }

    /// True where some is known to be missing.
    pub fn is_incomplete(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The line under a result.
    pub fn line(&self, stretch: &dyn Fn(Stretch) -> String) -> String {
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

/// Rows that have a part in it.
fn overlaps(asked: Stretch) -> String {
    let moment = |ns: i64| format!("arrow_cast({ns}, 'Timestamp(ns)')");
    let from = asked.from_ns.map(|ns| format!("(to_ts IS NULL OR to_ts >= {})", moment(ns)));
    let to = asked.to_ns.map(|ns| format!("(from_ts IS NULL OR from_ts <= {})", moment(ns)));
    let conditions: Vec<String> = from.into_iter().chain(to).collect();
    if conditions.is_empty() { "true".into() } else { conditions.join(" AND ") }
}
