//! ICMP (RFC 792, 1191) and ICMPv6 (RFC 4443, 4861): echoes with their replies, and errors with the packet they quote. In: one message
//! a packet. Out: rows that lead to the flow an error is about.

use shark_schema::table::Block;
use shark_schema::tables::icmp::{IcmpBlock, IcmpRow, TABLE};

use crate::batch::{CallTable, call_table};
use crate::flow::{community_id, has_ports};
use crate::frame::{Decoded, FlowKey, Frame, Site, decode};
use crate::layer::{
    Begin, Call, CallTimes, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role,
    Written,
};
use crate::rows::RowSink;
use crate::write::protocol_name;

/// The layer.
pub struct Icmp<const V6: bool>;

/// ICMP of IPv4.
pub type Icmp4 = Icmp<false>;
/// ICMP of IPv6.
pub type Icmp6 = Icmp<true>;

/// A message.
#[derive(Debug)]
pub struct Message {
    v6: bool,
    kind: u8,
    code: u8,
    /// Of an echo: identifier and sequence number.
    echo: Option<(u16, u16)>,
    mtu: Option<u32>,
    /// The packet that an error quotes: its flow, and whether the first end of it sent the packet.
    about: Option<(FlowKey, bool)>,
}

/// Bytes before what an error quotes.
const HEADER: usize = 8;

impl<const V6: bool> Layer for Icmp<V6> {
    const NAME: &'static str = "icmp";
    const OVER: Carrier = if V6 { Carrier::Icmp6 } else { Carrier::Icmp };
    const PORTS: &'static [u16] = &[];
    const TABLES: &'static [CallTable] = &[call_table::<IcmpBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Icmp
    }

    /// Nothing else is carried so.
    fn probe(bytes: &[u8]) -> Probe {
        if bytes.len() >= HEADER { Probe::Yes } else { Probe::No }
    }

    fn parse(&mut self, _: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        let &[kind, code, _, _, a, b, c, d, ref rest @ ..] = bytes else { return Parsed::Malformed };
        let mut message = Message { v6: V6, kind, code, echo: None, mtu: None, about: None };
        match (V6, kind, code) {
            (false, 0 | 8, _) | (true, 128 | 129, _) => {
                message.echo = Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
            }
            (false, 3, 4) => message.mtu = Some(u16::from_be_bytes([c, d]).into()),
            (true, 2, _) => message.mtu = Some(u32::from_be_bytes([a, b, c, d])),
            _ => {}
        }
        if message.is_error() {
            message.about = quoted(rest);
        }
        Parsed::Message(bytes.len(), message)
    }

    fn gap(&mut self, _: Direction, _: &[u8], _: u64, _: Option<&Message>) -> Gap<Message> {
        Gap::Lost(None)
    }

    fn resync(_: &[u8]) -> Option<usize> {
        None
    }

    fn recover(&mut self, _: &Options) {}

    fn end(&mut self, _: Direction, _: End) -> Option<Message> {
        None
    }

    /// Identifier and sequence number join an echo and its reply; nothing answers the rest.
    fn meta(message: &Message) -> Meta {
        let role = if matches!((V6, message.kind), (false, 0) | (true, 129)) {
            Role::Response
        } else {
            Role::Request
        };
        let meta = Meta::new(role, size_of::<Message>());
        match message.echo {
            Some((identifier, sequence)) => {
                meta.pairing(Pairing::keyed(u64::from(identifier) << 16 | u64::from(sequence)))
            }
            None => meta.pairing(Pairing::Alone),
        }
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut IcmpBlock| row(call.request, call.response, &call.times, columns));
    }
}

impl Message {
    /// It reports what became of a packet.
    fn is_error(&self) -> bool {
        matches!((self.v6, self.kind), (false, 3 | 4 | 5 | 11 | 12) | (true, 1..=4))
    }

    fn name(&self) -> &'static str {
        match (self.v6, self.kind, self.code) {
            (false, 0, _) | (true, 129, _) => "echo_reply",
            (false, 3, 4) => "frag_needed",
            (false, 3, _) | (true, 1, _) => "dest_unreachable",
            (false, 4, _) => "source_quench",
            (false, 5, _) | (true, 137, _) => "redirect",
            (false, 8, _) | (true, 128, _) => "echo_request",
            (false, 9, _) | (true, 134, _) => "router_advertisement",
            (false, 10, _) | (true, 133, _) => "router_solicitation",
            (false, 11, _) | (true, 3, _) => "time_exceeded",
            (false, 12, _) | (true, 4, _) => "parameter_problem",
            (false, 13, _) => "timestamp_request",
            (false, 14, _) => "timestamp_reply",
            (true, 2, _) => "packet_too_big",
            (true, 130, _) => "listener_query",
            (true, 131 | 143, _) => "listener_report",
            (true, 132, _) => "listener_done",
            (true, 135, _) => "neighbor_solicitation",
            (true, 136, _) => "neighbor_advertisement",
            _ => "other",
        }
    }
}

