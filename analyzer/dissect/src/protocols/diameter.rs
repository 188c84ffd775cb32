//! Diameter over TCP (RFC 6733). In: messages of either end, both of which may ask. Out: their commands and the AVPs a row has.

use shark_schema::table::Block;
use shark_schema::tables::diameter::{DiameterBlock, DiameterRow, TABLE};

use super::rest::Rest;
use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role, Written,
};
use crate::limits;
use crate::rows::RowSink;

/// Bytes of the header (RFC 6733 section 3).
const HEADER: usize = 20;
/// Bytes kept of a text.
const TEXT: usize = 512;
const REQUEST: u8 = 0x80;

/// AVP codes (RFC 6733 section 4.5).
mod avp {
    pub const USER_NAME: u32 = 1;
    pub const SESSION_ID: u32 = 263;
    pub const ORIGIN_HOST: u32 = 264;
    pub const RESULT_CODE: u32 = 268;
    pub const DESTINATION_REALM: u32 = 283;
    pub const EXPERIMENTAL_RESULT: u32 = 297;
    pub const EXPERIMENTAL_RESULT_CODE: u32 = 298;
}

/// The layer.
#[derive(Default)]
pub struct Diameter {
    /// Of each direction, the message that misses bytes.
    rests: [Option<Rest<Message>>; 2],
}

/// A message.
#[derive(Debug, Default)]
pub struct Message {
    is_request: bool,
    command: u32,
    app_id: u32,
    hop_by_hop: u32,
    end_to_end: u32,
    session: Option<String>,
    origin_host: Option<String>,
    dest_realm: Option<String>,
    username: Option<String>,
    result: Option<u32>,
}

impl Layer for Diameter {
    const NAME: &'static str = "diameter";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[3868];
    const TABLES: &'static [CallTable] = &[call_table::<DiameterBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Diameter::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        if bytes.first().is_some_and(|version| *version != 1) {
            return Probe::No;
        }
        match plausible(bytes) {
            Some(true) => Probe::Yes,
            Some(false) => Probe::No,
            None => Probe::More,
        }
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if let Some(parsed) = Rest::pass(&mut self.rests[direction as usize], bytes.len()) {
            return parsed;
        }
        let Some(&[version, high, middle, low]) = bytes.first_chunk() else { return Parsed::More(4) };
        let len = u32::from_be_bytes([0, high, middle, low]) as usize;
        // Lengths are multiples of four (RFC 6733 section 3).
        if version != 1 || len < HEADER || !len.is_multiple_of(4) || len > limits::STREAM_BUFFER {
            return Parsed::Malformed;
        }
        match bytes.get(..len) {
            None => Parsed::More(len),
            Some(message) => read(message).map_or(Parsed::Malformed, |read| Parsed::Message(len, read)),
        }
    }

    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let rest = &mut self.rests[direction as usize];
        match *held {
            [1, high, middle, low, ..] => {
                let total = u32::from_be_bytes([0, high, middle, low]) as usize;
                Rest::behind(total, held.len(), len, read(held), rest)
            }
            _ => Rest::lose(rest, len),
        }
    }

    /// Nothing but messages that miss bytes is remembered.
    fn recover(&mut self, _: &Options) {}

    fn resync(bytes: &[u8]) -> Option<usize> {
        memchr::memchr_iter(1, bytes).find(|&at| plausible(&bytes[at..]) == Some(true))
    }

    fn end(&mut self, direction: Direction, _: End) -> Option<Message> {
        Rest::end(&mut self.rests[direction as usize])
    }

    /// The hop-by-hop identifier joins both.
    fn meta(message: &Message) -> Meta {
        let role = if message.is_request { Role::Request } else { Role::Response };
        let texts = [&message.session, &message.origin_host, &message.dest_realm, &message.username];
        let texts = texts.into_iter().flatten().map(String::capacity).sum::<usize>();
        Meta::new(role, size_of::<Message>() + texts).pairing(Pairing::keyed(message.hop_by_hop.into()))
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut DiameterBlock| row(call.request, call.response, columns));
    }
}

