//! `sharkq verify`: is it still what was recorded?

use std::io::Write;

use shark_schema::shown::{Shown, shown_in_line};

use super::open::runtime;
use super::{Exit, write_lines_to, write_to};
use crate::place::Folder;
use crate::verify::{Report, verify};

/// Recompute every hash of a snapshot, a ring or a segment, and name what was altered, is missing or was added.
#[derive(clap::Args)]
pub struct Args {
    /// Snapshots, rings or segments
    #[arg(value_name = "SRC", required = true)]
    sources: Vec<String>,
    /// SHA-256 that manifest.json must have, as `sharkrec snapshot` printed it
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Print JSON
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    format: String,
}

/// Runs the command; 5 where something is wrong.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = runtime()?;
    let mut reports = Vec::new();
    for source in &args.sources {
        let mut report = verify(&Folder::open(source, runtime.handle())?)?;
        if let Some(expected) = &args.sha256 {
            report.expect(expected);
        }
        reports.push(report);
    }
    if args.format == "json" {
        write_to(None, |out| {
            serde_json::to_writer_pretty(Shown::json(&mut *out), &reports)?;
            Ok(writeln!(out)?)
        })?;
    } else {
        write_lines_to(None, |out| lines(&reports, out))?;
    }
    let sound = reports.iter().all(|report| report.problems.is_empty());
    Ok(if sound { Exit::Done } else { Exit::Integrity })
}

fn lines(reports: &[Report], out: &mut dyn Write) -> anyhow::Result<()> {
    for report in reports {
        for problem in &report.problems {
            let line = format!("{}: {}/{}: {}", problem.kind, report.source, problem.object, problem.detail);
            writeln!(out, "{}", shown_in_line(&line))?;
        }
        let Report { source, objects, bytes, problems, manifest_sha256 } = report;
        let verdict =
            if problems.is_empty() { "ok".to_string() } else { format!("{} problems", problems.len()) };
        writeln!(out, "{source}: {verdict}, {objects} objects and {bytes} bytes hashed")?;
        if let Some(sha256) = manifest_sha256 {
            writeln!(out, "{source}: manifest.json has SHA-256 {sha256}")?;
        }
    }
    Ok(())
}
