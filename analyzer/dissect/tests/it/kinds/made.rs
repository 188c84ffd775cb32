//! Captures made packet by packet. In: what the ends of a conversation say, and what of it the capture lost, swapped or doubled. Out:
//! frames, and the rows they give.

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use shark_dissect::frame::{Frame, Site};
use shark_dissect::layer::Options;
use shark_dissect::pipeline::Analysis;
use shark_dissect::rows::SegmentInfo;

pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;
pub const MS: i64 = 1_000_000;
pub const S: i64 = 1000 * MS;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

const ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

#[derive(Clone, Debug)]
pub struct Sent {
    pub ts_ns: i64,
    pub data: Vec<u8>,
    pub wire_len: u32,
    pub iface: u32,
}

impl Sent {
    /// Cut by the capture.
    pub fn cut(&mut self, snap_len: usize) {
        self.data.truncate(snap_len);
    }
}

/// An Ethernet frame with IPv4; `vlan` is the tag before it.
fn framed(addresses: [[u8; 4]; 2], protocol: u8, id: u16, vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + payload.len() as u16).to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0x40, 0, 64, protocol, 0, 0]);
    frame.extend(addresses.concat());
    frame.extend(payload);
    frame
}

/// A TCP connection as it is captured.
pub struct Tcp {
    pub frames: Vec<Sent>,
    /// Sequence number that each end uses next.
    pub next: [u32; 2],
    /// VLAN tag of what each end sends.
    pub vlans: [Option<u16>; 2],
    /// Interface at which it is seen.
    pub ifaces: [u32; 2],
    pub ts_ns: i64,
    ports: [u16; 2],
    ip_id: u16,
}

impl Tcp {
    /// In the middle of a connection.
    pub fn to(port: u16) -> Tcp {
        Tcp {
            frames: Vec::new(),
            next: [1000, 900_000],
            vlans: [None; 2],
            ifaces: [0; 2],
            ts_ns: S,
            ports: [40000, port],
            ip_id: 0,
        }
    }

    /// From its handshake on.
    pub fn opened(port: u16) -> Tcp {
        let mut tcp = Tcp::to(port);
        tcp.open();
        tcp
    }

    pub fn open(&mut self) {
        let [client, server] = self.next;
        self.segment(CLIENT, client.wrapping_sub(1), None, SYN, b"");
        self.segment(SERVER, server.wrapping_sub(1), Some(client), SYN | ACK, b"");
        self.ack(CLIENT);
    }

    /// One frame, whatever it says.
    pub fn segment(&mut self, from: usize, seq: u32, ack: Option<u32>, flags: u8, bytes: &[u8]) {
        let to = 1 - from;
        let mut tcp = [self.ports[from].to_be_bytes(), self.ports[to].to_be_bytes()].concat();
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.unwrap_or(0).to_be_bytes());
        tcp.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        tcp.extend(bytes);
        self.ip_id += 1;
        let data = framed([ADDRESSES[from], ADDRESSES[to]], 6, self.ip_id, self.vlans[from], &tcp);
        let wire_len = data.len() as u32;
        self.frames.push(Sent { ts_ns: self.ts_ns, data, wire_len, iface: self.ifaces[from] });
        self.ts_ns += MS;
    }

    /// The next bytes of an end, which acknowledge all that the other said.
    pub fn say(&mut self, from: usize, bytes: &[u8]) {
        let (seq, ack) = (self.next[from], self.next[1 - from]);
        self.segment(from, seq, Some(ack), PSH | ACK, bytes);
        self.next[from] = seq.wrapping_add(bytes.len() as u32);
    }

    /// So many bytes that the capture has not.
    pub fn lose(&mut self, from: usize, len: usize) {
        self.next[from] = self.next[from].wrapping_add(len as u32);
        self.ts_ns += MS;
    }

    /// The beginning of a message comes, and its rest is lost; it is acknowledged all the same.
    pub fn say_beginning(&mut self, from: usize, bytes: &[u8], len: usize) {
        self.say(from, &bytes[..len]);
        self.lose(from, bytes.len() - len);
        self.ack(1 - from);
    }

    pub fn ack(&mut self, from: usize) {
        let (seq, ack) = (self.next[from], self.next[1 - from]);
        self.segment(from, seq, Some(ack), ACK, b"");
    }

    pub fn call(&mut self, request: &[u8], response: &[u8]) {
        self.say(CLIENT, request);
        self.say(SERVER, response);
        self.ack(CLIENT);
    }

    pub fn close(&mut self) {
        for from in [CLIENT, SERVER] {
            let (seq, ack) = (self.next[from], self.next[1 - from]);
            self.segment(from, seq, Some(ack), FIN | ACK, b"");
            self.next[from] = seq.wrapping_add(1);
        }
        self.ack(CLIENT);
    }
}

/// A datagram from one address and port to another.
pub fn datagram(ts_ns: i64, from: ([u8; 4], u16), to: ([u8; 4], u16), bytes: &[u8]) -> Sent {
    let mut udp = [from.1.to_be_bytes(), to.1.to_be_bytes(), (8 + bytes.len() as u16).to_be_bytes()].concat();
    udp.extend([0, 0]);
    udp.extend(bytes);
    let data = framed([from.0, to.0], 17, (ts_ns / 1000) as u16, None, &udp);
    Sent { ts_ns, wire_len: data.len() as u32, data, iface: 0 }
}

/// The same to and from a server.
pub fn question(ts_ns: i64, port: u16, bytes: &[u8]) -> Sent {
    datagram(ts_ns, (ADDRESSES[0], 40000), (ADDRESSES[1], port), bytes)
}

pub fn answer(ts_ns: i64, port: u16, bytes: &[u8]) -> Sent {
    datagram(ts_ns, (ADDRESSES[1], port), (ADDRESSES[0], 40000), bytes)
}

/// Rows of a table in the order of time: these columns, comma by comma, nothing for NULL.
pub fn rows(frames: &[Sent], table: &str, columns: &[&str]) -> Vec<String> {
    let mut analysis = Analysis::new(Options::default());
    analysis.catalog.segments = vec![SegmentInfo { name: "made".into(), ..SegmentInfo::default() }];
    analysis.catalog.interfaces = vec![None; 4];
    let chunk = (1..)
        .zip(frames)
        .map(|(number, sent)| Frame {
            ts_ns: sent.ts_ns,
            data: &sent.data,
            wire_len: sent.wire_len,
            link_type: 1,
            iface: sent.iface,
            segment: 0,
            number,
            site: Site::default(),
        })
        .collect();
    analysis.round(&[chunk], false);
    analysis.finish();
    let at = analysis.tables().iter().position(|known| known.name == table).expect("a table");
    let mut lines: Vec<(i64, i64, String)> = Vec::new();
    let known = analysis.tables()[at];
    for batch in analysis.take(at) {
        let rows = batch.record_batch(known, &analysis.catalog).expect("columns of the table");
        let cell = |name: &str, row: usize| text(&rows, name, row);
        for row in 0..rows.num_rows() {
            let line: Vec<String> = columns.iter().map(|name| cell(name, row)).collect();
            let number = |name: &str| cell(name, row).parse().unwrap_or(0);
            lines.push((time(&rows, row), number("first_frame"), line.join(",")));
        }
    }
    lines.sort();
    lines.into_iter().map(|(.., line)| line).collect()
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> String {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    match column.is_null(row) {
        true => String::new(),
        false => array_value_to_string(column, row).expect("a type that prints"),
    }
}

fn time(batch: &RecordBatch, row: usize) -> i64 {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampNanosecondType;
    batch["ts"].as_primitive::<TimestampNanosecondType>().value(row)
}