/// Appends the row; at least one half is there.
fn row(request: Option<&Message>, response: Option<&Message>, columns: &mut DiameterBlock) -> Written {
    let Some(first) = request.or(response) else { return Written::default() };
    let (abbreviation, name) = command(first.command);
    let command = match abbreviation {
        "" => first.command.to_string(),
        short => format!("{short}{}", if first.is_request { 'R' } else { 'A' }),
    };
    let result = response.and_then(|answer| answer.result);
    let row = DiameterRow {
        command: Some(&command),
        command_code: i32::try_from(first.command).ok(),
        app_id: Some(first.app_id.into()),
        session_id: first.session.as_deref(),
        origin_host: request.and_then(|asked| asked.origin_host.as_deref()),
        dest_realm: request.and_then(|asked| asked.dest_realm.as_deref()),
        result_code: result.and_then(|code| i32::try_from(code).ok()),
        hop_by_hop: Some(first.hop_by_hop.into()),
        end_to_end: Some(first.end_to_end.into()),
        command_name: (!name.is_empty()).then_some(name),
        answering_host: response.and_then(|answer| answer.origin_host.as_deref()),
        username: first.username.as_deref(),
        ..DiameterRow::default()
    };
    // 1xxx asks for more, 2xxx is success, all others failed (RFC 6733 section 7.1).
    let failed = result.filter(|code| !(1000..3000).contains(code));
    Written {
        bytes: columns.append(&row),
        is_error: response.map(|_| failed.is_some()),
        error_type: failed.map(|code| code.to_string().into()),
        ..Written::default()
    }
}

/// Could a message begin here? None where too few bytes are at hand.
fn plausible(bytes: &[u8]) -> Option<bool> {
    let header = bytes.first_chunk::<HEADER>()?;
    let [version, high, middle, low, flags, ..] = *header;
    let len = u32::from_be_bytes([0, high, middle, low]) as usize;
    let command = u32::from_be_bytes([0, header[5], header[6], header[7]]);
    if version != 1 || len < HEADER + 8 || !len.is_multiple_of(4) || len > limits::STREAM_BUFFER {
        return Some(false);
    }
    // The last four bits are reserved and zero; a request bears no error.
    if flags & 0x0f != 0 || flags & 0xa0 == 0xa0 || command == 0 {
        return Some(false);
    }
    let &[a, b, c, d, avp_flags, avp_high, avp_middle, avp_low] = bytes.get(HEADER..)?.first_chunk()?;
    let avp_len = u32::from_be_bytes([0, avp_high, avp_middle, avp_low]) as usize;
    let code = u32::from_be_bytes([a, b, c, d]);
    Some(code != 0 && code < 1 << 16 && avp_flags & 0x1f == 0 && avp_len >= 8 && avp_len <= len - HEADER)
}

fn read(message: &[u8]) -> Option<Message> {
    let (header, avps) = message.split_first_chunk::<HEADER>()?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let mut read = Message {
        is_request: header[4] & REQUEST != 0,
        command: number(4) & 0x00ff_ffff,
        app_id: number(8),
        hop_by_hop: number(12),
        end_to_end: number(16),
        ..Message::default()
    };
    for (code, value) in Avps(avps) {
        read.take(code, value);
    }
    Some(read)
}

impl Message {
    fn take(&mut self, code: u32, value: &[u8]) {
        let text = || Some(String::from_utf8_lossy(&value[..value.len().min(TEXT)]).into_owned());
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        match code {
            avp::USER_NAME => self.username = text(),
            avp::SESSION_ID => self.session = text(),
            avp::ORIGIN_HOST => self.origin_host = text(),
            avp::DESTINATION_REALM => self.dest_realm = text(),
            avp::RESULT_CODE => self.result = number(value),
            avp::EXPERIMENTAL_RESULT => {
                let inner = Avps(value).find(|(code, _)| *code == avp::EXPERIMENTAL_RESULT_CODE);
                self.result = self.result.or(inner.and_then(|(_, value)| number(value)));
            }
            _ => {}
        }
    }
}

/// AVPs without a vendor, up to one that does not fit (RFC 6733 section 4.1).
struct Avps<'a>(&'a [u8]);

