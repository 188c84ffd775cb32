//! What is known of the cluster now, and how each watch is doing; every change of either is a fact in the log.
//! In: objects that were found or are gone. Out: facts, each only when it says something new, with owners up to the workload.
//! Nothing here waits for a network; the lock is held for moments.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use shark_schema::identity::{Event, Fact, Feature, ObjectRef, Pod, Record};

use super::Scope;
use super::owners::Question;
use super::resources::{self, Resource};
use crate::log::Log;
use crate::time::now_ns;

pub type Shared = Arc<Mutex<Store>>;

pub fn lock(store: &Shared) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(|e| e.into_inner())
}

/// What an object of the API turned out to be.
pub enum Found {
    Fact(Fact),
    /// With its direct owner.
    Pod(Pod, Option<Owner>),
    /// Something that owns pods, and what owns it.
    Owner {
        uid: String,
        owner: Option<Owner>,
    },
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub uid: String,
    pub object: ObjectRef,
}

/// How the watches are doing, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeStatus {
    /// "cluster", or the name of the node.
    pub scope: String,
    /// None until a configuration was found.
    pub server: Option<String>,
    pub watches: Vec<WatchStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// As in the feature `kube_pods` of the log.
    pub what: String,
    pub on: bool,
    pub since_ns: i64,
    pub why: String,
    /// Objects known now; None for what is not kept as objects.
    pub objects: Option<u64>,
}

/// Of one resource, over all connections.
#[derive(Default)]
struct Watch {
    on: bool,
    /// Whether it has been on or refused since the start.
    settled: bool,
    since_ns: i64,
    why: String,
    /// The last word of the server about this resource.
    heard_ns: Option<i64>,
    /// Since when changes may have been missed, while it is off.
    gap_ns: Option<i64>,
    place: Place,
}

/// Where a watch goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Of the versions of the resource, the one the server has.
    pub version: usize,
    /// None: only a list can tell what is there.
    pub position: Option<String>,
}

pub struct Store {
    scope: Scope,
    log: Arc<Log>,
    server: Option<String>,
    watches: BTreeMap<&'static str, Watch>,
    facts: BTreeMap<(&'static str, String), Fact>,
    /// How often, and when last: an event is repeated by counting it.
    events: HashMap<String, (u32, Option<i64>)>,
    /// By the uid of what owns pods: what owns it.
    owners: HashMap<String, Option<Owner>>,
    /// By the same: pods that wait to know.
    waiting: HashMap<String, BTreeSet<String>>,
    questions: Vec<Question>,
    asked: Arc<tokio::sync::Notify>,
}

impl Store {
    /// With what the log knew when its last writer ended; what is gone since will show in the first list.
    pub fn new(scope: Scope, log: Arc<Log>) -> Store {
        let (known, gap_ns) = log.restore_objects().unwrap_or_else(|error| {
            tracing::warn!("the log that was there cannot be gone on with: {error}");
            (Vec::new(), None)
        });
        let key = |fact: Fact| fact.object().map(|(kind, uid)| (kind, uid.to_owned())).zip(Some(fact));
        let watch = |of: &Resource| (of.name, Watch { gap_ns, ..Watch::default() });
        Store {
            watches: resources::of(&scope).iter().map(watch).collect(),
            facts: known.into_iter().filter_map(key).collect(),
            scope,
            log,
            server: None,
            events: HashMap::new(),
            owners: HashMap::new(),
            waiting: HashMap::new(),
            questions: Vec::new(),
            asked: Arc::default(),
        }
    }

    /// Before anything was heard, nothing is watched.
    pub fn begin(&mut self) {
        let all: Vec<_> = self.watches.iter().map(|(what, watch)| (*what, watch.gap_ns)).collect();
        for (what, gap_ns) in all {
            self.turn_off(what, "not connected yet", gap_ns);
        }
    }

    pub fn connected(&mut self, server: &str) {
        self.server = Some(server.to_owned());
    }

    pub fn place(&self, what: &str) -> Place {
        self.watches.get(what).map(|watch| watch.place.clone()).unwrap_or_default()
    }

    pub fn set_place(&mut self, what: &'static str, place: Place) {
        self.watches.entry(what).or_default().place = place;
    }

    /// Since when changes may have been missed; None of a watch that is on.
    pub fn gap_ns(&self, what: &str) -> Option<i64> {
        self.watches.get(what).filter(|watch| !watch.on)?.gap_ns
    }

