//! `shark-bench compare`: what the programs of this project cost beside their peers, on one capture, in one run.
//! In: sizes and where the programs are. Out: a table or JSON. It fails where a program did not see all there is to see.
//! A peer that is not installed is named as such; no figure is ever carried over from another run.

mod index;
mod query;
mod record;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use shark_benches::measure::Cost;
use shark_benches::mix::{Counts, GAP_NS};

use super::generate::{Shape, make};

/// Compare index, record, snapshot and query with their peers
#[derive(clap::Args)]
pub struct Arguments {
    /// Bytes of frames of the capture
    #[arg(long, value_parser = super::bytes, default_value = "300MB")]
    bytes: u64,
    /// Bytes of frames of the capture for tshark, made from the same seed
    #[arg(long, value_parser = super::bytes, default_value = "30MB")]
    slice: u64,
    /// Each figure is the median of so many runs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The sharkq to measure [default: beside this program]
    #[arg(long)]
    sharkq: Option<PathBuf>,
    /// The sharkrec to measure [default: beside this program]
    #[arg(long)]
    sharkrec: Option<PathBuf>,
    /// Folder with the sharkq and sharkrec of an earlier build, measured beside these
    #[arg(long, value_name = "DIR")]
    before: Option<PathBuf>,
    /// Python environment with duckdb [default: ~/.cache/sharkrec/venv]
    #[arg(long, env = "SHARK_VENV", value_name = "DIR")]
    venv: Option<PathBuf>,
    /// Make one index, and compare queries over it
    #[arg(long, value_enum)]
    only: Option<Only>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    Queries,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// A capture on disk and what is in it.
struct Capture {
    path: PathBuf,
    file_bytes: u64,
    counts: Counts,
}

/// What everything is measured on and with.
struct Bench {
    room: PathBuf,
    runs: usize,
    build: Build,
    before: Option<Build>,
    python: Option<PathBuf>,
    whole: Capture,
    slice: Capture,
}

/// The programs of one build.
struct Build {
    sharkq: String,
    sharkrec: String,
    /// What stands behind the names of its rows.
    suffix: &'static str,
}

/// One measured program.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    tool: String,
    cost: Option<Cost>,
    /// Megabytes of capture per CPU second.
    mb_per_cpu_s: Option<f64>,
    /// The same as a part of what `zstd -1` compresses in a CPU second: machines differ, and so does one from day to day.
    z: Option<f64>,
    /// CPU time over the packets of the capture.
    ns_per_packet: Option<f64>,
    /// What it wrote, as a part of the capture.
    stored_ratio: Option<f64>,
    /// HTTP requests and DNS messages that it saw.
    http_requests: Option<u64>,
    dns_messages: Option<u64>,
    note: String,
}

#[derive(Serialize)]
struct Report {
    machine: String,
    capture_bytes: u64,
    slice_bytes: u64,
    truth: Counts,
    truth_of_slice: Counts,
    rows: Vec<Row>,
    queries: Vec<query::QueryRow>,
    /// Megabytes per CPU second of sharkq on all cores over those of each peer.
    times_faster: Vec<(String, f64)>,
    faults: Vec<String>,
}

impl Arguments {
    pub fn run(self) -> Result<()> {
        let room = tempfile::Builder::new().prefix("shark-bench-compare.").tempdir()?;
        let bench = self.prepare(room.path())?;
        let rows = match self.only {
            Some(Only::Queries) => vec![index::all_cores(&bench, &bench.build)?],
            None => [index::rows(&bench)?, record::rows(&bench)?].into_iter().flatten().collect(),
        };
        let rows = with_z(rows);
        let (mut faults, queries) = query::rows(&bench)?;
        faults.extend(rows.iter().filter_map(|row| bench.miscounted(row)));
        let report = Report {
            machine: machine(),
            capture_bytes: bench.whole.file_bytes,
            slice_bytes: bench.slice.file_bytes,
            truth: bench.whole.counts,
            truth_of_slice: bench.slice.counts,
            times_faster: times_faster(&rows),
            rows,
            queries,
            faults,
        };
        match self.format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            Format::Table => report.print(),
        }
        if !report.faults.is_empty() {
            bail!("the figures mean nothing: {}", report.faults.join("; "));
        }
        Ok(())
    }

    fn prepare(&self, room: &Path) -> Result<Bench> {
        let capture = |name: &str, bytes| {
            eprintln!("shark-bench: making a capture of {} MB", bytes / 1_000_000);
            let path = room.join(name);
            let counts = make(Shape::Mixed, bytes, self.seed, GAP_NS, &path)?;
            let file_bytes = std::fs::metadata(&path)?.len();
            anyhow::Ok(Capture { path, file_bytes, counts })
        };
        let python = self.venv.clone().or_else(default_venv).map(|venv| venv.join("bin/python"));
        Ok(Bench {
            room: room.to_owned(),
            runs: self.runs.into(),
            build: Build {
                sharkq: super::program(self.sharkq.as_ref(), "sharkq")?,
                sharkrec: super::program(self.sharkrec.as_ref(), "sharkrec")?,
                suffix: "",
            },
            before: self.before.as_ref().map(|folder| Build::before(folder)).transpose()?,
            python: python.filter(|python| python.exists()),
            whole: capture("whole.pcap", self.bytes)?,
            slice: capture("slice.pcap", self.slice.min(self.bytes))?,
        })
    }
}

