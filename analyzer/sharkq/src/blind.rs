//! When a node recorded, to the nanosecond, and when it did not.
//! In: facts of its recorders, sidecars, manifests, and what was really read of its segments. Out: the time that is covered, and in
//! it the stretches of which packets are missing, each with its reason.
//! Whatever is not proven to be recorded is blind: a file that is named somewhere and is not there, a recorder that died.

mod runs;
mod segments;

use std::collections::{BTreeMap, BTreeSet};

use shark_schema::identity::{Fact, Record};
use shark_schema::manifest::Window;
use shark_schema::segment::{Name, PLAINTEXT_WORKER};

use self::runs::Run;
use self::segments::Segment;
use crate::rounds::FileStats;
use crate::source::{CaptureFile, FactFile, Sources};

/// A stretch of time of which packets are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    /// The last packet that was recorded before, or the moment from which on nothing was.
    pub from_ns: i64,
    /// The first one after, or the moment from which on all were.
    pub to_ns: i64,
    /// As in the column `state` of the table `coverage`.
    pub state: &'static str,
    /// For people.
    pub why: String,
    /// How many are missing; `None` where nobody counted.
    pub packets: Option<u64>,
}

/// The states of [`Blind`].
pub mod state {
    /// Some of the packets of the time were lost, and counted.
    pub const LOSSY: &str = "lossy";
    /// Something that was recorded is not there, is damaged, or nothing tells.
    pub const GAP: &str = "gap";
    /// The ring reached its size and gave it up.
    pub const ROTATED_OUT: &str = "rotated_out";
    /// No recorder was running.
    pub const RECORDER_RESTART: &str = "recorder_restart";
}

/// What is known of the time of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeTime {
    /// The time that is told about; `None` where nothing was recorded.
    pub extent: Option<Window>,
    /// In the order of time; they may overlap where their reasons differ.
    pub blind: Vec<Blind>,
    /// Interfaces that were first recorded after a recorder had started, and when: until then, nothing of them.
    pub late: Vec<(String, Window)>,
}

/// Every node of the sources that has a log or sidecars.
pub fn nodes(sources: &Sources, stats: &[FileStats]) -> BTreeMap<String, NodeTime> {
    let mut names: BTreeSet<&str> = sources
        .facts
        .iter()
        .filter(|(header, _)| header.writer == "recorder")
        .map(|(header, _)| header.node.as_str())
        .collect();
    let packets = sources.files.iter().filter(|file| !file.is_plaintext());
    names.extend(packets.filter(|file| is_told_of(file)).filter_map(|file| file.info.node.as_deref()));
    let mut nodes: BTreeMap<String, NodeTime> =
        names.into_iter().map(|name| (name.to_string(), node(sources, stats, name))).collect();
    begin_together(&mut nodes);
    nodes
}

/// A segment: its sidecar or the log around it tells what it lost. Other captures tell nothing.
pub fn is_told_of(file: &CaptureFile) -> bool {
    file.sidecar.is_some() || (is_in_ring(file) && file.info.name.parse::<Name>().is_ok())
}

/// A file that was named alone has no log beside it, and none is missed.
fn is_in_ring(file: &CaptureFile) -> bool {
    file.path.contains('/')
}

