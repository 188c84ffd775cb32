//! May names be believed to be all there are: where what proves them is missing in the time that was asked
//! about. In: the table `name_coverage` of a session. Out: a line a node, and whether anything is missing.
//! A name that is there is proven; one that is not there says nothing of such a time. What nobody asked to
//! witness is missed only by a question that chooses by it.

use super::plaintext::overlaps;
use super::{number, rows, text, time};
use crate::asked::Asked;
use crate::session::{QueryError, Session};
use crate::times::Stretch;

/// Where what proves the names of a node is missing.
#[derive(Clone, Debug, Default)]
pub struct NameCoverage {
    /// The node.
    pub node: String,
    missing: Vec<Missing>,
}

#[derive(Clone, Debug)]
struct Missing {
    feature: String,
    state: String,
    stretch: Stretch,
    events: i64,
    why: String,
}

/// Of what is missing as many are told one by one.
const SHOWN: usize = 3;

impl NameCoverage {
    /// Coverage of the names that were asked about, one entry a node.
    pub async fn of(session: &Session, asked: Asked) -> Result<Vec<NameCoverage>, QueryError> {
        let chosen = match (asked.objects, asked.labels) {
            (_, true) => "'kube_pods', 'labels'",
            (true, false) => "'kube_pods'",
            (false, false) => "''",
        };
        let sql = format!(
            "SELECT node, feature, state, from_ts, to_ts, coalesce(why, ''), coalesce(events, 0) FROM name_coverage \
             WHERE state <> 'ok' AND (state <> 'not_targeted' OR feature IN ({chosen})) AND {} ORDER BY 1, 2, 4, 5, 3",
            overlaps(asked.stretch)
        );
        let mut nodes: Vec<NameCoverage> = Vec::new();
        for batch in rows(session, &sql).await? {
            for row in 0..batch.num_rows() {
                let node = text(&batch, 0, row);
                if nodes.last().is_none_or(|last| last.node != node) {
                    nodes.push(NameCoverage { node, ..NameCoverage::default() });
                }
                let [feature, state, why] = [1, 2, 5].map(|column| text(&batch, column, row));
                let stretch = Stretch { from_ns: time(&batch, 3, row), to_ns: time(&batch, 4, row) };
                let events = number(&batch, 6, row);
                nodes.last_mut().into_iter().for_each(|of| {
                    of.add(Missing {
                        feature: feature.clone(),
                        state: state.clone(),
                        stretch,
                        events,
                        why: why.clone(),
                    });
                });
            }
        }
        Ok(nodes)
    }

    /// What goes on where the last one ended is one.
    fn add(&mut self, next: Missing) {
        let is_same = |last: &Missing| {
            (&last.feature, &last.state, &last.why) == (&next.feature, &next.state, &next.why)
        };
        match self.missing.last_mut().filter(|last| is_same(last)) {
            Some(last) if last.stretch.to_ns >= next.stretch.from_ns => {
                last.stretch = last.stretch.hull(next.stretch);
                last.events += next.events;
            }
            _ => self.missing.push(next),
        }
    }

    /// True where some of what proves names is known to be missing.
    pub fn is_incomplete(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The line under a result.
    pub fn line(&self, stretch: &dyn Fn(Stretch) -> String) -> String {
        let mut parts = vec![format!("{}, names", self.node)];
        let shown = self.shown();
        for Missing { feature, state, stretch: time, events, why } in &shown {
            let events = if *events > 0 { format!(" {events} events") } else { String::new() };
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            parts.push(format!("{feature} {}{events} {}{why}", state.replace('_', " "), stretch(*time)));
        }
        if self.missing.len() > shown.len() {
            parts.push(format!("and {} more such stretches", self.missing.len() - shown.len()));
        }
        parts.join(", ")
    }

    /// The first stretch of each feature, and others as far as there is room.
    fn shown(&self) -> Vec<&Missing> {
        let missing = self.missing.iter().enumerate();
        let (firsts, others): (Vec<_>, Vec<_>) =
            missing.partition(|(at, of)| *at == 0 || self.missing[at - 1].feature != of.feature);
        let room = SHOWN.saturating_sub(firsts.len());
        let mut shown: Vec<_> = firsts.into_iter().chain(others.into_iter().take(room)).collect();
        shown.sort_by_key(|(at, _)| *at);
        shown.into_iter().map(|(_, of)| of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_without_a_break_is_told_once() {
        let of = |state: &str, from: i64, to: i64| Missing {
            feature: "sockets".into(),
            state: state.into(),
            stretch: Stretch { from_ns: Some(from), to_ns: Some(to) },
            events: 2,
            why: "full".into(),
        };
        let mut coverage = NameCoverage { node: "n".into(), ..NameCoverage::default() };
        assert!(!coverage.is_incomplete());
        for next in [of("lossy", 10, 20), of("lossy", 20, 30), of("lossy", 50, 60), of("rotated_out", 60, 70)]
        {
            coverage.add(next);
        }
        assert!(coverage.is_incomplete());
        let line = coverage.line(&|of| format!("{}-{}", of.from_ns.unwrap_or(0), of.to_ns.unwrap_or(0)));
        let told = "n, names, sockets lossy 4 events 10-30: full, sockets lossy 2 events 50-60: full, \
                    sockets rotated out 2 events 60-70: full";
        assert_eq!(line, told);
    }

    #[test]
    fn each_feature_is_told_of_once_at_least() {
        let mut coverage = NameCoverage { node: "n".into(), ..NameCoverage::default() };
        for (feature, number) in [("a", 5), ("b", 1), ("c", 2)] {
            for at in 0..number {
                let stretch = Stretch { from_ns: Some(10 * at), to_ns: Some(10 * at + 5) };
                let [feature, state, why] = [feature, "off", ""].map(str::to_owned);
                coverage.add(Missing { feature, state, stretch, events: 0, why });
            }
        }
        let line = coverage.line(&|of| format!("{}", of.from_ns.unwrap_or(0)));
        assert_eq!(line, "n, names, a off 0, b off 0, c off 0, and 5 more such stretches");
    }
}
