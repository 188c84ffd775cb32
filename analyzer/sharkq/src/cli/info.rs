//! `sharkq info`: what is in a recording.

use super::open::{Reading, exit};
use super::{Exit, SourceArgs, write_to};
use crate::info;
use crate::print::Format;
use crate::times::TimeArgs;

/// Say what is in a recording: time, loss, and bytes by protocol with what is encrypted, unrecognised or began earlier.
///
/// Of a snapshot or a ring that is not indexed its manifests, sidecars and logs tell, against the names and
/// sizes of its files; its segments are not read. What only their bytes show is found by `sharkq verify`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Index a snapshot or a ring that is not indexed yet: only that tells bytes by protocol
    #[arg(long)]
    protocols: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let reading = if args.protocols { Reading::Packets(0) } else { Reading::Sidecars };
    let opened = args.source.open(&TimeArgs::default(), reading)?;
    let unread = opened.survey.as_ref().map(|survey| survey.unread(&opened.sources, None));
    let mut text = Vec::new();
    opened.runtime.block_on(info::write(&opened.ready, &opened.session, unread, args.format, &mut text))?;
    write_to(None, |out| Ok(out.write_all(&text)?))?;
    Ok(exit(&opened.ready))
}
