//! A DNS message as far as it can be read: header, questions, answers with their data as text.

use std::fmt::Write;
use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::names;
use crate::layer::Probe;

/// Most questions and answers kept of one message.
const RECORDS: usize = 512;

/// A message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// Questions.
    pub questions: Vec<Question>,
    /// Records of the answer section, as far as they could be read.
    pub answers: Vec<Answer>,
    /// Upper bits of the response code (RFC 6891 section 6.1.3).
    pub extended_rcode: u8,
    /// It came with a length before it.
    pub tcp: bool,
    /// Hash of its first question.
    pub question_hash: u32,
}

/// The header (RFC 1035 section 4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Header {
    /// Transaction id.
    pub id: u16,
    /// QR.
    pub response: bool,
    /// Kind of request.
    pub opcode: u8,
    /// AA.
    pub authoritative: bool,
    /// TC.
    pub truncated: bool,
    /// RA.
    pub recursion_available: bool,
    /// Response code, lower bits.
    pub rcode: u8,
    /// Announced records: questions, answers, authority, additional.
    pub counts: [u16; 4],
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Name, lower case.
    pub name: String,
    /// Type.
    pub kind: u16,
}

/// An answer record.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Type.
    pub kind: u16,
    /// Time to live in seconds.
    pub ttl_s: u32,
    /// Data as text.
    pub data: String,
}

impl Message {
    /// Memory held.
    pub fn memory(&self) -> usize {
        let questions: usize = self.questions.iter().map(|question| 48 + question.name.len()).sum();
        let answers: usize = self.answers.iter().map(|answer| 48 + answer.data.len()).sum();
        size_of::<Message>() + questions + answers
    }

