//! Tunnels: VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784, 2890), ERSPAN (draft-foschiano-erspan), GTP-U (3GPP TS 29.281) and IP
//! in IP (RFC 2003, 2473, 4213). In: the payload of an IP packet. Out: what it carries, for the decoders of the link and network
//! layers. A packet whose tunnel carries no IP packet that can be decoded is what it is without it.

use super::link::{be16, kind};
use super::{Decoded, Frame, within};

/// A tunnel around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// vxlan, geneve, gre, erspan, gtpu or ipip.
    pub kind: &'static str,
    /// VXLAN network identifier, virtual network identifier of Geneve, key of GRE, session of ERSPAN, or tunnel endpoint identifier of
    /// GTP-U.
    pub id: Option<u32>,
    /// Tunnels around this one.
    depth: u8,
}

/// What a tunnel carries.
pub struct Carried<'a> {
    kind: &'static str,
    id: Option<u32>,
    link_type: u16,
    data: &'a [u8],
}

/// Tunnels in tunnels that are followed.
const DEEPEST: u8 = 4;

/// What an IP payload carries, by its protocol and, of UDP, the port it goes to.
pub fn carried(protocol: u8, dst_port: u16, payload: &[u8]) -> Option<Carried<'_>> {
    const UDP_HEADER: usize = 8;
    match (protocol, dst_port) {
        (4 | 41, _) => Some(Carried { kind: "ipip", id: None, link_type: kind::RAW, data: payload }),
        (47, _) => gre(payload),
        // The port of RFC 7348, and the one that Linux uses unless told otherwise (drivers/net/vxlan), as flannel does.
        (17, 4789 | 8472) => vxlan(payload.get(UDP_HEADER..)?),
        (17, 2152) => gtpu(payload.get(UDP_HEADER..)?),
        (17, 6081) => geneve(payload.get(UDP_HEADER..)?),
        _ => None,
    }
}

impl<'a> Carried<'a> {
    /// The packet or fragment in it.
    pub fn decode(self, frame: Frame<'a>, around: Option<Tunnel>) -> Option<Decoded<'a>> {
        let depth = around.map_or(0, |around| around.depth + 1);
        let tunnel = Tunnel { kind: self.kind, id: self.id, depth };
        if depth >= DEEPEST {
            return None;
        }
        match within(frame, self.data, self.link_type, Some(tunnel)) {
            Decoded::NotIp | Decoded::Undecodable => None,
            inner => Some(inner),
        }
    }
}

/// Section 5: the flag that says that there is an identifier, which is never missing. With the flag P there is the type of what
/// it carries (draft-ietf-nvo3-vxlan-gpe section 3.1).
fn vxlan(payload: &[u8]) -> Option<Carried<'_>> {
    let [flags, _, _, next, a, b, c, _, data @ ..] = payload else { return None };
    let link_type = match (flags & 0x08, flags & 0x04, next) {
        (0, ..) => return None,
        (_, 0, _) | (_, _, 3) => kind::ETHERNET,
        (_, _, 1 | 2) => kind::RAW,
        _ => return None,
    };
    Some(Carried { kind: "vxlan", id: Some(number(*a, *b, *c)), link_type, data })
}

/// Section 5: version 1, messages that carry a packet, with sequence number and extension headers where the flags say so.
fn gtpu(payload: &[u8]) -> Option<Carried<'_>> {
    let [flags @ 0x30..=0x37, 0xff, _, _, a, b, c, d, rest @ ..] = payload else { return None };
    let mut data = rest;
    if flags & 0x07 != 0 {
        let [_, _, _, next, after @ ..] = rest else { return None };
        let mut next = *next;
        data = after;
        // An extension header has its length in words first, and the type of the next one last.
        while flags & 0x04 != 0 && next != 0 {
            let len = usize::from(*data.first()?) * 4;
            next = *data.get(len.checked_sub(1)?)?;
            data = data.get(len..)?;
        }
    }
    let id = u32::from_be_bytes([*a, *b, *c, *d]);
    Some(Carried { kind: "gtpu", id: Some(id), link_type: kind::RAW, data })
}

/// Section 3.4: version 0, options of up to 63 words.
fn geneve(payload: &[u8]) -> Option<Carried<'_>> {
    let [first @ 0..=0x3f, _, high, low, a, b, c, _, rest @ ..] = payload else { return None };
    let data = rest.get(usize::from(*first) * 4..)?;
    let link_type = link_type(u16::from_be_bytes([*high, *low]))?;
    Some(Carried { kind: "geneve", id: Some(number(*a, *b, *c)), link_type, data })
}

