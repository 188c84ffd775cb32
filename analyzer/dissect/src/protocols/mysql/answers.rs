//! What the server says: which of its packets make an answer, and what that says.

use super::asks::{
    Asks, BINLOG_DUMP, BINLOG_DUMP_GTID, BULK_EXECUTE, Command, EXECUTE, FETCH, FIELD_LIST, PREPARE, QUERY,
    STATISTICS,
};
use super::wire::Reader;
use super::{Failure, Message, Request, Response, Step};
use crate::limits;
use crate::protocols::statements::excerpt;

/// The server's side of a connection.
#[derive(Default)]
pub(super) struct Answers {
    place: Place,
    login: Login,
    /// The answer being built.
    answer: Option<Response>,
    /// Requests that wait for their answers.
    awaited: u32,
    /// All was seen since the greeting.
    is_whole: bool,
}

/// How far a login is.
#[derive(Clone, Copy, Default, PartialEq)]
enum Login {
    /// Not seen.
    #[default]
    Unknown,
    /// The server greeted.
    Greeted,
    /// The client says who it is; more may be asked of it.
    Proving,
    Done,
}

/// What comes next.
#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    /// The beginning of an answer, or of the next of its results.
    #[default]
    First,
    /// Definitions of columns, and what follows them.
    Columns(u64),
    /// The EOF packet behind them, if there is one.
    BehindColumns,
    Rows,
    /// So many packets that define parameters and columns of what was prepared.
    Definitions(u32),
    /// All up to an EOF packet.
    UntilEof,
}

const OK: u8 = 0x00;
const FILE: u8 = 0xfb;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;
/// Length of an EOF packet; an OK packet in its place is longer.
const EOF_LEN: usize = 5;
/// SERVER_MORE_RESULTS_EXISTS
const MORE_RESULTS: u16 = 0x0008;
/// SERVER_STATUS_CURSOR_EXISTS
const CURSOR: u16 = 0x0040;

impl Answers {
    pub(super) fn awaits_login(&self) -> bool {
        matches!(self.login, Login::Greeted | Login::Unknown)
    }

    pub(super) fn proves_login(&self) -> bool {
        self.login == Login::Proving
    }

    pub(super) fn is_logged_in(&self) -> bool {
        self.login == Login::Done
    }

    /// The client says who it is.
    pub(super) fn prove_login(&mut self) {
        self.login = Login::Proving;
    }

    pub(super) fn expect(&mut self) {
        self.awaited = self.awaited.saturating_add(1);
    }

    /// A client that sends commands has logged in.
    pub(super) fn assume_login(&mut self) {
        if self.login == Login::Unknown {
            self.login = Login::Done;
        }
    }

    pub(super) fn lose_place(&mut self) {
        *self = Answers { login: self.login, ..Answers::default() };
    }

    /// How much is needed of a packet that begins with this byte.
    pub(super) fn needed(&self, first: Option<u8>, most: usize) -> usize {
        match (self.place, first) {
            (_, None) => 1,
            (Place::First, _) | (_, Some(EOF | ERR)) => most,
            _ => 1,
        }
    }

    /// A packet of `len` bytes that begins with `body`.
    pub(super) fn packet(
        &mut self,
        asks: &mut Asks,
        asked: Option<&Request>,
        sequence: u8,
        body: &[u8],
        len: usize,
    ) -> Step {
        let Some(&first) = body.first() else { return Step::Malformed };
        if sequence == 0 && first == 0x0a && self.awaited == 0 && self.login == Login::Unknown {
            return self.greeting(asks, body);
        }
        if first == ERR {
            return self.error(asks, sequence, body);
        }
        let command = asked.map(|asked| asked.command).or(asks.last);
        if self.proves_login() {
            return self.prove(asks, first);
        }
        match self.place {
            Place::First => self.first(asks, asked, command, sequence, body, len),
            Place::Columns(left) => {
                self.place = if left > 1 { Place::Columns(left - 1) } else { Place::BehindColumns };
                Step::Part
            }
            Place::BehindColumns if first == EOF && len == EOF_LEN => {
                let status = Reader::new(&body[1..]).u32().map_or(0, |both| (both >> 16) as u16);
                // The rows are to be fetched.
                if status & CURSOR != 0 {
                    return self.result_ends(asks, status);
                }
                self.place = Place::Rows;
                Step::Part
            }
            Place::BehindColumns | Place::Rows => {
                self.place = Place::Rows;
                self.row(asks, first, body, len)
            }
            // Where it is not known whether EOF packets are among them they are not counted.
            Place::Definitions(_) if asks.leaves_out_eof().is_none() && first == EOF && len == EOF_LEN => {
                Step::Part
            }
            Place::Definitions(left) => self.definitions(asks, left - 1),
            Place::UntilEof if first == EOF && len < super::FULL => self.done(asks, true),
            Place::UntilEof => Step::Part,
        }
    }

    /// Protocol::HandshakeV10: what is needed of it is what the server is able to do.
    fn greeting(&mut self, asks: &mut Asks, body: &[u8]) -> Step {
        let mut reader = Reader::new(&body[1..]);
        reader.text();
        // A thread, the first part of the challenge, and a zero.
        let low = reader.take(4 + 8 + 1).and_then(|_| reader.u16());
        // A character set and the status.
        let high = reader.take(1 + 2).and_then(|_| reader.u16());
        let Some(low) = low else { return Step::Malformed };
        asks.offer(u32::from(high.unwrap_or(0)) << 16 | u32::from(low));
        self.login = Login::Greeted;
        self.is_whole = true;
        Step::Skip
    }

    /// The exchange of a login: OK ends it, all else asks for more.
    fn prove(&mut self, asks: &mut Asks, first: u8) -> Step {
        if first != OK {
            self.answer.get_or_insert_default();
            return Step::Part;
        }
        self.login = Login::Done;
        self.done(asks, true)
    }

