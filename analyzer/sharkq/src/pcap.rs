//! The packets behind rows: rows in, the very packets out, byte for byte, as plain pcapng. Fragments
//! come with the datagram they belong to. What several interfaces saw is written as the one saw it that the row counts. Behind rows from inside of TLS are the packets of the plaintext, never those of the wire.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;

use anyhow::Context;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::JoinType;
use datafusion::logical_expr::col;
use datafusion::prelude::DataFrame;
use shark_dissect::frame::{Decoded, End, FlowKey, Frame, Packet, Transport, decode, mapped};
use shark_dissect::pipeline::reassembled;
use shark_dissect::reassemble::Fragments;
use shark_schema::segment::{Name, PacketHead, packet};

use crate::index::IndexNote;
use crate::rounds::Rounds;
use crate::session::Session;
use crate::source::Sources;

/// Which packets: those of these conversations in these times, on the wire or inside of TLS.
#[derive(Default)]
struct Wanted {
    by_flow: HashMap<(FlowKey, bool), Vec<Window>>,
}

/// The time of a row, and the interface whose packets its conversation counts; none where all of them are asked for.
#[derive(Clone, Copy)]
struct Window {
    from_ns: i64,
    to_ns: i64,
    home: Option<u32>,
}

/// A copy of a packet at another interface comes within this time. What of a row was seen elsewhere first is so seen after its end.
const COPY_NS: i64 = 100_000_000;

/// What tells a packet from the others of its conversation.
type Print = u64;

/// The files of a source, and for each the times of its first and last packet.
pub struct Recorded<'a> {
    sources: &'a Sources,
    windows: Vec<Option<(i64, i64)>>,
    rounds: Rounds<'a>,
    known_damage: &'a [String],
    /// Files that could be read when the index was made, and end early now: packets are missing.
    pub damage: BTreeSet<String>,
}

impl<'a> Recorded<'a> {
    /// The files of a source, as its index describes them.
    pub fn new(sources: &'a Sources, note: &'a IndexNote) -> Recorded<'a> {
        let windows = note.files.iter().map(|file| file.stats.window).collect();
        let rounds = Rounds::new(&sources.files);
        Recorded { sources, windows, rounds, known_damage: &note.damage, damage: BTreeSet::new() }
    }

    /// Calls a function for every frame of the files that are needed, in the order of the files.
    fn each_frame(
        &mut self,
        is_needed: impl Fn(usize) -> bool,
        mut work: impl FnMut(&Frame<'_>, &[Option<String>]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.rounds.begin_again(is_needed);
        let mut interfaces = Vec::new();
        while let Some(round) = self.rounds.next_round()? {
            interfaces.extend(round.new_interfaces.iter().cloned());
            for part in &round.parts {
                part.chunk().iter().try_for_each(|frame| work(frame, &interfaces))?;
            }
        }
        let damage = self.rounds.damage.iter().map(ToString::to_string);
        self.damage.extend(damage.filter(|damage| !self.known_damage.contains(damage)));
        Ok(())
    }
}

