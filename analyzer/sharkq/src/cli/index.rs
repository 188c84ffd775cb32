//! `sharkq index`: an index in a folder of one's own.

use std::path::PathBuf;

use anyhow::ensure;
use shark_schema::shown::shown_in_line;

use super::open::{IndexArgs, runtime};
use super::{Exit, SourceArgs, tell};
use crate::identity::Identities;
use crate::index::build;
use crate::progress::Progress;
use crate::source::Sources;

/// Make an index: Parquet tables that DuckDB, Polars, Spark and Trino read.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sharkq index ring/ -o index && duckdb -c \"SELECT count(*) FROM 'index/tables/http/*.parquet'\""
)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Folder to make; it must not exist
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: PathBuf,
    /// Also write the table `packets`
    #[arg(long)]
    packets: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    ensure!(!args.output.exists(), "{} exists; give a folder that does not", args.output.display());
    let runtime = runtime()?;
    let sources = Sources::open(&args.source.sources, runtime.handle())?;
    ensure!(sources.index.is_none(), "that is an index already");
    let IndexArgs { identity, .. } = &args.source.index;
    let identities = identity.as_deref().map(Identities::read).transpose()?.unwrap_or_default();
    let options = args.source.index.options(args.packets);
    let note = build(&sources, &identities, &options, &args.output, &Progress::new("indexing"))?;
    for line in note.warnings.iter().chain(&note.damage) {
        tell(format_args!("sharkq: warning: {line}"));
    }
    println!("{}", shown_in_line(&args.output.display().to_string()));
    Ok(if note.corrupt { Exit::Failed } else { Exit::Done })
}
