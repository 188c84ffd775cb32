//! DNS over UDP and TCP (RFC 1035): one walk over a message that keeps what it read before an error, since a broken or cut
//! message is evidence too.

mod names;
mod record;
mod row;

use shark_schema::tables::dns::{DnsBlock, TABLE};

use super::rest::Rest;
use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role,
};
use crate::rows::RowSink;
pub use record::{Answer, Header, Message, Question};

/// DNS in datagrams.
pub type DnsUdp = Dns<false>;
/// DNS with a length before each message (RFC 1035 section 4.2.2).
pub type DnsTcp = Dns<true>;

/// The layer.
pub struct Dns<const TCP: bool> {
    /// Of each direction, the message that misses bytes.
    rests: [Option<Rest<Message>>; 2],
}

/// Bytes of the header.
const HEADER: usize = 12;

impl<const TCP: bool> Layer for Dns<TCP> {
    const NAME: &'static str = "dns";
    const OVER: Carrier = if TCP { Carrier::Stream } else { Carrier::Datagram };
    /// DNS, mDNS, LLMNR.
    const PORTS: &'static [u16] = &[53, 5353, 5355];
    const TABLES: &'static [CallTable] = &[call_table::<DnsBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Dns { rests: [None, None] }
    }

    fn probe(bytes: &[u8]) -> Probe {
        let Some((message, announced)) = unframed::<TCP>(bytes) else {
            return if TCP { Probe::More } else { Probe::No };
        };
        record::plausible(message, TCP, announced)
    }

    /// Other protocols begin with small numbers too: here all of a message must be one of DNS.
    fn probe_elsewhere(bytes: &[u8]) -> Probe {
        if !TCP {
            return if record::is_sound(bytes) { Probe::Yes } else { Probe::No };
        }
        match unframed::<TCP>(bytes) {
            None => Probe::More,
            Some((message, announced)) if message.len() < announced => {
                record::plausible(message, TCP, announced).and(Probe::More)
            }
            Some((message, _)) if record::is_sound(message) => Probe::Yes,
            Some(_) => Probe::No,
        }
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if !TCP {
            return match record::parse(bytes, false) {
                Some(message) => Parsed::Message(bytes.len(), message),
                None => Parsed::Malformed,
            };
        }
        if let Some(parsed) = Rest::pass(&mut self.rests[direction as usize], bytes.len()) {
            return parsed;
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

    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        let rest = &mut self.rests[direction as usize];
        match held {
            [high, low, message @ ..] => {
                let total = 2 + usize::from(u16::from_be_bytes([*high, *low]));
                let message = (total > 2 + HEADER).then(|| record::parse(message, true)).flatten();
                Rest::behind(total, held.len(), len, message, rest)
            }
            _ => Rest::lose(rest, len),
        }
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

    fn end(&mut self, direction: Direction, _: End) -> Option<Message> {
        Rest::end(&mut self.rests[direction as usize])
    }

    /// Nothing but messages that miss bytes is remembered.
    fn recover(&mut self, _: &Options) {}

    /// The transaction id and the question join both, since an id may be used for two questions at a time. Servers that understood
    /// nothing of a question repeat none.
    fn meta(message: &Message) -> Meta {
        let role = if message.header.response { Role::Response } else { Role::Request };
        let mask =
            if message.questions.is_empty() && message.header.response { !0xffff_ffff } else { u64::MAX };
        let key = u64::from(message.header.id) << 32 | u64::from(message.question_hash);
        Meta::new(role, message.memory()).pairing(Pairing::Keyed { key, mask })
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut DnsBlock| row::write(call.request, call.response, &call.times, columns));
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
