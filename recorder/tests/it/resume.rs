//! Snapshots that are killed at any moment and completed later, with no more said than their id: in a directory and in a bucket, with
//! the ring gone round meanwhile, with the witness gone, and after the ring has let go what they held.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use shark_schema::identity::{Fact, Feature};
use shark_schema::manifest::{Manifest, NodeManifest};
use sharkrec::ring::Ring;

use crate::net::Net;
use crate::process::{PROGRAM, Recorder, sharkrec, sharkrec_fails, status_with};
use crate::reading::{bytes, facts, names, number, numbers, packets, packets_of};
use crate::s3::{SECRET, Server};
use crate::snapshot::verify;

/// A ring of several segments with 3,000 packets, and a witness's directory.
struct Scene {
    net: Net,
    _recorder: Recorder,
    ring: PathBuf,
    witness: PathBuf,
    dir: tempfile::TempDir,
}

const SENT: u64 = 3_000;
const RING_BYTES: u64 = 16 << 20;

/// What is waited for before the kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Noted,
    Pinning,
    Planned,
    FirstObject,
    NodeManifest,
}

use Moment::{FirstObject, NodeManifest as NodesManifest, Noted, Pinning, Planned};

#[test]
fn in_a_directory_killed_at_any_moment() {
    let Some(scene) = Scene::new() else { return };
    let to = scene.dir.path().join("to");
    let start = || {
        let mut command = Command::new(PROGRAM);
        command.arg("snapshot").args(scene.wanted(to.to_str().unwrap(), scene.witness.to_str().unwrap()));
        command
    };
    let resume = |id: &str| sharkrec(&["snapshot", "--ring", scene.ring.to_str().unwrap(), "--resume", id]);
    scene.survives(start, &to, resume);
}

#[test]
fn in_a_bucket_killed_at_any_moment() {
    let Some(server) = Server::start() else { return };
    let Some(scene) = Scene::new() else { return };
    let to = server.root.join("snaps/prod");
    let start = || {
        let mut command = server.command("/proc/self/ns/net", SECRET);
        command.arg("snapshot").args(scene.wanted("s3://snaps/prod", scene.witness.to_str().unwrap()));
        command
    };
    let resume = |id: &str| {
        let mut command = server.command("/proc/self/ns/net", SECRET);
        command.args(["snapshot", "--resume", id, "--ring"]).arg(&scene.ring).output().unwrap()
    };
    scene.survives(start, &to, resume);
}

#[test]
fn the_witness_is_gone_when_it_is_completed() {
    let Some(scene) = Scene::new() else { return };
    let to = scene.dir.path().join("to");
    // It takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut command = Command::new(PROGRAM);
    command.arg("snapshot").args(scene.wanted(to.to_str().unwrap(), &url));
    let id = scene.killed(&mut command, &to, Planned).expect("it waits for the witness");
    drop(silent);
    let status = status_with(0, &scene.ring, &[]);
    let line = format!("(checkout) was interrupted: `sharkrec snapshot --resume {id}` completes it");
    assert!(status.contains(&line), "{status}");
    let output = sharkrec(&["snapshot", "--ring", scene.ring.to_str().unwrap(), "--resume", &id]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("without the log of the cluster's witness"), "{said}");
    assert_eq!(numbers(&packets(&verify(&to.join(&id)))).len() as u64, SENT);
    let top = Manifest::from_bytes(&fs::read(to.join(&id).join("manifest.json")).unwrap()).unwrap();
    let [missing] = &top.missing[..] else { panic!("{top:?}") };
    assert_eq!(missing.what, "log of the cluster's witness");
    assert!(missing.why.contains("Connection refused"), "{}", missing.why);
    assert!(top.cluster_log.is_empty());
}

