//! The processes of a node, as far as they are known. In: events of the kernel, what /proc says. Out: rows: of all that are
//! there, or of those that changed. A process that ended stays known for a while, for the sockets it leaves behind.

use std::collections::{HashMap, VecDeque};

use shark_bpf::processes::{Event, Kind};
use shark_schema::table::Block;
use shark_schema::tables::processes::{ProcessBlock, ProcessRow};

use super::Names;
use super::cgroup::{Groups, Membership};
use super::proc::{self, Found, TICK_NS};
use super::secrets::masked;

#[derive(Debug, Clone, Default)]
pub struct Process {
    pub pid: u32,
    pub parent: Option<u32>,
    pub start_ticks: u64,
    pub start_ns: i64,
    pub exit_ns: Option<i64>,
    exit_code: Option<i32>,
    exe: Option<String>,
    pub comm: String,
    cmdline: Option<String>,
    uid: Option<u32>,
    pub group: Membership,
    cgroup_id: Option<u64>,
    netns: Option<u32>,
    changed: bool,
}

#[derive(Default)]
pub struct Processes {
    live: HashMap<u32, Process>,
    ended: VecDeque<Process>,
    /// Not taken in, because there are too many.
    pub refused: u64,
    /// /proc is that of the node.
    looks: bool,
    /// Command lines are kept with the secrets in them.
    whole: bool,
}

const MOST: usize = 262_144;
const MOST_ENDED: usize = 16_384;
const CMDLINE_BYTES: usize = 1024;

impl Processes {
    /// `whole` keeps command lines with the secrets in them.
    pub fn new(whole: bool) -> Processes {
        Processes { looks: proc::is_of_the_node(), whole, ..Processes::default() }
    }

    /// Takes in what the kernel tells. `offset_ns` leads from its clock to ours.
    pub fn hear(&mut self, event: Event, offset_ns: i64, groups: &mut Groups) {
        let at_ns = event.at_boottime_ns as i64 + offset_ns;
        if let Kind::Exited(status) = event.kind {
            // Of threads that end at once each may see that it is the last.
            if self.get(event.pid, event.start_boottime_ns / TICK_NS).is_some_and(|of| of.exit_ns.is_some()) {
                return;
            }
            self.know(&event, offset_ns);
            return self.end(event.pid, at_ns, Some(status));
        }
        match event.kind {
            Kind::Forked => self.fork(&event, offset_ns),
            Kind::Executed { ref path, ref arguments } => {
                self.know(&event, offset_ns);
                let now = self.look(event.pid, event.start_boottime_ns / TICK_NS);
                // Asked for each, so that a cgroup is known before its last process is gone.
                let then = groups.path(event.cgroup_id);
                let Some(process) = self.live.get_mut(&event.pid) else { return };
                process.cmdline = arguments.as_deref().map(|arguments| cmdline(arguments, self.whole));
                // A program that starts itself again is what it was.
                let is_itself = path == "/proc/self/exe" && process.exe.is_some();
                process.exe = if is_itself { process.exe.take() } else { Some(path.clone()) };
                process.comm = event.comm.clone();
                match now {
                    Some(now) => {
                        process.exe = now.exe.or(process.exe.take());
                        process.group = now.group;
                        process.netns = now.netns.or(event.netns);
                    }
                    // It is over already; the kernel told where it was, though in version 2 only.
                    None => {
                        let then = then.map(Membership::of_path);
                        if let Some(then) = then.filter(|then| then.container_id.is_some()) {
                            process.group = then;
                        }
                        process.netns = event.netns;
                    }
                }
                process.uid = Some(event.uid);
                process.cgroup_id = Some(event.cgroup_id);
                process.changed = true;
            }
            Kind::Exited(_) => {}
        }
    }

