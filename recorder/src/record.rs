//! `sharkrec record`: the whole wiring of a recorder, in the order in which things start and stop.
//! In: settings. Out: a ring that fills until a signal, or until the replayed file ends.
//! Threads: one capture and one writer a worker, one keeper for the disk, one for the control socket, this one for the clock, and
//! the supervisor, which ends the process where one of them stopped; and the witnesses' and the plaintext's, which share nothing
//! with those of the packets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use shark_schema::identity::{Fact, Feature, InterfaceFact, Record, Start, Stop, Targeting};
use shark_schema::segment::{Series, SidecarInterface, Versions};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::api;
use crate::attach::{Attacher, Begun};
use crate::batch::circle;
use crate::capture::{Capture, Device, Filter, Replay, ReplayError, RingOptions};
use crate::config::Settings;
use crate::log::{Log, share};
use crate::ring::Ring;
use crate::segment::{
    Budget, Found, Recording, Room, SealRequest, Shared, State, Task, WriterThread, recover, start_keeper,
};
use crate::stats::Stats;
use crate::supervisor::{Heartbeat, Need, Supervision, Supervisor, WorkerProgress};
use crate::time::{now_ns, watch_clock};
use crate::tls;
use crate::units::show_bytes;
use crate::witness::{self, RotateRequest};

/// A buffer holds a whole block of the kernel's ring, whose headers are larger than ours.
pub(crate) const BATCH_BYTES: usize = (1 << 20) + (128 << 10);

pub fn record(settings: &Settings) -> anyhow::Result<()> {
    let started_ns = now_ns();
    let Opened { captures, interfaces, since_ns, attacher } = open_captures(settings)?;
    let (ring, _lock) = Ring::create(&settings.ring, &settings.node, &settings.cluster)?;
    let versions = versions();
    warn_of_size(settings);
    let evicted = Budget::make_room_to_start(&ring, settings.ring_bytes)?;
    let found = recover(&ring, &versions).context("recovery of the ring")?;
    let log = Log::open(&ring, share(settings.ring_bytes), "recorder")
        .with_context(|| ring.log().display().to_string())?;
    let log = Arc::new(log);
    let kept_for_tls = settings.tls_bytes.unwrap_or_else(|| ring.of(Series::Tls).bytes());
    let packet_bytes = settings.ring_bytes.saturating_sub(kept_for_tls);
    let shared = Shared {
        budget: Arc::new(Mutex::new(Budget::scan(&ring, packet_bytes)?)),
        log,
        stats: Arc::new(Stats::new(interfaces.len())),
    };
    let own_marks = attacher.as_ref().and_then(Attacher::own_marks);
    let recording =
        Recording { own_marks: own_marks.clone(), ..recording(settings, &ring, interfaces, versions) };
    let recording = Arc::new(recording);
    let kube = settings.kube.clone().map(|kube| kube.prepare(&shared.log));
    let since = Since { started_ns, interfaces_ns: since_ns };
    shared.report(evicted);
    write_first_facts(&shared.log, settings, &recording, &found, attacher.as_ref(), &since);
    let tls = tls::prepare(settings, &ring, &recording.versions, &shared.log).context("plaintext")?;

    let stop = Arc::new(AtomicBool::new(false));
    let (events, happened) = channel();
    let mut supervisor = Supervisor::default();
    let supervision = supervisor.handle();
    watch_signals(events.clone(), supervision.clone())?;
    let heartbeat: Arc<Heartbeat> = Arc::default();
    supervisor.watch("keeper", Need::UnlessTheDiskHangs, &heartbeat, |beat| beat);
    let (keeper, keeper_thread) = start_keeper(&ring, shared.clone(), heartbeat);
    let mut workers = Vec::new();
    let mut requests = Vec::new();
    let mut progress = Vec::new();
    for (worker, capture) in (0..).zip(captures) {
        let of: Arc<WorkerProgress> = Arc::default();
        supervisor.watch(format!("capture-{worker}"), Need::Always, &of, |of| &of.capture);
        supervisor.watch(format!("writer-{worker}"), Need::UnlessTheDiskHangs, &of, |of| &of.writer);
        let parts = Parts { worker, recording: &recording, shared: &shared, keeper: &keeper, found: &found };
        let (threads, request) = parts.start(capture, settings, stop.clone(), events.clone(), of.clone())?;
        progress.push(of);
        workers.push(threads);
        requests.push(request);
    }
    let witness = match settings.read.is_none() && settings.sockets {
        true => {
            let (bytes, whole) = (settings.ring_bytes, settings.whole_command_lines);
            Some(witness::start(&ring, bytes, shared.log.clone(), whole).context("witness")?)
        }
        false => None,
    };
    let (witness, witness_thread) = witness.unzip();
    let tls = tls.map(|tls| tls.start(stop.clone())).transpose().context("plaintext")?;
    let kube = kube.map(|kube| kube.start().context("watches of Kubernetes")).transpose()?;
    let served = api::Served {
        recording: recording.clone(),
        shared: shared.clone(),
        requests: requests.clone(),
        progress: progress.clone(),
        supervision: supervision.clone(),
        own_marks,
        keeper: keeper.clone(),
        witness: witness.clone(),
        kube: kube.clone(),
        tls: tls.as_ref().map(|tls| tls.series.clone()),
        started_ns,
    };
    api::serve(&ring, Arc::new(served))?;
    announce(settings, &recording);
    if let Some(attacher) = attacher {
        let heartbeat: Arc<Heartbeat> = Arc::default();
        supervisor.watch("devices", Need::Always, &heartbeat, |beat| beat);
        attacher.follow(recording.clone(), shared.log.clone(), stop.clone(), heartbeat);
    }
    // A replay waits as long as its disk takes.
    if settings.read.is_none() {
        let (failed, failure) = channel();
        supervisor.start(shared.log.clone(), failed).context("the supervisor")?;
        forward(failure, events.clone())?;
    }
    let why = wait(&happened, &shared.log, workers.len());
    stop.store(true, Ordering::Relaxed);
    if let End::Failed(why) = why {
        rescue(&why, &requests, &keeper, &shared);
        bail!("{why}; what was recorded is sealed as far as the disk took it");
    }
    let mut result = Ok(());
    for threads in workers {
        result = result.and(threads.join());
    }
    let (done, all_done) = channel();
    keeper.send(Task::Done(done)).context("the keeper ended early")?;
    all_done.recv().context("the keeper ended early")?;
    drop((keeper, keeper_thread));
    if let Some(tls) = tls {
        tls.join()?;
    }
    end_witness(witness, witness_thread);
    kube.iter().for_each(|kube| kube.stop());
    write_stop(why.reason(), &shared, &progress);
    shared.log.rotate().with_context(|| ring.log().display().to_string())?;
    let _ = std::fs::remove_file(ring.socket());
    result
}

