//! `sharkq sql`: statements from the command line, a file or standard input.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;

use super::open::exit;
use super::{Exit, SourceArgs, write_to};
use crate::print::{Format, print};

/// Answer SQL over the tables of a recording.
///
/// Without -c and -f, statements are read from standard input.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Statement to run; may be given several times
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// File with statements to run
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// File to write to
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Exit with 3 when there are no rows
    #[arg(long)]
    exit_code: bool,
}

const EXAMPLES: &str = "\
Examples:
  sharkq sql ring/ -c 'SELECT status_code, count(*) FROM http GROUP BY 1 ORDER BY 2 DESC'
  sharkq sql capture.pcapng -c \"SELECT * FROM flows WHERE rst_by = 'dst'\" --format csv -o resets.csv
  echo 'SELECT count(*) FROM dns' | sharkq sql s3://bucket/snapshots/01J...";

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut statements = args.commands.clone();
    for path in &args.files {
        statements.push(
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?,
        );
    }
    if statements.is_empty() {
        anyhow::ensure!(
            args.source.sources.iter().all(|source| source != "-"),
            "standard input is the capture; give the statement with -c or -f"
        );
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        statements.push(text);
    }
    let opened = args.source.open()?;
    let mut rows = 0;
    write_to(args.output.as_deref(), |out| {
        for statement in &statements {
            for answer in opened.runtime.block_on(opened.session.run(statement))? {
                rows += answer.batches.iter().map(|batch| batch.num_rows()).sum::<usize>();
                print(&answer, args.format, out)?;
            }
        }
        Ok(())
    })?;
    Ok(if args.exit_code && rows == 0 { Exit::NoRows } else { exit(&opened.ready) })
}
