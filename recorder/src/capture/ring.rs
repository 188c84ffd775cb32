//! The live capture of one worker: one socket for all interfaces where BPF can keep the others out, else one an interface.
//! In: packet sockets, and the interfaces that come and go. Out: batches, with the kernel's losses.
//! The loop never allocates per packet, never blocks on anything but its sockets, and never touches the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shark_bpf::any_socket::AnySocket;

use super::filter::Filter;
use super::line::Line;
use super::socket::{CaptureError, Device};
use crate::batch::Source;
use crate::supervisor::WorkerProgress;
use crate::time::now_ns;

#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Of the kernel's ring, a socket.
    pub buffer_bytes: u64,
    pub snaplen: u32,
    pub promiscuous: bool,
    pub filter: Filter,
}

/// A block that is not full is handed over after this time: the delay of a quiet link.
pub(super) const RETIRE_MS: u32 = 60;
/// Twice that is certain.
pub(super) const LAST_BLOCK: Duration = Duration::from_millis(2 * RETIRE_MS as u64 + 20);
/// Blocks of one socket read before the next socket gets its turn.
const BLOCKS_A_TURN: usize = 8;
const STATISTICS: Duration = Duration::from_secs(1);

pub struct Ring {
    lines: Vec<Line>,
    news: Receiver<News>,
    /// Packets taken from and dropped by sockets of devices that are gone.
    before: (u64, u64),
}

/// What a running ring is told of interfaces.
pub enum News {
    /// A socket of its own, started.
    Line(Box<Line>),
    /// One more behind the socket that all share. Told before the filter lets its packets in. What the kernel counts is its
    /// own where it is alone there.
    Device { id: u32, device: Device, promiscuous: bool, alone: bool },
    /// Its device is gone, and with it its own socket.
    Gone { id: u32 },
}

impl Ring {
    /// A ring without a socket; each interface brings its own.
    pub fn empty() -> (Ring, Sender<News>) {
        let (sender, news) = channel();
        (Ring { lines: Vec::new(), news, before: (0, 0) }, sender)
    }

    /// A ring with one socket behind a filter that decides which interfaces pass.
    pub fn shared(
        options: &RingOptions,
        fanout: Option<u16>,
        filter: &mut AnySocket,
    ) -> Result<(Ring, Sender<News>), CaptureError> {
        let (sender, news) = channel();
        let line = Line::open_any(options, fanout, filter)?;
        Ok((Ring { lines: vec![line], news, before: (0, 0) }, sender))
    }

    /// Runs until `stop` is set; everything captured before is handed over.
    pub fn run(mut self, source: &Source, stop: &AtomicBool, progress: &WorkerProgress) {
        let mut counted = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            progress.capture.beat();
            self.hear(source);
            let before_ns = now_ns();
            let busy = self.turn(source);
            self.report(progress, before_ns);
            if counted.elapsed() >= STATISTICS {
                counted = Instant::now();
                for line in &mut self.lines {
                    line.count(source);
                }
                self.let_go(source);
            }
            if !busy {
                self.wait();
            }
        }
        self.finish(source, progress);
        progress.capture.end();
    }

    /// Where no block waits any more, what came a block's time before the turn was handed over.
    fn report(&self, progress: &WorkerProgress, before_ns: i64) {
        let totals = self.lines.iter().map(Line::totals);
        let (taken, dropped) = totals.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        progress.taken.store(taken + self.before.0, Ordering::Relaxed);
        progress.kernel_dropped.store(dropped + self.before.1, Ordering::Relaxed);
        if self.lines.iter().all(|line| !line.is_ready()) {
            let until_ns = before_ns - LAST_BLOCK.as_nanos() as i64;
            progress.captured_until_ns.store(until_ns, Ordering::Release);
        }
    }

    fn hear(&mut self, source: &Source) {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Line(line) => self.lines.push(*line),
                News::Device { id, device, promiscuous, alone } => {
                    for line in &mut self.lines {
                        line.welcome(source, id, device.ifindex, alone);
                        if promiscuous && let Err(error) = line.make_promiscuous(&device) {
                            // The device may be gone again.
                            tracing::warn!("{error}");
                        }
                    }
                }
                News::Gone { id } => self.lines.iter_mut().for_each(|line| line.leave(id)),
            }
        }
    }

    /// Lets interfaces go whose devices are gone, and sockets that were theirs alone.
    fn let_go(&mut self, source: &Source) {
        self.lines.retain_mut(|line| {
            let is_needed = line.let_go(source);
            if !is_needed {
                let (taken, dropped) = line.totals();
                self.before = (self.before.0 + taken, self.before.1 + dropped);
            }
            is_needed
        });
    }

    /// One round over the sockets; true when there was anything to read.
    fn turn(&mut self, source: &Source) -> bool {
        let mut busy = false;
        let mut at = 0;
        while at < self.lines.len() {
            for _ in 0..BLOCKS_A_TURN {
                if !self.lines.get(at).is_some_and(Line::is_ready) {
                    break;
                }
                // An interface is told of before its first packet is let in, so all in this block are known after this.
                self.hear(source);
                busy |= self.lines.get_mut(at).is_some_and(|line| line.read(source));
            }
            at += 1;
        }
        busy
    }

    fn wait(&self) {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            fds.push(PollFd::from_borrowed_fd(line.socket().borrow(), PollFlags::IN | PollFlags::ERR));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return;
        }
        for (fd, line) in fds.iter().zip(&self.lines) {
            if fd.revents().contains(PollFlags::ERR) {
                line.socket().clear_error();
            }
        }
    }

    /// Closes the door, empties the rings, and settles the account.
    fn finish(&mut self, source: &Source, progress: &WorkerProgress) {
        let closed_ns = now_ns();
        self.lines.iter_mut().for_each(Line::stop);
        let end = Instant::now() + LAST_BLOCK;
        while self.turn(source) || Instant::now() < end {
            progress.capture.beat();
            std::thread::sleep(Duration::from_millis(5));
        }
        self.lines.iter_mut().for_each(|line| line.settle(source));
        self.report(progress, closed_ns);
        progress.captured_until_ns.store(closed_ns, Ordering::Release);
    }
}
