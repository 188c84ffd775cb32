//! `sharkrec record`: the whole wiring of a recorder, in the order in which things start and stop.
//! In: settings. Out: a ring that fills until a signal, or until the replayed file ends.
//! Threads: one capture and one writer a worker, one keeper for the disk, one for the control socket, this one for the clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use shark_schema::identity::{Fact, Feature, InterfaceFact, Start, Stop, Targeting};
use shark_schema::segment::{SidecarInterface, Versions};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::api;
use crate::attach::Attacher;
use crate::batch::circle;
use crate::capture::{Capture, Device, Filter, Line, Replay, ReplayError, Ring as CaptureRing, RingOptions};
use crate::config::Settings;
use crate::log::Log;
use crate::ring::Ring;
use crate::segment::{
    Budget, Found, Recording, SealRequest, Shared, State, Task, WriterThread, recover, start_keeper,
};
use crate::stats::Stats;
use crate::time::{now_ns, watch_clock};

/// A buffer holds a whole block of the kernel's ring, whose headers are larger than ours.
const BATCH_BYTES: usize = (1 << 20) + (128 << 10);

pub fn record(settings: &Settings) -> anyhow::Result<()> {
    let Opened { captures, devices, attachments } = open_captures(settings)?;
    let (ring, _lock) = Ring::create(&settings.ring, &settings.node, &settings.cluster)?;
    let versions = versions();
    let found = recover(&ring, &versions).context("recovery of the ring")?;
    let log = Log::open(&ring, settings.ring_bytes).with_context(|| ring.log().display().to_string())?;
    let shared = Shared {
        budget: Arc::new(Mutex::new(Budget::scan(&ring, settings.ring_bytes)?)),
        log: Arc::new(log),
        stats: Arc::new(Stats::new(devices.len())),
    };
    let recording = Arc::new(recording(settings, &ring, &devices, versions));
    write_first_facts(&shared.log, settings, &recording, &found);

    let stop = Arc::new(AtomicBool::new(false));
    let (events, happened) = channel();
    watch_signals(events.clone())?;
    let (keeper, keeper_thread) = start_keeper(&ring, shared.clone());
    let mut workers = Vec::new();
    let mut requests = Vec::new();
    for (worker, capture) in (0..).zip(captures) {
        let parts = Parts { worker, recording: &recording, shared: &shared, keeper: &keeper, found: &found };
        let (threads, request) = parts.start(capture, settings, stop.clone(), events.clone())?;
        workers.push(threads);
        requests.push(request);
    }
    let served = api::Served {
        recording: recording.clone(),
        shared: shared.clone(),
        requests,
        keeper: keeper.clone(),
        started_ns: now_ns(),
    };
    api::serve(&ring, served)?;
    announce(settings, &devices);

    let attacher = attachments.map(|(options, workers)| Attacher {
        recording: recording.clone(),
        options,
        known: devices.iter().map(|device| (device.name.clone(), Some(device.ifindex))).collect(),
        workers,
    });
    let why = wait(&happened, &shared.log, attacher, workers.len());
    stop.store(true, Ordering::Relaxed);
    let mut result = Ok(());
    for threads in workers {
        result = result.and(threads.join());
    }
    let (done, all_done) = channel();
    keeper.send(Task::Done(done)).context("the keeper ended early")?;
    all_done.recv().context("the keeper ended early")?;
    drop((keeper, keeper_thread));
    shared.log.write(Fact::Stop(Stop { reason: why.to_owned(), totals: shared.stats.totals() }));
    shared.log.rotate().with_context(|| ring.log().display().to_string())?;
    let _ = std::fs::remove_file(ring.socket());
    result
}

/// One capture a worker, and for live ones the way to give them new sockets.
struct Opened {
    captures: Vec<Capture>,
    devices: Vec<Device>,
    attachments: Option<(RingOptions, Vec<Sender<Line>>)>,
}

