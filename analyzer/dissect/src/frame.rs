//! One captured link-layer record in, its innermost addresses, ports and payload out. Borrows, never copies, never fails:
//! what cannot be decoded is a packet without a flow. Link types: Ethernet, SLL, SLL2, PPP, RAW, NULL, NFLOG, PKTAP; VLAN tags, MPLS
//! labels; IPv4 and IPv6 with extension headers; tunnels. Fragments are handed on as they are.

mod link;
mod network;
mod tunnel;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

pub(crate) use network::Datagram;
pub use tunnel::Tunnel;

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

impl End {
    /// Its address, an IPv4 one as such.
    pub fn addr(&self) -> IpAddr {
        IpAddr::from(self.ip).to_canonical()
    }
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
    /// ICMP or ICMPv6.
    Icmp {
        /// Captured message.
        message: &'a [u8],
        /// Its length by the IP header.
        len: u32,
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
    /// The innermost tunnel that it came through.
    pub tunnel: Option<Tunnel>,
    /// IP length, header included.
    pub ip_len: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identification of an IPv4 packet, else 0.
    pub ip_id: u16,
    /// Above IP.
    pub transport: Transport<'a>,
}

impl Packet<'_> {
    /// Where it goes to.
    pub fn dst(&self) -> End {
        self.key.ends[usize::from(self.from_first)]
    }
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
    /// The innermost tunnel that it came through.
    pub tunnel: Option<Tunnel>,
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

/// Decodes one frame.
pub fn decode(frame: Frame<'_>) -> Decoded<'_> {
    within(frame, frame.data, frame.link_type, None)
}

/// Decodes what a link layer of this type carries, in a frame or in a tunnel of it.
fn within<'a>(frame: Frame<'a>, data: &'a [u8], link_type: u16, tunnel: Option<Tunnel>) -> Decoded<'a> {
    match link::ip_offset(link_type, data) {
        Some(Ok((offset, vlans))) => match data.get(offset..) {
            Some(bytes) => network::decode_ip(frame, bytes, vlans, tunnel),
            None => Decoded::Undecodable,
        },
        Some(Err(())) => Decoded::NotIp,
        None => Decoded::Undecodable,
    }
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
