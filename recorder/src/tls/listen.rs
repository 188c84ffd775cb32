//! The thread that hears the plaintext. In: events of the kernel. Out: synthetic packets in batches for the writer, facts of losses.
//! It never waits for the disk: without a free buffer it counts, and what is missing is a gap in the sequence numbers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use shark_bpf::tls::{Event, Losses, Plaintext, Process};
use shark_schema::identity::{EventsLost, Fact, LossCause};
use shark_schema::segment::{PLAINTEXT_WORKER, SHARED_SOCKET, SidecarInterface};

use super::frames::{Frames, SNAPLEN};
use super::order::{HELD_NS, Waiting};
use crate::batch::Source;
use crate::capture::{KernelCounters, Lane};
use crate::log::Log;
use crate::segment::Recording;
use crate::time::{clock_reading, now_ns};

const DRAIN: Duration = Duration::from_millis(20);
const REPORT: Duration = Duration::from_secs(10);
/// After this time without a byte of it, a namespace is forgotten.
const SILENT: Duration = Duration::from_secs(600);
/// More network namespaces than these share the last one's interface.
const MOST_INTERFACES: usize = 4096;
/// Processes whose lost calls are told apart, of ten seconds.
const MOST_NAMED: usize = 16;

/// Answered when the log has all losses until then.
pub type ReportRequest = Sender<()>;

pub struct Listener {
    told: Plaintext,
    log: Arc<Log>,
    source: Source,
    waiting: Waiting,
    way: Way,
    lost: Losses,
}

/// Which of the events that wait are handed over.
enum Given {
    /// Those of which no older ones can be expected.
    OlderThan(u64),
    /// Those too that came just now: nothing comes after them.
    All,
}

/// The interface of a network namespace.
struct Place {
    in_lane: usize,
    interface: u32,
    used: Instant,
}

/// From events to the lane.
struct Way {
    recording: Arc<Recording>,
    lane: Lane,
    frames: Frames,
    /// By network namespace: addresses mean something only within one.
    places: HashMap<u32, Place>,
    packets: u64,
}

impl Listener {
    pub fn new(told: Plaintext, recording: Arc<Recording>, log: Arc<Log>, source: Source) -> Listener {
        let mut lane = Lane::new(SNAPLEN, false);
        let ring = lane.add(SHARED_SOCKET);
        // The ring of events is one for all: what it lost is of no one namespace.
        lane.ask(ring);
        let way = Way { recording, lane, frames: Frames::default(), places: HashMap::new(), packets: 0 };
        Listener { told, log, source, waiting: Waiting::default(), way, lost: Losses::default() }
    }

