//! A command as text. In: the beginning of its document, and of the documents beside it. Out: compact text like JSON with its values, or with
//! `?` for them; both are cut. Secrets are `?` in either.

use super::bson::{
    ARRAY, BINARY, BOOL, DATE, DOCUMENT, DOUBLE, INT32, INT64, OBJECT_ID, REGEX, STRING, TIMESTAMP, Value,
    element, value_len,
};
use super::facts::Facts;
use crate::limits;

/// How values are shown.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Show {
    Values,
    /// `?` for each, and of a list its first.
    Shape,
}

/// The command as text.
pub(super) fn command(facts: &Facts, show: Show) -> String {
    let operation = facts.operation.as_deref().unwrap_or_default();
    let mut renderer = Renderer { out: String::new(), show, is_secret: is_secret(operation) };
    renderer.document(&facts.document, 0);
    if let Some((name, documents)) = &facts.sequence {
        renderer.sequence(name, documents);
    }
    let mut out = renderer.out;
    let mut end = out.len().min(limits::STATEMENT_BYTES);
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    out.truncate(end);
    out
}

/// Commands that carry proofs of who logs in, or new passwords.
fn is_secret(operation: &str) -> bool {
    const SECRET: [&str; 10] = [
        "saslstart",
        "saslcontinue",
        "authenticate",
        "getnonce",
        "createuser",
        "updateuser",
        "hello",
        "ismaster",
        "logout",
        "copydb",
    ];
    SECRET.iter().any(|known| operation.eq_ignore_ascii_case(known))
}

/// Their keys.
const SECRETS: [&[u8]; 5] = [b"payload", b"pwd", b"key", b"nonce", b"proof"];
/// Keys that say nothing of what is asked.
const LEFT_OUT: [&[u8]; 2] = [b"lsid", b"$clusterTime"];
/// Documents in documents.
const DEEPEST: usize = 16;

struct Renderer {
    out: String,
    show: Show,
    is_secret: bool,
}

impl Renderer {
    fn is_full(&self) -> bool {
        self.out.len() > limits::STATEMENT_BYTES
    }

    /// Elements up to the end of the document, or of what is at hand.
    fn document(&mut self, bytes: &[u8], depth: usize) {
        self.out.push('{');
        let mut is_first = true;
        self.elements(bytes, |renderer, name, value| {
            if depth == 0 && LEFT_OUT.contains(&name) {
                return;
            }
            let is_command = std::mem::take(&mut is_first);
            if !is_command {
                renderer.out.push(',');
            }
            renderer.text(name);
            renderer.out.push(':');
            if renderer.is_secret && SECRETS.contains(&name) {
                renderer.out.push('?');
            } else if depth == 0
                && value.kind == STRING
                && (is_command || name == b"$db" || name == b"collection")
            {
                renderer.shown(value);
            } else {
                renderer.value(value, depth);
            }
        });
        self.out.push('}');
    }

    fn array(&mut self, bytes: &[u8], depth: usize) {
        self.out.push('[');
        let mut is_first = true;
        self.elements(bytes, |renderer, _, value| {
            if !is_first && renderer.show == Show::Shape {
                return;
            }
            if !std::mem::take(&mut is_first) {
                renderer.out.push(',');
            }
            renderer.value(value, depth);
        });
        self.out.push(']');
    }

    fn elements(&mut self, bytes: &[u8], mut each: impl FnMut(&mut Self, &[u8], Value<'_>)) {
        let mut rest = bytes.get(4..).unwrap_or_default();
        while let Some(&kind) = rest.first().filter(|kind| **kind != 0) {
            let Ok((name, value)) = element(rest) else { break };
            let Ok(Some(len)) = value_len(kind, value) else { break };
            let at_hand = &value[..value.len().min(len)];
            each(self, name, Value { kind, bytes: at_hand });
            rest = &value[at_hand.len()..];
            if at_hand.len() < len || self.is_full() {
                break;
            }
        }
    }

    /// Documents one behind the other, into the command's own.
    fn sequence(&mut self, name: &str, mut documents: &[u8]) {
        if self.out.ends_with('}') {
            self.out.pop();
        }
        self.out.push(',');
        self.text(name.as_bytes());
        self.out.push_str(":[");
        let mut is_first = true;
        while let Some(len) = documents.first_chunk().map(|len| u32::from_le_bytes(*len) as usize) {
            if len < 5 || self.is_full() || (!is_first && self.show == Show::Shape) {
                break;
            }
            if !std::mem::take(&mut is_first) {
                self.out.push(',');
            }
            let (document, rest) = documents.split_at(len.min(documents.len()));
            self.document(document, 1);
            documents = rest;
        }
        self.out.push_str("]}");
    }

    fn value(&mut self, value: Value<'_>, depth: usize) {
        match value.kind {
            DOCUMENT | ARRAY if depth >= DEEPEST => self.out.push('…'),
            DOCUMENT => self.document(value.bytes, depth + 1),
            ARRAY => self.array(value.bytes, depth + 1),
            _ if self.show == Show::Shape => self.out.push('?'),
            _ => self.shown(value),
        }
    }

    fn shown(&mut self, value: Value<'_>) {
        use std::fmt::Write;
        let bytes = value.bytes;
        let out = &mut self.out;
        let _ = match (value.kind, value.number()) {
            (STRING, _) => return self.text(value.content().unwrap_or_default()),
            (BOOL, Some(number)) => write!(out, "{}", number != 0),
            (DOUBLE, Some(_)) => match bytes.first_chunk() {
                Some(bytes) => write!(out, "{}", f64::from_le_bytes(*bytes)),
                None => write!(out, "?"),
            },
            (INT32 | INT64, Some(number)) => write!(out, "{number}"),
            (DATE | TIMESTAMP, _) => match bytes.first_chunk() {
                Some(bytes) => write!(out, "{}", i64::from_le_bytes(*bytes)),
                None => write!(out, "?"),
            },
            (OBJECT_ID, _) => {
                out.push('"');
                for byte in bytes {
                    let _ = write!(out, "{byte:02x}");
                }
                write!(out, "\"")
            }
            (0x0a, _) => write!(out, "null"),
            (REGEX, _) => {
                let mut parts = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
                let mut part = || parts.next().unwrap_or_default();
                write!(out, "/{}/{}", part(), part())
            }
            (BINARY, _) => {
                let len = bytes.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
                write!(out, "<{len} bytes>")
            }
            (kind, _) => write!(out, "<type {kind}>"),
        };
    }

    fn text(&mut self, bytes: &[u8]) {
        self.out.push('"');
        for sign in String::from_utf8_lossy(bytes).chars() {
            match sign {
                '"' | '\\' => self.out.extend(['\\', sign]),
                sign if sign.is_control() => self.out.extend(sign.escape_default()),
                sign => self.out.push(sign),
            }
        }
        self.out.push('"');
    }
}