#[test]
fn what_was_let_go_is_asked_for_again_and_what_does_not_belong_is_removed() {
    let Some(server) = Server::start() else { return };
    let Some(scene) = Scene::new() else { return };
    let ring = scene.ring.to_str().unwrap();
    let to = server.root.join("snaps/prod");
    let run = |arguments: &[&str]| {
        let mut command = server.command("/proc/self/ns/net", SECRET);
        command.arg("snapshot").args(arguments).output().unwrap()
    };
    let wanted = scene.wanted("s3://snaps/prod", scene.witness.to_str().unwrap());
    let id = scene.interrupted(
        || {
            let mut command = server.command("/proc/self/ns/net", SECRET);
            command.arg("snapshot").args(&wanted);
            command
        },
        &to,
        FirstObject,
    );
    // As the recorder does after a day; meanwhile the ring has gone round.
    fs::remove_dir_all(scene.ring.join("pins").join(&id)).unwrap();
    scene.go_round();
    let leftover = objects(&to.join(&id));
    assert!(!leftover.is_empty());
    let output = run(&["--ring", ring, "--resume", &id]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("say again what is wanted: --since"), "{said}");
    assert!(!scene.ring.join("pins").join(&id).exists());
    let mut again: Vec<&str> = wanted.iter().map(String::as_str).collect();
    again.extend(["--resume", &id]);
    let output = run(&again);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("was left by an attempt before and does not belong: removed"), "{said}");
    verify(&to.join(&id));
    let kept = objects(&to.join(&id));
    assert!(leftover.iter().any(|path| !kept.contains(path)), "the ring has gone round");
}

