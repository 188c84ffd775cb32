//! The ledger of absence: packets that their sender numbered, and a recorder that is stopped, killed, frozen, robbed of its threads,
//! without disk, of a renamed interface, or of a clock that is set. What `sharkq coverage` calls blind is
//! what is missing, to a packet at each end. Nothing runs on afterwards, and the namespace is gone.

mod clock;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::captures;
use crate::desk::Desk;
use crate::programs::{built, finished, is_permitted, printed, within};

/// Packets a second, and bytes of each.
const RATE: u64 = 400;
const SIZE: u64 = 1_000;
const PERIOD_NS: i64 = 1_000_000_000 / RATE as i64;

/// A namespace with a wire in it, on whose one end a sender numbers packets.
pub struct Wire {
    namespace: String,
    sender: Option<Child>,
    log: PathBuf,
}

impl Wire {
    pub fn new(desk: &Desk, name: &str) -> Wire {
        Wire::by_clock(desk, name, &[])
    }

    /// `more` tells the sender of a clock.
    fn by_clock(desk: &Desk, name: &str, more: &[&Path]) -> Wire {
        let namespace = format!("absence{}{name}", std::process::id());
        let run = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            finished(within(20, "ip").args(words));
        };
        run(&format!("netns add {namespace}"));
        let inside = format!("-n {namespace}");
        run(&format!("{inside} link add v0 type veth peer name v1"));
        run(&format!("{inside} addr add 10.99.0.1/24 dev v0"));
        let quiet = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >$f; done";
        finished(within(20, "ip").args(["netns", "exec", &namespace, "sh", "-c", quiet]));
        run(&format!("{inside} link set v0 up"));
        run(&format!("{inside} link set v1 up"));
        // Nobody has this address, so that no answer mixes in.
        run(&format!("{inside} neigh add 10.99.0.9 lladdr 02:00:00:00:00:99 dev v0"));
        let log = desk.at("sent");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/absence/send.py");
        let mut sender = Command::new("ip");
        sender.args(["netns", "exec", &namespace, "python3", script, "10.99.0.9"]);
        sender.args([RATE.to_string(), SIZE.to_string()]).arg(&log).args(more);
        let sender = sender.stdin(Stdio::piped()).spawn().expect("the sender starts");
        Wire { namespace, sender: Some(sender), log }
    }

    /// Ends the sender; when each number was sent.
    fn sent(&mut self) -> Vec<i64> {
        let mut sender = self.sender.take().expect("it runs");
        drop(sender.stdin.take());
        assert!(sender.wait().expect("it ends").success());
        let log = std::fs::read_to_string(&self.log).expect("a log");
        log.lines().map(|line| line.parse().expect("a number")).collect()
    }

    fn link(&self, words: &[&str]) -> bool {
        let mut ip = within(20, "ip");
        ip.args(["-n", &self.namespace, "link"]).args(words).stderr(Stdio::null());
        ip.status().expect("it starts").success()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(mut sender) = self.sender.take() {
            let _ = sender.kill();
            let _ = sender.wait();
        }
        let _ = within(20, "ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// A recorder in the namespace of a wire; killed when dropped.
pub struct Recorder {
    child: Child,
    ring: PathBuf,
}

impl Recorder {
    pub fn start(wire: &Wire, ring: &Path, more: &[&str]) -> Recorder {
        Recorder::start_with(wire, ring, more, &[])
    }

    fn start_with(wire: &Wire, ring: &Path, more: &[&str], environment: &[(&str, &str)]) -> Recorder {
        let _ = std::fs::remove_file(ring.join("control.sock"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", wire.namespace)).arg(built("sharkrec"));
        command.args(["record", "--iface", "v1", "--no-sockets", "--capture-buffer", "512KiB", "--ring"]);
        let said = std::fs::File::create(wire.log.with_extension("said")).expect("a file");
        command.arg(ring).args(more).envs(environment.iter().copied()).stderr(said);
        let child = command.spawn().expect("it starts");
        let recorder = Recorder { child, ring: ring.to_owned() };
        let end = Instant::now() + Duration::from_secs(10);
        while recorder.status().0 != 0 {
            let said = || std::fs::read_to_string(wire.log.with_extension("said")).unwrap_or_default();
            assert!(Instant::now() < end, "the recorder did not start: {}", said());
            sleep(Duration::from_millis(20));
        }
        recorder
    }

    fn status(&self) -> (i32, String) {
        let output = within(20, built("sharkrec")).args(["status", "--ring"]).arg(&self.ring).output();
        let output = output.expect("it starts");
        (output.status.code().expect("it ends"), String::from_utf8(output.stdout).expect("text"))
    }

    fn signal(&self, name: &str) {
        let text = format!("kill -{name} {}", self.child.id());
        finished(within(5, "sh").args(["-c", &text]));
    }

    fn thread(&self, name: &str, what: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/absence/thread.py");
        finished(within(60, "python3").arg(script).args([&self.child.id().to_string(), name]).args(what));
    }

    /// The exit code of a process that ends by itself, and how long it took.
    fn ends(mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return (status.code(), start.elapsed());
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it goes on: {:?}", self.status());
            sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.ends().0, Some(0));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is missing of the numbers, and what is said to be.
struct Ledger {
    /// When each number was sent.
    sent: Vec<i64>,
    /// Stamps of those that are in the source.
    seen: BTreeMap<u64, i64>,
    /// As the table `coverage` has it, its parts joined: from, to, state, why.
    blind: Vec<(i64, i64, String, String)>,
}

impl Ledger {
    fn of(desk: &Desk, source: &Path, sent: Vec<i64>) -> Ledger {
        let file = desk.at("all.pcapng");
        let _ = std::fs::remove_file(&file);
        finished(desk.sharkq().arg("pcap").arg(source).args(["udp", "-w"]).arg(&file));
        let number = |packet: captures::Packet| {
            let bytes = packet.data.get(42..50)?.try_into().ok()?;
            Some((u64::from_be_bytes(bytes), packet.time.as_nanos() as i64))
        };
        let seen = captures::read(&file).into_iter().filter_map(number).collect();
        let rows = "SELECT arrow_cast(from_ts, 'Int64') AS f, arrow_cast(to_ts, 'Int64') AS t, state, why FROM coverage
            WHERE why IS NOT NULL AND state <> 'not_targeted'";
        let sql = format!(
            "SELECT min(f) AS f, max(t) AS t, state, why FROM (
                SELECT *, sum(begins) OVER (PARTITION BY state, why ORDER BY f) AS stretch FROM (
                    SELECT *, CASE WHEN f > lag(t) OVER (PARTITION BY state, why ORDER BY f) THEN 1 ELSE 0 END AS begins
                    FROM ({rows})))
            GROUP BY state, why, stretch ORDER BY 1"
        );
        let time = |row: &Value, name: &str| row[name].as_i64().expect("a time");
        let text = |row: &Value, name: &str| row[name].as_str().expect("a text").to_owned();
        let rows = desk.rows(source, &sql);
        let blind =
            rows.iter().map(|row| (time(row, "f"), time(row, "t"), text(row, "state"), text(row, "why")));
        Ledger { sent, seen, blind: blind.collect() }
    }

    /// Runs of numbers that are missing between the first and the last that is there. Where the clock was
    /// set, one ends.
    fn missing(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let (first, last) = (self.seen.first_key_value(), self.seen.last_key_value());
        let (Some((first, _)), Some((last, _))) = (first, last) else { return runs };
        for number in (*first..*last).filter(|number| !self.seen.contains_key(number)) {
            match runs.last_mut() {
                Some((_, end)) if *end + 1 == number && !self.is_set_before(number) => *end = number,
                _ => runs.push((number, number)),
            }
        }
        runs
    }

    /// Whether the clock was set between a number and the one before.
    fn is_set_before(&self, number: u64) -> bool {
        let [before, after] = [number - 1, number].map(|number| self.sent[number as usize]);
        before.abs_diff(after) > 60_000_000_000
    }

    /// Blind stretches, joined where one ends in the next.
    fn stretches(&self) -> Vec<(i64, i64)> {
        let mut stretches: Vec<(i64, i64)> = Vec::new();
        for (from_ns, to_ns, ..) in &self.blind {
            match stretches.last_mut() {
                Some((_, end)) if *from_ns <= *end => *end = (*end).max(*to_ns),
                _ => stretches.push((*from_ns, *to_ns)),
            }
        }
        stretches
    }

    /// What is missing is blind, and what is blind is missing, to within one packet at each end.
    fn balances(&self, what: &str) {
        let first = self.seen.first_key_value();
        let told =
            || format!("{what}: first {first:?}, missing {:?}, blind {:?}", self.missing(), self.blind);
        let at = |number: u64| self.sent[number as usize];
        let missing = self.missing();
        // Coverage tells of no time after the latest packet that is there.
        let latest_ns = self.seen.values().max().copied().unwrap_or_default();
        for (first, last) in missing.iter().filter(|(first, _)| at(*first) < latest_ns) {
            let covers = |(from_ns, to_ns): &(i64, i64)| {
                *from_ns <= at(*first) + PERIOD_NS && *to_ns >= at(*last) - PERIOD_NS
            };
            assert!(self.stretches().iter().any(covers), "{first} to {last} are not told of; {}", told());
        }
        for (from_ns, to_ns) in self.stretches() {
            let inside = |ns: &&i64| (from_ns + 1..to_ns).contains(*ns);
            let seen: Vec<&i64> = self.seen.values().filter(inside).collect();
            assert!(seen.len() <= 2, "{} packets of {from_ns} to {to_ns} are there; {}", seen.len(), told());
            let is_in = |(first, last): &(u64, u64)| at(*first) < to_ns && at(*last) > from_ns;
            let empty_ns = 3 * PERIOD_NS;
            // What the ring gave up was before the first packet that it still has.
            let is_gone = first.is_some_and(|(_, first_ns)| to_ns <= *first_ns + PERIOD_NS);
            let is_missing = missing.iter().any(is_in) || to_ns - from_ns <= empty_ns || is_gone;
            assert!(is_missing, "nothing is missing; {}", told());
        }
    }
}

/// The answer to a question about a stretch of time: is it called complete?
fn is_complete(desk: &Desk, source: &Path, from_ns: i64, to_ns: i64) -> bool {
    let sql = format!(
        "SELECT count(*) FROM flows WHERE ts >= arrow_cast({from_ns}, 'Timestamp(ns)') AND ts <= arrow_cast({to_ns}, 'Timestamp(ns)')"
    );
    let output =
        desk.sharkq().arg("sql").arg(source).args(["--strict", "-c", &sql]).output().expect("it starts");
    let error = String::from_utf8(output.stderr).expect("text");
    match output.status.code() {
        Some(0) => assert!(error.starts_with("coverage: complete"), "{error}"),
        Some(4) => assert!(error.starts_with("coverage: INCOMPLETE"), "{error}"),
        other => panic!("{other:?}: {error}"),
    }
    output.status.success()
}

/// Each run of missing numbers makes a question about it incomplete; a second in which none is missing is complete.
fn strict_holds(desk: &Desk, source: &Path, ledger: &Ledger) {
    let missing = ledger.missing();
    for (first, last) in &missing {
        let (from_ns, to_ns) = (ledger.sent[*first as usize], ledger.sent[*last as usize]);
        assert!(!is_complete(desk, source, from_ns - 1_000_000, to_ns + 1_000_000), "{first} to {last}");
    }
    let (first, _) = ledger.seen.first_key_value().expect("packets");
    let whole = *first + RATE / 2;
    let is_whole = missing.iter().all(|(first, _)| *first > whole + RATE);
    assert!(is_whole, "the recorder ran for a second and a half before anything happened");
    let at = |number: u64| ledger.sent[number as usize];
    assert!(is_complete(desk, source, at(whole), at(whole + RATE / 2)));
    // Before the first packet that was let in, and after the last, nothing was recorded.
    assert!(!is_complete(desk, source, at(*first) - 2_000_000_000, at(*first)));
    let (last, _) = ledger.seen.last_key_value().expect("packets");
    assert!(!is_complete(desk, source, at(*last), at(*last) + 2_000_000_000));
}

fn seconds(number: f64) {
    sleep(Duration::from_secs_f64(number));
}

#[test]
fn what_is_blind_is_what_is_missing_while_the_recorder_is_stopped_killed_frozen_and_robbed_of_its_threads() {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let mut wire = Wire::new(&desk, "a");
    let ring = desk.at("ring");
    seconds(0.5);
    let recorder = Recorder::start(&wire, &ring, &[]);
    seconds(3.0);
    recorder.stop();
    seconds(1.5);
    let recorder = Recorder::start(&wire, &ring, &[]);
    seconds(2.0);
    recorder.signal("KILL");
    recorder.ends();
    seconds(1.5);
    // It stands still until the packet socket buffer is full.
    let recorder = Recorder::start(&wire, &ring, &[]);
    seconds(1.5);
    recorder.signal("STOP");
    seconds(4.0);
    recorder.signal("CONT");
    seconds(2.0);
    assert_eq!(recorder.status().0, 0, "{}", recorder.status().1);
    let mut recorder = recorder;
    for name in ["capture-0", "writer-0", "keeper", "devices"] {
        recorder.thread(name, &["end"]);
        let (code, took) = recorder.ends();
        assert_eq!(code, Some(1), "{name}");
        assert!(took < Duration::from_secs(6), "{name}: {took:?}");
        recorder = Recorder::start(&wire, &ring, &[]);
        seconds(1.0);
    }
    // A capture thread that stands still cannot be waited for.
    recorder.thread("capture-0", &["stop", "6"]);
    assert_eq!(recorder.ends().0, Some(1));
    let recorder = Recorder::start(&wire, &ring, &[]);
    seconds(1.0);
    if wire.link(&["set", "v1", "name", "w1"]) {
        seconds(1.0);
        assert_eq!(recorder.status().0, 0);
    }
    let snapshot = snapshot(&desk, &ring);
    recorder.stop();
    seconds(0.2);
    let sent = wire.sent();
    for (source, name) in [(&ring, "ring"), (&snapshot, "snapshot")] {
        let ledger = Ledger::of(&desk, source, sent.clone());
        assert!(ledger.missing().len() >= 8, "{name}: {:?}", ledger.missing());
        ledger.balances(name);
        strict_holds(&desk, source, &ledger);
    }
}

/// 32 MiB of ext4 in a file, mounted.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn new(desk: &Desk) -> Disk {
        let disk = Disk { image: desk.at("image"), mount: desk.at("disk") };
        std::fs::create_dir(&disk.mount).expect("a folder");
        let file = std::fs::File::create(&disk.image).expect("a file");
        file.set_len(32 << 20).expect("its size");
        finished(within(20, "mkfs.ext4").args(["-q", "-m", "0"]).arg(&disk.image));
        let options = ["-o", "loop,errors=remount-ro"];
        finished(within(20, "mount").args(options).arg(&disk.image).arg(&disk.mount));
        disk
    }

    fn freeze(&self, flag: &str) {
        finished(within(20, "fsfreeze").arg(flag).arg(&self.mount));
    }

    /// Makes the kernel believe that the file system is damaged: from then on it is read-only.
    fn fail(&self) {
        let device = printed(within(5, "findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.mount));
        let name = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1")
            .expect("ext4 lets itself be failed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = within(20, "fsfreeze").arg("-u").arg(&self.mount).stderr(Stdio::null()).status();
        let _ = within(20, "umount").arg("-l").arg(&self.mount).stderr(Stdio::null()).status();
    }
}

#[test]
fn what_is_blind_is_what_is_missing_while_the_disk_is_full_stands_still_and_is_read_only() {
    if !is_permitted() {
        return;
    }
    let desk = Desk::new();
    let mut wire = Wire::new(&desk, "b");
    let disk = Disk::new(&desk);
    let ring = disk.mount.join("ring");
    seconds(0.5);
    let options = ["--queue", "2MiB", "--ring-size", "64MiB", "--segment-age", "2s", "--compression", "none"];
    let recorder = Recorder::start(&wire, &ring, &options);
    seconds(3.0);
    // Somebody else takes all there is, as fast as the ring gives up.
    let other = disk.mount.join("other");
    let fill = |bytes: u64| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&other).expect("a file");
        let block = vec![1; 64 << 10];
        let mut left = bytes;
        while left > 0 && std::io::Write::write_all(&mut file, &block).is_ok() {
            left = left.saturating_sub(block.len() as u64);
        }
    };
    let filling = Instant::now();
    let mut refused = false;
    while filling.elapsed() < Duration::from_secs(4) {
        fill(64 << 20);
        refused |= recorder.status().0 == 4;
        sleep(Duration::from_millis(100));
    }
    assert!(refused, "{}", recorder.status().1);
    std::fs::remove_file(&other).expect("it is there");
    seconds(2.5);
    assert_eq!(recorder.status().0, 0, "it goes on: {}", recorder.status().1);
    // Nothing answers for longer than the queue lasts.
    disk.freeze("-f");
    let frozen = Instant::now();
    while recorder.status().0 == 0 {
        assert!(frozen.elapsed() < Duration::from_secs(6), "nobody noticed: {}", recorder.status().1);
        sleep(Duration::from_millis(100));
    }
    let (code, status) = recorder.status();
    assert!(code == 1 && status.contains("NOT RECORDING"), "{status}");
    seconds(1.0);
    disk.freeze("-u");
    seconds(2.5);
    assert_eq!(recorder.status().0, 0, "it goes on: {}", recorder.status().1);
    disk.fail();
    seconds(2.0);
    assert_eq!(recorder.status().0, 4, "{}", recorder.status().1);
    recorder.signal("TERM");
    recorder.ends();
    // What is left moves to a disk that takes data.
    let moved = desk.at("ring");
    finished(within(20, "cp").arg("-a").arg(&ring).arg(&moved));
    let ring = moved;
    let recorder = Recorder::start(&wire, &ring, &options);
    seconds(1.5);
    recorder.stop();
    seconds(0.2);
    let sent = wire.sent();
    let ledger = Ledger::of(&desk, &ring, sent);
    assert!(ledger.missing().len() >= 3, "{:?}", ledger.missing());
    ledger.balances("ring");
    for (first, last) in ledger.missing() {
        let (from_ns, to_ns) = (ledger.sent[first as usize], ledger.sent[last as usize]);
        assert!(!is_complete(&desk, &ring, from_ns - 1_000_000, to_ns + 1_000_000), "{first} to {last}");
    }
}

/// Takes a snapshot of the last ten minutes; gives its folder.
fn snapshot(desk: &Desk, ring: &Path) -> PathBuf {
    let mut take = within(60, built("sharkrec"));
    take.args(["snapshot", "--since", "10m", "--ring"]).arg(ring).arg("--to").arg(desk.at("snapshots"));
    let url = printed(&mut take);
    PathBuf::from(url.trim().trim_start_matches("file://"))
}
