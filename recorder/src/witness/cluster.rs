//! `sharkrec witness`: the whole wiring of a cluster's witness.
//! In: the API server, and a directory. Out: a log of everything that names an endpoint, for snapshots to fetch.
//! One for a cluster: recorders watch their own pods only, so that the API server has one watcher of everything.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shark_schema::identity::{Fact, Start, Stop};
use shark_schema::segment::Counters;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::kube::{Kube, Watching};
use super::serve::{self, Listen};
use crate::api::{self, Answers, SealedNames, Status};
use crate::log::Log;
use crate::record::versions;
use crate::ring::Ring;
use crate::segment::hex;
use crate::time::{now_ns, watch_clock};

/// Complete and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    pub ring: PathBuf,
    pub ring_bytes: u64,
    pub cluster: String,
    pub listen: Option<Listen>,
    pub kube: Kube,
}

/// In place of a node's name, which no node can have: it is no DNS label.
const NAME: &str = "cluster_witness";
const LOOK: Duration = Duration::from_secs(10);

/// Until a signal.
pub fn witness(settings: Settings) -> anyhow::Result<()> {
    let config_sha256 = hex(&Sha256::digest(serde_json::to_vec(&settings)?));
    let (ring, _lock) = Ring::create(&settings.ring, NAME, &settings.cluster)?;
    // Facts are all there is, and they have half of what a log may take.
    let log = Log::open(&ring, 2 * settings.ring_bytes, "witness");
    let log = Arc::new(log.with_context(|| ring.log().display().to_string())?);
    let kube = settings.kube.prepare(&log);
    log.write(Fact::Start(start_fact(config_sha256, settings.ring_bytes)));
    let watching = kube.start().context("watches of Kubernetes")?;
    let served = Arc::new(Served {
        ring: ring.clone(),
        ring_bytes: settings.ring_bytes,
        log: log.clone(),
        watching: watching.clone(),
        started_ns: now_ns(),
    });
    api::serve(&ring, served.clone())?;
    match settings.listen {
        Some(listen) => {
            let address = serve::serve(listen, &ring, served).context("--listen")?;
            tracing::info!("witnessing into {}, served at http://{address}", settings.ring.display());
        }
        None => tracing::info!("witnessing into {}", settings.ring.display()),
    }
    wait(&log)?;
    watching.stop();
    log.write(Fact::Stop(Stop {
        reason: "signal".to_owned(),
        totals: Counters::default(),
        recorded_until_ns: None,
    }));
    log.rotate().with_context(|| ring.log().display().to_string())?;
    let _ = std::fs::remove_file(ring.socket());
    Ok(())
}

/// Keeps the clock's facts and the log's budget until a signal comes.
fn wait(log: &Log) -> anyhow::Result<()> {
    let (sender, signal) = channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("signals")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            let _ = sender.send(());
        }
    })?;
    let mut clock = watch_clock(None, log);
    while signal.recv_timeout(LOOK).is_err() {
        clock = watch_clock(Some(clock), log);
        log.prune();
    }
    Ok(())
}

struct Served {
    ring: Ring,
    ring_bytes: u64,
    log: Arc<Log>,
    watching: Watching,
    started_ns: i64,
}

impl Answers for Served {
    fn status(&self) -> Status {
        Status {
            alive: true,
            pid: Some(std::process::id()),
            started_ns: Some(self.started_ns),
            ring_bytes: self.log.prune(),
            ring_limit_bytes: Some(self.ring_bytes),
            kube: Some(self.watching.status()),
            tls: None,
            interrupted: Vec::new(),
            ..api::of_files(&self.ring)
        }
    }

    fn seal(&self) -> SealedNames {
        if let Err(error) = self.log.rotate() {
            tracing::warn!("log: {error}");
        }
        SealedNames { sealed: Vec::new() }
    }
}

fn start_fact(config_sha256: String, ring_bytes: u64) -> Start {
    let versions = versions();
    Start {
        recorder_version: versions.recorder,
        kernel: versions.kernel,
        config_sha256,
        pid: std::process::id(),
        boot_id: None,
        ring_bytes,
        filter: None,
        snaplen: 0,
        replay: None,
        after: Vec::new(),
    }
}
