//! The live capture of one worker: one socket an interface, read in turn.
//! In: packet sockets. Out: batches, with the kernel's losses.
//! The loop never allocates per packet, never blocks on anything but its sockets, and never touches the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::block::Frames;
use super::filter::Filter;
use super::lane::Lane;
use super::socket::{CaptureError, Device, RingSize, Socket};
use crate::batch::Source;
use crate::time::now_ns;

#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Of the kernel's ring, an interface and worker.
    pub buffer_bytes: u64,
    pub snaplen: u32,
    pub promiscuous: bool,
    pub filter: Filter,
}

/// A GSO super-frame of 64 KiB has to fit several times.
const BLOCK_BYTES: u32 = 1 << 20;
/// A block that is not full is handed over after this time: the delay of a quiet link.
const RETIRE_MS: u32 = 60;
/// Blocks of one socket read before the next socket gets its turn.
const BLOCKS_A_TURN: usize = 8;
const STATISTICS: Duration = Duration::from_secs(1);

pub struct Ring {
    lines: Vec<Line>,
    filter: Filter,
    /// Devices that were made anew.
    fresh: Option<Receiver<Line>>,
}

/// One interface of a worker.
pub struct Line {
    socket: Socket,
    lane: Lane,
    /// Taken out of the ring so far.
    taken: u64,
    received: u64,
    dropped: u64,
}

impl Line {
    /// Opens a socket; packets are let in by [`Ring::start`], or by [`Line::start`] where the ring runs already.
    pub fn open(
        id: u32,
        name: &str,
        options: &RingOptions,
        fanout: Option<u16>,
    ) -> Result<Line, CaptureError> {
        let socket = Socket::open(name, ring_size(options.buffer_bytes), fanout, options.promiscuous)?;
        let lane = Lane::new(id, options.snaplen, false);
        Ok(Line { socket, lane, taken: 0, received: 0, dropped: 0 })
    }

    pub fn start(&mut self, filter: &Filter) -> Result<(), CaptureError> {
        let interface = self.socket.device.name.clone();
        let failed = |source| CaptureError::Socket { interface, what: "filter", source };
        self.socket.start(filter).map_err(failed)
    }

    pub fn device(&self) -> &Device {
        &self.socket.device
    }
}

impl Ring {
    /// Opens a socket for every interface; nothing is captured before [`Ring::run`].
    pub fn open(interfaces: &[String], options: &RingOptions, fanouts: &[u16]) -> Result<Ring, CaptureError> {
        let open =
            |(id, name): (usize, &String)| Line::open(id as u32, name, options, fanouts.get(id).copied());
        let lines = interfaces.iter().enumerate().map(open).collect::<Result<_, _>>()?;
        Ok(Ring { lines, filter: options.filter.clone(), fresh: None })
    }

    /// Where started lines of devices that were made anew are put in.
    pub fn attachments(&mut self) -> Sender<Line> {
        let (sender, receiver) = channel();
        self.fresh = Some(receiver);
        sender
    }

    pub fn devices(&self) -> Vec<Device> {
        self.lines.iter().map(|line| line.socket.device.clone()).collect()
    }

    /// Lets packets in. Separate from [`Ring::run`], so that a worker knows of a failure before it has a thread.
    pub fn start(&mut self) -> Result<(), CaptureError> {
        self.lines.iter_mut().try_for_each(|line| line.start(&self.filter))
    }

    pub fn run(mut self, source: &Source, stop: &AtomicBool) {
        let mut counted = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let busy = self.turn(source);
            if counted.elapsed() >= STATISTICS {
                counted = Instant::now();
                self.lines.iter_mut().for_each(|line| line.count(source));
                self.attach(source);
            }
            if !busy {
                self.wait();
            }
        }
        self.finish(source);
    }

    /// Puts a new socket in the place of one whose device is gone.
    fn attach(&mut self, source: &Source) {
        while let Some(line) = self.fresh.as_ref().and_then(|fresh| fresh.try_recv().ok()) {
            let name = &line.socket.device.name;
            if let Some(at) = self.lines.iter().position(|old| old.socket.device.name == *name) {
                let mut old = std::mem::replace(&mut self.lines[at], line);
                while old.read(source) {}
                old.count(source);
            }
        }
    }

    /// One round over the sockets; true when there was anything to read.
    fn turn(&mut self, source: &Source) -> bool {
        let mut busy = false;
        for line in &mut self.lines {
            busy |= line.read(source);
        }
        busy
    }

    fn wait(&self) {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            fds.push(PollFd::from_borrowed_fd(line.socket.borrow(), PollFlags::IN | PollFlags::ERR));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return;
        }
        for (fd, line) in fds.iter().zip(&self.lines) {
            if fd.revents().contains(PollFlags::ERR) {
                line.socket.clear_error();
            }
        }
    }

    /// Closes the door, empties the rings, and settles the account.
    fn finish(&mut self, source: &Source) {
        for line in &mut self.lines {
            if let Err(error) = line.socket.stop() {
                tracing::warn!("{}: {error}", line.socket.device.name);
            }
        }
        // A block that is not full is retired after RETIRE_MS; twice that is certain.
        let end = Instant::now() + Duration::from_millis(2 * u64::from(RETIRE_MS) + 20);
        while self.turn(source) || Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        for line in &mut self.lines {
            line.count(source);
            if line.received != line.taken + line.dropped {
                tracing::error!(
                    "{}: the kernel counted {} packets, {} were read and {} dropped",
                    line.socket.device.name,
                    line.received,
                    line.taken,
                    line.dropped
                );
            }
        }
    }
}

impl Line {
    fn read(&mut self, source: &Source) -> bool {
        for turn in 0..BLOCKS_A_TURN {
            let Some(block) = self.socket.ready() else {
                return turn > 0;
            };
            let mut frames = Frames::new(block, self.socket.device.synthetic_ethernet);
            if frames.losing() {
                // The loss came before this block: its first packet tells.
                let counters = self.socket.counters().unwrap_or_default();
                self.received += counters.received;
                self.dropped += counters.dropped;
                self.lane.kernel_lost(&counters);
            }
            for frame in &mut frames {
                self.taken += 1;
                self.lane.push(source, &frame);
            }
            self.socket.release();
            self.lane.hand_over(source, now_ns());
        }
        true
    }

    fn count(&mut self, source: &Source) {
        let Ok(counters) = self.socket.counters() else {
            return;
        };
        self.received += counters.received;
        self.dropped += counters.dropped;
        self.lane.kernel_lost(&counters);
        self.lane.hand_over(source, now_ns());
    }
}

fn ring_size(bytes: u64) -> RingSize {
    // A small ring has small blocks, so that there are at least four to go round.
    let mut block_bytes = BLOCK_BYTES;
    while u64::from(block_bytes) * 4 > bytes && block_bytes > 1 << 17 {
        block_bytes /= 2;
    }
    let blocks = (bytes / u64::from(block_bytes)).clamp(2, 4096) as u32;
    RingSize { block_bytes, blocks, retire_ms: RETIRE_MS }
}
