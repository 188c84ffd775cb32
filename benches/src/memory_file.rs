//! A capture that lies in memory, for benches that must not measure the disk.
//! In: stamped frames. Out: the same as the analysis takes them, borrowed.

use anyhow::Result;
use shark_dissect::frame::Frame;
use shark_schema::segment::LINKTYPE_ETHERNET;

use crate::mix::{Counts, GAP_NS, Shares, play};

#[derive(Default)]
pub struct MemoryFile {
    bytes: Vec<u8>,
    /// Time and end of each frame.
    frames: Vec<(i64, usize)>,
    pub counts: Counts,
}

impl MemoryFile {
    pub fn of(seed: u64, bytes: u64, shares: Shares) -> Result<MemoryFile> {
        let mut file = MemoryFile::default();
        let counts = play(seed, bytes, shares, GAP_NS, &mut |ts_ns, data| {
            file.bytes.extend_from_slice(data);
            file.frames.push((ts_ns, file.bytes.len()));
            Ok(())
        })?;
        file.counts = counts;
        Ok(file)
    }

    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut start = 0;
        self.frames.iter().zip(1..).map(move |(&(ts_ns, end), number)| {
            let data = &self.bytes[start..end];
            start = end;
            let wire_len = data.len() as u32;
            Frame {
                ts_ns,
                data,
                wire_len,
                link_type: LINKTYPE_ETHERNET,
                iface: 0,
                segment: 0,
                number,
                site: Default::default(),
            }
        })
    }
}
