//! One LDAP message (RFC 4511 section 4.1.1). In: its bytes. Out: its head, which is read by hand since it decides how much of the rest
//! is held, and what a row has of the rest, read by `ldap-parser`. A message it cannot read has its head only.

use std::borrow::Cow;

use ldap_parser::FromBer;
use ldap_parser::ldap::{AuthenticationChoice, LdapMessage, ProtocolOp, SearchScope};

use super::filter;

/// Identifier octet of the sequence around every message.
pub const SEQUENCE: u8 = 0x30;
/// Longest message taken for one.
const LONGEST: usize = 16 << 20;
/// Bytes kept of a name or text.
const TEXT: usize = 1024;

/// Which message it is: the number of its application tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Op(u8);

impl Op {
    pub const BIND: Op = Op(0);
    pub const UNBIND: Op = Op(2);
    pub const SEARCH_ENTRY: Op = Op(4);
    pub const SEARCH_DONE: Op = Op(5);
    pub const ABANDON: Op = Op(16);
    pub const EXTENDED: Op = Op(23);
    pub const EXTENDED_RESPONSE: Op = Op(24);

    /// By the identifier octet: constructed, but for three that hold a value alone.
    fn of(octet: u8) -> Option<Op> {
        let number = octet & 0x1f;
        let is_primitive = matches!(number, 2 | 10 | 16);
        let is_known = matches!(number, 0..=16 | 19 | 23..=25);
        (is_known && octet == number | if is_primitive { 0x40 } else { 0x60 }).then_some(Op(number))
    }

    /// Entries, references and intermediate responses come before the answer they belong to.
    pub fn is_piece(self) -> bool {
        matches!(self.0, 4 | 19 | 25)
    }

    pub fn is_request(self) -> bool {
        matches!(self.0, 0 | 2 | 3 | 6 | 8 | 10 | 12 | 14 | 16 | 23)
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            0 | 1 => "bind",
            2 => "unbind",
            3..=5 | 19 => "search",
            6 | 7 => "modify",
            8 | 9 => "add",
            10 | 11 => "delete",
            12 | 13 => "modify_dn",
            14 | 15 => "compare",
            16 => "abandon",
            _ => "extended",
        }
    }
}

/// The beginning of a message.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Bytes of all of it.
    pub len: usize,
    /// Message id.
    pub id: u32,
    /// Which it is.
    pub op: Op,
}

/// It is none.
#[derive(Debug)]
pub struct NoMessage;

impl Head {
    /// None where too few bytes are at hand.
    pub fn read(bytes: &[u8]) -> Result<Option<Head>, NoMessage> {
        match bytes.first() {
            None => return Ok(None),
            Some(&octet) if octet != SEQUENCE => return Err(NoMessage),
            _ => {}
        }
        let Some((len, rest)) = length(&bytes[1..])? else { return Ok(None) };
        let total = (bytes.len() - rest.len()).saturating_add(len);
        // The id is a positive INTEGER (RFC 4511 section 4.1.1.1).
        let (size, rest) = match rest {
            [2, size @ 1..=4, rest @ ..] => (usize::from(*size), rest),
            [] | [2] => return Ok(None),
            _ => return Err(NoMessage),
        };
        let Some((id, rest)) = rest.split_at_checked(size) else { return Ok(None) };
        let id = id.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
        let Some((&octet, rest)) = rest.split_first() else { return Ok(None) };
        let op = Op::of(octet).ok_or(NoMessage)?;
        let Some((op_len, rest)) = length(rest)? else { return Ok(None) };
        let op_end = (bytes.len() - rest.len()).saturating_add(op_len);
        let is_whole = op_end <= total && total <= LONGEST && id <= i32::MAX as u32;
        if is_whole { Ok(Some(Head { len: total, id, op })) } else { Err(NoMessage) }
    }
}