/// Version 0, with checksum, key and sequence number where the flags say so.
fn gre(payload: &[u8]) -> Option<Carried<'_>> {
    let (flags, ether_type) = (be16(payload, 0)?, be16(payload, 2)?);
    if flags & 0x4007 != 0 {
        return None;
    }
    let mut at = 4;
    if flags & 0x8000 != 0 {
        at += 4;
    }
    let mut id = None;
    if flags & 0x2000 != 0 {
        id = Some(u32::from(be16(payload, at)?) << 16 | u32::from(be16(payload, at + 2)?));
        at += 4;
    }
    if flags & 0x1000 != 0 {
        at += 4;
    }
    let data = payload.get(at..)?;
    match ether_type {
        0x88be | 0x22eb => erspan(ether_type, flags & 0x1000 != 0, data),
        _ => Some(Carried { kind: "gre", id, link_type: link_type(ether_type)?, data }),
    }
}

/// Type I has no header and no sequence number, type II one of 8 bytes, type III one of 12 and perhaps 8 more.
fn erspan(ether_type: u16, is_numbered: bool, payload: &[u8]) -> Option<Carried<'_>> {
    let header = match (ether_type, is_numbered) {
        (0x88be, false) => 0,
        (0x88be, true) => 8,
        _ => 12 + 8 * usize::from(*payload.get(11)? & 1),
    };
    let session = (header > 0).then(|| be16(payload, 2)).flatten().map(|session| u32::from(session & 0x3ff));
    Some(Carried { kind: "erspan", id: session, link_type: kind::ETHERNET, data: payload.get(header..)? })
}

/// By EtherType: transparent Ethernet bridging, IPv4 and IPv6.
fn link_type(ether_type: u16) -> Option<u16> {
    match ether_type {
        0x6558 => Some(kind::ETHERNET),
        0x0800 | 0x86dd => Some(kind::RAW),
        _ => None,
    }
}

fn number(a: u8, b: u8, c: u8) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::super::{Site, decode};
    use super::*;

    /// A UDP packet of IPv4 from 10.0.0.1 to 10.0.0.2 without checksums.
    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() + 8) as u16;
        let ports = [&[0x30, 0x39][..], &port.to_be_bytes(), &len.to_be_bytes(), &[0, 0]].concat();
        ip(17, 1, &[&ports, payload].concat())
    }

    fn ip(protocol: u8, net: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() + 20) as u16;
        let start = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
        [&start[..], &[10, net, 0, 1, 10, net, 0, 2], payload].concat()
    }

    fn ethernet(packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &[8, 0], packet].concat()
    }

    fn seen(packet: &[u8]) -> (u16, Option<Tunnel>) {
        let (data, wire_len) = (packet, packet.len() as u32);
        let site = Site::default();
        let frame =
            Frame { ts_ns: 0, data, wire_len, link_type: kind::RAW, iface: 0, segment: 0, number: 1, site };
        let Decoded::Packet(packet) = decode(frame) else { panic!("no packet: {data:?}") };
        assert_eq!(packet.frame.data.len(), data.len(), "the record is the whole one");
        (packet.dst().port, packet.tunnel)
    }

    #[test]
    fn packets_in_each_kind_of_tunnel() {
        let inner = udp(53, b"hi");
        let bridged = ethernet(&inner);
        let vxlan = udp(8472, &[&[8, 0, 0, 0, 0, 1, 2, 0][..], &bridged].concat());
        let geneve = udp(6081, &[&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 9, 9, 9, 9][..], &bridged].concat());
        let gre = ip(47, 2, &[&[0x20, 0, 8, 0, 0, 0, 0, 5][..], &inner].concat());
        let ipip = ip(4, 2, &inner);
        let erspan = ip(
            47,
            2,
            &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 8, 9, 0, 0, 0, 0][..], &bridged].concat(),
        );
        let extended = [0x36, 0xff, 0, 0, 0, 0, 0, 6, 0, 1, 0, 0x85, 1, 0, 9, 0];
        let gtpu = udp(2152, &[&extended[..], &inner].concat());
        let tunnels = [("vxlan", Some(0x102), vxlan), ("geneve", Some(7), geneve), ("gre", Some(5), gre)];
        let tunnels = tunnels.into_iter().chain([("erspan", Some(9), erspan), ("gtpu", Some(6), gtpu)]);
        for (kind, id, packet) in tunnels.chain([("ipip", None, ipip)]) {
            assert_eq!(seen(&packet), (53, Some(Tunnel { kind, id, depth: 0 })));
            let in_another = ip(4, 3, &packet);
            assert_eq!(seen(&in_another), (53, Some(Tunnel { kind, id, depth: 1 })));
            let cut = &packet[..packet.len() - inner.len()];
            assert!(matches!(seen(cut), (_, None)), "without a packet in it, it is what it is");
        }
    }

    #[test]
    fn tunnels_within_tunnels_have_an_end() {
        let mut packet = udp(53, b"hi");
        for _ in 0..200 {
            packet = ip(4, 1, &packet);
        }
        assert_eq!(seen(&packet).1.map(|tunnel| tunnel.depth), Some(DEEPEST - 1));
    }
}
