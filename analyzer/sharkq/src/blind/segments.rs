//! What segments say of the time they cover, and which of them are not there.
//! In: names, sidecars, manifests, and what was read of the files. Out: losses, damage and holes.
//! Numbers decide what is missing, never clocks: segments of a worker are numbered without a gap.

use std::collections::{BTreeMap, BTreeSet};

use shark_schema::identity::{Evicted, Fact, Record};
use shark_schema::manifest::{ObjectKind, Window};
use shark_schema::segment::{Loss, Name};

use super::runs::Run;
use super::{Blind, gap, is_in_ring, is_of_packets, is_told_of, state};
use crate::rounds::FileStats;
use crate::source::Sources;

/// One segment, as it is here.
pub struct Segment {
    pub name: Name,
    /// First and last packet that was read.
    read: Option<Window>,
    /// The same as its sidecar says.
    told: Option<Window>,
    losses: Vec<Loss>,
    /// What is wrong with its file.
    damage: Option<String>,
    /// It lies in a ring or a snapshot, and not alone.
    pub in_ring: bool,
}

impl Segment {
    /// First and last packet.
    pub fn window(&self) -> Option<Window> {
        self.told.or(self.read)
    }
}

/// Those of a node, by worker and number.
pub fn of_node(sources: &Sources, stats: &[FileStats], node: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (file, stats) in sources.files.iter().zip(stats) {
        let is_here = file.info.node.as_deref() == Some(node) && !file.is_plaintext() && is_told_of(file);
        let Ok(name) = file.info.name.parse::<Name>() else { continue };
        if !is_here {
            continue;
        }
        let sidecar = file.sidecar.as_ref();
        let told =
            sidecar.and_then(|of| Some(Window { from_ns: of.min_ns?, to_ns: of.max_ns?.max(of.min_ns?) }));
        let read = stats.window.map(|(from_ns, to_ns)| Window { from_ns, to_ns });
        let lacks = sidecar.is_some_and(|of| stats.read < of.packets);
        // A segment that is still open ends anywhere.
        let damage = stats.damage.clone().filter(|_| !name.open || sidecar.is_some());
        let damage =
            damage.or_else(|| lacks.then(|| "it has fewer packets than its sidecar says".to_string()));
        let no_sidecar = sidecar.is_none() && !name.open;
        segments.push(Segment {
            name,
            read,
            told,
            losses: sidecar.map(|of| of.losses.clone()).unwrap_or_default(),
            damage: damage.or_else(|| no_sidecar.then(|| "its sidecar is missing".to_string())),
            in_ring: is_in_ring(file),
        });
    }
    segments.sort_by_key(|of| (of.name.worker, of.name.seq));
    segments
}

/// The time that the snapshots of a node are about; `None` where anything of it is no snapshot.
pub fn wanted(sources: &Sources, node: &str) -> Option<Window> {
    let of_node = sources.files.iter().filter(|file| file.info.node.as_deref() == Some(node));
    let mut windows: Vec<Option<Window>> = of_node.map(|file| file.window).collect();
    let of_empty = sources.snapshots.iter().flat_map(|of| &of.nodes).filter(|of| of.node == node);
    windows.extend(of_empty.map(|of| Some(of.wanted)));
    let windows: Option<Vec<Window>> = windows.into_iter().collect();
    super::hull(&windows?)
}

/// When packets were lost, as sidecars tell.
pub fn losses(segments: &[Segment]) -> Vec<Blind> {
    let blind = |loss: &Loss| Blind {
        from_ns: loss.from_ns,
        to_ns: loss.to_ns,
        state: state::LOSSY,
        why: loss.cause.as_str().to_string(),
        packets: Some(loss.packets),
    };
    segments.iter().flat_map(|segment| segment.losses.iter().map(blind)).collect()
}

