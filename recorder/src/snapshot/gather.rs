//! Chooses what of a ring belongs into a snapshot, and pins it.
//! In: a ring and a window. Out: files under `<ring>/pins/<id>/` that nobody changes or removes, with sizes and hashes.
//! The hash of a sealed segment is taken from its sidecar; it is not computed a second time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};
use shark_schema::identity::LOG_FOLDER;
use shark_schema::manifest::{Missing, Object, ObjectKind, Window};
use shark_schema::segment::{Name, PLAINTEXT_WORKER, Series, Sidecar};

use super::Pins;
use crate::log;
use crate::record::versions;
use crate::ring::{Ring, WANTED};
use crate::segment::{chain_hash, hex, reseal};

/// One object of the snapshot, and the file that becomes it.
#[derive(Debug, Clone)]
pub struct Item {
    /// By its path below the folder of the node.
    pub object: Object,
    pub file: PathBuf,
}

#[derive(Debug)]
pub struct Gathered {
    pub items: Vec<Item>,
    /// Of every series.
    pub sidecars: Vec<Sidecar>,
    pub missing: Vec<Missing>,
    dir: PathBuf,
}

impl Gathered {
    pub fn pin(ring: &Ring, pins: &Pins, window: Window, sealed: bool) -> anyhow::Result<Gathered> {
        let dir = pins.dir.clone();
        let mut this = Gathered { items: Vec::new(), sidecars: Vec::new(), missing: Vec::new(), dir };
        let held = this.tidy(ring)?;
        for series in Series::ALL {
            let ring = ring.of(series);
            if ring.segments().is_dir() {
                let is_of = |name: &&Name| name.series() == series;
                this.take_series(&ring, held.iter().filter(is_of), window, sealed)?;
            }
        }
        this.take_logs(ring, window)?;
        Ok(this)
    }

    /// What an attempt left that did not come to its plan: whole segments that the ring has as well, or has no more. Anything
    /// else the ring has better.
    fn tidy(&self, ring: &Ring) -> anyhow::Result<BTreeSet<Name>> {
        let context = || self.dir.display().to_string();
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name: Option<Name> = file.strip_suffix(".json").unwrap_or(&file).parse().ok();
            match name {
                Some(name) if held.contains(&name) || (!name.open && self.holds(ring, name)) => {
                    held.insert(name);
                }
                _ if file == "lock" || file == WANTED || path.is_dir() => {}
                _ => fs::remove_file(&path).with_context(context)?,
            }
        }
        Ok(held)
    }

    fn holds(&self, ring: &Ring, name: Name) -> bool {
        let segments = ring.of(name.series()).segments();
        let inode = |dir: &Path, file: &str| fs::metadata(dir.join(file)).map(|meta| meta.ino()).ok();
        let is_same = |file: String| match (inode(&self.dir, &file), inode(&segments, &file)) {
            (Some(here), Some(there)) => here == there,
            _ => false,
        };
        if is_same(name.to_string()) && is_same(name.sidecar()) {
            return true;
        }
        let is_there = |name: Name| segments.join(name.to_string()).exists();
        let is_whole = |sidecar: Sidecar| {
            let measured = measure(&self.dir.join(name.to_string()));
            measured.is_ok_and(|(size, sha256)| size == sidecar.bytes_stored && sha256 == sidecar.sha256)
        };
        !is_there(name)
            && !is_there(Name { open: true, ..name })
            && self.pinned_sidecar(name).is_ok_and(|(sidecar, _)| is_whole(sidecar))
    }

    fn pinned_sidecar(&self, name: Name) -> anyhow::Result<(Sidecar, Vec<u8>)> {
        let bytes = fs::read(self.dir.join(name.sidecar()))?;
        Ok((Sidecar::from_bytes(&bytes)?, bytes))
    }

    fn take_series<'a>(
        &mut self,
        ring: &Ring,
        held: impl Iterator<Item = &'a Name>,
        window: Window,
        sealed: bool,
    ) -> anyhow::Result<()> {
        let names: BTreeSet<Name> = ring.list()?.into_iter().chain(held.copied()).collect();
        for name in names {
            match name.open {
                // Sealed just now; what is open again came later.
                true if sealed && name.first_ns > window.to_ns => {}
                true => self.take_open(ring, name, window)?,
                false => self.take_sealed(ring, name, window)?,
            }
        }
        Ok(())
    }

    /// What the counts of a manifest are about: packets of the wire, not plaintext.
    pub fn packet_sidecars(&self) -> impl DoubleEndedIterator<Item = &Sidecar> {
        self.sidecars.iter().filter(|sidecar| sidecar.worker != PLAINTEXT_WORKER)
    }

    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.object.size).sum()
    }

    fn take_sealed(&mut self, ring: &Ring, name: Name, window: Window) -> anyhow::Result<()> {
        let found = ring.sidecar(name).map_err(anyhow::Error::from);
        let linked = link(&ring.segments(), &self.dir, &[name.to_string(), name.sidecar()])?;
        let found = if linked { self.pinned_sidecar(name) } else { found };
        let (sidecar, bytes) = match found {
            Ok(found) if linked => found,
            // Evicted between the listing and the link: gone before this snapshot, unless it mattered.
            Ok((sidecar, _)) if !overlaps(&sidecar, window) => return Ok(()),
            Err(_) if !linked => return Ok(()),
            Ok(_) => {
                let why = "evicted before it could be pinned".to_owned();
                self.missing.push(Missing { what: format!("segment {name}"), why });
                return Ok(());
            }
            Err(error) => {
                self.missing.push(Missing { what: format!("segment {name}"), why: error.to_string() });
                return Ok(());
            }
        };
        if overlaps(&sidecar, window) {
            self.add_segment(ring, name, sidecar, &bytes);
        } else {
            self.unpin(&[name.to_string(), name.sidecar()]);
        }
        Ok(())
    }

    /// A recorder that is dead or silent: the whole packets of its open file become a segment of the snapshot.
    fn take_open(&mut self, ring: &Ring, name: Name, window: Window) -> anyhow::Result<()> {
        let path = ring.segments().join(name.to_string());
        let prev = self.sidecars.iter().rfind(|sidecar| sidecar.worker == name.worker);
        let prev = prev.map(|sidecar| chain_hash(&sidecar.to_bytes()));
        let resealed = match reseal(&path, name, &self.dir, ring, prev, &versions()) {
            Ok(resealed) => resealed,
            // Sealed under our eyes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.take_sealed(ring, name.sealed(), window);
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let Some((sealed, _)) = resealed else {
            return Ok(());
        };
        let file = self.dir.join(sealed.name.sealed().to_string());
        fs::rename(self.dir.join(sealed.name.to_string()), &file)
            .with_context(|| file.display().to_string())?;
        let sidecar = self.dir.join(name.sidecar());
        fs::write(&sidecar, &sealed.sidecar_bytes).with_context(|| sidecar.display().to_string())?;
        if overlaps(&sealed.sidecar, window) {
            self.add_segment(ring, name.sealed(), sealed.sidecar, &sealed.sidecar_bytes);
        }
        Ok(())
    }

    fn add_segment(&mut self, ring: &Ring, name: Name, sidecar: Sidecar, bytes: &[u8]) {
        let file = self.dir.join(name.to_string());
        let size = fs::metadata(&file).map_or(0, |meta| meta.len());
        if size != sidecar.bytes_stored {
            let why = format!("{size} bytes on disk, {} when it was sealed", sidecar.bytes_stored);
            self.missing.push(Missing { what: format!("segment {name}"), why });
            return;
        }
        let folder = ring.series().folder();
        let segment = Object {
            path: format!("{folder}/{name}"),
            kind: ObjectKind::Segment,
            size,
            sha256: sidecar.sha256.clone(),
        };
        let beside = Object {
            path: format!("{folder}/{}", name.sidecar()),
            kind: ObjectKind::Sidecar,
            size: bytes.len() as u64,
            sha256: chain_hash(bytes),
        };
        let sidecar_file = self.dir.join(name.sidecar());
        self.items.extend([Item { object: segment, file }, Item { object: beside, file: sidecar_file }]);
        self.sidecars.push(sidecar);
    }

    fn take_logs(&mut self, ring: &Ring, window: Window) -> anyhow::Result<()> {
        let logs = take_logs(ring, window.from_ns, &self.dir, &format!("{LOG_FOLDER}/"))?;
        self.items.extend(logs);
        Ok(())
    }

    fn unpin(&self, files: &[String]) {
        for file in files {
            let _ = fs::remove_file(self.dir.join(file));
        }
    }
}

