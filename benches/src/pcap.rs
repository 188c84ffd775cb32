//! Writes classic pcap files, with nanosecond stamps (magic a1b23c4d), which every tool reads.
//! In: stamped Ethernet frames. Out: a file, whole when `finish` returned.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

pub struct PcapFile {
    out: BufWriter<File>,
    shown: String,
}

impl PcapFile {
    pub fn create(path: &Path) -> Result<PcapFile> {
        let shown = path.display().to_string();
        let file = File::create(path).with_context(|| format!("{shown} cannot be made"))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        // Version 2.4, no time zone, no accuracy, longest frame, LINKTYPE_ETHERNET.
        let header: [u32; 6] = [0xA1B2_3C4D, 2 | 4 << 16, 0, 0, 262_144, 1];
        header
            .iter()
            .try_for_each(|word| out.write_all(&word.to_le_bytes()))
            .with_context(|| shown.clone())?;
        Ok(PcapFile { out, shown })
    }

    pub fn frame(&mut self, ts_ns: i64, data: &[u8]) -> Result<()> {
        let length = data.len() as u32;
        let (s, ns) = ((ts_ns / 1_000_000_000) as u32, (ts_ns % 1_000_000_000) as u32);
        let mut head = [0; 16];
        for (bytes, word) in head.chunks_exact_mut(4).zip([s, ns, length, length]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.out.write_all(&head).and_then(|()| self.out.write_all(data)).with_context(|| self.shown.clone())
    }

    pub fn finish(mut self) -> Result<()> {
        self.out.flush().with_context(|| format!("{} could not be written", self.shown))
    }
}
