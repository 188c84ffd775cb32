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
    /// The clock as it was last read: the moment, and how far it was from the one that never steps.
    clock: Option<(i64, i64)>,
    steps: Vec<Step>,
    /// The first interface whose packets were let in: the moment, and how often the clock had stepped until then.
    first: Option<(i64, usize)>,
}

/// The clock was set: the latest time that a packet can have by the old one, and the earliest by the new one.
struct Step {
    until_ns: i64,
    from_ns: i64,
}

/// The clock was set where it changed by more than this between two readings, in nanoseconds.
const STEP_NS: u64 = 1_000_000_000;

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
            clock: None,
            steps: Vec::new(),
            first: None,
        }
    }

    fn take(&mut self, record: &Record) {
        match &record.fact {
            Fact::Interface(of) if of.state == Targeting::Targeted => {
                let since = self.attached.entry(of.name.clone()).or_insert(record.ts_ns);
                *since = (*since).min(record.ts_ns);
                self.first.get_or_insert((record.ts_ns, self.steps.len()));
            }
            Fact::Clock(of) => self.read_clock(record.ts_ns, of.realtime_minus_boottime_ns),
            Fact::Progress(of) if is_of_packets(of.worker) => {
                self.progress.insert(of.worker, of.recorded_until_ns);
                let last = self.last.entry(of.worker).or_default();
                *last = (*last).max(of.seq);
            }
            Fact::Stop(stop) => self.stopped = Some((stop.recorded_until_ns, stop.reason.clone())),
            _ => {}
        }
    }

    fn read_clock(&mut self, now_ns: i64, offset_ns: i64) {
        if let Some((before_ns, before)) = self.clock {
            let change_ns = offset_ns.saturating_sub(before);
            if change_ns.unsigned_abs() > STEP_NS {
                let (until_ns, from_ns) =
                    (now_ns.saturating_sub(change_ns), before_ns.saturating_add(change_ns));
                self.steps.push(Step { until_ns, from_ns });
            }
        }
        self.clock = Some((now_ns, offset_ns));
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

    /// The stretches of time in which it recorded: one, and one more for each time that the clock was set. The time
    /// that the clock jumped over is in none of them, since another run may have had an outage then.
    pub fn windows(&self) -> Vec<Window> {
        let window = |from_ns: i64, to_ns: i64| Window { from_ns, to_ns: to_ns.max(from_ns) };
        if self.steps.is_empty() {
            let ends = self.begin_ns().zip(self.end_ns());
            return ends.map(|(from_ns, to_ns)| window(from_ns, to_ns)).into_iter().collect();
        }
        let Some((mut from_ns, before)) = self.first else { return Vec::new() };
        let mut windows = Vec::new();
        for step in &self.steps[before..] {
            windows.push(window(from_ns, step.until_ns));
            from_ns = step.from_ns;
        }
        // Packets do not tell: the latest of them may be of a time before the clock was set back.
        let stopped = self.stopped.as_ref().and_then(|(until_ns, _)| *until_ns);
        let to_ns = stopped.or(self.progress.values().min().copied()).unwrap_or(from_ns);
        windows.push(window(from_ns, to_ns));
        windows
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
    let of = |(place, run): (usize, &Run)| run.windows().into_iter().map(move |window| (window, place));
    let mut windows: Vec<(Window, usize)> = runs.iter().enumerate().flat_map(of).collect();
    windows.sort_by_key(|(window, place)| (window.from_ns, *place));
    let mut blind = Vec::new();
    let mut until: Option<(i64, usize)> = None;
    for (window, place) in windows {
        if let Some((from_ns, before)) = until
            && from_ns < window.from_ns
        {
            let is_next = (before + 1..place).all(|between| runs[between].windows().is_empty());
            let why = match before < place && is_next {
                true => runs[before].why(),
                false if before == place => {
                    "the clock was set: no packet has a time of this stretch".to_string()
                }
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

#[cfg(test)]
mod tests {
    use shark_schema::identity::{Clock, InterfaceFact, Progress, Start, Stop};
    use shark_schema::segment::Counters;

    use super::*;

    /// Seconds, as facts have nanoseconds.
    const S: i64 = 1_000_000_000;

    fn record(at_s: i64, fact: Fact) -> Record {
        Record { ts_ns: at_s * S, after_ns: None, fact }
    }

    fn start(at_s: i64, pid: u32) -> Record {
        record(at_s, Fact::Start(Start { pid, ..crate::identity::lives::start() }))
    }

    fn attached(at_s: i64) -> Record {
        let (name, why) = ("eth0".to_owned(), String::new());
        record(at_s, Fact::Interface(InterfaceFact { name, ifindex: None, state: Targeting::Targeted, why }))
    }

    fn clock(at_s: i64, offset_s: i64) -> Record {
        let realtime_minus_boottime_ns = offset_s * S;
        record(at_s, Fact::Clock(Clock { realtime_minus_boottime_ns, step_ns: None, uncertainty_ns: 1 }))
    }

    fn progress(at_s: i64) -> Record {
        record(at_s, Fact::Progress(Progress { worker: 0, seq: 1, recorded_until_ns: at_s * S }))
    }

    fn stop(at_s: i64) -> Record {
        let reason = "signal".to_owned();
        let totals = Counters::default();
        record(at_s, Fact::Stop(Stop { reason, totals, recorded_until_ns: Some(at_s * S) }))
    }

    /// Blind stretches in seconds, with their reasons.
    fn blind(records: &[Record]) -> Vec<(i64, i64, String)> {
        let runs = of(&records.iter().collect::<Vec<_>>(), &[]);
        between(&runs).into_iter().map(|of| (of.from_ns / S, of.to_ns / S, of.why)).collect()
    }

    #[test]
    fn an_outage_is_blind_also_where_a_later_clock_jumped_over_its_time() {
        let stopped = "the recorder was stopped".to_owned();
        let outage = [
            start(1000, 1),
            attached(1001),
            clock(1001, 500),
            stop(1100),
            start(1200, 2),
            attached(1201),
            clock(1201, 500),
            stop(1300),
        ];
        assert_eq!(blind(&outage), [(1100, 1201, stopped.clone())]);
        // The machine starts again with a clock of long ago, which is set a minute later.
        let set = [start(10, 3), attached(11), clock(12, 0), clock(1460, 1388), progress(1465), stop(1470)];
        let jumped = "the clock was set: no packet has a time of this stretch".to_owned();
        let never = "no recorder was running; the clock was set".to_owned();
        let all = blind(&[&outage[..], &set].concat());
        assert_eq!(all[0], (72, 1001, never));
        assert_eq!(all[1], (1100, 1201, stopped.clone()));
        assert_eq!(all[2], (1300, 1400, stopped));
        assert_eq!(all.len(), 3);
        assert_eq!(blind(&set), [(72, 1400, jumped)]);
    }

    #[test]
    fn an_outage_is_blind_also_where_the_clock_was_ahead_before_it() {
        // A run begins a day ahead, and is set back while it goes on.
        let ahead = [
            start(90_000, 1),
            attached(90_001),
            clock(90_001, 86_400),
            clock(3_611, 0),
            progress(3_700),
            stop(3_700),
        ];
        let later = [start(3_800, 2), attached(3_801), clock(3_801, 0), stop(3_900)];
        let all = blind(&[&ahead[..], &later].concat());
        assert_eq!(all[0], (3_700, 3_801, "the recorder was stopped".to_owned()));
        assert_eq!((all[1].0, all[1].1), (3_900, 90_001));
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_clock_that_is_slewed_makes_no_pieces() {
        let run = [start(0, 1), attached(1), clock(2, 0), clock(12, 0), progress(20), stop(20)];
        assert!(blind(&run).is_empty());
    }
}
