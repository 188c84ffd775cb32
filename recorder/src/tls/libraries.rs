//! Finds the libraries that encrypt: in what processes map, as the kernel tells it at once, and in the memory maps of all that run.
//! In: events of mappings, /proc. Out: functions that are watched, and for each library or executable that cannot be, the reason; so
//! too for processes that may not be asked, and for those that ran a library before it was watched.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, getrlimit};
use shark_bpf::mappings::{Event, Mappings};
use shark_bpf::tls::{Attached, Probes};
use shark_schema::identity::{Fact, Feature, OffCause};

use super::Known;
use super::examine::{Examiner, Question, Within};
use super::late::Late;
use super::mapped::{INIT, Mapped};
use crate::log::Log;
use crate::time::boottime_ns;

const WAIT: Duration = Duration::from_millis(20);
/// How often /proc is listed, where the kernel does not tell of mappings.
const LIST: Duration = Duration::from_millis(250);
/// Then a new process is looked at again: it maps its libraries after it became another program.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];
const EVERY: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(500);
/// After this time without a process that maps it, a file is let go.
const FORGET: Duration = Duration::from_secs(90);
/// Files that are remembered.
const MOST_FILES: usize = 16_384;
/// Names of processes that are remembered until /proc is listed again.
const MOST_NAMES: usize = 16_384;
/// Processes that are remembered while the file that they run is examined.
const MOST_WAITING: usize = 64;
const TELL_REFUSED: Duration = Duration::from_secs(10);
/// The kernel takes one for each function and each return.
const DESCRIPTORS_OF_A_FILE: u64 = 11;

/// Libraries that encrypt and are not OpenSSL, by the start of their name.
const OTHERS: [(&str, &str); 6] = [
    ("libgnutls.so", "GnuTLS is not OpenSSL"),
    ("libmbedtls.so", "Mbed TLS is not OpenSSL"),
    ("libwolfssl.so", "wolfSSL is not OpenSSL"),
    ("libnss3.so", "NSS is not OpenSSL"),
    ("libssl3.so", "NSS is not OpenSSL"),
    ("libjvm.so", "Java's own TLS is compiled while it runs: it has no functions that can be watched"),
];

pub struct Libraries {
    probes: Probes,
    known: Known,
    log: Arc<Log>,
    examiner: Examiner<About>,
    files: HashMap<String, Seen>,
    processes: HashMap<u32, Process>,
    /// As the kernel told them since /proc was listed.
    names: HashMap<u32, String>,
    refused: Refused,
    late: Late,
    listed: Option<Instant>,
    most_watched: usize,
    /// The kernel tells of mappings.
    is_told: bool,
}

/// Processes whose memory map may not be read, or whose files may not be opened, and what was told of them.
#[derive(Default)]
struct Refused {
    pids: HashSet<u32>,
    told: usize,
    told_at: Option<Instant>,
}

struct Seen {
    at: Instant,
    name: String,
    state: State,
}

enum State {
    /// What is in it is not known yet; processes that mapped it meanwhile, and when.
    Asked(Vec<(u32, u64)>),
    /// It has nothing to do with TLS.
    Plain,
    /// It cannot be read, which was reported.
    Unreadable,
    /// The file may not be opened through the process that ran it, which was reported; another process may permit it.
    Refused,
    Watched {
        attached: Attached,
        since_boottime_ns: u64,
    },
}

struct Process {
    since: Instant,
    looks: usize,
    next: Instant,
    /// Some of its files could not be examined, since too many waited.
    is_left_over: bool,
}

/// What the examiner gives back with its answer.
struct About {
    pid: u32,
    mapped: Mapped,
    told_boottime_ns: Option<u64>,
}

/// What is known of a file from its name alone.
enum Kind {
    OpenSsl,
    Other(&'static str),
    ToExamine,
}

impl Libraries {
    pub fn new(probes: Probes, known: Known, log: Arc<Log>) -> io::Result<Libraries> {
        Ok(Libraries {
            probes,
            known,
            examiner: Examiner::start()?,
            files: HashMap::new(),
            processes: HashMap::new(),
            names: HashMap::new(),
            refused: Refused::default(),
            most_watched: most_watched(),
            late: Late::new(log.clone()),
            listed: None,
            is_told: false,
            log,
        })
    }