    pub fn run(mut self, requests: &Receiver<ReportRequest>, stop: &AtomicBool) {
        let mut reported = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            // Whoever can ask lives longer than this thread, so it waits.
            let asked = requests.recv_timeout(DRAIN).ok();
            self.drain(Given::OlderThan(HELD_NS));
            if asked.is_some() || reported.elapsed() >= REPORT {
                reported = Instant::now();
                self.report();
                self.way.forget();
            }
            // Who asked may have given up.
            let _ = asked.map(|done| done.send(()));
        }
        self.drain(Given::All);
        self.report();
    }

    /// Takes what the kernel has, and hands over what need not wait any longer.
    fn drain(&mut self, given: Given) {
        let offset_ns = clock_reading().realtime_minus_boottime_ns;
        let boottime_ns = u64::try_from(now_ns() - offset_ns).unwrap_or(0);
        let Listener { told, waiting, way, source, .. } = self;
        told.drain(|event| {
            if !waiting.take(&event) {
                waiting.give(u64::MAX, |event| way.take(source, event, offset_ns));
            }
        });
        let until_boottime_ns = match given {
            Given::OlderThan(age_ns) => boottime_ns.saturating_sub(age_ns),
            // Nor by the clock, which may have gone on while the ring was emptied.
            Given::All => u64::MAX,
        };
        waiting.give(until_boottime_ns, |event| way.take(source, event, offset_ns));
        let losses = told.losses();
        let received = std::mem::take(&mut way.packets) + losses.events;
        way.lane.kernel_lost(&KernelCounters { received, dropped: losses.events, freezes: 0 });
        way.lane.hand_over(source, now_ns());
        self.lost.events += losses.events;
        self.lost.bytes += losses.bytes;
        self.lost.cut_calls += losses.cut_calls;
        self.lost.cut_bytes += losses.cut_bytes;
        self.lost.unplaced_calls += losses.unplaced_calls;
    }

    fn report(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        let causes = [
            (LossCause::RingFull, lost.events, lost.bytes, "the ring of the kernel's events was full"),
            (LossCause::Cut, lost.cut_calls, lost.cut_bytes, "calls with more bytes than are copied"),
        ];
        for (cause, events, bytes, why) in causes {
            self.lose(cause, events, None, format!("{why}: {bytes} bytes"));
        }
        let why = "a BPF program was not run, since it was running on that CPU already".to_owned();
        let skipped = self.told.skipped();
        self.lose(LossCause::Skipped, skipped, None, why);
        self.report_unplaced(lost.unplaced_calls);
    }

    /// By process, those with the most calls first.
    fn report_unplaced(&mut self, mut rest: u64) {
        if rest == 0 {
            return;
        }
        let mut by = self.told.unplaced_by();
        by.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        for (Process { pid, comm, .. }, calls) in by.into_iter().take(MOST_NAMED) {
            self.lose_unplaced(calls, Some(format!("{pid} ({comm})")));
            rest = rest.saturating_sub(calls);
        }
        self.lose_unplaced(rest, None);
    }

    fn lose_unplaced(&self, calls: u64, process: Option<String>) {
        let why = "no socket was used by the call or before it, so it is of no known connection";
        self.lose(LossCause::Unplaced, calls, process, why.to_owned());
    }

    fn lose(&self, cause: LossCause, events: u64, process: Option<String>, why: String) {
        if events > 0 {
            let of = process.as_deref().unwrap_or("any process");
            tracing::warn!("{events} events of tls were lost, of {of}: {why}");
            let (feature, cause) = ("tls".to_owned(), Some(cause));
            self.log.write(Fact::EventsLost(EventsLost { feature, events, cause, process, why }));
        }
    }
}

impl Way {
    fn take(&mut self, source: &Source, event: &Event<'_>, offset_ns: i64) {
        let place = self.place(event.connection.netns);
        let Way { frames, lane, packets, .. } = self;
        frames.of(event, offset_ns, |frame| {
            *packets += 1;
            lane.push(source, place, frame);
        });
    }

    fn place(&mut self, netns: u32) -> usize {
        if let Some(place) = self.places.get_mut(&netns) {
            place.used = Instant::now();
            return place.in_lane;
        }
        if self.places.len() >= MOST_INTERFACES {
            return self.lane.len() - 1;
        }
        let interface = SidecarInterface {
            id: 0,
            name: format!("tls-{netns}"),
            ifindex: None,
            snaplen: SNAPLEN,
            synthetic_ethernet: true,
            pod: None,
        };
        let interface = self.recording.add(interface);
        let in_lane = self.lane.add(interface);
        self.places.insert(netns, Place { in_lane, interface, used: Instant::now() });
        in_lane
    }

    /// Nobody tells of a namespace that is gone. One that was silent for long is described no longer; when it speaks again, it is a
    /// new interface.
    fn forget(&mut self) {
        let Way { recording, lane, places, .. } = self;
        places.retain(|_, place| {
            let stays = place.used.elapsed() < SILENT;
            if !stays {
                recording.gone(place.interface, PLAINTEXT_WORKER..PLAINTEXT_WORKER + 1);
                lane.end(place.in_lane);
            }
            stays
        });
    }
}
