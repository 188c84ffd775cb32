//! What a recorder is told: flags over environment over file, then the defaults.
//! In: options that may be absent. Out: settings that are complete and checked, and their hash.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::segment::hex;
use crate::time::parse_duration;
use crate::units::parse_bytes;
use crate::witness::kube::{Kube, Scope};

/// As given; the same names in a file and, with SHARKREC_ in front, in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// Directory of the ring
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    pub ring: Option<PathBuf>,
    /// Interface to record, or a pattern such as 'veth*' whose interfaces are followed as they come and go; may be repeated
    #[arg(long, env = "SHARKREC_IFACE", value_name = "NAME", value_delimiter = ',')]
    pub iface: Vec<String>,
    /// Disk budget: packets, sidecars and log together [default: 10GiB]
    #[arg(long, env = "SHARKREC_RING_SIZE", value_name = "SIZE")]
    pub ring_size: Option<String>,
    /// Bytes kept of each packet [default: 262144]
    #[arg(long, env = "SHARKREC_SNAPLEN", value_name = "BYTES")]
    pub snaplen: Option<u32>,
    /// Record only what matches, e.g. 'tcp port 80 and not host 10.0.0.1'. Every interface then has a socket of its own, which
    /// does not leave out the recorder's own uploads
    #[arg(long, env = "SHARKREC_FILTER", value_name = "TEXT")]
    pub filter: Option<String>,
    /// zstd or none [default: zstd]
    #[arg(long, env = "SHARKREC_COMPRESSION", value_name = "KIND")]
    pub compression: Option<String>,
    /// Capture threads, each with its own segments [default: 1]
    #[arg(long, env = "SHARKREC_WORKERS", value_name = "N")]
    pub workers: Option<u16>,
    /// Kernel buffer of each worker; without BPF or with --filter of each interface and worker, a sixteenth of it for one that a
    /// pattern found [default: 64MiB]
    #[arg(long, env = "SHARKREC_CAPTURE_BUFFER", value_name = "SIZE")]
    pub capture_buffer: Option<String>,
    /// Memory between capture and writer, of each worker [default: 64MiB]
    #[arg(long, env = "SHARKREC_QUEUE", value_name = "SIZE")]
    pub queue: Option<String>,
    /// A segment is sealed at this size of uncompressed packets [default: 64MiB]
    #[arg(long, env = "SHARKREC_SEGMENT_SIZE", value_name = "SIZE")]
    pub segment_size: Option<String>,
    /// A segment is sealed at this age [default: 60s]
    #[arg(long, env = "SHARKREC_SEGMENT_AGE", value_name = "DURATION")]
    pub segment_age: Option<String>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "SHARKREC_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Name of the cluster
    #[arg(long, env = "SHARKREC_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// Leave the interfaces' promiscuous mode alone
    #[arg(long, env = "SHARKREC_NO_PROMISC")]
    pub no_promisc: bool,
    /// Do not note which processes have which sockets
    #[arg(long, env = "SHARKREC_NO_SOCKETS")]
    pub no_sockets: bool,
    /// Note command lines as they are, with the passwords and tokens in them; otherwise what looks like one is masked
    #[arg(long, env = "SHARKREC_WHOLE_COMMAND_LINES")]
    pub whole_command_lines: bool,
    /// Record what programs say through OpenSSL before it is encrypted, into segments of their own
    #[arg(long, env = "SHARKREC_TLS")]
    pub tls: bool,
    /// Part of the disk budget that is kept for --tls [default: 5 % of it]
    #[arg(long, env = "SHARKREC_TLS_SIZE", value_name = "SIZE")]
    pub tls_size: Option<String>,
    /// Note the pods of this node, as the API server tells them: `node` looks for those of --node
    #[arg(long, env = "SHARKREC_KUBE", value_name = "SCOPE")]
    pub kube: Option<KubeScope>,
    /// How to reach the API server [default: KUBECONFIG, ~/.kube/config, the pod's service account]
    #[arg(long, env = "SHARKREC_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Replay a pcap or pcapng file instead of recording an interface
    #[arg(long, value_name = "FILE")]
    pub read: Option<PathBuf>,
}

impl Options {
    /// Fills what is absent from a TOML or JSON file.
    pub fn or_from(self, path: &Path) -> anyhow::Result<Options> {
        let file: Options = read_file(path)?;
        Ok(Options {
            ring: self.ring.or(file.ring),
            iface: if self.iface.is_empty() { file.iface } else { self.iface },
            ring_size: self.ring_size.or(file.ring_size),
            snaplen: self.snaplen.or(file.snaplen),
            filter: self.filter.or(file.filter),
            compression: self.compression.or(file.compression),
            workers: self.workers.or(file.workers),
            capture_buffer: self.capture_buffer.or(file.capture_buffer),
            queue: self.queue.or(file.queue),
            segment_size: self.segment_size.or(file.segment_size),
            segment_age: self.segment_age.or(file.segment_age),
            node: self.node.or(file.node),
            cluster: self.cluster.or(file.cluster),
            no_promisc: self.no_promisc || file.no_promisc,
            no_sockets: self.no_sockets || file.no_sockets,
            whole_command_lines: self.whole_command_lines || file.whole_command_lines,
            tls: self.tls || file.tls,
            tls_size: self.tls_size.or(file.tls_size),
            kube: self.kube.or(file.kube),
            kubeconfig: self.kubeconfig.or(file.kubeconfig),
            read: self.read.or(file.read),
        })
    }
}

