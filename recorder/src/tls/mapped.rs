//! Files whose code a process runs, as its memory map has them. In: /proc/PID/maps. Out: their names, and the files themselves.
//! Paths are only names for people: a file is opened through the map that holds it, whatever mount namespace that is in.

use std::fs::{self, File};
use std::io;

pub struct Mapped {
    /// Device and inode as the maps write them.
    pub id: String,
    range: String,
    pub path: String,
}

impl Mapped {
    /// A process that ended has none.
    pub fn of(pid: u32) -> Vec<Mapped> {
        let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        String::from_utf8_lossy(&maps).lines().filter_map(Mapped::read).collect()
    }

    /// A line that maps code of a file (proc_pid_maps(5)).
    fn read(line: &str) -> Option<Mapped> {
        let mut fields = line.splitn(6, ' ');
        let range = fields.next()?;
        let is_code = fields.next()?.as_bytes().get(2) == Some(&b'x');
        let (_offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?);
        let path = fields.next()?.trim_start();
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        (is_code && path.starts_with('/')).then(|| Mapped {
            id: format!("{device}:{inode}"),
            range: range.to_owned(),
            path: path.to_owned(),
        })
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub fn is_openssl(&self) -> bool {
        self.name().starts_with("libssl") && self.name().contains(".so")
    }

    /// The very file that is mapped, whatever lies at its path by now.
    pub fn open(&self, pid: u32) -> io::Result<File> {
        let (start, end) = self.range.split_once('-').unwrap_or_default();
        let (start, end) = (start.trim_start_matches('0'), end.trim_start_matches('0'));
        File::open(format!("/proc/{pid}/map_files/{start}-{end}"))
    }
}
