//! Segments: encoded, compressed, hashed and written; and read back. In: traffic made in memory from a seed.
//! Out: time per packet and per byte. Files go to the directory for temporary files and are removed.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shark_benches::memory_file::MemoryFile;
use shark_benches::mix::{Counts, Shares};
use shark_schema::segment::{
    Block, Blocks, InterfaceNote, PacketHead, SectionNote, interface, packet, section,
};
use sharkrec::segment::{Compression, Writer};

const BYTES: u64 = 16 << 20;

fn writing(c: &mut Criterion) {
    let file = MemoryFile::of(1, BYTES, Shares::MIXED).expect("memory takes everything");
    let encoded = encode(&file);
    let room = tempfile::tempdir().expect("a temporary directory can be made");
    let path = room.path().join("segment");
    let mut group = c.benchmark_group("write segment");
    group.sample_size(20);
    for (name, compression) in [("zstd 1", Compression::Zstd(1)), ("stored", Compression::None)] {
        for (unit, throughput) in units(&file) {
            group.throughput(throughput);
            group.bench_function(format!("{name}, {unit}"), |b| {
                let empty = || {
                    let _ = std::fs::remove_file(&path);
                    Writer::create(&path, compression).expect("the file can be made")
                };
                b.iter_batched(empty, |writer| write(writer, &encoded), BatchSize::PerIteration);
            });
        }
    }
}

fn write(mut writer: Writer, encoded: &[u8]) -> String {
    for piece in encoded.chunks(1 << 20) {
        writer.append(piece).expect("zstd takes everything");
        if writer.is_full() {
            writer.write_out().expect("the disk takes everything");
        }
    }
    writer.end().expect("zstd takes everything");
    writer.write_out().expect("the disk takes everything");
    writer.into_parts().1
}

fn encoding(c: &mut Criterion) {
    let file = MemoryFile::of(1, BYTES, Shares::MIXED).expect("memory takes everything");
    let mut group = c.benchmark_group("encode packets");
    let mut out = encode(&file);
    for (unit, throughput) in units(&file) {
        group.throughput(throughput);
        group.bench_function(unit, |b| {
            b.iter(|| {
                out.clear();
                packets(&file, &mut out);
            });
        });
    }
}

fn reading(c: &mut Criterion) {
    let file = MemoryFile::of(1, BYTES, Shares::MIXED).expect("memory takes everything");
    let encoded = encode(&file);
    let mut group = c.benchmark_group("read segment");
    for (unit, throughput) in units(&file) {
        group.throughput(throughput);
        group.bench_function(unit, |b| {
            b.iter(|| {
                let blocks = Blocks::new(&encoded).map(|item| item.expect("the segment is whole").block);
                let packets = blocks.filter(|block| matches!(block, Block::Packet(_))).count();
                assert_eq!(packets as u64, file.counts.frames);
            });
        });
    }
}

fn units(file: &MemoryFile) -> [(&'static str, Throughput); 2] {
    let Counts { frames, bytes, .. } = file.counts;
    [("packets", Throughput::Elements(frames)), ("bytes", Throughput::Bytes(bytes))]
}

fn encode(file: &MemoryFile) -> Vec<u8> {
    let mut out = Vec::new();
    let (node, cluster, segment_id) = ("bench".into(), String::new(), "00-00000001".into());
    section(
        &mut out,
        "shark-bench",
        &SectionNote { format: 1, segment_id, node, cluster, worker: 0, seq: 1 },
    );
    let note = InterfaceNote { ifindex: None, snaplen: 262_144, synthetic_ethernet: false, pod: None };
    interface(&mut out, "bench0", &note, None);
    packets(file, &mut out);
    out
}

fn packets(file: &MemoryFile, out: &mut Vec<u8>) {
    for frame in file.frames() {
        let head = PacketHead { ts_ns: frame.ts_ns, original_len: frame.wire_len, ..PacketHead::default() };
        packet(out, &head, frame.data);
    }
}

criterion_group!(benches, encoding, writing, reading);
criterion_main!(benches);
