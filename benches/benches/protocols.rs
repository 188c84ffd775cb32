//! Frames to rows through the whole pipeline on one thread, for HTTP, DNS and everything mixed.
//! In: traffic made in memory from a seed. Out: time per packet and per byte; every call must become its row.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shark_benches::memory_file::MemoryFile;
use shark_benches::mix::{Counts, Shares};
use shark_dissect::layer::Options;
use shark_dissect::pipeline::{Analysis, Chunk};
use shark_dissect::rows::SegmentInfo;

fn pipeline(c: &mut Criterion) {
    // One shard after the other: what is measured is the work, not the machine's cores.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be started");
    let mut group = c.benchmark_group("pipeline");
    group.sample_size(20);
    for (name, shares) in [("http", Shares::HTTP), ("dns", Shares::DNS), ("mixed", Shares::MIXED)] {
        let file = MemoryFile::of(1, 8 << 20, shares).expect("memory takes everything");
        let Counts { frames, bytes, .. } = file.counts;
        for (unit, throughput) in
            [("packets", Throughput::Elements(frames)), ("bytes", Throughput::Bytes(bytes))]
        {
            group.throughput(throughput);
            group.bench_function(format!("{name}, {unit}"), |b| {
                b.iter(|| pool.install(|| analyse(&file)));
            });
        }
    }
}

fn analyse(file: &MemoryFile) {
    let mut analysis = Analysis::new(Options::default());
    analysis.catalog.segments = vec![SegmentInfo { name: "memory".into(), ..SegmentInfo::default() }];
    analysis.catalog.interfaces = vec![None];
    let chunk: Chunk<'_> = file.frames().collect();
    analysis.round(&[chunk], false);
    analysis.finish();
    let names: Vec<&str> = analysis.tables().iter().map(|table| table.name).collect();
    let mut count = |name| {
        let table = names.iter().position(|other| *other == name).expect("the table is in the list");
        analysis.take(table).iter().map(|batch| batch.rows() as u64).sum::<u64>()
    };
    assert_eq!(count("http"), file.counts.http_requests);
    assert_eq!(count("dns"), file.counts.dns_queries);
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
