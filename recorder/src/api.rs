//! The control socket of a recorder: one JSON object a line, both ways.
//! In: `{"cmd":"status"}` or `{"cmd":"seal"}`. Out: a status, or `{"accepted":true}` at once and the sealed names when done.
//! Whoever may enter the ring's directory may ask; nothing of a packet is ever answered.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shark_bpf::any_socket::OwnMarks;
use shark_schema::segment::Counters;

use crate::ring::Ring;
use crate::segment::{Recording, SealRequest, Shared, Task};
use crate::snapshot::{Interrupted, UnderWay, interrupted, under_way};
use crate::supervisor::{Supervision, ThreadStatus, WorkerProgress};
use crate::tls::{self, TlsStatus};
use crate::witness::RotateRequest;
use crate::witness::kube::{KubeStatus, Watching};

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
enum Request {
    Status,
    Seal,
    /// Connections that carry the mark it answers, from the ports that the asker names after it, are left out until it hangs up.
    LeaveOut,
}

/// The own port of a marked connection; the recorder answers with [`Accepted`].
#[derive(Debug, Serialize, Deserialize)]
struct OwnPort {
    port: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marked {
    /// None where no mark is left out.
    mark: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    accepted: bool,
}

/// Names of the segments that a seal finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedNames {
    pub sealed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub alive: bool,
    pub node: String,
    pub cluster: String,
    pub version: String,
    pub pid: Option<u32>,
    pub started_ns: Option<i64>,
    pub interfaces: Vec<InterfaceStatus>,
    /// Of interfaces that are gone, which `interfaces` does not list any more.
    #[serde(default)]
    pub gone: Counters,
    pub totals: Counters,
    pub ring_bytes: u64,
    pub ring_limit_bytes: Option<u64>,
    pub segments: u64,
    pub oldest_ns: Option<i64>,
    pub newest_ns: Option<i64>,
    pub evicted: Option<u64>,
    pub queue_fill_percent: Option<u64>,
    /// Steps of compression given up under pressure.
    pub compression_steps_down: Option<u64>,
    pub disk_refuses: Option<bool>,
    /// None where nothing of Kubernetes is watched, or nobody is there to say.
    #[serde(default)]
    pub kube: Option<KubeStatus>,
    /// None where there is no plaintext and none is recorded.
    #[serde(default)]
    pub tls: Option<TlsStatus>,
    /// Snapshots that died and can be resumed.
    #[serde(default)]
    pub interrupted: Vec<Interrupted>,
    /// Snapshots that are being taken.
    #[serde(default)]
    pub under_way: Vec<UnderWay>,
    /// How far each worker is, as its own threads count it.
    #[serde(default)]
    pub workers: Vec<WorkerStatus>,
    /// Threads of the recorder that are watched.
    #[serde(default)]
    pub threads: Vec<ThreadStatus>,
}

/// Counted by the capture thread itself, so that a writer that stands still cannot hide anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub worker: u16,
    /// Packets taken out of the packet socket buffer.
    pub taken: u64,
    pub kernel_dropped: u64,
    /// Everything that reached the sockets until then is in a file or counted as lost; None at the beginning.
    pub recorded_until_ns: Option<i64>,
}

/// Whether packets are recorded now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Recording,
    /// Packets are taken, and dropped and counted.
    DiskRefuses,
    /// For the reason, in words.
    NotRecording(String),
}

