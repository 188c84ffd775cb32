//! Rows of `flows` and `packets` from what the flow table knows.

use shark_schema::call::OriginRow;
use shark_schema::tables::flows::FlowRow;
use shark_schema::tables::packets::{PacketBlock, PacketRow};

use crate::dissector::Direction;
use crate::flow::{Flow, Further, Scope, community_id, from, has_ports, ip_text};
use crate::frame::{Frame, Packet, Transport};
use crate::rows::{Catalog, FlowFacts, PlainRows, origin};

/// Appends the row of a flow that is over, and those of what other interfaces saw of it.
pub fn flow_row(flow: &mut Flow, scope: &mut Scope<'_>) {
    let (src, orientation) = flow.client();
    let dst = src.opposite();
    let tcp = flow.key.protocol == 6;
    let sides = flow.counted.sides;
    let [orig, resp] = [src, dst].map(|end| sides[end as usize]);
    let community_id = community_id(&flow.key);
    let mut proto = String::new();
    let proto = protocol_name(flow.key.protocol, &mut proto);
    let history = flow.connection.history(src);
    let vlans: Vec<i64> =
        flow.key.vlans.iter().filter(|vlan| **vlan != 0).map(|vlan| i64::from(*vlan)).collect();
    let missed = flow.missed_bytes();
    let rst = flow.connection.rst;
    let (first, last) = (flow.first, flow.last);
    let others = std::mem::take(&mut flow.others);
    let observations = 1 + others.len() as i32;
    let segment = &scope.catalog.segments[first.segment as usize];
    let state = if tcp {
        flow.connection.state(src)
    } else {
        match (orig.packets, resp.packets) {
            (0, _) => "SHR",
            (_, 0) => "S0",
            _ => "SF",
        }
    };
    let (has_payload, truncated, client_known) =
        (flow.has_payload, flow.truncated, flow.connection.client().is_some());
    let completeness = i32::from(flow.connection.completeness);
    let close_reason = close_reason(flow, src);
    let iface = scope.catalog.interfaces[flow.counted.iface as usize].as_deref();
    let facts = flow.facts();
    let ports = |end: Direction| facts.has_ports.then_some(i32::from(facts.ports[end as usize]));
    let row = FlowRow {
        flow_id: Some(&facts.id),
        community_id: Some(&community_id),
        ts: Some(first.ts_ns),
        end_ts: Some(last.ts_ns),
        duration_ns: Some(last.ts_ns - first.ts_ns),
        snapshot_id: segment.snapshot_id.as_deref(),
        cluster: segment.cluster.as_deref(),
        node: segment.node.as_deref(),
        src_ip: Some(&facts.ips[src as usize]),
        src_port: ports(src),
        dst_ip: Some(&facts.ips[dst as usize]),
        dst_port: ports(dst),
        proto: Some(proto),
        l7: has_payload.then_some(facts.l7.as_slice()),
        orig_bytes: Some(orig.payload_bytes as i64),
        resp_bytes: Some(resp.payload_bytes as i64),
        orig_pkts: Some(orig.packets.into()),
        resp_pkts: Some(resp.packets.into()),
        orig_ip_bytes: Some(orig.ip_bytes as i64),
        resp_ip_bytes: Some(resp.ip_bytes as i64),
        conn_state: Some(state),
        history: tcp.then_some(history.as_str()),
        close_reason: Some(close_reason),
        rst_by: rst.map(|(by, _)| if by == src { "src" } else { "dst" }),
        rst_ts: rst.map(|(_, ts_ns)| ts_ns),
        orientation: Some(orientation),
        missed_bytes: tcp.then_some(missed as i64),
        capture_state: Some(match (missed > 0, truncated, tcp && !client_known) {
            (_, true, _) => "truncated",
            (true, ..) => "lossy",
            (_, _, true) => "mid_stream",
            _ => "complete",
        }),
        vlans: (!vlans.is_empty()).then_some(&vlans),
        iface,
        observations: Some(observations),
        completeness: tcp.then_some(completeness),
        orig_wire_bytes: Some(orig.wire_bytes as i64),
        resp_wire_bytes: Some(resp.wire_bytes as i64),
        ..FlowRow::default()
    };
    let start_ns = facts.start_ns;
    scope.tables.flows.append(&row, &origin(scope.catalog, first, last), start_ns);
    for other in &others {
        let row = further_row(&row, other, [src, dst], scope.catalog);
        scope.tables.copies.append(&row, &origin(scope.catalog, other.first, other.last), start_ns);
    }
}

