//! What is kept of a command or of its answer as its document is walked: names, the outcome, and counts.

use super::bson::{ARRAY, BINARY, DOCUMENT, STRING, Value};
use super::{OP_DELETE, OP_GET_MORE, OP_INSERT, OP_QUERY, OP_UPDATE};
use crate::limits;
use crate::protocols::statements::excerpt;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Facts {
    is_answer: bool,
    /// Name of the command, as the first key has it.
    pub operation: Option<String>,
    pub collection: Option<String>,
    pub database: Option<String>,
    pub user: Option<String>,
    /// The beginning of the command's document.
    pub document: Vec<u8>,
    /// Name of a sequence of documents beside it, and its beginning.
    pub sequence: Option<(String, Vec<u8>)>,
    pub ok: Option<bool>,
    pub failure: Failure,
    /// That of a single write, or of the wish that others have it too.
    pub write_failure: Option<Failure>,
    pub n: Option<i64>,
    /// Documents of a batch, or values.
    pub counted: Option<i64>,
    /// Bytes of it are missing.
    pub is_cut: bool,
}

/// What failed.
#[derive(Debug, Default)]
pub(super) struct Failure {
    pub code: Option<i64>,
    pub name: Option<String>,
    pub message: Option<String>,
}

/// Where in a document a value lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    Top,
    /// `cursor`
    Cursor,
    /// What is counted.
    Counted,
    /// `writeErrors`
    WriteErrors,
    /// One of them, or `writeConcernError`.
    WriteError,
    /// `speculativeAuthenticate`
    Login,
}

/// What to do with a value.
pub(super) enum Wish {
    Pass,
    Take,
    Enter(At),
}

/// Commands whose name stands before no collection.
const NO_COLLECTION: [&str; 8] = [
    "getParameter",
    "setParameter",
    "getLog",
    "renameCollection",
    "killOp",
    "authenticate",
    "explain",
    "hello",
];

impl Facts {
    pub(super) fn new(is_answer: bool) -> Facts {
        Facts { is_answer, ..Facts::default() }
    }

    pub(super) fn memory(&self) -> usize {
        let sequence = self.sequence.as_ref().map_or(0, |(_, bytes)| bytes.capacity());
        self.document.capacity() + sequence
    }

    /// Bytes of the document as they pass.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if !self.is_answer && !self.is_cut {
            let room = limits::STATEMENT_BYTES.saturating_sub(self.document.len());
            self.document.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    pub(super) fn begin_sequence(&mut self, name: &[u8]) {
        if !self.is_answer && self.sequence.is_none() {
            self.sequence = Some((excerpt(name, limits::NAME_BYTES), Vec::new()));
        }
    }

