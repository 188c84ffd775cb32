//! Start line and header section of an HTTP/1 message (RFC 9112 sections 2 to 5): raw bytes in, ranges into them out.

use std::ops::Range;

use httparse::{EMPTY_HEADER, ParserConfig, Status};

use crate::layer::Probe;
use crate::limits;

/// A head and where its parts lie.
#[derive(Debug)]
pub struct Head {
    /// The bytes, with the empty line that ends them.
    pub bytes: Box<[u8]>,
    /// Request or status line.
    pub start: Start,
    /// Minor version of HTTP/1; `None` where the request line does not end with one.
    pub minor: Option<u8>,
    /// Fields in wire order.
    pub fields: Vec<Field>,
}

/// A start line.
#[derive(Clone, Debug)]
pub enum Start {
    /// Method and target.
    Request {
        /// Method.
        method: Part,
        /// Request target.
        target: Part,
    },
    /// Status and reason.
    Response {
        /// Status code.
        status: u16,
        /// Reason phrase.
        reason: Part,
    },
}

/// A range of the head.
pub type Part = Range<u32>;

/// A field: name and value.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name as it was sent.
    pub name: Part,
    /// Value without the white space around it.
    pub value: Part,
}

impl Head {
    /// Bytes of a part.
    pub fn part(&self, part: &Part) -> &[u8] {
        &self.bytes[part.start as usize..part.end as usize]
    }

    /// Values of a field, by its name in any case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let named = move |field: &&Field| self.part(&field.name).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|field| self.part(&field.value))
    }

    /// The first value of a field.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The status of a response.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Response { status, .. } => Some(status),
            Start::Request { .. } => None,
        }
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&[u8]> {
        match &self.start {
            Start::Request { method, .. } => Some(self.part(method)),
            Start::Response { .. } => None,
        }
    }

    /// The target of a request, as sent.
    pub fn target(&self) -> Option<&[u8]> {
        match &self.start {
            Start::Request { target, .. } => Some(self.part(target)),
            Start::Response { .. } => None,
        }
    }
}

/// Offset behind the empty line that ends a head or trailer section; `from` is how far an earlier search came.
pub fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(2);
    while let Some(found) = memchr::memchr(b'\n', &bytes[at..]) {
        at += found + 1;
        match bytes.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Parses a whole head.
pub fn parse(bytes: &[u8]) -> Option<Head> {
    let mut config = ParserConfig::default();
    config
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_space_before_first_header_name(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    let mut headers = [EMPTY_HEADER; limits::HEADER_FIELDS];
    let whole = |status| matches!(status, Ok(Status::Complete(_)));
    if bytes.starts_with(b"HTTP/") {
        let mut response = httparse::Response::new(&mut headers);
        if !whole(config.parse_response(&mut response, bytes)) {
            return parse_loosely(bytes);
        }
        let reason = range(bytes, response.reason.unwrap_or_default().as_bytes());
        let start = Start::Response { status: response.code?, reason };
        return Some(head(bytes, start, response.version?, response.headers));
    }
    let mut request = httparse::Request::new(&mut headers);
    if !whole(config.parse_request(&mut request, bytes)) {
        return parse_loosely(bytes);
    }
    let start = Start::Request {
        method: range(bytes, request.method?.as_bytes()),
        target: range(bytes, request.path?.as_bytes()),
    };
    Some(head(bytes, start, request.version?, request.headers))
}

/// Parses what breaks the rules, or is cut short, as servers and clients take it: more fields than are kept, lines without a
/// colon, control characters, spaces in the target, a request line without version.
pub fn parse_loosely(bytes: &[u8]) -> Option<Head> {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
    let line = bytes[..end].trim_ascii_end();
    let (start, minor) = match line.strip_prefix(b"HTTP/1.") {
        Some(status) => status_line(bytes, status)?,
        None => request_line(bytes, line)?,
    };
    Some(Head { bytes: bytes.into(), start, minor, fields: loose_fields(bytes, end) })
}

fn status_line(bytes: &[u8], line: &[u8]) -> Option<(Start, Option<u8>)> {
    let (minor, rest) = line.split_first().filter(|(minor, _)| minor.is_ascii_digit())?;
    let rest = rest.trim_ascii_start();
    let status = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let status = std::str::from_utf8(status).ok()?.parse().ok()?;
    let reason = range(bytes, rest[3..].trim_ascii_start());
    Some((Start::Response { status, reason }, Some(minor - b'0')))
}

fn request_line(bytes: &[u8], line: &[u8]) -> Option<(Start, Option<u8>)> {
    let token = line.iter().take(METHOD_LEN + 1).take_while(|byte| is_token_byte(**byte)).count();
    let (method, rest) = line.split_at(token);
    if token == 0 || token > METHOD_LEN || !rest.starts_with(b" ") {
        return None;
    }
    let rest = rest.trim_ascii_start();
    let (target, minor) = match is_request_line(line) {
        true => {
            (rest[..rest.len().saturating_sub(9)].trim_ascii_end(), line.last().map(|digit| digit - b'0'))
        }
        // Servers answer a line that does not end with a version, so it is a request.
        false if is_method(method) => (rest.split(|byte| *byte == b' ').next().unwrap_or_default(), None),
        false => return None,
    };
    Some((Start::Request { method: range(bytes, method), target: range(bytes, target) }, minor))
}

/// The first fields, and those that say how long the body is. A line that is cut short gives no field: nobody knows its
/// whole value.
fn loose_fields(bytes: &[u8], from: usize) -> Vec<Field> {
    const FRAMING: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"content-encoding"];
    let mut fields: Vec<Field> = Vec::new();
    let mut is_kept = false;
    for line in bytes[from..].split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let text = line.trim_ascii_end();
        if text.is_empty() {
            break;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // The value goes on (RFC 9112 section 5.2).
            if let Some(last) = fields.last_mut().filter(|last| is_kept && last.value.end > 0) {
                last.value.end = range(bytes, text).end;
            }
            continue;
        }
        let Some(colon) = memchr::memchr(b':', text).filter(|colon| *colon > 0) else { continue };
        let name = text[..colon].trim_ascii_end();
        is_kept = fields.len() < limits::HEADER_FIELDS
            || (fields.len() < limits::HEADER_FIELDS + FRAMING.len()
                && FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)));
        if is_kept {
            let value = text[colon + 1..].trim_ascii_start();
            fields.push(Field { name: range(bytes, name), value: range(bytes, value) });
        }
    }
    fields
}