/// What is the same for the conversation, and what this interface saw of it.
fn further_row<'a>(
    flow: &FlowRow<'a>,
    other: &Further,
    [src, dst]: [Direction; 2],
    catalog: &'a Catalog,
) -> FlowRow<'a> {
    let segment = &catalog.segments[other.first.segment as usize];
    let [orig, resp] = [src, dst].map(|end| other.seen.sides[end as usize]);
    FlowRow {
        flow_id: flow.flow_id,
        community_id: flow.community_id,
        ts: Some(other.first.ts_ns),
        end_ts: Some(other.last.ts_ns),
        duration_ns: Some(other.last.ts_ns - other.first.ts_ns),
        snapshot_id: segment.snapshot_id.as_deref(),
        cluster: segment.cluster.as_deref(),
        node: segment.node.as_deref(),
        src_ip: flow.src_ip,
        src_port: flow.src_port,
        dst_ip: flow.dst_ip,
        dst_port: flow.dst_port,
        proto: flow.proto,
        l7: flow.l7,
        orientation: flow.orientation,
        vlans: flow.vlans,
        orig_bytes: Some(orig.payload_bytes as i64),
        resp_bytes: Some(resp.payload_bytes as i64),
        orig_pkts: Some(orig.packets.into()),
        resp_pkts: Some(resp.packets.into()),
        orig_ip_bytes: Some(orig.ip_bytes as i64),
        resp_ip_bytes: Some(resp.ip_bytes as i64),
        orig_wire_bytes: Some(orig.wire_bytes as i64),
        resp_wire_bytes: Some(resp.wire_bytes as i64),
        iface: catalog.interfaces[other.seen.iface as usize].as_deref(),
        observations: flow.observations,
        ..FlowRow::default()
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

fn protocol_name(protocol: u8, other: &mut String) -> &str {
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
    flow_id: &'a str,
    forward: bool,
    ips: [String; 2],
    flags: String,
}

/// The row of a packet of a flow.
pub fn packet_row<'a>(catalog: &'a Catalog, packet: &'a Packet<'a>, facts: &'a FlowFacts) -> PacketText<'a> {
    let sender = from(packet);
    let ips = [sender, sender.opposite()].map(|end| ip_text(&packet.key.ends[end as usize].ip));
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
    PacketText { packet, catalog, flow_id: &facts.id, forward, ips, flags }
}

impl PacketText<'_> {
    /// Appends it.
    pub fn append(&self, rows: &mut PlainRows<PacketBlock>, flow_start_ns: i64) {
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
            Transport::Other => None,
        };
        let row = PacketRow {
            flow_id: Some(self.flow_id),
            flow_dir: Some(if self.forward { "fwd" } else { "rev" }),
            vlan: (packet.key.vlans[0] != 0).then_some(packet.key.vlans[0].into()),
            src_ip: Some(&self.ips[0]),
            dst_ip: Some(&self.ips[1]),
            src_port: port(sender),
            dst_port: port(sender.opposite()),
            proto: Some(proto),
            ip_ttl: Some(packet.ttl.into()),
            tcp_flags: tcp.map(|_| self.flags.as_str()),
            tcp_seq: tcp.map(|tcp| tcp.seq.into()),
            tcp_ack: tcp.and_then(|tcp| tcp.ack).map(i64::from),
            tcp_window: tcp.map(|tcp| tcp.window.into()),
            payload_len,
            ..frame_row(self.catalog, &packet.frame)
        };
        rows.append(&row, &OriginRow::default(), flow_start_ns);
    }
}

fn frame_row<'a>(catalog: &'a Catalog, frame: &Frame<'a>) -> PacketRow<'a> {
    let segment = &catalog.segments[frame.segment as usize];
    PacketRow {
        packet_id: Some(frame.number.into()),
        segment_id: Some(&segment.name),
        ts: Some(frame.ts_ns),
        snapshot_id: segment.snapshot_id.as_deref(),
        cluster: segment.cluster.as_deref(),
        node: segment.node.as_deref(),
        iface: catalog.interfaces[frame.iface as usize].as_deref(),
        caplen: Some(frame.data.len() as i32),
        len: Some(frame.wire_len as i32),
        ..PacketRow::default()
    }
}

/// Appends the row of a frame that belongs to no flow.
pub fn stray_row(
    catalog: &Catalog,
    frame: &Frame<'_>,
    proto: &'static str,
    rows: &mut PlainRows<PacketBlock>,
) {
    let row = PacketRow { proto: Some(proto), ..frame_row(catalog, frame) };
    rows.append(&row, &OriginRow::default(), frame.ts_ns);
}
