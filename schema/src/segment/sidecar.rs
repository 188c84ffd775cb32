//! The sidecar `<segment>.json`: what a segment holds, what it lost and why, its hash and its place in the chain.
//! In: the counters of a recorder at seal. Out: JSON that stays readable by every later version.
//! What cannot be known is None, never 0.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    pub format: u32,
    /// ULID, also in the section header of the segment.
    pub segment_id: String,
    /// File name of the segment this describes.
    pub segment: String,
    pub worker: u16,
    pub seq: u64,
    pub node: String,
    pub cluster: String,
    pub packets: u64,
    /// pcapng bytes before compression.
    pub bytes_raw: u64,
    pub bytes_stored: u64,
    /// Earliest and latest stamp; None without packets. The clock may step: they are not first and last in the file.
    pub min_ns: Option<i64>,
    pub max_ns: Option<i64>,
    pub interfaces: Vec<SidecarInterface>,
    /// Sum over interfaces and buckets.
    pub totals: Counters,
    pub buckets: Vec<Bucket>,
    /// When the packets that `totals` counts as lost were lost, in the order of time. At most [`MOST_LOSSES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
    /// Of the stored bytes, lower-case hex.
    pub sha256: String,
    /// Hash of the file bytes of the sidecar sealed before by the same worker; None for the first of a ring.
    pub prev_sidecar_sha256: Option<String>,
    pub sealed_at_ns: i64,
    pub close_reason: CloseReason,
    pub config_sha256: String,
    pub versions: Versions,
    pub filter: Option<String>,
    /// Bytes kept of each packet.
    pub snaplen: u32,
}

impl Sidecar {
    /// The file is text with one trailing newline; the chain hashes exactly these bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a struct of strings and numbers serialises");
        text.push(b'\n');
        text
    }

    /// Reads a sidecar of this or any earlier version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Sidecar, SidecarError> {
        let sidecar: Sidecar = serde_json::from_slice(bytes)?;
        match sidecar.format {
            1..=FORMAT_VERSION => Ok(sidecar),
            newer => Err(SidecarError::Newer(newer)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    #[error("not a sidecar: {0}")]
    Json(#[from] serde_json::Error),
    #[error("sidecar has format {0}, this program reads up to {FORMAT_VERSION}; use a newer one")]
    Newer(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarInterface {
    /// As in the packet blocks of the segment.
    pub id: u32,
    pub name: String,
    pub ifindex: Option<u32>,
    pub snaplen: u32,
    #[serde(default)]
    pub synthetic_ethernet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
}

/// The pod behind an interface, as the recorder knew it when it opened the segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// In place of an interface: a socket that several interfaces share. What the kernel received and dropped for it is known of all
/// of them together only.
pub const SHARED_SOCKET: u32 = u32::MAX;

/// Counters of one interface, or of [`SHARED_SOCKET`], in one stretch of 10 s of UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub start_ns: i64,
    pub interface: u32,
    pub counters: Counters,
}

/// A sidecar tells of no more losses one by one; the last of them then reaches over all that came later.
pub const MOST_LOSSES: usize = 256;

/// A stretch of time in which packets were lost; none was lost outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Stamp of the first lost packet, or of the last packet before it where lost packets were not seen.
    pub from_ns: i64,
    /// Stamp of the last lost packet, or of the first packet after it.
    pub to_ns: i64,
    pub packets: u64,
    pub cause: LostBy,
}

/// Where packets were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostBy {
    /// The packet socket buffer was full.
    Kernel,
    /// The queue to the writer was full.
    Queue,
    /// The disk refused.
    Disk,
    /// One that a later version knows.
    #[serde(other)]
    Unknown,
}

impl LostBy {
    pub fn as_str(self) -> &'static str {
        match self {
            LostBy::Kernel => "the packet socket buffer was full",
            LostBy::Queue => "the queue to the writer was full",
            LostBy::Disk => "the disk refused",
            LostBy::Unknown => "lost",
        }
    }
}

/// Differences, never running totals. `offered = written + kernel_dropped + user_dropped + disk_dropped`, exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub offered: u64,
    pub written: u64,
    /// Wire bytes of the written packets.
    pub written_bytes: u64,
    /// What the kernel says it received for the socket, drops included. It counts a packet when it enters the kernel's
    /// ring, `offered` when it leaves it, so that they agree once the ring is empty. None for a replay, and for an interface
    /// that shares its socket: then what the kernel dropped of it is not known either, and counted for the socket.
    pub kernel_received: Option<u64>,
    pub kernel_dropped: u64,
    pub ring_freezes: u64,
    pub nic_dropped: Option<u64>,
    /// Rejected by the filter; None where the kernel does not say.
    pub filtered: Option<u64>,
    /// Lost because the queue to the writer was full.
    pub user_dropped: u64,
    /// Lost because the disk refused.
    pub disk_dropped: u64,
    /// Wire bytes of the packets counted in `user_dropped` and `disk_dropped`.
    pub overload_bytes: u64,
    /// Wire bytes not kept because of the snaplen or another policy.
    pub policy_bytes: u64,
    /// Packets stored shorter than they were.
    pub truncated: u64,
}

impl Counters {
    /// Packets lost for any reason that is not policy.
    pub fn lost(&self) -> u64 {
        self.kernel_dropped.saturating_add(self.user_dropped).saturating_add(self.disk_dropped)
    }
}

/// Sums stop at the largest number: a sidecar may claim anything.
impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        let both = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b)).or(a).or(b);
        self.offered = self.offered.saturating_add(other.offered);
        self.written = self.written.saturating_add(other.written);
        self.written_bytes = self.written_bytes.saturating_add(other.written_bytes);
        self.kernel_received = both(self.kernel_received, other.kernel_received);
        self.kernel_dropped = self.kernel_dropped.saturating_add(other.kernel_dropped);
        self.ring_freezes = self.ring_freezes.saturating_add(other.ring_freezes);
        self.nic_dropped = both(self.nic_dropped, other.nic_dropped);
        self.filtered = both(self.filtered, other.filtered);
        self.user_dropped = self.user_dropped.saturating_add(other.user_dropped);
        self.disk_dropped = self.disk_dropped.saturating_add(other.disk_dropped);
        self.overload_bytes = self.overload_bytes.saturating_add(other.overload_bytes);
        self.policy_bytes = self.policy_bytes.saturating_add(other.policy_bytes);
        self.truncated = self.truncated.saturating_add(other.truncated);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    Size,
    Age,
    /// Sealed early so that the next segment could be compressed less.
    Pressure,
    Snapshot,
    Stop,
    CrashRecovered,
}

impl CloseReason {
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Size => "size",
            CloseReason::Age => "age",
            CloseReason::Pressure => "pressure",
            CloseReason::Snapshot => "snapshot",
            CloseReason::Stop => "stop",
            CloseReason::CrashRecovered => "crash_recovered",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub recorder: String,
    pub kernel: String,
    pub zstd: String,
}
