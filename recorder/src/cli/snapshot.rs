//! `sharkrec snapshot`: save a window of the ring.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use shark_schema::manifest::{Ulid, Window};

use crate::snapshot::{Wanted, take};
use crate::time::{now_ns, parse_moment};

/// Save a window of the ring, immutable and verifiable; prints its URL
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sharkrec snapshot --ring /var/lib/sharkrec --since 10m
  sharkrec snapshot --ring /var/lib/sharkrec --since 2026-11-21T03:00:00Z --until 2026-11-21T03:20:00Z \\
      --to s3://incidents/prod --name checkout-503 --reason 'alert 4711'
  Buckets are reached with the usual environment: AWS_ACCESS_KEY_ID, AWS_ENDPOINT …, GOOGLE_SERVICE_ACCOUNT …,
  AZURE_STORAGE_ACCOUNT_NAME …; an endpoint of plain http needs AWS_, GOOGLE_ or AZURE_ALLOW_HTTP=true.

An upload over a recorded interface is not recorded, in either direction, where the recorder has BPF (see
`sharkrec doctor`) and the snapshot may mark its sockets (CAP_NET_ADMIN) in the recorder's network namespace.")]
pub struct Arguments {
    /// Start of the window: a duration before now, or a time
    #[arg(long, value_name = "WHEN")]
    since: String,
    /// End of the window [default: now]
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Directory of the ring
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: PathBuf,
    /// Directory, file:, s3:, gs: or az: URL [default: <ring>/snapshots]
    #[arg(long, env = "SHARKREC_TO", value_name = "URL")]
    to: Option<String>,
    /// Where `sharkrec witness` has the log of the cluster: http://HOST:PORT, or its directory
    #[arg(long, env = "SHARKREC_WITNESS", value_name = "URL")]
    witness: Option<String>,
    /// Name of the incident
    #[arg(long)]
    name: Option<String>,
    /// Why it was taken
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Complete a snapshot that was interrupted
    #[arg(long, value_name = "ID")]
    resume: Option<Ulid>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let window = self.window().unwrap_or_else(|error| super::usage(error));
        let to = self.to.unwrap_or_else(|| {
            let dir = self.ring.join("snapshots").display().to_string();
            tracing::warn!("no --to: the snapshot stays on this disk, in {dir}");
            dir
        });
        let Arguments { ring, witness, name, reason, resume, .. } = self;
        let wanted = Wanted { ring, window, to, witness, name, reason, resume };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = runtime.block_on(take(&wanted))?;
        writeln!(io::stdout().lock(), "{url}")?;
        Ok(())
    }

    fn window(&self) -> anyhow::Result<Window> {
        let now = now_ns();
        let from_ns = parse_moment(&self.since, now).context("--since")?;
        let to_ns =
            self.until.as_deref().map_or(Ok(now), |text| parse_moment(text, now)).context("--until")?;
        ensure!(from_ns <= to_ns, "the window ends before it starts");
        Ok(Window { from_ns, to_ns })
    }
}
