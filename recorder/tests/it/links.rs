//! A snapshot copies what cannot be linked: files that have all the links there may be, files that may have
//! no more, and file systems without links.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::net::{Net, run};
use crate::process::{Recorder, sharkrec_ok};
use crate::reading::{names, numbers, packets};
use crate::snapshot::{folder, verify};

const SENT: u64 = 2_000;

/// A file system in a file.
struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    fn new(dir: &Path, make: &[&str], mount: &[&str]) -> Disk {
        let image = dir.join("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run(make[0], &[&make[1..], &[image.to_str().unwrap()]].concat());
        let device = run("losetup", &["-f", "--show", image.to_str().unwrap()]).trim().to_owned();
        let disk = Disk { device, mount: dir.join("disk") };
        fs::create_dir(&disk.mount).unwrap();
        run(mount[0], &[&mount[1..], &[disk.device.as_str(), disk.mount.to_str().unwrap()]].concat());
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mount).status();
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

/// Records packets in two segments, and ends.
fn record(net: &Net, ring: &Path) {
    for half in 0..2 {
        let recorder = Recorder::start(net, ring, &[]);
        net.send(half * SENT / 2, SENT / 2, 300, 0).join().unwrap();
        recorder.stop();
    }
}

/// Takes everything; gives the folder of the segments, once every hash in it is right.
fn take(ring: &Path, to: &Path) -> PathBuf {
    let (ring, to) = (ring.to_str().unwrap(), to.to_str().unwrap());
    let snapshot = folder(&sharkrec_ok(&["snapshot", "--ring", ring, "--since", "10m", "--to", to]));
    let segments = verify(&snapshot);
    assert_eq!(numbers(&packets(&segments)).len() as u64, SENT);
    assert_eq!(fs::read_dir(Path::new(ring).join("pins")).unwrap().count(), 0, "nothing is held any more");
    segments
}

/// Links a file again and again.
fn link_until_refused(file: &Path, dir: &Path) -> ErrorKind {
    fs::create_dir(dir).unwrap();
    let refused = (0..70_000).find_map(|link| fs::hard_link(file, dir.join(link.to_string())).err());
    refused.expect("ext4 has at most 65,000 links to a file").kind()
}

#[test]
fn what_may_have_no_more_links_is_copied() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path(), &["mkfs.ext4", "-q"], &["mount"]);
    let (ring, to) = (disk.path("ring"), disk.path("snapshots"));
    record(&net, &ring);
    let segments = ring.join("segments");
    let [first, second] = names(&segments)[..] else { panic!("{:?}", names(&segments)) };
    let first = segments.join(first.to_string());
    assert_eq!(link_until_refused(&first, &disk.path("links")), ErrorKind::TooManyLinks);
    let frozen = [second.to_string(), second.sidecar()].map(|file| segments.join(file));
    let change =
        |flag: &str| frozen.iter().for_each(|file| drop(run("chattr", &[flag, file.to_str().unwrap()])));
    change("+i");
    assert_eq!(fs::hard_link(&frozen[0], disk.path("link")).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let before = fs::read(&first).unwrap();
    let copied = take(&ring, &to);
    change("-i");
    assert_eq!(fs::read(copied.join(first.file_name().unwrap())).unwrap(), before);
}

#[test]
fn a_file_system_without_links_holds_a_ring_and_its_snapshots() {
    let Some(net) = Net::new() else { return };
    let is_there = |program: &str| Command::new(program).arg("-V").output().is_ok();
    if !is_there("mkfs.exfat") || !is_there("mount.exfat-fuse") || !Path::new("/dev/fuse").exists() {
        return println!("skipped: exFAT needs mkfs.exfat, mount.exfat-fuse and /dev/fuse");
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path(), &["mkfs.exfat"], &["mount.exfat-fuse"]);
    let ring = dir.path().join("ring");
    record(&net, &ring);
    // There, as on a stick that somebody carries away.
    let stick = disk.path("ring");
    run("cp", &["-r", ring.to_str().unwrap(), stick.to_str().unwrap()]);
    let file = stick.join("segments").join(names(&stick.join("segments"))[0].to_string());
    assert!(fs::hard_link(&file, disk.path("link")).is_err());
    take(&stick, &disk.path("snapshots"));
    take(&ring, &disk.path("snapshots"));
    // What is complete stays as it is.
    let snapshot = fs::read_dir(disk.path("snapshots")).unwrap().next().unwrap().unwrap();
    let id = snapshot.file_name().into_string().unwrap();
    let to = disk.path("snapshots");
    let (ring, to) = (ring.to_str().unwrap(), to.to_str().unwrap());
    let resume = ["snapshot", "--ring", ring, "--since", "10m", "--to", to, "--resume", &id];
    assert!(crate::process::sharkrec_fails(&resume).1.contains("complete already"));
}
