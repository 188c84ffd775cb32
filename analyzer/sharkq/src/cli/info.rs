//! `sharkq info`: what is in a recording.

use super::open::exit;
use super::{Exit, SourceArgs, write_to};
use crate::info;
use crate::print::Format;
use crate::times::TimeArgs;

/// Say what is in a recording: time, loss, and bytes by protocol with what is encrypted, unrecognised or began earlier.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let opened = args.source.open(&TimeArgs::default())?;
    let mut text = Vec::new();
    opened.runtime.block_on(info::write(&opened.ready, &opened.session, args.format, &mut text))?;
    write_to(None, |out| Ok(out.write_all(&text)?))?;
    Ok(exit(&opened.ready))
}
