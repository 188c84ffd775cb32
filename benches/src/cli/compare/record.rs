//! Capture in, ring out, and a snapshot of the ring: `sharkrec record --read` beside bare `zstd -1`.
//! The recorder hashes what it stores and writes sidecars and log; zstd does neither. Its queue is made large enough for the
//! whole capture, so its peak memory here is no figure of a live recorder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use shark_benches::measure::{Job, median};

use super::index::{bytes_below, installed, remove};
use super::{Bench, Build, Row};
use crate::cli::memory::walk;

/// The program whose speed is the unit of all others.
pub const ZSTD: &str = "zstd -1";

pub fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = vec![zstd(bench)?];
    let bare = rows[0].ns_per_packet;
    for build in bench.builds() {
        let mut compressed = record(bench, build, "sharkrec record, zstd", "zstd")?;
        if let [Some(bare), Some(ours)] = [bare, compressed.ns_per_packet] {
            compressed.note = format!("bare zstd {:+.0} ns a packet, hash included", ours - bare);
        }
        rows.extend([compressed, record(bench, build, "sharkrec record, stored", "none")?]);
    }
    rows.push(snapshot(bench)?);
    Ok(rows)
}

fn zstd(bench: &Bench) -> Result<Row> {
    if !installed("zstd") {
        return Ok(Row::absent("record", ZSTD, "not installed"));
    }
    eprintln!("shark-bench: {ZSTD}");
    let (capture, out) = (bench.whole.path.display().to_string(), bench.path("whole.zst"));
    let words = ["zstd", "-1", "-q", "-f", "--single-thread", "-o", &out, &capture];
    let cost = median(&Job::new(&words), bench.runs, || Ok(()))?;
    let mut row = Row::measured("record", ZSTD, cost, &bench.whole);
    row.stored_ratio = Some(fs::metadata(&out)?.len() as f64 / bench.whole.file_bytes as f64);
    fs::remove_file(out)?;
    Ok(row)
}

/// The ring that was recorded last stays, for the snapshot.
const RING: &str = "ring";

fn record(bench: &Bench, build: &Build, name: &str, compression: &str) -> Result<Row> {
    let name = format!("{name}{}", build.suffix);
    eprintln!("shark-bench: {name}");
    let (capture, ring) = (bench.whole.path.display().to_string(), bench.path(RING));
    let size = (bench.whole.file_bytes * 2).max(64 << 20).to_string();
    let words = [
        &*build.sharkrec,
        "record",
        "--read",
        &capture,
        "--ring",
        &ring,
        "--ring-size",
        &size,
        "--compression",
        compression,
        // A replay comes faster than any network: with the usual queue the recorder would compress less, not at level 1.
        "--queue",
        &size,
    ];
    let cost = median(&Job::new(&words), bench.runs, || remove(&ring))?;
    let mut row = Row::measured("record", &name, cost, &bench.whole);
    row.stored_ratio = Some(bytes_below(Path::new(&ring))? as f64 / bench.whole.file_bytes as f64);
    Ok(row)
}

fn snapshot(bench: &Bench) -> Result<Row> {
    const NAME: &str = "sharkrec snapshot, local";
    eprintln!("shark-bench: {NAME}");
    let (ring, to) = (bench.path(RING), bench.path("snapshots"));
    let words =
        [&*bench.build.sharkrec, "snapshot", "--since", "2025-12-31T00:00:00Z", "--ring", &ring, "--to", &to];
    let cost = median(&Job::new(&words), bench.runs, || remove(&to))?;
    let mut files: Vec<PathBuf> = Vec::new();
    walk(Path::new(&to), &mut files)?;
    let segments: Vec<_> =
        files.iter().filter(|path| path.components().any(|part| part.as_os_str() == "segments")).collect();
    ensure!(!segments.is_empty(), "the snapshot has no segments");
    let mut linked = 0;
    for path in &segments {
        linked += usize::from(fs::metadata(path)?.nlink() > 1);
    }
    let mut row = Row::measured("snapshot", NAME, cost, &bench.whole);
    (row.ns_per_packet, row.mb_per_cpu_s) = (None, None);
    row.note = format!("{linked} of {} files are links", segments.len());
    ensure!(linked == segments.len(), "the snapshot copied {} files", segments.len() - linked);
    Ok(row)
}
