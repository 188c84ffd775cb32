//! IP and what is directly above it: addresses, fragments, ports, TCP and UDP headers.

use etherparse::{
    Ipv6ExtensionSlice, LaxIpSlice, TcpHeaderSlice, TcpOptionElement, UdpHeaderSlice, ip_number,
};

use super::link::be16;
use super::tunnel::{self, Tunnel};
use super::{Decoded, End, FlowKey, Fragment, Frame, Packet, SYN, Tcp, Transport, mapped};

/// Decodes the IP packet that these bytes begin with, of a frame or of a tunnel in it.
pub fn decode_ip<'a>(
    frame: Frame<'a>,
    bytes: &'a [u8],
    vlans: [u16; 2],
    tunnel: Option<Tunnel>,
) -> Decoded<'a> {
    let Ok((ip, _)) = LaxIpSlice::from_slice(bytes) else {
        return Decoded::Undecodable;
    };
    // Length 0 is written by senders that leave segmentation to the device: the frame's end counts.
    let on_wire = bytes.len() + (frame.wire_len as usize).saturating_sub(frame.data.len());
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
            tunnel,
            ip_len: ip_len as u32,
            ttl,
            payload,
        });
    }
    let header_len = payload.as_ptr() as usize - bytes.as_ptr() as usize;
    let true_len = ip_len.saturating_sub(header_len);
    let datagram = Datagram { frame, src, dst, protocol, vlans, tunnel, ip_len: ip_len as u32, ttl, ip_id };
    datagram.decode(payload, true_len)
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
pub struct Datagram<'a> {
    pub frame: Frame<'a>,
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub protocol: u8,
    pub vlans: [u16; 2],
    pub tunnel: Option<Tunnel>,
    pub ip_len: u32,
    pub ttl: u8,
    pub ip_id: u16,
}

impl<'a> Datagram<'a> {
    /// What is in the tunnel that it belongs to, or else its own packet; `true_len` is the payload's length on the wire.
    pub fn decode(&self, payload: &'a [u8], true_len: usize) -> Decoded<'a> {
        let packet = self.packet(payload, true_len);
        let carried = tunnel::carried(self.protocol, packet.dst().port, payload);
        let inner = carried.and_then(|carried| carried.decode(self.frame, self.tunnel));
        inner.unwrap_or(Decoded::Packet(packet))
    }

    /// The packet with its ports.
    fn packet(&self, payload: &'a [u8], true_len: usize) -> Packet<'a> {
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
            tunnel: self.tunnel,
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
            let message = &payload[..payload.len().min(true_len)];
            (kind, code, Transport::Icmp { message, len: true_len as u32 })
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