fn node(sources: &Sources, stats: &[FileStats], name: &str) -> NodeTime {
    let is_recorder = |header: &shark_schema::identity::LogHeader| header.writer == "recorder";
    let facts: Vec<&Record> = sources
        .facts
        .iter()
        .filter(|(header, _)| is_recorder(header) && header.node == name)
        .map(|(_, record)| record)
        .collect();
    let segments = segments::of_node(sources, stats, name);
    let wanted = segments::wanted(sources, name);
    let is_replay =
        facts.iter().any(|record| matches!(&record.fact, Fact::Start(start) if start.replay.is_some()));
    let mut blind = segments::losses(&segments);
    blind.extend(segments::evicted(&facts, &segments));
    blind.extend(segments::damaged(&segments));
    let runs = if is_replay { Vec::new() } else { runs::of(&facts, &segments) };
    blind.extend(segments::holes(sources, name, &facts, &segments, &runs));
    let mut late = Vec::new();
    let mut ends: Vec<Window> = Vec::new();
    if runs.is_empty() {
        // The log of a replay says nothing of the time of its packets, and a segment alone has none.
        ends.extend(segments.iter().filter_map(Segment::window));
        let is_log_missing = segments.iter().any(|of| of.in_ring) && !is_replay;
        let missing = is_log_missing.then_some("the recorder's log is missing: nothing tells when it ran");
        let is_cut = sources.fact_files.iter().any(|file| file.is_of(name) && file.is_cut);
        let cut = is_cut.then_some("the recorder's log says more than can be read");
        if let (Some(why), Some(all)) = (cut.or(missing), hull(&ends)) {
            blind.push(gap(all.from_ns, all.to_ns, why));
        }
    } else {
        blind.extend(runs::between(&runs));
        blind.extend(runs::before_first(&runs, &segments));
        ends.extend(segments.iter().filter_map(Segment::window));
        ends.extend(runs.iter().flat_map(Run::windows));
        late.extend(runs.iter().flat_map(|run| run.late.iter().cloned()));
        blind.extend(log_holes(sources, name));
    }
    ends.extend(blind.iter().filter(|of| of.state == state::ROTATED_OUT).map(Blind::window));
    let extent = hull(&ends).and_then(|all| wanted.map_or(Some(all), |window| cut(all, window)));
    let mut blind: Vec<Blind> = match extent {
        Some(extent) => blind.into_iter().filter_map(|of| of.within(extent)).collect(),
        None => Vec::new(),
    };
    blind.sort_by_key(|of| (of.from_ns, of.to_ns, of.state));
    NodeTime { extent, blind, late }
}

/// A node whose recorder was started after those of the others saw nothing of the time before.
fn begin_together(nodes: &mut BTreeMap<String, NodeTime>) {
    let Some(all) = hull(&nodes.values().filter_map(|node| node.extent).collect::<Vec<_>>()) else { return };
    for node in nodes.values_mut() {
        let Some(extent) = &mut node.extent else { continue };
        if extent.from_ns > all.from_ns {
            let why = "nothing of the time before is here".to_string();
            let (from_ns, to_ns) = (all.from_ns, extent.from_ns);
            let state = state::RECORDER_RESTART;
            node.blind.insert(0, Blind { from_ns, to_ns, state, why, packets: None });
        }
        if extent.to_ns < all.to_ns {
            let why = "nothing of the time after is here".to_string();
            let (from_ns, to_ns) = (extent.to_ns, all.to_ns);
            let state = state::RECORDER_RESTART;
            node.blind.push(Blind { from_ns, to_ns, state, why, packets: None });
        }
        *extent = all;
    }
}

/// Log files have numbers: one that is not there, or was not read to its end, may have told of a stop, or
/// of a loss.
fn log_holes(sources: &Sources, node: &str) -> Vec<Blind> {
    let files: Vec<_> = sources.fact_files.iter().filter(|file| file.is_of(node)).collect();
    let nexts = files.iter().skip(1).map(Some).chain([None]);
    let hole = |(file, next): (&&FactFile, Option<&&FactFile>)| {
        let next_seq = file.seq.saturating_add(1);
        let why = match next {
            _ if file.is_cut => format!("log file {} of the recorder says more than can be read", file.seq),
            Some(next) if next.seq > next_seq => format!("log file {next_seq} of the recorder is missing"),
            _ => return None,
        };
        Some(gap(file.last_ns, next.map_or(i64::MAX, |next| next.header.started_ns), &why))
    };
    files.iter().zip(nexts).filter_map(hole).collect()
}

fn gap(from_ns: i64, to_ns: i64, why: &str) -> Blind {
    Blind { from_ns, to_ns, state: state::GAP, why: why.to_string(), packets: None }
}

impl Blind {
    fn window(&self) -> Window {
        Window { from_ns: self.from_ns, to_ns: self.to_ns }
    }

    /// The part of it in a stretch of time.
    fn within(self, extent: Window) -> Option<Blind> {
        let Window { from_ns, to_ns } = cut(self.window(), extent)?;
        Some(Blind { from_ns, to_ns, ..self })
    }
}

fn cut(of: Window, to: Window) -> Option<Window> {
    let (from_ns, to_ns) = (of.from_ns.max(to.from_ns), of.to_ns.min(to.to_ns));
    (from_ns <= to_ns).then_some(Window { from_ns, to_ns })
}

fn hull(of: &[Window]) -> Option<Window> {
    let from_ns = of.iter().map(|window| window.from_ns).min()?;
    let to_ns = of.iter().map(|window| window.to_ns).max()?;
    Some(Window { from_ns, to_ns })
}

/// Plaintext has a coverage of its own.
fn is_of_packets(worker: u16) -> bool {
    worker != PLAINTEXT_WORKER
}
