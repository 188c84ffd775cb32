//! RADIUS in datagrams (RFC 2865, 2866, 5176). In: a datagram. Out: its code and the attributes a row has; a password or a secret is
//! never one of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use shark_schema::table::Block;
use shark_schema::tables::radius::{RadiusBlock, RadiusRow, TABLE};

use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Pairing, Parsed, Probe, Role, Written,
};
use crate::rows::RowSink;

/// Bytes of the header (RFC 2865 section 3).
const HEADER: usize = 20;
/// Longest packet (RFC 2865 section 3).
const LONGEST: usize = 4096;

/// The layer.
pub struct Radius;

/// A packet.
#[derive(Debug, Default)]
pub struct Message {
    code: u8,
    identifier: u8,
    authenticator: [u8; 16],
    username: Option<String>,
    nas_ip: Option<String>,
    calling: Option<String>,
    called: Option<String>,
    reply: Option<String>,
    session: Option<String>,
    acct_status: Option<u32>,
}

impl Layer for Radius {
    const NAME: &'static str = "radius";
    const OVER: Carrier = Carrier::Datagram;
    const PORTS: &'static [u16] = &[1812, 1813, 1645, 1646, 3799, 1700];
    const TABLES: &'static [CallTable] = &[call_table::<RadiusBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Radius
    }

    /// A known code, and attributes that fill the announced length exactly.
    fn probe(bytes: &[u8]) -> Probe {
        if packet(bytes).is_some() { Probe::Yes } else { Probe::No }
    }

    fn parse(&mut self, _: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        match packet(bytes) {
            // What lies behind the announced length is padding (RFC 2865 section 3).
            Some(message) => Parsed::Message(bytes.len(), message),
            None => Parsed::Malformed,
        }
    }

    fn gap(&mut self, _: Direction, _: &[u8], _: u64, _: Option<&Message>) -> Gap<Message> {
        Gap::Lost(None)
    }

    fn resync(_: &[u8]) -> Option<usize> {
        None
    }

    fn end(&mut self, _: Direction, _: End) -> Option<Message> {
        None
    }

    /// The identifier joins both. It is soon used again, with another authenticator (RFC 2865 section 3), which an answer does not
    /// repeat.
    fn meta(message: &Message) -> Meta {
        let role = if matches!(message.code, 1 | 4 | 12 | 40 | 43) { Role::Request } else { Role::Response };
        let texts = [&message.username, &message.nas_ip, &message.calling, &message.called, &message.reply];
        let texts = texts.into_iter().chain([&message.session]).flatten();
        let memory = size_of::<Message>() + texts.map(String::capacity).sum::<usize>();
        let [a, b, c, d, e, f, ..] = message.authenticator;
        let key = u64::from_be_bytes([a, b, c, d, e, f, message.code, message.identifier]);
        Meta::new(role, memory).pairing(Pairing::Keyed { key, mask: 0xff })
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut RadiusBlock| row(call.request, call.response, columns));
    }
}

/// Appends the row; at least one half is there.
fn row(request: Option<&Message>, response: Option<&Message>, columns: &mut RadiusBlock) -> Written {
    let Some(first) = request.or(response) else { return Written::default() };
    let of = |field: fn(&Message) -> &Option<String>| {
        [request, response].into_iter().flatten().find_map(|half| field(half).as_deref())
    };
    let authenticator = request.map(|asked| hex(&asked.authenticator));
    let result = response.map_or("unknown", |answer| result(answer.code));
    let row = RadiusRow {
        code: Some(code_name(first.code)),
        identifier: Some(first.identifier.into()),
        username: of(|half| &half.username),
        nas_ip: of(|half| &half.nas_ip),
        calling_station: of(|half| &half.calling),
        result: Some(result),
        reply_msg: response.and_then(|answer| answer.reply.as_deref()),
        code_num: Some(first.code.into()),
        response_code: response.map(|answer| code_name(answer.code)),
        authenticator: authenticator.as_deref(),
        called_station: of(|half| &half.called),
        acct_status: first.acct_status.and_then(acct_status),
        session_id: of(|half| &half.session),
        ..RadiusRow::default()
    };
    let failed = response.filter(|_| result == "failed");
    Written {
        bytes: columns.append(&row),
        is_error: response.map(|_| failed.is_some()),
        error_type: failed.map(|answer| code_name(answer.code).into()),
        ..Written::default()
    }
}

