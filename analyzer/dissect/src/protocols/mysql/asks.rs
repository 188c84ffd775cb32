//! What a client says: its login, its commands, and the texts of the statements it prepared.

use std::sync::Arc;

use super::answers::Answers;
use super::wire::Reader;
use super::{Message, Request, Session, Step};
use crate::limits;
use crate::protocols::statements::{Statements, excerpt};

/// The client's side of a connection.
#[derive(Default)]
pub(super) struct Asks {
    session: Option<Arc<Session>>,
    /// What both ends are able to do; unknown where the login was not seen.
    capabilities: Option<u32>,
    offered: Option<u32>,
    statements: Statements<u32>,
    /// The text that was prepared last, which MariaDB may execute before it has an id.
    prepared: Option<Arc<str>>,
    /// The database that the last command chooses, if it succeeds.
    chosen: Option<String>,
    /// The last command.
    pub(super) last: Option<Command>,
    /// The server asked for a file: what comes is no command, up to an empty packet.
    pub(super) sends_file: bool,
}

/// A command, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Command {
    Login,
    Com(u8),
}

/// Names of the commands.
#[rustfmt::skip]
const NAMES: [&str; 0x20] = [
    "COM_SLEEP", "COM_QUIT", "COM_INIT_DB", "COM_QUERY", "COM_FIELD_LIST", "COM_CREATE_DB", "COM_DROP_DB", "COM_REFRESH",
    "COM_SHUTDOWN", "COM_STATISTICS", "COM_PROCESS_INFO", "COM_CONNECT", "COM_PROCESS_KILL", "COM_DEBUG", "COM_PING", "COM_TIME",
    "COM_DELAYED_INSERT", "COM_CHANGE_USER", "COM_BINLOG_DUMP", "COM_TABLE_DUMP", "COM_CONNECT_OUT", "COM_REGISTER_SLAVE",
    "COM_STMT_PREPARE", "COM_STMT_EXECUTE", "COM_STMT_SEND_LONG_DATA", "COM_STMT_CLOSE", "COM_STMT_RESET", "COM_SET_OPTION",
    "COM_STMT_FETCH", "COM_DAEMON", "COM_BINLOG_DUMP_GTID", "COM_RESET_CONNECTION",
];

pub(super) const QUIT: u8 = 0x01;
pub(super) const INIT_DB: u8 = 0x02;
pub(super) const QUERY: u8 = 0x03;
pub(super) const FIELD_LIST: u8 = 0x04;
pub(super) const STATISTICS: u8 = 0x09;
pub(super) const CHANGE_USER: u8 = 0x11;
pub(super) const BINLOG_DUMP: u8 = 0x12;
pub(super) const PREPARE: u8 = 0x16;
pub(super) const EXECUTE: u8 = 0x17;
pub(super) const SEND_LONG_DATA: u8 = 0x18;
pub(super) const CLOSE: u8 = 0x19;
pub(super) const RESET: u8 = 0x1a;
pub(super) const FETCH: u8 = 0x1c;
pub(super) const BINLOG_DUMP_GTID: u8 = 0x1e;
/// Of MariaDB.
pub(super) const BULK_EXECUTE: u8 = 0xfa;

const CONNECT_WITH_DB: u32 = 1 << 3;
const COMPRESS: u32 = 1 << 5;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const LENENC_AUTH: u32 = 1 << 21;
const DEPRECATE_EOF: u32 = 1 << 24;
const ZSTD: u32 = 1 << 26;
const QUERY_ATTRIBUTES: u32 = 1 << 27;

impl Command {
    pub(super) fn name(self) -> &'static str {
        match self {
            Command::Login => "Login",
            Command::Com(BULK_EXECUTE) => "COM_STMT_BULK_EXECUTE",
            Command::Com(code) => NAMES.get(usize::from(code)).copied().unwrap_or("COM_UNKNOWN"),
        }
    }

    pub(super) fn is_one_way(self) -> bool {
        matches!(self, Command::Com(QUIT | SEND_LONG_DATA | CLOSE))
    }

    pub(super) fn is_known(code: u8) -> bool {
        code == BULK_EXECUTE || usize::from(code) < NAMES.len()
    }
}

