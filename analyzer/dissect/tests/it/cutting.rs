//! Where a stream is cut into packets is nobody's business: any other cut gives the same rows. What is lost, cut short,
//! swapped or sent twice gives fewer rows or half ones; never a panic, and never a row of two different calls.

use arrow::array::{Array, AsArray, MapArray, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use shark_dissect::protocols::call_tables;

use crate::recording::{Captured, analysed, captures, lines, read};

/// A change of a frame, chosen by a number that is folded into the length of the capture.
#[derive(Clone, Debug)]
enum Harm {
    Lose(usize),
    CutShort(usize, usize),
    Swap(usize, usize),
    Repeat(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        any::<usize>().prop_map(Harm::Lose),
        (any::<usize>(), any::<usize>()).prop_map(|(at, len)| Harm::CutShort(at, len)),
        (any::<usize>(), 1..8_usize).prop_map(|(at, by)| Harm::Swap(at, by)),
        any::<usize>().prop_map(Harm::Repeat),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_other_cut_gives_the_same_rows(sizes in prop::collection::vec(1..2000_usize, 1..20), from in any::<usize>()) {
        for frames in some(from) {
            let mut sizes = sizes.iter().cycle();
            let cut: Vec<Captured> = frames.iter().flat_map(|frame| pieces(frame, &mut sizes)).collect();
            let difference = difference(&cut, &frames);
            prop_assert!(difference.is_none(), "{difference:?}");
        }
    }

    #[test]
    fn harm_never_mixes_calls(harms in prop::collection::vec(harm(), 1..40), late in 0..400_usize, from in any::<usize>()) {
        for mut frames in some(from) {
            // A capture that begins in the middle of everything.
            frames.drain(..late.min(frames.len() / 2));
            for harm in &harms {
                apply(&mut frames, harm);
            }
            let rows = analysed(&frames);
            let mixed = [mixed(&rows["http"]), mixed_statements(&rows["db"])].concat();
            prop_assert!(mixed.is_empty(), "halves of two calls: {mixed:?}");
        }
    }

    #[test]
    fn any_byte_may_be_another(flips in prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 1..200), from in any::<usize>()) {
        for mut frames in some(from) {
            for (at, byte, value) in &flips {
                let at = at % frames.len();
                let data = &mut frames[at].data;
                let byte = byte % data.len();
                data[byte] = *value;
            }
            let rows: usize = analysed(&frames)["flows"].iter().map(|batch| batch.num_rows()).sum();
            prop_assert!(rows <= frames.len());
        }
    }
}

/// One byte a packet is the hardest cut of all.
#[test]
fn byte_by_byte() {
    let (mut whole, mut pieces_of_it) = (0, 0);
    for frames in all() {
        let mut sizes = std::iter::repeat(&1);
        let cut: Vec<Captured> = frames.iter().flat_map(|frame| pieces(frame, &mut sizes)).collect();
        (whole, pieces_of_it) = (whole + frames.len(), pieces_of_it + cut.len());
        assert_eq!(difference(&cut, &frames), None);
    }
    assert!(pieces_of_it > 3 * whole);
}

fn all() -> Vec<Vec<Captured>> {
    call_tables().iter().flat_map(|table| captures(table.name)).map(|path| read(&path)).collect()
}

/// A quarter of them.
fn some(from: usize) -> impl Iterator<Item = Vec<Captured>> {
    all().into_iter().skip(from % 4).step_by(4)
}

/// All rows of all call tables, but for the numbers of frames.
fn calls(frames: &[Captured]) -> Vec<String> {
    let rows = analysed(frames);
    call_tables()
        .iter()
        .flat_map(|table| lines(&rows[table.name], |column| !["first_frame", "last_frame"].contains(&column)))
        .collect()
}

/// The first row that is another one, as both have it.
fn difference(cut: &[Captured], frames: &[Captured]) -> Option<(String, String)> {
    let (now, before) = (calls(cut), calls(frames));
    let row = |rows: &[String], at: usize| rows.get(at).cloned().unwrap_or_default();
    let rows = 0..now.len().max(before.len());
    rows.map(|at| (row(&now, at), row(&before, at))).find(|(now, before)| now != before)
}

/// Rows whose request and response carry different ids.
fn mixed(batches: &[RecordBatch]) -> Vec<(String, String)> {
    let mut mixed = Vec::new();
    for batch in batches {
        let asked = batch["x_request_id"].as_string::<i32>();
        let answers = batch["response_headers"].as_any().downcast_ref::<MapArray>().expect("a map");
        for row in (0..batch.num_rows()).filter(|&row| asked.is_valid(row) && answers.is_valid(row)) {
            let fields = answers.value(row);
            let (names, values) = (fields.column(0).as_string::<i32>(), fields.column(1).as_string::<i32>());
            let echoed =
                (0..fields.len()).find(|&at| names.value(at) == "x-request-id").map(|at| values.value(at));
            if let Some(echoed) = echoed.filter(|echoed| *echoed != asked.value(row)) {
                mixed.push((asked.value(row).to_owned(), echoed.to_owned()));
            }
        }
    }
    mixed
}

/// Rows whose statement says in a comment how many rows answer it, and whose answer has another number of them.
fn mixed_statements(batches: &[RecordBatch]) -> Vec<(String, String)> {
    let mut mixed = Vec::new();
    for batch in batches {
        let (statements, rows) =
            (batch["statement"].as_string::<i32>(), batch["rows"].as_primitive::<Int64Type>());
        let whole = batch["pairing"].as_string::<i32>();
        for row in (0..batch.num_rows()).filter(|&row| statements.is_valid(row) && rows.is_valid(row)) {
            let expected =
                statements.value(row).split_once("/* rows=").and_then(|(_, text)| text.split_once(" */"));
            let Some((expected, _)) = expected else { continue };
            if whole.value(row) == "complete" && expected != rows.value(row).to_string() {
                mixed.push((statements.value(row).to_owned(), rows.value(row).to_string()));
            }
        }
    }
    mixed
}

fn apply(frames: &mut Vec<Captured>, harm: &Harm) {
    let len = frames.len();
    if len == 0 {
        return;
    }
    match harm {
        Harm::Lose(at) => {
            frames.remove(at % len);
        }
        Harm::CutShort(at, to) => {
            let data = &mut frames[at % len].data;
            data.truncate(to % (data.len() + 1));
        }
        Harm::Swap(at, by) => frames.swap(at % len, (at % len + by) % len),
        Harm::Repeat(at) => frames.insert(at % len, frames[at % len].clone()),
    }
}

/// The frame of a TCP segment as several of other sizes, all with its stamp; any other frame as it is.
fn pieces<'a>(frame: &Captured, sizes: &mut impl Iterator<Item = &'a usize>) -> Vec<Captured> {
    const ETHERNET: usize = 14;
    const FIN_PSH: u8 = 0x09;
    let data = &frame.data;
    let is_tcp = data[12..14] == [8, 0] && data[ETHERNET + 9] == 6;
    let tcp = ETHERNET + usize::from(data[ETHERNET] & 0xf) * 4;
    if !is_tcp {
        return vec![frame.clone()];
    }
    let ip_end = ETHERNET + usize::from(u16::from_be_bytes([data[ETHERNET + 2], data[ETHERNET + 3]]));
    let start = tcp + usize::from(data[tcp + 12] >> 4) * 4;
    // A length of 0 is that of a super-frame, which goes to the end (net/ipv4/tcp_offload.c).
    let end = if ip_end == ETHERNET { data.len() } else { ip_end };
    if start >= end {
        return vec![frame.clone()];
    }
    let first = u32::from_be_bytes([data[tcp + 4], data[tcp + 5], data[tcp + 6], data[tcp + 7]]);
    let mut cut = Vec::new();
    let mut at = start;
    while at < end {
        let to = (at + sizes.next().copied().unwrap_or(end)).min(end);
        let mut piece = data[..start].to_vec();
        piece.extend_from_slice(&data[at..to]);
        let ip_len = (piece.len() - ETHERNET) as u16;
        piece[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&ip_len.to_be_bytes());
        piece[tcp + 4..tcp + 8].copy_from_slice(&first.wrapping_add((at - start) as u32).to_be_bytes());
        if to < end {
            piece[tcp + 13] &= !FIN_PSH;
        }
        cut.push(Captured { ts_ns: frame.ts_ns, wire_len: piece.len() as u32, data: piece, ..frame.clone() });
        at = to;
    }
    cut
}