    /// Ends when `stop` is set.
    pub fn run(mut self, mut mappings: Option<Mappings>, stop: &AtomicBool) {
        self.is_told = mappings.is_some();
        let (mut events, mut has_more) = (Vec::new(), false);
        while !stop.load(Ordering::Relaxed) {
            // What was just mapped comes before what has been there for long.
            let time = if has_more || self.due().is_some() { Duration::ZERO } else { WAIT };
            let has_lost = match &mut mappings {
                Some(mappings) => {
                    wait(mappings, time);
                    mappings.drain(|event| events.push(event))
                }
                None => {
                    thread::sleep(time);
                    false
                }
            };
            events.drain(..).for_each(|event| self.hear(event));
            if has_lost {
                self.late.lost_events();
                self.listed = None;
                self.processes.clear();
            }
            has_more = self.take_answer();
            self.look();
            self.late.report_if_due();
        }
        self.late.report();
        // The kernel lets go of them when the process has ended; nothing that is to be sealed need wait for that.
        std::mem::forget(self.files);
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Named { pid, comm } => {
                if self.names.len() < MOST_NAMES {
                    self.names.insert(pid, comm);
                }
            }
            // Of another namespace of processes, or our own.
            Event::Mapped(mapping) if mapping.pid == 0 || mapping.pid == std::process::id() => {}
            Event::Mapped(mapping) if mapping.path.starts_with('/') => {
                self.meet(mapping.pid, Mapped::from(&mapping), Some(mapping.at_boottime_ns));
            }
            Event::Mapped(_) => {}
        }
    }

    /// A process that is to be looked at.
    fn due(&self) -> Option<u32> {
        let now = Instant::now();
        self.processes.iter().find(|(_, of)| of.next <= now).map(|(pid, _)| *pid)
    }

    /// Looks at one process whose time has come; most times there is none.
    fn look(&mut self) {
        let now = Instant::now();
        let every = if self.is_told { EVERY } else { LIST };
        if self.listed.is_none_or(|at| now - at >= every) {
            self.listed = Some(now);
            self.list(now);
            self.forget(now);
        }
        let Some(pid) = self.due() else { return self.report_refused() };
        self.look_at(pid);
        let is_told = self.is_told;
        if let Some(process) = self.processes.get_mut(&pid) {
            let again = AGAIN.get(process.looks).filter(|_| !is_told).map(|after| process.since + *after);
            let is_left_over = std::mem::take(&mut process.is_left_over);
            process.next = again.unwrap_or(now + if is_left_over { SOON } else { EVERY });
            process.looks += 1;
        }
    }

    fn list(&mut self, now: Instant) {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids: HashSet<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        self.processes.retain(|pid, _| pids.contains(pid));
        self.names.retain(|pid, _| pids.contains(pid));
        self.refused.pids.retain(|pid| pids.contains(pid));
        for pid in pids.into_iter().filter(|pid| ![INIT, std::process::id()].contains(pid)) {
            let process = Process { since: now, looks: 0, next: now, is_left_over: false };
            self.processes.entry(pid).or_insert(process);
        }
    }

    fn look_at(&mut self, pid: u32) {
        match Mapped::of(pid) {
            Ok(all) => {
                self.refused.pids.remove(&pid);
                all.into_iter().for_each(|mapped| self.meet(pid, mapped, None));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.refused.pids.insert(pid);
            }
            // It has ended.
            Err(_) => {}
        }
    }

