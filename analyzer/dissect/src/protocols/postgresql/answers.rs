//! What the server says: which of its messages make an answer, and which request that answers.

use std::collections::VecDeque;

use super::asks::Asks;
use super::{Failure, Message, Response, Step, cstring};
use crate::layer::{Parsed, Successor};
use crate::limits;
use crate::protocols::statements::excerpt;

/// The server's side of a connection.
#[derive(Default)]
pub(super) struct Answers {
    /// What was sent and is not answered, in order.
    awaited: VecDeque<(u64, Awaited)>,
    /// The answer being built.
    answer: Option<Response>,
    /// The server passes over all that was sent before the next Sync (section 55.2.3).
    passes_over: bool,
    /// The next byte says whether encryption follows.
    encryption: bool,
    /// The server takes the data of a COPY, and ignores a Sync (section 55.2.6).
    copies: bool,
    /// What comes now was not asked for where nothing is awaited.
    knows_place: bool,
}

/// What answers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Awaited {
    /// All up to ReadyForQuery; an error ends it too.
    Login,
    /// All up to ReadyForQuery.
    Cycle,
    /// All up to the end of one command.
    Execute,
    /// A ReadyForQuery that is of no row.
    Sync,
}

impl Answers {
    pub(super) fn memory(&self) -> usize {
        self.awaited.capacity() * size_of::<(u64, Awaited)>()
    }

    pub(super) fn takes_copy(&self) -> bool {
        self.copies
    }

    pub(super) fn copy_ends(&mut self) {
        self.copies = false;
    }

    pub(super) fn await_encryption(&mut self) {
        self.encryption = true;
    }

    /// One byte (section 55.2.10); nothing where a server that knows no encryption answers with an error.
    pub(super) fn encryption(&mut self, byte: u8) -> Option<Parsed<Message>> {
        match (std::mem::take(&mut self.encryption), byte) {
            (true, b'S') => Some(Parsed::Become(1, None, Successor::tls())),
            (true, b'G') => Some(Parsed::Become(1, None, Successor::default())),
            (true, b'N') => Some(Parsed::Skip(1)),
            _ => None,
        }
    }

    /// Notes what is to be answered; false where too much is, or where the place is lost.
    pub(super) fn expect(&mut self, number: u64, awaited: Awaited, is_lost: bool) -> bool {
        let has_room = !is_lost && self.awaited.len() < 2 * limits::OPEN_REQUESTS;
        if has_room {
            self.awaited.push_back((number, awaited));
        }
        has_room
    }

    pub(super) fn lose_place(&mut self) {
        *self = Answers::default();
    }

    /// An answer that is not at its end, where it already says that something failed.
    pub(super) fn failure(&mut self) -> Option<Message> {
        let answer = self.answer.take_if(|answer| answer.error.is_some())?;
        let number = self.awaited.pop_front().map(|(number, _)| number);
        Some(Message::Response(Response { number, is_whole: true, ..answer }))
    }

    /// A message with a type; `body` is the beginning of what is in it.
    pub(super) fn message(&mut self, kind: u8, body: &[u8], asks: &Asks) -> Step {
        match kind {
            // NotificationResponse, NoticeResponse and ParameterStatus come whenever it pleases the server.
            b'A' | b'N' | b'S' => return self.meanwhile(),
            b'Z' => return self.ready(asks),
            _ => {}
        }
        if self.front() == Some(Awaited::Sync) && kind != b'E' {
            // What was closed after the last Execute of a batch.
            return Step::Skip;
        }
        match kind {
            b'D' => {
                let rows = &mut self.answer().data_rows;
                *rows = Some(rows.map_or(1, |rows| rows.saturating_add(1)));
                Step::Part
            }
            b'T' => {
                self.answer().data_rows.get_or_insert(0);
                Step::Part
            }
            b'C' => {
                self.answer().complete(cstring(body).map_or(body, |(tag, _)| tag));
                self.command_ends(asks)
            }
            b'I' | b's' => self.command_ends(asks),
            b'E' => self.error(body, asks),
            b'G' | b'W' => {
                self.copies_in();
                self.part()
            }
            b'R' | b'K' | b'v' | b'1' | b'2' | b'3' | b'n' | b't' | b'H' | b'd' | b'c' | b'V' => self.part(),
            _ => Step::Malformed,
        }
    }

    fn front(&self) -> Option<Awaited> {
        self.awaited.front().map(|(_, awaited)| *awaited)
    }

    fn answer(&mut self) -> &mut Response {
        self.answer.get_or_insert_default()
    }

    fn part(&mut self) -> Step {
        self.answer();
        Step::Part
    }

