//! Protocols in other people's captures against tshark's word on them. Runs where `SHARK_CORPUS` names the corpus. In: a folder of
//! it. Out: for each capture our rows and tshark's messages; what differs is listed beside each comparison, with the reason.

mod amqp;
mod diameter;
mod encap;
mod icmp;
mod kafka;
mod ldap;
mod radius;
mod redis;
mod strangers;
mod tls;
mod ws;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use pcap_file::pcap::PcapReader;
use shark_dissect::layer::Options;

use crate::recording::{Captured, analysed_with, read};

/// A message or a row: its cells by the names of their columns, empty where there is nothing.
pub type Line = BTreeMap<String, String>;

/// A capture, by its name below the corpus.
pub struct Told {
    pub file: String,
    pub rows: Vec<Line>,
    /// Messages as tshark tells them.
    pub truth: Vec<Line>,
}

/// The captures of a folder with our rows of `table` and tshark's messages of `kind`; none where there is no corpus.
pub fn told(folder: &str, table: &str, kind: &str) -> Vec<Told> {
    let Some(corpus) = corpus() else { return Vec::new() };
    let entries = fs::read_dir(corpus.join(folder)).expect("the corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending != "gz"));
    paths.sort();
    assert!(!paths.is_empty(), "{folder} holds captures");
    let of = |path: PathBuf| {
        let file = path.strip_prefix(&corpus).expect("below the corpus").to_string_lossy().into_owned();
        let options = Options { packets: table == "packets", ..Options::default() };
        let rows = analysed_with(&frames(&path), options)[table].iter().flat_map(cells).collect();
        Told { rows, truth: golden(&corpus, &file, kind), file }
    };
    paths.into_iter().map(of).collect()
}

/// The corpus, where there is one.
fn corpus() -> Option<PathBuf> {
    let corpus = std::env::var_os("SHARK_CORPUS").map(PathBuf::from).filter(|path| path.is_dir());
    if corpus.is_none() {
        eprintln!("skipped: SHARK_CORPUS names no folder of captures");
    }
    corpus
}

fn frames(path: &Path) -> Vec<Captured> {
    if path.extension().is_some_and(|ending| ending == "pcapng") { read(path) } else { read_pcap(path) }
}

/// Frames of a pcap, up to where it is damaged.
fn read_pcap(path: &Path) -> Vec<Captured> {
    let Ok(mut reader) = PcapReader::new(File::open(path).expect("it opens")) else { return Vec::new() };
    let link_type = u32::from(reader.header().datalink) as u16;
    let mut frames = Vec::new();
    while let Some(Ok(packet)) = reader.next_packet() {
        frames.push(Captured {
            ts_ns: packet.timestamp().as_nanos() as i64,
            wire_len: packet.orig_len(),
            data: packet.data().to_vec(),
            link_type,
            told: None,
        });
    }
    frames
}

fn cells(batch: &RecordBatch) -> impl Iterator<Item = Line> {
    let schema = batch.schema();
    let cell = move |at: usize, row: usize| match batch.column(at).is_null(row) {
        true => String::new(),
        false => array_value_to_string(batch.column(at), row).expect("a type that prints"),
    };
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    (0..batch.num_rows())
        .map(move |row| names.iter().enumerate().map(|(at, name)| (name.clone(), cell(at, row))).collect())
}

fn golden(corpus: &Path, file: &str, kind: &str) -> Vec<Line> {
    let Ok(text) = fs::read(corpus.join(format!("golden/{file}.{kind}.tsv"))) else { return Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.split('\n');
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let line = |line: &str| {
        names.iter().map(|name| name.to_string()).zip(line.split('\t').map(str::to_owned)).collect()
    };
    lines.filter(|text| !text.is_empty()).map(line).collect()
}

/// How often each thing was told.
pub type Counted = BTreeMap<String, usize>;

/// Counts lines by the text `of` makes of them.
pub fn counted<'a>(
    lines: impl IntoIterator<Item = &'a Line>,
    of: impl Fn(&Line) -> Option<String>,
) -> Counted {
    let mut counted = Counted::new();
    for text in lines.into_iter().filter_map(of) {
        *counted.entry(text).or_default() += 1;
    }
    counted
}

/// Holds both counts side by side, over all captures: files that differ must be those listed, with their reasons.
#[derive(Default)]
pub struct Verdict {
    compared: usize,
    differences: BTreeMap<String, Vec<String>>,
}

impl Verdict {
    pub fn compare(&mut self, file: &str, ours: &Counted, theirs: &Counted) {
        self.compared += theirs.values().sum::<usize>();
        for text in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let count = |counted: &Counted| counted.get(text).copied().unwrap_or(0);
            if count(ours) != count(theirs) {
                let difference = format!("{text}: {}, tshark {}", count(ours), count(theirs));
                self.differences.entry(file.to_owned()).or_default().push(difference);
            }
        }
    }

    /// All that differs is in the list of files and reasons, all of the list differs, and this much was compared.
    pub fn judge(&self, listed: &[(&str, &str)], at_least: usize) {
        let files: BTreeSet<&str> = listed.iter().map(|(file, _)| *file).collect();
        let unlisted: Vec<_> =
            self.differences.iter().filter(|(file, _)| !files.contains(file.as_str())).collect();
        assert!(unlisted.is_empty(), "differs from tshark: {unlisted:#?}");
        let unneeded: Vec<_> = files.iter().filter(|file| !self.differences.contains_key(**file)).collect();
        assert!(unneeded.is_empty(), "no longer differs: {unneeded:?}");
        assert!(self.compared >= at_least, "only {} messages were compared", self.compared);
    }
}
