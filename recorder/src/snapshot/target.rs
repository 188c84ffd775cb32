//! Where a snapshot goes: a directory, by links where it can, or a bucket through object_store.
//! In: files and manifests. Out: objects below `<prefix>/<id>/`, manifests create-only.
//! Memory is bounded by a few parts whatever the sizes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, WriteMultipart};
use url::Url;

use super::gather::Item;
use super::store::{open, sentence};
use crate::ring::private_dir;

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "--to: '{0}' is not a place: give a directory, file:///DIR, s3://BUCKET/PREFIX, gs://… or az://…"
    )]
    NotAPlace(String),
    #[error("{url}: {why}")]
    Store { url: String, why: String },
    #[error("{0} is complete already: a snapshot is never changed")]
    Complete(String),
}

pub enum Target {
    Directory(PathBuf),
    Bucket { store: Arc<dyn ObjectStore>, prefix: Key, url: String },
}

const PART_BYTES: usize = 8 << 20;
const PARTS_IN_FLIGHT: usize = 2;
const FILES_IN_FLIGHT: usize = 2;

impl Target {
    /// `to` plus the id of the snapshot.
    pub fn open(to: &str, id: &str) -> Result<Target, TargetError> {
        let Ok(url) = Url::parse(to) else {
            return Ok(Target::Directory(Path::new(to).join(id)));
        };
        let bad = |why: object_store::Error| TargetError::Store { url: to.to_owned(), why: sentence(&why) };
        if url.scheme() == "file" {
            let dir = url.to_file_path().map_err(|()| TargetError::NotAPlace(to.to_owned()))?;
            return Ok(Target::Directory(dir.join(id)));
        }
        let store = open(&url).ok_or_else(|| TargetError::NotAPlace(to.to_owned()))?.map_err(bad)?;
        let prefix = Key::from(url.path()).join(id);
        Ok(Target::Bucket { store, prefix, url: format!("{}/{id}", url.as_str().trim_end_matches('/')) })
    }

    /// As it is printed.
    pub fn url(&self) -> String {
        match self {
            Target::Directory(dir) => {
                let absolute = fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
                Url::from_file_path(&absolute).map_or_else(|()| dir.display().to_string(), String::from)
            }
            Target::Bucket { url, .. } => url.clone(),
        }
    }

    /// Whether the place can be reached, and the snapshot is not complete there.
    pub async fn check(&self, resuming: bool) -> Result<(), TargetError> {
        let complete = match self {
            Target::Directory(dir) => {
                private_dir(dir).map_err(|source| TargetError::Io { path: dir.clone(), source })?;
                let complete = dir.join("manifest.json").exists();
                if complete && resuming {
                    // Who wrote it may have died before its draft was gone.
                    let _ = fs::remove_file(draft(&dir.join("manifest.json")));
                }
                complete
            }
            Target::Bucket { store, prefix, .. } => {
                let listed = store.list_with_delimiter(Some(prefix)).await.map_err(|e| self.failed(&e))?;
                listed.objects.iter().any(|object| object.location == prefix.clone().join("manifest.json"))
            }
        };
        if complete && resuming { Err(TargetError::Complete(self.url())) } else { Ok(()) }
    }

    /// Writes an object, reads it and removes it again; where it may not be removed it stays, an empty one.
    pub async fn probe(&self) -> Result<(), TargetError> {
        const NAME: &str = "doctor";
        self.check(false).await?;
        self.create(NAME, Vec::new()).await?;
        self.find(NAME).await?;
        match self {
            Target::Directory(dir) => {
                let failed = |source| TargetError::Io { path: dir.clone(), source };
                fs::remove_file(dir.join(NAME)).and_then(|()| fs::remove_dir(dir)).map_err(failed)
            }
            Target::Bucket { store, prefix, .. } => {
                // A right to write without one to delete is how it should be.
                let _ = store.delete(&prefix.clone().join(NAME)).await;
                Ok(())
            }
        }
    }

    /// Copies everything that is not there already with its size; `below` is `nodes/<node>` or nothing.
    pub async fn put_all(&self, below: &str, items: &[Item]) -> Result<(), TargetError> {
        let puts = items.iter().map(|item| self.put(below, item));
        let mut running = stream::iter(puts).buffer_unordered(FILES_IN_FLIGHT);
        while let Some(result) = running.next().await {
            result?;
        }
        Ok(())
    }

    async fn put(&self, below: &str, item: &Item) -> Result<(), TargetError> {
        match self {
            Target::Directory(dir) => {
                let path = dir.join(below).join(&item.object.path);
                place(&item.file, &path, item.object.size).map_err(|source| TargetError::Io { path, source })
            }
            Target::Bucket { store, prefix, .. } => {
                let parts =
                    below.split('/').chain(item.object.path.split('/')).filter(|part| !part.is_empty());
                let key = parts.fold(prefix.clone(), Key::join);
                if store.head(&key).await.is_ok_and(|meta| meta.size == item.object.size) {
                    return Ok(());
                }
                upload(store.as_ref(), &key, &item.file).await.map_err(|error| match error {
                    UploadError::Read(source) => TargetError::Io { path: item.file.clone(), source },
                    UploadError::Store(error) => self.failed(&error),
                })
            }
        }
    }

