//! Writes the blocks of a segment: SHB, IDB, EPB and ISB, little-endian, appended to a buffer the caller reuses.
//! In: what is known of a section, an interface, a packet or a counter. Out: bytes.
//! The packet path must never allocate beyond the growth of that buffer.

use serde::{Deserialize, Serialize};

use super::{FILE_SNAPLEN_BYTES, LINKTYPE_ETHERNET, PodRef, Statistics};

/// Carried as JSON in the comment of the section header, so that a segment without its sidecar still says where it is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionNote {
    pub format: u32,
    pub segment_id: String,
    pub node: String,
    pub cluster: String,
    pub worker: u16,
    pub seq: u64,
}

/// Carried as JSON in `if_description`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceNote {
    pub ifindex: Option<u32>,
    /// Bytes kept of each packet; the block's own field is the same for all interfaces of a segment.
    pub snaplen: u32,
    /// The device has no link layer: the Ethernet header of its packets was made up.
    #[serde(default)]
    pub synthetic_ethernet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
}

/// Everything of a packet but its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketHead {
    pub interface: u32,
    pub ts_ns: i64,
    /// Length on the wire, of which the stored bytes may be a part.
    pub original_len: u32,
    pub flags: u32,
    /// Packets of the same interface lost since the one before.
    pub dropped: u64,
}

/// Appends a section header block.
pub fn section(out: &mut Vec<u8>, application: &str, note: &SectionNote) {
    let start = begin(out, 0x0A0D_0D0A);
    put_u32(out, 0x1A2B_3C4D);
    put_u16(out, 1);
    put_u16(out, 0);
    out.extend_from_slice(&u64::MAX.to_le_bytes());
    option(out, 1, json(note).as_bytes());
    option(out, 4, application.as_bytes());
    put_u32(out, 0);
    finish(out, start);
}

/// Appends an interface description block with nanosecond stamps.
pub fn interface(out: &mut Vec<u8>, name: &str, note: &InterfaceNote, filter: Option<&str>) {
    let start = begin(out, 1);
    put_u16(out, LINKTYPE_ETHERNET);
    put_u16(out, 0);
    put_u32(out, FILE_SNAPLEN_BYTES);
    option(out, 2, name.as_bytes());
    option(out, 3, json(note).as_bytes());
    option(out, 9, &[9]);
    if let Some(text) = filter {
        // The first octet says that a filter string follows (0), not BPF bytecode (1).
        let mut value = vec![0];
        value.extend_from_slice(text.as_bytes());
        option(out, 11, &value);
    }
    put_u32(out, 0);
    finish(out, start);
}

/// Appends an enhanced packet block.
pub fn packet(out: &mut Vec<u8>, head: &PacketHead, data: &[u8]) {
    packet_spliced(out, head, data, 0, &[], data.len());
}

/// As [`packet`], with bytes put back in at `at`: a VLAN tag behind the two addresses, where the kernel took it from, or a
/// link layer in front. Of the result the first `keep` bytes are stored.
#[inline]
pub fn packet_spliced(
    out: &mut Vec<u8>,
    head: &PacketHead,
    data: &[u8],
    at: usize,
    splice: &[u8],
    keep: usize,
) {
    let at = at.min(data.len());
    let caplen = keep.min(data.len() + splice.len());
    let (options, padding) = (options_len(head), caplen.wrapping_neg() & 3);
    let total = (32 + caplen + padding + options) as u32;
    let ts = head.ts_ns as u64;
    let words = [6, total, head.interface, (ts >> 32) as u32, ts as u32, caplen as u32, head.original_len];
    let mut fixed = [0u8; 28];
    for (bytes, word) in fixed.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    out.reserve(total as usize);
    out.extend_from_slice(&fixed);
    let mut left = caplen;
    for part in [&data[..at], splice, &data[at..]] {
        let part = &part[..part.len().min(left)];
        out.extend_from_slice(part);
        left -= part.len();
    }
    out.extend_from_slice(&[0; 3][..padding]);
    packet_options(out, head);
    put_u32(out, total);
}

/// Gives packets, as [`packet`] appended them, the interface that `of` has for theirs.
pub fn renumber(packets: &mut [u8], mut of: impl FnMut(u32) -> u32) {
    let mut at = 0;
    while let Some(head) = packets.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<12>()) {
        let [_, _, _, _, a, b, c, d, interface @ ..] = head;
        at += (u32::from_le_bytes([*a, *b, *c, *d]) as usize).max(12);
        *interface = of(u32::from_le_bytes(*interface)).to_le_bytes();
    }
}

/// Bytes [`packet`] appends for a packet of `caplen` stored bytes.
pub fn packet_len(head: &PacketHead, caplen: usize) -> usize {
    32 + caplen.next_multiple_of(4) + options_len(head)
}

/// Appends an interface statistics block; the counters are cumulative within the segment.
pub fn statistics(out: &mut Vec<u8>, counters: &Statistics) {
    let start = begin(out, 5);
    put_u32(out, counters.interface);
    let ts = counters.ts_ns as u64;
    put_u32(out, (ts >> 32) as u32);
    put_u32(out, ts as u32);
    for (code, time) in [(2, counters.start_ns), (3, counters.end_ns)] {
        if let Some(ns) = time {
            let halves = [((ns as u64) >> 32) as u32, ns as u32];
            let mut value = [0u8; 8];
            value[..4].copy_from_slice(&halves[0].to_le_bytes());
            value[4..].copy_from_slice(&halves[1].to_le_bytes());
            option(out, code, &value);
        }
    }
    let counts =
        [counters.received, counters.nic_dropped, counters.accepted, counters.os_dropped, counters.delivered];
    for (code, count) in (4..).zip(counts) {
        if let Some(count) = count {
            option(out, code, &count.to_le_bytes());
        }
    }
    put_u32(out, 0);
    finish(out, start);
}

fn options_len(head: &PacketHead) -> usize {
    match (head.flags != 0, head.dropped != 0) {
        (false, false) => 0,
        (true, false) => 8 + 4,
        (false, true) => 12 + 4,
        (true, true) => 8 + 12 + 4,
    }
}

fn packet_options(out: &mut Vec<u8>, head: &PacketHead) {
    if head.flags != 0 {
        option(out, 2, &head.flags.to_le_bytes());
    }
    if head.dropped != 0 {
        option(out, 4, &head.dropped.to_le_bytes());
    }
    if head.flags != 0 || head.dropped != 0 {
        put_u32(out, 0);
    }
}

fn begin(out: &mut Vec<u8>, kind: u32) -> usize {
    let start = out.len();
    put_u32(out, kind);
    put_u32(out, 0);
    start
}

fn finish(out: &mut Vec<u8>, start: usize) {
    let total = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&total.to_le_bytes());
    put_u32(out, total);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Option lengths are 16 bits; notes are short, an over-long one is cut rather than allowed to break the file.
    let value = &value[..value.len().min(0xFFFC)];
    put_u16(out, code);
    put_u16(out, value.len() as u16);
    out.extend_from_slice(value);
    out.extend_from_slice(&[0; 3][..value.len().wrapping_neg() & 3]);
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a struct of strings and numbers serialises")
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}
