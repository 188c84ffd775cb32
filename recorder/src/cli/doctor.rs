//! `sharkrec doctor`: what works here. A feature is ok only when its event was provoked and seen.

use std::fs;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use shark_bpf::any_socket::AnySocket;
use shark_schema::segment::{self, Block, Blocks, InterfaceNote, SectionNote};
use shark_schema::shown::{Shown, shown_in_line};

use crate::batch::circle;
use crate::capture::{Device, Filter, Line, News, Ring, RingOptions};
use crate::config::host_name;
use crate::ring::private_dir;
use crate::snapshot::Target;
use crate::supervisor::WorkerProgress;
use crate::time::{new_ulid, now_ns};
use crate::tls;
use crate::witness::check;
use crate::witness::kube::{Kube, Scope};

/// Check every feature by using it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sharkrec doctor --ring /var/lib/sharkrec
  sharkrec doctor --kube node --to s3://incidents/prod --json

A feature is ok when an event was provoked and seen. Only `capture` decides the exit code: nothing else stops a recording.")]
pub struct Arguments {
    /// Directory of the ring, to check its disk too
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: Option<PathBuf>,
    /// What is watched of Kubernetes, to check it too: `node` as a recorder of --node does, `cluster` as the witness does
    #[arg(long, env = "SHARKREC_KUBE", value_name = "SCOPE")]
    kube: Option<Watched>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "SHARKREC_NODE", value_name = "NAME")]
    node: Option<String>,
    /// How to reach the API server [default: KUBECONFIG, ~/.kube/config, the pod's service account]
    #[arg(long, env = "SHARKREC_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A store that snapshots go to, to check it too; may be given several times
    #[arg(long, env = "SHARKREC_TO", value_name = "URL")]
    to: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Watched {
    Node,
    Cluster,
}

impl Arguments {
    /// Fails when a feature without which nothing is recorded does not work.
    pub fn run(self) -> anyhow::Result<()> {
        let mut checks = vec![
            ("capture".to_owned(), captures(1, None)),
            ("filter".to_owned(), captures(1, Some("udp"))),
            ("workers".to_owned(), captures(2, None)),
            ("any_socket".to_owned(), any_socket()),
            ("processes".to_owned(), check::processes()),
            ("sockets".to_owned(), check::sockets()),
            ("cgroups".to_owned(), check::cgroups()),
            ("tls".to_owned(), tls::check()),
            ("clock".to_owned(), clock()),
        ];
        if let Some(ring) = &self.ring {
            checks.push(("disk".to_owned(), disk(ring)));
        }
        for url in &self.to {
            checks.push((format!("store {url}"), store(url)));
        }
        if let Some(watched) = self.kube {
            checks.extend(self.kubernetes(watched)?);
        }
        let out = io::stdout().lock();
        let mut out = if self.json { Shown::json(out) } else { Shown::text(out) };
        for (feature, result) in &checks {
            let verdict = result.as_ref().map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned());
            match self.json {
                true => writeln!(out, "{}", serde_json::json!({ "feature": feature, "result": verdict }))?,
                false => writeln!(out, "{:<20} {}", shown_in_line(feature), shown_in_line(&verdict))?,
            }
        }
        ensure!(checks[0].1.is_ok(), "packets cannot be captured here");
        Ok(())
    }
}

impl Arguments {
    fn kubernetes(&self, watched: Watched) -> anyhow::Result<Vec<(String, anyhow::Result<()>)>> {
        let scope = match watched {
            Watched::Node => Scope::Node(self.node.clone().unwrap_or_else(host_name)),
            Watched::Cluster => Scope::Cluster,
        };
        let results = Kube { scope, kubeconfig: self.kubeconfig.clone() }.check()?;
        let named = |(what, result): (&str, Result<(), String>)| {
            (format!("kube_{what}"), result.map_err(anyhow::Error::msg))
        };
        Ok(results.into_iter().map(named).collect())
    }
}

/// Sends packets over loopback and looks for each of them in the ring.
fn captures(workers: u16, filter: Option<&str>) -> anyhow::Result<()> {
    let options = options(filter)?;
    let group = (workers > 1).then_some(std::process::id() as u16 ^ 0x5A5A);
    let mut rings = Vec::new();
    for _ in 0..workers {
        let (ring, news) = Ring::empty();
        let mut line = Line::open(0, "lo", &options, group)?;
        line.start(&options.filter)?;
        news.send(News::Line(Box::new(line))).ok().context("the ring is gone")?;
        rings.push(ring);
    }
    all_seen(rings)
}

