//! `sharkrec record`: from options to a running recorder.

use std::path::PathBuf;

use crate::config::{Options, Settings};
use crate::record::record;

/// Record interfaces into a ring until stopped, or replay a capture into one
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sharkrec record --ring /var/lib/sharkrec --iface eth0 --iface veth1 --ring-size 10GiB
  sharkrec record --ring /tmp/ring --read incident.pcap")]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// TOML or JSON file with the same names as the flags; flags and environment win
    #[arg(long, env = "SHARKREC_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let options = match &self.config {
            Some(path) => self.options.or_from(path)?,
            None => self.options,
        };
        let settings = Settings::from(options).unwrap_or_else(|error| super::usage(error));
        record(&settings)
    }
}