/// The flow of the packet that these bytes begin with, and whether its first end sent it.
fn quoted(bytes: &[u8]) -> Option<(FlowKey, bool)> {
    const RAW: u16 = 101;
    let (data, wire_len, site) = (bytes, bytes.len() as u32, Site::default());
    let frame = Frame { ts_ns: 0, data, wire_len, link_type: RAW, iface: 0, segment: 0, number: 0, site };
    match decode(frame) {
        Decoded::Packet(packet) => Some((packet.key, packet.from_first)),
        _ => None,
    }
}

/// Appends the row; at least one half is there.
fn row(
    request: Option<&Message>,
    response: Option<&Message>,
    times: &CallTimes,
    columns: &mut IcmpBlock,
) -> Written {
    let Some(first) = request.or(response) else { return Written::default() };
    let about = first.about.as_ref().map(|(key, from_first)| About::new(key, *from_first));
    let port = |port: u16| about.as_ref().filter(|about| about.has_ports).map(|_| i32::from(port));
    let row = IcmpRow {
        version: Some(if first.v6 { 6 } else { 4 }),
        type_number: Some(first.kind.into()),
        code: Some(first.code.into()),
        type_name: Some(first.name()),
        identifier: first.echo.map(|(identifier, _)| identifier.into()),
        sequence: first.echo.map(|(_, sequence)| sequence.into()),
        mtu: first.mtu.and_then(|mtu| i32::try_from(mtu).ok()),
        rtt_ns: times.duration_ns,
        about_proto: about.as_ref().map(|about| about.proto.as_str()),
        about_src_ip: about.as_ref().map(|about| about.ips[0].as_str()),
        about_src_port: about.as_ref().and_then(|about| port(about.ports[0])),
        about_dst_ip: about.as_ref().map(|about| about.ips[1].as_str()),
        about_dst_port: about.as_ref().and_then(|about| port(about.ports[1])),
        about_community_id: about.as_ref().map(|about| about.community_id.as_str()),
        ..IcmpRow::default()
    };
    let is_error = first.is_error();
    Written {
        bytes: columns.append(&row),
        is_error: is_error.then_some(true),
        error_type: is_error.then(|| first.name().into()),
        ..Written::default()
    }
}

/// The packet that an error is about, as a row tells it.
struct About {
    proto: String,
    ips: [String; 2],
    ports: [u16; 2],
    has_ports: bool,
    community_id: String,
}

impl About {
    fn new(key: &FlowKey, from_first: bool) -> About {
        let ends = if from_first { key.ends } else { [key.ends[1], key.ends[0]] };
        let mut other = String::new();
        About {
            proto: protocol_name(key.protocol, &mut other).to_owned(),
            ips: ends.map(|end| end.addr().to_string()),
            ports: ends.map(|end| end.port),
            has_ports: has_ports(key.protocol),
            community_id: community_id(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Direction = Direction::Forward;

    fn read<const V6: bool>(bytes: &[u8]) -> Message {
        match Icmp::<V6>.parse(FROM, bytes, None) {
            Parsed::Message(len, message) if len == bytes.len() => message,
            _ => panic!("no message: {bytes:?}"),
        }
    }

    #[test]
    fn an_echo_and_its_reply_have_one_key() {
        let asked = read::<false>(&[8, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3]);
        let told = read::<false>(&[0, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3]);
        assert_eq!(
            (asked.name(), told.name(), asked.echo),
            ("echo_request", "echo_reply", Some((0x1234, 7)))
        );
        let (asked, told) = (Icmp4::meta(&asked), Icmp4::meta(&told));
        assert!(told.pairing.answers(asked.pairing));
        assert_eq!((asked.role, told.role), (Role::Request, Role::Response));
    }

    #[test]
    fn an_error_tells_the_packet_it_is_about() {
        // 10.0.0.1:40000 to 10.0.0.2:80, of TCP only the first eight bytes.
        let quoted = *b"E\0\x05\xdc\0\0\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\x9c\x40\0P\0\0\0\x01";
        let bytes = [&[3, 4, 0, 0, 0, 0, 0x05, 0x14][..], &quoted].concat();
        let message = read::<false>(&bytes);
        assert_eq!((message.name(), message.mtu), ("frag_needed", Some(1300)));
        assert!(Icmp4::meta(&message).is_alone());
        let (key, from_first) = message.about.expect("a packet is quoted");
        let about = About::new(&key, from_first);
        assert_eq!(about.ips, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!((about.proto.as_str(), about.ports), ("tcp", [40000, 80]));
        // What is cut quotes nothing.
        assert!(read::<false>(&bytes[..20]).about.is_none());
    }

    #[test]
    fn messages_of_version_6() {
        let message = read::<true>(&[2, 0, 0, 0, 0, 0, 5, 0]);
        assert_eq!((message.name(), message.mtu), ("packet_too_big", Some(1280)));
        assert_eq!(read::<true>(&[135, 0, 0, 0, 0, 0, 0, 0]).name(), "neighbor_solicitation");
    }
}
