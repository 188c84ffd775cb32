//! Follows the interfaces that are to be recorded as they come and go: one that goes is a fact, one that comes is recorded.
//! In: names and patterns, and the kernel's word of changes. Out: facts, interfaces, and news for the capture threads.
//! A recorder whose only device is gone goes on waiting for it: it never stops silently.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use shark_bpf::any_socket::{AnySocket, OwnMarks};
use shark_schema::identity::{Fact, InterfaceFact, Targeting};
use shark_schema::segment::SidecarInterface;

use crate::capture::{CaptureError, Device, Line, News, Ring, RingOptions};
use crate::devices::Watch;
use crate::log::Log;
use crate::segment::Recording;
use crate::supervisor::Heartbeat;
use crate::targets::Targets;
use crate::time::now_ns;

pub struct Attacher {
    targets: Targets,
    options: RingOptions,
    watch: Watch,
    /// What is recorded now, by index.
    known: BTreeMap<u32, Known>,
    /// The number of the next interface.
    next: u32,
    way: Way,
    /// One a worker.
    workers: Vec<Sender<News>>,
}

/// An interface that is recorded.
struct Known {
    id: u32,
    name: String,
}

/// How packets of the interfaces, and of no others, get into the rings.
enum Way {
    /// One socket a worker, behind this filter.
    Shared(Box<AnySocket>),
    /// A socket an interface and worker, because of this.
    Each(String),
}

/// Everything that is needed to begin.
pub struct Begun {
    pub attacher: Attacher,
    /// One a worker.
    pub rings: Vec<Ring>,
    pub interfaces: Vec<SidecarInterface>,
    /// Since when packets of each of them are let in.
    pub since_ns: Vec<i64>,
}

/// While there is no BPF, every interface that a pattern finds has a kernel's ring of its own: a smaller one, for there may be
/// hundreds.
const PATTERN_SHARE: u64 = 16;
const SMALLEST_BUFFER_BYTES: u64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(500);

impl Attacher {
    /// Opens the sockets and lets packets of the interfaces in that are there already.
    pub fn begin(names: &[String], options: RingOptions, workers: u16) -> Result<Begun, CaptureError> {
        let watch = Watch::open().map_err(CaptureError::Devices)?;
        let targets = Targets::new(names);
        let devices = watch.list().map_err(CaptureError::Devices)?;
        if let Some(missing) = targets.names().find(|name| devices.iter().all(|of| of.name != **name)) {
            return Err(CaptureError::UnknownInterface(missing.to_owned()));
        }
        let (way, rings, workers) = open(&options, workers)?;
        let known = BTreeMap::new();
        let mut attacher = Attacher { targets, options, watch, known, next: 0, way, workers };
        let mut interfaces: Vec<SidecarInterface> = Vec::new();
        let mut since_ns = Vec::new();
        let mut wanted: Vec<&Device> =
            devices.iter().filter(|device| attacher.targets.why(&device.name).is_some()).collect();
        // In the order in which they were named; what patterns find comes behind.
        let place = |device: &Device| names.iter().position(|name| *name == device.name);
        wanted.sort_by_key(|device| (place(device).is_none(), place(device)));
        for device in wanted {
            match attacher.attach(device, |interface| interfaces.push(interface)) {
                Err(error) if attacher.targets.is_named(&device.name) => return Err(error.source),
                Err(error) => {
                    interfaces.retain(|interface| Some(interface.id) != error.added);
                    error.added.into_iter().for_each(|id| attacher.leave(id));
                    tracing::warn!("{}", error.source);
                }
                Ok(()) => {}
            }
            since_ns.resize(interfaces.len(), now_ns());
        }
        Ok(Begun { attacher, rings, interfaces, since_ns })
    }

    /// Why every interface has sockets of its own; None where they share one a worker.
    pub fn why_not_shared(&self) -> Option<&str> {
        match &self.way {
            Way::Shared(_) => None,
            Way::Each(why) => Some(why),
        }
    }

