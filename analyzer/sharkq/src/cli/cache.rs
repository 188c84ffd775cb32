//! `sharkq cache`: the indexes made on first use.

use super::{Exit, tell, write_lines_to};
use shark_schema::shown::shown_in_line;

use crate::cache;

/// List or clear the cached indexes.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List them: bytes, last use, what they were made of
    Ls,
    /// Remove all of them
    Clear,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let folder = cache::folder();
    write_lines_to(None, |out| {
        match args.action {
            Action::Ls => {
                let entries = cache::list(&folder)?;
                for entry in &entries {
                    let used = jiff::Timestamp::try_from(entry.used)
                        .map(|time| time.to_string())
                        .unwrap_or_default();
                    let name = entry.folder.file_name().unwrap_or_default().to_string_lossy();
                    let files = if entry.is_interrupted {
                        "(interrupted; the next run or `sharkq cache clear` removes it)".into()
                    } else {
                        entry.files.join(" ")
                    };
                    writeln!(out, "{name}  {:>12} bytes  {used}  {}", entry.bytes, shown_in_line(&files))?;
                }
                let interrupted = entries.iter().filter(|entry| entry.is_interrupted).count();
                if !entries.is_empty() {
                    let (indexes, bytes) = (entries.len(), cache::bytes(&entries));
                    tell(format_args!("{indexes} indexes, {interrupted} of them interrupted, {bytes} bytes"));
                }
            }
            Action::Clear => {
                let (indexes, bytes) = cache::clear(&folder)?;
                writeln!(out, "removed {indexes} indexes, {bytes} bytes, from {}", folder.display())?;
            }
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