/// Writes the packets behind rows that name their flow and their first and last frame; returns how many they are.
pub async fn write(
    session: &Session,
    recorded: &mut Recorded<'_>,
    rows: DataFrame,
    all_interfaces: bool,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<u64> {
    let rows = session.collected(with_ends(session, rows).await?).await?.batches;
    tokio::task::block_in_place(|| {
        let wanted = Wanted::new(recorded, &rows, all_interfaces)?;
        let chosen = choose(recorded, &wanted)?;
        copy(recorded, &chosen, out)
    })
}

/// Frames of each row, with the ends of its flow as packets have them.
async fn with_ends(session: &Session, rows: DataFrame) -> anyhow::Result<DataFrame> {
    let frames = ["first_segment", "first_frame", "last_segment", "last_frame"];
    let ends = ["src_ip", "src_port", "dst_ip", "dst_port", "proto", "vlans"];
    let is_copy = rows.logical_plan().display_indent().to_string().contains("flow_copies");
    let chosen = rows.select([&["flow_id"], &frames[..]].concat().into_iter().map(col))?;
    let flow = session.select_where("flows", "true").await?;
    let flow_id = [col("flow_id").alias("flow")];
    // A row that is itself of another interface has its own.
    let counted =
        ["segment", "frame"].map(|what| col(format!("first_{what}")).alias(format!("counted_{what}")));
    let flow = flow.select(flow_id.into_iter().chain(counted).chain(ends.map(col)))?;
    let joined = chosen.join(flow, JoinType::Inner, &["flow_id"], &["flow"], None)?;
    if !is_copy {
        return Ok(joined);
    }
    let own = ["segment", "frame"];
    own.into_iter().try_fold(joined, |rows, what| {
        Ok(rows.with_column(&format!("counted_{what}"), col(format!("first_{what}")))?)
    })
}

impl Wanted {
    fn new(
        recorded: &mut Recorded<'_>,
        rows: &[RecordBatch],
        all_interfaces: bool,
    ) -> anyhow::Result<Wanted> {
        let frames = EndFrames::find(recorded, rows)?;
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
                let seen = |which: &str| {
                    let frame =
                        batch[format!("{which}_frame").as_str()].as_primitive::<Int64Type>().value(row);
                    frames.at(text(&format!("{which}_segment")), frame)
                };
                let is_plaintext = text("first_segment").parse::<Name>().is_ok_and(Name::is_plaintext);
                if let (Some((from_ns, _)), Some((to_ns, _))) = (seen("first"), seen("last")) {
                    let counted = seen("counted").map(|(_, iface)| iface);
                    let home = counted.filter(|_| !all_interfaces && !is_plaintext);
                    let windows = wanted.by_flow.entry((comparable(key), is_plaintext)).or_default();
                    // Where the clock was set back, the last packet may have the earlier time.
                    let (from_ns, to_ns) = (from_ns.min(to_ns), from_ns.max(to_ns));
                    windows.push(Window { from_ns, to_ns, home });
                }
            }
        }
        Ok(wanted)
    }

    /// Whether a file with packets from one time to another may contain wanted ones; always where the times are not known.
    fn may_be_in(&self, window: Option<(i64, i64)>) -> bool {
        let Some((first_ns, last_ns)) = window else { return true };
        let overlaps =
            |window: &Window| window.from_ns <= last_ns && first_ns <= window.to_ns.saturating_add(COPY_NS);
        self.by_flow.values().flatten().any(overlaps)
    }

    /// The windows of a packet's conversation that it is in, or so shortly behind that it can be a copy of one in them.
    fn near(&self, packet: &Packet<'_>) -> impl Iterator<Item = Window> {
        let windows = self.by_flow.get(&(comparable(packet.key), packet.frame.site.told.is_some()));
        let ts_ns = packet.frame.ts_ns;
        let is_near =
            move |window: &Window| (window.from_ns..=window.to_ns.saturating_add(COPY_NS)).contains(&ts_ns);
        windows.into_iter().flatten().copied().filter(is_near)
    }
}

/// A direction of a conversation.
type Way = (FlowKey, bool);

/// Packets of interfaces other than the one that is counted, until it is known whether that one shows their direction: at a tap each
/// direction has an interface of its own.
#[derive(Default)]
struct Elsewhere {
    at_home: HashSet<Way>,
    waiting: HashMap<Way, (u32, Vec<(u32, u32)>)>,
    /// Last packets of rows, whose copies at home may come after the end.
    ends: HashSet<(Way, Print)>,
}

impl Elsewhere {
    /// True where the packet is to be written; those that wait are written at the end.
    fn takes(&mut self, wanted: &Wanted, packet: &Packet<'_>, frames: &[(u32, u32)]) -> bool {
        let (ts_ns, iface) = (packet.frame.ts_ns, packet.frame.iface);
        let way = (comparable(packet.key), packet.from_first);
        let mut takes = false;
        for window in wanted.near(packet) {
            let is_inside = ts_ns <= window.to_ns;
            match window.home {
                None => takes |= is_inside,
                Some(home) if home == iface => {
                    if self.at_home.insert(way) {
                        self.waiting.remove(&way);
                    }
                    let ended = self.ends.remove(&(way, print_of(packet)));
                    takes |= is_inside || ended;
                }
                Some(_) if is_inside => {
                    if ts_ns >= window.to_ns.saturating_sub(COPY_NS) {
                        self.ends.insert((way, print_of(packet)));
                    }
                    if !self.at_home.contains(&way) {
                        let (first, waiting) = self.waiting.entry(way).or_insert_with(|| (iface, Vec::new()));
                        if *first == iface {
                            waiting.extend_from_slice(frames);
                        }
                    }
                }
                Some(_) => {}
            }
        }
        takes
    }
}

fn print_of(packet: &Packet<'_>) -> Print {
    let mut hash = DefaultHasher::new();
    match &packet.transport {
        Transport::Tcp(tcp) => (tcp.seq, tcp.ack, tcp.flags, tcp.payload_len, tcp.window).hash(&mut hash),
        Transport::Udp { payload, payload_len } => (payload, payload_len).hash(&mut hash),
        Transport::Icmp { message, len } => (message, len).hash(&mut hash),
        Transport::Other => (packet.ip_id, packet.ip_len).hash(&mut hash),
    }
    hash.finish()
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

/// Capture times and interfaces of the first and last frame of each row, and of the first of its conversation.
struct EndFrames<'a> {
    /// Numbers of the files by the names that they have in rows.
    files: HashMap<&'a str, u32>,
    /// By file and number of the frame.
    found: HashMap<(u32, u32), Option<(i64, u32)>>,
}

