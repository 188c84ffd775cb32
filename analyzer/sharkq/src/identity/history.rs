//! Objects of a cluster over time. In: facts of any number of logs, each object told by one or several of them. Out: the versions
//! of each object with their intervals. Nothing is made up between two facts: a change that nobody watched says since when.

use std::collections::{BTreeMap, HashMap};

use shark_schema::identity::{Fact, LogHeader, Record};

use super::timeline::OPEN;

/// Where a log does not say when its first list was complete, facts of its first moments are of objects that were there before.
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
    /// It may have ended at any time after this: the next version came about unwatched, or nobody watched any more.
    pub unsure_ns: Option<i64>,
    /// What it was.
    pub fact: Fact,
}

impl History {
    /// From facts in any order.
    pub fn new(facts: &[(LogHeader, Record)]) -> History {
        let (looked, watched) = (Looked::new(facts), Watched::new(facts));
        let mut told: BTreeMap<Key, Vec<Told<'_>>> = BTreeMap::new();
        for (header, record) in facts {
            let Some((kind, uid)) = record.fact.object() else { continue };
            let key = (header.cluster.clone(), kind, uid.to_owned());
            let looked_ns = looked.at_ns(header, kind);
            // Who tells of an object after it stopped watching has seen it once more.
            let watched_ns = watched.until_ns(header, kind).max(record.ts_ns);
            told.entry(key).or_default().push(Told { record, looked_ns, watched_ns });
        }
        let objects = told.into_iter().map(|(key, mut told)| {
            told.sort_by_key(|one| one.record.ts_ns);
            let was_there = told[0].record.ts_ns <= told[0].looked_ns;
            let watched_ns = told.iter().map(|one| one.watched_ns).max().filter(|until_ns| *until_ns != OPEN);
            let records: Vec<&Record> = told.into_iter().map(|one| one.record).collect();
            let mut versions = versions(&records);
            if let Some(last) = versions.last_mut().filter(|last| last.to_ns == OPEN) {
                last.unsure_ns = watched_ns;
            }
            (key, Object { versions, was_there })
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

/// What a log said of an object.
struct Told<'a> {
    record: &'a Record,
    /// When that log had told what was there.
    looked_ns: i64,
    /// Until when that log watched such objects.
    watched_ns: i64,
}

/// Cluster, node and writer of a log.
type Log<'a> = (&'a str, &'a str, &'a str);

fn log(header: &LogHeader) -> Log<'_> {
    (&header.cluster, &header.node, &header.writer)
}

/// When each log had told what was there.
struct Looked<'a> {
    /// First object of any kind.
    began: HashMap<Log<'a>, i64>,
    /// End of the first list, by the feature that watches.
    listed: HashMap<(Log<'a>, &'a str), i64>,
}

impl Looked<'_> {
    fn new(facts: &[(LogHeader, Record)]) -> Looked<'_> {
        let mut looked = Looked { began: HashMap::new(), listed: HashMap::new() };
        for (header, record) in facts {
            let first_ns = match &record.fact {
                Fact::Feature(feature) if feature.on => {
                    looked.listed.entry((log(header), feature.name.as_str())).or_insert(OPEN)
                }
                fact if fact.object().is_some() => looked.began.entry(log(header)).or_insert(OPEN),
                _ => continue,
            };
            *first_ns = record.ts_ns.min(*first_ns);
        }
        looked
    }

    fn at_ns(&self, header: &LogHeader, kind: &str) -> i64 {
        let began_ns = self.began.get(&log(header)).copied().unwrap_or(OPEN);
        let listed_ns = self.listed.get(&(log(header), feature(kind))).copied();
        listed_ns.unwrap_or(began_ns.saturating_add(FIRST_LIST_NS))
    }
}

/// Since when logs that say so did not watch any more, by the feature that watches.
struct Watched<'a> {
    off: HashMap<(Log<'a>, &'a str), i64>,
}

impl Watched<'_> {
    fn new(facts: &[(LogHeader, Record)]) -> Watched<'_> {
        let mut told: Vec<_> = facts
            .iter()
            .filter_map(|(header, record)| match &record.fact {
                Fact::Feature(feature) => Some((record, (log(header), feature.name.as_str()), feature.on)),
                _ => None,
            })
            .collect();
        told.sort_by_key(|(record, ..)| record.ts_ns);
        let mut off = HashMap::new();
        for (record, key, is_on) in told {
            if is_on {
                off.remove(&key);
            } else {
                // Why it is off may change while it is; since when counts.
                let since_ns = off.entry(key).or_insert(OPEN);
                *since_ns = record.after_ns.unwrap_or(record.ts_ns).min(*since_ns);
            }
        }
        Watched { off }
    }

    /// Until when a log's writer watched a kind; open where it never says that it stopped.
    fn until_ns(&self, header: &LogHeader, kind: &str) -> i64 {
        self.off.get(&(log(header), feature(kind))).copied().unwrap_or(OPEN)
    }
}

/// The feature that watches a kind; policies hold until somebody says otherwise.
fn feature(kind: &str) -> &'static str {
    match kind {
        "pod" => "kube_pods",
        "service" => "kube_services",
        "endpoint_slice" => "kube_endpointslices",
        "node" => "kube_nodes",
        _ => "",
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

impl Version {
    /// Until when it is known to have been so, exclusive: the last one no longer than somebody watched.
    pub fn known_to_ns(&self) -> i64 {
        if self.to_ns == OPEN { self.unsure_ns.unwrap_or(OPEN) } else { self.to_ns }
    }
}

impl Object {
    /// The version that held, or the nearest where none did: what never changes of an object can be read from it.
    pub fn near(&self, ts_ns: i64) -> Option<&Version> {
        let after = self.versions.partition_point(|version| version.from_ns <= ts_ns);
        self.versions.get(after.saturating_sub(1))
    }
}