impl Asks {
    pub(super) fn memory(&self) -> usize {
        self.statements.memory()
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.clone()
    }

    /// All that follows the login is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.has(COMPRESS) == Some(true) || self.has(ZSTD) == Some(true)
    }

    /// No EOF packet follows the definitions of columns.
    pub(super) fn leaves_out_eof(&self) -> Option<bool> {
        self.has(DEPRECATE_EOF)
    }

    fn has(&self, capability: u32) -> Option<bool> {
        self.capabilities.map(|both| both & capability != 0)
    }

    /// Bytes are missing: who logged in and to which database is not known any more.
    pub(super) fn lose_place(&mut self) {
        self.session = None;
        self.prepared = None;
        self.chosen = None;
        self.last = None;
        self.sends_file = false;
    }

    /// What the server is able to do, as its greeting says.
    pub(super) fn offer(&mut self, capabilities: u32) {
        self.offered = Some(capabilities);
    }

    /// A statement was prepared and has an id.
    pub(super) fn prepared(&mut self, id: u32, asked: Option<&Request>) {
        let text = asked.and_then(|asked| asked.statement.clone()).or(self.prepared.clone());
        if let Some(text) = text {
            self.statements.remember(id, text);
        }
    }

    /// The last command succeeded, or it did not.
    pub(super) fn answered(&mut self, succeeded: bool) {
        if let Some(database) = self.chosen.take().filter(|_| succeeded) {
            let mut session = self.session.as_deref().cloned().unwrap_or_default();
            session.database = Some(database);
            self.session = Some(Arc::new(session));
        }
    }

    /// A packet of `len` bytes that begins with `body`.
    pub(super) fn packet(&mut self, answers: &mut Answers, sequence: u8, body: &[u8], len: usize) -> Step {
        if self.sends_file {
            self.sends_file = len > 0;
            return Step::Skip;
        }
        if sequence == 0 {
            return self.command(answers, body);
        }
        if answers.awaits_login() {
            return self.login(answers, body, len);
        }
        // What proves a login in further steps is not looked at.
        if answers.proves_login() { Step::Skip } else { Step::Malformed }
    }

    fn login(&mut self, answers: &mut Answers, body: &[u8], len: usize) -> Step {
        let mut reader = Reader::new(body);
        let Some(capabilities) = reader.u32().filter(|capabilities| capabilities & PROTOCOL_41 != 0) else {
            return Step::Malformed;
        };
        self.capabilities = Some(capabilities & self.offered.unwrap_or(u32::MAX));
        if capabilities & TLS != 0 && len == 32 {
            return Step::Become;
        }
        // The largest packet, the character set, and 23 bytes without meaning.
        if reader.take(4 + 1 + 23).is_none() {
            return Step::Malformed;
        }
        let user = reader.text();
        let proof = if capabilities & LENENC_AUTH != 0 {
            reader.bytes()
        } else if capabilities & SECURE_CONNECTION != 0 {
            reader.u8().and_then(|len| reader.take(len.into()))
        } else {
            Some(reader.text())
        };
        let has_database = capabilities & CONNECT_WITH_DB != 0 && proof.is_some();
        self.log_in(user, if has_database { reader.text() } else { b"" });
        answers.prove_login();
        self.ask(answers, Command::Login, None, None)
    }

    fn log_in(&mut self, user: &[u8], database: &[u8]) {
        let named = |text: &[u8]| (!text.is_empty()).then(|| excerpt(text, limits::NAME_BYTES));
        self.session = Some(Arc::new(Session { user: named(user), database: named(database) }));
    }

    fn command(&mut self, answers: &mut Answers, body: &[u8]) -> Step {
        let Some((&code, content)) = body.split_first().filter(|(code, _)| Command::is_known(**code)) else {
            return Step::Malformed;
        };
        answers.assume_login();
        let (mut text, mut id) = (None, None);
        self.chosen = None;
        match code {
            QUERY => text = self.query(content),
            PREPARE => {
                text = Some(excerpt(content, limits::STATEMENT_BYTES).into());
                self.prepared = text.clone();
            }
            EXECUTE | SEND_LONG_DATA | CLOSE | RESET | FETCH | BULK_EXECUTE => {
                let given = Reader::new(content).u32();
                // MariaDB: the one that was prepared last.
                let is_last = given == Some(u32::MAX);
                id = given.filter(|_| !is_last);
                text =
                    if is_last { self.prepared.clone() } else { id.and_then(|id| self.statements.text(&id)) };
            }
            CHANGE_USER => {
                let mut reader = Reader::new(content);
                let user = reader.text();
                let proof = reader.u8().and_then(|len| reader.take(len.into()));
                self.log_in(user, if proof.is_some() { reader.text() } else { b"" });
                answers.prove_login();
            }
            INIT_DB => {
                let name = excerpt(content, limits::NAME_BYTES);
                text = Some(name.as_str().into());
                self.chosen = Some(name);
            }
            _ => {}
        }
        if let (CLOSE, Some(id)) = (code, id) {
            self.statements.forget(&id);
        }
        self.ask(answers, Command::Com(code), text, id)
    }

    /// The text of a query; behind its attributes where both ends know of them.
    fn query(&mut self, content: &[u8]) -> Option<Arc<str>> {
        let has_attributes = self.has(QUERY_ATTRIBUTES).unwrap_or(content.starts_with(&[0, 1]));
        let text = if has_attributes { behind_attributes(content)? } else { content };
        let text: Arc<str> = excerpt(text, limits::STATEMENT_BYTES).into();
        self.chosen = uses(&text);
        Some(text)
    }

    fn ask(
        &mut self,
        answers: &mut Answers,
        command: Command,
        statement: Option<Arc<str>>,
        statement_id: Option<u32>,
    ) -> Step {
        if !command.is_one_way() {
            answers.expect();
            self.last = Some(command);
        }
        Step::Done(Message::Request(Request {
            session: self.session.clone(),
            command,
            statement,
            statement_id,
        }))
    }
}

