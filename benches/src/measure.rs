//! What a program cost: user and system time, wall time and peak memory of it and all it started.
//! In: a command. Out: figures. A command that fails is an error with its last words, never a figure.
//!
//! Linux counts the memory of whoever starts a program as the program's own until exec (fs/exec.c, setmax_mm_hiwater_rss), and
//! the usage of children only as a sum. Therefore every command is run by a fresh, small process of this binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// Cost of one run, or the median of several.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cost {
    pub user_s: f64,
    pub system_s: f64,
    pub wall_s: f64,
    /// Of the largest single process.
    pub peak_rss_bytes: u64,
}

impl Cost {
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// A command with its arguments; output goes to a file or nowhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub words: Vec<String>,
    pub stdout: Option<PathBuf>,
}

impl Job {
    pub fn new(words: &[&str]) -> Job {
        Job { words: words.iter().map(ToString::to_string).collect(), stdout: None }
    }

    pub fn into_file(mut self, path: &Path) -> Job {
        self.stdout = Some(path.to_owned());
        self
    }
}

/// Runs the job `runs` times; `before` puts things back as they were. The median of each figure, the largest peak.
pub fn median(job: &Job, runs: usize, mut before: impl FnMut() -> Result<()>) -> Result<Cost> {
    ensure!(runs > 0, "nothing can be measured in no runs");
    let costs: Vec<Cost> = (0..runs)
        .map(|_| {
            before()?;
            once(job)
        })
        .collect::<Result<_>>()?;
    let middle = |figure: fn(&Cost) -> f64| {
        let mut figures: Vec<f64> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[(figures.len() - 1) / 2]
    };
    Ok(Cost {
        user_s: middle(|cost| cost.user_s),
        system_s: middle(|cost| cost.system_s),
        wall_s: middle(|cost| cost.wall_s),
        peak_rss_bytes: costs.iter().map(|cost| cost.peak_rss_bytes).max().unwrap_or(0),
    })
}

/// Runs the job once, in a process of its own.
pub fn once(job: &Job) -> Result<Cost> {
    let me = std::env::current_exe().context("this program cannot be found again")?;
    let output =
        Command::new(me).arg("run").arg(serde_json::to_string(job)?).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}: {}", job.words.join(" "), last_words(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the measuring process said something else than figures")
}

/// The measuring process: runs the job and returns its cost.
pub fn run_here(job: &Job) -> Result<Cost> {
    let (program, arguments) = job.words.split_first().context("no command")?;
    let stdout = match &job.stdout {
        Some(path) => Stdio::from(File::create(path).with_context(|| path.display().to_string())?),
        None => Stdio::null(),
    };
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    let status = child.wait()?;
    let wall_s = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{program} ended with {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(Cost {
        user_s: seconds(usage.user_time()),
        system_s: seconds(usage.system_time()),
        wall_s,
        peak_rss_bytes: usage.max_rss() as u64 * 1024,
    })
}

fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}