fn options(filter: Option<&str>) -> anyhow::Result<RingOptions> {
    let filter = Filter::compile(filter, 65_536)?;
    Ok(RingOptions { buffer_bytes: 1 << 20, snaplen: 65_536, promiscuous: false, filter })
}

/// The same through the one socket of all interfaces, whose BPF filter lets loopback pass.
fn any_socket() -> anyhow::Result<()> {
    let mut filter = AnySocket::load().map_err(|reason| anyhow::anyhow!("{reason}"))?;
    let (ring, news) = Ring::shared(&options(None)?, None, &mut filter)?;
    let ifindex =
        fs::read_to_string("/sys/class/net/lo/ifindex").context("there is no lo")?.trim().parse()?;
    filter.list_loopback(ifindex, 65_536)?;
    let device = Device { name: "lo".to_owned(), ifindex, synthetic_ethernet: false, loopback: true };
    let lo = News::Device { id: 0, device, promiscuous: false, alone: true };
    news.send(lo).ok().context("the ring is gone")?;
    all_seen(vec![ring])
}

/// Whether a place for snapshots can be reached, with this key and this right.
fn store(url: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let probe = new_ulid().context("/dev/urandom")?;
    runtime.block_on(async { Ok(Target::open(url, &format!("doctor-{probe}"))?.probe().await?) })
}

fn all_seen(rings: Vec<Ring>) -> anyhow::Result<()> {
    let stop = AtomicBool::new(false);
    let marker = now_ns().to_be_bytes();
    let mut seen = 0;
    thread::scope(|scope| -> anyhow::Result<()> {
        let mut sinks = Vec::new();
        for ring in rings {
            let (source, sink) = circle(64, 1 << 20);
            sinks.push(sink);
            let stop = &stop;
            scope.spawn(move || ring.run(&source, stop, &WorkerProgress::default()));
        }
        let sent = send(&marker);
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        for sink in sinks {
            while let Ok(batch) = sink.receive(Duration::from_secs(1)) {
                seen += count(&batch.data, &marker);
            }
        }
        sent
    })?;
    ensure!(seen == SENT, "{seen} of {SENT} packets sent over lo were seen");
    Ok(())
}

const SENT: usize = 20;

fn send(marker: &[u8]) -> anyhow::Result<()> {
    // Several flows, so that every worker of a group gets some.
    for _ in 0..SENT {
        let receiver = UdpSocket::bind("127.0.0.1:0").context("loopback is down?")?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        sender.send_to(marker, receiver.local_addr()?)?;
    }
    Ok(())
}

/// Marked packets in a batch whose stamp is of this minute.
fn count(data: &[u8], marker: &[u8]) -> usize {
    // Packets alone are not a file: a section and an interface make them one.
    let mut file = preamble();
    file.extend_from_slice(data);
    let recent = |ns: i64| (now_ns() - ns).abs() < 60_000_000_000;
    let marked = |block: &Block<'_>| match block {
        Block::Packet(packet) => packet.data.ends_with(marker) && packet.ts_ns.is_some_and(recent),
        _ => false,
    };
    Blocks::new(&file).flatten().filter(|item| marked(&item.block)).count()
}

fn clock() -> anyhow::Result<()> {
    let clock = crate::time::clock_reading();
    ensure!(clock.uncertainty_ns < 1_000_000, "a reading takes {} ns", clock.uncertainty_ns);
    Ok(())
}

/// Writes, makes durable, links and removes, as sealing and pinning do.
fn disk(ring: &Path) -> anyhow::Result<()> {
    private_dir(ring).with_context(|| ring.display().to_string())?;
    let (first, second) = (ring.join(".doctor"), ring.join(".doctor.link"));
    let result = (|| {
        let mut file = fs::File::create(&first)?;
        file.write_all(&vec![0x5A; 1 << 20])?;
        file.sync_data()?;
        fs::hard_link(&first, &second)?;
        fs::read(&second)
    })();
    let _ = fs::remove_file(&first);
    let _ = fs::remove_file(&second);
    let read = result.with_context(|| ring.display().to_string())?;
    ensure!(
        read.iter().all(|byte| *byte == 0x5A),
        "{}: what was written is not what is read",
        ring.display()
    );
    Ok(())
}

fn preamble() -> Vec<u8> {
    let mut out = Vec::new();
    let (node, cluster, segment_id) = (String::new(), String::new(), String::new());
    let note = SectionNote { format: segment::FORMAT_VERSION, segment_id, node, cluster, worker: 0, seq: 0 };
    segment::section(&mut out, "sharkrec doctor", &note);
    let note = InterfaceNote { ifindex: None, snaplen: 65_536, synthetic_ethernet: false, pod: None };
    segment::interface(&mut out, "lo", &note, None);
    out
}