/// What was given up to keep the ring within its size. A snapshot may hold what its ring gave up later.
pub fn evicted(facts: &[&Record], segments: &[Segment]) -> Vec<Blind> {
    let here: BTreeSet<String> = segments.iter().map(|of| of.name.to_string()).collect();
    let mut gone: Vec<&Evicted> = evictions(facts).filter(|of| !here.contains(&of.segment)).collect();
    gone.sort_by_key(|of| (of.worker, of.seq));
    gone.dedup_by_key(|of| (of.worker, of.seq));
    let mut blind: Vec<(u16, u64, Blind)> = Vec::new();
    for of in gone {
        let (Some(from_ns), Some(to_ns)) = (of.min_ns, of.max_ns) else { continue };
        match blind.last_mut() {
            // Nothing of this worker lies between them.
            Some((worker, seq, last)) if *worker == of.worker && seq.checked_add(1) == Some(of.seq) => {
                *seq = of.seq;
                last.to_ns = last.to_ns.max(to_ns);
                last.from_ns = last.from_ns.min(from_ns);
            }
            _ => {
                let (state, why) = (state::ROTATED_OUT, of.why.clone());
                blind.push((of.worker, of.seq, Blind { from_ns, to_ns, state, why, packets: None }));
            }
        }
    }
    blind.into_iter().map(|(.., blind)| blind).collect()
}

fn evictions<'a>(facts: &'a [&Record]) -> impl Iterator<Item = &'a Evicted> {
    facts.iter().filter_map(|record| match &record.fact {
        Fact::Evicted(evicted) if is_of_packets(evicted.worker) => Some(evicted),
        _ => None,
    })
}

/// What cannot be read of files that are there.
pub fn damaged(segments: &[Segment]) -> Vec<Blind> {
    let mut blind = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let Some(damage) = &segment.damage else { continue };
        let why = format!("segment {}: {damage}", segment.name);
        let is_neighbour = |of: &&Segment| of.name.worker == segment.name.worker;
        let before = at.checked_sub(1).and_then(|at| segments.get(at)).filter(is_neighbour);
        let after = segments.get(at + 1).filter(is_neighbour);
        // Where the check sum does not match, any packet may be wrong; what was read is not believed.
        let from_ns = before.and_then(Segment::window).map(|window| window.to_ns);
        let to_ns = after.and_then(Segment::window).map(|window| window.from_ns);
        let own = segment.window();
        let from_ns = own.map(|window| window.from_ns).or(from_ns);
        let to_ns = own.map(|window| window.to_ns).max(to_ns);
        if let (Some(from_ns), Some(to_ns)) = (from_ns.or(to_ns), to_ns.or(from_ns)) {
            blind.push(gap(from_ns, to_ns.max(from_ns), &why));
        }
    }
    blind
}

/// Segments that are named by their neighbours' numbers, by a manifest or by the log, and are not there.
pub fn holes(
    sources: &Sources,
    node: &str,
    facts: &[&Record],
    segments: &[Segment],
    runs: &[Run],
) -> Vec<Blind> {
    let told = in_manifests(sources, node).into_iter().map(|name| (name.worker, name.seq));
    let mut known: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
    for (worker, seq) in told {
        known.entry(worker).or_default().insert(seq);
    }
    let present = by_worker(segments);
    if sources.snapshots.is_empty() {
        // A ring has all segments up to the newest that its log tells of.
        let told = runs.iter().flat_map(|run| run.after.iter().chain(&run.last));
        for (worker, seq) in told.filter(|(worker, seq)| is_of_packets(**worker) && **seq > 0) {
            let newest = present.get(worker).and_then(|of| of.last_key_value()).map(|(seq, _)| *seq);
            if newest.is_none_or(|newest| *seq > newest) {
                known.entry(*worker).or_default().insert(*seq);
            }
        }
    }
    for worker in present.keys() {
        known.entry(*worker).or_default();
    }
    let mut evicted: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
    let empty = facts.iter().filter_map(|record| match &record.fact {
        Fact::Recovered(of) if of.packets == 0 && of.aside.is_none() => of.segment.parse::<Name>().ok(),
        _ => None,
    });
    let gone = evictions(facts).map(|of| (of.worker, of.seq)).chain(empty.map(|of| (of.worker, of.seq)));
    for (worker, seq) in gone {
        evicted.entry(worker).or_default().insert(seq);
    }
    let is_ring = sources.snapshots.is_empty();
    let mut blind = if is_ring { rotated_out_untold(&present, &evicted, runs) } else { Vec::new() };
    for (worker, known) in known {
        let present = present.get(&worker).cloned().unwrap_or_default();
        let evicted = evicted.remove(&worker).unwrap_or_default();
        for (first, last) in missing(&present, &known, &evicted) {
            let before = present.range(..first).next_back().and_then(|(_, of)| of.window());
            let after = present.range(last..).next().and_then(|(_, of)| of.window());
            let from_ns = before.map(|window| window.to_ns).or(runs.iter().filter_map(Run::begin_ns).min());
            let to_ns = after.map(|window| window.from_ns).or(runs.iter().filter_map(Run::end_ns).max());
            let Some((from_ns, to_ns)) = from_ns.or(to_ns).zip(to_ns.or(from_ns)) else { continue };
            let why = match last - first {
                0 => format!("segment {worker:02}-{first:08} is missing"),
                _ => format!("segments {worker:02}-{first:08} to {last:08} are missing"),
            };
            blind.push(gap(from_ns.min(to_ns), to_ns.max(from_ns), &why));
        }
    }
    blind
}