impl Status {
    pub fn health(&self) -> Health {
        let stalled: Vec<&str> =
            self.threads.iter().filter(|of| of.stalled).map(|of| of.name.as_str()).collect();
        match (self.alive, self.pid) {
            (true, None) => Health::NotRecording("in use, but its recorder does not answer".to_owned()),
            (false, _) => Health::NotRecording("no recorder is running".to_owned()),
            _ if !stalled.is_empty() => {
                Health::NotRecording(format!("no progress of {}", stalled.join(", ")))
            }
            _ if self.disk_refuses == Some(true) => Health::DiskRefuses,
            _ => Health::Recording,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    pub counters: Counters,
}

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    fn status(&self) -> Status;
    /// Everything known so far is in closed files when this returns.
    fn seal(&self) -> SealedNames;
    /// Where marked packets can be left out, what gives the marks out.
    fn own_marks(&self) -> Option<Arc<Mutex<OwnMarks>>> {
        None
    }
}

/// A recorder answers from this.
pub struct Served {
    pub recording: Arc<Recording>,
    pub shared: Shared,
    pub requests: Vec<Sender<SealRequest>>,
    /// One a worker.
    pub progress: Vec<Arc<WorkerProgress>>,
    pub supervision: Supervision,
    /// None where nothing can be left out.
    pub own_marks: Option<Arc<Mutex<OwnMarks>>>,
    pub keeper: Sender<Task>,
    /// None where processes and sockets are not witnessed.
    pub witness: Option<Sender<RotateRequest>>,
    pub kube: Option<Watching>,
    /// None where no plaintext is recorded.
    pub tls: Option<tls::Series>,
    pub started_ns: i64,
}

/// Time a packet may spend in the kernel's ring and on its way to the writer.
const IN_FLIGHT: Duration = Duration::from_millis(300);
const SEAL_TIMEOUT: Duration = Duration::from_secs(10);
const MOST_REQUEST_BYTES: u64 = 4096;

/// Answers until the process ends.
pub fn serve(ring: &Ring, served: Arc<impl Answers>) -> anyhow::Result<()> {
    let path = ring.socket();
    // The lock is held, so a socket that lies there belongs to nobody.
    let _ = std::fs::remove_file(&path);
    let (_dir, short) = short_path(ring).with_context(|| path.display().to_string())?;
    let listener = UnixListener::bind(&short).with_context(|| path.display().to_string())?;
    // Whatever the mask of the process: who may ask a recorder to seal is who may read its ring.
    std::fs::set_permissions(short, PermissionsExt::from_mode(0o600))
        .with_context(|| path.display().to_string())?;
    thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(served.as_ref(), stream) {
                tracing::debug!("control socket: {error}");
            }
        }
    })?;
    Ok(())
}

fn answer(served: &impl Answers, held: UnixStream) -> io::Result<()> {
    let stream = &held;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut line = String::new();
    BufReader::new(stream.take(MOST_REQUEST_BYTES)).read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(Request::Status) => send(stream, &served.status()),
        Ok(Request::Seal) => {
            send(stream, &Accepted { accepted: true })?;
            send(stream, &served.seal())
        }
        Ok(Request::LeaveOut) => leave_out(served.own_marks(), held),
        Err(error) => send(stream, &serde_json::json!({ "error": error.to_string() })),
    }
}

/// Gives a mark out that nobody else knows, takes the ports of its connections, and takes it back when the asker hangs up.
fn leave_out(marks: Option<Arc<Mutex<OwnMarks>>>, stream: UnixStream) -> io::Result<()> {
    static OUT: AtomicUsize = AtomicUsize::new(0);
    let marks = marks.filter(|_| OUT.load(Ordering::Relaxed) < MOST_MARKS);
    let Some(marks) = marks else { return send(&stream, &Marked { mark: None }) };
    let mark = random_mark()?;
    send(&stream, &Marked { mark: Some(mark) })?;
    OUT.fetch_add(1, Ordering::Relaxed);
    let serve = move || {
        if let Err(error) = take_ports(&marks, mark, &stream) {
            tracing::debug!("control socket: {error}");
        }
        marks.lock().unwrap_or_else(|e| e.into_inner()).forget(mark);
        OUT.fetch_sub(1, Ordering::Relaxed);
    };
    thread::Builder::new().name("mark".into()).spawn(serve).map(drop)
}

/// Returns when the asker has hung up, by a kill as well.
fn take_ports(marks: &Mutex<OwnMarks>, mark: u32, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    let mut named = BTreeSet::new();
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut lines).take(MOST_REQUEST_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let OwnPort { port } = serde_json::from_str(&line)?;
        let accepted = if named.contains(&port) {
            true
        } else if named.len() < MOST_PORTS {
            let ignored = marks.lock().unwrap_or_else(|e| e.into_inner()).ignore(mark, port);
            ignored.inspect_err(|full| tracing::warn!("{full}")).is_ok_and(|()| named.insert(port))
        } else {
            false
        };
        send(stream, &Accepted { accepted })?;
    }
}

