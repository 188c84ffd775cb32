//! `sharkq completions`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, write_to};

/// Print a completion script for a shell.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sharkq completions bash > /etc/bash_completion.d/sharkq")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sharkq", &mut script);
    write_to(None, |out| Ok(out.write_all(&script)?))?;
    Ok(Exit::Done)
}
