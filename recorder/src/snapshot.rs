//! `sharkrec snapshot`: an immutable copy of a window of this node's ring, with manifests that make it verifiable.
//! In: a ring, a running recorder's or a dead one's, and a place. Out: the URL of the snapshot.
//! The ring is only read; what is being copied is pinned, so that eviction cannot take it.

mod gather;
mod manifest;
mod store;
mod target;
mod upload;
mod witness;

pub use gather::{Gathered, Item, Pins};
pub use target::{Target, TargetError};
pub use witness::FileList;

use std::path::PathBuf;

use anyhow::Context;
use shark_schema::manifest::{Manifest, Missing, Object, ObjectKind, Ulid, Window, node_manifest_path};

use crate::api;
use crate::log;
use crate::ring::Ring;
use crate::time::{new_ulid, now_ns};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub ring: PathBuf,
    pub window: Window,
    /// `file:`, `s3:`, `gs:`, `az:` or a directory.
    pub to: String,
    /// The cluster's witness: its URL or its directory.
    pub witness: Option<String>,
    pub name: Option<String>,
    pub reason: Option<String>,
    pub resume: Option<Ulid>,
}

/// Gives the URL.
pub async fn take(wanted: &Wanted) -> anyhow::Result<String> {
    let ring = Ring::open(&wanted.ring)?;
    let id = match wanted.resume {
        Some(id) => id,
        None => new_ulid().context("/dev/urandom")?,
    };
    let target = Target::open(&wanted.to, &id.to_string())?;
    // A wrong key or a missing bucket shows before anything is sealed or pinned.
    target.check(wanted.resume.is_some()).await?;

    let path = node_manifest_path(&ring.file.node);
    let whole = if wanted.resume.is_some() { target.find(&path).await? } else { None };
    let bytes = match whole {
        Some(bytes) => bytes,
        None => copy_ring(&ring, &id, wanted, &target, &path).await?,
    };
    let (cluster_log, missing) = copy_cluster_log(&ring, &id, wanted, &target).await?;
    let top = Manifest {
        format: shark_schema::manifest::MANIFEST_VERSION,
        id: id.to_string(),
        name: wanted.name.clone(),
        reason: wanted.reason.clone(),
        requester: requester(),
        cluster: ring.file.cluster.clone(),
        created_ns: now_ns(),
        wanted: wanted.window,
        nodes: vec![manifest::entry(&bytes)?],
        cluster_log,
        missing,
        versions: crate::record::versions(),
    };
    target.create("manifest.json", top.to_bytes()).await?;
    Ok(target.url())
}

/// Copies what the ring has of the window and, last, its manifest, whose bytes it gives.
async fn copy_ring(
    ring: &Ring,
    id: &Ulid,
    wanted: &Wanted,
    target: &Target,
    path: &str,
) -> anyhow::Result<Vec<u8>> {
    let sealed = api::ask_seal(ring);
    if sealed.is_none() {
        tracing::warn!("no answer from a recorder within 1 s: open files are read as they are");
    }
    let gathered = Gathered::pin(ring, &id.to_string(), wanted.window, sealed.is_some())?;
    tracing::info!("snapshot {id}: {} objects, {} bytes", gathered.items.len(), gathered.bytes());
    for missing in &gathered.missing {
        tracing::warn!("{}: {}", missing.what, missing.why);
    }
    if !gathered.items.iter().any(|item| item.kind == ObjectKind::Segment) {
        tracing::warn!("no segment of the ring has a packet in that window");
    }
    target.put_all(&format!("nodes/{}", ring.file.node), &gathered.items).await?;
    let bytes = manifest::of_node(ring, id, wanted, &gathered, sealed.is_some()).to_bytes();
    target.create(path, bytes.clone()).await?;
    Ok(bytes)
}

/// Copies what the cluster's witness saw; where that cannot be had, the snapshot goes without and says why.
async fn copy_cluster_log(
    ring: &Ring,
    id: &Ulid,
    wanted: &Wanted,
    target: &Target,
) -> anyhow::Result<(Vec<Object>, Vec<Missing>)> {
    let pins = Pins::new(ring, &format!("{id}-cluster"))?;
    let why = match &wanted.witness {
        Some(place) => match witness::fetch(place, wanted.window.from_ns, &pins.dir).await {
            Ok((cluster, items)) => {
                if cluster != ring.file.cluster {
                    let here = &ring.file.cluster;
                    tracing::warn!(
                        "--cluster: the witness says '{cluster}', this recorder '{here}': names do not meet"
                    );
                }
                target.put_all("", &items).await?;
                return Ok((items.iter().map(Object::from).collect(), Vec::new()));
            }
            Err(error) => format!("{error:#}"),
        },
        None if watches_kubernetes(ring) => {
            "its place was not given (--witness or SHARKREC_WITNESS)".to_owned()
        }
        None => return Ok((Vec::new(), Vec::new())),
    };
    tracing::warn!("the snapshot goes without the log of the cluster's witness: {why}");
    Ok((Vec::new(), vec![Missing { what: "log of the cluster's witness".to_owned(), why }]))
}

/// Where the recorder notes pods, there is a cluster, and its log is missed.
fn watches_kubernetes(ring: &Ring) -> bool {
    log::features(ring).iter().any(|name| name == "kube_pods")
}

fn requester() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    format!("{}@{}", user.unwrap_or_else(|| "unknown".to_owned()), crate::config::host_name())
}
