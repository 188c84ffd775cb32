//! `sharkrec snapshot`: save a window of the ring.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use shark_schema::manifest::{Ulid, Window};

use crate::config::host_name;
use crate::ring::{LOCAL_SNAPSHOTS, Ring};
use crate::snapshot::{Wanted, resume, take};
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
    #[arg(long, value_name = "WHEN", required_unless_present = "resume")]
    since: Option<String>,
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
    /// Take it also where the ring has no packet of the window
    #[arg(long)]
    allow_empty: bool,
    /// Complete a snapshot that was interrupted, as it was asked for then; the rest is needed only where the ring has let it go
    #[arg(long, value_name = "ID")]
    resume: Option<Ulid>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let window = self.window().unwrap_or_else(|error| super::usage(error));
        let ring = Ring::open(&self.ring)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let resumed = self.resume;
        let wanted = window.map(|window| self.wanted(window)).transpose()?;
        let url = runtime.block_on(async {
            match (resumed, wanted) {
                (Some(id), again) => resume(&ring, &id, again).await,
                (None, Some(wanted)) => take(&ring, &wanted).await,
                (None, None) => bail!("--since is missing"),
            }
        })?;
        writeln!(io::stdout().lock(), "{url}")?;
        Ok(())
    }

    fn wanted(self, window: Window) -> anyhow::Result<Wanted> {
        let to = self.to.unwrap_or_else(|| {
            let dir = self.ring.join(LOCAL_SNAPSHOTS).display().to_string();
            tracing::warn!("no --to: the snapshot stays on this disk, in {dir}");
            dir
        });
        let witness = self.witness.map(absolute).transpose()?;
        let (name, reason, requester) = (self.name, self.reason, requester());
        let (to, allow_empty) = (absolute(to)?, self.allow_empty);
        Ok(Wanted { window, to, witness, name, reason, requester, allow_empty })
    }

    fn window(&self) -> anyhow::Result<Option<Window>> {
        let Some(since) = &self.since else { return Ok(None) };
        let now = now_ns();
        let from_ns = parse_moment(since, now).context("--since")?;
        let to_ns =
            self.until.as_deref().map_or(Ok(now), |text| parse_moment(text, now)).context("--until")?;
        ensure!(from_ns <= to_ns, "the window ends before it starts");
        Ok(Some(Window { from_ns, to_ns }))
    }
}

/// Who resumes it may stand somewhere else.
fn absolute(place: String) -> anyhow::Result<String> {
    match place.contains("://") || place.starts_with("file:") {
        true => Ok(place),
        false => Ok(std::path::absolute(&place).context(place)?.display().to_string()),
    }
}

fn requester() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    format!("{}@{}", user.unwrap_or_else(|| "unknown".to_owned()), host_name())
}
