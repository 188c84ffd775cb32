//! When the recorder of a node lived. In: facts of its logs. Out: of a time, when that life began, its last word, and the begin of the
//! next. Between a last word and the next begin nobody watched: what was open before may have ended at any time in between.

use std::collections::BTreeMap;

#[cfg(test)]
use shark_schema::identity::Start;
use shark_schema::identity::{Fact, LogHeader, Record};

/// Lives of the recorders of all nodes.
#[derive(Default)]
pub struct Lives {
    /// By cluster and node, in their order.
    nodes: BTreeMap<(String, String), Vec<Life>>,
}

/// From the begin of a recorder to the last thing it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// It said that it begins; the smallest time for one whose begin is in no log.
    pub from_ns: i64,
    /// It said something, for the last time.
    pub last_word_ns: i64,
}

impl Lives {
    /// From facts in any order.
    pub fn new(facts: &[(LogHeader, Record)]) -> Lives {
        let recorders = || facts.iter().filter(|(header, _)| header.writer == "recorder");
        let key = |header: &LogHeader| (header.cluster.clone(), header.node.clone());
        let mut nodes: BTreeMap<(String, String), Vec<Life>> = BTreeMap::new();
        for (header, record) in recorders() {
            let lives = nodes.entry(key(header)).or_insert_with(|| vec![Life::before()]);
            if matches!(record.fact, Fact::Start(_)) {
                lives.push(Life { from_ns: record.ts_ns, last_word_ns: record.ts_ns });
            }
        }
        for lives in nodes.values_mut() {
            lives.sort_by_key(|life| life.from_ns);
            lives.dedup();
        }
        let mut lives = Lives { nodes };
        for (header, record) in recorders() {
            lives.hear(&header.cluster, &header.node, record.ts_ns);
        }
        lives
    }

    /// Something was said then.
    pub fn hear(&mut self, cluster: &str, node: &str, ts_ns: i64) {
        let key = (cluster.to_owned(), node.to_owned());
        let lives = self.nodes.entry(key).or_insert_with(|| vec![Life::before()]);
        let after = lives.partition_point(|life| life.from_ns <= ts_ns);
        if let Some(life) = lives.get_mut(after.saturating_sub(1)) {
            life.last_word_ns = ts_ns.max(life.last_word_ns);
        }
    }

    /// The life that a time lies in, or behind.
    pub fn at(&self, cluster: &str, node: &str, ts_ns: i64) -> Option<Life> {
        let lives = self.nodes.get(&(cluster.to_owned(), node.to_owned()))?;
        let after = lives.partition_point(|life| life.from_ns <= ts_ns);
        lives.get(after.checked_sub(1)?).copied()
    }

    /// Whether two times lie in one life.
    pub fn is_one(&self, cluster: &str, node: &str, [one_ns, other_ns]: [i64; 2]) -> bool {
        let begin = |ns| self.at(cluster, node, ns).map(|life| life.from_ns);
        begin(one_ns) == begin(other_ns)
    }
}

impl Life {
    /// Of the time before the first begin that a log tells of.
    fn before() -> Life {
        Life { from_ns: i64::MIN, last_word_ns: i64::MIN }
    }
}

/// That a recorder begins which says nothing more of itself.
#[cfg(test)]
pub(crate) fn start() -> Start {
    Start {
        recorder_version: String::new(),
        kernel: String::new(),
        config_sha256: String::new(),
        pid: 1,
        boot_id: None,
        ring_bytes: 0,
        filter: None,
        snaplen: 0,
        replay: None,
        after: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use shark_schema::identity::Clock;

    use super::*;

    fn said(ts_ns: i64, fact: Fact) -> (LogHeader, Record) {
        let header = LogHeader {
            log: "sharkrec".into(),
            format: 1,
            node: "n".into(),
            cluster: "c".into(),
            writer: "recorder".into(),
            started_ns: 0,
        };
        (header, Record { ts_ns, after_ns: None, fact })
    }

    #[test]
    fn a_life_ends_with_its_last_word() {
        let start = || Fact::Start(start());
        let word = || Fact::Clock(Clock { realtime_minus_boottime_ns: 0, step_ns: None, uncertainty_ns: 0 });
        // A later file says again when it began.
        let facts = [
            said(100, start()),
            said(100, start()),
            said(150, word()),
            said(400, start()),
            said(170, word()),
            said(420, word()),
        ];
        let mut lives = Lives::new(&facts);
        let at = |lives: &Lives, ns| lives.at("c", "n", ns).map(|life| (life.from_ns, life.last_word_ns));
        assert_eq!(at(&lives, 120), Some((100, 170)));
        assert_eq!(at(&lives, 399), Some((100, 170)));
        assert_eq!(at(&lives, 400), Some((400, 420)));
        lives.hear("c", "n", 199);
        assert_eq!(at(&lives, 300), Some((100, 199)));
        assert!(lives.is_one("c", "n", [100, 300]) && !lives.is_one("c", "n", [300, 400]));
        assert_eq!(lives.at("c", "other", 300), None);
    }
}
