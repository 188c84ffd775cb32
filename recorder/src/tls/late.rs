//! Processes that ran a library before it was watched. In: which process, which library. Out: facts that what they said then is missing,
//! at most so many by name in ten seconds and the others in number.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shark_schema::identity::{EventsLost, Fact, LossCause};

use crate::log::Log;

const EVERY: Duration = Duration::from_secs(10);
const MOST_NAMED: usize = 64;

pub struct Late {
    log: Arc<Log>,
    since: Instant,
    /// Processes and libraries of this time, as far as they are named.
    named: HashSet<(String, String)>,
    unnamed: u64,
}

impl Late {
    pub fn new(log: Arc<Log>) -> Late {
        Late { log, since: Instant::now(), named: HashSet::new(), unnamed: 0 }
    }

    /// It used TCP before its library was watched, or ended before that was possible.
    pub fn tell(&mut self, process: &str, path: &str, early_ns: Option<u64>) {
        self.name(
            process,
            path,
            match early_ns {
                Some(early_ns) => {
                    format!("it ran {path} for {} µs before that was watched", early_ns / 1_000)
                }
                None => format!("it ran {path} and ended before that was watched"),
            },
        );
    }

    /// Mappings that nobody saw.
    pub fn lost_events(&mut self) {
        let why = "the buffer of the kernel's mappings was full: some process may have run a library before it was watched";
        self.write(1, None, why.to_owned());
    }

    /// A process may map one file several times.
    fn name(&mut self, process: &str, path: &str, why: String) {
        let key = (process.to_owned(), path.to_owned());
        if self.named.contains(&key) {
            return;
        }
        if self.named.len() < MOST_NAMED {
            self.named.insert(key);
            self.write(1, Some(process.to_owned()), why);
        } else {
            self.unnamed += 1;
        }
    }

    pub fn report_if_due(&mut self) {
        if self.since.elapsed() >= EVERY {
            self.report();
        }
    }

    /// Tells of those that were not told by name.
    pub fn report(&mut self) {
        let unnamed = std::mem::take(&mut self.unnamed);
        if unnamed > 0 {
            self.write(unnamed, None, "more processes ran a library before it was watched".to_owned());
        }
        self.named.clear();
        self.since = Instant::now();
    }

    fn write(&self, events: u64, process: Option<String>, why: String) {
        tracing::warn!("plaintext is missing of {}: {why}", process.as_deref().unwrap_or("some process"));
        let (feature, cause) = ("tls".to_owned(), Some(LossCause::Late));
        self.log.write(Fact::EventsLost(EventsLost { feature, events, cause, process, why }));
    }
}
