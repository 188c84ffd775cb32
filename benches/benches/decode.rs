//! Frames to packets, and TCP segments to streams. In: traffic made in memory from a seed. Out: time per packet and per byte.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shark_benches::memory_file::MemoryFile;
use shark_benches::mix::Shares;
use shark_dissect::frame::{Decoded, Tcp, Transport, decode};
use shark_dissect::stream::{Event, Mark, Piece, Stream};

const BYTES: u64 = 8 << 20;

fn frames(c: &mut Criterion) {
    let file = MemoryFile::of(1, BYTES, Shares::MIXED).expect("memory takes everything");
    let mut group = c.benchmark_group("decode frames");
    let Throughputs { packets, bytes } = throughputs(&file);
    for (unit, throughput) in [("packets", packets), ("bytes", bytes)] {
        group.throughput(throughput);
        group.bench_function(unit, |b| {
            b.iter(|| {
                let packets =
                    file.frames().filter(|frame| matches!(decode(*frame), Decoded::Packet(_))).count();
                assert_eq!(packets as u64, file.counts.frames);
            });
        });
    }
}

/// The segments of many connections, each direction into its stream, as they were sent and with neighbours swapped.
fn streams(c: &mut Criterion) {
    let file = MemoryFile::of(1, BYTES, Shares::HTTP).expect("memory takes everything");
    let in_order = segments(&file);
    let mut swapped = in_order.clone();
    for (_, segments) in &mut swapped {
        segments.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    }
    let mut group = c.benchmark_group("reassemble tcp");
    for (name, directions) in [("in order", &in_order), ("swapped", &swapped)] {
        let count: usize = directions.iter().map(|(_, segments)| segments.len()).sum();
        let bytes = total(directions);
        for (unit, throughput) in
            [("packets", Throughput::Elements(count as u64)), ("bytes", Throughput::Bytes(bytes))]
        {
            group.throughput(throughput);
            group.bench_function(format!("{name}, {unit}"), |b| {
                b.iter(|| {
                    let handed: u64 =
                        directions.iter().map(|(start, segments)| reassemble(*start, segments)).sum();
                    assert_eq!(handed, total(&in_order));
                });
            });
        }
    }
}

/// Bytes that come out.
fn reassemble(start: u32, segments: &[Tcp<'_>]) -> u64 {
    let mut stream = Stream::default();
    stream.start(start);
    let mut handed = 0;
    for tcp in segments {
        let piece = Piece { seq: tcp.seq, bytes: tcp.payload, len: tcp.payload_len, mark: Mark::default() };
        stream.segment(piece, &mut |event| {
            if let Event::Data(bytes, _) = event {
                handed += bytes.len() as u64;
            }
        });
    }
    handed
}

type Directions<'a> = Vec<(u32, Vec<Tcp<'a>>)>;

/// Segments with payload, by direction, without repeats, and where each direction starts.
fn segments(file: &MemoryFile) -> Directions<'_> {
    let mut directions = std::collections::BTreeMap::<_, std::collections::BTreeMap<u32, Tcp<'_>>>::new();
    for frame in file.frames() {
        let Decoded::Packet(packet) = decode(frame) else { continue };
        let Transport::Tcp(tcp) = packet.transport else { continue };
        if !tcp.payload.is_empty() {
            let ends = packet.key.ends.map(|end| (end.ip, end.port));
            directions.entry((ends, packet.from_first)).or_default().insert(tcp.seq, tcp);
        }
    }
    // A direction whose sequence numbers wrap would begin in its middle here.
    let whole = directions.into_values().filter(|of| {
        let (first, last) = (of.keys().next(), of.keys().next_back());
        first.zip(last).is_some_and(|(first, last)| last - first < 1 << 30)
    });
    whole
        .map(|of| {
            let segments: Vec<Tcp<'_>> = of.into_values().collect();
            (segments[0].seq, segments)
        })
        .collect()
}

fn total(directions: &Directions<'_>) -> u64 {
    directions.iter().flat_map(|(_, segments)| segments).map(|tcp| u64::from(tcp.payload_len)).sum()
}

struct Throughputs {
    packets: Throughput,
    bytes: Throughput,
}

fn throughputs(file: &MemoryFile) -> Throughputs {
    Throughputs {
        packets: Throughput::Elements(file.counts.frames),
        bytes: Throughput::Bytes(file.counts.bytes),
    }
}

criterion_group!(benches, frames, streams);
criterion_main!(benches);
