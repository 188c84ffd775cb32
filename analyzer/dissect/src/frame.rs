//! One captured link-layer record in, its innermost addresses, ports and payload out. Borrows, never copies, never fails:
//! what cannot be decoded is a packet without a flow. Link types: Ethernet, SLL, SLL2, PPP, RAW, NULL, NFLOG, PKTAP; VLAN tags, MPLS
//! labels; IPv4 and IPv6 with extension headers. Fragments are handed on as they are.

use std::hash::{Hash, Hasher};

use etherparse::{
    Ipv6ExtensionSlice, LaxIpSlice, TcpHeaderSlice, TcpOptionElement, UdpHeaderSlice, ip_number,
};

/// A record as a source reads it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Capture time in ns since 1970 UTC.
    pub ts_ns: i64,
    /// The captured bytes.
    pub data: &'a [u8],
    /// Length on the wire.
    pub wire_len: u32,
    /// Link type (<https://www.tcpdump.org/linktypes.html>).
    pub link_type: u16,
    /// Interface, numbered over all sources.
    pub iface: u32,
    /// Segment or file, numbered over all sources.
    pub segment: u32,
    /// Number in the segment, from 1.
    pub number: u32,
    /// Where it was recorded.
    pub site: Site,
}

/// A node and its cluster, each numbered over all sources: equal addresses mean the same thing only within one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Cluster.
    pub cluster: u16,
    /// Node.
    pub node: u16,
    /// Not on a wire but in a program at one of the ends, before it encrypted or after it decrypted.
    pub told: Option<Told>,
}

/// Which end's program told what passed between it and its TLS library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The one that said it.
    BySender,
    /// The one that heard it.
    ByReceiver,
}

impl Site {
    /// In what a pair of addresses is unique: a node for those that never leave it, else the cluster.
    fn scope(self, ends: [&[u8; 16]; 2]) -> u32 {
        let stays = |ip: &[u8; 16]| {
            let v6 = std::net::Ipv6Addr::from(*ip);
            match v6.to_ipv4_mapped() {
                Some(v4) => v4.is_loopback() || v4.is_link_local(),
                None => v6.is_loopback() || v6.is_unicast_link_local(),
            }
        };
        if ends.into_iter().any(stays) { OF_NODE | u32::from(self.node) } else { self.cluster.into() }
    }
}

/// In a scope: addresses that never leave a node, or only one of its network namespaces.
const OF_NODE: u32 = 1 << 16;
const OF_NAMESPACE: u32 = 1 << 31;

/// Addresses, ports and context of a conversation, the smaller endpoint first.
#[derive(Clone, Copy, Debug)]
pub struct FlowKey {
    /// Endpoints; IPv4 addresses as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).
    pub ends: [End; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// VLAN ids of the packet, outermost first; 0 for none. They say where it was seen: a trunk or a router gives the directions
    /// of one conversation different tags, so keys that differ in them alone are equal.
    pub vlans: [u16; 2],
    /// In what the addresses are unique: a cluster, a node, or one of a node's network namespaces.
    pub scope: u32,
}

impl PartialEq for FlowKey {
    fn eq(&self, other: &FlowKey) -> bool {
        (self.ends, self.protocol, self.scope) == (other.ends, other.protocol, other.scope)
    }
}

impl Eq for FlowKey {}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.ends, self.protocol, self.scope).hash(state);
    }
}

impl FlowKey {
    /// True for addresses that every network namespace of a node has.
    pub fn is_of_node(&self) -> bool {
        self.scope & OF_NODE != 0
    }

    /// The same addresses in the network namespace of an interface.
    pub fn at(self, iface: u32) -> FlowKey {
        FlowKey { scope: OF_NAMESPACE | iface, ..self }
    }
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// Address.
    pub ip: [u8; 16],
    /// Port, or the ICMP type and code as Community ID maps them; 0 where there is none.
    pub port: u16,
}

/// What a decoded packet carries above IP.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// TCP.
    Tcp(Tcp<'a>),
    /// UDP.
    Udp {
        /// Captured payload.
        payload: &'a [u8],
        /// Payload length by the UDP header.
        payload_len: u32,
    },
    /// Anything else that belongs to a flow by its addresses.
    Other,
}

/// The TCP fields the analysis needs.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, if the ACK flag is set.
    pub ack: Option<u32>,
    /// Flags as on the wire: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Window field, not scaled.
    pub window: u16,
    /// Of a SYN: how many bits later windows of its sender are shifted by (RFC 7323 section 2.2).
    pub window_shift: Option<u8>,
    /// Captured payload.
    pub payload: &'a [u8],
    /// Payload length by the IP header; longer than `payload` where the capture was cut.
    pub payload_len: u32,
}

