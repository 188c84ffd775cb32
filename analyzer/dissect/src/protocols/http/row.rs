//! The row of an HTTP exchange.

use std::borrow::Cow;

use shark_schema::cell::Pair;
use shark_schema::table::Block;
use shark_schema::tables::http::{HttpBlock, HttpRow};

use super::head::{Field, Head, Part, Start};
use super::{Message, is_websocket};
use crate::body::Decoded;
use crate::layer::{CallTimes, End, Written};

/// Appends the row; at least one half is there.
pub fn write(
    request: Option<&Message>,
    response: Option<&Message>,
    times: &CallTimes,
    columns: &mut HttpBlock,
) -> Written {
    let asked = request.map(Half::new);
    let answered = response.map(Half::new);
    let (ask, answer) = (asked.as_ref(), answered.as_ref());
    let (method, target) = request.map_or((None, None), |request| start(&request.head));
    let target = target.as_deref().map(Target::new);
    let host = request.and_then(|request| request.head.value("host")).map(text);
    let host = target.as_ref().and_then(|target| target.authority).map(Cow::from).or(host);
    let url = target.as_ref().map(|target| target.url(host.as_deref()));
    let route = target.as_ref().map(|target| route(target.path));
    let (user_agent, referrer) = (field(request, "user-agent"), field(request, "referer"));
    let (request_id, attempt) = (field(request, "x-request-id"), field(request, "x-envoy-attempt-count"));
    let content_type = field(response, "content-type");
    let content_type = content_type.as_deref().and_then(|value| value.split(';').next()).map(str::trim);
    let flags = field(response, "x-envoy-response-flags");
    let reason = response.and_then(|response| match &response.head.start {
        Start::Response { reason, .. } => Some(text(response.head.part(reason))),
        Start::Request { .. } => None,
    });
    let status = response.and_then(|response| response.head.status());
    let (request_headers, response_headers) = (ask.map(Half::headers), answer.map(Half::headers));
    let (sent, received) = (request_headers.as_ref(), response_headers.as_ref());
    let (request_trailers, response_trailers) =
        (ask.and_then(Half::trailers), answer.and_then(Half::trailers));
    let row = HttpRow {
        method: method.as_deref(),
        host: host.as_deref(),
        path: target.as_ref().map(|target| target.path),
        route: route.as_deref(),
        query: target.as_ref().and_then(|target| target.query),
        url: url.as_deref(),
        status_code: status.map(i32::from),
        version: request.or(response).and_then(|message| message.head.minor).map(version),
        user_agent: user_agent.as_deref(),
        referrer: referrer.as_deref(),
        content_type,
        request_headers: sent.map(|headers| &*headers.map),
        response_headers: received.map(|headers| &*headers.map),
        request_body: ask.and_then(Half::text),
        response_body: answer.and_then(Half::text),
        request_body_len: ask.and_then(Half::body_len),
        response_body_len: answer.and_then(Half::body_len),
        ttfb_ns: times.think_ns,
        x_request_id: request_id.as_deref(),
        attempt: attempt.and_then(|attempt| attempt.parse().ok()),
        response_flags: flags.as_deref(),
        inner: response.filter(|response| is_websocket(&response.head)).map(|_| "ws"),
        request_header_names: sent.map(|headers| &*headers.names),
        response_header_names: received.map(|headers| &*headers.names),
        request_header_repeats: sent.and_then(|headers| headers.repeats.as_deref()),
        response_header_repeats: received.and_then(|headers| headers.repeats.as_deref()),
        request_trailers: request_trailers.as_deref(),
        response_trailers: response_trailers.as_deref(),
        interim_statuses: response
            .map(|response| response.interim.as_slice())
            .filter(|codes| !codes.is_empty()),
        reason: reason.as_deref(),
        request_head_len: request.map(|request| request.head.bytes.len() as i64),
        response_head_len: response.map(|response| response.head.bytes.len() as i64),
        request_body_raw: ask.and_then(Half::raw),
        response_body_raw: answer.and_then(Half::raw),
        ..HttpRow::default()
    };
    let bytes = columns.append(&row);
    let cut = response.and_then(|response| response.cut);
    Written {
        bytes,
        is_error: status.map(|status| status >= 500 || cut == Some(End::Reset)),
        error_type: match (status, cut) {
            (_, Some(End::Reset)) => Some("reset".into()),
            (Some(status @ 400..), _) => Some(status.to_string().into()),
            _ => None,
        },
        trace_id: request.and_then(|request| trace_id(request.head.value("traceparent")?)),
        ..Written::default()
    }
}