/// `USE name`
fn uses(text: &str) -> Option<String> {
    let (verb, name) = text.trim().trim_end_matches(';').split_once(char::is_whitespace)?;
    let name = name.trim().trim_matches('`');
    (verb.eq_ignore_ascii_case("use") && !name.is_empty()).then(|| name.to_owned())
}

/// Behind the parameters of a query (COM_QUERY, CLIENT_QUERY_ATTRIBUTES).
fn behind_attributes(content: &[u8]) -> Option<&[u8]> {
    const MOST: u64 = 1024;
    let mut reader = Reader::new(content);
    let count = reader.number().filter(|count| *count <= MOST)? as usize;
    reader.number()?;
    if count == 0 {
        return Some(reader.rest());
    }
    let nulls = reader.take(count.div_ceil(8))?;
    reader.u8().filter(|binds| *binds == 1)?;
    let mut kinds = Vec::with_capacity(count);
    for _ in 0..count {
        kinds.push(reader.u16()? as u8);
        reader.bytes()?;
    }
    for (at, kind) in kinds.into_iter().enumerate() {
        if nulls[at / 8] & 1 << (at % 8) == 0 {
            pass_value(&mut reader, kind)?;
        }
    }
    Some(reader.rest())
}

/// A value in binary (Binary Protocol Value).
fn pass_value(reader: &mut Reader<'_>, kind: u8) -> Option<()> {
    let len = match kind {
        0x06 => 0,
        0x01 => 1,
        0x02 | 0x0d => 2,
        0x03 | 0x04 | 0x09 => 4,
        0x05 | 0x08 => 8,
        // Dates and times have one byte of length.
        0x07 | 0x0a..=0x0c => reader.u8()?.into(),
        _ => return reader.bytes().map(|_| ()),
    };
    reader.take(len).map(|_| ())
}
