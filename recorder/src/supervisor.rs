//! Whether the threads of a recorder make progress.
//! In: counts of turns, which each thread advances itself. Out: facts, a status, and the end of a process that no longer records.
//! It shares no lock with the threads it judges and waits for nothing that they may hold; what it has to say to the log and to
//! standard error it leaves to a thread of its own, which may hang with the disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shark_schema::identity::{Fact, Stalled};

use crate::log::Log;
use crate::time::now_ns;

/// Time between two looks at the threads.
const LOOK: Duration = Duration::from_millis(500);
/// Looks without a turn after which a thread has stopped making progress.
const STALLED_LOOKS: u32 = 7;
/// What an orderly end may take after a signal, and after a thread stopped.
const END_AFTER_SIGNAL: Duration = Duration::from_secs(10);
const END_AFTER_STALL: Duration = Duration::from_secs(4);
/// Exit code of a process that had to be ended.
const FAILED: i32 = 1;

/// Advanced by one thread, read by the supervisor.
#[derive(Debug, Default)]
pub struct Heartbeat {
    turns: AtomicU64,
    /// Number of the thread in the kernel; 0 before its first turn.
    thread: AtomicI32,
    ended: AtomicBool,
}

impl Heartbeat {
    /// Says that the thread takes one more turn.
    #[inline]
    pub fn beat(&self) {
        if self.turns.fetch_add(1, Ordering::Relaxed) == 0 {
            self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        }
    }

    /// Says that the thread ends as it should.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether the kernel knows the thread no more, although it did not say that it ends.
    fn is_gone(&self) -> bool {
        let thread = self.thread.load(Ordering::Relaxed);
        thread != 0 && !Path::new(&format!("/proc/self/task/{thread}")).exists()
    }
}

/// How far a worker has come.
#[derive(Debug, Default)]
pub struct WorkerProgress {
    pub capture: Heartbeat,
    pub writer: Heartbeat,
    /// Everything that reached the sockets until then was handed to the writer or counted as lost.
    pub captured_until_ns: AtomicI64,
    /// The same of what is in files, or counted as lost.
    pub recorded_until_ns: AtomicI64,
    /// Packets that the capture thread took out of its sockets, and those that it knows the kernel dropped.
    pub taken: AtomicU64,
    pub kernel_dropped: AtomicU64,
}

/// What happens when a thread makes no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing is recorded without it, and it waits for nothing but packets: the process ends.
    Always,
    /// It may wait for the disk: that is told. The process ends only where the thread is gone.
    UnlessTheDiskHangs,
}

/// A thread as `status` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    pub name: String,
    /// Milliseconds since it was seen to take a turn.
    pub silent_ms: u64,
    pub stalled: bool,
}

struct Watched {
    name: String,
    of: Box<dyn Fn() -> Look + Send>,
    need: Need,
    turns: u64,
    silent_looks: u32,
    moved: Instant,
    moved_ns: i64,
    told: bool,
}

struct Look {
    turns: u64,
    ended: bool,
    gone: bool,
}

/// Why a recorder has to end.
pub type Failure = String;

/// Watches the threads that were given to it.
#[derive(Default)]
pub struct Supervisor {
    watched: Vec<Watched>,
    status: Arc<Mutex<Vec<ThreadStatus>>>,
    signalled: Arc<AtomicBool>,
}

/// What others may ask the supervisor for.
#[derive(Clone, Default)]
pub struct Supervision {
    status: Arc<Mutex<Vec<ThreadStatus>>>,
    signalled: Arc<AtomicBool>,
}

impl Supervision {
    pub fn threads(&self) -> Vec<ThreadStatus> {
        self.status.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// A signal asked the process to end: it does so, whatever its threads wait for.
    pub fn signalled(&self) {
        self.signalled.store(true, Ordering::Relaxed);
    }
}

impl Supervisor {
    pub fn handle(&self) -> Supervision {
        Supervision { status: self.status.clone(), signalled: self.signalled.clone() }
    }

    /// Watches one more thread.
    pub fn watch<T: Send + Sync + 'static>(
        &mut self,
        name: impl Into<String>,
        need: Need,
        of: &Arc<T>,
        heartbeat: fn(&T) -> &Heartbeat,
    ) {
        let of = of.clone();
        let look = move || {
            let beat = heartbeat(&of);
            let ended = beat.ended.load(Ordering::Relaxed);
            Look { turns: beat.turns.load(Ordering::Relaxed), ended, gone: !ended && beat.is_gone() }
        };
        self.watched.push(Watched {
            name: name.into(),
            of: Box::new(look),
            need,
            turns: 0,
            silent_looks: 0,
            moved: Instant::now(),
            moved_ns: now_ns(),
            told: false,
        });
    }

    /// Begins to watch; what the recorder cannot go on without is sent to `failed`.
    pub fn start(self, log: Arc<Log>, failed: Sender<Failure>) -> std::io::Result<()> {
        let (facts, told) = sync_channel(64);
        thread::Builder::new().name("reporter".into()).spawn(move || report(&told, &log))?;
        thread::Builder::new().name("supervisor".into()).spawn(move || self.run(&facts, &failed))?;
        Ok(())
    }

