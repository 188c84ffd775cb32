//! Files whose code a process runs. In: its memory map (/proc/PID/maps), or what the kernel told of one mapping. Out: their names, and
//! the files themselves. Paths are only names for people: a file is opened through the map that holds it, whatever mount namespace that is in.

use std::fs::{self, File};
use std::io;

use shark_bpf::mappings::Mapping;

/// The first process of the machine says nothing over TLS, and may be guarded against everybody.
pub const INIT: u32 = 1;

#[derive(Clone)]
pub struct Mapped {
    /// Device and inode as the maps write them.
    pub id: String,
    range: String,
    pub path: String,
}

impl Mapped {
    /// Of a process that may be asked.
    pub fn of(pid: u32) -> io::Result<Vec<Mapped>> {
        let maps = fs::read(format!("/proc/{pid}/maps"))?;
        Ok(String::from_utf8_lossy(&maps).lines().filter_map(Mapped::read).collect())
    }

    /// A line that maps code of a file (proc_pid_maps(5)).
    fn read(line: &str) -> Option<Mapped> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let is_code = fields.next()?.as_bytes().get(2) == Some(&b'x');
        let (_offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?);
        let path = fields.next()?.trim_start();
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        (is_code && path.starts_with('/')).then(|| Mapped {
            id: format!("{device}:{inode}"),
            range: format!("{}-{}", start.trim_start_matches('0'), end.trim_start_matches('0')),
            path: path.to_owned(),
        })
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Such as `libssl.so.3`, or `libssl-4f1a.so.3` of a Python wheel; `libssl3.so` is that of NSS.
    pub fn is_openssl(&self) -> bool {
        let rest = self.name().strip_prefix("libssl");
        rest.is_some_and(|rest| rest.starts_with(".so") || rest.starts_with('-') && rest.contains(".so"))
    }

    /// The very file that is mapped, whatever lies at its path by now.
    pub fn open(&self, pid: u32) -> io::Result<File> {
        File::open(format!("/proc/{pid}/map_files/{}", self.range))
    }
}

impl From<&Mapping> for Mapped {
    fn from(of: &Mapping) -> Mapped {
        let (major, minor) = of.device;
        Mapped {
            id: format!("{major:02x}:{minor:02x}:{}", of.inode),
            range: format!("{:x}-{:x}", of.range.0, of.range.1),
            path: of.path.clone(),
        }
    }
}
