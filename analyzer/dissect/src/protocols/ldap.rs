//! LDAP over TCP and UDP (RFC 4511, RFC 1798). In: messages of both directions; those of several searches may lie between each other.
//! Out: operations with their results. Passwords are never kept, entries are counted and passed, and what a security layer
//! seals is not guessed at.

mod filter;
mod message;

use shark_schema::table::Block;
use shark_schema::tables::ldap::{LdapBlock, LdapRow, TABLE};

use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role, Successor,
    Written,
};
use crate::limits;
use crate::rows::RowSink;
use message::{Head, Message, Op, result_name};

/// LDAP in streams.
pub type LdapTcp = Ldap<true>;
/// LDAP in datagrams.
pub type LdapUdp = Ldap<false>;

/// Longer messages are passed over, and only their heads told.
const WHOLE: usize = 64 * 1024;

/// The layer.
#[derive(Default)]
pub struct Ldap<const TCP: bool> {
    sides: [Side; 2],
    /// Entries so far of searches that are not done.
    entries: Vec<(u32, i64)>,
    /// Message that asks for TLS.
    starttls: Option<u32>,
    /// A bind by SASL succeeded: what follows may be sealed.
    has_sasl: bool,
    is_sealed: bool,
}

#[derive(Default)]
struct Side {
    /// Bytes of a message still to come, and what it is: nothing for a piece of a search's answer.
    left: usize,
    passing: Option<Message>,
    key: u64,
}

impl<const TCP: bool> Layer for Ldap<TCP> {
    const NAME: &'static str = "ldap";
    const OVER: Carrier = if TCP { Carrier::Stream } else { Carrier::Datagram };
    /// LDAP and the global catalogue of Active Directory.
    const PORTS: &'static [u16] = &[389, 3268];
    const TABLES: &'static [CallTable] = &[call_table::<LdapBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Ldap::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        match Head::read(bytes) {
            Ok(Some(head)) if TCP || head.len <= bytes.len() => Probe::Yes,
            Ok(None) if TCP => Probe::More,
            _ => Probe::No,
        }
    }

    fn parse(&mut self, from: Direction, bytes: &[u8], _: Option<&Message>) -> Parsed<Message> {
        if self.is_sealed {
            return Parsed::Skip(bytes.len());
        }
        if self.sides[from as usize].left > 0 {
            return self.pass(from, bytes.len());
        }
        let head = match Head::read(bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return Parsed::More(bytes.len() + 1),
            Err(_) if self.has_sasl => {
                self.is_sealed = true;
                return Parsed::Skip(bytes.len());
            }
            Err(_) => return Parsed::Malformed,
        };
        let side = &mut self.sides[from as usize];
        if head.op.is_piece() {
            (side.left, side.key) = (head.len, u64::from(head.id));
            self.count(&head);
            return self.pass(from, bytes.len());
        }
        if head.len > WHOLE {
            (side.left, side.passing) = (head.len, Some(Message::of(&head)));
            return self.pass(from, bytes.len());
        }
        match bytes.get(..head.len) {
            None => Parsed::More(head.len),
            Some(whole) => self.take(&head, Message::read(&head, whole)),
        }
    }

    /// Known is the place in a message whose length was seen, and at its end.
    fn gap(&mut self, from: Direction, held: &[u8], len: u64, _: Option<&Message>) -> Gap<Message> {
        if self.is_sealed {
            return Gap::Skip;
        }
        let side = &mut self.sides[from as usize];
        if side.left == 0 {
            let Ok(Some(head)) = Head::read(held) else { return Gap::Lost(None) };
            side.left = head.len.saturating_sub(held.len());
            side.passing = Some(Message::of(&head));
        }
        let left = usize::try_from(len).ok().and_then(|len| side.left.checked_sub(len));
        let Some(left) = left else {
            side.left = 0;
            return Gap::Lost(side.passing.take());
        };
        side.left = left;
        match side.passing.take() {
            None => Gap::PartOf(side.key),
            Some(message) if left > 0 => {
                side.passing = Some(message);
                Gap::Part
            }
            Some(mut message) => {
                message.entries = self.counted(&message);
                Gap::Message(message)
            }
        }
    }

    /// What was asked is still to be answered.
    fn recover(&mut self, _: &Options) {}

    fn resync(bytes: &[u8]) -> Option<usize> {
        memchr::memchr_iter(message::SEQUENCE, bytes)
            .find(|&at| matches!(Head::read(&bytes[at..]), Ok(Some(head)) if head.len <= WHOLE))
    }

    fn end(&mut self, from: Direction, _: End) -> Option<Message> {
        std::mem::take(&mut self.sides[from as usize]).passing
    }

    /// The message id joins both. Unbind and abandon are not answered (RFC 4511 sections 4.3 and 4.11), and the message id 0 is a
    /// server's notice that answers nothing (section 4.4).
    fn meta(message: &Message) -> Meta {
        let role = if message.op.is_request() { Role::Request } else { Role::Response };
        let is_alone = matches!(message.op, Op::UNBIND | Op::ABANDON) || message.id == 0;
        let key = u64::from(message.id);
        let meta = Meta { parts: Some(key), ..Meta::new(role, message.memory()) };
        meta.pairing(Pairing::keyed(key)).alone_if(is_alone)
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut LdapBlock| row(call.request, call.response, columns));
    }
}