    /// Response code with the bits of EDNS.
    pub fn rcode(&self) -> u16 {
        u16::from(self.extended_rcode) << 4 | u16::from(self.header.rcode)
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn header(bytes: &[u8]) -> Option<Header> {
    let flags = be16(bytes, 2)?;
    let count = |section: usize| be16(bytes, 4 + 2 * section);
    Some(Header {
        id: be16(bytes, 0)?,
        response: flags & 0x8000 != 0,
        opcode: (flags >> 11 & 0xf) as u8,
        authoritative: flags & 0x0400 != 0,
        truncated: flags & 0x0200 != 0,
        recursion_available: flags & 0x0080 != 0,
        rcode: (flags & 0xf) as u8,
        counts: [count(0)?, count(1)?, count(2)?, count(3)?],
    })
}

/// Could this be DNS? A known kind of request, a sane question count, and a first name that can be read.
pub fn plausible(bytes: &[u8], stream: bool, announced: usize) -> Probe {
    let Some(header) = header(bytes) else {
        return if stream { Probe::More } else { Probe::No };
    };
    let known = matches!(header.opcode, 0 | 1 | 2 | 4 | 5 | 6) && header.rcode <= 11;
    let [questions, answers, ..] = header.counts;
    // Multicast queries hold dozens of questions.
    if !known || questions > 128 || (questions == 0 && answers == 0 && !header.response) {
        return Probe::No;
    }
    if header.counts.iter().all(|count| *count == 0) {
        // A bare header: only an error says so little.
        return if header.rcode != 0 { Probe::Yes } else { Probe::No };
    }
    let mut name = String::new();
    let readable = names::read(bytes, 12, &mut name).and_then(|at| be16(bytes, at + 2));
    let class = readable.map(|class| class & 0x7fff);
    if is_netbios(&name) {
        return Probe::No;
    }
    match class {
        Some(1..=4 | 254 | 255) => Probe::Yes,
        Some(_) => Probe::No,
        // Broken names are evidence where the rest of the header is sound.
        None if !stream && questions == 1 && header.counts[1..].iter().all(|count| *count < 64) => Probe::Yes,
        // What is to come may complete the name.
        None if stream && bytes.len() < announced => Probe::More,
        None => Probe::No,
    }
}

/// The NetBIOS name service has the same header; its names are 32 letters from A to P (RFC 1001 section 14.1).
fn is_netbios(name: &str) -> bool {
    let label = name.split('.').next().unwrap_or_default();
    label.len() == 32 && label.bytes().all(|byte| byte.is_ascii_uppercase() && byte <= b'P')
}

/// Reads a message; `None` only where there is no header.
pub fn parse(bytes: &[u8], tcp: bool) -> Option<Message> {
    let header = header(bytes)?;
    let mut message = Message { header, tcp, ..Message::default() };
    let mut at = 12;
    for _ in 0..header.counts[0].min(RECORDS as u16) {
        let mut name = String::new();
        let Some(behind) = names::read(bytes, at, &mut name) else {
            return Some(message);
        };
        let Some(kind) = be16(bytes, behind) else {
            return Some(message);
        };
        name.make_ascii_lowercase();
        if message.questions.is_empty() {
            message.question_hash = hash(&name, kind);
        }
        message.questions.push(Question { name, kind });
        at = behind + 4;
    }
    let [_, answers, authority, additional] = header.counts.map(usize::from);
    let total = (answers + authority + additional).min(RECORDS);
    for number in 0..total {
        let Some((kind, ttl_s, data)) = record(bytes, &mut at) else {
            break;
        };
        if number < answers {
            let answer = Answer { kind, ttl_s, data: data_text(bytes, kind, data) };
            message.answers.push(answer);
        } else if kind == 41 {
            message.extended_rcode = (ttl_s >> 24) as u8;
        }
    }
    Some(message)
}

fn hash(name: &str, kind: u16) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.write_u16(kind);
    (hasher.finish() >> 32) as u32
}

/// Is this one whole message of DNS and nothing else? One question of a known type, flags that fit it, and records that fill the
/// bytes exactly.
pub fn is_sound(bytes: &[u8]) -> bool {
    let (Some(header), Some(flags)) = (header(bytes), be16(bytes, 2)) else { return false };
    let [questions, answers, authority, additional] = header.counts.map(usize::from);
    let is_reserved_bit_set = flags & 0x0040 != 0;
    if questions != 1 || is_reserved_bit_set || !matches!(header.opcode, 0 | 4 | 5) || header.rcode > 10 {
        return false;
    }
    let is_plain_query = header.rcode == 0
        && !header.authoritative
        && !header.truncated
        && !header.recursion_available
        && (answers == 0 || header.opcode != 0)
        && additional <= 2;
    if !header.response && !is_plain_query {
        return false;
    }
    let mut name = String::new();
    let Some(behind) = names::read(bytes, 12, &mut name) else { return false };
    let (kind, class) = (be16(bytes, behind), be16(bytes, behind + 2));
    let is_known = kind.is_some_and(|kind| !super::row::type_name(kind).starts_with("TYPE"));
    // A backslash begins what is no printable octet.
    if !is_known || !matches!(class, Some(1 | 3 | 254 | 255)) || name.contains('\\') || is_netbios(&name) {
        return false;
    }
    let mut at = behind + 4;
    let records = answers + authority + additional;
    let is_cut = header.response && header.truncated;
    records <= RECORDS
        && (0..records).all(|_| record(bytes, &mut at).is_some() || is_cut)
        && at == bytes.len()
}

/// A resource record: type, TTL, range of its data.
fn record(bytes: &[u8], at: &mut usize) -> Option<(u16, u32, std::ops::Range<usize>)> {
    let mut owner = String::new();
    let fixed = names::read(bytes, *at, &mut owner)?;
    let kind = be16(bytes, fixed)?;
    let ttl_s = u32::from(be16(bytes, fixed + 4)?) << 16 | u32::from(be16(bytes, fixed + 6)?);
    let len = be16(bytes, fixed + 8)? as usize;
    let data = fixed + 10..fixed + 10 + len;
    bytes.get(data.clone())?;
    *at = data.end;
    Some((kind, ttl_s, data))
}

/// Record data as `dig` prints it, for the types people read; others as hexadecimal (RFC 3597 section 5).
fn data_text(message: &[u8], kind: u16, range: std::ops::Range<usize>) -> String {
    let data = &message[range.clone()];
    let mut text = String::new();
    let read = match kind {
        1 => data.try_into().ok().map(|ip: [u8; 4]| text = std::net::Ipv4Addr::from(ip).to_string()),
        28 => data.try_into().ok().map(|ip: [u8; 16]| text = std::net::Ipv6Addr::from(ip).to_string()),
        2 | 5 | 12 | 39 => names::read(message, range.start, &mut text).map(drop),
        15 => numbers_and_name(message, range.start, 1, &mut text),
        33 => numbers_and_name(message, range.start, 3, &mut text),
        6 => start_of_authority(message, range.start, &mut text),
        16 | 99 => strings(data, &mut text),
        257 => caa(data, &mut text),
        _ => None,
    };
    if read.is_none() {
        text.clear();
        let _ = write!(text, "\\# {}", data.len());
        if !data.is_empty() {
            text.push(' ');
            data.iter().take(64).for_each(|byte| {
                let _ = write!(text, "{byte:02x}");
            });
        }
    }
    text
}

/// Preference and host of MX; priority, weight, port and target of SRV (RFC 2782).
fn numbers_and_name(message: &[u8], at: usize, numbers: usize, text: &mut String) -> Option<()> {
    for number in 0..numbers {
        let _ = write!(text, "{} ", be16(message, at + 2 * number)?);
    }
    let mut name = String::new();
    names::read(message, at + 2 * numbers, &mut name)?;
    text.push_str(&name);
    Some(())
}

fn start_of_authority(message: &[u8], at: usize, text: &mut String) -> Option<()> {
    let mut part = String::new();
    let at = names::read(message, at, &mut part)?;
    text.push_str(&part);
    part.clear();
    let at = names::read(message, at, &mut part)?;
    let _ = write!(text, " {part}");
    for field in 0..5 {
        let bytes = message.get(at + 4 * field..at + 4 * field + 4)?;
        let number = bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let _ = write!(text, " {number}");
    }
    Some(())
}

fn strings(mut data: &[u8], text: &mut String) -> Option<()> {
    while let [len, rest @ ..] = data {
        let string = rest.get(..*len as usize)?;
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&String::from_utf8_lossy(string));
        data = &rest[*len as usize..];
    }
    Some(())
}