/// Bits of a mark that kube-proxy (0x4000, 0x8000) and Cilium (0x0f00) give a meaning to stay unset.
fn random_mark() -> io::Result<u32> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok((u32::from_ne_bytes(bytes) & !0xcf00).max(1))
}

/// Marks that are out at a time.
const MOST_MARKS: usize = 16;

/// Connections of a mark; the map of the packet filter has room for those of all marks.
const MOST_PORTS: usize = 1024;

impl Answers for Served {
    fn seal(&self) -> SealedNames {
        thread::sleep(IN_FLIGHT);
        let mut sealed = seal(&self.requests, &self.keeper);
        if let Some(tls) = &self.tls {
            sealed.extend(seal(std::slice::from_ref(&tls.requests), &tls.keeper));
        }
        let asked = [self.witness.as_ref(), self.tls.as_ref().map(|tls| &tls.reports)];
        for asked in asked.into_iter().flatten() {
            let (done, written) = channel();
            if asked.send(done).is_ok() {
                let _ = written.recv_timeout(SEAL_TIMEOUT);
            }
        }
        if let Err(error) = self.shared.log.rotate() {
            tracing::warn!("log: {error}");
        }
        SealedNames { sealed }
    }

    fn own_marks(&self) -> Option<Arc<Mutex<OwnMarks>>> {
        self.own_marks.clone()
    }

    fn status(&self) -> Status {
        let stats = &self.shared.stats;
        let (ring_bytes, limit) = self.shared.budget(|budget| (budget.used(), budget.limit()));
        let mut status = of_files(&self.recording.ring);
        status.alive = true;
        status.pid = Some(std::process::id());
        status.started_ns = Some(self.started_ns);
        let interfaces = self.recording.interfaces().into_iter();
        status.interfaces = interfaces
            .map(|of| InterfaceStatus { counters: stats.of_interface(of.id), name: of.name })
            .collect();
        status.gone = stats.gone();
        let socket = stats.socket();
        if socket != Counters::default() {
            status.interfaces.push(InterfaceStatus { name: "*".to_owned(), counters: socket });
        }
        status.totals = stats.totals();
        status.ring_bytes = ring_bytes;
        status.ring_limit_bytes = Some(limit);
        status.evicted = Some(stats.evicted.load(Ordering::Relaxed));
        status.queue_fill_percent = Some(stats.queue_fill_percent.load(Ordering::Relaxed));
        status.compression_steps_down = Some(stats.steps_down.load(Ordering::Relaxed));
        status.disk_refuses = Some(stats.disk_refuses.load(Ordering::Relaxed));
        if let Some(tls) = &self.tls {
            status.tls = Some(tls.status());
        }
        status.kube = self.kube.as_ref().map(Watching::status);
        status.workers = (0..).zip(&self.progress).map(|(worker, of)| worker_status(worker, of)).collect();
        status.threads = self.supervision.threads();
        status
    }
}

fn worker_status(worker: u16, of: &WorkerProgress) -> WorkerStatus {
    let recorded_until_ns = of.recorded_until_ns.load(Ordering::Acquire);
    WorkerStatus {
        worker,
        taken: of.taken.load(Ordering::Relaxed),
        kernel_dropped: of.kernel_dropped.load(Ordering::Relaxed),
        recorded_until_ns: (recorded_until_ns != 0).then_some(recorded_until_ns),
    }
}

/// Names of what the writers of a series sealed, once it is in its place.
fn seal(writers: &[Sender<SealRequest>], keeper: &Sender<Task>) -> Vec<String> {
    let ask = |writer: &Sender<SealRequest>| {
        let (reply, answer) = channel();
        writer.send(reply).ok().map(|()| answer)
    };
    let answers: Vec<_> = writers.iter().filter_map(ask).collect();
    let names = answers.iter().filter_map(|answer| answer.recv_timeout(SEAL_TIMEOUT).ok().flatten());
    let sealed = names.map(|name| name.to_string()).collect();
    let (done, all_done) = channel();
    if keeper.send(Task::Done(done)).is_ok() {
        let _ = all_done.recv_timeout(SEAL_TIMEOUT);
    }
    sealed
}

