//! What the programs of both ends tell of one conversation gives the rows that its packets would give, marked, and once. In: real
//! captures, each frame told by one end or by both. Whatever they tell, in whatever order: no panic, and no row of two calls.

use arrow::array::AsArray;
use proptest::prelude::*;
use shark_dissect::frame::Told;

use crate::recording::{Captured, analysed, captures, lines, read};

/// Which ends tell.
const CLIENT: u32 = 1;
const SERVER: u32 = 2;

#[test]
fn one_end_or_both_give_the_rows_of_the_packets() {
    for packets in http() {
        let wire = calls(&packets);
        for ends in [&[CLIENT][..], &[SERVER], &[CLIENT, SERVER]] {
            let told = told(&packets, ends);
            assert_eq!(calls(&told), wire);
            marked_and_counted(&told, 0, ends.len());
            let both: Vec<Captured> = packets.iter().map(encrypted).chain(told).collect();
            assert_eq!(calls(&both), wire);
            marked_and_counted(&both, 1, ends.len());
        }
    }
}

/// One row of `flows` a conversation, and one of `flow_copies` for each further place it was seen or told at.
fn marked_and_counted(frames: &[Captured], wire: usize, ends: usize) {
    let rows = analysed(frames);
    for batch in &rows["http"] {
        assert!(batch["tls"].as_boolean().iter().all(|tls| tls == Some(true)));
        assert!(batch["vantage"].as_string::<i32>().iter().all(|vantage| vantage == Some("tls_uprobe")));
    }
    let count = |table: &str| rows[table].iter().map(|batch| batch.num_rows()).sum::<usize>();
    assert_eq!(count("flow_copies"), count("flows") * (wire + ends - 1));
    let vantage = (wire == 0).then_some("tls_uprobe");
    for batch in &rows["flows"] {
        assert!(batch["vantage"].as_string::<i32>().iter().all(|seen| seen == vantage));
    }
}

/// Two sessions on one connection, as through a proxy: the second begins where its end begins anew.
#[test]
fn another_session_of_the_same_ends_is_read_anew() {
    for packets in http() {
        let once = told(&packets, &[CLIENT, SERVER]);
        let last_ns = once.iter().map(|frame| frame.ts_ns).max().expect("frames") + 1;
        let first_ns = once.iter().map(|frame| frame.ts_ns).min().expect("frames");
        let again =
            once.iter().map(|frame| Captured { ts_ns: frame.ts_ns - first_ns + last_ns, ..frame.clone() });
        let outside = packets.iter().map(encrypted);
        let twice: Vec<Captured> = outside.chain(once.iter().cloned()).chain(again).collect();
        assert_eq!(calls(&twice).len() - 1, 2 * (calls(&once).len() - 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_they_tell(choices in prop::collection::vec((0..5_u32, 0..3_u32, any::<bool>()), 1..60), late in 0..40_usize) {
        for mut packets in http() {
            packets.drain(..late.min(packets.len() / 2));
            let choices = choices.iter().cycle();
            let frames: Vec<Captured> = packets.iter().zip(choices).flat_map(|(packet, (copies, iface, by_sender))| {
                let by = if *by_sender { Told::BySender } else { Told::ByReceiver };
                let told = (*iface > 0).then_some((by, *iface));
                (0..*copies).map(move |_| Captured { told, ..packet.clone() })
            }).collect();
            let rows = analysed(&frames);
            let count = |table: &str| rows[table].iter().map(|batch| batch.num_rows()).sum::<usize>();
            prop_assert!(count("flows") + count("flow_copies") <= frames.len());
            for batch in &rows["http"] {
                let (asked, flows) = (batch["tls"].as_boolean(), batch["flow_id"].as_string::<i32>());
                prop_assert!(asked.iter().all(|tls| tls.is_some()) && flows.iter().all(|id| id.is_some()));
            }
        }
    }
}

/// TCP over IPv4.
fn http() -> Vec<Vec<Captured>> {
    let is_tcp = |frame: &Captured| frame.data[12..14] == [8, 0] && frame.data[23] == 6;
    let all = captures("http").into_iter().map(|path| read(&path).into_iter().filter(is_tcp).collect());
    all.collect()
}

/// What these ends say of packets, the sender first.
fn told(packets: &[Captured], ends: &[u32]) -> Vec<Captured> {
    let mut told = Vec::new();
    for packet in packets {
        let from = if is_from_client(packet) { CLIENT } else { SERVER };
        for by in [from, CLIENT + SERVER - from].into_iter().filter(|by| ends.contains(by)) {
            let way = if by == from { Told::BySender } else { Told::ByReceiver };
            told.push(Captured { told: Some((way, by)), ..packet.clone() });
        }
    }
    told
}

/// The same packet of a wire, with bytes that nobody can read.
fn encrypted(packet: &Captured) -> Captured {
    let mut frame = packet.clone();
    let start = 14 + 20 + usize::from(frame.data[46] >> 4) * 4;
    frame.data[start..].iter_mut().for_each(|byte| *byte |= 0x80);
    frame
}

/// Of Ethernet with IPv4 and TCP: servers have the lower port.
fn is_from_client(packet: &Captured) -> bool {
    let port = |at: usize| u16::from_be_bytes([packet.data[at], packet.data[at + 1]]);
    port(34) > port(36)
}

fn calls(frames: &[Captured]) -> Vec<String> {
    let frame = |column: &str| {
        column.ends_with("_frame") || ["tls", "vantage", "call_id", "flow_id"].contains(&column)
    };
    lines(&analysed(frames)["http"], |column| !frame(column))
}
