//! What /proc says of processes. In: a pid, or nothing for all of them. Out: what it says now.
//! Only where /proc is that of the whole node do its pids mean what the kernel's events mean by them.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::Membership;

/// USER_HZ, as the kernel shows times to programs on every architecture: proc_pid_stat(5).
pub const TICK_NS: u64 = 10_000_000;

/// A process as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    pub parent: u32,
    pub start_ticks: u64,
    pub comm: String,
    pub exe: Option<String>,
    pub arguments: Vec<String>,
    pub uid: Option<u32>,
    pub group: Membership,
    pub netns: Option<u32>,
}

/// Whether the pids here are those of the whole node: include/linux/proc_ns.h, PROC_PID_INIT_INO.
pub fn is_of_the_node() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// None for one that is gone or going, and for threads of the kernel.
pub fn read(pid: u32) -> Option<Found> {
    let stat = stat(pid).filter(|stat| !stat.of_the_kernel && !stat.is_ending)?;
    let exe = fs::read_link(file(pid, "exe")).ok();
    let arguments = fs::read(file(pid, "cmdline")).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let arguments = match arguments.strip_suffix(&[0]) {
        Some(all) => all.split(|byte| *byte == 0).map(text).collect(),
        None => Vec::new(),
    };
    let status = fs::read_to_string(file(pid, "status")).unwrap_or_default();
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    let found = Found {
        pid,
        parent: stat.parent,
        start_ticks: stat.start_ticks,
        comm: stat.comm,
        exe: exe.map(|path| name_of(&path)),
        arguments,
        uid,
        group: group(pid).unwrap_or_default(),
        netns: netns(pid),
    };
    // One that ends has no files any more, and hierarchies of version 1 say that it is in the root.
    let is_whole = |now: Stat| now.start_ticks == found.start_ticks && !now.is_ending;
    self::stat(pid).is_some_and(is_whole).then_some(found)
}

/// The kernel says so of a file that was replaced or removed while it runs; it is still called what it was.
fn name_of(exe: &Path) -> String {
    let path = exe.to_string_lossy();
    path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
}

pub fn start_ticks(pid: u32) -> Option<u64> {
    Some(stat(pid)?.start_ticks)
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(file(pid, "stat")).ok()?)
}

pub fn group(pid: u32) -> Option<Membership> {
    fs::read_to_string(file(pid, "cgroup")).ok().map(|text| Membership::of_process(&text))
}

pub fn netns(pid: u32) -> Option<u32> {
    inode_of(&fs::read_link(file(pid, "ns/net")).ok()?, "net")
}

/// The number in links such as `net:[4026531840]` and `socket:[12345]`.
pub fn inode_of(link: &std::path::Path, kind: &str) -> Option<u32> {
    link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

pub fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

struct Stat {
    comm: String,
    parent: u32,
    start_ticks: u64,
    of_the_kernel: bool,
    is_ending: bool,
}

impl Stat {
    /// `pid (comm) state ppid …`: the name may hold blanks and brackets, so it ends at the last one.
    fn parse(text: &str) -> Option<Stat> {
        /// include/linux/sched.h
        const PF_KTHREAD: u64 = 0x0020_0000;
        /// The same; it stays set in a zombie.
        const PF_EXITING: u64 = 0x0000_0004;
        let (before, after) = text.rsplit_once(')')?;
        let comm = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            comm,
            parent: number(1)? as u32,
            start_ticks: number(19)?,
            of_the_kernel: number(6)? & PF_KTHREAD != 0,
            is_ending: number(6)? & PF_EXITING != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks() {
        let text = "12 (a) b (c)) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            (stat.comm.as_str(), stat.parent, stat.start_ticks, stat.of_the_kernel),
            ("a) b (c)", 7, 4711, false)
        );
        assert!(Stat::parse("12 (x").is_none() && Stat::parse("").is_none());
    }

    #[test]
    fn a_zombie_says_nothing() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(read(child.id()).is_some());
        child.kill().unwrap();
        while !stat(child.id()).unwrap().is_ending {
            std::thread::yield_now();
        }
        assert_eq!(read(child.id()), None);
        child.wait().unwrap();
    }

    #[test]
    fn a_program_that_was_replaced_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("upgraded");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        fs::remove_file(&program).unwrap();
        let link = fs::read_link(file(child.id(), "exe")).unwrap();
        assert!(link.to_string_lossy().ends_with("upgraded (deleted)"), "{}", link.display());
        assert_eq!(read(child.id()).unwrap().exe.as_deref(), program.to_str());
        assert_eq!(name_of(Path::new("/usr/bin/a (deleted)b")), "/usr/bin/a (deleted)b");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn ourselves() {
        let found = read(std::process::id()).unwrap();
        assert_eq!(found.exe.as_deref(), std::env::current_exe().unwrap().to_str());
        assert_eq!(found.arguments, std::env::args().collect::<Vec<_>>());
        assert!(found.start_ticks > 0 && found.netns.is_some() && found.group.path.starts_with('/'));
        assert!(pids().contains(&found.pid));
        assert!(read(u32::MAX).is_none());
    }
}
