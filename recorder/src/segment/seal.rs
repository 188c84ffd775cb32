//! Puts a finished segment in its place: data safe on disk, then sidecar, then the name without `.open`.
//! In: a file whose content is complete. Out: a sealed segment. Runs off the capture and writer threads, because it waits
//! for the disk. In every order of crashes, what has its final name is whole and has its sidecar.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use shark_schema::segment::{Name, Sidecar};

use crate::ring::replace;

/// A finished segment on its way to its place.
pub struct Sealed {
    pub file: File,
    /// Still with `.open`.
    pub name: Name,
    pub sidecar: Sidecar,
    /// As it will lie on disk, and as the chain hashes it.
    pub sidecar_bytes: Vec<u8>,
}

pub fn put_in_place(dir: &Path, sealed: &Sealed) -> io::Result<()> {
    sealed.file.sync_data()?;
    replace(&dir.join(sealed.name.sidecar()), &sealed.sidecar_bytes)?;
    fs::rename(dir.join(sealed.name.to_string()), dir.join(sealed.name.sealed().to_string()))?;
    File::open(dir)?.sync_all()
}
