//! Who did it: processes and their sockets, into the log beside the packets.
//! In: events of the kernel, or /proc where those are refused. Out: Arrow files of the tables `processes` and `sockets`, and
//! facts of what works, what does not and what was lost. It never holds up the capture: it shares nothing with it.

mod book;
mod cgroup;
pub mod check;
pub mod cluster;
mod files;
pub mod kube;
mod proc;
mod processes;
mod secrets;
pub mod serve;
mod sockets;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shark_schema::identity::{EventsLost, Fact, Feature, LossCause, OffCause};

use self::book::Book;
use self::cgroup::Groups;
use self::processes::Processes;
use self::sockets::{Socket, Sockets};
use crate::log::{Log, most_of, share, share_of};
use crate::ring::Ring;
use crate::time::{clock_reading, now_ns};

/// Answered when everything known is in closed files.
pub type RotateRequest = Sender<()>;

/// Ends, after closing its files, when the last sender is gone.
pub fn start(
    ring: &Ring,
    ring_bytes: u64,
    log: Arc<Log>,
    whole_command_lines: bool,
) -> io::Result<(Sender<RotateRequest>, JoinHandle<()>)> {
    let (sender, requests) = channel();
    let mut witness = Witness::new(ring, share(ring_bytes), log, whole_command_lines);
    let thread = thread::Builder::new().name("witness".into()).spawn(move || witness.run(&requests))?;
    Ok((sender, thread))
}

/// How ids are made, so that they are unique over nodes and boots.
pub struct Names {
    pub node: String,
    boot: String,
}

impl Names {
    fn new(node: &str) -> Names {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Names { node: node.to_owned(), boot: boot.chars().take(8).collect() }
    }

    fn process(&self, pid: u32, start_ticks: u64) -> String {
        format!("{}-{}-p{pid}-{start_ticks}", self.node, self.boot)
    }

    fn socket(&self, socket: &Socket) -> String {
        match socket.cookie {
            Some(cookie) => format!("{}-{}-s{cookie}", self.node, self.boot),
            // Without the kernel's number, by what tells sockets apart at a time.
            None => {
                let Socket { protocol, netns, local, peer, .. } = socket;
                format!(
                    "{}-{}-{netns}-{protocol}-{}:{}-{}:{}",
                    self.node, self.boot, local.0, local.1, peer.0, peer.1
                )
            }
        }
    }
}

struct Witness {
    names: Names,
    log: Arc<Log>,
    processes: Processes,
    sockets: Sockets,
    groups: Groups,
    told_processes: Option<shark_bpf::processes::Processes>,
    told_sockets: Option<shark_bpf::sockets::Sockets>,
    process_book: Book,
    socket_book: Book,
    lost: [u64; 2],
    /// Events of sockets were lost at some time: what nobody told the end of may have ended.
    has_lost: bool,
}

const DRAIN: Duration = Duration::from_millis(50);
const WRITE: Duration = Duration::from_secs(1);
const REPORT: Duration = Duration::from_secs(10);
/// Between two looks at everything, where events tell of changes, and where nothing does.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// A process that ended is remembered for the sockets it leaves behind.
const REMEMBER_NS: i64 = 60_000_000_000;

impl Witness {
    /// Everything is attached before anything is looked at: what happens in between is seen twice, not never.
    fn new(ring: &Ring, share: u64, log: Arc<Log>, whole_command_lines: bool) -> Witness {
        let told_processes = shark_bpf::processes::Processes::start();
        let told_sockets = shark_bpf::sockets::Sockets::start();
        let note = |name: &str, result: Result<(), String>, yes: &str, no: &str| {
            let (on, cause, why) = match result {
                Ok(()) => (true, None, yes.to_owned()),
                Err(reason) => (false, Some(OffCause::Refused), format!("{no}: {reason}")),
            };
            log.write(Fact::Feature(Feature { name: name.to_owned(), on, cause, why }));
        };
        let reason = |reason: &shark_bpf::Reason| reason.to_string();
        let looks = "/proc is looked at every second instead, and what is shorter is not seen";
        note(
            "processes",
            told_processes.as_ref().map(drop).map_err(reason),
            "tracepoints of the scheduler",
            looks,
        );
        note("sockets", told_sockets.as_ref().map(drop).map_err(reason), "tracepoints of sockets", looks);
        let accepting = told_sockets.as_ref().ok().map(|told| told.accepting().map_err(reason));
        if let Some(accepting) = accepting {
            let later = "who listened is named until a connection is closed";
            note("accepting_processes", accepting, "the first use of what was accepted", later);
        }
        let datagrams = told_sockets.as_ref().ok().map(|told| told.datagrams().map_err(reason));
        if let Some(datagrams) = datagrams {
            let later = "they are found in the files of processes every 30 s instead";
            note(
                "datagram_sockets",
                datagrams,
                "where they are bound, the first datagram to a peer, and the end",
                later,
            );
        }
        let of = |series| [share_of(series, share), most_of(series, share)];
        let mut witness = Witness {
            names: Names::new(&ring.file.node),
            processes: Processes::new(whole_command_lines),
            sockets: Sockets::default(),
            groups: Groups::new(),
            told_processes: told_processes.ok(),
            told_sockets: told_sockets.ok(),
            process_book: Book::new(&shark_schema::tables::processes::TABLE, ring, of("processes")),
            socket_book: Book::new(&shark_schema::tables::sockets::TABLE, ring, of("sockets")),
            lost: [0; 2],
            has_lost: false,
            log,
        };
        witness.look();
        witness
    }

