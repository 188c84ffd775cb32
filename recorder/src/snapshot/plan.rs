//! What a snapshot will be: both manifests, made and noted before the first object is copied, so that whoever resumes it copies
//! the same. In: what is wanted, the ring, the cluster's witness. Out: the manifests' bytes, and the files behind their objects.

use std::collections::BTreeSet;
use std::path::Path;

use shark_schema::manifest::{
    MANIFEST_VERSION, Manifest, ManifestError, Missing, NodeManifest, Object, Ulid, node_manifest_path,
};

use super::{Gathered, Item, Pins, Wanted, manifest, witness};
use crate::api;
use crate::log;
use crate::record::versions;
use crate::ring::Ring;
use crate::time::now_ns;

pub struct Plan {
    pub node: Vec<u8>,
    pub top: Vec<u8>,
    /// What may lie in the store already and is as planned. Anything else an attempt left may look like ours and be different.
    pub kept: BTreeSet<String>,
}

/// Their names beside the pins; of the witness's files, the folder's.
const NODE: &str = "node.json";
const TOP: &str = "manifest.json";
const CLUSTER: &str = "cluster";

impl Plan {
    /// As far as it was noted, else made now. `stored` is the manifest of the node's part where that lies in the store already.
    pub async fn of(
        ring: &Ring,
        id: &Ulid,
        wanted: &Wanted,
        pins: &Pins,
        stored: Option<Vec<u8>>,
    ) -> anyhow::Result<Plan> {
        let mut kept = BTreeSet::new();
        let node = match pins.noted(NODE)?.or(stored) {
            Some(node) => {
                let manifest = NodeManifest::from_bytes(&node)?;
                let path = |object: &Object| format!("nodes/{}/{}", manifest.node, object.path);
                kept.extend(manifest.objects.iter().map(path));
                kept.insert(node_manifest_path(&manifest.node));
                node
            }
            None => gather(ring, id, wanted, pins)?,
        };
        pins.note(NODE, &node)?;
        if let Some(top) = pins.noted(TOP)? {
            kept.extend(Manifest::from_bytes(&top)?.cluster_log.into_iter().map(|object| object.path));
            return Ok(Plan { node, top, kept });
        }
        let (cluster_log, missing) = fetch_cluster_log(ring, wanted, pins).await?;
        let top = Manifest {
            format: MANIFEST_VERSION,
            id: id.to_string(),
            name: wanted.name.clone(),
            reason: wanted.reason.clone(),
            requester: wanted.requester.clone(),
            cluster: ring.file.cluster.clone(),
            created_ns: now_ns(),
            wanted: wanted.window,
            nodes: vec![manifest::entry(&node)?],
            cluster_log,
            missing,
            versions: versions(),
        };
        let top = top.to_bytes();
        pins.note(TOP, &top)?;
        Ok(Plan { node, top, kept })
    }

    pub fn of_node(&self, pins: &Pins) -> Result<Vec<Item>, ManifestError> {
        Ok(items(&NodeManifest::from_bytes(&self.node)?.objects, &pins.dir))
    }

    pub fn of_cluster(&self, pins: &Pins) -> Result<Vec<Item>, ManifestError> {
        Ok(items(&Manifest::from_bytes(&self.top)?.cluster_log, &pins.dir.join(CLUSTER)))
    }
}

fn items(objects: &[Object], dir: &Path) -> Vec<Item> {
    let file = |object: &Object| dir.join(object.path.rsplit('/').next().unwrap_or_default());
    objects.iter().map(|object| Item { object: object.clone(), file: file(object) }).collect()
}

/// Pins what the ring has of the window.
fn gather(ring: &Ring, id: &Ulid, wanted: &Wanted, pins: &Pins) -> anyhow::Result<Vec<u8>> {
    let sealed = api::ask_seal(ring);
    if sealed.is_none() {
        tracing::warn!("no answer from a recorder within 1 s: open files are read as they are");
    }
    let gathered = Gathered::pin(ring, pins, wanted.window, sealed.is_some())?;
    tracing::info!("snapshot {id}: {} objects, {} bytes", gathered.items.len(), gathered.bytes());
    for missing in &gathered.missing {
        tracing::warn!("{}: {}", missing.what, missing.why);
    }
    Ok(manifest::of_node(ring, id, wanted, &gathered, sealed.is_some()).to_bytes())
}

/// What the cluster's witness saw; where that cannot be had, the snapshot goes without and says why.
async fn fetch_cluster_log(
    ring: &Ring,
    wanted: &Wanted,
    pins: &Pins,
) -> anyhow::Result<(Vec<Object>, Vec<Missing>)> {
    let dir = pins.folder(CLUSTER)?;
    let why = match &wanted.witness {
        Some(place) => match witness::fetch(place, wanted.window.from_ns, &dir).await {
            Ok((cluster, items)) => {
                if cluster != ring.file.cluster {
                    let here = &ring.file.cluster;
                    tracing::warn!(
                        "--cluster: the witness says '{cluster}', this recorder '{here}': names do not meet"
                    );
                }
                return Ok((items.into_iter().map(|item| item.object).collect(), Vec::new()));
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
