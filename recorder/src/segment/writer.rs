//! One segment file being written: compression, write(2), SHA-256 of what was stored.
//! In: pcapng bytes. Out: a file whose content, up to the last flush, any reader can decode.
//! A write that fails loses nothing: the bytes wait in memory until the disk takes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// How a segment is stored. Negative levels are zstd's fast ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zstd(i32),
    None,
}

impl Compression {
    pub fn is_zstd(self) -> bool {
        matches!(self, Compression::Zstd(_))
    }
}

/// Compressed bytes are written when there are this many, or at a flush.
const WRITE_BYTES: usize = 256 << 10;

pub struct Writer {
    file: File,
    encoder: Option<Encoder<'static>>,
    /// Stored bytes that are not in the file yet.
    out: Vec<u8>,
    hash: Sha256,
    raw: u64,
    stored: u64,
}

impl Writer {
    /// Creates the file, which must not exist; its folder may have been removed.
    pub fn create(path: &Path, compression: Compression) -> io::Result<Writer> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let encoder = match compression {
            Compression::Zstd(level) => {
                let mut encoder = Encoder::new(level)?;
                // Whoever decodes it sees damage, also where no decoder stumbles over it.
                encoder.set_parameter(CParameter::ChecksumFlag(true))?;
                Some(encoder)
            }
            Compression::None => None,
        };
        let out = Vec::with_capacity(2 * WRITE_BYTES);
        Ok(Writer { file, encoder, out, hash: Sha256::new(), raw: 0, stored: 0 })
    }

    /// Takes bytes in. They are in the file after the next successful [`Writer::flush`].
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw += bytes.len() as u64;
        let Some(encoder) = &mut self.encoder else {
            self.out.extend_from_slice(bytes);
            return Ok(());
        };
        let mut input = InBuffer::around(bytes);
        while input.pos() < input.src.len() {
            grow(&mut self.out);
            let at = self.out.len();
            encoder.run(&mut input, &mut OutBuffer::around_pos(&mut self.out, at))?;
        }
        Ok(())
    }

    /// Whether enough has gathered for a write.
    pub fn is_full(&self) -> bool {
        self.out.len() >= WRITE_BYTES
    }

    /// Bytes of the file that are still in memory.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// Makes everything taken in so far readable for others.
    pub fn flush(&mut self) -> io::Result<()> {
        self.end_block()?;
        self.write_out()
    }

    /// Ends the current zstd block, so that everything taken in so far can be decoded once written.
    pub fn end_block(&mut self) -> io::Result<()> {
        match &mut self.encoder {
            Some(encoder) => drain(&mut self.out, |out| encoder.flush(out)),
            None => Ok(()),
        }
    }

    /// Ends the zstd frame; afterwards only [`Writer::write_out`] may be called.
    pub fn end(&mut self) -> io::Result<()> {
        if let Some(mut encoder) = self.encoder.take() {
            drain(&mut self.out, |out| encoder.finish(out, true))?;
        }
        Ok(())
    }

    /// Writes what is pending. On an error the rest stays pending, in order.
    pub fn write_out(&mut self) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            match self.file.write(&self.out[done..]) {
                _ if done == self.out.len() => break Ok(()),
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.hash.update(&self.out[..done]);
        self.stored += done as u64;
        self.out.drain(..done);
        result
    }

    pub fn raw(&self) -> u64 {
        self.raw
    }

    /// Bytes in the file.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Somebody removed the file: what is written to it goes nowhere.
    pub fn is_removed(&self) -> bool {
        is_removed(&self.file)
    }

    /// Ends `<name>.open` in this folder and takes the end off its name. One that was removed stays away.
    pub fn close(mut self, dir: &Path, name: &str) -> io::Result<()> {
        self.end()?;
        self.write_out()?;
        self.file.sync_data()?;
        if self.is_removed() {
            return Ok(());
        }
        fs::rename(dir.join(format!("{name}.open")), dir.join(name))
    }

    /// The file, for `fdatasync` on another thread.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file and the hash of its content, in lower-case hex.
    pub fn into_parts(self) -> (File, String) {
        (self.file, hex(&self.hash.finalize()))
    }
}

/// No name leads to it any more.
pub fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() == 0)
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// zstd writes into spare capacity only; it must always find some.
fn grow(out: &mut Vec<u8>) {
    if out.capacity() - out.len() < WRITE_BYTES / 2 {
        out.reserve(WRITE_BYTES);
    }
}

fn drain(
    out: &mut Vec<u8>,
    mut step: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
) -> io::Result<()> {
    loop {
        grow(out);
        let at = out.len();
        if step(&mut OutBuffer::around_pos(out, at))? == 0 {
            return Ok(());
        }
    }
}