fn packet(bytes: &[u8]) -> Option<Message> {
    let (&[code, identifier, high, low], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if code_name(code).is_empty() || !(HEADER..=LONGEST).contains(&len) {
        return None;
    }
    let (authenticator, mut attributes) = rest.get(..len - 4)?.split_first_chunk()?;
    let mut message = Message { code, identifier, authenticator: *authenticator, ..Message::default() };
    while let Some((&[kind, len], rest)) = attributes.split_first_chunk() {
        let (value, rest) = rest.split_at_checked(usize::from(len).checked_sub(2)?)?;
        message.attribute(kind, value);
        attributes = rest;
    }
    attributes.is_empty().then_some(message)
}

impl Message {
    /// Those of RFC 2865 section 5, RFC 2866 section 5 and RFC 3162 section 2.1 that a row has.
    fn attribute(&mut self, kind: u8, value: &[u8]) {
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match (kind, value) {
            (1, _) => self.username = text(),
            (4, &[a, b, c, d]) => self.nas_ip = Some(Ipv4Addr::new(a, b, c, d).to_string()),
            (95, value) => {
                let address = <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).to_string());
                self.nas_ip = self.nas_ip.take().or(address);
            }
            // A text longer than one attribute goes on in the next.
            (18, _) => self.reply.get_or_insert_default().push_str(&String::from_utf8_lossy(value)),
            (30, _) => self.called = text(),
            (31, _) => self.calling = text(),
            (40, value) => self.acct_status = value.try_into().ok().map(u32::from_be_bytes),
            (44, _) => self.session = text(),
            _ => {}
        }
    }
}

/// Packet type codes (IANA, RADIUS Types); empty for others.
fn code_name(code: u8) -> &'static str {
    match code {
        1 => "Access-Request",
        2 => "Access-Accept",
        3 => "Access-Reject",
        4 => "Accounting-Request",
        5 => "Accounting-Response",
        11 => "Access-Challenge",
        12 => "Status-Server",
        13 => "Status-Client",
        40 => "Disconnect-Request",
        41 => "Disconnect-ACK",
        42 => "Disconnect-NAK",
        43 => "CoA-Request",
        44 => "CoA-ACK",
        45 => "CoA-NAK",
        _ => "",
    }
}

fn result(code: u8) -> &'static str {
    match code {
        3 | 42 | 45 => "failed",
        11 => "challenge",
        _ => "success",
    }
}

/// Acct-Status-Type (RFC 2866 section 5.1).
fn acct_status(number: u32) -> Option<&'static str> {
    Some(match number {
        1 => "Start",
        2 => "Stop",
        3 => "Interim-Update",
        7 => "Accounting-On",
        8 => "Accounting-Off",
        15 => "Failed",
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_fill_the_length() {
        let mut bytes = vec![1, 7, 0, 0];
        bytes.extend([9; 16]);
        bytes.extend(b"\x01\x06nemo\x02\x12................\x04\x06\xc0\xa8\x01\x10\x12\x05abc\x12\x04de");
        bytes[3] = bytes.len() as u8;
        let message = packet(&bytes).expect("whole");
        assert_eq!(
            (message.username.as_deref(), message.nas_ip.as_deref()),
            (Some("nemo"), Some("192.168.1.16"))
        );
        assert_eq!(message.reply.as_deref(), Some("abcde"));
        // Padding is not read; a length that cuts an attribute is none.
        bytes.extend([0; 3]);
        assert!(packet(&bytes).is_some());
        bytes[3] -= 1;
        assert!(packet(&bytes).is_none());
        assert_eq!(Radius::probe(&bytes[..19]), Probe::No);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), code in 1..14_u8) {
            packet(&bytes);
            packet(&[&[code, 1, 0, bytes.len() as u8][..], &bytes].concat());
        }
    }
}