impl Build {
    fn before(folder: &Path) -> Result<Build> {
        let program = |name: &str| super::program(Some(&folder.join(name)), name);
        Ok(Build { sharkq: program("sharkq")?, sharkrec: program("sharkrec")?, suffix: ", before" })
    }
}

impl Bench {
    /// This build and, if it was asked for, the earlier one.
    fn builds(&self) -> impl Iterator<Item = &Build> {
        [&self.build].into_iter().chain(&self.before)
    }

    fn path(&self, name: &str) -> String {
        self.room.join(name).display().to_string()
    }

    /// A fault, where a program counted other events than were made.
    fn miscounted(&self, row: &Row) -> Option<String> {
        let truth = if row.tool.starts_with("tshark") { &self.slice.counts } else { &self.whole.counts };
        let dns = truth.dns_queries + truth.dns_replies;
        let (seen_http, seen_dns) = (row.http_requests?, row.dns_messages?);
        ((seen_http, seen_dns) != (truth.http_requests, dns)).then(|| {
            format!(
                "{} saw {seen_http} HTTP requests and {seen_dns} DNS messages of {} and {dns}",
                row.tool, truth.http_requests
            )
        })
    }
}

impl Row {
    fn measured(what: &'static str, tool: &str, cost: Cost, capture: &Capture) -> Row {
        Row {
            what,
            tool: tool.into(),
            cost: Some(cost),
            mb_per_cpu_s: Some(capture.file_bytes as f64 / 1e6 / cost.cpu_s()),
            ns_per_packet: Some(cost.cpu_s() * 1e9 / capture.counts.frames as f64),
            ..Row::absent(what, tool, "")
        }
    }

    fn absent(what: &'static str, tool: &str, note: &str) -> Row {
        Row {
            what,
            tool: tool.into(),
            cost: None,
            mb_per_cpu_s: None,
            z: None,
            ns_per_packet: None,
            stored_ratio: None,
            http_requests: None,
            dns_messages: None,
            note: note.into(),
        }
    }
}

impl Report {
    fn print(&self) {
        let (truth, mb) = (&self.truth, |bytes: u64| bytes as f64 / 1e6);
        println!("{}", self.machine);
        println!(
            "capture: {:.0} MB, {} packets, {} HTTP requests, {} DNS messages; tshark reads {:.0} MB of the same seed\n",
            mb(self.capture_bytes),
            truth.frames,
            truth.http_requests,
            truth.dns_queries + truth.dns_replies,
            mb(self.slice_bytes),
        );
        println!(
            "{:<9} {:<32} {:>8} {:>8} {:>9} {:>10} {:>6} {:>9} {:>7} {:>9} {:>9}  note",
            "what", "tool", "cpu s", "wall s", "peak MiB", "MB/cpu-s", "z", "ns/pkt", "stored", "http", "dns"
        );
        self.rows.iter().for_each(Row::print);
        println!();
        query::print(&self.queries);
        println!();
        for (tool, times) in &self.times_faster {
            println!("sharkq index (all cores) reads {times:.1} times as much per CPU second as {tool}");
        }
        if self.faults.is_empty() {
            println!("every program saw every event, and both engines gave the same answers");
        }
    }
}

impl Row {
    fn print(&self) {
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
        let count = |value: Option<u64>| value.map_or("-".into(), |v| v.to_string());
        let cost = |figure: fn(&Cost) -> f64| self.cost.as_ref().map(figure);
        println!(
            "{:<9} {:<32} {:>8} {:>8} {:>9} {:>10} {:>6} {:>9} {:>7} {:>9} {:>9}  {}",
            self.what,
            self.tool,
            number(cost(Cost::cpu_s), 3),
            number(cost(|cost| cost.wall_s), 3),
            number(cost(|cost| (cost.peak_rss_bytes >> 20) as f64), 0),
            number(self.mb_per_cpu_s, 1),
            number(self.z, 2),
            number(self.ns_per_packet, 0),
            number(self.stored_ratio, 3),
            count(self.http_requests),
            count(self.dns_messages),
            self.note,
        );
    }
}

/// Adds the speed of each row in units of that of `zstd -1`.
fn with_z(mut rows: Vec<Row>) -> Vec<Row> {
    let unit = rows.iter().find(|row| row.tool == record::ZSTD).and_then(|row| row.mb_per_cpu_s);
    for row in &mut rows {
        row.z = row.mb_per_cpu_s.zip(unit).map(|(speed, unit)| speed / unit);
    }
    rows
}

fn times_faster(rows: &[Row]) -> Vec<(String, f64)> {
    let of = |row: &Row| (row.what == "index").then_some(row.mb_per_cpu_s).flatten();
    let ours = rows.iter().find(|row| row.tool == index::ALL_CORES).and_then(of);
    let peers = rows.iter().filter(|row| !row.tool.starts_with("sharkq"));
    peers.filter_map(|row| Some((row.tool.clone(), ours? / of(row)?))).collect()
}

fn default_venv() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("sharkrec/venv"))
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name").map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        })
        .unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{cores} cores, {cpu}, Linux {}, load before the end {load}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
