//! What all commands over a source share: naming it, how it is indexed, and opening it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;
use shark_dissect::layer::Options;
use shark_schema::identity::Fact;
use tokio::runtime::Runtime;

use super::{Exit, tell};
use crate::asked::Asked;
use crate::cache::{self, Ready};
use crate::coverage::Coverage;
use crate::index::{Evidence, IndexOptions};
use crate::session::{Answer, Session};
use crate::source::Sources;
use crate::survey::{Part, Survey};
use crate::times::{Stretch, TimeArgs, span_ns};

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
    /// Its tables; of a source that was only surveyed those that tell of the recording itself.
    pub session: Arc<Session>,
    /// What is known of a source that is not indexed.
    pub survey: Option<Survey>,
    /// The part of a source that was read, where it was not the whole.
    pub part: Option<Part>,
    /// Where queries run.
    pub runtime: Runtime,
    /// Zone of the times that people read.
    pub zone: TimeZone,
}

/// A runtime for queries and for stores.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("threads cannot be started")
}

/// How much of a source is read that is not indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its packets, for an index; of a time that is asked about those up to so many nanoseconds before and
    /// after it.
    Packets(i64),
    /// Its packets where it has no sidecars, else what those do not tell.
    Sidecars,
    /// What its sidecars do not tell.
    Evidence,
    /// The same, and the hashes of its segments.
    Hashes,
}

/// How far a question about a time reads.
#[derive(Args, Clone, Copy, Debug)]
pub struct MarginArgs {
    /// How far before and after the time asked about packets are read where a recording is not indexed
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    margin: i64,
}

fn span(text: &str) -> Result<i64, String> {
    span_ns(text).ok_or_else(|| "give a span such as 30s, 5m or 1h".into())
}

impl MarginArgs {
    /// Packets with this margin.
    pub fn reading(self) -> Reading {
        Reading::Packets(self.margin)
    }
}

impl SourceArgs {
    /// Opens the source: by its index, which is made where there is none and the reading needs it. Says on
    /// standard error what a person should know.
    pub fn open(&self, times: &TimeArgs, reading: Reading) -> anyhow::Result<Opened> {
        let zone = times.zone()?;
        let runtime = runtime()?;
        let mut sources = Sources::open(&self.sources, runtime.handle())?;
        let options = self.index.options(false);
        let identity = self.index.identity.as_deref();
        let is_told = sources.files.iter().any(|file| file.sidecar.is_some());
        let needs_all = match reading {
            Reading::Packets(_) => !is_told || !times.are_given(),
            Reading::Sidecars => !is_told,
            Reading::Evidence | Reading::Hashes => false,
        };
        let found = match needs_all {
            true => Some(cache::open(&sources, identity, &options)?),
            false => cache::find(&sources, identity, &options)?,
        };
        let (mut survey, mut part) = (None, None);
        let (ready, within) = match found {
            Some(ready) => {
                let windows = ready.note.files.iter().filter_map(|file| file.stats.window);
                let within = times.stretch(recorded(&sources, windows))?;
                (ready, within)
            }
            None => {
                let mut known = Survey::of(&sources, options.threads)?;
                let within = times.stretch(recorded(&sources, known.windows()))?;
                if let Reading::Packets(margin_ns) = reading {
                    part = known.leave_out(&mut sources, within, margin_ns);
                    (cache::open(&sources, identity, &options)?, within)
                } else {
                    if reading == Reading::Hashes {
                        known.compare_hashes(&sources, within, options.threads)?;
                    }
                    let which = match reading {
                        Reading::Sidecars => Evidence::Segments,
                        _ => Evidence::Coverage,
                    };
                    let ready = cache::survey(&sources, &known, which, identity)?;
                    survey = Some(known);
                    (ready, within)
                }
            }
        };
        warn(&ready);
        let session = Arc::new(Session::open(&ready.folder, options.threads, within)?);
        Ok(Opened { sources, ready, session, survey, part, runtime, zone })
    }
}

/// From the first to the last packet, those that were rotated out among them.
fn recorded(sources: &Sources, windows: impl Iterator<Item = (i64, i64)>) -> Stretch {
    let evicted = sources.facts.iter().filter_map(|(_, record)| match &record.fact {
        Fact::Evicted(evicted) => evicted.min_ns.zip(evicted.max_ns),
        _ => None,
    });
    let windows = windows.chain(evicted);
    let (from_ns, to_ns) =
        windows.fold((None, None), |(from_ns, to_ns): (Option<i64>, Option<i64>), (first, last)| {
            (Some(from_ns.map_or(first, |ns| ns.min(first))), to_ns.max(Some(last)))
        });
    Stretch { from_ns, to_ns }
}

/// How answers tell what they are worth.
#[derive(Args, Clone, Copy, Debug)]
pub struct FooterArgs {
    /// Do not print the coverage under results
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Exit with 4 when packets of the time asked about, plaintext of calls in it, or what proves the names asked for, are missing
    #[arg(long)]
    pub strict: bool,
}

/// Keeps the coverage of each time asked about.
pub struct Footers {
    args: FooterArgs,
    known: HashMap<Asked, Coverage>,
    /// An answer was about a time of which packets are missing.
    pub incomplete: bool,
}

impl Footers {
    /// Printed, heeded or neither.
    pub fn new(args: FooterArgs) -> Footers {
        Footers { args, known: HashMap::new(), incomplete: false }
    }

    /// Prints what stands under an answer, to standard error.
    pub fn under(&mut self, answer: &Answer, opened: &Opened) -> anyhow::Result<()> {
        if answer.asked.is_none() && !self.args.quiet {
            // Tables that tell of the recording itself tell of the other segments by their sidecars alone.
            opened.part.iter().for_each(|part| tell(format_args!("sharkq: {}", part.line(&opened.zone))));
        }
        let Some(asked) = answer.asked.filter(|_| !self.args.quiet || self.args.strict) else {
            return Ok(());
        };
        if let Entry::Vacant(entry) = self.known.entry(asked) {
            let coverage = opened.runtime.block_on(Coverage::of(&opened.session, asked))?;
            entry.insert(Coverage { part: opened.part, ..coverage });
        }
        let coverage = &self.known[&asked];
        self.incomplete |= coverage.is_incomplete();
        if !self.args.quiet {
            coverage.lines(&opened.zone).iter().for_each(tell);
        }
        Ok(())
    }

    /// How a command ends that would end well.
    pub fn exit(&self, rows: usize, wants_rows: bool, ready: &Ready) -> Exit {
        match exit(ready) {
            Exit::Done if self.args.strict && self.incomplete => Exit::Incomplete,
            Exit::Done if wants_rows && rows == 0 => Exit::NoRows,
            other => other,
        }
    }
}

/// Says what the index knows against itself.
pub fn warn(ready: &Ready) {
    for line in ready.note.warnings.iter().chain(&ready.note.damage) {
        tell(format_args!("sharkq: warning: {line}"));
    }
}

/// An answer from a damaged file is no success.
pub fn exit(ready: &Ready) -> Exit {
    if ready.note.corrupt { Exit::Failed } else { Exit::Done }
}