/// Flags, tag and value (RFC 8659 section 4.1).
fn caa(data: &[u8], text: &mut String) -> Option<()> {
    let [flags, len, rest @ ..] = data else {
        return None;
    };
    let (tag, value) = rest.split_at_checked(*len as usize)?;
    let _ = write!(text, "{flags} {} {}", String::from_utf8_lossy(tag), String::from_utf8_lossy(value));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"\x12\x34\x85\x80\0\x01\0\x02\0\0\0\x01\x03WWW\x02ex\0\0\x01\0\x01\
        \xc0\x0c\0\x05\0\x01\0\0\0\x0a\0\x04\x01a\xc0\x10\
        \xc0\x24\0\x01\0\x01\0\0\x01\0\0\x04\x0a\0\0\x07\
        \0\0\x29\x10\0\x01\0\0\0\0\0";

    #[test]
    fn names_data_and_extended_code() {
        let message = parse(RESPONSE, false).expect("there is a header");
        assert_eq!(message.questions, [Question { name: "www.ex".into(), kind: 1 }]);
        let data: Vec<&str> = message.answers.iter().map(|answer| answer.data.as_str()).collect();
        assert_eq!(data, ["a.ex", "10.0.0.7"]);
        assert_eq!((message.answers[1].ttl_s, message.rcode()), (256, 16));
        assert!(message.header.authoritative && message.header.recursion_available);
    }

    #[test]
    fn a_sound_message_is_all_of_the_bytes() {
        assert!(is_sound(RESPONSE));
        assert!((0..RESPONSE.len()).all(|len| !is_sound(&RESPONSE[..len])));
        assert!(!is_sound(&[RESPONSE, b"\0"].concat()));
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        assert!(is_sound(query));
        for (at, byte) in [(2, 0x05), (3, 0x40), (3, 0x03), (5, 2), (7, 1), (13, 7), (16, 0xee), (18, 9)] {
            let mut other = query.to_vec();
            other[at] = byte;
            assert!(!is_sound(&other), "{at}");
        }
    }

    #[test]
    fn every_cut_keeps_what_was_read() {
        for len in 0..RESPONSE.len() {
            assert_eq!(parse(&RESPONSE[..len], false).is_some(), len >= 12, "{len}");
        }
        assert_eq!(parse(&RESPONSE[..42], false).expect("there is a header").answers.len(), 1);
    }
}