    /// A child is as its parent until it becomes something else.
    fn fork(&mut self, event: &Event, offset_ns: i64) {
        let parent = self.live.get(&event.parent).cloned().unwrap_or_default();
        let process = Process {
            pid: event.pid,
            parent: Some(event.parent),
            start_ticks: event.start_boottime_ns / TICK_NS,
            start_ns: event.start_boottime_ns as i64 + offset_ns,
            exit_ns: None,
            exit_code: None,
            comm: event.comm.clone(),
            uid: Some(event.uid),
            cgroup_id: Some(event.cgroup_id),
            netns: event.netns.or(parent.netns),
            changed: true,
            ..parent
        };
        self.take_in(process);
    }

    /// One whose beginning nobody told.
    fn know(&mut self, event: &Event, offset_ns: i64) {
        let ticks = event.start_boottime_ns / TICK_NS;
        if self.live.get(&event.pid).is_some_and(|known| known.start_ticks == ticks) {
            return;
        }
        self.fork(event, offset_ns);
        if let Some(found) = self.look(event.pid, ticks) {
            self.find(found, offset_ns);
        }
    }

    fn look(&self, pid: u32, start_ticks: u64) -> Option<Found> {
        let found = self.looks.then(|| proc::read(pid)).flatten()?;
        (found.start_ticks == start_ticks).then_some(found)
    }

    /// Takes in what /proc says; what is known already and has not changed stays as it is.
    pub fn find(&mut self, found: Found, offset_ns: i64) {
        let known = self.live.get(&found.pid).filter(|known| known.start_ticks == found.start_ticks);
        let start_ns = (found.start_ticks * TICK_NS) as i64 + offset_ns;
        let arguments = (!found.arguments.is_empty()).then(|| cmdline(&found.arguments, self.whole));
        let process = Process {
            pid: found.pid,
            parent: Some(found.parent),
            start_ticks: found.start_ticks,
            // The kernel's events are more exact.
            start_ns: known.map_or(start_ns, |known| known.start_ns),
            exit_ns: None,
            exit_code: None,
            exe: found.exe.or(known.and_then(|known| known.exe.clone())),
            comm: found.comm,
            cmdline: known.and_then(|known| known.cmdline.clone()).or(arguments),
            uid: found.uid,
            group: found.group,
            cgroup_id: known.and_then(|known| known.cgroup_id),
            netns: found.netns,
            changed: known.is_none_or(|known| known.changed),
        };
        let same = known.is_some_and(|known| known.group == process.group && known.netns == process.netns);
        if !same {
            self.take_in(Process { changed: true, ..process });
        }
    }

    /// Looks at all of /proc: new ones are taken in; where nobody else tells, those that are gone end now.
    pub fn look_around(&mut self, offset_ns: i64, now_ns: i64, is_told: bool) {
        if !self.looks {
            return;
        }
        let pids = proc::pids();
        for pid in &pids {
            let is_known = |ticks| self.live.get(pid).is_some_and(|known| known.start_ticks == ticks);
            // Only a whole look tells of a process that moved to another cgroup.
            if !is_told && proc::start_ticks(*pid).is_some_and(is_known) {
                continue;
            }
            if let Some(found) = proc::read(*pid) {
                self.find(found, offset_ns);
            }
        }
        if !is_told {
            let there: std::collections::HashSet<u32> = pids.into_iter().collect();
            let gone: Vec<u32> = self.live.keys().copied().filter(|pid| !there.contains(pid)).collect();
            gone.into_iter().for_each(|pid| self.end(pid, now_ns, None));
        }
    }

    fn take_in(&mut self, process: Process) {
        if self.live.len() >= MOST && !self.live.contains_key(&process.pid) {
            self.refused += 1;
            return;
        }
        let at_ns = process.start_ns;
        // The pid is used again, and nobody told of the end.
        if self.live.get(&process.pid).is_some_and(|old| old.start_ticks != process.start_ticks) {
            self.end(process.pid, at_ns, None);
        }
        self.live.insert(process.pid, process);
    }

    fn end(&mut self, pid: u32, at_ns: i64, status: Option<i32>) {
        let Some(mut process) = self.live.remove(&pid) else { return };
        process.exit_ns = Some(at_ns);
        // wait(2): the signal in the lowest seven bits, else the code above them.
        process.exit_code = status.map(|status| match status & 0x7F {
            0 => status >> 8 & 0xFF,
            signal => 128 + signal,
        });
        process.changed = true;
        self.ended.push_back(process);
    }