/// Appends the row; at least one half is there.
fn row(request: Option<&Message>, response: Option<&Message>, columns: &mut LdapBlock) -> Written {
    let Some(first) = request.or(response) else { return Written::default() };
    let code = response.and_then(|answer| answer.result);
    let result = code.map(result_name);
    let row = LdapRow {
        message_id: i32::try_from(first.id).ok(),
        operation: Some(first.op.name()),
        base_dn: request.and_then(|asked| asked.object.as_deref()),
        filter: request.and_then(|asked| asked.filter.as_deref()),
        scope: request.and_then(|asked| asked.scope),
        result: result.as_deref(),
        result_code: code.and_then(|code| i32::try_from(code).ok()),
        entries: response.filter(|answer| answer.op == Op::SEARCH_DONE).map(|answer| answer.entries),
        authentication: request.and_then(|asked| asked.authentication.as_deref()),
        extended: [request, response].into_iter().flatten().find_map(|half| half.extended.as_deref()),
        diagnostic: response.and_then(|answer| answer.diagnostic.as_deref()),
        ..LdapRow::default()
    };
    let failed = code.is_some_and(message::is_failure);
    Written {
        bytes: columns.append(&row),
        is_error: code.map(|_| failed),
        error_type: result.filter(|_| failed),
        ..Written::default()
    }
}

impl<const TCP: bool> Ldap<TCP> {
    /// Passes what is at hand of a message that is not held.
    fn pass(&mut self, from: Direction, at_hand: usize) -> Parsed<Message> {
        let side = &mut self.sides[from as usize];
        let len = side.left.min(at_hand);
        side.left -= len;
        match side.passing.take() {
            None => Parsed::PartOf(len, side.key),
            Some(message) if side.left == 0 => self.take_passed(message, len),
            Some(message) => {
                side.passing = Some(message);
                Parsed::Part(len)
            }
        }
    }

    fn take_passed(&mut self, mut message: Message, len: usize) -> Parsed<Message> {
        message.entries = self.counted(&message);
        Parsed::Message(len, message)
    }

    fn count(&mut self, head: &Head) {
        if head.op != Op::SEARCH_ENTRY {
            return;
        }
        let is_full = self.entries.len() >= limits::OPEN_REQUESTS;
        match self.entries.iter_mut().find(|(id, _)| *id == head.id) {
            Some((_, count)) => *count += 1,
            None if !is_full => self.entries.push((head.id, 1)),
            None => {}
        }
    }

    /// Entries of the search that is done.
    fn counted(&mut self, message: &Message) -> i64 {
        let at = self.entries.iter().position(|(id, _)| message.op == Op::SEARCH_DONE && *id == message.id);
        at.map_or(0, |at| self.entries.swap_remove(at).1)
    }

    fn take(&mut self, head: &Head, mut message: Message) -> Parsed<Message> {
        message.entries = self.counted(&message);
        let is_success = message.result == Some(0);
        match message.op {
            Op::EXTENDED if message.extended.as_deref() == Some("StartTLS") => {
                self.starttls = Some(message.id)
            }
            Op::EXTENDED_RESPONSE if is_success && self.starttls == Some(message.id) => {
                return Parsed::Become(head.len, Some(message), Successor::tls());
            }
            Op::BIND => self.has_sasl = message.authentication.as_deref().is_some_and(|how| how != "simple"),
            _ => {}
        }
        Parsed::Message(head.len, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Message 1, an entry without attributes of the name "a", and the end of the search.
    const ENTRY: &[u8] = b"\x30\x0a\x02\x01\x01\x64\x05\x04\x01a\x30\x00";
    const DONE: &[u8] = b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00";

    #[test]
    fn entries_are_counted_and_passed() {
        let mut ldap = LdapTcp::default();
        for _ in 0..3 {
            assert!(matches!(ldap.parse(Direction::Backward, ENTRY, None), Parsed::PartOf(12, _)));
        }
        let Parsed::Message(14, message) = ldap.parse(Direction::Backward, DONE, None) else {
            panic!("done")
        };
        assert_eq!((message.entries, message.result, ldap.entries.len()), (3, Some(0), 0));
    }

    #[test]
    fn what_is_sealed_is_not_read() {
        let mut ldap = LdapTcp::default();
        let bind = b"\x30\x15\x02\x01\x01\x60\x10\x02\x01\x03\x04\x00\xa3\x09\x04\x06GSSAPI\x04";
        assert!(matches!(ldap.parse(Direction::Forward, b"\x00\x00\x00\x20abc", None), Parsed::Malformed));
        ldap.parse(Direction::Forward, &[&bind[..22], b"\xff"].concat(), None);
        ldap.has_sasl = true;
        assert!(matches!(ldap.parse(Direction::Forward, b"\x00\x00\x00\x20abc", None), Parsed::Skip(7)));
        assert!(matches!(ldap.gap(Direction::Forward, b"", 1 << 40, None), Gap::Skip));
    }

    #[test]
    fn it_is_told_from_other_bytes() {
        assert_eq!(LdapTcp::probe(ENTRY), Probe::Yes);
        assert_eq!(LdapTcp::probe(&ENTRY[..3]), Probe::More);
        assert_eq!(LdapTcp::probe(b"0123456789"), Probe::No);
        assert_eq!(LdapUdp::probe(&DONE[..9]), Probe::No);
        assert_eq!(LdapTcp::resync(&[b"0000", DONE].concat()), Some(4));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 1..200), op in 0..26_u8) {
            let mut ldap = LdapTcp::default();
            ldap.parse(Direction::Forward, &bytes, None);
            let len = bytes.len().min(100) as u8;
            let body = [&[0x30, len + 5, 2, 1, 7, 0x60 | op, len][..], &bytes[..usize::from(len)]].concat();
            LdapTcp::default().parse(Direction::Forward, &body, None);
            LdapTcp::resync(&bytes);
        }
    }
}