    pub fn settled(&self, what: &str) -> bool {
        self.watches.get(what).is_none_or(|watch| watch.settled)
    }

    /// The server said something, if only that nothing happened.
    pub fn heard(&mut self, what: &'static str) {
        self.watches.entry(what).or_default().heard_ns = Some(now_ns());
    }

    pub fn on(&mut self, what: &'static str, why: &str) {
        let now = now_ns();
        let watch = self.watches.entry(what).or_default();
        watch.heard_ns = Some(now);
        watch.gap_ns = None;
        watch.settled = true;
        if !watch.on || watch.since_ns == 0 {
            *watch = Watch { on: true, since_ns: now, why: why.to_owned(), ..std::mem::take(watch) };
            tracing::info!("Kubernetes: {what}: {why}");
            self.feature(what, now, None);
        }
    }

    /// `after_ns` where the gap began before the last word of the server.
    pub fn off(&mut self, what: &'static str, why: &str, after_ns: Option<i64>) {
        self.watches.entry(what).or_default().settled = true;
        if self.turn_off(what, why, after_ns) {
            tracing::warn!("Kubernetes: {what} are not watched: {why}");
        }
    }

    /// Nothing is watched.
    pub fn off_all(&mut self, why: &str) {
        let all: Vec<&'static str> = self.watches.keys().copied().collect();
        let changed = all.into_iter().filter(|what| self.turn_off(what, why, None)).count();
        if changed > 0 {
            tracing::warn!("Kubernetes: nothing is watched: {why}");
        }
    }

    /// False where that is known already.
    fn turn_off(&mut self, what: &'static str, why: &str, after_ns: Option<i64>) -> bool {
        let now = now_ns();
        let watch = self.watches.entry(what).or_default();
        if !watch.on && watch.why == why {
            return false;
        }
        let after_ns = after_ns.or(if watch.on { watch.heard_ns } else { None });
        if watch.on || watch.since_ns == 0 {
            watch.since_ns = now;
        }
        watch.gap_ns = after_ns.or(watch.gap_ns);
        watch.on = false;
        watch.why = why.to_owned();
        // A file of the log may begin with the last of several reasons, and must still say since when.
        let gap_ns = watch.gap_ns;
        self.feature(what, now, gap_ns);
        true
    }

    fn feature(&self, what: &str, ts_ns: i64, after_ns: Option<i64>) {
        let Some(watch) = self.watches.get(what) else { return };
        let Watch { on, why, .. } = watch;
        let feature = Feature { name: format!("kube_{what}"), on: *on, cause: None, why: why.clone() };
        self.log.write_all(&[Record { ts_ns, after_ns, fact: Fact::Feature(feature) }]);
    }

    /// Objects as they are now, or as they were last when they are gone. `after_ns` where nobody saw it happen.
    pub fn take(&mut self, changes: impl IntoIterator<Item = (Found, Seen)>, after_ns: Option<i64>) {
        let mut facts = Vec::new();
        for (found, seen) in changes {
            self.change(found, seen, &mut facts);
        }
        self.write(facts, after_ns);
    }