fn warn_of_size(settings: &Settings) {
    let Some(room) = Room::of(&settings.ring) else { return };
    if room.total_bytes < settings.ring_bytes {
        tracing::warn!(
            "--ring-size {} is more than the disk of {} has ({}); it is kept from filling up all the same",
            show_bytes(settings.ring_bytes),
            settings.ring.display(),
            show_bytes(room.total_bytes)
        );
    }
}

fn write_stop(reason: &str, shared: &Shared, progress: &[Arc<WorkerProgress>]) {
    let until = progress.iter().map(|of| of.recorded_until_ns.load(Ordering::Acquire)).min();
    shared.log.write(Fact::Stop(Stop {
        reason: reason.to_owned(),
        totals: shared.stats.totals(),
        recorded_until_ns: until.filter(|ns| *ns != 0),
    }));
}

/// A thread is gone or stands still: seals what the others have. Each step has its time; the supervisor ends the process where
/// even that hangs.
fn rescue(why: &str, requests: &[Sender<SealRequest>], keeper: &Sender<Task>, shared: &Shared) {
    tracing::error!("{why}; the recorder ends");
    for writer in requests {
        let (reply, sealed) = channel();
        if writer.send(reply).is_ok() {
            let _ = sealed.recv_timeout(RESCUE_TIMEOUT);
        }
    }
    let (done, all_done) = channel();
    if keeper.send(Task::Done(done)).is_ok() {
        let _ = all_done.recv_timeout(RESCUE_TIMEOUT);
    }
    // How far each worker came is in its own facts and segments.
    write_stop(why, shared, &[]);
    if let Err(error) = shared.log.rotate() {
        tracing::warn!("log: {error}");
    }
}

const RESCUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The control socket keeps a sender of its own, so the witness is asked to close its files, and left.
fn end_witness(requests: Option<Sender<RotateRequest>>, thread: Option<JoinHandle<()>>) {
    let (Some(requests), Some(_thread)) = (requests, thread) else { return };
    let (done, closed) = channel();
    if requests.send(done).is_ok() {
        // It takes milliseconds; a disk that hangs is not waited for.
        let _ = closed.recv_timeout(WITNESS_TIMEOUT);
    }
}

const WITNESS_TIMEOUT: Duration = Duration::from_secs(2);

/// One capture a worker, and for live ones what follows their interfaces.
struct Opened {
    captures: Vec<Capture>,
    interfaces: Vec<SidecarInterface>,
    /// Since when each interface is recorded; empty for a replay.
    since_ns: Vec<i64>,
    attacher: Option<Attacher>,
}

fn open_captures(settings: &Settings) -> anyhow::Result<Opened> {
    let filter = Filter::compile(settings.filter.as_deref(), settings.snaplen)?;
    if let Some(file) = &settings.read {
        let replay = Replay::open(file, settings.snaplen, filter)?;
        let interface = |(id, device): (usize, &Device)| SidecarInterface {
            id: id as u32,
            name: device.name.clone(),
            ifindex: None,
            snaplen: settings.snaplen,
            synthetic_ethernet: device.synthetic_ethernet,
            pod: None,
        };
        let interfaces = replay.devices().iter().enumerate().map(interface).collect();
        let captures = vec![Capture::Replay(Box::new(replay))];
        return Ok(Opened { captures, interfaces, since_ns: Vec::new(), attacher: None });
    }
    let options = RingOptions {
        buffer_bytes: settings.capture_buffer_bytes,
        snaplen: settings.snaplen,
        promiscuous: settings.promiscuous,
        filter,
    };
    let Begun { attacher, rings, interfaces, since_ns } =
        Attacher::begin(&settings.interfaces, options, settings.workers)?;
    let captures = rings.into_iter().map(Capture::Ring).collect();
    Ok(Opened { captures, interfaces, since_ns, attacher: Some(attacher) })
}

fn recording(
    settings: &Settings,
    ring: &Ring,
    interfaces: Vec<SidecarInterface>,
    versions: Versions,
) -> Recording {
    Recording {
        ring: ring.clone(),
        interfaces: Mutex::new(interfaces.into_iter().map(Into::into).collect()),
        compress: settings.compress,
        segment_bytes: settings.segment_bytes,
        segment_age: settings.segment_age,
        snaplen: settings.snaplen,
        filter: settings.filter.clone(),
        config_sha256: settings.sha256(),
        versions,
        live: settings.read.is_none(),
        own_marks: None,
    }
}

/// What a worker is made from.
struct Parts<'a> {
    worker: u16,
    recording: &'a Arc<Recording>,
    shared: &'a Shared,
    keeper: &'a Sender<Task>,
    found: &'a Found,
}

struct Threads {
    capture: JoinHandle<Result<(), ReplayError>>,
    writer: JoinHandle<()>,
}

impl Parts<'_> {
    fn start(
        self,
        capture: Capture,
        settings: &Settings,
        stop: Arc<AtomicBool>,
        events: Sender<Event>,
        progress: Arc<WorkerProgress>,
    ) -> anyhow::Result<(Threads, Sender<SealRequest>)> {
        let count = (settings.queue_bytes / BATCH_BYTES as u64).clamp(2, 65_536) as usize;
        let (source, sink) = circle(count, BATCH_BYTES);
        let (request, requests) = channel();
        let (seq, prev_sidecar_sha256) = self.found.tails.get(&self.worker).cloned().unwrap_or_default();
        let writer = WriterThread {
            worker: self.worker,
            seq,
            prev_sidecar_sha256,
            recording: self.recording.clone(),
            shared: self.shared.clone(),
            keeper: self.keeper.clone(),
            requests,
            progress: progress.clone(),
            state: State::default(),
        };
        let writer = named("writer", self.worker).spawn(move || writer.run(&sink))?;
        let capture = named("capture", self.worker).spawn(move || {
            let result = capture.run(&source, &stop, &progress);
            // The main thread may have gone on already.
            let _ = events.send(Event::CaptureEnded);
            result
        })?;
        Ok((Threads { capture, writer }, request))
    }
}

impl Threads {
    fn join(self) -> anyhow::Result<()> {
        let captured = self.capture.join().map_err(|_| anyhow::anyhow!("the capture thread panicked"))?;
        self.writer.join().map_err(|_| anyhow::anyhow!("the writer thread panicked"))?;
        Ok(captured?)
    }
}

