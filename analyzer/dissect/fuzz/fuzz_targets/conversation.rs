//! Any bytes as the segments of one TCP conversation: first byte the direction and the cut, the rest the payload.
//! The analysis ends, and every row it makes can be taken.
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run conversation` in `analyzer/dissect`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shark_dissect::layer::Options;
use shark_dissect::frame::Frame;
use shark_dissect::pipeline::Analysis;
use shark_dissect::rows::SegmentInfo;

fuzz_target!(|data: &[u8]| {
    let mut next = [1_u32, 1];
    let mut frames = Vec::new();
    let mut rest = data;
    while let [head, tail @ ..] = rest {
        let (from, len) = ((head >> 7) as usize, ((head & 0x3f) as usize).min(tail.len()));
        // Bit 6 loses the segment: its sequence numbers are used, its bytes are not there.
        if head & 0x40 == 0 {
            frames.push(segment(from, next[from], next[1 - from], &tail[..len]));
        }
        next[from] = next[from].wrapping_add(len as u32);
        rest = &tail[len..];
    }
    let mut analysis = Analysis::new(Options::default());
    analysis.catalog.segments.push(SegmentInfo::default());
    analysis.catalog.interfaces.push(None);
    let chunk = frames.iter().zip(1..).map(|(data, number)| Frame {
        ts_ns: i64::from(number),
        data,
        wire_len: data.len() as u32,
        link_type: 101,
        iface: 0,
        segment: 0,
        number,
        site: Default::default(),
    });
    analysis.round(&[chunk.collect()], false);
    analysis.finish();
    for table in 0..analysis.tables().len() {
        analysis.take(table);
    }
});

/// An IPv4 packet with a TCP segment.
fn segment(from: usize, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let total = (40 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0]);
    let ends = [([10, 0, 0, 1], 40_000_u16), ([10, 0, 0, 2], 80)];
    for (ip, _) in [ends[from], ends[1 - from]] {
        packet.extend_from_slice(&ip);
    }
    for (_, port) in [ends[from], ends[1 - from]] {
        packet.extend_from_slice(&port.to_be_bytes());
    }
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&ack.to_be_bytes());
    packet.extend_from_slice(&[0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(payload);
    packet
}
