//! The directory of a ring: its layout, its lock, what lies in it.
//! In: a path. Out: paths of segments and logs in order. Only the holder of the lock may change anything in it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use shark_schema::identity::LOG_FOLDER;
use shark_schema::segment::{Name, RING_FILE, RING_FORMAT, RingFile, Series, Sidecar};

use crate::segment::DAMAGED;

/// Among the pins of a snapshot: what it is to be. Pins that nobody uses are kept for whoever resumes it only beside this.
pub const WANTED: &str = "wanted.json";

/// Among the pins of a snapshot: the recorder needed the room that they took.
pub const GIVEN_UP: &str = "given-up";

/// Where snapshots go that nobody gave a place for.
pub const LOCAL_SNAPSHOTS: &str = "snapshots";

#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} is not a ring: it has no ring.json; `sharkrec record --ring {0}` makes one")]
    NotARing(PathBuf),
    #[error("{path}: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("{path}: format {format} is newer than this program; use a newer one")]
    Newer { path: PathBuf, format: u32 },
    #[error("ring {0} is in use by another recorder; stop it or give this one its own --ring")]
    Locked(PathBuf),
    #[error(
        "{path} belongs to user {owner} and not to this one ({user}); give the recorder a directory of its own"
    )]
    Stranger { path: PathBuf, owner: u32, user: u32 },
    #[error("{0} is no regular file; remove it, or give the recorder a directory of its own")]
    NotAFile(PathBuf),
}

/// A ring on disk. Cheap to clone: it is a path and two names.
#[derive(Debug, Clone)]
pub struct Ring {
    root: PathBuf,
    series: Series,
    pub file: RingFile,
}

impl Ring {
    /// Opens a ring that exists, for reading.
    pub fn open(root: &Path) -> Result<Ring, RingError> {
        let path = root.join(RING_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && root.is_dir() => {
                return Err(RingError::NotARing(root.into()));
            }
            Err(source) => {
                return Err(RingError::Io { path: root.into(), source });
            }
        };
        let damaged = |why: String| RingError::Damaged { path: path.clone(), why };
        let file: RingFile = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if file.format > RING_FORMAT {
            return Err(RingError::Newer { path, format: file.format });
        }
        Ok(Ring { root: root.into(), series: Series::Packets, file })
    }

    /// Opens or makes a ring and takes its lock, which lives as long as the returned file.
    pub fn create(root: &Path, node: &str, cluster: &str) -> Result<(Ring, File), RingError> {
        // That of plaintext is made by whoever records some.
        let folders = [Series::Packets.folder(), LOG_FOLDER, "pins"].map(|folder| root.join(folder));
        for dir in [root.to_path_buf()].into_iter().chain(folders) {
            private_dir(&dir).map_err(|source| RingError::Io { path: dir.clone(), source })?;
            is_own(&dir)?;
        }
        // A later version may keep what this one would take for damage.
        match Ring::open(root) {
            Err(RingError::NotARing(_)) | Ok(_) => {}
            Err(newer @ RingError::Newer { .. }) => return Err(newer),
            Err(error) => tracing::warn!("{error}; it is written anew"),
        }
        let path = root.join("lock");
        let io = |source: io::Error| match source.raw_os_error() {
            Some(libc::ELOOP) => RingError::NotAFile(path.clone()),
            _ => RingError::Io { path: path.clone(), source },
        };
        let lock =
            own_file(OpenOptions::new().write(true).create(true).truncate(false), &path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RingError::Locked(root.into())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let file = RingFile { format: RING_FORMAT, node: node.into(), cluster: cluster.into() };
        let path = root.join(RING_FILE);
        let mut text = serde_json::to_vec_pretty(&file).expect("strings serialise");
        text.push(b'\n');
        // A disk that is full takes no new one, and need not where it says the same.
        if fs::read(&path).ok().as_ref() != Some(&text) {
            replace(&path, &text).map_err(|source| RingError::Io { path, source })?;
        }
        Ok((Ring { root: root.into(), series: Series::Packets, file }, lock))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same ring, of whose segments those of one series are meant.
    pub fn of(&self, series: Series) -> Ring {
        Ring { series, ..self.clone() }
    }

    pub fn series(&self) -> Series {
        self.series
    }

    pub fn segments(&self) -> PathBuf {
        self.root.join(self.series.folder())
    }

    /// Bytes of all files of the series, also where there is no such folder.
    pub fn bytes(&self) -> u64 {
        let entries = fs::read_dir(self.segments()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
    }

    pub fn log(&self) -> PathBuf {
        self.root.join(LOG_FOLDER)
    }

    pub fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// A folder for each snapshot that is taken, or that died.
    pub fn pin_folders(&self) -> impl Iterator<Item = PathBuf> + use<> {
        fs::read_dir(self.pins()).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Whether a recorder holds the lock now.
    pub fn in_use(&self) -> bool {
        let lock = File::open(self.root.join("lock"));
        lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// All segment files, sealed and open, by worker and sequence. Files with other names are not ours.
    pub fn list(&self) -> Result<Vec<Name>, RingError> {
        let mut names: Vec<Name> = entries(&self.segments())?.iter().filter_map(|n| n.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Segments that have a sidecar here.
    pub fn sidecars(&self) -> Result<Vec<Name>, RingError> {
        let names = entries(&self.segments())?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Files of the series that cannot be read and were put aside.
    pub fn damaged(&self) -> Result<Vec<String>, RingError> {
        let mut names = entries(&self.segments())?;
        names.retain(|name| name.strip_suffix(DAMAGED).is_some_and(|name| name.parse::<Name>().is_ok()));
        Ok(names)
    }

    /// File names of the logs, of each series the oldest first. Their numbers say which that is: a clock
    /// may have been wrong.
    pub fn logs(&self) -> Result<Vec<String>, RingError> {
        let mut names = entries(&self.log())?;
        names.retain(|name| name.contains(".ndjson.zst") || name.contains(".arrows.zst"));
        names.sort_by(|a, b| (log_number(a), a).cmp(&(log_number(b), b)));
        Ok(names)
    }

    /// The sidecar of a sealed segment and the bytes it was read from.
    pub fn sidecar(&self, name: Name) -> Result<(Sidecar, Vec<u8>), RingError> {
        let path = self.segments().join(name.sidecar());
        let bytes = fs::read(&path).map_err(|source| RingError::Io { path: path.clone(), source })?;
        let sidecar = Sidecar::from_bytes(&bytes)
            .map_err(|error| RingError::Damaged { path: path.clone(), why: error.to_string() })?;
        Ok((sidecar, bytes))
    }
}

/// The number that a file of a log has in its series, behind the time of its start; 0 where it has none.
pub fn log_number(name: &str) -> u64 {
    let number = name.split('-').nth(1).and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A directory that only its owner may enter: packets are other people's secrets.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a small file so that it is there whole or not at all, also after a power failure.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = own_file(OpenOptions::new().write(true).create(true).truncate(true), &temporary)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Opens a file of the ring for writing: no link leads anywhere else, and only its owner may read it.
fn own_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Whoever owns a folder may put links into it and take files away.
fn is_own(dir: &Path) -> Result<(), RingError> {
    let meta = fs::metadata(dir).map_err(|source| RingError::Io { path: dir.into(), source })?;
    let (owner, user) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner == user { Ok(()) } else { Err(RingError::Stranger { path: dir.into(), owner, user }) }
}

/// Names of the regular files of a folder. Whatever else lies there is not ours, and left alone.
fn entries(dir: &Path) -> Result<Vec<String>, RingError> {
    let io = |source| RingError::Io { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}