    /// A process runs this file; since when, where the kernel told it.
    fn meet(&mut self, pid: u32, mapped: Mapped, told_boottime_ns: Option<u64>) {
        let kind = kind(&mapped);
        let mut was_refused = false;
        if let Some(seen) = self.files.get_mut(&mapped.id) {
            seen.at = Instant::now();
            match &mut seen.state {
                State::Watched { since_boottime_ns, .. } => {
                    let since_boottime_ns = *since_boottime_ns;
                    return self.note_if_late(pid, &mapped, told_boottime_ns, since_boottime_ns);
                }
                State::Asked(others) if others.len() < MOST_WAITING => {
                    return others.extend(told_boottime_ns.map(|told_ns| (pid, told_ns)));
                }
                State::Refused => was_refused = true,
                State::Asked(_) | State::Plain | State::Unreadable => return,
            }
        }
        let most = if matches!(kind, Kind::ToExamine) { MOST_FILES } else { 2 * MOST_FILES };
        if self.files.len() >= most {
            return;
        }
        let file = match open(pid, &mapped) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.refused.pids.insert(pid);
                if !matches!(kind, Kind::ToExamine) && !was_refused {
                    let why =
                        format!("it may not be opened: {error}; that needs CAP_SYS_PTRACE and CAP_SYS_ADMIN");
                    let id = mapped.id.clone();
                    self.finish(pid, mapped, Err(why));
                    self.files.entry(id).and_modify(|seen| seen.state = State::Refused);
                }
                return;
            }
            // The process has ended, and another one will have it.
            Err(_) => {
                let is_openssl = matches!(kind, Kind::OpenSsl) && told_boottime_ns.is_some();
                if is_openssl && self.probes.talked_boottime_ns(pid).is_some() {
                    let process = self.process(pid);
                    self.late.tell(&process, &mapped.path, None);
                }
                return;
            }
        };
        match kind {
            Kind::OpenSsl => self.watch(pid, mapped, &file, "OpenSSL", told_boottime_ns),
            Kind::Other(why) => self.finish(pid, mapped, Err(why.to_owned())),
            Kind::ToExamine => {
                let seen =
                    Seen { at: Instant::now(), name: name_of(&mapped), state: State::Asked(Vec::new()) };
                let id = mapped.id.clone();
                if self.examiner.ask(Question { file, about: About { pid, mapped, told_boottime_ns } }) {
                    self.files.insert(id, seen);
                } else if let Some(process) = self.processes.get_mut(&pid) {
                    process.is_left_over = true;
                }
            }
        }
    }

    /// True where there was one.
    fn take_answer(&mut self) -> bool {
        let Some((Question { file, about }, within)) = self.examiner.answer() else { return false };
        let About { pid, mapped, told_boottime_ns } = about;
        match within {
            Some(Within::Functions(what)) => {
                let what = format!("statically linked {what}");
                let others = match self.files.get_mut(&mapped.id).map(|seen| &mut seen.state) {
                    Some(State::Asked(others)) => std::mem::take(others),
                    _ => Vec::new(),
                };
                let same = mapped.clone();
                self.watch(pid, mapped, &file, &what, told_boottime_ns);
                others.into_iter().for_each(|(pid, told_ns)| self.meet(pid, same.clone(), Some(told_ns)));
            }
            Some(Within::Other(what)) => self.finish(pid, mapped, Err(format!("{what} is not OpenSSL"))),
            None => {
                if let Some(seen) = self.files.get_mut(&mapped.id) {
                    seen.state = State::Plain;
                }
            }
        }
        true
    }

    fn watch(&mut self, pid: u32, mapped: Mapped, file: &File, what: &str, told_boottime_ns: Option<u64>) {
        let watched = self.files.values().filter(|seen| matches!(seen.state, State::Watched { .. })).count();
        if watched >= self.most_watched {
            let why = format!(
                "{watched} files are watched already, and each takes descriptors: raise RLIMIT_NOFILE"
            );
            return self.finish(pid, mapped, Err(why));
        }
        let same = mapped.clone();
        match self.probes.attach(file) {
            Ok(attached) => {
                let state = State::Watched { attached, since_boottime_ns: boottime_ns() };
                self.finish(pid, mapped, Ok(state));
                // It may have run the library before.
                self.meet(pid, same, told_boottime_ns);
            }
            Err(error) => self.finish(pid, mapped, Err(format!("{what}: {error}"))),
        }
    }

    /// Says of a file whether plaintext of those that run it is read.
    fn finish(&mut self, pid: u32, mapped: Mapped, result: Result<State, String>) {
        let name = name_of(&mapped);
        let of = format!("first seen in process {}", self.process(pid));
        let state = match result {
            Ok(state) => {
                self.report(&name, None, format!("plaintext is read; {of}"));
                state
            }
            Err(why) => {
                self.report(&name, Some(OffCause::Unreadable), format!("{why}; {of}"));
                State::Unreadable
            }
        };
        self.files.insert(mapped.id, Seen { at: Instant::now(), name, state });
    }

    /// What a process said through a library before that was watched is not there. Who has used no TCP until then has said nothing.
    fn note_if_late(
        &mut self,
        pid: u32,
        mapped: &Mapped,
        told_boottime_ns: Option<u64>,
        since_boottime_ns: u64,
    ) {
        let early_ns = told_boottime_ns.and_then(|told_ns| since_boottime_ns.checked_sub(told_ns));
        // Most processes map what is watched already.
        if early_ns.is_none() {
            return;
        }
        if self.probes.talked_boottime_ns(pid).is_some_and(|talked_ns| talked_ns <= since_boottime_ns) {
            let process = self.process(pid);
            self.late.tell(&process, &mapped.path, early_ns);
        }
    }

    /// For people: its number and its name.
    fn process(&self, pid: u32) -> String {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let comm = comm.as_deref().map(str::trim_end).or(self.names.get(&pid).map(String::as_str));
        format!("{pid} ({})", comm.unwrap_or("?"))
    }

    /// Without a cause to be off it is on.
    fn report(&self, name: &str, cause: Option<OffCause>, why: String) {
        let feature = Feature { name: name.to_owned(), on: cause.is_none(), cause, why };
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        known.retain(|of| of.name != name);
        known.push(feature.clone());
        drop(known);
        self.log.write(Fact::Feature(feature));
    }

    /// A process that may not be asked may run any library. Of many that come and go, the number is told now and then.
    fn report_refused(&mut self) {
        let (number, told) = (self.refused.pids.len(), self.refused.told);
        let is_due = self.refused.told_at.is_none_or(|at| at.elapsed() >= TELL_REFUSED);
        if number == told || !(is_due || told == 0 || number == 0) {
            return;
        }
        (self.refused.told, self.refused.told_at) = (number, Some(Instant::now()));
        match self.refused.pids.iter().min() {
            None => self.report("tls_processes", None, "the files of all processes may be opened".to_owned()),
            Some(first) => {
                let why = format!(
                    "the files that {number} processes run may not be opened, among them those of {}: what they say is read only where \
                     another process runs the same library; it needs CAP_SYS_PTRACE",
                    self.process(*first)
                );
                self.report("tls_processes", Some(OffCause::Refused), why);
            }
        }
    }

    /// A watched file is held, also after it was deleted: those that nobody runs any more are let go.
    fn forget(&mut self, now: Instant) {
        let old: Vec<String> =
            self.files.iter().filter(|(_, of)| now - of.at >= FORGET).map(|(id, _)| id.clone()).collect();
        for id in old {
            let Some(seen) = self.files.remove(&id) else { continue };
            if matches!(seen.state, State::Watched { .. } | State::Unreadable | State::Refused) {
                self.report(&seen.name, Some(OffCause::Unused), "no process runs it any more".to_owned());
                self.known.lock().unwrap_or_else(|e| e.into_inner()).retain(|of| of.name != seen.name);
            }
            if let State::Watched { attached, .. } = seen.state {
                // It takes its time; where no thread can be had, this one does it.
                let _ = thread::Builder::new().name("tls-detach".into()).spawn(move || drop(attached));
            }
        }
    }
}

