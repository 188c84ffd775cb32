//! `sharkq coverage`: what was recorded of a time, node by node, and why anything is missing.

use std::path::PathBuf;

use super::open::exit;
use super::{Exit, SourceArgs, write_to};
use crate::asked::Asked;
use crate::coverage::Coverage;
use crate::print::{Format, print};
use crate::times::TimeArgs;

/// Say what was recorded, lost, rotated out or never targeted.
///
/// --since, --until and --around choose the time; without them it is all that was recorded.
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
    /// Output format; those for programs have a row a node
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
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
    write_to(args.output.as_deref(), |out| match args.format {
        Format::Table => {
            Ok(coverage.lines(&opened.zone).iter().try_for_each(|line| writeln!(out, "{line}"))?)
        }
        format => print(&coverage.answer()?, format, out),
    })?;
    Ok(match exit(&opened.ready) {
        Exit::Done if args.strict && coverage.is_incomplete() => Exit::Incomplete,
        other => other,
    })
}