    /// The marks of uploads that are not to be recorded; None where every interface has sockets of its own.
    pub fn own_marks(&self) -> Option<Arc<Mutex<OwnMarks>>> {
        match &self.way {
            Way::Shared(filter) => Some(filter.own_marks()),
            Way::Each(_) => None,
        }
    }

    /// Why a device is recorded.
    pub fn why(&self, device: &str) -> String {
        self.targets.why(device).unwrap_or_default()
    }

    /// Looks whenever the kernel tells of a change, until `stop` is set.
    pub fn follow(
        mut self,
        recording: Arc<Recording>,
        log: Arc<Log>,
        stop: Arc<AtomicBool>,
        heartbeat: Arc<Heartbeat>,
    ) {
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                heartbeat.beat();
                // Also without a change: what could not be attached is tried again.
                self.watch.wait(LOOK);
                self.look(&recording, &log);
            }
            heartbeat.end();
        };
        thread::Builder::new().name("devices".into()).spawn(work).expect("a thread can be started");
    }

    fn look(&mut self, recording: &Recording, log: &Log) {
        let devices = match self.watch.list() {
            Ok(devices) => devices,
            Err(error) => return tracing::warn!("the devices cannot be listed: {error}"),
        };
        let is_there = |index: &u32, of: &Known| {
            devices.iter().any(|device| device.ifindex == *index && device.name == of.name)
        };
        let missing = self.known.iter().filter(|(index, of)| !is_there(index, of));
        let missing: Vec<u32> = missing.map(|(index, _)| *index).collect();
        for ifindex in missing {
            match devices.iter().find(|device| device.ifindex == ifindex) {
                Some(renamed) => self.rename(recording, log, renamed),
                None => self.detach(recording, log, ifindex),
            }
        }
        for device in &devices {
            if self.known.contains_key(&device.ifindex) {
                continue;
            }
            let Some(why) = self.targets.why(&device.name) else { continue };
            // What was named had to be there at the start.
            let is_named = self.targets.is_named(&device.name);
            let why = if is_named { "the device was made anew" } else { &why };
            let add = |interface| {
                recording.add(interface);
            };
            match self.attach(device, add) {
                Ok(()) => note(log, &device.name, Some(device.ifindex), Targeting::Targeted, why),
                // Tried again at the next look.
                Err(error) => {
                    error.added.into_iter().for_each(|id| self.forget(recording, id));
                    tracing::warn!("{}", error.source);
                }
            }
        }
    }

    /// Its packets go on being recorded: sockets and filters know it by its index.
    fn rename(&mut self, recording: &Recording, log: &Log, device: &Device) {
        let (name, ifindex) = (&device.name, Some(device.ifindex));
        let Some(known) = self.known.get_mut(&device.ifindex) else { return };
        let before = &std::mem::replace(&mut known.name, name.clone());
        recording.rename(device.ifindex, name);
        note(log, before, ifindex, Targeting::NotTargeted, &format!("the device is now called {name}"));
        note(log, name, ifindex, Targeting::Targeted, &format!("the device was called {before}"));
    }

    /// `add` makes the interface known to the writers, before the first packet of it comes.
    fn attach(&mut self, device: &Device, add: impl FnOnce(SidecarInterface)) -> Result<(), NotAttached> {
        let id = self.next;
        let interface = SidecarInterface {
            id,
            name: device.name.clone(),
            ifindex: Some(device.ifindex),
            snaplen: self.options.snaplen,
            synthetic_ethernet: device.synthetic_ethernet,
            pod: None,
        };
        let options = self.options_of(&device.name);
        // A worker that has ended takes no news any more.
        match &mut self.way {
            Way::Shared(filter) => {
                add(interface);
                self.next += 1;
                let (alone, promiscuous) = (self.targets.is_one_name(), options.promiscuous);
                for worker in &self.workers {
                    let _ = worker.send(News::Device { id, device: device.clone(), promiscuous, alone });
                }
                let list = if device.loopback { AnySocket::list_loopback } else { AnySocket::list };
                list(filter, device.ifindex, options.snaplen).map_err(|full| NotAttached {
                    source: CaptureError::Full(device.name.clone(), full),
                    added: Some(id),
                })?;
            }
            Way::Each(_) => {
                // Sockets of a fanout group must be bound alike: one group an interface.
                let fanout = (self.workers.len() > 1).then(|| group(id));
                let open = |_| Line::open(id, &device.name, &options, fanout);
                let mut lines = self.workers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
                for line in &mut lines {
                    line.start(&options.filter)?;
                }
                add(interface);
                self.next += 1;
                for (worker, line) in self.workers.iter().zip(lines) {
                    let _ = worker.send(News::Line(Box::new(line)));
                }
            }
        }
        self.known.insert(device.ifindex, Known { id, name: device.name.clone() });
        Ok(())
    }

    fn detach(&mut self, recording: &Recording, log: &Log, ifindex: u32) {
        let Some(Known { id, name }) = self.known.remove(&ifindex) else { return };
        if let Way::Shared(filter) = &mut self.way {
            filter.unlist(ifindex);
        }
        self.forget(recording, id);
        note(log, &name, Some(ifindex), Targeting::NotTargeted, "the device is gone");
    }

    /// Lets the workers tell what they still have of an interface, and forget it then.
    fn forget(&self, recording: &Recording, id: u32) {
        recording.gone(id, 0..self.workers.len() as u16);
        self.leave(id);
    }

    fn leave(&self, id: u32) {
        for worker in &self.workers {
            let _ = worker.send(News::Gone { id });
        }
    }

    fn options_of(&self, name: &str) -> RingOptions {
        let mut options = self.options.clone();
        if !self.targets.is_named(name) {
            options.buffer_bytes = (options.buffer_bytes / PATTERN_SHARE).max(SMALLEST_BUFFER_BYTES);
        }
        options
    }
}

