//! DNS over UDP and TCP (RFC 1035): one walk over a message that keeps what it read before an error, since a broken or cut
//! message is evidence too.

mod names;
mod record;
mod row;

use shark_schema::table::Table;
use shark_schema::tables::dns::{DnsBlock, TABLE};

use crate::dissector::{
    CallTimes, Direction, Dissector, End, Gap, Options, Over, Parsed, Probe, Role, Written,
};
pub use record::{Answer, Header, Message, Question};

/// DNS in datagrams.
pub type DnsUdp = Dns<false>;
/// DNS with a length before each message (RFC 1035 section 4.2.2).
pub type DnsTcp = Dns<true>;

/// The dissector.
pub struct Dns<const TCP: bool>;

/// Bytes of the header.
const HEADER: usize = 12;

impl<const TCP: bool> Dissector for Dns<TCP> {
    const NAME: &'static str = "dns";
    const OVER: Over = if TCP { Over::Tcp } else { Over::Udp };
    /// DNS, mDNS, LLMNR.
    const PORTS: &'static [u16] = &[53, 5353, 5355];
    const TABLE: &'static Table = &TABLE;
    type Message = Message;
    type Columns = DnsBlock;

    fn new(_options: &Options) -> Self {
        Dns
    }

    fn probe(bytes: &[u8]) -> Probe {
        let Some((message, announced)) = unframed::<TCP>(bytes) else {
            return if TCP { Probe::More } else { Probe::No };
        };
        record::plausible(message, TCP, announced)
    }

    fn parse(&mut self, _: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if !TCP {
            return match record::parse(bytes, false) {
                Some(message) => Parsed::Message(bytes.len(), message),
                None => Parsed::Malformed,
            };
        }
        let [high, low, rest @ ..] = bytes else {
            return Parsed::More(2);
        };
        let len = u16::from_be_bytes([*high, *low]) as usize;
        if len < HEADER {
            return Parsed::Malformed;
        }
        match rest.get(..len) {
            None => Parsed::More(2 + len),
            Some(message) => match record::parse(message, true) {
                Some(message) => Parsed::Message(2 + len, message),
                None => Parsed::Malformed,
            },
        }
    }

    fn gap(&mut self, _: Direction, _: u64) -> Gap {
        Gap::Resync
    }

    /// A length that fits a plausible header.
    fn resync(bytes: &[u8]) -> Option<usize> {
        (0..bytes.len().saturating_sub(2 + HEADER)).find(|&at| {
            let len = u16::from_be_bytes([bytes[at], bytes[at + 1]]) as usize;
            let message = &bytes[at + 2..];
            let message = &message[..len.min(message.len())];
            len > HEADER && record::plausible(message, TCP, message.len()) == Probe::Yes
        })
    }

    fn end(&mut self, _: Direction, _: End) -> Option<Message> {
        None
    }

    fn role(message: &Message) -> Role {
        if message.header.response { Role::Response } else { Role::Request }
    }

    /// The transaction id; never 0, which would mean order instead.
    fn key(message: &Message) -> u64 {
        1 << 16 | u64::from(message.header.id)
    }

    fn memory(message: &Message) -> usize {
        message.memory()
    }

    fn write(
        request: Option<&Message>,
        response: Option<&Message>,
        times: &CallTimes,
        columns: &mut DnsBlock,
    ) -> Written {
        row::write(request, response, times, columns)
    }
}

/// The first message, as far as it is at hand.
fn unframed<const TCP: bool>(bytes: &[u8]) -> Option<(&[u8], usize)> {
    if !TCP {
        return Some((bytes, bytes.len()));
    }
    let [high, low, rest @ ..] = bytes else {
        return None;
    };
    let len = u16::from_be_bytes([*high, *low]) as usize;
    (rest.len() >= len.min(HEADER + 5)).then(|| (&rest[..rest.len().min(len)], len))
}