    /// Removes what lies below these folders and is not named.
    pub async fn keep_only(&self, below: &[&str], named: &BTreeSet<String>) -> Result<(), TargetError> {
        for folder in below {
            match self {
                Target::Directory(dir) => {
                    let failed = |source| TargetError::Io { path: dir.join(folder), source };
                    keep_files(dir, &dir.join(folder), named).map_err(failed)?;
                }
                Target::Bucket { store, prefix, .. } => {
                    let folder = folder.split('/').fold(prefix.clone(), Key::join);
                    let mut listed = store.list(Some(&folder));
                    while let Some(object) = listed.next().await {
                        let key = object.map_err(|error| self.failed(&error))?.location;
                        let parts: Vec<_> = key.prefix_match(prefix).into_iter().flatten().collect();
                        let path = parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>().join("/");
                        if !named.contains(&path) {
                            tracing::warn!(
                                "{key} was left by an attempt before and does not belong: removed"
                            );
                            store.delete(&key).await.map_err(|error| self.failed(&error))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Creates an object; one that exists is an error and stays as it is.
    pub async fn create(&self, path: &str, bytes: Vec<u8>) -> Result<(), TargetError> {
        match self {
            Target::Directory(dir) => {
                let path = dir.join(path);
                create_file(&path, &bytes).map_err(|source| match source.kind() {
                    io::ErrorKind::AlreadyExists => TargetError::Complete(path.display().to_string()),
                    _ => TargetError::Io { path, source },
                })
            }
            Target::Bucket { store, prefix, .. } => {
                let key = path.split('/').fold(prefix.clone(), Key::join);
                let options = PutOptions::from(PutMode::Create);
                match store.put_opts(&key, bytes.into(), options).await {
                    Ok(_) => Ok(()),
                    Err(object_store::Error::AlreadyExists { .. }) => {
                        Err(TargetError::Complete(key.to_string()))
                    }
                    Err(error) => Err(self.failed(&error)),
                }
            }
        }
    }

    /// An object's bytes; none where there is no such object.
    pub async fn find(&self, path: &str) -> Result<Option<Vec<u8>>, TargetError> {
        match self {
            Target::Directory(dir) => {
                let path = dir.join(path);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(TargetError::Io { path, source }),
                }
            }
            Target::Bucket { store, prefix, .. } => {
                let key = path.split('/').fold(prefix.clone(), Key::join);
                match store.get(&key).await {
                    Ok(found) => Ok(Some(found.bytes().await.map_err(|e| self.failed(&e))?.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(self.failed(&error)),
                }
            }
        }
    }

    fn failed(&self, error: &object_store::Error) -> TargetError {
        TargetError::Store { url: self.url(), why: sentence(error) }
    }
}

enum UploadError {
    Read(io::Error),
    Store(object_store::Error),
}

async fn upload(store: &dyn ObjectStore, key: &Key, path: &Path) -> Result<(), UploadError> {
    let mut file = File::open(path).map_err(UploadError::Read)?;
    let size = file.metadata().map_err(UploadError::Read)?.len();
    if size <= PART_BYTES as u64 {
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes).map_err(UploadError::Read)?;
        return store.put(key, bytes.into()).await.map(drop).map_err(UploadError::Store);
    }
    let parts = store.put_multipart(key).await.map_err(UploadError::Store)?;
    let mut writer = WriteMultipart::new_with_chunk_size(parts, PART_BYTES);
    let mut part = vec![0; PART_BYTES];
    loop {
        let got = file.read(&mut part).map_err(UploadError::Read)?;
        if got == 0 {
            break;
        }
        writer.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(UploadError::Store)?;
        writer.write(&part[..got]);
    }
    writer.finish().await.map(drop).map_err(UploadError::Store)
}

/// A link where the file system allows it, else a copy.
fn place(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        private_dir(parent)?;
    }
    match fs::hard_link(from, to) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(to)?.len() == size {
                return Ok(());
            }
            // The torso of an attempt that was interrupted.
            fs::remove_file(to)?;
        }
        Err(_) => {}
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

fn keep_files(root: &Path, dir: &Path, named: &BTreeSet<String>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            keep_files(root, &path, named)?;
        } else if !path.strip_prefix(root).is_ok_and(|path| named.contains(&*path.to_string_lossy())) {
            tracing::warn!("{} was left by an attempt before and does not belong: removed", path.display());
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

fn create_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        private_dir(parent)?;
    }
    // Whole or not at all: the link is the act of creation, and fails where there is a file already.
    // Where the file system has no links, nobody else creates the file meanwhile: the pins are locked.
    let draft = draft(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
            fs::rename(&draft, path)
        }
        linked => {
            fs::remove_file(&draft)?;
            linked
        }
    }
}
