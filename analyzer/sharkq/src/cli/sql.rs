//! `sharkq sql`: statements from the command line, a file or standard input.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;

use super::open::{FooterArgs, Footers, MarginArgs};
use super::shell::{Next, Shell};
use super::{Exit, SourceArgs, repl, write_to};
use crate::print::Layout;
use crate::times::TimeArgs;

/// Answer SQL over the tables of a recording.
///
/// Without -c and -f, statements are read from standard input; at a terminal that is a shell with history and completion,
/// psql's \\d, \\x, \\timing, \\o, \\i and DuckDB's dot commands. What was recorded and lost of the time asked about stands under
/// each result, on standard error.
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
    #[command(flatten)]
    layout: Layout,
    /// Let scripts open and overwrite files with \\i and \\o; only what a person types into the shell may without it
    #[arg(long)]
    allow_files: bool,
    /// File to write to
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    times: TimeArgs,
    #[command(flatten)]
    margin: MarginArgs,
    #[command(flatten)]
    footer: FooterArgs,
    /// Exit with 3 when there are no rows
    #[arg(long)]
    exit_code: bool,
}

const EXAMPLES: &str = "\
Examples:
  sharkq sql ring/
  sharkq sql ring/ --around 03:12 --tz Europe/Berlin -c 'SELECT * FROM flows WHERE rst_by IS NOT NULL'
  sharkq sql ring/ -c 'SELECT status_code, count(*) FROM http GROUP BY 1 ORDER BY 2 DESC'
  sharkq sql capture.pcapng -c \"SELECT * FROM flows WHERE rst_by = 'dst'\" --format csv -o resets.csv
  echo 'SELECT count(*) FROM dns' | sharkq sql s3://bucket/snapshots/01J...";

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut texts = args.commands.clone();
    for path in &args.files {
        texts.push(
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?,
        );
    }
    let is_capture = args.source.sources.iter().any(|source| source == "-");
    let asks = texts.is_empty() && !is_capture && args.output.is_none() && std::io::stdin().is_terminal();
    if texts.is_empty() && !asks {
        anyhow::ensure!(!is_capture, "standard input is the capture; give the statement with -c or -f");
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        texts.push(text);
    }
    let opened = args.source.open(&args.times, args.margin.reading())?;
    let mut shell = Shell::new(opened, args.layout, Footers::new(args.footer));
    shell.scripts_open_files = args.allow_files;
    if asks {
        repl::run(&mut shell)?;
    }
    write_to(args.output.as_deref(), |out| {
        for text in &texts {
            if shell.text(text, out)? == Next::End {
                break;
            }
        }
        Ok(())
    })?;
    Ok(shell.footers.exit(shell.rows, args.exit_code, &shell.opened.ready))
}
