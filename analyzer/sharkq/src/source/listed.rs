//! What the manifest of a node says of its files. In: the manifest, and a segment with its sidecar as they
//! are stored. Out: how they differ, as far as that shows without reading the segment.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use shark_schema::manifest::{NodeManifest, Object};
use shark_schema::segment::Sidecar;

use crate::provenance::hex;

/// The objects of a node by their paths; none where there is no manifest.
pub struct Listed<'a> {
    below: &'a str,
    objects: Option<HashMap<&'a str, &'a Object>>,
}

impl<'a> Listed<'a> {
    /// Of a node whose files lie below this path.
    pub fn new(below: &'a str, manifest: Option<&'a NodeManifest>) -> Listed<'a> {
        let by_path = |manifest: &'a NodeManifest| {
            manifest.objects.iter().map(|object| (object.path.as_str(), object)).collect()
        };
        Listed { below, objects: manifest.map(by_path) }
    }

    /// In what a segment or its sidecar differs from what is listed.
    pub fn contradiction(&self, path: &str, size: u64, sidecar: Option<&[u8]>) -> Option<String> {
        let objects = self.objects.as_ref()?;
        let path = path.strip_prefix(self.below).unwrap_or(path);
        let told = sidecar.and_then(|bytes| Sidecar::from_bytes(bytes).ok());
        let (Some(stored), Some(told)) = (sidecar, told) else { return None };
        let Some(segment) = objects.get(path) else {
            return Some("the manifest of its node does not list it".into());
        };
        let listed = objects.get(format!("{path}.json").as_str());
        if listed.is_none_or(|listed| listed.sha256 != hex(&Sha256::digest(stored))) {
            return Some("its sidecar is not the one that the manifest of its node lists".into());
        }
        if segment.size != size || segment.sha256 != told.sha256 {
            return Some("its size or its hash is not what the manifest of its node lists".into());
        }
        None
    }
}