    /// After a whole list: what the list did not have is gone.
    pub fn sweep(&mut self, kind: &'static str, listed: &HashSet<String>, after_ns: Option<i64>) {
        let gone = |((of, uid), _): &(&(&'static str, String), &Fact)| *of == kind && !listed.contains(uid);
        let gone: Vec<_> = self.facts.iter().filter(gone).map(|(key, _)| key.clone()).collect();
        let facts = gone.iter().filter_map(|key| self.facts.remove(key)).map(Fact::into_deleted).collect();
        if kind == "event" {
            self.events.retain(|uid, _| listed.contains(uid));
        }
        self.write(facts, after_ns);
    }

    fn write(&self, facts: Vec<Fact>, after_ns: Option<i64>) {
        let ts_ns = now_ns();
        let records: Vec<Record> = facts.into_iter().map(|fact| Record { ts_ns, after_ns, fact }).collect();
        self.log.write_all(&records);
    }

    fn change(&mut self, found: Found, seen: Seen, facts: &mut Vec<Fact>) {
        match found {
            Found::Fact(fact) => self.put(fact, seen, facts),
            Found::Pod(pod, owner) => {
                let pod = self.with_workload(pod, owner, seen);
                self.put(Fact::Pod(pod), seen, facts);
            }
            // Pods outlive their owner for a while, and keep what they know.
            Found::Owner { uid, .. } if seen == Seen::Gone => drop(self.owners.remove(&uid)),
            Found::Owner { uid, owner, .. } => self.learn(&uid, owner, facts),
            Found::Event(event) if seen == Seen::Gone => drop(self.events.remove(&event.uid)),
            Found::Event(event) => {
                let repeated = (event.count, event.last_ns);
                if self.events.insert(event.uid.clone(), repeated) != Some(repeated) {
                    facts.push(Fact::Event(event));
                }
            }
        }
    }

    fn put(&mut self, fact: Fact, seen: Seen, facts: &mut Vec<Fact>) {
        let Some((kind, uid)) = fact.object() else { return };
        let key = (kind, uid.to_owned());
        if seen == Seen::Gone {
            self.facts.remove(&key);
            facts.push(fact.into_deleted());
        } else if self.facts.get(&key) != Some(&fact) {
            self.facts.insert(key, fact.clone());
            facts.push(fact);
        }
    }

    /// What owns the owner of a pod is its workload, where the owner is of a kind that is made by another.
    fn with_workload(&mut self, mut pod: Pod, owner: Option<Owner>, seen: Seen) -> Pod {
        let Some(owner) = owner else { return pod };
        if resources::owner(&owner.object.kind).is_none() {
            return pod;
        }
        match self.owners.get(&owner.uid) {
            Some(workload) => pod.owners.extend(workload.iter().map(|of| of.object.clone())),
            None => {
                let known = self.facts.get(&("pod", pod.uid.clone()));
                if let Some(Fact::Pod(known)) = known
                    && known.owners.first() == pod.owners.first()
                {
                    pod.owners.clone_from(&known.owners);
                }
                if pod.owners.len() == 1 && seen == Seen::Here {
                    self.ask(&pod, owner);
                }
            }
        }
        pod
    }

    fn ask(&mut self, pod: &Pod, owner: Owner) {
        let waiting = self.waiting.entry(owner.uid.clone()).or_default();
        let first = waiting.is_empty();
        waiting.insert(pod.uid.clone());
        if first && matches!(self.scope, Scope::Node(_)) {
            self.questions.push(Question { namespace: pod.namespace.clone(), owner });
            self.asked.notify_one();
        }
    }

    /// What a thing that owns pods is owned by; the pods that waited for it are told again.
    pub fn learn(&mut self, uid: &str, owner: Option<Owner>, facts: &mut Vec<Fact>) {
        for pod in self.waiting.remove(uid).into_iter().flatten() {
            let Some(Fact::Pod(pod)) = self.facts.get_mut(&("pod", pod)) else { continue };
            if let Some(owner) = &owner
                && pod.owners.len() == 1
            {
                pod.owners.push(owner.object.clone());
                facts.push(Fact::Pod(pod.clone()));
            }
        }
        self.owners.insert(uid.to_owned(), owner);
    }

    pub fn answered(&mut self, uid: &str, owner: Option<Owner>) {
        let mut facts = Vec::new();
        self.learn(uid, owner, &mut facts);
        self.questions.retain(|question| question.owner.uid != uid);
        self.write(facts, None);
    }

    pub fn question(&self) -> Option<Question> {
        self.questions.first().cloned()
    }

    pub fn asked(&self) -> Arc<tokio::sync::Notify> {
        self.asked.clone()
    }

    pub fn status(&self) -> KubeStatus {
        let of = resources::of(&self.scope);
        let objects = |what: &str| {
            let fact = of.iter().find(|of| of.name == what)?.fact?;
            Some(self.facts.keys().filter(|(kind, _)| *kind == fact).count() as u64)
        };
        let watch = |(what, watch): (&&'static str, &Watch)| WatchStatus {
            what: (*what).to_owned(),
            on: watch.on,
            since_ns: watch.since_ns,
            why: watch.why.clone(),
            objects: objects(what),
        };
        let scope = match &self.scope {
            Scope::Node(node) => node.clone(),
            Scope::Cluster => "cluster".to_owned(),
        };
        KubeStatus { scope, server: self.server.clone(), watches: self.watches.iter().map(watch).collect() }
    }
}

/// Whether an object is there or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Here,
    Gone,
}
