//! The packets behind rows: rows in, the very packets out, byte for byte, as plain pcapng. Fragments
//! come with the datagram they belong to. Behind rows from inside of TLS are the packets of the plaintext, never those of the wire.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Context;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::JoinType;
use datafusion::logical_expr::col;
use datafusion::prelude::DataFrame;
use shark_dissect::frame::{Decoded, End, FlowKey, Frame, Packet, decode, mapped};
use shark_dissect::pipeline::reassembled;
use shark_dissect::reassemble::Fragments;
use shark_schema::segment::{Name, PacketHead, packet};

use crate::rounds::Rounds;
use crate::session::Session;
use crate::source::Sources;

/// Which packets: those of these conversations in these times, on the wire or inside of TLS.
#[derive(Default)]
struct Wanted {
    by_flow: HashMap<(FlowKey, bool), Vec<(i64, i64)>>,
}

/// Writes the packets behind rows that name their flow and their first and last frame; returns how many they are.
pub async fn write(
    session: &Session,
    sources: &Sources,
    rows: DataFrame,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<u64> {
    let rows = session.collected(with_ends(session, rows).await?).await?.batches;
    tokio::task::block_in_place(|| {
        let wanted = Wanted::new(sources, &rows)?;
        let chosen = choose(sources, &wanted)?;
        copy(sources, &chosen, out)
    })
}

/// Frames of each row, with the ends of its flow as packets have them.
async fn with_ends(session: &Session, rows: DataFrame) -> anyhow::Result<DataFrame> {
    let frames = ["first_segment", "first_frame", "last_segment", "last_frame"];
    let ends = ["src_ip", "src_port", "dst_ip", "dst_port", "proto", "vlans"];
    let chosen = rows.select([&["flow_id"], &frames[..]].concat().into_iter().map(col))?;
    let flow = session.select_where("flows", "true").await?;
    let flow_id = [col("flow_id").alias("flow")];
    let flow = flow.select(flow_id.into_iter().chain(ends.map(col)))?;
    Ok(chosen.join(flow, JoinType::Inner, &["flow_id"], &["flow"], None)?)
}

/// Calls a function for every frame, in the order of the files.
fn each_frame(
    sources: &Sources,
    mut work: impl FnMut(&Frame<'_>, &[Option<String>]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rounds = Rounds::new(&sources.files);
    let mut interfaces = Vec::new();
    while let Some(round) = rounds.next_round()? {
        interfaces.extend(round.new_interfaces.iter().cloned());
        for part in &round.parts {
            part.chunk().iter().try_for_each(|frame| work(frame, &interfaces))?;
        }
    }
    Ok(())
}

impl Wanted {
    fn new(sources: &Sources, rows: &[RecordBatch]) -> anyhow::Result<Wanted> {
        let times = times_of_ends(sources, rows)?;
        let mut wanted = Wanted::default();
        for batch in rows {
            for row in 0..batch.num_rows() {
                let text = |name: &str| batch[name].as_string::<i32>().value(row);
                let port = |name: &str| {
                    let ports = batch[name].as_primitive::<Int32Type>();
                    if ports.is_null(row) { 0 } else { ports.value(row) as u16 }
                };
                let mut ends =
                    [end(text("src_ip"), port("src_port"))?, end(text("dst_ip"), port("dst_port"))?];
                ends.sort();
                let mut vlans = [0; 2];
                let listed = batch["vlans"].as_list::<i32>();
                if listed.is_valid(row) {
                    let ids = listed.value(row);
                    for (vlan, id) in vlans.iter_mut().zip(ids.as_primitive::<Int64Type>().values()) {
                        *vlan = *id as u16;
                    }
                }
                let key = FlowKey { ends, protocol: protocol_number(text("proto")), vlans, scope: 0 };
                let time = |which: &str| {
                    let frame =
                        batch[format!("{which}_frame").as_str()].as_primitive::<Int64Type>().value(row);
                    times.get(&(text(&format!("{which}_segment")).to_string(), frame as u32)).copied()
                };
                let is_plaintext = text("first_segment").parse::<Name>().is_ok_and(Name::is_plaintext);
                if let (Some(from), Some(to)) = (time("first"), time("last")) {
                    let times = wanted.by_flow.entry((comparable(key), is_plaintext)).or_default();
                    times.push((from, to));
                }
            }
        }
        Ok(wanted)
    }

    fn has(&self, packet: &Packet<'_>) -> bool {
        let ts_ns = packet.frame.ts_ns;
        let times = self.by_flow.get(&(comparable(packet.key), packet.frame.site.told.is_some()));
        times.is_some_and(|times| times.iter().any(|(from, to)| (*from..=*to).contains(&ts_ns)))
    }
}

/// Rows of flows do not say in what their addresses are unique, and without ports not type and code either: those are compared by
/// address.
fn comparable(mut key: FlowKey) -> FlowKey {
    key.scope = 0;
    if !shark_dissect::flow::has_ports(key.protocol) {
        key.ends.iter_mut().for_each(|end| end.port = 0);
        key.ends.sort();
    }
    key
}

/// Capture times of the first and last frame of each row.
fn times_of_ends(sources: &Sources, rows: &[RecordBatch]) -> anyhow::Result<HashMap<(String, u32), i64>> {
    let mut times = HashMap::new();
    for batch in rows {
        for which in ["first", "last"] {
            let segments = batch[format!("{which}_segment").as_str()].as_string::<i32>();
            let frames = batch[format!("{which}_frame").as_str()].as_primitive::<Int64Type>();
            for (segment, frame) in segments.iter().zip(frames) {
                if let (Some(segment), Some(frame)) = (segment, frame) {
                    times.insert((segment.to_string(), frame as u32), None);
                }
            }
        }
    }
    let mut place = (String::new(), 0);
    each_frame(sources, |frame, _| {
        place.0.clone_from(&sources.files[frame.segment as usize].info.name);
        place.1 = frame.number;
        if let Some(time) = times.get_mut(&place) {
            *time = Some(frame.ts_ns);
        }
        Ok(())
    })?;
    Ok(times.into_iter().filter_map(|(place, time)| Some((place, time?))).collect())
}

fn end(ip: &str, port: u16) -> anyhow::Result<End> {
    let ip = match ip.parse().with_context(|| format!("{ip} is no address"))? {
        std::net::IpAddr::V4(v4) => mapped(v4.octets()),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    Ok(End { ip, port })
}

fn protocol_number(name: &str) -> u8 {
    match name {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "icmp6" => 58,
        "sctp" => 132,
        number => number.parse().unwrap_or(0),
    }
}

/// Frames by file, a bit each.
struct Chosen(Vec<Vec<u64>>);

impl Chosen {
    fn set(&mut self, file: u32, number: u32) {
        let bits = &mut self.0[file as usize];
        let word = number as usize / 64;
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= 1 << (number % 64);
    }

    fn has(&self, frame: &Frame<'_>) -> bool {
        let word = self.0[frame.segment as usize].get(frame.number as usize / 64);
        word.is_some_and(|word| word >> (frame.number % 64) & 1 == 1)
    }
}

/// Source, destination, identification and protocol of a fragmented datagram.
type Datagram = ([u8; 16], [u8; 16], u32, u8);

fn choose(sources: &Sources, wanted: &Wanted) -> anyhow::Result<Chosen> {
    let mut chosen = Chosen(vec![Vec::new(); sources.files.len()]);
    let mut fragments = Fragments::default();
    let mut pieces: HashMap<Datagram, Vec<(u32, u32)>> = HashMap::new();
    each_frame(sources, |frame, _| {
        match decode(*frame) {
            Decoded::Packet(packet) if wanted.has(&packet) => chosen.set(frame.segment, frame.number),
            Decoded::Fragment(fragment) => {
                let datagram = (fragment.src, fragment.dst, fragment.id, fragment.protocol);
                pieces.entry(datagram).or_default().push((frame.segment, frame.number));
                if let Some(payload) = fragments.add(&fragment) {
                    let frames = pieces.remove(&datagram).unwrap_or_default();
                    if wanted.has(&reassembled(&fragment, &payload)) {
                        frames.iter().for_each(|(file, number)| chosen.set(*file, *number));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(chosen)
}

fn copy(sources: &Sources, chosen: &Chosen, out: &mut (dyn Write + Send)) -> anyhow::Result<u64> {
    let mut block = Vec::new();
    section(&mut block);
    out.write_all(&block)?;
    let mut described: HashMap<u32, u32> = HashMap::new();
    let mut packets = 0;
    each_frame(sources, |frame, interfaces| {
        if !chosen.has(frame) {
            return Ok(());
        }
        block.clear();
        let next = described.len() as u32;
        let interface = *described.entry(frame.iface).or_insert_with(|| {
            interface_block(&mut block, frame.link_type, interfaces[frame.iface as usize].as_deref());
            next
        });
        let head =
            PacketHead { interface, ts_ns: frame.ts_ns, original_len: frame.wire_len, flags: 0, dropped: 0 };
        packet(&mut block, &head, frame.data);
        packets += 1;
        Ok(out.write_all(&block)?)
    })?;
    out.flush()?;
    Ok(packets)
}

/// Section header block (draft-ietf-opsawg-pcapng section 4.1) of unknown length, with `shb_userappl`.
fn section(out: &mut Vec<u8>) {
    let application = concat!("sharkq ", env!("CARGO_PKG_VERSION"));
    let mut body = Vec::new();
    body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
    body.extend_from_slice(&[1, 0, 0, 0]);
    body.extend_from_slice(&u64::MAX.to_le_bytes());
    option(&mut body, 4, application.as_bytes());
    finish(out, 0x0a0d_0d0a, body);
}

/// Interface description block (section 4.2): any link type, no limit, nanoseconds.
fn interface_block(out: &mut Vec<u8>, link_type: u16, name: Option<&str>) {
    let mut body = Vec::new();
    body.extend_from_slice(&u32::from(link_type).to_le_bytes());
    body.extend_from_slice(&0_u32.to_le_bytes());
    if let Some(name) = name {
        option(&mut body, 2, name.as_bytes());
    }
    option(&mut body, 9, &[9]);
    finish(out, 1, body);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn finish(out: &mut Vec<u8>, kind: u32, mut body: Vec<u8>) {
    option(&mut body, 0, &[]);
    let len = (body.len() as u32 + 12).to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&len);
    out.extend_from_slice(&body);
    out.extend_from_slice(&len);
}