    fn first(
        &mut self,
        asks: &mut Asks,
        asked: Option<&Request>,
        command: Option<Command>,
        sequence: u8,
        body: &[u8],
        len: usize,
    ) -> Step {
        let first = body[0];
        let code = match command {
            Some(Command::Com(code)) => Some(code),
            Some(Command::Login) | None => None,
        };
        let has_rows = matches!(code, Some(QUERY | EXECUTE | BULK_EXECUTE) | None);
        match (code, first) {
            (Some(PREPARE), OK) => return self.prepared(asks, asked, body),
            (Some(STATISTICS), _) => return self.done(asks, true),
            (Some(FETCH), _) => {
                self.place = Place::Rows;
                return self.row(asks, first, body, len);
            }
            (Some(FIELD_LIST | BINLOG_DUMP | BINLOG_DUMP_GTID), _) if first != EOF => {
                self.place = Place::UntilEof;
                self.answer.get_or_insert_default();
                return Step::Part;
            }
            // The EOF behind definitions, where it was not known whether there would be one.
            (_, EOF) if len == EOF_LEN && self.awaited == 0 && sequence > 1 => return Step::Skip,
            (_, EOF) => return self.done(asks, true),
            (_, OK) => {}
            (_, FILE) if has_rows => {
                asks.sends_file = true;
                self.answer.get_or_insert_default();
                return Step::Part;
            }
            _ => return self.columns(body, len),
        }
        let mut reader = Reader::new(&body[1..]);
        let changed = reader.number();
        reader.number();
        let status = reader.u16().unwrap_or(0);
        if has_rows {
            let rows = &mut self.answer.get_or_insert_default().rows;
            *rows = changed.map(|changed| rows.unwrap_or(0).saturating_add(changed)).or(*rows);
        }
        self.result_ends(asks, status)
    }

    /// The number of columns; MariaDB may add whether their definitions follow.
    fn columns(&mut self, body: &[u8], len: usize) -> Step {
        let mut reader = Reader::new(body);
        let count = reader.number().filter(|count| (1..=u64::from(u16::MAX)).contains(count));
        let Some(count) = count.filter(|_| len <= 4) else { return Step::Malformed };
        self.answer.get_or_insert_default().rows.get_or_insert(0);
        self.place = if reader.u8() == Some(0) { Place::BehindColumns } else { Place::Columns(count) };
        Step::Part
    }

    /// A row, or what ends them: an EOF packet, or an OK packet in its place. No row begins with that byte unless it fills its packet.
    fn row(&mut self, asks: &mut Asks, first: u8, body: &[u8], len: usize) -> Step {
        if first != EOF || len >= super::FULL {
            let rows = &mut self.answer.get_or_insert_default().rows;
            *rows = Some(rows.unwrap_or(0).saturating_add(1));
            return Step::Part;
        }
        let mut reader = Reader::new(&body[1..]);
        if len == EOF_LEN {
            reader.u16();
        } else {
            reader.number();
            reader.number();
        }
        let status = reader.u16().unwrap_or(0);
        self.result_ends(asks, status)
    }

    fn result_ends(&mut self, asks: &mut Asks, status: u16) -> Step {
        self.place = Place::First;
        if status & MORE_RESULTS != 0 {
            self.answer.get_or_insert_default();
            return Step::Part;
        }
        self.done(asks, true)
    }

    /// COM_STMT_PREPARE_OK: the id, and how many definitions follow.
    fn prepared(&mut self, asks: &mut Asks, asked: Option<&Request>, body: &[u8]) -> Step {
        let mut reader = Reader::new(&body[1..]);
        let (Some(id), Some(columns), Some(parameters)) = (reader.u32(), reader.u16(), reader.u16()) else {
            return Step::Malformed;
        };
        asks.prepared(id, asked);
        self.answer.get_or_insert_default().statement_id = Some(id);
        let groups = [parameters, columns].into_iter().filter(|count| *count > 0);
        let eof = u32::from(asks.leaves_out_eof() == Some(false));
        self.definitions(asks, groups.map(|count| u32::from(count) + eof).sum())
    }

    fn definitions(&mut self, asks: &mut Asks, left: u32) -> Step {
        if left == 0 {
            return self.done(asks, true);
        }
        self.place = Place::Definitions(left);
        Step::Part
    }

    /// ERR_Packet; the number 0xffff is that of a progress report of MariaDB.
    fn error(&mut self, asks: &mut Asks, sequence: u8, body: &[u8]) -> Step {
        let mut reader = Reader::new(&body[1..]);
        let Some(code) = reader.u16() else { return Step::Malformed };
        if code == u16::MAX {
            self.answer.get_or_insert_default();
            return Step::Part;
        }
        let rest = reader.rest();
        let (sqlstate, message) = match rest.split_at_checked(6) {
            Some((state, message)) if state[0] == b'#' => (Some(excerpt(&state[1..], 5)), message),
            _ => (None, rest),
        };
        let message = excerpt(message, limits::NAME_BYTES);
        // A server that is full says so instead of greeting.
        let unasked = self.awaited == 0 && (self.is_whole || sequence == 0);
        let answer = self.answer.get_or_insert_default();
        answer.error = Some(Failure { code, sqlstate, message });
        answer.unasked = unasked;
        self.done(asks, false)
    }

    fn done(&mut self, asks: &mut Asks, succeeded: bool) -> Step {
        self.place = Place::First;
        self.awaited = self.awaited.saturating_sub(1);
        let answer = self.answer.take().unwrap_or_default();
        let session = asks.session();
        asks.answered(succeeded);
        Step::Done(Message::Response(Response { session, ..answer }))
    }
}
