//! `ring.json`: what a ring says of itself. In: a recorder's node and cluster. Out: JSON that every later version reads.

use serde::{Deserialize, Serialize};

/// Its name in the folder of a ring.
pub const RING_FILE: &str = "ring.json";

/// Version of the layout of a ring; a reader refuses later ones.
pub const RING_FORMAT: u32 = 1;

/// What `ring.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingFile {
    /// See [`RING_FORMAT`].
    pub format: u32,
    /// The node that is recorded.
    pub node: String,
    /// Its cluster; empty where nobody named it.
    pub cluster: String,
}