/// FIN flag.
pub const FIN: u8 = 1;
/// SYN flag.
pub const SYN: u8 = 2;
/// RST flag.
pub const RST: u8 = 4;
/// ACK flag.
pub const ACK: u8 = 16;

/// A frame with its innermost conversation.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The record.
    pub frame: Frame<'a>,
    /// The conversation.
    pub key: FlowKey,
    /// True if the first end of the key sent it.
    pub from_first: bool,
    /// IP length, header included.
    pub ip_len: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identification of an IPv4 packet, else 0.
    pub ip_id: u16,
    /// Above IP.
    pub transport: Transport<'a>,
}

/// An IP fragment on its way to reassembly.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// The record.
    pub frame: Frame<'a>,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// IP protocol number of the payload.
    pub protocol: u8,
    /// Identification.
    pub id: u32,
    /// Byte offset of this piece.
    pub offset: u32,
    /// More fragments follow.
    pub more: bool,
    /// VLAN ids.
    pub vlans: [u16; 2],
    /// IP length of this piece, header included.
    pub ip_len: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The piece.
    pub payload: &'a [u8],
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Decoded<'a> {
    /// A packet of a conversation.
    Packet(Packet<'a>),
    /// A piece of an IP datagram.
    Fragment(Fragment<'a>),
    /// Not IP (ARP, LLDP, ...).
    NotIp,
    /// Cut short or broken before the addresses were known.
    Undecodable,
}

mod link {
    //! Link types of libpcap.
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    pub const PPP: u16 = 9;
    pub const RAW_OPENBSD: u16 = 12;
    pub const RAW_BSD: u16 = 14;
    pub const RAW: u16 = 101;
    pub const LOOP: u16 = 108;
    pub const SLL: u16 = 113;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const NFLOG: u16 = 239;
    pub const PKTAP: u16 = 258;
    pub const SLL2: u16 = 276;
}

/// Decodes one frame.
pub fn decode(frame: Frame<'_>) -> Decoded<'_> {
    match ip_offset(frame.link_type, frame.data) {
        Some(Ok((offset, vlans))) => decode_ip(frame, offset, vlans),
        Some(Err(())) => Decoded::NotIp,
        None => Decoded::Undecodable,
    }
}

type Layer2 = Option<Result<(usize, [u16; 2]), ()>>;

/// Where the IP header starts and the VLAN tags before it; `Err` for another protocol, `None` for a cut header.
fn ip_offset(link_type: u16, data: &[u8]) -> Layer2 {
    match link_type {
        link::ETHERNET => ether_type(data, 12),
        link::SLL => ether_type(data, 14),
        link::SLL2 => vlan_tags(data, 20, be16(data, 0)?),
        link::PPP => ppp(data),
        link::NFLOG => nflog(data),
        link::PKTAP => {
            let header = le32(data, 0)? as usize;
            let inner = u16::try_from(le32(data, 8)?).ok().filter(|inner| *inner != link::PKTAP)?;
            let (offset, vlans) = match ip_offset(inner, data.get(header..)?)? {
                Ok(found) => found,
                Err(()) => return Some(Err(())),
            };
            Some(Ok((header + offset, vlans)))
        }
        link::RAW | link::RAW_BSD | link::RAW_OPENBSD | link::IPV4 | link::IPV6 => Some(Ok((0, [0; 2]))),
        // The family is in the byte order of the machine that wrote it (LOOP: network order); its numbers are below 256.
        link::NULL | link::LOOP => match data.get(..4)? {
            [2, 0, 0, 0] | [0, 0, 0, 2] => Some(Ok((4, [0; 2]))),
            [24 | 28 | 30 | 10, 0, 0, 0] | [0, 0, 0, 24 | 28 | 30 | 10] => Some(Ok((4, [0; 2]))),
            _ => Some(Err(())),
        },
        _ => Some(Err(())),
    }
}

/// Netfilter's log: type, length and value, of which NFULA_PAYLOAD (9) is the packet (linux/netfilter/nfnetlink_log.h).
/// Lengths are in the byte order of the machine that wrote them; x86 and ARM are little-endian.
fn nflog(data: &[u8]) -> Layer2 {
    let mut at = 4;
    loop {
        let (len, kind) = (le16(data, at)? as usize, le16(data, at + 2)?);
        match kind & 0x7fff {
            9 => return Some(Ok((at + 4, [0; 2]))),
            _ if len < 4 => return None,
            _ => at += len.next_multiple_of(4),
        }
    }
}

fn le16(data: &[u8], at: usize) -> Option<u16> {
    be16(data, at).map(u16::swap_bytes)
}

fn le32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(le16(data, at + 2)?) << 16 | u32::from(le16(data, at)?))
}

