//! What all commands over a source share: naming it, how it is indexed, and opening it.

use std::path::PathBuf;

use clap::Args;
use shark_dissect::dissector::Options;
use tokio::runtime::Runtime;

use super::Exit;
use crate::cache::{self, Ready};
use crate::index::IndexOptions;
use crate::session::Session;
use crate::source::Sources;

/// A source and how it is indexed.
#[derive(Args)]
pub struct SourceArgs {
    /// Capture files, segments, rings, snapshots, or one index; - for standard input
    #[arg(value_name = "SRC", required = true)]
    pub sources: Vec<String>,
    #[command(flatten)]
    pub index: IndexArgs,
}

/// How a source is indexed.
#[derive(Args)]
pub struct IndexArgs {
    /// File that says who owned an address and when (a JSON array)
    #[arg(long, value_name = "FILE", env = "SHARKQ_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// Bytes kept of each body: a number, none or all
    #[arg(long, value_name = "N", default_value = "4096", value_parser = bodies, env = "SHARKQ_BODIES")]
    pub bodies: usize,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", env = "SHARKQ_THREADS", value_parser = threads)]
    pub threads: Option<usize>,
}

fn bodies(text: &str) -> Result<usize, String> {
    match text {
        "none" => Ok(0),
        "all" => Ok(usize::MAX),
        number => number.parse().map_err(|_| "give a number of bytes, none or all".into()),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("give a number from 1 to 1024".into()),
    }
}

impl IndexArgs {
    /// The options, with every core used unless told otherwise.
    pub fn options(&self, packets: bool) -> IndexOptions {
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        IndexOptions { dissect: Options { body_bytes: self.bodies, packets }, threads }
    }
}

/// An opened source.
pub struct Opened {
    /// Its files.
    pub sources: Sources,
    /// Its index.
    pub ready: Ready,
    /// Its tables.
    pub session: Session,
    /// Where queries run.
    pub runtime: Runtime,
}

/// A runtime for queries and for stores.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

impl SourceArgs {
    /// Opens the source, indexing it if that was not done before, and says on standard error what a person should know.
    pub fn open(&self) -> anyhow::Result<Opened> {
        let runtime = runtime()?;
        let sources = Sources::open(&self.sources, runtime.handle())?;
        let options = self.index.options(false);
        let ready = cache::open(&sources, self.index.identity.as_deref(), &options)?;
        warn(&ready);
        let session = runtime.block_on(Session::open(&ready.folder, options.threads))?;
        Ok(Opened { sources, ready, session, runtime })
    }
}

/// Says what the index knows against itself.
pub fn warn(ready: &Ready) {
    for line in ready.note.warnings.iter().chain(&ready.note.damage) {
        eprintln!("sharkq: warning: {line}");
    }
}

/// An answer from a damaged file is no success.
pub fn exit(ready: &Ready) -> Exit {
    if ready.note.corrupt { Exit::Failed } else { Exit::Done }
}