/// What can be said without a recorder: the sum of the sidecars.
pub fn of_files(ring: &Ring) -> Status {
    let mut status = Status {
        alive: false,
        node: ring.file.node.clone(),
        cluster: ring.file.cluster.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: None,
        started_ns: None,
        interfaces: Vec::new(),
        gone: Counters::default(),
        totals: Counters::default(),
        ring_bytes: 0,
        ring_limit_bytes: None,
        segments: 0,
        oldest_ns: None,
        newest_ns: None,
        evicted: None,
        queue_fill_percent: None,
        compression_steps_down: None,
        disk_refuses: None,
        kube: None,
        tls: TlsStatus::of_files(ring),
        interrupted: interrupted(ring),
        under_way: under_way(ring),
        workers: Vec::new(),
        threads: Vec::new(),
    };
    for name in ring.list().unwrap_or_default() {
        let size = |file: String| std::fs::metadata(ring.segments().join(file)).map_or(0, |meta| meta.len());
        status.ring_bytes += size(name.to_string()) + if name.open { 0 } else { size(name.sidecar()) };
        status.segments += 1;
        let Ok((sidecar, _)) = ring.sidecar(name) else {
            continue;
        };
        status.oldest_ns = status.oldest_ns.into_iter().chain(sidecar.min_ns).min();
        status.newest_ns = status.newest_ns.into_iter().chain(sidecar.max_ns).max();
        status.totals += &sidecar.totals;
        for bucket in &sidecar.buckets {
            let of = sidecar.interfaces.get(bucket.interface as usize).map_or("*", |of| of.name.as_str());
            match status.interfaces.iter_mut().find(|known| known.name == of) {
                Some(known) => known.counters += &bucket.counters,
                None => {
                    status.interfaces.push(InterfaceStatus { name: of.to_owned(), counters: bucket.counters })
                }
            }
        }
    }
    status
}

/// Asks a running recorder for its status; None when there is none.
pub fn ask_status(ring: &Ring) -> Option<Status> {
    let stream = connect(ring, &Request::Status).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    receive(&mut BufReader::new(&stream)).ok()
}

/// A mark for the connections of a snapshot, which the recorder leaves out as long as this lives.
#[derive(Debug)]
pub struct LeftOut {
    pub mark: u32,
    stream: Mutex<UnixStream>,
}

impl LeftOut {
    /// Marked connections from this port are left out from now on. False where the recorder does not take it.
    pub fn connection(&self, port: u16) -> bool {
        let stream = self.stream.lock().unwrap_or_else(|e| e.into_inner());
        let asked = send(&stream, &OwnPort { port });
        let answer = || receive::<Accepted>(&mut BufReader::new(&*stream));
        asked.and_then(|()| answer()).is_ok_and(|answer| answer.accepted)
    }
}

/// Asks a running recorder for a mark. None when there is no recorder, or none that can leave anything out.
pub fn ask_leave_out(ring: &Ring) -> Option<LeftOut> {
    let stream = connect(ring, &Request::LeaveOut).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let Marked { mark } = receive(&mut BufReader::new(&stream)).ok()?;
    Some(LeftOut { mark: mark?, stream: Mutex::new(stream) })
}

/// Asks a running recorder to seal. None when it does not answer within a second.
pub fn ask_seal(ring: &Ring) -> Option<SealedNames> {
    let stream = connect(ring, &Request::Seal).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut reader = BufReader::new(&stream);
    receive::<Accepted>(&mut reader).ok()?;
    // It is alive and has begun: now a slow disk is worth waiting for.
    stream.set_read_timeout(Some(2 * SEAL_TIMEOUT)).ok()?;
    receive(&mut reader).ok()
}

fn connect(ring: &Ring, request: &Request) -> io::Result<UnixStream> {
    let (_dir, short) = short_path(ring)?;
    let stream = UnixStream::connect(short)?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    send(&stream, request)?;
    Ok(stream)
}

/// A socket's path has room for 107 bytes; through the descriptor of its directory every ring fits.
fn short_path(ring: &Ring) -> io::Result<(File, PathBuf)> {
    let dir = File::open(ring.root())?;
    let path = format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd());
    Ok((dir, path.into()))
}

fn send(mut stream: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn receive<T: for<'a> Deserialize<'a>>(reader: &mut impl BufRead) -> io::Result<T> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
