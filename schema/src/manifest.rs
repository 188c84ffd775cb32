//! Manifests of a snapshot: one a node, and one on top, written last, that lists the others by hash.
//! In: what was copied, and what was wanted. Out: one canonical text, so that a hash of it means something.
//! Nothing is said twice: objects live in the node manifests, the top names those.

mod ulid;

pub use ulid::{Ulid, UlidError};

use serde::{Deserialize, Serialize};

use crate::segment::{Counters, Versions};

/// Version of both manifests; a reader accepts every version up to its own.
pub const MANIFEST_VERSION: u32 = 1;

/// `manifest.json`, create-only: without it a snapshot is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// ULID; also the name of the snapshot's folder.
    pub id: String,
    pub name: Option<String>,
    pub reason: Option<String>,
    pub requester: String,
    pub cluster: String,
    pub created_ns: i64,
    pub wanted: Window,
    pub nodes: Vec<NodeEntry>,
    /// The log of the cluster's witness, `cluster/log/…`, by path below the folder of the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_log: Vec<Object>,
    pub missing: Vec<Missing>,
    pub versions: Versions,
}

/// `nodes/<node>/manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeManifest {
    pub format: u32,
    pub snapshot_id: String,
    pub node: String,
    pub cluster: String,
    pub wanted: Window,
    /// Earliest and latest packet of the segments, which are copied whole; None when none has a packet.
    pub real: Option<Window>,
    /// Whether the recorder sealed for this snapshot, or its open file was read as it was.
    pub sealed: bool,
    pub objects: Vec<Object>,
    pub packets: u64,
    pub loss: Counters,
    pub config_sha256: Option<String>,
    /// How far the node's clock is known to be off; None where no one measured it.
    pub clock_error_ns: Option<i64>,
    pub missing: Vec<Missing>,
    pub versions: Versions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from_ns: i64,
    pub to_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    pub node: String,
    /// Relative to the folder of the snapshot.
    pub manifest: String,
    pub sha256: String,
    pub size: u64,
    pub wanted: Window,
    pub real: Option<Window>,
    pub segments: u64,
    pub packets: u64,
    pub bytes_stored: u64,
    pub loss: Counters,
}

/// One stored object, by its path below the folder of its node, or of the snapshot where the top manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub path: String,
    pub kind: ObjectKind,
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Segment,
    Sidecar,
    Log,
}

/// Something that was expected and is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// "node n2", "log of the cluster witness", "segment 00-00000007-…".
    pub what: String,
    pub why: String,
}

impl Manifest {
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        check_version(manifest.format).map(|()| manifest)
    }
}

impl NodeManifest {
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<NodeManifest, ManifestError> {
        let manifest: NodeManifest = serde_json::from_slice(bytes)?;
        check_version(manifest.format).map(|()| manifest)
    }
}

/// Path of a node's manifest below the folder of the snapshot.
pub fn node_manifest_path(node: &str) -> String {
    format!("nodes/{node}/manifest.json")
}

/// Canonical: fields in the order of the structs, two blanks of indent, one newline at the end. The hash of a
/// manifest is the SHA-256 of exactly these bytes.
fn canonical(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a struct of strings and numbers serialises");
    text.push(b'\n');
    text
}

fn check_version(format: u32) -> Result<(), ManifestError> {
    match format {
        1..=MANIFEST_VERSION => Ok(()),
        newer => Err(ManifestError::Newer(newer)),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest has format {0}, this program reads up to {MANIFEST_VERSION}; use a newer one")]
    Newer(u32),
}