fn ether_type(data: &[u8], at: usize) -> Layer2 {
    vlan_tags(data, at + 2, be16(data, at)?)
}

/// Walks VLAN tags (IEEE 802.1Q section 9): `payload` is what follows the EtherType `ether_type`.
fn vlan_tags(data: &[u8], mut payload: usize, mut ether_type: u16) -> Layer2 {
    let mut vlans = [0; 2];
    let mut depth = 0;
    loop {
        match ether_type {
            0x0800 | 0x86dd => return Some(Ok((payload, vlans))),
            0x8100 | 0x88a8 | 0x9100 => {
                if let Some(vlan) = vlans.get_mut(depth) {
                    *vlan = be16(data, payload)? & 0x0fff;
                }
                ether_type = be16(data, payload + 2)?;
                payload += 4;
                depth += 1;
            }
            0x8847 | 0x8848 => return mpls(data, payload, vlans),
            _ => return Some(Err(())),
        }
    }
}

/// Walks a stack of labels up to its bottom (RFC 3032 section 2.1); what follows has no type, only the version of IP.
fn mpls(data: &[u8], mut at: usize, vlans: [u16; 2]) -> Layer2 {
    while *data.get(at + 2)? & 1 == 0 {
        at += 4;
    }
    match data.get(at + 4)? >> 4 {
        4 | 6 => Some(Ok((at + 4, vlans))),
        _ => Some(Err(())),
    }
}

/// Address and control may be left out, and the first byte of the protocol too (RFC 1661 sections 6.5 and 6.6).
fn ppp(data: &[u8]) -> Layer2 {
    let at = if data.starts_with(&[0xff, 0x03]) { 2 } else { 0 };
    match data.get(at..)? {
        [0x21 | 0x57, ..] => Some(Ok((at + 1, [0; 2]))),
        [0x00, 0x21 | 0x57, ..] => Some(Ok((at + 2, [0; 2]))),
        [] => None,
        _ => Some(Err(())),
    }
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]))
}

fn decode_ip(frame: Frame<'_>, offset: usize, vlans: [u16; 2]) -> Decoded<'_> {
    let Some(bytes) = frame.data.get(offset..) else {
        return Decoded::Undecodable;
    };
    let Ok((ip, _)) = LaxIpSlice::from_slice(bytes) else {
        return Decoded::Undecodable;
    };
    // Length 0 is written by senders that leave segmentation to the device: the frame's end counts.
    let on_wire = (frame.wire_len as usize).saturating_sub(offset);
    let (src, dst, ttl, ip_id, announced) = match &ip {
        LaxIpSlice::Ipv4(v4) => {
            let header = v4.header();
            let (src, dst) = (mapped(header.source()), mapped(header.destination()));
            (src, dst, header.ttl(), header.identification(), header.total_len() as usize)
        }
        LaxIpSlice::Ipv6(v6) => {
            let header = v6.header();
            let payload = header.payload_length() as usize;
            let total = if payload == 0 { 0 } else { 40 + payload };
            (header.source(), header.destination(), header.hop_limit(), 0, total)
        }
    };
    let ip_len = if announced == 0 { on_wire } else { announced };
    let inner = ip.payload();
    let protocol = inner.ip_number.0;
    let payload = inner.payload;
    if inner.fragmented {
        let (id, at, more) = fragment_fields(&ip);
        return Decoded::Fragment(Fragment {
            frame,
            src,
            dst,
            protocol,
            id,
            offset: at,
            more,
            vlans,
            ip_len: ip_len as u32,
            ttl,
            payload,
        });
    }
    let header_len = payload.as_ptr() as usize - bytes.as_ptr() as usize;
    let true_len = ip_len.saturating_sub(header_len);
    let datagram = Datagram { frame, src, dst, protocol, vlans, ip_len: ip_len as u32, ttl, ip_id };
    Decoded::Packet(datagram.packet(payload, true_len))
}

fn fragment_fields(ip: &LaxIpSlice<'_>) -> (u32, u32, bool) {
    match ip {
        LaxIpSlice::Ipv4(v4) => {
            let header = v4.header();
            let offset = u32::from(header.fragments_offset().value()) * 8;
            (header.identification().into(), offset, header.more_fragments())
        }
        LaxIpSlice::Ipv6(v6) => v6
            .extensions()
            .clone()
            .into_iter()
            .find_map(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(header) => Some((
                    header.identification(),
                    u32::from(header.fragment_offset().value()) * 8,
                    header.more_fragments(),
                )),
                _ => None,
            })
            .unwrap_or_default(),
    }
}