    fn run(&mut self, requests: &Receiver<RotateRequest>) {
        let (mut written, mut looked, mut reported) = (Instant::now(), Instant::now(), Instant::now());
        self.write();
        loop {
            let request = requests.recv_timeout(DRAIN);
            self.drain();
            let every = if self.has_events() { LOOK } else { LOOK_WITHOUT_EVENTS };
            if looked.elapsed() >= every || request.is_ok() {
                looked = Instant::now();
                self.look();
            }
            if written.elapsed() >= WRITE || !matches!(request, Err(RecvTimeoutError::Timeout)) {
                written = Instant::now();
                self.write();
            }
            if reported.elapsed() >= REPORT || !matches!(request, Err(RecvTimeoutError::Timeout)) {
                reported = Instant::now();
                self.report();
            }
            match request {
                Ok(done) => {
                    // Whoever reads the log knows that somebody watched until now.
                    self.log.write(Fact::Clock(clock_reading()));
                    self.close();
                    // Nobody waits any more after a timeout.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
        }
    }

    fn has_events(&self) -> bool {
        self.told_processes.is_some() && self.told_sockets.is_some()
    }

    /// Processes first, so that the sockets find theirs.
    fn drain(&mut self) {
        let offset_ns = clock_reading().realtime_minus_boottime_ns;
        if let Some(told) = &mut self.told_processes {
            told.drain(|event| self.processes.hear(event, offset_ns, &mut self.groups));
            self.lost[0] += told.lost();
        }
        if let Some(told) = &mut self.told_sockets {
            told.drain(|event| self.sockets.hear(event, offset_ns));
            let lost = told.lost();
            self.lost[1] += lost;
            self.has_lost |= lost > 0;
        }
    }

    fn look(&mut self) {
        let offset_ns = clock_reading().realtime_minus_boottime_ns;
        self.processes.look_around(offset_ns, now_ns(), self.told_processes.is_some());
        let Some(told) = &mut self.told_sockets else {
            let found = files::look(&self.processes);
            return self.sockets.replace(found, now_ns());
        };
        match told.open() {
            Ok(found) => {
                self.sockets.look_around(&found, now_ns(), told.datagrams().is_ok(), self.has_lost);
            }
            Err(reason) => tracing::warn!("open sockets: {reason}"),
        }
    }

    /// A log that cannot be written must not stop the witness: the reason goes to standard error.
    fn write(&mut self) {
        let result = self.write_processes().and_then(|()| self.write_sockets());
        if let Err(error) = result {
            tracing::warn!("log of processes and sockets: {error}");
        }
        self.processes.forget(now_ns() - REMEMBER_NS);
    }

    fn write_processes(&mut self) -> io::Result<()> {
        let (book, names) = (&mut self.process_book, &self.names);
        if book.is_due() {
            book.begin(self.processes.state(names))?;
        }
        self.processes.changes(names).map_or(Ok(()), |rows| book.append(rows))
    }

    fn write_sockets(&mut self) -> io::Result<()> {
        let (book, names) = (&mut self.socket_book, &self.names);
        if book.is_due() {
            book.begin(self.sockets.state(names, &self.processes, &mut self.groups))?;
        }
        self.sockets
            .changes(names, &self.processes, &mut self.groups)
            .map_or(Ok(()), |rows| book.append(rows))
    }

    fn report(&mut self) {
        let refused = [&mut self.processes.refused, &mut self.sockets.refused].map(std::mem::take);
        let lost = std::mem::take(&mut self.lost);
        let skipped = [
            self.told_processes.as_mut().map_or(0, |told| told.skipped()),
            self.told_sockets.as_mut().map_or(0, |told| told.skipped()),
        ];
        self.has_lost |= skipped[1] > 0;
        let full = (LossCause::RingFull, "the ring of the kernel's events was full");
        let many = (LossCause::TooMany, "there are more than fit into memory");
        let busy =
            (LossCause::Skipped, "a BPF program was not run, since it was running on that CPU already");
        for (at, feature) in ["processes", "sockets"].into_iter().enumerate() {
            for (events, (cause, why)) in [(lost[at], full), (refused[at], many), (skipped[at], busy)] {
                if events > 0 {
                    tracing::warn!("{events} events of {feature} were lost: {why}");
                    let (feature, cause, why) = (feature.to_owned(), Some(cause), why.to_owned());
                    let process = None;
                    self.log.write(Fact::EventsLost(EventsLost { feature, events, cause, process, why }));
                }
            }
        }
    }

    fn close(&mut self) {
        if let Err(error) = self.process_book.close().and_then(|()| self.socket_book.close()) {
            tracing::warn!("log of processes and sockets: {error}");
        }
    }
}