/// A device that is not recorded.
struct NotAttached {
    source: CaptureError,
    /// The number of the interface, where it was made known already.
    added: Option<u32>,
}

impl From<CaptureError> for NotAttached {
    fn from(source: CaptureError) -> NotAttached {
        NotAttached { source, added: None }
    }
}

type Opened = (Way, Vec<Ring>, Vec<Sender<News>>);

fn open(options: &RingOptions, workers: u16) -> Result<Opened, CaptureError> {
    let mut rings = Vec::new();
    let mut filter = match filter(options) {
        Ok(filter) => filter,
        Err(why) => {
            rings.extend((0..workers).map(|_| Ring::empty()));
            let (rings, workers) = rings.into_iter().unzip();
            return Ok((Way::Each(why), rings, workers));
        }
    };
    let fanout = (workers > 1).then(|| group(0));
    for _ in 0..workers {
        rings.push(Ring::shared(options, fanout, &mut filter)?);
    }
    let (rings, workers) = rings.into_iter().unzip();
    Ok((Way::Shared(filter), rings, workers))
}

fn filter(options: &RingOptions) -> Result<Box<AnySocket>, String> {
    // A socket has one filter: classic code cannot stand behind the program.
    if options.filter.text().is_some() {
        return Err("--filter needs a socket of its own for every interface".to_owned());
    }
    AnySocket::load().map(Box::new).map_err(|reason| reason.to_string())
}

/// A number for a fanout group that no other recorder of this namespace is likely to have.
fn group(id: u32) -> u16 {
    (std::process::id() as u16).wrapping_add(id as u16)
}

fn note(log: &Log, name: &str, ifindex: Option<u32>, state: Targeting, why: &str) {
    tracing::info!("{name}: {why}");
    log.write(Fact::Interface(InterfaceFact { name: name.to_owned(), ifindex, state, why: why.to_owned() }));
}
