//! `sharkrec status`: how a recorder is doing, or what a dead one left.

use std::io::{self, Write};
use std::path::PathBuf;

use shark_schema::identity::OffCause;
use shark_schema::segment::Counters;
use shark_schema::shown::{Shown, shown_in_line};

use crate::api::{self, Health, Status};
use crate::ring::Ring;
use crate::snapshot::{Interrupted, UnderWay};
use crate::time::show;
use crate::units::show_bytes;

/// Show what is recorded and what was lost, by cause
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Directory of the ring
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: PathBuf,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Exit with 0 also where the disk refuses data: a restart would not help
    #[arg(long)]
    probe: bool,
}

const EXAMPLES: &str = "Examples:
  sharkrec status --ring /var/lib/sharkrec --format json | jq .totals
  sharkrec status --ring /var/lib/sharkrec >/dev/null || echo 'not recording'

Exit codes: 0 recording, 1 not recording (no recorder runs, it does not answer, or one of its threads stands still),
4 recording, but the disk refuses data";

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let ring = Ring::open(&self.ring)?;
        let status = api::ask_status(&ring).unwrap_or_else(|| {
            let silent = ring.in_use();
            let files = api::of_files(&ring);
            Status { alive: silent, ..files }
        });
        let mut out = io::stdout().lock();
        match self.format {
            Format::Json => writeln!(Shown::json(&mut out), "{}", serde_json::to_string_pretty(&status)?)?,
            Format::Table => table(&mut Shown::text(&mut out), &status)?,
        }
        out.flush()?;
        match status.health() {
            Health::Recording => Ok(()),
            Health::DiskRefuses if self.probe => Ok(()),
            Health::DiskRefuses => std::process::exit(DISK_REFUSES),
            Health::NotRecording(_) => std::process::exit(NOT_RECORDING),
        }
    }
}

/// No interface can have a blank in its name.
const GONE: &str = "(those gone)";
const NOT_RECORDING: i32 = 1;
const DISK_REFUSES: i32 = 4;

fn table(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let state = match (status.health(), status.pid) {
        (Health::NotRecording(why), Some(pid)) => format!("NOT RECORDING (pid {pid}): {why}"),
        (Health::NotRecording(why), None) => why,
        (_, pid) => format!("recording (pid {})", pid.unwrap_or_default()),
    };
    writeln!(out, "node      {}", shown_in_line(&status.node))?;
    writeln!(out, "state     {}", shown_in_line(&state))?;
    let limit = status.ring_limit_bytes.map_or(String::new(), |limit| format!(" of {}", show_bytes(limit)));
    writeln!(out, "ring      {}{limit}, {} segments", show_bytes(status.ring_bytes), status.segments)?;
    // An open segment does not tell of its times yet.
    if let (Some(oldest_ns), Some(newest_ns)) = (status.oldest_ns, status.newest_ns) {
        writeln!(out, "packets   {} to {}", show(oldest_ns), show(newest_ns))?;
    }
    if status.disk_refuses == Some(true) {
        writeln!(out, "disk      refuses data: packets are dropped and counted")?;
    }
    for of in &status.workers {
        let until = of.recorded_until_ns.map_or("nothing yet".to_owned(), |ns| format!("until {}", show(ns)));
        writeln!(out, "worker    {}: recorded {until}, {} packets taken", of.worker, of.taken)?;
    }
    for of in status.threads.iter().filter(|of| of.stalled) {
        writeln!(out, "thread    {} makes no progress since {} ms", of.name, of.silent_ms)?;
    }
    if let Some(tls) = &status.tls {
        let limit = tls.limit_bytes.map_or(String::new(), |limit| format!(" of {}", show_bytes(limit)));
        let bytes = show_bytes(tls.bytes);
        writeln!(out, "plaintext {bytes}{limit}, {} segments", tls.segments)?;
        for library in &tls.libraries {
            let state = if library.on { "on " } else { "off" };
            let refused =
                if library.cause == Some(OffCause::Unreadable) { "plaintext cannot be read: " } else { "" };
            let (name, why) = (shown_in_line(&library.name), shown_in_line(&library.why));
            writeln!(out, "          {state} {name}: {refused}{why}")?;
        }
    }
    for watch in status.kube.iter().flat_map(|kube| &kube.watches) {
        let state = if watch.on { "on " } else { "off" };
        let objects = watch.objects.map_or(String::new(), |objects| format!(", {objects} known"));
        let since = show(watch.since_ns);
        let (what, why) = (shown_in_line(&watch.what), shown_in_line(&watch.why));
        writeln!(out, "kube      {what:<16} {state} since {since}{objects}: {why}")?;
    }
    for UnderWay { id, to, bytes } in &status.under_way {
        let (id, to, bytes) = (shown_in_line(id), shown_in_line(to), show_bytes(*bytes));
        writeln!(out, "snapshot  {id} to {to} is under way and holds {bytes}")?;
    }
    for Interrupted { id, name, to } in &status.interrupted {
        let name = name.as_ref().map_or(String::new(), |name| format!(" ({})", shown_in_line(name)));
        let (id, to) = (shown_in_line(id), shown_in_line(to));
        writeln!(
            out,
            "snapshot  to {to}{name} was interrupted: `sharkrec snapshot --resume {id}` completes it"
        )?;
    }
    writeln!(out)?;
    let row = ["interface", "offered", "written", "kernel", "queue", "disk", "nic", "truncated"];
    writeln!(
        out,
        "{:<16} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
    )?;
    let mut rows: Vec<(&str, &Counters)> =
        status.interfaces.iter().map(|of| (of.name.as_str(), &of.counters)).collect();
    if status.gone != Counters::default() {
        rows.push((GONE, &status.gone));
    }
    for (name, c) in rows {
        let nic = c.nic_dropped.map_or("-".to_owned(), |n| n.to_string());
        writeln!(
            out,
            "{:<16} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            shown_in_line(name),
            c.offered,
            c.written,
            c.kernel_dropped,
            c.user_dropped,
            c.disk_dropped,
            nic,
            c.truncated
        )?;
    }
    Ok(())
}
