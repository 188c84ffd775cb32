//! `sharkrec snapshot`: an immutable copy of a window of this node's ring, with manifests that make it verifiable.
//! In: a ring, a running recorder's or a dead one's, and a place. Out: the URL of the snapshot.
//! The ring's data is only read; what is being copied is pinned, so that eviction cannot take it, also while nobody copies.

mod gather;
mod manifest;
mod pins;
mod plan;
mod store;
mod target;
mod upload;
mod witness;

pub use gather::{Gathered, Item};
pub use pins::{Interrupted, Pins, UnderWay, interrupted, under_way};
pub use target::{Target, TargetError};
pub use witness::FileList;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use shark_schema::manifest::{NodeManifest, Ulid, Window, node_manifest_path};

use self::plan::Plan;
use crate::api;
use crate::ring::{GIVEN_UP, LOCAL_SNAPSHOTS, Ring};
use crate::segment::chain_hash;
use crate::time::{new_ulid, show};
use crate::units::show_bytes;

/// What is asked for; noted beside the pins, so that it need not be said again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    pub window: Window,
    /// `file:`, `s3:`, `gs:`, `az:` or a directory.
    pub to: String,
    /// The cluster's witness: its URL or its directory.
    pub witness: Option<String>,
    pub name: Option<String>,
    pub reason: Option<String>,
    pub requester: String,
    /// A snapshot without a packet is wanted, too.
    #[serde(default)]
    pub allow_empty: bool,
}

/// Gives the URL.
pub async fn take(ring: &Ring, wanted: &Wanted) -> anyhow::Result<String> {
    let id = new_ulid().context("/dev/urandom")?;
    let _left_out = leave_out(ring);
    let target = Target::open(&wanted.to, &id.to_string())?;
    // A wrong key or a missing bucket shows before anything is sealed or pinned.
    target.check(false).await?;
    let local = ring.root().join(LOCAL_SNAPSHOTS);
    if std::path::Path::new(wanted.to.trim_start_matches("file://")).starts_with(&local) {
        has_room(ring, &local)?;
    }
    let pins = Pins::new(ring, &id.to_string())?;
    pins.note_wanted(wanted)?;
    complete(ring, &id, wanted, &target, pins, false).await
}

/// Completes what was begun, as it was wanted then; `again` is what is wanted where nothing is noted any more.
pub async fn resume(ring: &Ring, id: &Ulid, again: Option<Wanted>) -> anyhow::Result<String> {
    let pins = Pins::new(ring, &id.to_string())?;
    let noted = pins.wanted()?;
    let Some(wanted) = noted.or(again) else {
        let dir = pins.dir.display().to_string();
        pins.let_go();
        anyhow::bail!(
            "--resume: nothing is noted in {dir} any more; say again what is wanted: --since, --to …"
        );
    };
    let _left_out = leave_out(ring);
    let target = Target::open(&wanted.to, &id.to_string())?;
    if let Err(error) = target.check(true).await {
        if matches!(error, TargetError::Complete(_)) {
            pins.let_go();
        }
        return Err(error.into());
    }
    pins.note_wanted(&wanted)?;
    complete(ring, id, &wanted, &target, pins, true).await
}

async fn complete(
    ring: &Ring,
    id: &Ulid,
    wanted: &Wanted,
    target: &Target,
    pins: Pins,
    resumed: bool,
) -> anyhow::Result<String> {
    if let Err(error) = copy(ring, id, wanted, target, &pins, resumed).await {
        if error.is::<EmptyWindow>() {
            pins.let_go();
            return Err(error);
        }
        if pins.dir.join(GIVEN_UP).exists() {
            pins.let_go();
            return Err(error.context(
                "the ring needed the room that this snapshot held, which took too long; give a larger ring or a nearer target",
            ));
        }
        let ring = ring.root().display();
        tracing::warn!("it is kept for a day: `sharkrec snapshot --ring {ring} --resume {id}` completes it");
        return Err(error);
    }
    pins.let_go();
    Ok(target.url())
}

/// What is uploaded from now on is not recorded, as long as the answer lives.
fn leave_out(ring: &Ring) -> Option<Arc<api::LeftOut>> {
    let left_out = api::ask_leave_out(ring).map(Arc::new);
    upload::leave_out(left_out.as_ref());
    left_out
}

/// Snapshots that lie in the ring's folder share its disk, and the ring's budget knows nothing of them.
fn has_room(ring: &Ring, local: &std::path::Path) -> anyhow::Result<()> {
    let Some(limit) = api::ask_status(ring).and_then(|status| status.ring_limit_bytes) else { return Ok(()) };
    let taken = bytes_below(local);
    ensure!(
        taken < limit / 2,
        "the snapshots in {} take {}, half of the ring's {}: remove some, or give another place by --to",
        local.display(),
        show_bytes(taken),
        show_bytes(limit)
    );
    Ok(())
}

/// Bytes of all files below a folder; none where there is no such folder.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |meta| meta.len()),
        _ => 0,
    };
    entries.map(bytes).sum()
}

/// A window that reaches beyond what the ring has is no mistake, but nobody should find that out later.
fn say_what_is_missing(ring: &Ring, wanted: &Wanted, node: &NodeManifest) -> anyhow::Result<()> {
    let Window { from_ns, to_ns } = wanted.window;
    let Some(real) = node.real else {
        let window = format!("{} to {}", show(from_ns), show(to_ns));
        ensure!(wanted.allow_empty, EmptyWindow { ring: ring.root().to_owned(), window });
        tracing::warn!("no packet of {window} is in the ring");
        return Ok(());
    };
    if real.from_ns - from_ns > NOTABLE_NS {
        let length = Duration::from_nanos(real.from_ns.abs_diff(from_ns));
        tracing::warn!(
            "the ring has no packet before {}: the first {:.0?} of the window are not in the snapshot",
            show(real.from_ns),
            Duration::from_secs(length.as_secs())
        );
    }
    Ok(())
}

/// Nothing would be in the snapshot.
#[derive(Debug, thiserror::Error)]
#[error("the ring {} has no packet of {window}; give another --since, or --allow-empty to save its log alone", ring.display())]
struct EmptyWindow {
    ring: PathBuf,
    window: String,
}

/// A window that begins less than this before the first packet is complete to a person.
const NOTABLE_NS: i64 = 2_000_000_000;

async fn copy(
    ring: &Ring,
    id: &Ulid,
    wanted: &Wanted,
    target: &Target,
    pins: &Pins,
    resumed: bool,
) -> anyhow::Result<()> {
    let path = node_manifest_path(&ring.file.node);
    let below = format!("nodes/{}", ring.file.node);
    let stored = if resumed { target.find(&path).await? } else { None };
    let plan = Plan::of(ring, id, wanted, pins, stored.clone()).await?;
    say_what_is_missing(ring, wanted, &NodeManifest::from_bytes(&plan.node)?)?;
    if resumed {
        target.keep_only(&[&below, "cluster"], &plan.kept).await?;
    }
    match stored {
        Some(stored) => ensure!(stored == plan.node, "{path} in {} is of another snapshot", target.url()),
        None => {
            target.put_all(&below, &plan.of_node(pins)?).await?;
            target.create(&path, plan.node.clone()).await?;
        }
    }
    target.put_all("", &plan.of_cluster(pins)?).await?;
    let sha256 = chain_hash(&plan.top);
    target.create("manifest.json", plan.top).await?;
    tracing::info!("manifest.json has SHA-256 {sha256}; `sharkq verify --sha256` compares it");
    Ok(())
}