/// Three quarters of the descriptors are for everything else.
fn most_watched() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 4 / DESCRIPTORS_OF_A_FILE).unwrap_or(usize::MAX)
}

fn kind(mapped: &Mapped) -> Kind {
    if mapped.is_openssl() {
        return Kind::OpenSsl;
    }
    let other = OTHERS.iter().find(|(start, _)| mapped.name().starts_with(start));
    other.map_or(Kind::ToExamine, |(_, why)| Kind::Other(why))
}

fn name_of(mapped: &Mapped) -> String {
    format!("tls_library {} ({})", mapped.path, mapped.id)
}

/// What a process just mapped may lie elsewhere by now, when it was mapped in parts.
fn open(pid: u32, mapped: &Mapped) -> io::Result<File> {
    let error = match mapped.open(pid) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        Err(error) => return Err(error),
    };
    let now = Mapped::of(pid)?.into_iter().find(|other| other.id == mapped.id);
    now.ok_or(error)?.open(pid)
}

/// Until something was mapped, or for this time.
fn wait(mappings: &Mappings, time: Duration) {
    let descriptors: Vec<_> = mappings.descriptors().collect();
    let mut all: Vec<PollFd<'_>> =
        descriptors.iter().map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // A signal ends it, too.
    let _ = poll(&mut all, Some(&timeout));
}
