//! `sharkrec pcap`: the packets of a window as one plain pcapng, byte for byte as they were recorded.
//! Each segment becomes a section, in order of recording. Open segments are read as far as they are written.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use shark_schema::manifest::Window;
use shark_schema::segment::{Block, Name, Next, Reader};

use crate::ring::Ring;
use crate::time::{now_ns, parse_moment};

/// Write the packets of a window as plain pcapng
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sharkrec pcap --ring /var/lib/sharkrec --since 2m -w - | tshark -r -")]
pub struct Arguments {
    /// Directory of the ring
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: PathBuf,
    /// Start of the window: a duration before now, or a time [default: everything]
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// End of the window [default: now]
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// File to write, - for standard output
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let window = self.window().unwrap_or_else(|error| super::usage(error));
        let ring = Ring::open(&self.ring)?;
        let mut out: Box<dyn Write> = match self.write.to_str() {
            Some("-") => Box::new(io::stdout().lock()),
            _ => Box::new(File::create(&self.write).with_context(|| self.write.display().to_string())?),
        };
        let mut out = BufWriter::with_capacity(1 << 20, &mut out);
        for name in ring.list()? {
            let outside = ring.sidecar(name).is_ok_and(|(sidecar, _)| {
                sidecar.min_ns.is_some_and(|ns| ns > window.to_ns)
                    || sidecar.max_ns.is_some_and(|ns| ns < window.from_ns)
            });
            if !outside {
                let path = ring.segments().join(name.to_string());
                copy(&path, name, window, &mut out).with_context(|| path.display().to_string())?;
            }
        }
        Ok(out.flush()?)
    }

    fn window(&self) -> anyhow::Result<Window> {
        let now = now_ns();
        let moment = |text: &Option<String>, default| {
            text.as_deref().map_or(Ok(default), |text| parse_moment(text, now))
        };
        Ok(Window {
            from_ns: moment(&self.since, i64::MIN).context("--since")?,
            to_ns: moment(&self.until, i64::MAX).context("--until")?,
        })
    }
}

fn copy(path: &Path, name: Name, window: Window, out: &mut impl Write) -> anyhow::Result<()> {
    let file = match File::open(path) {
        // Evicted since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut input: Box<dyn Read> =
        if name.compressed { Box::new(zstd::stream::read::Decoder::new(file)?) } else { Box::new(file) };
    let (mut reader, mut buffer, mut chunk) = (Reader::new(), Vec::new(), vec![0; 1 << 20]);
    loop {
        let got = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => got,
            // The end of what is written so far.
            Err(_) if name.open => break,
            Err(error) => return Err(error.into()),
        };
        buffer.extend_from_slice(&chunk[..got]);
        let mut used = 0;
        while let Next::Block(item, len) = reader.next(&buffer[used..])? {
            let wanted = match item.block {
                Block::Packet(packet) => {
                    packet.ts_ns.is_none_or(|ns| (window.from_ns..=window.to_ns).contains(&ns))
                }
                // They count the whole segment, not the window.
                Block::Statistics(_) => false,
                _ => true,
            };
            if wanted {
                out.write_all(&buffer[used..used + len])?;
            }
            used += len;
        }
        buffer.drain(..used);
    }
    Ok(())
}
