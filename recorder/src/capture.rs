//! Where packets come from: the kernel's ring of a socket, or a file that is replayed. There are no others.
//! In: interfaces or a path. Out: batches of encoded packets, in order, with what was lost.
//! The live path never allocates per packet, never blocks, and never touches the disk.

mod block;
mod filter;
mod lane;
mod line;
mod link;
mod pcap;
mod replay;
mod ring;
mod socket;

pub use filter::{Filter, FilterError, Instruction};
pub use lane::{Frame, Lane, Splice};
pub use line::Line;
pub use replay::{Replay, ReplayError};
pub use ring::{News, Ring, RingOptions};
pub use socket::{CaptureError, Device, KernelCounters};

use std::sync::atomic::AtomicBool;

use crate::batch::Source;
use crate::supervisor::WorkerProgress;

/// One worker's capture.
pub enum Capture {
    Ring(Ring),
    Replay(Box<Replay>),
}

impl Capture {
    /// Runs until `stop` is set or the file ends; everything captured before is handed over.
    pub fn run(
        self,
        source: &Source,
        stop: &AtomicBool,
        progress: &WorkerProgress,
    ) -> Result<(), ReplayError> {
        match self {
            Capture::Ring(ring) => {
                ring.run(source, stop, progress);
                Ok(())
            }
            Capture::Replay(replay) => replay.run(source, stop),
        }
    }
}
