//! `shark-bench memory`: the memory of `sharkq index` on captures that strain it, and whether threads change its output.
//! In: nothing but room on disk. Out: a line a run, and a failure where a limit is broken.
//! One capture at a time lies on the disk, and none afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shark_benches::measure::{Cost, Job, once};
use shark_benches::mix::GAP_NS;

use super::generate::{Shape, make};

/// Check the memory of `sharkq index` and that its output does not depend on the number of threads
#[derive(clap::Args)]
pub struct Arguments {
    /// The sharkq to measure [default: beside this program]
    #[arg(long)]
    sharkq: Option<PathBuf>,
    /// Thread counts
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 8])]
    threads: Vec<usize>,
    /// Only these captures
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Strain>,
    /// Mean time between two frames of mixed traffic: flows end by the time of the capture, so its speed decides how many
    /// are open at once
    #[arg(long, default_value_t = GAP_NS, value_parser = clap::value_parser!(u64).range(1..1_000_000_000))]
    gap_ns: u64,
    /// Most memory that a run may take
    #[arg(long, value_parser = super::bytes, default_value = "1GiB")]
    limit: u64,
    #[arg(long, value_enum, default_value_t = super::compare::Format::Table)]
    format: super::compare::Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Strain {
    /// 1 GB of mixed traffic
    #[value(name = "1gb")]
    OneGb,
    /// 4 GB of mixed traffic
    #[value(name = "4gb")]
    FourGb,
    /// One flow of 1 GB
    OneFlow,
    /// A million open flows
    OpenFlows,
    /// One body of 300 MB
    OneBody,
}

#[derive(Serialize)]
struct Outcome {
    capture: Strain,
    threads: usize,
    cost: Cost,
    /// Of all Parquet files with their names.
    sha256: String,
}

impl Arguments {
    pub fn run(self) -> Result<()> {
        let sharkq = super::program(self.sharkq.as_ref(), "sharkq")?;
        let room = tempfile::Builder::new().prefix("shark-bench-memory.").tempdir()?;
        let strains = if self.only.is_empty() { Strain::value_variants() } else { &self.only };
        let (mut outcomes, mut faults) = (Vec::new(), Vec::new());
        for &strain in strains {
            let capture = room.path().join("capture.pcap");
            let (shape, size) = strain.shape();
            eprintln!("shark-bench: making {strain:?}");
            make(shape, size, 1, self.gap_ns, &capture)?;
            for &threads in &self.threads {
                let outcome = index(&sharkq, &capture, threads, strain, &room.path().join("index"))?;
                self.print(&outcome)?;
                outcomes.push(outcome);
            }
            fs::remove_file(&capture)?;
        }
        self.judge(&outcomes, &mut faults);
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }

    fn print(&self, outcome: &Outcome) -> Result<()> {
        match self.format {
            super::compare::Format::Json => println!("{}", serde_json::to_string(outcome)?),
            super::compare::Format::Table => println!(
                "{:<10} {:>2} threads  peak {:>5} MiB  cpu {:>7.2} s  wall {:>7.2} s  sha256 {}",
                format!("{:?}", outcome.capture),
                outcome.threads,
                outcome.cost.peak_rss_bytes >> 20,
                outcome.cost.cpu_s(),
                outcome.cost.wall_s,
                &outcome.sha256[..16],
            ),
        }
        Ok(())
    }

    fn judge(&self, outcomes: &[Outcome], faults: &mut Vec<String>) {
        for outcome in outcomes {
            let (capture, threads) = (outcome.capture, outcome.threads);
            let peak = outcome.cost.peak_rss_bytes;
            if peak > self.limit {
                faults.push(format!("{capture:?} with {threads} threads took {} MiB", peak >> 20));
            }
            let same_capture = |other: &&Outcome| other.capture == capture;
            if outcomes.iter().find(same_capture).is_some_and(|first| first.sha256 != outcome.sha256) {
                faults.push(format!("{capture:?} gives other bytes with {threads} threads"));
            }
            let four = |other: &&Outcome| (other.capture, other.threads) == (Strain::FourGb, threads);
            if capture == Strain::OneGb
                && let Some(four) = outcomes.iter().find(four)
            {
                let ratio = four.cost.peak_rss_bytes as f64 / peak as f64;
                if !(0.9..=1.1).contains(&ratio) {
                    faults.push(format!(
                        "with {threads} threads 4 GB take {ratio:.2} times the memory of 1 GB"
                    ));
                }
            }
        }
    }
}

impl Strain {
    fn shape(self) -> (Shape, u64) {
        match self {
            Strain::OneGb => (Shape::Mixed, 1_000_000_000),
            Strain::FourGb => (Shape::Mixed, 4_000_000_000),
            Strain::OneFlow => (Shape::OneFlow, 1_000_000_000),
            Strain::OpenFlows => (Shape::OpenFlows, 1_000_000),
            Strain::OneBody => (Shape::OneBody, 300_000_000),
        }
    }
}

fn index(sharkq: &str, capture: &Path, threads: usize, strain: Strain, index: &Path) -> Result<Outcome> {
    let words = [
        sharkq,
        "index",
        &capture.display().to_string(),
        "-o",
        &index.display().to_string(),
        "--threads",
        &threads.to_string(),
    ];
    let cost = once(&Job::new(&words))?;
    let sha256 = digest(&index.join("tables"))?;
    fs::remove_dir_all(index)?;
    Ok(Outcome { capture: strain, threads, cost, sha256 })
}

/// SHA-256 over names and contents of all files below `folder`.
fn digest(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for path in &files {
        hash.update(path.strip_prefix(folder)?.as_os_str().as_encoded_bytes());
        hash.update(Sha256::digest(fs::read(path).with_context(|| path.display().to_string())?));
    }
    Ok(sharkrec::segment::hex(&hash.finalize()))
}

pub fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