impl<'a> Iterator for Avps<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        loop {
            let (&[a, b, c, d, flags, high, middle, low], _) = self.0.split_first_chunk()?;
            let len = u32::from_be_bytes([0, high, middle, low]) as usize;
            let avp = self.0.get(..len)?;
            let value = avp.get(8..)?;
            self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
            if flags & 0x80 == 0 {
                return Some((u32::from_be_bytes([a, b, c, d]), value));
            }
        }
    }
}

/// Abbreviation and name of a command (IANA, AAA Parameters; 3GPP TS 29.230).
fn command(code: u32) -> (&'static str, &'static str) {
    match code {
        257 => ("CE", "Capabilities-Exchange"),
        258 => ("RA", "Re-Auth"),
        265 => ("AA", "AA"),
        268 => ("DE", "Diameter-EAP"),
        271 => ("AC", "Accounting"),
        272 => ("CC", "Credit-Control"),
        274 => ("AS", "Abort-Session"),
        275 => ("ST", "Session-Termination"),
        280 => ("DW", "Device-Watchdog"),
        282 => ("DP", "Disconnect-Peer"),
        300 => ("UA", "User-Authorization"),
        301 => ("SA", "Server-Assignment"),
        302 => ("LI", "Location-Info"),
        303 => ("MA", "Multimedia-Auth"),
        304 => ("RT", "Registration-Termination"),
        305 => ("PP", "Push-Profile"),
        306 => ("UD", "User-Data"),
        307 => ("PU", "Profile-Update"),
        308 => ("SN", "Subscribe-Notifications"),
        309 => ("PN", "Push-Notification"),
        316 => ("UL", "Update-Location"),
        317 => ("CL", "Cancel-Location"),
        318 => ("AI", "Authentication-Information"),
        319 => ("ID", "Insert-Subscriber-Data"),
        320 => ("DS", "Delete-Subscriber-Data"),
        321 => ("PU", "Purge-UE"),
        322 => ("RS", "Reset"),
        323 => ("NO", "Notify"),
        324 => ("EC", "ME-Identity-Check"),
        8_388_635 => ("SL", "Spending-Limit"),
        8_388_636 => ("SN", "Spending-Status-Notification"),
        _ => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn avp(code: u32, value: &[u8]) -> Vec<u8> {
        let mut avp =
            [&code.to_be_bytes()[..], &(0x4000_0008 + value.len() as u32).to_be_bytes(), value].concat();
        avp.resize(avp.len().next_multiple_of(4), 0);
        avp
    }

    fn message(flags: u8, code: u32, avps: &[Vec<u8>]) -> Vec<u8> {
        let body = avps.concat();
        let head = [0x0100_0000 + (HEADER + body.len()) as u32, u32::from(flags) << 24 | code, 4, 7, 8];
        [head.iter().flat_map(|word| word.to_be_bytes()).collect(), body].concat()
    }

    #[test]
    fn avps_are_read_past_padding_and_vendors() {
        let vendor =
            [&1u32.to_be_bytes()[..], &0x8000_000fu32.to_be_bytes(), &[0, 0, 1, 2], b"xyz", &[0]].concat();
        let inner = [avp(266, &[0, 0, 40, 175]), avp(298, &5004u32.to_be_bytes())].concat();
        let bytes = message(0, 272, &[avp(263, b"s;1"), vendor, avp(264, b"host"), avp(297, &inner)]);
        assert_eq!(Diameter::probe(&bytes), Probe::Yes);
        assert_eq!(Diameter::resync(&[b"\x01\x01junk", bytes.as_slice()].concat()), Some(6));
        let read = read(&bytes).expect("whole");
        assert_eq!((read.session.as_deref(), read.origin_host.as_deref()), (Some("s;1"), Some("host")));
        assert_eq!((read.username, read.result, read.is_request), (None, Some(5004), false));
        assert_eq!(Diameter::probe(&bytes[..20]), Probe::More);
        assert_eq!(Diameter::probe(&message(0x0f, 272, &[avp(263, b"s")])), Probe::No);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), flags in any::<u8>()) {
            read(&bytes);
            Diameter::resync(&bytes);
            read(&message(flags, 272, &[bytes]));
        }
    }
}