/// What a ring gave up so long ago that its log does not tell of it any more: its oldest segment is not the first of its run.
fn rotated_out_untold(
    present: &BTreeMap<u16, BTreeMap<u64, &Segment>>,
    evicted: &BTreeMap<u16, BTreeSet<u64>>,
    runs: &[Run],
) -> Vec<Blind> {
    let none = BTreeSet::new();
    let mut blind = Vec::new();
    for (worker, present) in present {
        let Some((first, segment)) = present.first_key_value() else { continue };
        let made = runs.iter().filter_map(|run| Some((*run.after.get(worker)?, run.begin_ns()?)));
        let oldest = made.min().filter(|(after, _)| after.saturating_add(1) < *first);
        let (Some((after, from_ns)), Some(window)) = (oldest, segment.window()) else { continue };
        let evicted = evicted.get(worker).unwrap_or(&none);
        if from_ns < window.from_ns && !without(after + 1, first - 1, evicted).is_empty() {
            let why = format!("segments before {worker:02}-{first:08} are not there");
            let (to_ns, state) = (window.from_ns, state::ROTATED_OUT);
            blind.push(Blind { from_ns, to_ns, state, why, packets: None });
        }
    }
    blind
}

/// Stretches of numbers that are not present: between those that are, and from the newest of them to the newest that is known; and
/// each number that is known before them. What was evicted is not missed.
fn missing(
    present: &BTreeMap<u64, &Segment>,
    known: &BTreeSet<u64>,
    evicted: &BTreeSet<u64>,
) -> Vec<(u64, u64)> {
    let mut stretches = Vec::new();
    let first = present.first_key_value().map(|(seq, _)| *seq);
    let before = known.iter().filter(|seq| first.is_none_or(|first| **seq < first));
    before.for_each(|seq| stretches.push((*seq, *seq)));
    let mut last = first;
    let ends = present.keys().copied().chain(known.last().copied().filter(|_| first.is_some()));
    for end in ends {
        match last {
            Some(last) if end > last && end - last > 1 => {
                stretches.push((last + 1, end - u64::from(present.contains_key(&end))))
            }
            _ => {}
        }
        last = last.max(Some(end));
    }
    stretches.into_iter().flat_map(|(first, last)| without(first, last, evicted)).collect()
}

/// The parts of a stretch of numbers between those that are left out.
fn without(first: u64, last: u64, left_out: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut from = first;
    for &seq in left_out.range(first..=last) {
        if seq > from {
            parts.push((from, seq - 1));
        }
        from = seq.saturating_add(1);
    }
    if from <= last {
        parts.push((from, last));
    }
    parts
}

fn by_worker(segments: &[Segment]) -> BTreeMap<u16, BTreeMap<u64, &Segment>> {
    let mut workers: BTreeMap<u16, BTreeMap<u64, &Segment>> = BTreeMap::new();
    for segment in segments.iter().filter(|segment| segment.in_ring) {
        workers.entry(segment.name.worker).or_default().insert(segment.name.seq, segment);
    }
    workers
}

fn in_manifests(sources: &Sources, node: &str) -> Vec<Name> {
    let nodes = sources.snapshots.iter().flat_map(|snapshot| &snapshot.nodes).filter(|of| of.node == node);
    let objects = nodes.flat_map(|of| &of.objects).filter(|object| object.kind == ObjectKind::Segment);
    let names = objects.filter_map(|object| object.path.rsplit('/').next()?.parse::<Name>().ok());
    names.filter(|name| is_of_packets(name.worker)).collect()
}
