//! `sharkrec completions`: completion scripts, made from the same definitions as the parser.

use clap::CommandFactory;

/// Print the completion script of a shell
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sharkrec completions bash > /etc/bash_completion.d/sharkrec")]
pub struct Arguments {
    shell: clap_complete::Shell,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Arguments::command(), "sharkrec", &mut script);
        std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
        Ok(())
    }
}
