//! `sharkq coverage`: what was recorded of a time, node by node, and why anything is missing.

use std::path::PathBuf;

use shark_schema::shown::shown_in_line;

use super::open::{Reading, exit};
use super::{Exit, SourceArgs, write_lines_to, write_to};
use crate::asked::Asked;
use crate::coverage::Coverage;
use crate::print::{Format, Layout, print};
use crate::times::TimeArgs;

/// Say what was recorded, lost, rotated out or never targeted.
///
/// --since, --until and --around choose the time; without them it is all that was recorded. Formats for programs have a row a
/// node. A snapshot or a ring that is not indexed is not read for that: its manifests, sidecars and logs
/// tell, against the names and sizes of its files, and the answer says so. What only the bytes of segments
/// show, such as one that was changed, is found by --strict, which reads the segments of that time and
/// compares their hashes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    times: TimeArgs,
    /// Exit with 4 when packets, plaintext of TLS, or what proves names, are missing; reads all segments of
    /// the time
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    layout: Layout,
    /// File to write to
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  sharkq coverage s3://bucket/snapshots/01J...
  sharkq coverage ring/ --around 03:12 --tz Europe/Berlin
  sharkq coverage ring/ --since 10m --strict && echo nothing is missing
  sharkq sql ring/ -c \"SELECT * FROM coverage WHERE state <> 'ok'\"";

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let reading = if args.strict { Reading::Hashes } else { Reading::Evidence };
    let opened = args.source.open(&args.times, reading)?;
    let asked = Asked::all(opened.session.within());
    let mut coverage = opened.runtime.block_on(Coverage::of(&opened.session, asked))?;
    if let Some(survey) = &opened.survey {
        for node in &mut coverage.nodes {
            node.unread = survey.unread(&opened.sources, Some((&node.node, asked.stretch)));
        }
    }
    let output = args.output.as_deref();
    match args.layout.format {
        Format::Table => write_lines_to(output, |out| {
            let lines = coverage.lines(&opened.zone);
            Ok(lines.iter().try_for_each(|line| writeln!(out, "{}", shown_in_line(line)))?)
        })?,
        _ => {
            let answer = coverage.answer()?;
            write_to(output, |out| print(&answer, args.layout, out))?;
        }
    }
    Ok(match exit(&opened.ready) {
        Exit::Done if args.strict && coverage.is_incomplete() => Exit::Incomplete,
        other => other,
    })
}