fn open_captures(settings: &Settings) -> anyhow::Result<Opened> {
    let filter = Filter::compile(settings.filter.as_deref(), settings.snaplen)?;
    if let Some(file) = &settings.read {
        let replay = Replay::open(file, settings.snaplen, filter)?;
        let devices = replay.devices().to_vec();
        return Ok(Opened { captures: vec![Capture::Replay(replay)], devices, attachments: None });
    }
    let options = RingOptions {
        buffer_bytes: settings.capture_buffer_bytes,
        snaplen: settings.snaplen,
        promiscuous: settings.promiscuous,
        filter,
    };
    // Sockets of a fanout group must be bound alike: one group an interface.
    let group = |id| (std::process::id() as u16).wrapping_add(id);
    let fanouts: Vec<u16> = match settings.workers {
        1 => Vec::new(),
        _ => (0..settings.interfaces.len() as u16).map(group).collect(),
    };
    let (mut captures, mut devices, mut attachments) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.workers {
        let mut ring = CaptureRing::open(&settings.interfaces, &options, &fanouts)?;
        ring.start()?;
        devices = ring.devices();
        attachments.push(ring.attachments());
        captures.push(Capture::Ring(ring));
    }
    Ok(Opened { captures, devices, attachments: Some((options, attachments)) })
}

fn recording(settings: &Settings, ring: &Ring, devices: &[Device], versions: Versions) -> Recording {
    let interface = |(id, device): (usize, &Device)| SidecarInterface {
        id: id as u32,
        name: device.name.clone(),
        ifindex: settings.read.is_none().then_some(device.ifindex),
        snaplen: settings.snaplen,
        synthetic_ethernet: device.synthetic_ethernet,
        pod: None,
    };
    Recording {
        ring: ring.clone(),
        interfaces: Mutex::new(devices.iter().enumerate().map(interface).collect()),
        compress: settings.compress,
        segment_bytes: settings.segment_bytes,
        segment_age: settings.segment_age,
        snaplen: settings.snaplen,
        filter: settings.filter.clone(),
        config_sha256: settings.sha256(),
        versions,
        live: settings.read.is_none(),
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
            state: State::default(),
        };
        let writer = named("writer", self.worker).spawn(move || writer.run(&sink))?;
        let capture = named("capture", self.worker).spawn(move || {
            let result = capture.run(&source, &stop);
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
}

fn watch_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("signals")?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

const LOOK: Duration = Duration::from_secs(1);
/// Looks between two readings of the clock.
const CLOCK_LOOKS: u32 = 10;

/// Watches devices and clock until a signal comes or every capture has ended.
fn wait(
    happened: &Receiver<Event>,
    log: &Log,
    mut attacher: Option<Attacher>,
    mut running: usize,
) -> &'static str {
    let mut clock = watch_clock(None, log);
    for look in 1u32.. {
        match happened.recv_timeout(LOOK) {
            Ok(Event::Signal) => return "signal",
            Ok(Event::CaptureEnded) if running <= 1 => return "end of the replayed file",
            Ok(Event::CaptureEnded) => running -= 1,
            Err(_) => {
                attacher.iter_mut().for_each(|attacher| attacher.look(log));
                if look % CLOCK_LOOKS == 0 {
                    clock = watch_clock(Some(clock), log);
                }
            }
        }
    }
    "end of time"
}

fn write_first_facts(log: &Log, settings: &Settings, recording: &Recording, found: &Found) {
    log.write(Fact::Start(Start {
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
    }));
    for of in recording.interfaces() {
        let why = if settings.read.is_some() { "replayed from a file" } else { "named by --iface" };
        let (name, ifindex, state) = (of.name.clone(), of.ifindex, Targeting::Targeted);
        log.write(Fact::Interface(InterfaceFact { name, ifindex, state, why: why.to_owned() }));
    }
    for recovered in &found.recovered {
        log.write(Fact::Recovered(recovered.clone()));
    }
    let off =
        |name: &str, why: &str| Fact::Feature(Feature { name: name.into(), on: false, why: why.into() });
    log.write(off(
        "own_uploads_excluded",
        "needs a socket filter in BPF; leave the uplink out, or exclude it by --filter",
    ));
}

fn announce(settings: &Settings, devices: &[Device]) {
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    tracing::info!("recording {} into {}", names.join(", "), settings.ring.display());
}

pub fn versions() -> Versions {
    Versions {
        recorder: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        zstd: zstd::zstd_safe::version_string().to_owned(),
    }
}
