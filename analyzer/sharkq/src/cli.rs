//! The command line: one file a subcommand. Results go to standard output, everything else to standard error.

mod cache;
mod completions;
mod coverage;
mod index;
mod info;
mod kfl;
mod open;
mod pcap;
mod repl;
mod shell;
mod sql;
mod tables;
mod verify;

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shark_schema::shown::{Shown, shown, shown_in_line};

use open::SourceArgs;

/// Questions to network recordings, in SQL and KFL.
///
/// A source (SRC) is anything recorded: a capture file (pcap or pcapng; gzip, zstd, lz4 or plain; - for standard input), a
/// segment, a ring, a snapshot (a folder, s3://, gs:// or az://), several of these, or an index. What is not indexed yet is
/// indexed on first use into a cache.
#[derive(Parser)]
#[command(name = "sharkq", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sharkq info capture.pcapng
  sharkq sql ring/
  sharkq sql capture.pcapng -c \"SELECT method, path, status_code, count(*) FROM http GROUP BY 1, 2, 3 ORDER BY 4 DESC\"
  sharkq sql s3://bucket/snapshots/01J... -f question.sql --format json
  sharkq kfl capture.pcapng 'http && status_code >= 500'
  sharkq pcap capture.pcapng 'http && status_code >= 500' -w - | wireshark -k -i -
  sharkq pcap capture.pcapng --from http --where 'status_code >= 500' -w failed.pcapng
  sharkq verify snapshots/01J...

Exit codes: 0 done, 1 failed, 2 usage, 3 no rows (with --exit-code), 4 incomplete coverage (with
--strict), 5 integrity.";

#[derive(Subcommand)]
enum Command {
    /// Answer SQL over the tables of a recording
    Sql(sql::Args),
    /// List the calls and flows that a KFL expression selects
    Kfl(kfl::Args),
    /// Make an index: Parquet tables that any engine reads
    Index(index::Args),
    /// Say what was recorded, lost, rotated out or never targeted
    Coverage(coverage::Args),
    /// Say what is in a recording: time, loss, bytes by protocol
    Info(info::Args),
    /// Write the packets behind rows
    Pcap(pcap::Args),
    /// Recompute every hash of a snapshot or ring
    Verify(verify::Args),
    /// Describe the tables and their columns
    Tables(tables::Args),
    /// List or clear the cached indexes
    Cache(cache::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed, or answered from a file that is damaged.
    Failed = 1,
    /// No rows, where the caller asked to be told.
    NoRows = 3,
    /// Packets of the time asked about are missing, where the caller asked to be told.
    Incomplete = 4,
    /// Something is not as it was recorded.
    Integrity = 5,
}

/// Parses the arguments, runs the command and prints what went wrong, once.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SHARKQ_LOG").unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(|| Shown::text(std::io::stderr()))
        .with_ansi(false)
        .init();
    let result = match cli.command {
        Command::Sql(args) => sql::run(&args),
        Command::Kfl(args) => kfl::run(args),
        Command::Index(args) => index::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Pcap(args) => pcap::run(args),
        Command::Verify(args) => verify::run(&args),
        Command::Tables(args) => tables::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

/// Prints why something failed. The text of an expression may have lines, with a caret under one.
fn complain(error: &anyhow::Error) {
    eprintln!("sharkq: {}", shown(&sentence(error)));
}

/// Prints one line for the person to standard error: names of files, objects and clusters are in it, which others chose.
fn tell(line: impl Display) {
    eprintln!("{}", shown_in_line(&line.to_string()));
}

/// The chain of causes in one line, without repeating one inside the other.
fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(broken))
}

/// Lines to standard output or a file, as a terminal may have them.
fn write_lines_to(
    file: Option<&Path>,
    write: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    write_to(file, |out| {
        let mut lines = Shown::text(out);
        write(&mut lines)?;
        Ok(lines.flush()?)
    })
}

/// A file that only its owner reads: what was recorded may be secret.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Standard output, or the file that `-o` names; the file appears when it is whole.
fn write_to(
    file: Option<&Path>,
    write: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    use anyhow::Context;
    let Some(path) = file.filter(|path| path.as_os_str() != "-") else {
        let mut out = std::io::BufWriter::new(std::io::stdout());
        write(&mut out)?;
        return Ok(out.flush()?);
    };
    let shown = || format!("{} cannot be written", path.display());
    // A pipe or a device is written as it is; a file is replaced by one that is whole.
    let is_file = std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
    let half = is_file.then(|| Half(half_of(path)));
    let target = half.as_ref().map_or(path, |half| &half.0);
    let mut out = std::io::BufWriter::new(private(target).with_context(shown)?);
    let written = write(&mut out).and_then(|()| Ok(out.flush()?));
    match written {
        Err(error) if is_of_writing(&error) => return Err(error.context(shown())),
        other => other?,
    }
    half.map_or(Ok(()), |half| std::fs::rename(&half.0, path)).with_context(shown)
}

/// Of the writers, and not of what was asked or read.
fn is_of_writing(error: &anyhow::Error) -> bool {
    error.is::<std::io::Error>()
        || error.is::<arrow::error::ArrowError>()
        || error.is::<parquet::errors::ParquetError>()
}

/// A file not yet whole, gone when it never becomes so.
struct Half(PathBuf);

impl Drop for Half {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn half_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}
