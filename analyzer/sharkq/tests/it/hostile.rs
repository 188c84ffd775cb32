//! Captures made to break readers, and 10,000 more that are mutations of those and of the captures of every
//! protocol in `fixtures`: no panic, no hang, bounded memory, and a message that says where the file is
//! broken. Captures of others where `SHARK_CORPUS` names them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shark_dissect::frame::Frame;
use shark_dissect::layer::Options;
use shark_dissect::pipeline::{Analysis, Chunk};
use shark_dissect::rows::SegmentInfo;
use sharkq::capture::{Damage, FrameReader};

use crate::captures;
use crate::corpus;
use crate::desk::Desk;
use crate::programs::{FIXTURES, of_memory, printed};

fn hostile_files() -> Vec<PathBuf> {
    let Some(corpus) = corpus::folder() else { return Vec::new() };
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus.join("hostile"))
        .expect("the corpus has hostile captures")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus has no hostile captures");
    files
}

/// More than twice of what the largest of them took when this was written, in a build with debug assertions.
const MEMORY: usize = 384 << 20;

#[test]
fn every_hostile_capture_is_read_or_refused_in_a_sentence() {
    for file in hostile_files() {
        let desk = Desk::new();
        let begun = Instant::now();
        let output = desk.sharkq_of(MEMORY).arg("info").arg(&file).output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {} {error}", file.display(), output.status);
        assert!(!error.contains("panicked"), "{}: {error}", file.display());
        assert!(begun.elapsed() < Duration::from_secs(60), "{} took {:?}", file.display(), begun.elapsed());
        if output.status.code() == Some(1) {
            let says_where = error.contains("at byte") || error.contains("not a capture file");
            assert!(says_where, "{}: {error}", file.display());
        }
    }
}

#[test]
fn too_little_memory_ends_it() {
    let Some(file) = hostile_files().pop() else { return };
    let desk = Desk::new();
    let output = desk.sharkq_of(MEMORY / 16).arg("info").arg(&file).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    let is_told = error.contains("memory allocation of ") || error.contains("threads cannot be started");
    assert!(!output.status.success() && is_told, "{error}");
}

/// Reads frames and analyses them, as the index does.
fn analyse(name: &str, bytes: Vec<u8>) -> Result<u64, Damage> {
    let mut reader =
        FrameReader::new(name.into(), Box::new(std::io::Cursor::new(bytes))).expect("memory can be read");
    let mut analysis = Analysis::new(Options { packets: true, ..Options::default() });
    analysis.catalog.segments.push(SegmentInfo { name: name.into(), ..SegmentInfo::default() });
    let mut result = Ok(());
    loop {
        let piece = match reader.next_piece() {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(damage) => {
                result = Err(damage);
                break;
            }
        };
        analysis.catalog.interfaces = reader.interfaces();
        let frame = |located: &sharkq::capture::Located| Frame {
            ts_ns: located.ts_ns,
            data: piece.data(located),
            wire_len: located.wire_len,
            link_type: located.link_type,
            iface: located.iface,
            segment: 0,
            number: located.number,
            site: Default::default(),
        };
        let chunk: Chunk<'_> = piece.frames.iter().map(frame).collect();
        analysis.round(&[chunk], false);
    }
    analysis.finish();
    let frames = analysis.counts().frames;
    for table in 0..analysis.tables().len() {
        analysis.take(table);
    }
    result.map(|()| frames)
}

/// A linear congruential generator: the same mutations in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides.max(1)
    }
}

fn mutate(original: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=dice.roll(6) {
        let at = dice.roll(bytes.len());
        match dice.roll(5) {
            0 => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80][dice.roll(4)],
            2 => bytes.truncate(at.max(1)),
            3 => {
                let end = (at + dice.roll(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let end = (at + dice.roll(32)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// Set in the process that has the memory of no other test.
const ALONE: &str = "SHARKQ_HOSTILE_ALONE";

/// The first packets of a capture of `fixtures`, as a file: most of its bytes are what programs said.
fn beginning(desk: &Desk, capture: &Path) -> Vec<u8> {
    let mut size = 0;
    let packets: Vec<captures::Packet> = captures::read(capture)
        .into_iter()
        .take_while(|packet| {
            size += packet.data.len();
            size < SEED_BYTES
        })
        .collect();
    captures::write(&desk.at("beginning.pcap"), packets.iter());
    std::fs::read(desk.at("beginning.pcap")).expect("it was written")
}

/// Small, so that a mutation is likely to matter and the run stays short.
const SEED_BYTES: usize = 20_000;

/// Names and bytes of what is mutated.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let desk = Desk::new();
    let folders = std::fs::read_dir(FIXTURES).expect("fixtures").flatten().map(|entry| entry.path());
    let files =
        folders.filter(|path| path.is_dir()).flat_map(|path| std::fs::read_dir(path).expect("a folder"));
    let mut own: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    own.retain(|path| path.extension().is_some_and(|ending| ending == "pcapng"));
    own.sort();
    assert!(own.len() > 20, "only {} captures", own.len());
    let mut seeds: Vec<(String, Vec<u8>)> =
        own.iter().map(|path| (path.display().to_string(), beginning(&desk, path))).collect();
    let Some(corpus) = corpus::folder() else { return seeds };
    let mut others: Vec<PathBuf> = hostile_files();
    for folder in ["http", "dns", "frag", "linktype", "pcapng", "pcapfile"] {
        let files = std::fs::read_dir(corpus.join(folder)).expect("the corpus");
        others.extend(files.map(|file| file.expect("a file").path()));
    }
    others.sort();
    let others =
        others.iter().map(|path| (path.display().to_string(), std::fs::read(path).expect("readable")));
    seeds.extend(others.filter(|(_, bytes)| (1..30_000).contains(&bytes.len())));
    seeds
}

#[test]
fn ten_thousand_mutated_captures_neither_panic_nor_hang_nor_grow() {
    if std::env::var_os(ALONE).is_none() {
        let mut alone = of_memory(MEMORY, std::env::current_exe().expect("this program"));
        alone.args(["--exact", "hostile::ten_thousand_mutated_captures_neither_panic_nor_hang_nor_grow"]);
        let said = printed(alone.env(ALONE, "1"));
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    let seeds = seeds();
    let mut dice = Dice(20_261_121);
    let mut damaged = 0;
    for round in 0..10_000 {
        let (name, original) = &seeds[round % seeds.len()];
        let begun = Instant::now();
        let result = analyse(name, mutate(original, &mut dice));
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "mutation {round} of {name} took {:?}",
            begun.elapsed()
        );
        if let Err(damage) = result {
            let sentence = damage.to_string();
            assert!(sentence.contains("at byte") || sentence.contains("not a capture file"), "{sentence}");
            damaged += 1;
        }
    }
    // The others are read to their end, with what was changed inside of packets.
    assert!((1_000..9_000).contains(&damaged), "{damaged} of the mutations broke a file");
}