/// Parses a trailer section that ends with an empty line.
pub fn parse_fields(bytes: &[u8]) -> Option<Vec<Field>> {
    let mut headers = [EMPTY_HEADER; limits::HEADER_FIELDS];
    match httparse::parse_headers(bytes, &mut headers) {
        Ok(Status::Complete((_, headers))) => Some(fields(bytes, headers)),
        _ => None,
    }
}

fn head(bytes: &[u8], start: Start, minor: u8, headers: &[httparse::Header<'_>]) -> Head {
    Head { bytes: bytes.into(), start, minor: Some(minor), fields: fields(bytes, headers) }
}

fn fields(bytes: &[u8], headers: &[httparse::Header<'_>]) -> Vec<Field> {
    let field = |header: &httparse::Header<'_>| Field {
        name: range(bytes, header.name.as_bytes()),
        value: range(bytes, header.value),
    };
    let mut fields = Vec::with_capacity(headers.len());
    fields.extend(headers.iter().filter(|header| !header.name.is_empty()).map(field));
    fields
}

/// Where `part`, a slice of `bytes`, lies in it.
fn range(bytes: &[u8], part: &[u8]) -> Part {
    let start = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    if part.is_empty() || start + part.len() > bytes.len() {
        return 0..0;
    }
    start as u32..(start + part.len()) as u32
}

/// Methods of RFC 9110, RFC 5789, WebDAV (RFC 4918, 3253, 5323) and others in wide use.
const METHODS: &[&str] = &[
    "GET",
    "POST",
    "PUT",
    "HEAD",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "PURGE",
    "MKCALENDAR",
    "CHECKOUT",
    "MERGE",
    "NOTIFY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "M-SEARCH",
    "BIND",
    "LINK",
    "UNLINK",
    "ACL",
    "LABEL",
    "QUERY",
    "REBIND",
    "UNBIND",
    "VERSION-CONTROL",
    "UNCHECKOUT",
    "CHECKIN",
    "UPDATE",
    "MKWORKSPACE",
    "MKACTIVITY",
    "BASELINE-CONTROL",
    "ORDERPATCH",
    "MKREDIRECTREF",
    "UPDATEREDIRECTREF",
    "BCOPY",
    "BMOVE",
    "BDELETE",
    "BPROPFIND",
    "BPROPPATCH",
    "POLL",
    "CCM_POST",
    "RPC_CONNECT",
    "RPC_IN_DATA",
    "RPC_OUT_DATA",
    "SSTP_DUPLEX_POST",
    "TRACK",
    "DEBUG",
    "INDEX",
];

/// Longest method taken for one where the line ends like a request line.
const METHOD_LEN: usize = 24;

/// Do these bytes begin a message?
pub fn begins(bytes: &[u8]) -> Probe {
    const VERSION: &[u8] = b"HTTP/1.";
    let common = bytes.len().min(VERSION.len());
    if bytes[..common] == VERSION[..common] {
        return if common == VERSION.len() { Probe::Yes } else { Probe::More };
    }
    let token = bytes.iter().take(METHOD_LEN + 1).take_while(|byte| is_token_byte(**byte)).count();
    match bytes.get(token) {
        None => Probe::More,
        Some(b' ') if token > 0 => match memchr::memchr(b'\n', bytes) {
            Some(end) if is_request_line(&bytes[..end]) => Probe::Yes,
            Some(end) if is_method(&bytes[..token]) && !is_of_another_protocol(&bytes[..end]) => {
                begins_field(&bytes[end + 1..])
            }
            Some(_) => Probe::No,
            // The line end may be cut in two.
            None if !printable(bytes[token..].strip_suffix(b"\r").unwrap_or(&bytes[token..])) => Probe::No,
            // The targets of SIP and RTSP, which have the methods of HTTP, begin otherwise.
            None if is_method(&bytes[..token]) && is_target(&bytes[token + 1..]) => Probe::Yes,
            None => Probe::More,
        },
        Some(_) => Probe::No,
    }
}

/// A path, or a URL of HTTP.
fn is_target(bytes: &[u8]) -> bool {
    bytes.starts_with(b"/") || bytes.starts_with(b"http://") || bytes.starts_with(b"https://")
}

/// The line ends with the name and version of another protocol: SIP, RTSP, ICAP.
fn is_of_another_protocol(line: &[u8]) -> bool {
    let word = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match word {
        [name @ .., b'/', major, b'.', minor] => {
            let is_name = name.len() >= 2 && name.iter().all(u8::is_ascii_uppercase) && name != b"HTTP";
            is_name && major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

fn is_method(token: &[u8]) -> bool {
    METHODS.iter().any(|method| method.as_bytes() == token)
}

/// `field-name ":"` (RFC 9112 section 5): what tells a request line without version from another protocol's line.
fn begins_field(bytes: &[u8]) -> Probe {
    let name = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    match bytes.get(name) {
        None => Probe::More,
        Some(b':') if name > 0 => Probe::Yes,
        Some(_) => Probe::No,
    }
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

/// Methods are case-sensitive (RFC 9110 section 9.1); one in other letters is refused by servers and is a request all the same.
fn is_token_byte(byte: u8) -> bool {
    is_method_byte(byte) || byte.is_ascii_lowercase()
}

fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_end();
    let is_version = line.len() > 9 && line[..line.len() - 1].ends_with(b" HTTP/1.");
    is_version && line.last().is_some_and(u8::is_ascii_digit)
}

fn printable(bytes: &[u8]) -> bool {
    bytes.iter().take(64).all(|byte| *byte >= b' ' && *byte != 0x7f)
}

/// Offset of the next place where a message may begin: at the start, behind a line end, or, since bodies need not end
/// with one, wherever a status line stands.
pub fn resync(bytes: &[u8]) -> Option<usize> {
    let status_from = |at: usize| memchr::memmem::find(&bytes[at..], b"HTTP/1.").map(|found| at + found);
    let mut at = 0;
    let mut status = status_from(0);
    loop {
        if starts_surely(&bytes[at..]) {
            return Some(at);
        }
        if status.is_some_and(|status| status <= at) {
            status = status_from(at + 1);
        }
        let line = memchr::memchr(b'\n', &bytes[at..]).map(|found| at + found + 1);
        at = match (line, status) {
            (Some(line), Some(status)) => line.min(status),
            (Some(next), None) | (None, Some(next)) => next,
            (None, None) => return request_after_body(&bytes[at..]).map(|found| at + found),
        };
        if at >= bytes.len() {
            return None;
        }
    }
}

/// True where a whole start line stands.
fn starts_surely(bytes: &[u8]) -> bool {
    if let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', status @ ..] = bytes {
        return minor.is_ascii_digit() && status.len() >= 3 && status[..3].iter().all(u8::is_ascii_digit);
    }
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(8192)]) else {
        return false;
    };
    // In a body, only a line in capital letters is taken for one.
    let is_upper = bytes.iter().take_while(|byte| **byte != b' ').all(|byte| is_method_byte(*byte));
    is_upper && begins(bytes) == Probe::Yes && is_request_line(&bytes[..end])
}

/// A request that follows a body directly, found by the version at the end of its line.
fn request_after_body(bytes: &[u8]) -> Option<usize> {
    let version = memchr::memmem::find(bytes, b" HTTP/1.")?;
    METHODS
        .iter()
        .filter_map(|method| memchr::memmem::rfind(&bytes[..version], method.as_bytes()))
        .max()
        .filter(|at| starts_surely(&bytes[*at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes() {
        assert_eq!(begins(b"GET / HTTP/1.1\r\n"), Probe::Yes);
        assert_eq!(begins(b"GET /lo"), Probe::Yes);
        assert_eq!(begins(b"FANCY / HTTP/1.0\r\n"), Probe::Yes);
        assert_eq!(begins(b"HTTP/1.1 200 OK"), Probe::Yes);
        assert_eq!((begins(b"HTT"), begins(b"GE")), (Probe::More, Probe::More));
        assert_eq!(begins(b"PRI * HTTP/2.0\r\n\r\nSM"), Probe::No);
        assert_eq!(begins(b"*3\r\n$3\r\nSET\r\n"), Probe::No);
        assert_eq!((begins(b"QUIT\r\n"), begins(b"GET key\r\nGET other\r\n")), (Probe::No, Probe::No));
        assert_eq!(begins(b"GET /\r\nHost: a\r\n\r\n"), Probe::Yes);
        assert_eq!(begins(b"get / HTTP/1.1\r\n"), Probe::Yes);
    }

    /// SIP, RTSP and ICAP have methods of the same names, and fields like those of HTTP.
    #[test]
    fn text_protocols_with_the_same_methods_are_told_apart() {
        let lines: [&[u8]; 3] = [
            b"OPTIONS sip:a@b.example SIP/2.0\r\nVia: x\r\n",
            b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n",
            b"OPTIONS icap://a/b ICAP/1.0\r\nHost: a\r\n",
        ];
        for line in lines {
            assert_eq!(begins(line), Probe::No);
            assert!((0..line.len()).all(|len| begins(&line[..len]) != Probe::Yes));
        }
    }

    #[test]
    fn what_breaks_the_rules_is_read_as_far_as_it_goes() {
        let head = parse(b"get /my file?q=a b HTTP/1.1\r\nno colon\r\nA: x\0y\r\n more\r\nB : z\r\n\r\n");
        let head = head.expect("a request");
        let Start::Request { method, target } = &head.start else { panic!("a request") };
        assert_eq!((head.part(method), head.part(target)), (&b"get"[..], &b"/my file?q=a b"[..]));
        assert_eq!(head.value("a"), Some(&b"x\0y\r\n more"[..]));
        assert_eq!((head.value("b"), head.fields.len(), head.minor), (Some(&b"z"[..]), 2, Some(1)));
    }

    #[test]
    fn a_field_that_is_cut_short_is_left_out() {
        let whole = b"HTTP/1.1 200 OK\r\nA: b\r\nX-Request-Id: load-1-000015\r\n";
        for len in 23..whole.len() {
            let head = parse_loosely(&whole[..len]).expect("a response");
            assert_eq!((head.value("a"), head.fields.len()), (Some(&b"b"[..]), 1));
        }
        assert_eq!(
            parse_loosely(whole).expect("a response").value("x-request-id"),
            Some(&b"load-1-000015"[..])
        );
    }

    #[test]
    fn a_field_behind_those_that_are_kept_still_says_how_long_the_body_is() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        (0..300).for_each(|at| bytes.extend(format!("X-{at}: v\r\n").bytes()));
        bytes.extend(b"Content-Length: 7\r\n\r\n");
        let head = parse(&bytes).expect("a response");
        assert_eq!((head.status(), head.fields.len()), (Some(200), limits::HEADER_FIELDS + 1));
        assert_eq!(head.value("content-length"), Some(&b"7"[..]));
    }

    #[test]
    fn a_start_is_found_behind_anything() {
        assert_eq!(resync(b"GET /a HTTP/1.1\r\nHost: x\r\n"), Some(0));
        assert_eq!(resync(b"rest of\n a body\nPOST /b HTTP/1.1\r\n"), Some(16));
        assert_eq!(resync(b"{\"a\":1}HTTP/1.1 404 Not Found\r\n"), Some(7));
        assert_eq!(resync(b"no message HTTP/2 200 here\nGET nothing\n"), None);
        assert_eq!(resync(b""), None);
    }

    #[test]
    fn a_head_of_lines_without_carriage_return() {
        let head = parse(b"GET /x HTTP/1.0\nHost:  a b \nX-Y: z\n\n").expect("it is whole");
        assert_eq!(head.value("host"), Some(&b"a b"[..]));
        assert_eq!(end_of_head(b"a\r\nb\r\n\r\nrest", 0), Some(8));
        assert_eq!(end_of_head(b"a\r\nb\r\n\r", 5), None);
    }
}
