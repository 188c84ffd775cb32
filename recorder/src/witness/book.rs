//! One series of Arrow files in a ring's log: `<start-ns>-<seq>.<table>.arrows.zst`, each with the whole state first.
//! In: blocks of rows. Out: files that are readable up to the last rows, closed at an age, a size, or when asked.

use std::io;
use std::path::PathBuf;

use shark_schema::identity::arrows::{Encoder, Head};
use shark_schema::table::{Block, Table};

use crate::ring::{Ring, log_number};
use crate::segment::{Compression, Writer};
use crate::time::now_ns;

pub struct Book {
    table: &'static Table,
    dir: PathBuf,
    node: String,
    cluster: String,
    most_bytes: u64,
    seq: u64,
    open: Option<Open>,
}

struct Open {
    name: String,
    writer: Writer,
    encoder: Encoder,
    started_ns: i64,
}

const ROTATE_NS: i64 = 10 * 60 * 1_000_000_000;
const ROTATE_BYTES: u64 = 64 << 20;

impl Book {
    /// `share` is what all files of the series may always take, `most` what they may take while there are packets of their time.
    pub fn new(table: &'static Table, ring: &Ring, [share, most]: [u64; 2]) -> Book {
        let (node, cluster) = (ring.file.node.clone(), ring.file.cluster.clone());
        let numbers = ring.logs().unwrap_or_default();
        let ours = numbers.iter().filter(|name| name.contains(&format!(".{}.arrows", table.name)));
        let seq = ours.map(|name| log_number(name)).max();
        // The state stands in each file, so few large ones are better; but what is removed is a whole file.
        let most_bytes = ROTATE_BYTES.min((share / 4).max(most / 16));
        Book { table, dir: ring.log(), node, cluster, most_bytes, seq: seq.unwrap_or(0), open: None }
    }

    /// Whether the next rows belong into a new file, which the state has to begin.
    pub fn is_due(&self) -> bool {
        let is_old = |open: &Open| !(0..=ROTATE_NS).contains(&(now_ns() - open.started_ns));
        let is_large = |open: &Open| open.writer.stored() > self.most_bytes;
        self.open.as_ref().is_none_or(|open| is_old(open) || is_large(open) || open.writer.is_removed())
    }

    /// Begins a file with the state.
    pub fn begin(&mut self, mut state: impl Block) -> io::Result<()> {
        self.close()?;
        self.seq += 1;
        let started_ns = now_ns();
        let name = format!("{started_ns}-{:06}.{}.arrows.zst", self.seq, self.table.name);
        let writer = Writer::create(&self.dir.join(format!("{name}.open")), Compression::Zstd(3))?;
        let head = Head { node: self.node.clone(), cluster: self.cluster.clone(), started_ns };
        let mut encoder = Encoder::new(self.table, &head);
        encoder.append(&mut state);
        self.open = Some(Open { name, writer, encoder, started_ns });
        self.flush()
    }

    pub fn append(&mut self, mut rows: impl Block) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.encoder.append(&mut rows);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let bytes = open.encoder.take();
        open.writer.append(&bytes)?;
        open.writer.flush()
    }

    pub fn close(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.encoder.finish();
        let bytes = open.encoder.take();
        open.writer.append(&bytes)?;
        open.writer.close(&self.dir, &open.name)
    }
}