    pub(super) fn keep_sequence(&mut self, bytes: &[u8]) {
        let Some((_, kept)) = self.sequence.as_mut().filter(|_| !self.is_cut) else { return };
        let room = (limits::STATEMENT_BYTES / 2).saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// `database.collection` of a message before OP_MSG; true where a document follows that is a command.
    pub(super) fn namespace(&mut self, name: &str, code: u32) -> bool {
        let (database, collection) = name.split_once('.').unwrap_or((name, ""));
        self.database = Some(database.to_owned());
        if collection == "$cmd" {
            return true;
        }
        self.collection = Some(collection.to_owned());
        let operation = match code {
            OP_QUERY => "find",
            OP_INSERT => "insert",
            OP_UPDATE => "update",
            OP_DELETE => "delete",
            OP_GET_MORE => "getMore",
            _ => return false,
        };
        self.operation = Some(operation.to_owned());
        false
    }

    /// What is wanted of an element.
    pub(super) fn wish(&mut self, at: At, name: &[u8], kind: u8) -> Wish {
        if self.is_answer {
            self.wish_of_answer(at, name, kind)
        } else {
            self.wish_of_command(at, name, kind)
        }
    }

    fn wish_of_command(&mut self, at: At, name: &[u8], kind: u8) -> Wish {
        match (at, name, kind) {
            (At::Top, ..) if self.operation.is_none() => Wish::Take,
            (At::Top, b"$db" | b"collection" | b"saslSupportedMechs" | b"user", STRING) => Wish::Take,
            (At::Top | At::Login, b"payload", BINARY) => Wish::Take,
            (At::Top, b"speculativeAuthenticate", DOCUMENT) => Wish::Enter(At::Login),
            _ => Wish::Pass,
        }
    }

    fn wish_of_answer(&mut self, at: At, name: &[u8], kind: u8) -> Wish {
        match (at, name, kind) {
            (At::Top, b"ok" | b"code" | b"codeName" | b"errmsg" | b"$err" | b"n", _) => Wish::Take,
            (At::Top, b"cursor", DOCUMENT) => Wish::Enter(At::Cursor),
            (At::Cursor, b"firstBatch" | b"nextBatch", ARRAY) | (At::Top, b"values", ARRAY) => {
                self.counted = Some(0);
                Wish::Enter(At::Counted)
            }
            (At::Counted, ..) => {
                self.counted = self.counted.map(|counted| counted + 1);
                Wish::Pass
            }
            (At::Top, b"writeErrors", ARRAY) => Wish::Enter(At::WriteErrors),
            (At::WriteErrors, b"0", DOCUMENT) | (At::Top, b"writeConcernError", DOCUMENT) => {
                Wish::Enter(At::WriteError)
            }
            (At::WriteError, b"code" | b"codeName" | b"errmsg", _) => Wish::Take,
            _ => Wish::Pass,
        }
    }

    /// A value that was wished for.
    pub(super) fn take(&mut self, at: At, name: &[u8], value: Value<'_>) {
        let text = || Some(excerpt(value.content()?, limits::NAME_BYTES)).filter(|_| value.kind == STRING);
        if self.is_answer {
            let failure = match at {
                At::WriteError => self.write_failure.get_or_insert_default(),
                _ => &mut self.failure,
            };
            match name {
                b"ok" => self.ok = value.number().map(|ok| ok != 0),
                b"n" => self.n = value.number(),
                // The first of several.
                b"code" if failure.code.is_none() => failure.code = value.number(),
                b"codeName" if failure.name.is_none() => failure.name = text(),
                b"errmsg" | b"$err" if failure.message.is_none() => failure.message = text(),
                _ => {}
            }
            return;
        }
        match name {
            _ if self.operation.is_none() => self.command(excerpt(name, limits::NAME_BYTES), text()),
            b"$db" => self.database = text(),
            b"collection" => self.collection = self.collection.take().or_else(text),
            b"user" if self.is("authenticate") => self.user = text(),
            // `database.user`
            b"saslSupportedMechs" => {
                self.user = text().and_then(|text| text.split_once('.').map(|(_, user)| user.to_owned()));
            }
            b"payload" if at == At::Login || self.is("saslStart") => {
                self.user = value.content().and_then(user).or(self.user.take());
            }
            _ => {}
        }
    }

    fn command(&mut self, name: String, value: Option<String>) {
        let is_of_users = name.contains("User") || name.contains("Role");
        self.collection = value.filter(|_| !is_of_users && !NO_COLLECTION.contains(&name.as_str()));
        self.operation = Some(name);
    }

    fn is(&self, operation: &str) -> bool {
        self.operation.as_deref() == Some(operation)
    }
}

/// Who logs in, as the first message of SCRAM (`n,,n=user,r=nonce`, RFC 5802 section 7) or PLAIN (RFC 4616) has it.
fn user(payload: &[u8]) -> Option<String> {
    if let [0, rest @ ..] = payload {
        let end = memchr::memchr(0, rest)?;
        return Some(excerpt(&rest[..end], limits::NAME_BYTES));
    }
    let mut attributes = payload.split(|byte| *byte == b',');
    let name = attributes.find_map(|attribute| attribute.strip_prefix(b"n="))?;
    Some(excerpt(name, limits::NAME_BYTES).replace("=2C", ",").replace("=3D", "="))
}
