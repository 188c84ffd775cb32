//! The manifests of a snapshot of this node.
//! In: what was gathered. Out: the node's manifest, and the line the top manifest has about it.

use shark_schema::manifest::{
    MANIFEST_VERSION, ManifestError, NodeEntry, NodeManifest, ObjectKind, Ulid, Window, node_manifest_path,
};
use shark_schema::segment::Counters;

use super::{Gathered, Wanted};
use crate::record::versions;
use crate::ring::Ring;
use crate::segment::chain_hash;

pub fn of_node(ring: &Ring, id: &Ulid, wanted: &Wanted, gathered: &Gathered, sealed: bool) -> NodeManifest {
    let mut loss = Counters::default();
    gathered.packet_sidecars().for_each(|sidecar| loss += &sidecar.totals);
    let from_ns = gathered.packet_sidecars().filter_map(|sidecar| sidecar.min_ns).min();
    let to_ns = gathered.packet_sidecars().filter_map(|sidecar| sidecar.max_ns).max();
    NodeManifest {
        format: MANIFEST_VERSION,
        snapshot_id: id.to_string(),
        node: ring.file.node.clone(),
        cluster: ring.file.cluster.clone(),
        wanted: wanted.window,
        real: from_ns.zip(to_ns).map(|(from_ns, to_ns)| Window { from_ns, to_ns }),
        sealed,
        objects: gathered.items.iter().map(|item| item.object.clone()).collect(),
        packets: gathered.packet_sidecars().map(|sidecar| sidecar.packets).sum(),
        loss,
        config_sha256: gathered.packet_sidecars().next_back().map(|sidecar| sidecar.config_sha256.clone()),
        clock_error_ns: None,
        missing: gathered.missing.clone(),
        versions: versions(),
    }
}

/// From the bytes as they are stored, so that the hash is of those.
pub fn entry(stored: &[u8]) -> Result<NodeEntry, ManifestError> {
    let manifest = NodeManifest::from_bytes(stored)?;
    let segments = manifest.objects.iter().filter(|object| object.kind == ObjectKind::Segment);
    Ok(NodeEntry {
        manifest: node_manifest_path(&manifest.node),
        node: manifest.node.clone(),
        sha256: chain_hash(stored),
        size: stored.len() as u64,
        wanted: manifest.wanted,
        real: manifest.real,
        segments: segments.clone().count() as u64,
        packets: manifest.packets,
        bytes_stored: segments.map(|object| object.size).sum(),
        loss: manifest.loss,
    })
}