/// What a TOML or JSON file says.
pub fn read_file<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if path.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    } else {
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

/// Whose objects a recorder notes; those of the whole cluster are noted by `sharkrec witness`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KubeScope {
    Node,
}

/// Complete and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    pub ring: PathBuf,
    pub interfaces: Vec<String>,
    pub ring_bytes: u64,
    pub snaplen: u32,
    pub filter: Option<String>,
    pub compress: bool,
    pub workers: u16,
    pub capture_buffer_bytes: u64,
    pub queue_bytes: u64,
    pub segment_bytes: u64,
    pub segment_age: Duration,
    pub node: String,
    pub cluster: String,
    pub promiscuous: bool,
    pub sockets: bool,
    pub whole_command_lines: bool,
    /// Of `ring_bytes`, for plaintext; None where none is recorded.
    pub tls_bytes: Option<u64>,
    pub kube: Option<Kube>,
    pub read: Option<PathBuf>,
}

/// Of plaintext: below this a segment and its sidecar would not fit beside the next.
const SMALLEST_TLS_BYTES: u64 = 256 << 10;
/// Below this not even one segment of each kind of content fits.
const SMALLEST_RING_BYTES: u64 = 1 << 20;

impl Settings {
    pub fn from(options: Options) -> anyhow::Result<Settings> {
        let bytes = |flag: &str, value: Option<String>, default: u64| match value {
            Some(text) => parse_bytes(&text).map_err(|why| anyhow::anyhow!("--{flag}: {why}")),
            None => Ok(default),
        };
        let age = options.segment_age.as_deref().unwrap_or("60s");
        let ring_bytes = bytes("ring-size", options.ring_size, 10 << 30)?;
        let tls_bytes = bytes("tls-size", options.tls_size, ring_bytes / 20)?;
        let workers = options.workers.unwrap_or(1);
        // An open segment cannot be evicted: even all of them together leave most of the ring to older packets.
        let most = ring_bytes / (8 * u64::from(workers.max(1)));
        let node = options.node.unwrap_or_else(host_name);
        let kube = options.kube.map(|KubeScope::Node| Scope::Node(node.clone()));
        let settings = Settings {
            ring: options.ring.context("--ring DIR is missing: the directory to record into")?,
            interfaces: once(options.iface),
            ring_bytes,
            snaplen: options.snaplen.unwrap_or(262_144),
            filter: options.filter.filter(|text| !text.trim().is_empty()),
            compress: match options.compression.as_deref().unwrap_or("zstd") {
                "zstd" => true,
                "none" => false,
                other => bail!("--compression: '{other}' is neither zstd nor none"),
            },
            workers,
            capture_buffer_bytes: bytes("capture-buffer", options.capture_buffer, 64 << 20)?,
            queue_bytes: bytes("queue", options.queue, 64 << 20)?,
            segment_bytes: bytes("segment-size", options.segment_size, 64 << 20)?.min(most),
            segment_age: parse_duration(age)
                .with_context(|| format!("--segment-age: '{age}' is not a duration"))?,
            node,
            cluster: options.cluster.unwrap_or_default(),
            promiscuous: !options.no_promisc,
            sockets: !options.no_sockets,
            whole_command_lines: options.whole_command_lines,
            tls_bytes: options.tls.then_some(tls_bytes),
            kube: kube.map(|scope| Kube { scope, kubeconfig: options.kubeconfig }),
            read: options.read,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.ring_bytes >= SMALLEST_RING_BYTES, "--ring-size: a ring needs at least 1MiB");
        ensure!((1..=64).contains(&self.workers), "--workers: between 1 and 64");
        ensure!((64..=262_144).contains(&self.snaplen), "--snaplen: between 64 and 262144");
        ensure!(self.segment_age >= Duration::from_secs(1), "--segment-age: at least 1s");
        ensure!(is_path_part(&self.node), "--node: '{}' cannot be a part of a path", self.node);
        if let Some(tls_bytes) = self.tls_bytes {
            ensure!(tls_bytes >= SMALLEST_TLS_BYTES, "--tls-size: plaintext needs at least 256KiB");
            ensure!(tls_bytes <= self.ring_bytes / 2, "--tls-size: at most half of --ring-size");
            ensure!(self.read.is_none(), "--tls and --read exclude each other");
        }
        ensure!(self.kube.is_none() || self.read.is_none(), "--kube and --read exclude each other");
        match (&self.read, self.interfaces.is_empty()) {
            (None, true) => bail!("nothing to record: give --iface NAME, or --read FILE to replay a capture"),
            (Some(_), false) => bail!("--read and --iface exclude each other"),
            _ => Ok(()),
        }
    }

    /// What was in force, as one number.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).expect("settings serialise")))
    }
}

/// A name given twice is one interface, which would otherwise be recorded twice.
fn once(names: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Names that become folders of a snapshot.
pub fn is_path_part(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}
