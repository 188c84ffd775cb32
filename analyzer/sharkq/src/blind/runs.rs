//! Runs of a recorder: from the first packet that it let in to the last that it stored.
//! In: facts in the order of their log, and segments. Out: runs, and the time between them, of which nothing was recorded.

use std::collections::BTreeMap;

use shark_schema::identity::{Fact, Record, Targeting};
use shark_schema::manifest::Window;

use super::segments::Segment;
use super::{Blind, is_of_packets, state};

/// One run of a recorder.
pub struct Run {
    /// When it was started.
    pub started_ns: i64,
    /// Segments of it have higher numbers than these, by worker.
    pub after: BTreeMap<u16, u64>,
    /// What each worker recorded up to, as the log tells.
    progress: BTreeMap<u16, i64>,
    /// The highest number of a segment that the log tells of, by worker.
    pub last: BTreeMap<u16, u64>,
    /// Since when packets of each interface were let in, and of all together.
    attached: BTreeMap<String, i64>,
    /// The end that it came to, if it came to one in order.
    stopped: Option<(Option<i64>, String)>,
    /// First and last packet, by worker.
    packets: BTreeMap<u16, Window>,
    /// Interfaces that came later than the others: until then, nothing of them.
    pub late: Vec<(String, Window)>,
    pid: u32,
}

/// An interface that comes this much after the first was not there at the start.
const LATE_NS: i64 = 1_000_000_000;

/// The runs of a node, in the order of its log.
pub fn of(facts: &[&Record], segments: &[Segment]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for record in facts {
        if let Fact::Start(start) = &record.fact {
            // Every file of a log begins with it again.
            let is_known = runs.iter().any(|run| (run.started_ns, run.pid) == (record.ts_ns, start.pid));
            if !is_known {
                runs.push(Run::new(record.ts_ns, start.pid, start.after.iter().copied().collect()));
            }
            continue;
        }
        if let Some(run) = runs.last_mut() {
            run.take(record);
        }
    }
    for segment in segments {
        let Some(window) = segment.window() else { continue };
        if let Some(run) = run_of(&mut runs, segment, window) {
            let all = run.packets.entry(segment.name.worker).or_insert(window);
            *all = Window { from_ns: all.from_ns.min(window.from_ns), to_ns: all.to_ns.max(window.to_ns) };
        }
    }
    runs.iter_mut().for_each(Run::find_late);
    runs
}

/// The run that made a segment: by its number where the log tells with which one each run began, else by its time.
fn run_of<'a>(runs: &'a mut [Run], segment: &Segment, window: Window) -> Option<&'a mut Run> {
    let is_numbered = runs.iter().any(|run| !run.after.is_empty());
    let made = |run: &Run| match is_numbered {
        true => run.after.get(&segment.name.worker).is_none_or(|after| segment.name.seq > *after),
        false => run.started_ns <= window.to_ns,
    };
    let at = runs.iter().rposition(made)?;
    runs.get_mut(at)
}