    fn meanwhile(&self) -> Step {
        if self.answer.is_some() { Step::Part } else { Step::Skip }
    }

    /// A Sync that was sent before is ignored too.
    fn copies_in(&mut self) {
        self.copies = true;
        if self.front() == Some(Awaited::Execute) {
            while self.awaited.get(1).is_some_and(|(_, awaited)| *awaited == Awaited::Sync) {
                self.awaited.remove(1);
            }
        }
    }

    fn command_ends(&mut self, asks: &Asks) -> Step {
        match self.front() {
            Some(Awaited::Execute) | None => self.done(asks),
            _ => Step::Part,
        }
    }

    fn error(&mut self, body: &[u8], asks: &Asks) -> Step {
        let failure = failure(body);
        self.copies = false;
        match self.front() {
            Some(Awaited::Login) => {
                self.answer().error = Some(failure);
                self.done(asks)
            }
            Some(Awaited::Cycle) => {
                // The first of several: those that follow come of a connection that ends.
                self.answer().error.get_or_insert(failure);
                Step::Part
            }
            Some(Awaited::Execute) => {
                self.answer().error = Some(failure);
                self.passes_over = true;
                self.done(asks)
            }
            // Of the commit that a Sync brings, which no request is about.
            Some(Awaited::Sync) => self.alone(failure, asks),
            // What failed was flushed, and what it is part of is still being asked.
            None if asks.is_asking() => {
                self.passes_over = true;
                self.answer().error.get_or_insert(failure);
                Step::Part
            }
            None => self.alone(failure, asks),
        }
    }

    /// An error that answers no request.
    fn alone(&mut self, failure: Failure, asks: &Asks) -> Step {
        let unasked = self.knows_place && !asks.is_lost();
        let error = Some(failure);
        let session = asks.session();
        self.answer = None;
        Step::Done(Message::Response(Response {
            error,
            session,
            is_whole: true,
            unasked,
            ..Response::default()
        }))
    }

    /// ReadyForQuery.
    fn ready(&mut self, asks: &Asks) -> Step {
        self.knows_place = true;
        let passed_over = std::mem::take(&mut self.passes_over);
        let step = match self.front() {
            Some(Awaited::Login | Awaited::Cycle) => return self.done(asks),
            Some(Awaited::Sync) => Step::Skip,
            Some(Awaited::Execute) if passed_over && self.answer.is_none() => Step::Skip,
            Some(Awaited::Execute) => self.unfinished(asks),
            None if self.answer.is_some() => return self.done(asks),
            None => return Step::Skip,
        };
        self.answer = None;
        while let Some((_, awaited)) = self.awaited.pop_front() {
            if awaited == Awaited::Sync {
                break;
            }
        }
        step
    }

    /// The end of its batch without the end of its command: it failed while it was being asked, or its end was not captured.
    fn unfinished(&mut self, asks: &Asks) -> Step {
        let number = self.awaited.pop_front().map(|(number, _)| number);
        let answer = self.answer.take().unwrap_or_default();
        let is_whole = answer.error.is_some();
        Step::Done(Message::Response(Response { number, is_whole, session: asks.session(), ..answer }))
    }

    fn done(&mut self, asks: &Asks) -> Step {
        let number = self.awaited.pop_front().map(|(number, _)| number);
        let answer = self.answer.take().unwrap_or_default();
        Step::Done(Message::Response(Response { number, is_whole: true, session: asks.session(), ..answer }))
    }
}

impl Response {
    /// A command tag: `INSERT 0 5`, `SELECT 5`, `CREATE TABLE`.
    fn complete(&mut self, tag: &[u8]) {
        let tag = excerpt(tag, limits::NAME_BYTES);
        let words: Vec<&str> = tag.split(' ').collect();
        let rows: Option<i64> = match words.as_slice() {
            [_, .., rows] => rows.parse().ok(),
            _ => None,
        };
        if let Some(rows) = rows {
            self.tag_rows = Some(self.tag_rows.unwrap_or(0).saturating_add(rows));
        }
        self.operation.get_or_insert_with(|| words[0].to_owned());
    }
}

/// Fields of an ErrorResponse (section 55.8): a letter and a text each.
fn failure(body: &[u8]) -> Failure {
    let mut failure = Failure::default();
    let mut rest = body;
    while let Some((&field, after)) = rest.split_first().filter(|(field, _)| **field != 0) {
        let (value, after) = cstring(after).unwrap_or((after, &[]));
        match field {
            b'C' => failure.code = Some(excerpt(value, 16)),
            b'M' => failure.message = Some(excerpt(value, limits::NAME_BYTES)),
            _ => {}
        }
        rest = after;
    }
    failure
}
