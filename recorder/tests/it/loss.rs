//! What is lost is counted, by cause, exactly: packets numbered by their sender against the recorder's counters.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use shark_schema::segment::{Block, Blocks, Counters, SHARED_SOCKET};

use crate::net::{Net, run, send_numbers};
use crate::process::Recorder;
use crate::reading::{bytes, names, numbers, packets, sidecars, totals};

#[test]
fn an_overrun_of_the_kernels_ring_is_counted_exactly() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &["--capture-buffer", "1MiB"]);
    let mut sent = net.send(0, 5_000, 400, 50_000).join().unwrap();
    // A recorder that gets no processor time cannot empty its ring.
    recorder.signal(Signal::STOP);
    sent += net.send(sent, 30_000, 400, 0).join().unwrap();
    recorder.signal(Signal::CONT);
    sent += net.send(sent, 5_000, 400, 20_000).join().unwrap();
    recorder.stop();
    let segments = ring.join("segments");
    let counters = totals(&segments);
    let seen = numbers(&packets(&segments));
    assert!(seen.values().all(|times| *times == 1));
    assert!(counters.kernel_dropped > 10_000, "{counters:?}");
    assert_eq!(sent - seen.len() as u64, counters.lost(), "{counters:?}");
    assert_eq!(counters.kernel_received, Some(sent));
    assert_eq!(counters.offered, sent);
    let told: u64 = packets(&segments).iter().map(|packet| packet.dropped).sum();
    assert_eq!(told, counters.kernel_dropped + counters.user_dropped, "epb_dropcount");
}

#[test]
fn what_a_shared_socket_loses_is_put_on_it_and_on_no_interface() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let arguments = ["--iface", "v1", "--iface", "w1", "--capture-buffer", "1MiB"];
    let recorder = Recorder::start_bare(&net, &ring, &arguments);
    let on_w1 = |first| net.in_sender(move || send_numbers("10.98.0.9:4000", first, 1_000, 400, 20_000));
    let mut sent = net.send(0, 5_000, 400, 50_000).join().unwrap() + on_w1(100_000).join().unwrap();
    recorder.signal(Signal::STOP);
    sent += net.send(5_000, 30_000, 400, 0).join().unwrap();
    recorder.signal(Signal::CONT);
    sent += on_w1(101_000).join().unwrap();
    recorder.stop();
    let segments = ring.join("segments");
    let seen = numbers(&packets(&segments));
    let of = |interface: u32| {
        let mut sum = Counters::default();
        let buckets = sidecars(&segments).into_iter().flat_map(|sidecar| sidecar.buckets);
        buckets.filter(|bucket| bucket.interface == interface).for_each(|bucket| sum += &bucket.counters);
        sum
    };
    let (v1, w1, socket) = (of(0), of(1), of(SHARED_SOCKET));
    assert!(socket.kernel_dropped > 10_000 && socket.written == 0, "{socket:?}");
    assert_eq!(sent - seen.len() as u64, socket.lost());
    assert_eq!((socket.kernel_received, totals(&segments).offered), (Some(sent), sent));
    // Nobody knows of which interface: not known is not 0.
    assert_eq!((v1.kernel_received, w1.kernel_received), (None, None));
    assert_eq!(v1.written + w1.written, seen.len() as u64);
    let told: u64 = packets(&segments).iter().map(|packet| packet.dropped).sum();
    assert_eq!(told, socket.kernel_dropped, "epb_dropcount");
    let raw = names(&segments).iter().flat_map(|name| bytes(&segments, *name)).collect::<Vec<u8>>();
    let statistics: Vec<Option<u64>> = Blocks::new(&raw)
        .filter_map(|item| match item.expect("a whole block").block {
            Block::Statistics(of) => Some(of.os_dropped),
            _ => None,
        })
        .collect();
    assert!(!statistics.is_empty() && statistics.iter().all(Option::is_none), "{statistics:?}");
}

#[test]
fn a_disk_that_stands_still_costs_exactly_what_the_queue_says() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = FrozenDisk::new(dir.path()) else {
        return;
    };
    let ring = disk.mount.join("ring");
    let arguments = ["--queue", "3MiB", "--compression", "none", "--ring-size", "48MiB"];
    let recorder = Recorder::start(&net, &ring, &arguments);
    let mut sent = net.send(0, 1_000, 1_000, 20_000).join().unwrap();
    thread::sleep(Duration::from_millis(700));
    disk.freeze(true);
    sent += net.send(sent, 15_000, 1_000, 10_000).join().unwrap();
    disk.freeze(false);
    sent += net.send(sent, 1_000, 1_000, 5_000).join().unwrap();
    recorder.stop();
    let segments = ring.join("segments");
    let counters = totals(&segments);
    let seen = numbers(&packets(&segments));
    assert!(counters.user_dropped > 1_000, "{counters:?}");
    assert_eq!(sent - seen.len() as u64, counters.lost(), "{counters:?}");
    assert_eq!(counters.offered, sent);
    assert_eq!(counters.overload_bytes, counters.user_dropped * 1_042);
    let told: u64 = packets(&segments).iter().map(|packet| packet.dropped).sum();
    assert_eq!(told, counters.kernel_dropped + counters.user_dropped, "epb_dropcount");
}

/// A file system in a file, which can be made to stand still.
struct FrozenDisk {
    mount: std::path::PathBuf,
}

impl FrozenDisk {
    fn new(dir: &Path) -> Option<FrozenDisk> {
        let (image, mount) = (dir.join("disk.img"), dir.join("disk"));
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount).status().unwrap();
        if !mounted.success() {
            println!("skipped: this kernel has no loop device");
            return None;
        }
        Some(FrozenDisk { mount })
    }

    fn freeze(&self, frozen: bool) {
        run("fsfreeze", &[if frozen { "-f" } else { "-u" }, self.mount.to_str().unwrap()]);
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.mount).output();
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
    }
}