/// The first value of a field.
fn field<'a>(half: Option<&'a Message>, name: &'a str) -> Option<Cow<'a, str>> {
    half?.head.value(name).map(text)
}

/// As [`String::from_utf8_lossy`], faster where nothing is lost, which is the rule.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::from)
}

fn version(minor: u8) -> &'static str {
    if minor == 0 { "1.0" } else { "1.1" }
}

fn start(head: &Head) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match &head.start {
        Start::Request { method, target } => (Some(text(head.part(method))), Some(text(head.part(target)))),
        Start::Response { .. } => (None, None),
    }
}

/// `version "-" trace-id "-" parent-id "-" flags` (W3C Trace Context section 3.2).
fn trace_id(traceparent: &[u8]) -> Option<String> {
    let id = traceparent.split(|byte| *byte == b'-').nth(1)?;
    let valid = id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit);
    valid.then(|| text(id).to_ascii_lowercase())
}

/// A request target (RFC 9112 section 3.2) in its parts.
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    absolute: bool,
    whole: &'a str,
}

impl<'a> Target<'a> {
    fn new(whole: &'a str) -> Target<'a> {
        let (authority, rest, absolute) = match whole.split_once("://") {
            Some((scheme, rest))
                if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
            {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                (Some(&rest[..at]), &rest[at..], true)
            }
            _ => (None, whole, false),
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        Target { authority, path, query, absolute, whole }
    }

    fn url(&self, host: Option<&str>) -> String {
        match host {
            Some(host) if !self.absolute && self.whole.starts_with('/') => {
                format!("http://{host}{}", self.whole)
            }
            _ => self.whole.to_string(),
        }
    }
}

/// The path with its variable parts replaced: numbers, UUIDs and long hexadecimal ids become `{id}`.
fn route(path: &str) -> Cow<'_, str> {
    let variable = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let hexadecimal = part.len() >= 16
            && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            && part.bytes().any(|byte| byte.is_ascii_digit());
        digits || hexadecimal
    };
    if !path.split('/').any(variable) {
        return path.into();
    }
    let parts: Vec<&str> = path.split('/').map(|part| if variable(part) { "{id}" } else { part }).collect();
    parts.join("/").into()
}

/// One half with what is decoded for its row.
struct Half<'a> {
    message: &'a Message,
    /// The head in lower case: field names are taken from it.
    lower: Vec<u8>,
    body: Decoded<'a>,
}

/// Names and values.
type Pairs<'a> = Vec<Pair<'a>>;

/// A header section as a row has it.
struct Headers<'a> {
    /// Lower-case names, repeats joined.
    map: Pairs<'a>,
    /// Names as they were sent, one a line.
    names: String,
    /// All fields as they were sent, where a name repeats.
    repeats: Option<Pairs<'a>>,
}

impl<'a> Half<'a> {
    fn new(message: &'a Message) -> Half<'a> {
        let encoding = message.head.value("content-encoding").map(text).unwrap_or_default();
        Half {
            message,
            lower: message.head.bytes.to_ascii_lowercase(),
            body: message.body.decode(&encoding, message.body_bytes),
        }
    }

    fn headers(&self) -> Headers<'_> {
        let Head { bytes, fields, .. } = &self.message.head;
        let sent = Texts::new(bytes);
        let mut names = String::with_capacity(bytes.len() / 2);
        for field in fields {
            if !names.is_empty() {
                names.push('\n');
            }
            names.push_str(&sent.part(&field.name));
        }
        let map = pairs(&self.lower, bytes, fields);
        let repeats = has_repeats(&map).then(|| pairs(bytes, bytes, fields));
        Headers { map: if repeats.is_some() { joined(map) } else { map }, names, repeats }
    }

