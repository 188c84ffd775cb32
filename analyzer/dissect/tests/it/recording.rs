//! A capture as the analysis takes it. In: a pcapng file. Out: its frames, which a test may change, and the rows they give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use shark_dissect::frame::{Frame, Site, Told};
use shark_dissect::layer::Options;
use shark_dissect::pipeline::{Analysis, Chunk};
use shark_dissect::rows::SegmentInfo;
use shark_schema::segment::{Block, Blocks};
use shark_schema::table::Table;

pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

/// A frame with bytes of its own.
#[derive(Clone, Debug)]
pub struct Captured {
    pub ts_ns: i64,
    pub wire_len: u32,
    pub data: Vec<u8>,
    pub link_type: u16,
    /// The end whose program told it, on an interface of its own; none for a packet of a wire.
    pub told: Option<(Told, u32)>,
}

/// Captures of a protocol, by path.
pub fn captures(protocol: &str) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(Path::new(FIXTURES).join(protocol)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "pcapng"));
    paths.sort();
    paths
}

pub fn read(path: &Path) -> Vec<Captured> {
    let bytes = fs::read(path).expect("the capture is there");
    let mut blocks = Blocks::new(&bytes);
    let mut frames = Vec::new();
    while let Some(item) = blocks.next() {
        if let Block::Packet(packet) = item.expect("a whole block").block {
            frames.push(Captured {
                ts_ns: packet.ts_ns.expect("stamped"),
                wire_len: packet.original_len,
                data: packet.data.to_vec(),
                link_type: blocks.interfaces()[packet.interface as usize].link_type,
                told: None,
            });
        }
    }
    frames
}

/// The rows of every table but `packets`, by its name.
pub fn analysed(frames: &[Captured]) -> BTreeMap<&'static str, Vec<RecordBatch>> {
    analysed_with(frames, Options::default())
}

/// The rows of every table that is wanted.
pub fn analysed_with(frames: &[Captured], options: Options) -> BTreeMap<&'static str, Vec<RecordBatch>> {
    let mut analysis = Analysis::new(options);
    let name = "fixture.pcapng".to_owned();
    analysis.catalog.segments = vec![SegmentInfo { name, snapshot_id: None, cluster: None, node: None }];
    analysis.catalog.interfaces = vec![None; 4];
    let chunk: Chunk<'_> = (1..)
        .zip(frames)
        .map(|(number, frame)| Frame {
            ts_ns: frame.ts_ns,
            data: &frame.data,
            wire_len: frame.wire_len,
            link_type: frame.link_type,
            iface: frame.told.map_or(0, |(_, iface)| iface),
            segment: 0,
            number,
            site: Site { told: frame.told.map(|(told, _)| told), ..Site::default() },
        })
        .collect();
    analysis.round(&[chunk], false);
    analysis.finish();
    let tables = analysis.tables().to_vec();
    let rows = |(number, table): (usize, &&'static Table)| {
        let batches = analysis.take(number).into_iter();
        let rows =
            batches.map(|batch| batch.record_batch(table, &analysis.catalog).expect("columns of the table"));
        (table.name, rows.collect())
    };
    tables.iter().enumerate().map(rows).collect()
}

/// One line a row, in the order of time: the columns `keep` wants, those that are NULL throughout left out.
pub fn lines(batches: &[RecordBatch], keep: impl Fn(&str) -> bool) -> Vec<String> {
    let Some(first) = batches.first() else { return Vec::new() };
    let schema = first.schema();
    let is_used = |at: usize| batches.iter().any(|batch| batch.column(at).null_count() < batch.num_rows());
    let columns: Vec<usize> =
        (0..schema.fields().len()).filter(|&at| keep(schema.field(at).name()) && is_used(at)).collect();
    let ts = schema.index_of("ts").expect("every table has a time");
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let cell = |at: usize, row: usize| {
            let formatter = ArrayFormatter::try_new(batch.column(at), &options).expect("a type that prints");
            short(&formatter.value(row).to_string())
        };
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|&at| cell(at, row)).collect();
            rows.push((cell(ts, row), cells.join("\t")));
        }
    }
    rows.sort();
    let header = columns.iter().map(|&at| schema.field(at).name().as_str()).collect::<Vec<_>>().join("\t");
    std::iter::once(header).chain(rows.into_iter().map(|(_, line)| line)).collect()
}

/// On one line and of a length that can be read: the end of a long text is told by its hash (FNV-1a).
fn short(text: &str) -> String {
    let escaped: String = text.chars().flat_map(char::escape_debug).collect();
    if escaped.chars().count() <= 300 {
        return escaped;
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let head: String = escaped.chars().take(200).collect();
    format!("{head}… ({} bytes, {hash:016x})", text.len())
}
