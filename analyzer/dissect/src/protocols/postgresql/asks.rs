//! What a client says: which of its messages are a request, and what is remembered for those that follow.

use std::sync::Arc;

use super::answers::{Answers, Awaited};
use super::{Message, Request, Session, Step, cstring};
use crate::limits;
use crate::protocols::statements::{Statements, excerpt};

/// The client's side of a connection.
#[derive(Default)]
pub(super) struct Asks {
    session: Option<Arc<Session>>,
    /// Prepared statements by name; the one without name is there too.
    statements: Statements<Box<[u8]>>,
    /// Texts of the portals they were bound to.
    portals: Statements<Box<[u8]>>,
    /// What was sent since the last request, if anything was.
    begun: Option<Begun>,
    /// An Execute was sent since the last Sync.
    executes: bool,
    sent: u64,
    /// The place was lost: what is asked from now on has no place in order.
    lost: bool,
}

struct Begun {
    command: &'static str,
    statement: Option<Arc<str>>,
    first_len: usize,
}

/// Request codes in the place of a version (section 55.7).
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;

impl Asks {
    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// The client has begun what it has not finished.
    pub(super) fn is_asking(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn memory(&self) -> usize {
        self.statements.memory() + self.portals.memory()
    }

    /// Bytes are missing: what was prepared in them is not known, and what answers what is not either.
    pub(super) fn lose_place(&mut self, in_answers: bool, answers: &mut Answers) {
        self.lost = true;
        self.begun = None;
        if in_answers {
            answers.lose_place();
        } else {
            self.statements = Statements::default();
            self.portals = Statements::default();
        }
    }

    /// A first message: its code and what follows.
    pub(super) fn startup(&mut self, answers: &mut Answers, body: &[u8], len: usize) -> Step {
        let Some((code, parameters)) = body.split_first_chunk() else { return Step::Malformed };
        match u32::from_be_bytes(*code) {
            TLS | GSSAPI => {
                answers.await_encryption();
                Step::Skip
            }
            CANCEL => {
                let request = self.request("CancelRequest", None, len);
                Step::Done(Message::Request(Request { one_way: true, ..request }))
            }
            version if version >> 16 == 3 => {
                self.session = Some(Arc::new(session(parameters)));
                self.ask(answers, Awaited::Login, "Startup", None, len)
            }
            _ => Step::Malformed,
        }
    }

    /// A message with a type; `body` is the beginning of what is in it.
    pub(super) fn message(&mut self, answers: &mut Answers, kind: u8, body: &[u8], len: usize) -> Step {
        match kind {
            b'Q' => {
                let text = cstring(body).map_or(body, |(text, _)| text);
                self.begun = None;
                self.executes = false;
                self.ask(answers, Awaited::Cycle, "Query", Some(kept(text)), len)
            }
            b'F' => self.ask(answers, Awaited::Cycle, "FunctionCall", None, len),
            b'P' | b'B' | b'D' | b'C' => self.prepare(kind, body, len),
            b'E' => {
                let portal = cstring(body).map_or(body, |(name, _)| name);
                let statement = self.portals.text(portal);
                let first_len = self.begun.take().map_or(len, |begun| begun.first_len);
                self.executes = true;
                self.ask(answers, Awaited::Execute, "Execute", statement, first_len)
            }
            b'S' if answers.takes_copy() => Step::Skip,
            b'S' => self.sync(answers),
            b'H' if self.begun.is_some() => Step::Part,
            b'c' | b'f' => {
                answers.copy_ends();
                Step::Skip
            }
            // Flush; proof of a login; data of a COPY; Terminate.
            b'H' | b'p' | b'd' | b'X' => Step::Skip,
            _ => Step::Malformed,
        }
    }

    /// Parse, Bind, Describe and Close.
    fn prepare(&mut self, kind: u8, body: &[u8], len: usize) -> Step {
        let Some((command, statement)) = self.remember(kind, body) else { return Step::Malformed };
        let begun = self.begun.get_or_insert(Begun { command, statement: None, first_len: len });
        // The Parse says more of what is asked than what follows it.
        if begun.command != "Parse" && (command != "Describe" || begun.command == "Close") {
            begun.command = command;
        }
        begun.statement = statement.or(begun.statement.take());
        Step::Part
    }

    /// The name of the message, and the text that it is about.
    fn remember(&mut self, kind: u8, body: &[u8]) -> Option<(&'static str, Option<Arc<str>>)> {
        match kind {
            b'P' => {
                let (name, rest) = cstring(body)?;
                let text = kept(cstring(rest).map_or(rest, |(text, _)| text));
                self.statements.remember(name.into(), text.clone());
                Some(("Parse", Some(text)))
            }
            b'B' => {
                let (portal, rest) = cstring(body)?;
                let (name, _) = cstring(rest)?;
                let text = self.statements.text(name);
                match &text {
                    Some(text) => self.portals.remember(portal.into(), text.clone()),
                    None => self.portals.forget(portal),
                }
                Some(("Bind", text))
            }
            _ => {
                let (&of, rest) = body.split_first()?;
                let (name, _) = cstring(rest)?;
                let of = if of == b'S' { &mut self.statements } else { &mut self.portals };
                let text = of.text(name);
                if kind == b'C' {
                    of.forget(name);
                }
                Some((if kind == b'C' { "Close" } else { "Describe" }, text))
            }
        }
    }

    /// The end of a batch: a request of its own if nothing in it is executed.
    fn sync(&mut self, answers: &mut Answers) -> Step {
        let executes = std::mem::take(&mut self.executes);
        match self.begun.take() {
            Some(begun) if !executes => {
                self.ask(answers, Awaited::Cycle, begun.command, begun.statement, begun.first_len)
            }
            _ => {
                self.lost |= !answers.expect(0, Awaited::Sync, self.lost);
                Step::Skip
            }
        }
    }

    fn ask(
        &mut self,
        answers: &mut Answers,
        awaited: Awaited,
        command: &'static str,
        statement: Option<Arc<str>>,
        first_len: usize,
    ) -> Step {
        let mut request = self.request(command, statement, first_len);
        self.sent += 1;
        self.lost |= !answers.expect(self.sent, awaited, self.lost);
        // What is not expected is not answered either.
        request.number = Some(if self.lost { u64::MAX } else { self.sent });
        Step::Done(Message::Request(request))
    }

    fn request(&self, command: &'static str, statement: Option<Arc<str>>, first_len: usize) -> Request {
        let session = self.session.clone();
        Request { number: None, session, command, statement, first_len, one_way: false }
    }

    /// Whose login it is.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.clone()
    }
}

fn kept(text: &[u8]) -> Arc<str> {
    excerpt(text, limits::STATEMENT_BYTES).into()
}

/// Names and values up to an empty name. The database is called like the user where it is not named.
fn session(parameters: &[u8]) -> Session {
    let mut session = Session::default();
    let mut rest = parameters;
    while let Some((name, after)) = cstring(rest).filter(|(name, _)| !name.is_empty()) {
        let Some((value, after)) = cstring(after) else { break };
        match name {
            b"user" => session.user = Some(excerpt(value, limits::NAME_BYTES)),
            b"database" => session.database = Some(excerpt(value, limits::NAME_BYTES)),
            _ => {}
        }
        rest = after;
    }
    session.database = session.database.or_else(|| session.user.clone());
    session
}