    fn trailers(&self) -> Option<Pairs<'_>> {
        let (bytes, fields) = self.message.trailers.as_ref()?;
        let mut map = joined(pairs(bytes, bytes, fields));
        map.iter_mut().for_each(|(name, _)| name.to_mut().make_ascii_lowercase());
        Some(map)
    }

    fn body_len(&self) -> Option<i64> {
        let whole = self.message.cut.is_none();
        self.body.len.filter(|_| whole).map(|len| len as i64)
    }

    fn text(&self) -> Option<&str> {
        self.kept().and_then(as_text)
    }

    fn raw(&self) -> Option<&[u8]> {
        self.kept().filter(|bytes| as_text(bytes).is_none())
    }

    fn kept(&self) -> Option<&[u8]> {
        (!self.body.bytes.is_empty()).then_some(&self.body.bytes)
    }
}

/// UTF-8 without control characters that text does not have; a character cut by the body limit is left out.
fn as_text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    (memchr::memchr(0, text.as_bytes()).is_none() && !text.is_empty()).then_some(text)
}

/// Bytes of which parts are taken as text: looked at once, not part by part.
struct Texts<'a> {
    bytes: &'a [u8],
    whole: Option<&'a str>,
}

impl<'a> Texts<'a> {
    fn new(bytes: &'a [u8]) -> Texts<'a> {
        Texts { bytes, whole: std::str::from_utf8(bytes).ok() }
    }

    fn part(&self, part: &Part) -> Cow<'a, str> {
        let range = part.start as usize..part.end as usize;
        match self.whole.and_then(|whole| whole.get(range.clone())) {
            Some(part) => part.into(),
            None => text(&self.bytes[range]),
        }
    }
}

fn pairs<'a>(names: &'a [u8], values: &'a [u8], fields: &[Field]) -> Pairs<'a> {
    let (names, values) = (Texts::new(names), Texts::new(values));
    fields.iter().map(|field| (names.part(&field.name), values.part(&field.value))).collect()
}

fn has_repeats(pairs: &Pairs<'_>) -> bool {
    (1..pairs.len()).any(|at| pairs[..at].iter().any(|(name, _)| *name == pairs[at].0))
}

/// Repeats joined with a comma, `Set-Cookie` with a newline since its values have commas (RFC 9110 section 5.3).
fn joined<'a>(pairs: Pairs<'a>) -> Pairs<'a> {
    if !has_repeats(&pairs) {
        return pairs;
    }
    let mut map: Pairs<'a> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        match map.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                let values = values.to_mut();
                values.push_str(if name == "set-cookie" { "\n" } else { ", " });
                values.push_str(&value);
            }
            None => map.push((name, value)),
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        assert_eq!(route("/orders/123/items"), "/orders/{id}/items");
        assert_eq!(route("/u/6f9619ff-8b86-d011-b42d-00cf4fc964ff"), "/u/{id}");
        assert_eq!(route("/cart/checkout"), "/cart/checkout");
    }

    #[test]
    fn targets() {
        let target = Target::new("http://a.example:8080/x/y?q=1");
        assert_eq!(
            (target.authority, target.path, target.query),
            (Some("a.example:8080"), "/x/y", Some("q=1"))
        );
        let target = Target::new("/go?to=http://b/");
        assert_eq!((target.authority, target.path, target.query), (None, "/go", Some("to=http://b/")));
        assert_eq!(target.url(Some("h")), "http://h/go?to=http://b/");
    }
}
