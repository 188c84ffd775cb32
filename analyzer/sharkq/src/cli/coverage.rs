//! `sharkq coverage`: what was recorded of a time, node by node, and why anything is missing.

use std::path::PathBuf;

use shark_schema::shown::shown_in_line;

use super::open::exit;
use super::{Exit, SourceArgs, write_lines_to, write_to};
use crate::asked::Asked;
use crate::coverage::Coverage;
use crate::print::{Format, Layout, print};
use crate::times::TimeArgs;

/// Say what was recorded, lost, rotated out or never targeted.
///
/// --since, --until and --around choose the time; without them it is all that was recorded. Formats for programs have a row a
/// node.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    times: TimeArgs,
    /// Exit with 4 when packets, plaintext of TLS, or what proves names, are missing
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
    let opened = args.source.open(&args.times)?;
    let asked = Asked::all(opened.session.within());
    let coverage = opened.runtime.block_on(Coverage::of(&opened.session, asked))?;
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