#[test]
fn an_id_that_nothing_is_known_of() {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    Ring::create(&ring, "n", "").unwrap();
    let ring = ring.to_str().unwrap();
    let (code, said) =
        sharkrec_fails(&["snapshot", "--ring", ring, "--resume", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert_eq!(code, 1);
    assert!(said.contains("nothing is noted in"), "{said}");
    let output = sharkrec(&["snapshot", "--ring", ring]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--since"));
}

impl Scene {
    fn new() -> Option<Scene> {
        let net = Net::new()?;
        let dir = tempfile::tempdir().unwrap();
        let (ring, witness) = (dir.path().join("ring"), dir.path().join("witness"));
        let size = format!("{RING_BYTES}B");
        let recorder = Recorder::start(&net, &ring, &["--ring-size", &size, "--compression", "none"]);
        for part in 0..3 {
            net.send(part * SENT / 3, SENT / 3, 1_000, 0).join().unwrap();
            sharkrec::api::ask_seal(&Ring::open(&ring).unwrap()).expect("it seals");
        }
        let (witnessed, _lock) = Ring::create(&witness, "cluster_witness", "").unwrap();
        let log = sharkrec::log::Log::open(&witnessed, 1 << 20, "witness").unwrap();
        log.write(Fact::Feature(Feature {
            name: "kube_pods".into(),
            on: true,
            cause: None,
            why: "a test".into(),
        }));
        Some(Scene { net, _recorder: recorder, ring, witness, dir })
    }

    fn wanted(&self, to: &str, witness: &str) -> Vec<String> {
        let ring = self.ring.to_str().unwrap();
        let wanted = [
            "--ring",
            ring,
            "--since",
            "1h",
            "--to",
            to,
            "--witness",
            witness,
            "--name",
            "checkout",
            "--reason",
            "alert 4711",
        ];
        wanted.map(str::to_owned).to_vec()
    }

    /// Each moment: killed there, the ring gone round, completed, and as whole as if nothing had happened.
    fn survives(&self, start: impl Fn() -> Command, to: &Path, resume: impl Fn(&str) -> Output) {
        let begun = self.interrupted(&start, to, Noted);
        self.completed(&begun, to, &resume, &(0..SENT).collect());
        let torsos =
            [Pinning, Planned, FirstObject, NodesManifest].map(|at| self.interrupted(&start, to, at));
        let held = torsos.each_ref().map(|id| held(&self.ring.join("pins").join(id)));
        assert!(!held[0].is_empty());
        assert!(held[1..].iter().all(|held| held.len() as u64 == SENT));
        self.go_round();
        for (id, held) in torsos.iter().zip(&held) {
            self.completed(id, to, &resume, held);
        }
    }

    fn completed(&self, id: &str, to: &Path, resume: impl Fn(&str) -> Output, held: &BTreeSet<u64>) {
        let output = resume(id);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let url = String::from_utf8(output.stdout).unwrap();
        assert!(url.trim().ends_with(id) && url.lines().count() == 1, "{url}");
        let snapshot = to.join(id);
        let saved = numbers(&packets(&verify(&snapshot)));
        assert!(saved.keys().eq(held), "{} of {}", saved.len(), held.len());
        let top = Manifest::from_bytes(&fs::read(snapshot.join("manifest.json")).unwrap()).unwrap();
        assert_eq!((top.name.as_deref(), top.reason.as_deref()), (Some("checkout"), Some("alert 4711")));
        assert_eq!(facts(&snapshot.join("cluster/log")).len(), 1);
        let node = snapshot.join(&top.nodes[0].manifest);
        let node = NodeManifest::from_bytes(&fs::read(node).unwrap()).unwrap();
        assert_eq!((node.wanted, &*node.snapshot_id), (top.wanted, id));
        assert!(!self.ring.join("pins").join(id).exists());
        assert!(String::from_utf8_lossy(&resume(id).stderr).contains("nothing is noted"), "it is complete");
    }

    /// More packets than the ring has room for; what is held stays within its budget.
    fn go_round(&self) {
        let sender = self.net.send(SENT, 25_000, 1_000, 10_000);
        while !sender.is_finished() {
            let used = crate::snapshot::linked_once(&self.ring);
            assert!(used <= RING_BYTES, "{used} bytes");
            std::thread::sleep(Duration::from_millis(50));
        }
        sender.join().unwrap();
        sharkrec::api::ask_seal(&Ring::open(&self.ring).unwrap()).expect("it seals");
        let left = numbers(&packets(&self.ring.join("segments")));
        assert!(left.keys().all(|number| *number >= SENT), "the ring has gone round");
    }

    /// Tries until the kill came in time.
    fn interrupted(&self, start: impl Fn() -> Command, to: &Path, moment: Moment) -> String {
        let killed = (0..100).find_map(|_| self.killed(&mut start(), to, moment));
        killed.unwrap_or_else(|| panic!("never killed at {moment:?}"))
    }

    /// None when it was quicker.
    fn killed(&self, command: &mut Command, to: &Path, moment: Moment) -> Option<String> {
        let before = entries(&self.ring.join("pins"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let mut id = None;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "{moment:?} never came");
            id = id.or_else(|| entries(&self.ring.join("pins")).into_iter().find(|id| !before.contains(id)));
            let Some(id) = &id else { continue };
            let pins = self.ring.join("pins").join(id);
            let has_come = match moment {
                Noted => pins.join("wanted.json").exists(),
                Pinning => !held(&pins).is_empty(),
                Planned => pins.join("node.json").exists(),
                FirstObject => !objects(&to.join(id)).is_empty(),
                NodesManifest => objects(&to.join(id)).iter().any(|path| path.ends_with("manifest.json")),
            };
            if has_come {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let id = id?;
        let is_torso = self.ring.join("pins").join(&id).join("wanted.json").exists();
        let objects = objects(&to.join(&id));
        let is_whole = objects.iter().any(|path| path == &to.join(&id).join("manifest.json"));
        let has_node = objects.iter().any(|path| path.ends_with("manifest.json"));
        let is_there = match moment {
            Noted | Pinning => objects.is_empty(),
            Planned | FirstObject => !has_node,
            NodesManifest => has_node,
        };
        (is_torso && !is_whole && is_there).then_some(id)
    }
}

/// Packets of the segments that have their sidecar.
fn held(pins: &Path) -> BTreeSet<u64> {
    let names = names(pins).into_iter().filter(|name| pins.join(name.sidecar()).exists());
    names.flat_map(|name| packets_of(&bytes(pins, name))).filter_map(|packet| number(&packet)).collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn objects(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => all.extend(objects(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}
