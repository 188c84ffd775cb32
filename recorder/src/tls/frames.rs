//! Plaintext as packets that other programs read. In: events. Out: Ethernet, IP and TCP (RFC 9293) with the true addresses, ports
//! and times; sequence numbers are the bytes' places in their direction, so that what is missing is a gap.
//! Both ends of a connection on this machine give the same numbers: the second observation is a retransmission of the first.

use std::net::IpAddr;

use shark_bpf::tls::{Event, Kind};
use shark_schema::segment::flags;

use crate::capture::{Frame, Splice};

pub const SNAPLEN: u32 = 262_144;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Its memory is used again for each packet.
#[derive(Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

type End = (IpAddr, u16);

/// The fields of a packet that differ.
struct Head {
    from: End,
    to: End,
    seq: u32,
    ack: u32,
    control: u8,
}

impl Frames {
    /// Gives the packets of one event: its bytes, and before the first of a connection the handshake, which says that they are.
    pub fn of(&mut self, event: &Event<'_>, offset_ns: i64, mut each: impl FnMut(&Frame<'_>)) {
        let ts_ns = i64::try_from(event.at_boottime_ns).unwrap_or(i64::MAX).saturating_add(offset_ns);
        let base = base(event);
        let next = |bytes: u64| base.wrapping_add(1).wrapping_add(bytes as u32);
        let (local, peer) = (event.connection.local, event.connection.peer);
        let is_outbound = matches!(event.kind, Kind::Sent | Kind::EndedHere);
        if event.first {
            let (client, server) = if event.client { (local, peer) } else { (peer, local) };
            let handshake = [
                Head { from: client, to: server, seq: base, ack: 0, control: SYN },
                Head { from: server, to: client, seq: base, ack: next(0), control: SYN | ACK },
                Head { from: client, to: server, seq: next(0), ack: next(0), control: ACK },
            ];
            for head in handshake {
                self.build(&head, &[]);
                self.give(ts_ns, head.from == local, &mut each);
            }
        }
        let (from, to) = if is_outbound { (local, peer) } else { (peer, local) };
        let control = match event.kind {
            Kind::Sent | Kind::Received => PSH | ACK,
            Kind::EndedHere | Kind::EndedThere => FIN | ACK,
        };
        self.build(&Head { from, to, seq: next(event.offset), ack: next(event.other), control }, event.data);
        self.give(ts_ns, is_outbound, &mut each);
    }

    fn give(&self, ts_ns: i64, is_outbound: bool, each: &mut impl FnMut(&Frame<'_>)) {
        each(&Frame {
            ts_ns,
            data: &self.buffer,
            original_len: self.buffer.len() as u32,
            flags: if is_outbound { flags::OUTBOUND } else { flags::INBOUND },
            splice: Splice::Nothing,
        });
    }

    fn build(&mut self, head: &Head, data: &[u8]) {
        let tcp_bytes = (20 + data.len()) as u16;
        let out = &mut self.buffer;
        out.clear();
        out.extend([0; 12]);
        let addresses = match (head.from.0, head.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                out.extend([0x08, 0x00]);
                // Don't fragment, time to live 64, TCP (RFC 791).
                out.extend([0x45, 0]);
                out.extend((20 + tcp_bytes).to_be_bytes());
                out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                out.extend(from.octets());
                out.extend(to.octets());
                let sum = checksum(0, &out[14..34]);
                out[24..26].copy_from_slice(&sum.to_be_bytes());
                26..34
            }
            (from, to) => {
                out.extend([0x86, 0xDD]);
                out.extend([0x60, 0, 0, 0]);
                out.extend(tcp_bytes.to_be_bytes());
                out.extend([6, 64]);
                for address in [from, to] {
                    out.extend(match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                        IpAddr::V6(address) => address.octets(),
                    });
                }
                22..54
            }
        };
        let tcp = out.len();
        out.extend(head.from.1.to_be_bytes());
        out.extend(head.to.1.to_be_bytes());
        out.extend(head.seq.to_be_bytes());
        out.extend(head.ack.to_be_bytes());
        out.extend([5 << 4, head.control, 0xFF, 0xFF, 0, 0, 0, 0]);
        out.extend_from_slice(data);
        // RFC 9293, section 3.1: the pseudo-header is addresses, protocol and length.
        let pseudo = sum_of(&out[addresses]) + 6 + u64::from(tcp_bytes);
        let sum = checksum(pseudo, &out[tcp..]);
        out[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Where the beginning was not seen, numbers start anywhere, but not where an earlier part of the connection may have been.
fn base(event: &Event<'_>) -> u32 {
    let of = &event.connection;
    let mixed = (of.cookie ^ of.since_boottime_ns.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if event.begun { 0 } else { (mixed >> 32) as u32 }
}

/// RFC 1071.
fn checksum(start: u64, bytes: &[u8]) -> u16 {
    let mut sum = start + sum_of(bytes);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

fn sum_of(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let pairs: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    pairs + rest.first().map_or(0, |last| u64::from(*last) << 8)
}