/// An IP datagram whose payload is at hand, captured whole or reassembled.
pub(crate) struct Datagram<'a> {
    pub frame: Frame<'a>,
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub protocol: u8,
    pub vlans: [u16; 2],
    pub ip_len: u32,
    pub ttl: u8,
    pub ip_id: u16,
}

impl<'a> Datagram<'a> {
    /// The packet with its ports; `true_len` is the payload's length on the wire.
    pub fn packet(&self, payload: &'a [u8], true_len: usize) -> Packet<'a> {
        let (src_port, dst_port, transport) = transport(self.protocol, payload, true_len);
        let src = End { ip: self.src, port: src_port };
        let dst = End { ip: self.dst, port: dst_port };
        let from_first = src <= dst;
        Packet {
            frame: self.frame,
            key: FlowKey {
                ends: if from_first { [src, dst] } else { [dst, src] },
                protocol: self.protocol,
                vlans: self.vlans,
                scope: self.frame.site.scope([&src.ip, &dst.ip]),
            },
            from_first,
            ip_len: self.ip_len,
            ttl: self.ttl,
            ip_id: self.ip_id,
            transport,
        }
    }
}

fn transport(protocol: u8, payload: &[u8], true_len: usize) -> (u16, u16, Transport<'_>) {
    match etherparse::IpNumber(protocol) {
        ip_number::TCP => match TcpHeaderSlice::from_slice(payload) {
            Ok(header) => {
                let header_len = header.slice().len();
                let flags = payload[13];
                let body = &payload[header_len..];
                let payload_len = true_len.saturating_sub(header_len);
                let tcp = Tcp {
                    seq: header.sequence_number(),
                    ack: header.ack().then(|| header.acknowledgment_number()),
                    flags,
                    window: header.window_size(),
                    window_shift: window_shift(&header, flags),
                    // Ethernet pads short frames: bytes beyond the IP length are not payload.
                    payload: &body[..body.len().min(payload_len)],
                    payload_len: payload_len as u32,
                };
                (header.source_port(), header.destination_port(), Transport::Tcp(tcp))
            }
            Err(_) => ports_only(payload),
        },
        ip_number::UDP => match UdpHeaderSlice::from_slice(payload) {
            Ok(header) => {
                // Length 0 is a jumbogram (RFC 2675 section 4); less than 8 is no length at all.
                let announced = header.length() as usize;
                let len = if announced < 8 { true_len.max(8) } else { announced };
                let udp = Transport::Udp {
                    payload: &payload[8..len.clamp(8, payload.len())],
                    payload_len: (len - 8) as u32,
                };
                (header.source_port(), header.destination_port(), udp)
            }
            Err(_) => ports_only(payload),
        },
        ip_number::SCTP => ports_only(payload),
        ip_number::ICMP | ip_number::IPV6_ICMP => {
            let (kind, code) = (payload.first().copied().unwrap_or(0), payload.get(1).copied().unwrap_or(0));
            let (kind, code) = icmp_ports(protocol, kind, code);
            (kind, code, Transport::Other)
        }
        _ => (0, 0, Transport::Other),
    }
}

fn window_shift(header: &TcpHeaderSlice<'_>, flags: u8) -> Option<u8> {
    if flags & SYN == 0 {
        return None;
    }
    header.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::WindowScale(shift)) => Some(shift.min(14)),
        _ => None,
    })
}

fn ports_only(payload: &[u8]) -> (u16, u16, Transport<'_>) {
    (be16(payload, 0).unwrap_or(0), be16(payload, 2).unwrap_or(0), Transport::Other)
}

/// ICMP type and code as the Community ID specification maps them to ports: a request and its reply share a flow.
fn icmp_ports(protocol: u8, kind: u8, code: u8) -> (u16, u16) {
    const V4: [(u8, u8); 10] =
        [(8, 0), (0, 8), (13, 14), (14, 13), (15, 16), (16, 15), (17, 18), (18, 17), (10, 9), (9, 10)];
    const V6: [(u8, u8); 10] = [
        (128, 129),
        (129, 128),
        (130, 131),
        (131, 130),
        (133, 134),
        (134, 133),
        (135, 136),
        (136, 135),
        (139, 140),
        (140, 139),
    ];
    let pairs = if protocol == 1 { V4 } else { V6 };
    let counterpart = pairs.iter().find(|(of, _)| *of == kind).map(|(_, counterpart)| *counterpart);
    (kind.into(), counterpart.unwrap_or(code).into())
}

