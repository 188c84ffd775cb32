//! Start line and header section of an HTTP/1 message (RFC 9112 sections 2 to 5): raw bytes in, ranges into them out.

use std::ops::Range;

use httparse::{EMPTY_HEADER, ParserConfig, Status};

use crate::dissector::Probe;
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
            return None;
        }
        let reason = range(bytes, response.reason.unwrap_or_default().as_bytes());
        let start = Start::Response { status: response.code?, reason };
        return Some(head(bytes, start, response.version?, response.headers));
    }
    let mut request = httparse::Request::new(&mut headers);
    if !whole(config.parse_request(&mut request, bytes)) {
        return parse_without_version(bytes);
    }
    let start = Start::Request {
        method: range(bytes, request.method?.as_bytes()),
        target: range(bytes, request.path?.as_bytes()),
    };
    Some(head(bytes, start, request.version?, request.headers))
}

/// A request whose line does not end with a version: servers answer it, so it is a request.
fn parse_without_version(bytes: &[u8]) -> Option<Head> {
    let end = memchr::memchr(b'\n', bytes)? + 1;
    let line = bytes[..end].trim_ascii_end();
    let method = line.split(|byte| *byte == b' ').next().filter(|method| is_method(method))?;
    let target =
        line[method.len()..].trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default();
    let start = Start::Request { method: range(bytes, method), target: range(bytes, target) };
    let mut headers = [EMPTY_HEADER; limits::HEADER_FIELDS];
    match httparse::parse_headers(&bytes[end..], &mut headers) {
        Ok(Status::Complete((_, headers))) => {
            Some(Head { bytes: bytes.into(), start, minor: None, fields: fields(bytes, headers) })
        }
        _ => None,
    }
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
    let token = bytes.iter().take(METHOD_LEN + 1).take_while(|byte| is_method_byte(**byte)).count();
    match bytes.get(token) {
        None => Probe::More,
        Some(b' ') if token > 0 => match memchr::memchr(b'\n', bytes) {
            Some(end) if is_request_line(&bytes[..end]) => Probe::Yes,
            Some(end) if is_method(&bytes[..token]) => begins_field(&bytes[end + 1..]),
            Some(_) => Probe::No,
            // The line end may be cut in two.
            None if !printable(bytes[token..].strip_suffix(b"\r").unwrap_or(&bytes[token..])) => Probe::No,
            None if is_method(&bytes[..token]) => Probe::Yes,
            None => Probe::More,
        },
        Some(_) => Probe::No,
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

fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_end();
    line.len() > 9 && line[..line.len() - 1].ends_with(b" HTTP/1.")
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
    begins(bytes) == Probe::Yes && is_request_line(&bytes[..end])
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
