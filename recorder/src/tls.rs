//! Plaintext of TLS, as programs hand it to OpenSSL and get it back, into a series of segments of its own.
//! In: settings, and the kernel's permission. Out: `<ring>/tls/`, facts of what can be read and what not, and what was lost.
//! It has its own budget, writer and keeper: the packets neither wait for it nor ever contain any of it.

mod check;
mod examine;
mod frames;
mod late;
mod libraries;
mod listen;
mod mapped;
mod order;

pub use check::check;

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shark_bpf::mappings::Mappings;
use shark_bpf::tls::{Plaintext, Probes};
use shark_schema::identity::{Fact, Feature, OffCause};
use shark_schema::segment::{PLAINTEXT_WORKER, Series as Kind, Versions};

use self::libraries::Libraries;
use self::listen::{Listener, ReportRequest};
use crate::batch::circle;
use crate::config::Settings;
use crate::log::Log;
use crate::record::BATCH_BYTES;
use crate::ring::{Ring, private_dir};
use crate::segment::{
    Budget, Recording, SealRequest, Shared, State, Task, WriterThread, recover, start_keeper,
};
use crate::stats::Stats;

/// Memory between the listener and the writer.
const QUEUE_BYTES: usize = 16 << 20;

/// What answers for a series while it is written.
#[derive(Clone)]
pub struct Series {
    pub requests: Sender<SealRequest>,
    pub keeper: Sender<Task>,
    pub reports: Sender<ReportRequest>,
    ring: Ring,
    shared: Shared,
    libraries: Known,
}

/// Files whose plaintext can or cannot be read, shared with the control socket.
pub type Known = Arc<Mutex<Vec<Feature>>>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsStatus {
    pub bytes: u64,
    pub limit_bytes: Option<u64>,
    pub segments: u64,
    pub libraries: Vec<Feature>,
}

impl TlsStatus {
    /// None where no plaintext ever was recorded.
    pub fn of_files(ring: &Ring) -> Option<TlsStatus> {
        let ring = ring.of(Kind::Tls);
        let segments = ring.list().ok()?.len() as u64;
        Some(TlsStatus { bytes: ring.bytes(), limit_bytes: None, segments, libraries: Vec::new() })
    }
}

impl Series {
    pub fn status(&self) -> TlsStatus {
        let (bytes, limit) = self.shared.budget(|budget| (budget.used(), budget.limit()));
        let segments = self.ring.list().map_or(0, |names| names.len() as u64);
        let libraries = self.libraries.lock().unwrap_or_else(|e| e.into_inner()).clone();
        TlsStatus { bytes, limit_bytes: Some(limit), segments, libraries }
    }
}

/// Everything is attached, nothing is written yet.
pub struct Prepared {
    told: Plaintext,
    probes: Probes,
    mappings: Option<Mappings>,
    recording: Arc<Recording>,
    shared: Shared,
    tail: (u64, Option<String>),
}

/// None where nobody asked for plaintext, or the kernel refuses; the log says which, after it said that this recorder started: what
/// is said of features earlier is of another one.
pub fn prepare(
    settings: &Settings,
    ring: &Ring,
    versions: &Versions,
    log: &Arc<Log>,
) -> anyhow::Result<Option<Prepared>> {
    let note = |cause: Option<OffCause>, why: &str| {
        let (name, on, why) = ("tls".to_owned(), cause.is_none(), why.to_owned());
        log.write(Fact::Feature(Feature { name, on, cause, why }));
    };
    let Some(bytes) = settings.tls_bytes else {
        let why = if settings.read.is_some() { "replayed from a file" } else { "recorded without --tls" };
        note(Some(OffCause::NotTargeted), why);
        return Ok(None);
    };
    let ring = ring.of(Kind::Tls);
    let path = ring.segments();
    private_dir(&path).with_context(|| path.display().to_string())?;
    let mut found = recover(&ring, versions)?;
    found.orphans.drain(..).for_each(|orphan| log.write(Fact::Evicted(orphan)));
    found.recovered.drain(..).for_each(|recovered| log.write(Fact::Recovered(recovered)));
    let (probes, told) = match shark_bpf::tls::start() {
        Ok(started) => started,
        Err(reason) => {
            let why = format!("no plaintext is recorded: {reason}; it needs CAP_SYS_ADMIN, too");
            tracing::warn!("--tls: {why}");
            note(Some(OffCause::Refused), &why);
            return Ok(None);
        }
    };
    note(None, "functions of OpenSSL, in every process that maps it");
    let mappings = Mappings::start();
    let note = |cause: Option<OffCause>, why: String| {
        log.write(Fact::Feature(Feature {
            name: "tls_mappings".to_owned(),
            on: cause.is_none(),
            cause,
            why,
        }));
    };
    match &mappings {
        Ok(_) => note(None, "libraries are watched as soon as they are mapped".to_owned()),
        Err(reason) => {
            let why = "the memory maps of all processes are looked at every 250 ms instead, and what is shorter is not seen";
            note(Some(OffCause::Refused), format!("{why}: {reason}"));
        }
    }
    let shared = Shared {
        budget: Arc::new(Mutex::new(Budget::scan(&ring, bytes)?)),
        log: log.clone(),
        stats: Arc::new(Stats::new(0)),
    };
    let recording = Arc::new(Recording {
        ring,
        interfaces: Mutex::new(Vec::new()),
        compress: settings.compress,
        segment_bytes: settings.segment_bytes.min(bytes / 8),
        segment_age: settings.segment_age,
        snaplen: frames::SNAPLEN,
        filter: None,
        config_sha256: settings.sha256(),
        versions: versions.clone(),
        live: true,
        own_marks: None,
    });
    let tail = found.tails.remove(&PLAINTEXT_WORKER).unwrap_or_default();
    Ok(Some(Prepared { told, probes, mappings: mappings.ok(), recording, shared, tail }))
}