/// The log from the start of the window until now, in `dir`: later files may tell what became of earlier packets.
pub fn take_logs(ring: &Ring, from_ns: i64, dir: &Path, below: &str) -> anyhow::Result<Vec<Item>> {
    let names = ring.logs()?;
    let mut items = Vec::new();
    for name in logs_from(&names, from_ns) {
        let closed = name.trim_end_matches(".open").to_owned();
        let file = dir.join(&closed);
        if closed != *name {
            log::copy_whole(&ring.log().join(name), &file)
                .with_context(|| ring.log().join(name).display().to_string())?;
        } else if !link(&ring.log(), dir, std::slice::from_ref(name))? {
            continue;
        }
        let (size, sha256) = measure(&file).with_context(|| file.display().to_string())?;
        let object = Object { path: format!("{below}{closed}"), kind: ObjectKind::Log, size, sha256 };
        items.push(Item { object, file });
    }
    Ok(items)
}

/// Those that reach beyond a time: the next file of their series begins after it.
pub fn logs_from(names: &[String], from_ns: i64) -> impl Iterator<Item = &String> {
    let start = |name: &String| name.split('-').next().and_then(|ns| ns.parse::<i64>().ok()).unwrap_or(0);
    names.iter().enumerate().filter_map(move |(at, name)| {
        let mut later = names[at + 1..].iter();
        let next = later.find(|next| log::series_of(next) == log::series_of(name));
        let ends_before = next.is_some_and(|next| start(next) < from_ns);
        (!ends_before && !name.ends_with(".recovering")).then_some(name)
    })
}

fn overlaps(sidecar: &Sidecar, window: Window) -> bool {
    match (sidecar.min_ns, sidecar.max_ns) {
        (Some(min), Some(max)) => min <= window.to_ns && max >= window.from_ns,
        _ => false,
    }
}

/// Links all of the files, or copies them from another file system; false when one of them is gone.
fn link(from: &Path, to: &Path, files: &[String]) -> anyhow::Result<bool> {
    for file in files {
        let target = to.join(file);
        match fs::hard_link(from.join(file), &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Evicted, but held since an attempt before.
            Err(error) if error.kind() == io::ErrorKind::NotFound && target.exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if is_refused(error.kind()) => match fs::copy(from.join(file), &target) {
                // Evicted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                copied => drop(copied.with_context(|| target.display().to_string())?),
            },
            Err(error) => return Err(error).with_context(|| format!("pinning {}", target.display())),
        }
    }
    Ok(true)
}

/// Another file system, one without hard links, or a file that may have no more of them.
fn is_refused(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(kind, CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

pub fn measure(file: &Path) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let size = io::copy(&mut File::open(file)?, &mut hash)?;
    Ok((size, hex(&hash.finalize())))
}
