//! `shark-bench generate`: a capture of a given shape. In: shape, size, seed. Out: a pcap file; its counts on standard output.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use shark_benches::mix::{Counts, GAP_NS, Shares, play};
use shark_benches::pcap::PcapFile;
use shark_benches::shapes;

/// Make a capture; prints what is in it
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_enum, default_value_t = Shape::Mixed)]
    shape: Shape,
    /// Bytes of frames; for open-flows the number of flows
    #[arg(long, value_parser = super::bytes, default_value = "300MB")]
    bytes: u64,
    /// Of the mixed shape
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mean time between two frames of the mixed shape, in ns
    #[arg(long, default_value_t = GAP_NS, value_parser = clap::value_parser!(u64).range(1..1_000_000_000))]
    gap_ns: u64,
    /// File to write
    #[arg(short = 'w', long, value_name = "FILE")]
    write: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// HTTP keep-alive with JSON, DNS, TLS, an unknown protocol
    Mixed,
    /// One HTTP connection that goes on and on
    OneFlow,
    /// Connections that ask half a question and stay open
    OpenFlows,
    /// One HTTP response
    OneBody,
}

impl Arguments {
    pub fn run(self) -> Result<()> {
        let counts = make(self.shape, self.bytes, self.seed, self.gap_ns, &self.write)?;
        println!("{}", serde_json::to_string(&counts)?);
        Ok(())
    }
}

pub fn make(shape: Shape, size: u64, seed: u64, gap_ns: u64, path: &Path) -> Result<Counts> {
    let mut file = PcapFile::create(path)?;
    let mut sink = |ts_ns, data: &[u8]| file.frame(ts_ns, data);
    let counts = match shape {
        Shape::Mixed => play(seed, size, Shares::MIXED, gap_ns, &mut sink),
        Shape::OneFlow => shapes::one_flow(size, &mut sink),
        Shape::OpenFlows => shapes::open_flows(size, &mut sink),
        Shape::OneBody => shapes::one_body(size, &mut sink),
    }?;
    file.finish()?;
    Ok(counts)
}