/// An IPv4 address in its IPv4-mapped form.
pub fn mapped(ip: [u8; 4]) -> [u8; 16] {
    let mut mapped = [0; 16];
    mapped[10] = 0xff;
    mapped[11] = 0xff;
    mapped[12..].copy_from_slice(&ip);
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(link_type: u16, data: &[u8]) -> Frame<'_> {
        let wire_len = data.len() as u32;
        Frame { ts_ns: 0, data, wire_len, link_type, iface: 0, segment: 0, number: 1, site: Site::default() }
    }

    #[test]
    fn addresses_that_stay_on_a_node_are_told_apart_by_it() {
        let scope = |ip: &[u8; 16], cluster, node| {
            Site { cluster, node, told: None }.scope([ip, &mapped([10, 0, 0, 1])])
        };
        let (pod, own) = (mapped([10, 244, 1, 2]), mapped([127, 0, 0, 1]));
        assert_eq!(scope(&pod, 0, 1), scope(&pod, 0, 2), "seen on two nodes");
        assert_ne!(scope(&pod, 0, 1), scope(&pod, 1, 1), "another cluster's");
        assert_ne!(scope(&own, 0, 1), scope(&own, 0, 2), "another node's");
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_ne!(scope(&link_local, 0, 1), scope(&link_local, 0, 2));
    }

    /// 10.0.0.1:40000 to 10.0.0.2:80, PSH ACK, "hi", behind an 802.1ad and an 802.1Q tag.
    const QINQ: &[u8] = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xa8\0\x05\x81\0\0\x07\x08\0\
        E\0\0*\0\x01@\0@\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\
        \x9c\x40\0P\0\0\0\x05\0\0\0\x09P\x18\x01\0\0\0\0\0hi";

    #[test]
    fn tcp_behind_two_tags() {
        let Decoded::Packet(packet) = decode(frame(1, QINQ)) else { panic!("not a packet") };
        assert_eq!(packet.key.vlans, [5, 7]);
        assert_eq!(packet.key.ends[0], End { ip: mapped([10, 0, 0, 1]), port: 40000 });
        let Transport::Tcp(tcp) = packet.transport else { panic!("not TCP") };
        assert_eq!((tcp.seq, tcp.ack, tcp.payload), (5, Some(9), &b"hi"[..]));
    }

    #[test]
    fn tcp_behind_labels_and_over_ppp() {
        let ip = &QINQ[22..];
        let ethernet = |kind: [u8; 2], between: &[u8]| [&QINQ[..12], &kind, between, ip].concat();
        let frames = [
            (1, ethernet([0x88, 0x47], b"\0\x01\x01\x40")),
            (1, ethernet([0x88, 0x48], b"\0\x01\0\x40\0\x02\x01\x40")),
            (1, ethernet([0x81, 0], b"\0\x07\x88\x47\0\x01\x01\x40")),
            (9, [b"\xff\x03\0\x21", ip].concat()),
            (9, [b"\x21", ip].concat()),
        ];
        for (link_type, bytes) in frames {
            let Decoded::Packet(packet) = decode(frame(link_type, &bytes)) else { panic!("{bytes:?}") };
            assert_eq!(packet.key.ends[0], End { ip: mapped([10, 0, 0, 1]), port: 40000 });
        }
        let pseudowire = ethernet([0x88, 0x47], b"\0\x01\x01\x40\0\0\0\0");
        assert!(matches!(decode(frame(1, &pseudowire)), Decoded::NotIp));
    }

    #[test]
    fn every_cut_of_a_frame_decodes_to_something() {
        for link_type in [0, 1, 9, 12, 101, 108, 113, 239, 258, 276, 999] {
            for len in 0..QINQ.len() {
                decode(frame(link_type, &QINQ[..len]));
            }
        }
    }

    #[test]
    fn a_cut_payload_keeps_its_true_length() {
        let Decoded::Packet(packet) = decode(frame(1, &QINQ[..QINQ.len() - 1])) else {
            panic!("not a packet")
        };
        let Transport::Tcp(tcp) = packet.transport else { panic!("not TCP") };
        assert_eq!((tcp.payload, tcp.payload_len), (&b"h"[..], 2));
    }
}
