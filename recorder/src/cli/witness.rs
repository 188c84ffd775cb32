//! `sharkrec witness`: from options to a running witness.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::config::read_file;
use crate::units::parse_bytes;
use crate::witness::cluster::{Settings, witness};
use crate::witness::kube::{Kube, Scope};

/// Note everything of a cluster that names an endpoint, until stopped; one is enough for a cluster
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sharkrec witness --ring /var/lib/sharkrec-witness --listen :7778
  sharkrec snapshot --since 10m --witness http://sharkrec-witness:7778

It reads pods, services, endpoint slices, nodes, namespaces, network policies and events, and the metadata of replica sets
and jobs; never secrets, and of a pod neither environment nor commands. It needs the rights get, list and watch.")]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// TOML or JSON file with the same names as the flags; flags and environment win
    #[arg(long, env = "SHARKREC_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// As given; the same names in a file and, with SHARKREC_ in front, in the environment.
#[derive(Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Options {
    /// Directory of the log
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: Option<PathBuf>,
    /// Disk budget [default: 1GiB]
    #[arg(long, env = "SHARKREC_RING_SIZE", value_name = "SIZE")]
    ring_size: Option<String>,
    /// Where to serve the log, over HTTP; `:PORT` is every address. Whoever reaches it can read names, labels and addresses
    #[arg(long, env = "SHARKREC_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Name of the cluster
    #[arg(long, env = "SHARKREC_CLUSTER", value_name = "NAME")]
    cluster: Option<String>,
    /// How to reach the API server [default: KUBECONFIG, ~/.kube/config, the pod's service account]
    #[arg(long, env = "SHARKREC_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let options = match &self.config {
            Some(path) => self.options.or_from(path)?,
            None => self.options,
        };
        witness(options.settings().unwrap_or_else(|error| super::usage(error)))
    }
}

impl Options {
    fn or_from(self, path: &Path) -> anyhow::Result<Options> {
        let file: Options = read_file(path)?;
        Ok(Options {
            ring: self.ring.or(file.ring),
            ring_size: self.ring_size.or(file.ring_size),
            listen: self.listen.or(file.listen),
            cluster: self.cluster.or(file.cluster),
            kubeconfig: self.kubeconfig.or(file.kubeconfig),
        })
    }

    fn settings(self) -> anyhow::Result<Settings> {
        let listen = self.listen.as_deref().map(str::parse);
        let size = self.ring_size.as_deref().unwrap_or("1GiB");
        let ring_bytes = parse_bytes(size).map_err(|why| anyhow::anyhow!("--ring-size: {why}"))?;
        ensure!(ring_bytes >= 1 << 20, "--ring-size: a log of a cluster needs at least 1MiB");
        Ok(Settings {
            ring: self.ring.context("--ring DIR is missing: the directory of the log")?,
            ring_bytes,
            cluster: self.cluster.unwrap_or_default(),
            listen: listen.transpose().map_err(|why| anyhow::anyhow!("--listen: {why}"))?,
            kube: Kube { scope: Scope::Cluster, kubeconfig: self.kubeconfig },
        })
    }
}