fn named(what: &str, worker: u16) -> thread::Builder {
    thread::Builder::new().name(format!("{what}-{worker}"))
}

enum Event {
    Signal,
    CaptureEnded,
    Failed(String),
}

/// Why a recorder ends.
enum End {
    Signal,
    FileRead,
    Failed(String),
}

impl End {
    fn reason(&self) -> &str {
        match self {
            End::Signal => "signal",
            End::FileRead => "end of the replayed file",
            End::Failed(why) => why,
        }
    }
}

/// Takes what the supervisor says to the main thread.
fn forward(failure: Receiver<String>, events: Sender<Event>) -> anyhow::Result<()> {
    thread::Builder::new().name("failures".into()).spawn(move || {
        for why in failure {
            if events.send(Event::Failed(why)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn watch_signals(events: Sender<Event>, supervision: Supervision) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("signals")?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            supervision.signalled();
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

const CLOCK_LOOK: Duration = Duration::from_secs(10);

/// Watches the clock until a signal comes or every capture has ended.
fn wait(happened: &Receiver<Event>, log: &Log, mut running: usize) -> End {
    let mut clock = watch_clock(None, log);
    loop {
        match happened.recv_timeout(CLOCK_LOOK) {
            Ok(Event::Signal) => return End::Signal,
            Ok(Event::Failed(why)) => return End::Failed(why),
            Ok(Event::CaptureEnded) if running <= 1 => return End::FileRead,
            Ok(Event::CaptureEnded) => running -= 1,
            Err(_) => clock = watch_clock(Some(clock), log),
        }
    }
}

/// When the recorder was started, and since when it takes packets of each interface.
struct Since {
    started_ns: i64,
    interfaces_ns: Vec<i64>,
}

fn write_first_facts(
    log: &Log,
    settings: &Settings,
    recording: &Recording,
    found: &Found,
    attacher: Option<&Attacher>,
    since: &Since,
) {
    let write = |ts_ns, fact| log.write_all(&[Record { ts_ns, after_ns: None, fact }]);
    let start = Fact::Start(Start {
        recorder_version: recording.versions.recorder.clone(),
        kernel: recording.versions.kernel.clone(),
        config_sha256: recording.config_sha256.clone(),
        pid: std::process::id(),
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .map(|id| id.trim().to_owned()),
        ring_bytes: settings.ring_bytes,
        filter: settings.filter.clone(),
        snaplen: settings.snaplen,
        replay: settings.read.as_ref().map(|file| file.display().to_string()),
        after: found.tails.iter().map(|(worker, (seq, _))| (*worker, *seq)).collect(),
    });
    write(since.started_ns, start);
    for (place, of) in recording.interfaces().into_iter().enumerate() {
        let why = attacher.map_or("replayed from a file".to_owned(), |attacher| attacher.why(&of.name));
        let (name, ifindex, state) = (of.name, of.ifindex, Targeting::Targeted);
        let ts_ns = since.interfaces_ns.get(place).copied().unwrap_or_else(now_ns);
        write(ts_ns, Fact::Interface(InterfaceFact { name, ifindex, state, why }));
    }
    for orphan in &found.orphans {
        log.write(Fact::Evicted(orphan.clone()));
    }
    for recovered in &found.recovered {
        log.write(Fact::Recovered(recovered.clone()));
    }
    let why_not = attacher.map_or(Some("replayed from a file"), Attacher::why_not_shared);
    let feature = |name: &str, yes: &str| {
        let why = why_not.unwrap_or(yes).to_owned();
        log.write(Fact::Feature(Feature { name: name.into(), on: why_not.is_none(), cause: None, why }));
    };
    feature("any_socket", "one socket a worker for all interfaces, behind a BPF filter");
    feature(
        "own_uploads_excluded",
        "connections with the mark of a snapshot are left out and counted, while it is taken",
    );
}

fn announce(settings: &Settings, recording: &Recording) {
    let mut names: Vec<String> = recording.interfaces().into_iter().map(|of| of.name).collect();
    if names.is_empty() {
        names = settings.interfaces.iter().map(|pattern| format!("{pattern} (none yet)")).collect();
    }
    tracing::info!("recording {} into {}", names.join(", "), settings.ring.display());
}

pub fn versions() -> Versions {
    Versions {
        recorder: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        zstd: zstd::zstd_safe::version_string().to_owned(),
    }
}