    fn run(mut self, facts: &SyncSender<Stalled>, failed: &Sender<Failure>) {
        let mut end: Option<Instant> = None;
        loop {
            let looked = Instant::now();
            thread::sleep(LOOK);
            // Where this thread did not run either, the others had no chance.
            if looked.elapsed() > 2 * LOOK {
                continue;
            }
            let now = Instant::now();
            for of in &mut self.watched {
                let Some(why) = of.look(now, facts) else { continue };
                if end.is_none() {
                    end = Some(now + END_AFTER_STALL);
                    let _ = failed.send(why);
                }
            }
            *self.status.lock().unwrap_or_else(|e| e.into_inner()) =
                self.watched.iter().map(|of| of.status(now)).collect();
            if self.signalled.load(Ordering::Relaxed) {
                end.get_or_insert(now + END_AFTER_SIGNAL);
            }
            if end.is_some_and(|end| now >= end) {
                signal_hook::low_level::exit(FAILED);
            }
        }
    }
}

impl Watched {
    /// Looks once; the reason, where the recorder has to end because of this thread.
    fn look(&mut self, now: Instant, facts: &SyncSender<Stalled>) -> Option<Failure> {
        let Look { turns, ended, gone } = (self.of)();
        if turns != self.turns || ended {
            if self.told && !ended {
                self.tell(facts, true, "it makes progress again");
            }
            (self.turns, self.silent_looks, self.told) = (turns, 0, false);
            (self.moved, self.moved_ns) = (now, now_ns());
            return None;
        }
        // It was not started yet.
        if turns == 0 {
            return None;
        }
        self.silent_looks += 1;
        if self.told || (!gone && self.silent_looks < STALLED_LOOKS) {
            return None;
        }
        let why = if gone { "the thread is gone" } else { "it makes no progress" };
        self.tell(facts, false, why);
        let must_end = gone || self.need == Need::Always;
        must_end.then(|| format!("{}: {why}", self.name))
    }

    fn tell(&mut self, facts: &SyncSender<Stalled>, over: bool, why: &str) {
        self.told = !over;
        let fact = Stalled { thread: self.name.clone(), since_ns: self.moved_ns, over, why: why.to_owned() };
        // Where nobody takes it any more, `status` still says it.
        let _ = facts.try_send(fact);
    }

    fn status(&self, now: Instant) -> ThreadStatus {
        let silent_ms = u64::try_from((now - self.moved).as_millis()).unwrap_or(u64::MAX);
        ThreadStatus { name: self.name.clone(), silent_ms, stalled: self.told }
    }
}

fn report(told: &Receiver<Stalled>, log: &Log) {
    while let Ok(fact) = told.recv() {
        match fact.over {
            true => tracing::warn!("{}: {}", fact.thread, fact.why),
            false => tracing::error!("{}: {}; packets may be lost", fact.thread, fact.why),
        }
        log.write(Fact::Stalled(fact));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(beat: &Arc<Heartbeat>, need: Need) -> Watched {
        let mut supervisor = Supervisor::default();
        supervisor.watch("writer-0", need, beat, |beat| beat);
        supervisor.watched.pop().expect("it was just added")
    }

    #[test]
    fn a_silent_thread_is_told_once_and_its_progress_once() {
        let (facts, told) = sync_channel(8);
        let beat = Arc::new(Heartbeat::default());
        let mut of = watched(&beat, Need::UnlessTheDiskHangs);
        for _ in 0..100 {
            assert_eq!(of.look(Instant::now(), &facts), None);
        }
        assert!(told.try_recv().is_err(), "a thread that was not started yet cannot stall");
        beat.beat();
        for _ in 0..20 {
            assert_eq!(of.look(Instant::now(), &facts), None);
        }
        assert!(of.status(Instant::now()).stalled);
        let fact = told.try_recv().expect("it stalled");
        assert_eq!((fact.thread.as_str(), fact.over), ("writer-0", false));
        beat.beat();
        assert_eq!(of.look(Instant::now(), &facts), None);
        assert!(told.try_recv().expect("it goes on").over);
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn what_nothing_is_recorded_without_ends_the_process() {
        let (facts, _told) = sync_channel(8);
        let beat = Arc::new(Heartbeat::default());
        let mut of = watched(&beat, Need::Always);
        beat.beat();
        let looks: Vec<_> = (0..20).filter_map(|_| of.look(Instant::now(), &facts)).collect();
        assert_eq!(looks, ["writer-0: it makes no progress"]);
    }

    #[test]
    fn a_thread_that_is_gone_is_known_at_the_next_look() {
        let (facts, _told) = sync_channel(8);
        let beat = Arc::new(Heartbeat::default());
        let mut of = watched(&beat, Need::UnlessTheDiskHangs);
        let thread = beat.clone();
        thread::spawn(move || thread.beat()).join().expect("it ends");
        // The kernel forgets a thread a moment after it was joined.
        while !beat.is_gone() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(of.look(Instant::now(), &facts), None, "its turn was not seen before");
        assert_eq!(of.look(Instant::now(), &facts).as_deref(), Some("writer-0: the thread is gone"));
        beat.end();
        assert_eq!(of.look(Instant::now(), &facts), None, "it said that it ends");
    }
}