impl Run {
    fn new(started_ns: i64, pid: u32, after: BTreeMap<u16, u64>) -> Run {
        Run {
            started_ns,
            pid,
            after,
            progress: BTreeMap::new(),
            last: BTreeMap::new(),
            attached: BTreeMap::new(),
            stopped: None,
            packets: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    fn take(&mut self, record: &Record) {
        match &record.fact {
            Fact::Interface(of) if of.state == Targeting::Targeted => {
                let since = self.attached.entry(of.name.clone()).or_insert(record.ts_ns);
                *since = (*since).min(record.ts_ns);
            }
            Fact::Progress(of) if is_of_packets(of.worker) => {
                self.progress.insert(of.worker, of.recorded_until_ns);
                let last = self.last.entry(of.worker).or_default();
                *last = (*last).max(of.seq);
            }
            Fact::Stop(stop) => self.stopped = Some((stop.recorded_until_ns, stop.reason.clone())),
            _ => {}
        }
    }

    /// When it began to record; `None` where no interface was ever there.
    pub fn begin_ns(&self) -> Option<i64> {
        let attached = self.attached.values().min().copied();
        let packet = self.packets.values().map(|window| window.from_ns).min();
        match (attached, packet) {
            (Some(attached), Some(packet)) => Some(attached.min(packet)),
            (one, other) => one.or(other),
        }
    }

    /// Up to when everything is known to be recorded: the end that it came to, else the least that any worker is known to have
    /// stored.
    pub fn end_ns(&self) -> Option<i64> {
        if let Some((Some(until_ns), _)) = &self.stopped {
            return Some(*until_ns);
        }
        let workers = self.packets.keys().chain(self.progress.keys());
        let until = |worker: &u16| {
            let packet = self.packets.get(worker).map(|window| window.to_ns);
            packet.max(self.progress.get(worker).copied())
        };
        workers.filter_map(until).min().or(self.begin_ns())
    }

    /// Begin and end.
    pub fn window(&self) -> Option<Window> {
        let from_ns = self.begin_ns()?;
        Some(Window { from_ns, to_ns: self.end_ns()?.max(from_ns) })
    }

    /// Why it ended.
    fn why(&self) -> String {
        match &self.stopped {
            Some((_, reason)) if reason == "signal" => "the recorder was stopped".to_string(),
            Some((_, reason)) => format!("the recorder ended: {reason}"),
            None => "the recorder died; what it had not stored is lost".to_string(),
        }
    }

    fn find_late(&mut self) {
        let Some(begin_ns) = self.begin_ns() else { return };
        let late = self.attached.iter().filter(|(_, since_ns)| **since_ns > begin_ns.saturating_add(LATE_NS));
        let until =
            |(name, to_ns): (&String, &i64)| (name.clone(), Window { from_ns: begin_ns, to_ns: *to_ns });
        self.late = late.map(until).collect();
    }
}

/// From the end of each run to the begin of the next that recorded anything, in the order of their times: where the clock was set,
/// that is not the order of the log.
pub fn between(runs: &[Run]) -> Vec<Blind> {
    let windows = runs.iter().enumerate().filter_map(|(place, run)| Some((run.window()?, place)));
    let mut windows: Vec<(Window, usize)> = windows.collect();
    windows.sort_by_key(|(window, place)| (window.from_ns, *place));
    let mut blind = Vec::new();
    let mut until: Option<(i64, usize)> = None;
    for (window, place) in windows {
        if let Some((from_ns, before)) = until
            && from_ns < window.from_ns
        {
            let is_next = (before + 1..place).all(|between| runs[between].window().is_none());
            let why = match before < place && is_next {
                true => runs[before].why(),
                false => "no recorder was running; the clock was set".to_string(),
            };
            let (to_ns, state) = (window.from_ns, state::RECORDER_RESTART);
            blind.push(Blind { from_ns, to_ns, state, why, packets: None });
        }
        if until.is_none_or(|(until_ns, _)| window.to_ns > until_ns) {
            until = Some((window.to_ns, place));
        }
    }
    blind
}

/// Segments that are older than the first run that the log tells of: nothing says how often the recorder was down in their time.
pub fn before_first(runs: &[Run], segments: &[Segment]) -> Option<Blind> {
    let first = runs.iter().min_by_key(|run| run.started_ns)?;
    let is_numbered = runs.iter().any(|run| !run.after.is_empty());
    let is_older = |segment: &&Segment| match is_numbered {
        true => first.after.get(&segment.name.worker).is_some_and(|after| segment.name.seq <= *after),
        false => segment.window().is_some_and(|window| window.to_ns < first.started_ns),
    };
    let older = segments.iter().filter(|segment| segment.in_ring).filter(is_older);
    let from_ns = older.filter_map(Segment::window).map(|window| window.from_ns).min()?;
    let to_ns = first.begin_ns()?;
    let why = "the recorder's log of this time is missing";
    (from_ns < to_ns).then(|| super::gap(from_ns, to_ns, why))
}