/// A length in the definite form, the only one LDAP has (RFC 4511 section 5.1), and what follows it.
fn length(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, NoMessage> {
    match bytes {
        [] => Ok(None),
        [short @ 0..=0x7f, rest @ ..] => Ok(Some((usize::from(*short), rest))),
        [long @ 0x81..=0x84, rest @ ..] => {
            let Some((len, rest)) = rest.split_at_checked(usize::from(long & 0x7f)) else { return Ok(None) };
            Ok(Some((len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)))
        }
        _ => Err(NoMessage),
    }
}

/// What a row has of a message.
#[derive(Debug, Default)]
pub struct Message {
    pub id: u32,
    pub op: Op,
    /// Base of a search, or the object of another operation.
    pub object: Option<String>,
    pub filter: Option<String>,
    pub scope: Option<&'static str>,
    pub result: Option<u32>,
    pub entries: i64,
    pub authentication: Option<String>,
    pub extended: Option<String>,
    pub diagnostic: Option<String>,
}

impl Message {
    /// What its head tells.
    pub fn of(head: &Head) -> Message {
        Message { id: head.id, op: head.op, ..Message::default() }
    }

    /// All of it.
    pub fn read(head: &Head, bytes: &[u8]) -> Message {
        let mut message = Message::of(head);
        if let Ok((_, read)) = LdapMessage::from_ber(bytes) {
            if let Some(result) = read.protocol_op.result() {
                message.result = Some(result.result_code.0);
                message.diagnostic = text(&result.diagnostic_message.0);
            }
            message.request(&read.protocol_op);
        }
        message
    }

    fn request(&mut self, op: &ProtocolOp<'_>) {
        let object = match op {
            ProtocolOp::BindRequest(bind) => {
                self.authentication = match &bind.authentication {
                    AuthenticationChoice::Simple(_) => Some("simple".to_owned()),
                    AuthenticationChoice::Sasl(sasl) => text(&sasl.mechanism.0),
                };
                &bind.name
            }
            ProtocolOp::SearchRequest(search) => {
                self.filter = Some(filter::text(&search.filter));
                self.scope = scope(search.scope);
                &search.base_object
            }
            ProtocolOp::ModifyRequest(modify) => &modify.object,
            ProtocolOp::AddRequest(add) => &add.entry,
            ProtocolOp::DelRequest(object) => object,
            ProtocolOp::ModDnRequest(modify) => &modify.entry,
            ProtocolOp::CompareRequest(compare) => &compare.entry,
            ProtocolOp::ExtendedRequest(extended) => {
                self.extended = text(extended_name(&extended.request_name.0));
                return;
            }
            ProtocolOp::ExtendedResponse(extended) => {
                let name = extended.response_name.as_ref();
                self.extended = name.and_then(|name| text(extended_name(&name.0)));
                return;
            }
            _ => return,
        };
        // An empty name is a name: the root, or nobody.
        self.object = Some(cut(&object.0));
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let texts = [&self.object, &self.filter, &self.authentication, &self.extended, &self.diagnostic];
        size_of::<Message>() + texts.into_iter().flatten().map(String::capacity).sum::<usize>()
    }
}

fn scope(scope: SearchScope) -> Option<&'static str> {
    match scope.0 {
        0 => Some("base"),
        1 => Some("one"),
        2 => Some("sub"),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT)].to_owned()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| cut(text))
}

/// Extended operations by their number (IANA, LDAP Parameters).
fn extended_name(number: &str) -> &str {
    match number {
        "1.3.6.1.4.1.1466.20036" => "NoticeOfDisconnection",
        "1.3.6.1.4.1.1466.20037" => "StartTLS",
        "1.3.6.1.4.1.4203.1.11.1" => "PasswordModify",
        "1.3.6.1.4.1.4203.1.11.3" => "WhoAmI",
        "1.3.6.1.1.8" => "Cancel",
        other => other,
    }
}

/// Neither success nor a comparison's answer, a referral, or a step of a bind.
pub fn is_failure(code: u32) -> bool {
    !matches!(code, 0 | 5 | 6 | 10 | 14)
}

/// Result codes (RFC 4511 section 4.1.9).
pub fn result_name(code: u32) -> Cow<'static, str> {
    let name = match code {
        0 => "success",
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        5 => "compareFalse",
        6 => "compareTrue",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        14 => "saslBindInProgress",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        19 => "constraintViolation",
        20 => "attributeOrValueExists",
        21 => "invalidAttributeSyntax",
        32 => "noSuchObject",
        33 => "aliasProblem",
        34 => "invalidDNSyntax",
        36 => "aliasDereferencingProblem",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        54 => "loopDetect",
        64 => "namingViolation",
        65 => "objectClassViolation",
        66 => "notAllowedOnNonLeaf",
        67 => "notAllowedOnRDN",
        68 => "entryAlreadyExists",
        69 => "objectClassModsProhibited",
        71 => "affectsMultipleDSAs",
        80 => "other",
        other => return other.to_string().into(),
    };
    name.into()
}