/// Of a thread that ends by a panic the log says that plaintext is missing from then on. Packets are recorded all the same.
struct ToldWhenItFails(Arc<Log>);

impl Drop for ToldWhenItFails {
    fn drop(&mut self) {
        if thread::panicking() {
            let why = format!("the thread {} panicked", thread::current().name().unwrap_or("of plaintext"));
            let (name, cause) = ("tls".to_owned(), Some(OffCause::Failed));
            self.0.write(Fact::Feature(Feature { name, on: false, cause, why }));
        }
    }
}

/// The threads of a series.
pub struct Running {
    pub series: Series,
    finder: JoinHandle<()>,
    listener: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Prepared {
    /// Begins; ends when `stop` is set.
    pub fn start(self, stop: Arc<AtomicBool>) -> anyhow::Result<Running> {
        let Prepared { told, probes, mappings, recording, shared, tail: (seq, prev_sidecar_sha256) } = self;
        let ring = recording.ring.clone();
        let (keeper, _) = start_keeper(&ring, shared.clone(), Arc::default());
        // A batch is stored whole or not at all: several must fit into the budget.
        let budget = shared.budget(|budget| budget.limit());
        let batch_bytes = usize::try_from(budget / 16).unwrap_or(BATCH_BYTES).min(BATCH_BYTES);
        let (source, sink) = circle(QUEUE_BYTES / batch_bytes, batch_bytes);
        let (requests, waiting) = channel();
        let (reports, asked) = channel();
        let writer = WriterThread {
            worker: PLAINTEXT_WORKER,
            seq,
            prev_sidecar_sha256,
            recording: recording.clone(),
            shared: shared.clone(),
            keeper: keeper.clone(),
            requests: waiting,
            progress: Arc::default(),
            state: State::default(),
        };
        let libraries = Known::default();
        let known = libraries.clone();
        let log = shared.log.clone();
        let writer = thread::Builder::new().name("tls-writer".into()).spawn(move || writer.run(&sink))?;
        let finder = Libraries::new(probes, known, log.clone())?;
        let (finding, finder_log) = (stop.clone(), log.clone());
        let finder = thread::Builder::new().name("tls-libraries".into()).spawn(move || {
            let _told = ToldWhenItFails(finder_log);
            finder.run(mappings, &finding);
        })?;
        let listener = thread::Builder::new().name("tls".into()).spawn(move || {
            let _told = ToldWhenItFails(log.clone());
            Listener::new(told, recording, log, source).run(&asked, &stop);
        })?;
        let series = Series { requests, keeper, reports, ring, shared, libraries };
        Ok(Running { series, finder, listener, writer })
    }
}

impl Running {
    /// Waits until everything is sealed, after `stop` was set.
    pub fn join(self) -> anyhow::Result<()> {
        self.finder.join().map_err(|_| anyhow::anyhow!("the thread that finds libraries panicked"))?;
        self.listener.join().map_err(|_| anyhow::anyhow!("the thread of plaintext panicked"))?;
        self.writer.join().map_err(|_| anyhow::anyhow!("the writer of plaintext panicked"))?;
        let (done, all_done) = channel();
        self.series.keeper.send(Task::Done(done)).context("the keeper of plaintext ended early")?;
        all_done.recv().context("the keeper of plaintext ended early")
    }
}
