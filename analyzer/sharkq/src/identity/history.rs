//! Objects of a cluster over time. In: facts of any number of logs, each object told by one or several of them. Out: the versions
//! of each object with their intervals. Nothing is made up between two facts: a change that nobody watched says since when.

use std::collections::{BTreeMap, HashMap};

use shark_schema::identity::{Fact, LogHeader, Record};

use super::timeline::OPEN;

/// Facts of the first moments after a log begins are of objects that were there before.
const FIRST_LIST_NS: i64 = 10_000_000_000;

/// Cluster, kind and uid of an object.
pub type Key = (String, &'static str, String);

/// All objects that any log told of.
#[derive(Default)]
pub struct History {
    /// By cluster, kind and uid.
    pub objects: BTreeMap<Key, Object>,
}

/// One object.
pub struct Object {
    /// One after the other.
    pub versions: Vec<Version>,
    /// It was there before anybody looked.
    pub was_there: bool,
}

/// An object as it was for a while.
pub struct Version {
    /// Since when it is known to be so.
    pub from_ns: i64,
    /// It may have become so at any time after this.
    pub after_ns: Option<i64>,
    /// Until when, exclusive.
    pub to_ns: i64,
    /// The next version came about unwatched, after this time.
    pub unsure_ns: Option<i64>,
    /// What it was.
    pub fact: Fact,
}

impl History {
    /// From facts in any order.
    pub fn new(facts: &[(LogHeader, Record)]) -> History {
        let log = |header: &LogHeader| (header.cluster.clone(), header.node.clone(), header.writer.clone());
        let mut began = HashMap::new();
        for (header, record) in facts.iter().filter(|(_, record)| record.fact.object().is_some()) {
            let first_ns = began.entry(log(header)).or_insert(OPEN);
            *first_ns = record.ts_ns.min(*first_ns);
        }
        let mut told: BTreeMap<Key, Vec<(&Record, i64)>> = BTreeMap::new();
        for (header, record) in facts {
            let Some((kind, uid)) = record.fact.object() else { continue };
            let key = (header.cluster.clone(), kind, uid.to_owned());
            told.entry(key).or_default().push((record, began[&log(header)]));
        }
        let objects = told.into_iter().map(|(key, mut told)| {
            told.sort_by_key(|(record, _)| record.ts_ns);
            let (first, log_began_ns) = told[0];
            let was_there = first.ts_ns.saturating_sub(log_began_ns) <= FIRST_LIST_NS;
            let records: Vec<&Record> = told.into_iter().map(|(record, _)| record).collect();
            (key, Object { versions: versions(&records), was_there })
        });
        History { objects: objects.collect() }
    }

    /// Objects of a kind, with their cluster.
    pub fn of<'a>(&'a self, kind: &'static str) -> impl Iterator<Item = (&'a str, &'a Object)> {
        self.objects
            .iter()
            .filter(move |((_, of, _), _)| *of == kind)
            .map(|((cluster, ..), object)| (cluster.as_str(), object))
    }
}

fn versions(records: &[&Record]) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    let mut open = false;
    for record in records {
        let deleted = record.fact.deleted();
        let last = versions.last_mut().filter(|_| open);
        if last.as_ref().is_some_and(|last| !deleted && last.fact == record.fact) {
            continue;
        }
        if let Some(last) = last {
            last.to_ns = record.ts_ns;
            last.unsure_ns = record.after_ns;
        }
        open = !deleted;
        if open {
            let (from_ns, after_ns) = (record.ts_ns, record.after_ns);
            versions.push(Version {
                from_ns,
                after_ns,
                to_ns: OPEN,
                unsure_ns: None,
                fact: record.fact.clone(),
            });
        }
    }
    versions
}

impl Object {
    /// The version that held, or the nearest where none did: what never changes of an object can be read from it.
    pub fn near(&self, ts_ns: i64) -> Option<&Version> {
        let after = self.versions.partition_point(|version| version.from_ns <= ts_ns);
        self.versions.get(after.saturating_sub(1))
    }
}