impl<'a> EndFrames<'a> {
    fn find(recorded: &mut Recorded<'a>, rows: &[RecordBatch]) -> anyhow::Result<EndFrames<'a>> {
        let files = recorded.sources.files.iter().map(|file| file.info.name.as_str()).zip(0..).collect();
        let mut frames = EndFrames { files, found: HashMap::new() };
        for batch in rows {
            for which in ["first", "last", "counted"] {
                let segments = batch[format!("{which}_segment").as_str()].as_string::<i32>();
                let numbers = batch[format!("{which}_frame").as_str()].as_primitive::<Int64Type>();
                for (segment, number) in segments.iter().zip(numbers) {
                    let file = segment.and_then(|segment| frames.files.get(segment));
                    if let (Some(file), Some(number)) = (file, number) {
                        frames.found.insert((*file, number as u32), None);
                    }
                }
            }
        }
        let needed: HashSet<usize> = frames.found.keys().map(|(file, _)| *file as usize).collect();
        recorded.each_frame(
            |file| needed.contains(&file),
            |frame, _| {
                if let Some(found) = frames.found.get_mut(&(frame.segment, frame.number)) {
                    *found = Some((frame.ts_ns, frame.iface));
                }
                Ok(())
            },
        )?;
        Ok(frames)
    }

    fn at(&self, segment: &str, number: i64) -> Option<(i64, u32)> {
        let file = self.files.get(segment)?;
        *self.found.get(&(*file, number as u32))?
    }
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

fn choose(recorded: &mut Recorded<'_>, wanted: &Wanted) -> anyhow::Result<Chosen> {
    let count = recorded.sources.files.len();
    let windows = &recorded.windows;
    let needed: Vec<bool> =
        (0..count).map(|file| wanted.may_be_in(windows.get(file).copied().flatten())).collect();
    let mut chosen = Chosen(vec![Vec::new(); count]);
    let mut elsewhere = Elsewhere::default();
    let mut fragments = Fragments::default();
    let mut pieces: HashMap<Datagram, Vec<(u32, u32)>> = HashMap::new();
    recorded.each_frame(
        |file| needed[file],
        |frame, _| {
            match decode(*frame) {
                Decoded::Packet(packet)
                    if elsewhere.takes(wanted, &packet, &[(frame.segment, frame.number)]) =>
                {
                    chosen.set(frame.segment, frame.number);
                }
                Decoded::Fragment(fragment) => {
                    let datagram = (fragment.src, fragment.dst, fragment.id, fragment.protocol);
                    pieces.entry(datagram).or_default().push((frame.segment, frame.number));
                    if let Some(payload) = fragments.add(&fragment) {
                        let frames = pieces.remove(&datagram).unwrap_or_default();
                        if reassembled(&fragment, &payload)
                            .is_some_and(|packet| elsewhere.takes(wanted, &packet, &frames))
                        {
                            frames.iter().for_each(|(file, number)| chosen.set(*file, *number));
                        }
                    }
                }
                _ => {}
            }
            Ok(())
        },
    )?;
    let waiting = elsewhere.waiting.values().flat_map(|(_, frames)| frames);
    waiting.for_each(|(file, number)| chosen.set(*file, *number));
    Ok(chosen)
}

fn copy(recorded: &mut Recorded<'_>, chosen: &Chosen, out: &mut (dyn Write + Send)) -> anyhow::Result<u64> {
    let mut block = Vec::new();
    section(&mut block);
    out.write_all(&block)?;
    let mut described: HashMap<u32, u32> = HashMap::new();
    let mut packets = 0;
    recorded.each_frame(
        |file| !chosen.0[file].is_empty(),
        |frame, interfaces| {
            if !chosen.has(frame) {
                return Ok(());
            }
            block.clear();
            let next = described.len() as u32;
            let interface = *described.entry(frame.iface).or_insert_with(|| {
                interface_block(&mut block, frame.link_type, interfaces[frame.iface as usize].as_deref());
                next
            });
            let head = PacketHead {
                interface,
                ts_ns: frame.ts_ns,
                original_len: frame.wire_len,
                flags: 0,
                dropped: 0,
            };
            packet(&mut block, &head, frame.data);
            packets += 1;
            Ok(out.write_all(&block)?)
        },
    )?;
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
