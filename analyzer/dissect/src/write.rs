//! Rows of `flows` and `packets` from what the flow table knows.

use shark_schema::tables::flows::FlowRow;
use shark_schema::tables::packets::PacketRow;

use crate::batch::PacketRows;
use crate::flow::{Flow, Inside, Observation, Scope, community_id, from, has_ports};
use crate::frame::{Frame, Packet, Transport};
use crate::layer::Direction;
use crate::rows::{Catalog, FlowFacts, INSIDE, origin};
use crate::shared::{FlowId, Shared};
use crate::stream::Mark;

/// Appends the row of a flow that is over, and those of what else was seen of it: at other interfaces, and by the programs at its
/// ends.
pub fn flow_row(flow: &mut Flow, scope: &mut Scope<'_>) {
    let (src, orientation) = flow.client();
    let ends = [src, src.opposite()];
    let inside = flow.inside.take();
    flow.part_twice_seen();
    flow.facts();
    let Some(facts) = flow.facts.take() else { return };
    let community_id = community_id(&flow.key);
    let history = flow.connection.history(src);
    let mut proto = String::new();
    let vlans: Vec<i64> =
        flow.key.vlans.iter().filter(|vlan| **vlan != 0).map(|vlan| i64::from(*vlan)).collect();
    let told = inside.as_ref().map_or(0, |inside| 1 + inside.flow.others.len());
    let observed = if flow.is_seen() { 1 + flow.others.len() } else { 0 } + told;
    let has_payload = flow.has_payload || inside.is_some();
    let shared = FlowRow {
        community_id: Some(&community_id),
        proto: Some(protocol_name(flow.key.protocol, &mut proto)),
        l7: has_payload.then_some(facts.l7.as_slice()),
        orientation: Some(orientation),
        vlans: (!vlans.is_empty()).then_some(&vlans),
        observations: Some(observed as i32),
        ..FlowRow::default()
    };
    let mut rows = Rows { scope, ends, facts: &facts, is_inside: false, is_first: true };
    if flow.is_seen() {
        rows.append(&with_connection(shared, flow, ends, &history), &flow.counted, flow.first, flow.last);
        for other in &flow.others {
            rows.append(&shared, &other.seen, other.first, other.last);
        }
    }
    if let Some(Inside { flow, .. }) = inside.as_deref() {
        rows.is_inside = true;
        let told = FlowRow {
            missed_bytes: Some(flow.missed_bytes() as i64),
            capture_state: Some(capture_state(flow)),
            ..shared
        };
        rows.append(&told, &flow.counted, flow.first, flow.last);
        for other in &flow.others {
            rows.append(&told, &other.seen, other.first, other.last);
        }
    }
}

/// Rows of one conversation: the first into `flows`, all others into `flow_copies`.
struct Rows<'a, 'b> {
    scope: &'a mut Scope<'b>,
    ends: [Direction; 2],
    facts: &'a FlowFacts,
    /// They are of what the programs at its ends told.
    is_inside: bool,
    is_first: bool,
}

impl Rows<'_, '_> {
    /// Adds what one observation alone tells.
    fn append(&mut self, row: &FlowRow<'_>, seen: &Observation, first: Mark, last: Mark) {
        let catalog = self.scope.catalog;
        let [orig, resp] = self.ends.map(|end| seen.sides[end as usize]);
        // The recorder made the packets of what a program told: only its bytes are real.
        let on_wire = |count: u64| seen.teller.is_none().then_some(count as i64);
        let row = FlowRow {
            ts: Some(first.ts_ns),
            end_ts: Some(last.ts_ns),
            duration_ns: Some(last.ts_ns - first.ts_ns),
            orig_bytes: Some(orig.payload_bytes as i64),
            resp_bytes: Some(resp.payload_bytes as i64),
            orig_pkts: on_wire(orig.packets.into()),
            resp_pkts: on_wire(resp.packets.into()),
            orig_ip_bytes: on_wire(orig.ip_bytes),
            resp_ip_bytes: on_wire(resp.ip_bytes),
            orig_wire_bytes: on_wire(orig.wire_bytes),
            resp_wire_bytes: on_wire(resp.wire_bytes),
            iface: catalog.interfaces[seen.iface as usize].as_deref(),
            tunnel: seen.tunnel.map(|tunnel| tunnel.kind),
            tunnel_id: seen.tunnel.and_then(|tunnel| tunnel.id).map(i64::from),
            ..*row
        };
        let tables = &mut *self.scope.tables;
        let table = if std::mem::take(&mut self.is_first) { &mut tables.flows } else { &mut tables.copies };
        let [src, dst] = self.ends.map(|end| self.facts.ends[end as usize]);
        let shared = Shared {
            id: self.facts.id,
            protocol: self.facts.protocol,
            src,
            dst,
            segment: first.segment,
            named_at_ns: self.facts.start_ns,
            end_ns: Some(last.ts_ns),
            is_inside: self.is_inside,
            server_name: self.facts.server_name.clone(),
        };
        table.append(&row, &origin(first, last), shared);
    }
}