    /// The process with this pid that began then, also when it ended a moment ago.
    pub fn get(&self, pid: u32, start_ticks: u64) -> Option<&Process> {
        let is_it = |process: &&Process| process.pid == pid && process.start_ticks == start_ticks;
        self.live.get(&pid).filter(is_it).or_else(|| self.ended.iter().rev().find(is_it))
    }

    /// The one that has the pid now.
    pub fn current(&self, pid: u32) -> Option<&Process> {
        self.live.get(&pid)
    }

    /// Rows of what changed since the last time; None where nothing did.
    pub fn changes(&mut self, names: &Names) -> Option<ProcessBlock> {
        let mut rows = None;
        for process in self.ended.iter_mut().chain(self.live.values_mut()) {
            if std::mem::take(&mut process.changed) {
                process.write(names, rows.get_or_insert_default());
            }
        }
        let surplus = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..surplus);
        rows
    }

    /// Rows of all that run.
    pub fn state(&self, names: &Names) -> ProcessBlock {
        let mut rows = ProcessBlock::default();
        self.live.values().for_each(|process| process.write(names, &mut rows));
        rows
    }

    /// Forgets those that ended before.
    pub fn forget(&mut self, before_ns: i64) {
        self.ended.retain(|process| process.changed || process.exit_ns.is_some_and(|ns| ns >= before_ns));
    }
}

impl Process {
    fn write(&self, names: &Names, rows: &mut ProcessBlock) {
        let id = names.process(self.pid, self.start_ticks);
        rows.append(&ProcessRow {
            proc_id: Some(&id),
            node: Some(&names.node),
            pid: i32::try_from(self.pid).ok(),
            ppid: self.parent.and_then(|pid| i32::try_from(pid).ok()),
            start_ts: Some(self.start_ns),
            exit_ts: self.exit_ns,
            exit_code: self.exit_code,
            exe: self.exe.as_deref(),
            comm: Some(&self.comm),
            cmdline: self.cmdline.as_deref(),
            uid: self.uid.map(|uid| uid as i32),
            container_id: self.group.container_id.as_deref(),
            pod_uid: self.group.pod_uid.as_deref(),
            cgroup_id: self.cgroup_id.and_then(|id| i64::try_from(id).ok()),
            cgroup: Some(self.group.path.as_str()).filter(|path| !path.is_empty()),
            netns: self.netns.map(i64::from),
            start_ticks: i64::try_from(self.start_ticks).ok(),
            ..ProcessRow::default()
        });
    }
}

fn cmdline(arguments: &[String], is_whole: bool) -> String {
    let mut line = if is_whole { arguments.join(" ") } else { masked(arguments) };
    let end = (0..=CMDLINE_BYTES.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line.truncate(end);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_once() {
        let (mut processes, mut groups) = (Processes::default(), Groups::new());
        let event = |kind: Kind| Event {
            kind,
            at_boottime_ns: 9 * TICK_NS,
            start_boottime_ns: 7 * TICK_NS,
            pid: 12,
            parent: 7,
            uid: 0,
            cgroup_id: 1,
            netns: None,
            comm: "a".to_owned(),
        };
        processes.hear(event(Kind::Forked), 0, &mut groups);
        let group = Membership::of_path("/kubepods/pod0f2c6b1e-5a77-4c8e-9b0d-3f1d2a4b5c6d");
        processes.live.get_mut(&12).unwrap().group = group.clone();
        processes.hear(event(Kind::Exited(9)), 0, &mut groups);
        processes.hear(event(Kind::Exited(9)), 0, &mut groups);
        let ended = processes.get(12, 7).unwrap();
        assert_eq!((&ended.group, ended.exit_code), (&group, Some(128 + 9)));
        assert_eq!((processes.live.len(), processes.ended.len()), (0, 1));
    }
}