/// What the packets of the counted observation tell of the connection.
fn with_connection<'a>(
    shared: FlowRow<'a>,
    flow: &Flow,
    [src, dst]: [Direction; 2],
    history: &'a str,
) -> FlowRow<'a> {
    let tcp = flow.key.protocol == 6;
    let state = match [src, dst].map(|end| flow.counted.sides[end as usize].packets) {
        _ if tcp => flow.connection.state(src),
        [0, _] => "SHR",
        [_, 0] => "S0",
        _ => "SF",
    };
    let rst = flow.connection.rst;
    FlowRow {
        conn_state: Some(state),
        history: tcp.then_some(history),
        close_reason: Some(close_reason(flow, src)),
        rst_by: rst.map(|(by, _)| if by == src { "src" } else { "dst" }),
        rst_ts: rst.map(|(_, ts_ns)| ts_ns),
        missed_bytes: tcp.then_some(flow.missed_bytes() as i64),
        capture_state: Some(capture_state(flow)),
        completeness: tcp.then_some(i32::from(flow.connection.completeness)),
        ..shared
    }
}

fn capture_state(flow: &Flow) -> &'static str {
    let is_mid_stream = flow.key.protocol == 6 && flow.connection.client().is_none();
    match (flow.missed_bytes() > 0, flow.truncated, is_mid_stream) {
        (_, true, _) => "truncated",
        (true, ..) => "lossy",
        (_, _, true) => "mid_stream",
        _ => "complete",
    }
}

fn close_reason(flow: &Flow, src: Direction) -> &'static str {
    match (flow.connection.rst, flow.connection.fin, flow.key.protocol) {
        (Some((by, _)), ..) if by == src => "rst_src",
        (Some(_), ..) => "rst_dst",
        (None, [true, true], _) => "fin",
        (.., 6) => "open",
        _ => "timeout",
    }
}

/// Name of a protocol above IP, or its number as text.
pub fn protocol_name(protocol: u8, other: &mut String) -> &str {
    match protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmp6",
        132 => "sctp",
        number => {
            *other = number.to_string();
            other
        }
    }
}

/// A row of `packets` with the texts it borrows.
pub struct PacketText<'a> {
    packet: &'a Packet<'a>,
    catalog: &'a Catalog,
    flow_id: FlowId,
    forward: bool,
    ips: [String; 2],
    flags: String,
}

/// The row of a packet of a flow.
pub fn packet_row<'a>(catalog: &'a Catalog, packet: &'a Packet<'a>, facts: &'a FlowFacts) -> PacketText<'a> {
    let sender = from(packet);
    let ips = [sender, sender.opposite()].map(|end| packet.key.ends[end as usize].addr().to_string());
    let forward = facts.client.is_none_or(|(client, _)| client == sender);
    let flags = match &packet.transport {
        Transport::Tcp(tcp) => "FSRPAUEC"
            .chars()
            .enumerate()
            .filter(|(bit, _)| tcp.flags >> bit & 1 == 1)
            .map(|(_, letter)| letter)
            .collect(),
        _ => String::new(),
    };
    PacketText { packet, catalog, flow_id: facts.id, forward, ips, flags }
}

impl PacketText<'_> {
    /// Appends it.
    pub fn append(&self, rows: &mut PacketRows) {
        let packet = self.packet;
        let sender = from(packet);
        let port = |end: Direction| {
            has_ports(packet.key.protocol).then_some(i32::from(packet.key.ends[end as usize].port))
        };
        let mut proto = String::new();
        let proto = protocol_name(packet.key.protocol, &mut proto);
        let tcp = match &packet.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        let payload_len = match &packet.transport {
            Transport::Tcp(tcp) => Some(tcp.payload_len as i32),
            Transport::Udp { payload_len, .. } => Some(*payload_len as i32),
            Transport::Icmp { .. } | Transport::Other => None,
        };
        let row = PacketRow {
            flow_id: Some(self.flow_id.as_str()),
            flow_dir: Some(if self.forward { "fwd" } else { "rev" }),
            tunnel: packet.tunnel.map(|tunnel| tunnel.kind),
            vlan: (packet.key.vlans[0] != 0).then_some(packet.key.vlans[0].into()),
            src_ip: Some(&self.ips[0]),
            dst_ip: Some(&self.ips[1]),
            src_port: port(sender),
            dst_port: port(sender.opposite()),
            proto: Some(proto),
            ip_ttl: Some(packet.ttl.into()),
            ip_id: packet.key.ends[0].addr().is_ipv4().then_some(packet.ip_id.into()),
            tcp_flags: tcp.map(|_| self.flags.as_str()),
            tcp_seq: tcp.map(|tcp| tcp.seq.into()),
            tcp_ack: tcp.and_then(|tcp| tcp.ack).map(i64::from),
            tcp_window: tcp.map(|tcp| tcp.window.into()),
            payload_len,
            ..frame_row(self.catalog, &packet.frame)
        };
        rows.append(&row);
    }
}

fn frame_row<'a>(catalog: &'a Catalog, frame: &Frame<'a>) -> PacketRow<'a> {
    let segment = &catalog.segments[frame.segment as usize];
    PacketRow {
        packet_id: Some(frame.number.into()),
        segment_id: Some(frame.segment),
        ts: Some(frame.ts_ns),
        snapshot_id: segment.snapshot_id.as_deref(),
        cluster: segment.cluster.as_deref(),
        node: segment.node.as_deref(),
        iface: catalog.interfaces[frame.iface as usize].as_deref(),
        vantage: frame.site.told.map(|_| INSIDE),
        caplen: Some(frame.data.len() as i32),
        len: Some(frame.wire_len as i32),
        ..PacketRow::default()
    }
}

/// Appends the row of a frame that belongs to no flow.
pub fn stray_row(catalog: &Catalog, frame: &Frame<'_>, proto: &'static str, rows: &mut PacketRows) {
    let row = PacketRow { proto: Some(proto), ..frame_row(catalog, frame) };
    rows.append(&row);
}
