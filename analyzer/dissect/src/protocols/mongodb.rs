//! MongoDB's wire protocol (OP_MSG, what came before it, and OP_COMPRESSED around either). In: the bytes of both directions. Out: commands
//! with their answers, joined by request ids. Documents are walked as they pass: what a row needs is kept, and of a command its
//! beginning; data is counted and never held. What a login proves itself with is never kept.

mod bson;
mod building;
mod compressed;
mod facts;
mod render;
mod row;
mod shape;

use std::sync::Arc;

use shark_schema::tables::db::{DbBlock, TABLE};

use self::bson::Walker;
use self::facts::Facts;
use super::rest::Rest;
use crate::batch::{CallTable, call_table};
use crate::layer::{
    Begin, Call, Carrier, Direction, End, Gap, Layer, Meta, Options, Pairing, Parsed, Probe, Role,
};
use crate::rows::RowSink;

/// The layer.
#[derive(Default)]
pub struct Mongodb {
    building: [Option<Box<Building>>; 2],
    /// Of each direction, the message whose head misses bytes.
    rests: [Option<Rest<Message>>; 2],
    /// Who logged in.
    user: Option<Arc<str>>,
    /// The answer that announced another one, and what they answer (exhaust).
    more: Option<(u32, Option<Arc<Asked>>)>,
}

/// A message as it passes.
struct Building {
    head: Head,
    /// Bytes that follow.
    left: usize,
    place: Place,
    flags: u32,
    facts: Facts,
    /// Documents that an OP_REPLY returns.
    returned: Option<i64>,
}

/// What comes next.
enum Place {
    /// What stands before the documents.
    Fixed,
    /// A section of an OP_MSG: its kind.
    Section,
    Document(Walker),
    /// Documents of a section, which are passed.
    Sequence(usize),
    /// Of no interest.
    Rest,
}

/// Bytes that every message begins with.
#[derive(Clone, Copy)]
struct Head {
    len: usize,
    id: u32,
    answers: u32,
    code: u32,
}

/// A request or its answer.
#[derive(Debug)]
pub enum Message {
    /// What a client asks.
    Request(Request),
    /// What the server answers.
    Response(Box<Response>),
}

/// What a client asks.
#[derive(Debug)]
pub struct Request {
    id: u32,
    code: u32,
    asked: Arc<Asked>,
    /// Nothing answers it.
    one_way: bool,
}

/// What a request says.
#[derive(Debug, Default)]
struct Asked {
    user: Option<Arc<str>>,
    facts: Facts,
}

/// What the server answers.
#[derive(Debug)]
pub struct Response {
    answers: u32,
    code: u32,
    facts: Facts,
    returned: Option<i64>,
    /// What it answers, where that answered before (exhaust).
    asked: Option<Arc<Asked>>,
    is_further: bool,
}

/// Bytes of [`Head`].
const HEAD: usize = 16;
/// The longest message: MaxMessageSizeBytes.
const LONGEST: usize = 48_000_000;

const OP_REPLY: u32 = 1;
const OP_UPDATE: u32 = 2001;
const OP_INSERT: u32 = 2002;
const OP_QUERY: u32 = 2004;
const OP_GET_MORE: u32 = 2005;
const OP_DELETE: u32 = 2006;
const OP_KILL_CURSORS: u32 = 2007;
const OP_COMPRESSED: u32 = 2012;
const OP_MSG: u32 = 2013;

/// Flags of OP_MSG.
const CHECKSUM: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;

impl Layer for Mongodb {
    const NAME: &'static str = "mongodb";
    const OVER: Carrier = Carrier::Stream;
    const PORTS: &'static [u16] = &[27017, 27018, 27019];
    const TABLES: &'static [CallTable] = &[call_table::<DbBlock>(&TABLE)];
    type Message = Message;

    fn new(_: &Begin<'_>) -> Self {
        Mongodb::default()
    }

    fn probe(bytes: &[u8]) -> Probe {
        shape::probe(bytes)
    }

    fn parse(&mut self, direction: Direction, bytes: &[u8], open: Option<&Message>) -> Parsed<Message> {
        if let Some(building) = self.building[direction as usize].take() {
            return self.go_on(direction, building, bytes, open);
        }
        if let Some(parsed) = Rest::pass(&mut self.rests[direction as usize], bytes.len()) {
            return parsed;
        }
        let Some(head) = Head::new(bytes) else { return Parsed::More(HEAD) };
        if !(HEAD..=LONGEST).contains(&head.len) || !head.is_known() {
            return Parsed::Malformed;
        }
        let building = Building {
            left: head.len - HEAD,
            place: Place::Fixed,
            flags: 0,
            facts: Facts::new(head.answers != 0),
            returned: None,
            head,
        };
        if building.left == 0 {
            return Parsed::Malformed;
        }
        self.building[direction as usize] = Some(Box::new(building));
        Parsed::Part(HEAD)
    }

    /// Known is the place in a message whose length was seen, and at its end.
    fn gap(&mut self, direction: Direction, held: &[u8], len: u64, open: Option<&Message>) -> Gap<Message> {
        let at = direction as usize;
        let len_here = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(held.len());
        if self.building[at].as_ref().is_some_and(|building| len_here > building.left) {
            return Gap::Lost(None);
        }
        let Some(mut building) = self.building[at].take() else {
            return match held.first_chunk().map(|len| u32::from_le_bytes(*len) as usize) {
                Some(total @ HEAD..=LONGEST) => {
                    Rest::behind(total, held.len(), len, None, &mut self.rests[at])
                }
                _ => Rest::lose(&mut self.rests[at], len),
            };
        };
        building.lose(held.len(), len_here - held.len());
        if building.left == 0 {
            return Gap::Message(self.message(*building, open));
        }
        self.building[at] = Some(building);
        Gap::Part
    }

    /// What is asked for goes on.
    fn recover(&mut self, _: &Options) {}

    fn resync(bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| shape::probe(&bytes[at..]) == Probe::Yes)
    }

    fn end(&mut self, direction: Direction, _: End) -> Option<Message> {
        self.building[direction as usize] = None;
        self.rests[direction as usize] = None;
        None
    }

    fn held(&self) -> usize {
        let built = |building: &Building| size_of::<Building>() + building.facts.memory();
        self.building.iter().flatten().map(|building| built(building)).sum()
    }

    /// The request's id joins both.
    fn meta(message: &Message) -> Meta {
        let (role, id, is_alone, memory) = match message {
            Message::Request(request) => {
                let memory = size_of::<Asked>() + request.asked.facts.memory();
                (Role::Request, request.id, request.one_way, memory)
            }
            Message::Response(response) => {
                let memory = size_of::<Response>() + response.facts.memory();
                (Role::Response, response.answers, response.is_further, memory)
            }
        };
        Meta::new(role, size_of::<Message>() + memory).pairing(Pairing::keyed(id.into())).alone_if(is_alone)
    }

    fn write(call: &Call<'_, Message>, rows: &mut RowSink<'_, '_>) {
        rows.call(|columns: &mut DbBlock| row::write(call.request, call.response, columns));
    }
}

impl Head {
    fn new(bytes: &[u8]) -> Option<Head> {
        let head = bytes.first_chunk::<HEAD>()?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Some(Head { len: number(0) as usize, id: number(4), answers: number(8), code: number(12) })
    }

    fn is_known(self) -> bool {
        matches!(self.code, OP_REPLY | OP_UPDATE..=OP_INSERT | OP_QUERY..=OP_KILL_CURSORS | OP_COMPRESSED | OP_MSG)
    }
}

/// What a step of a message needs or did.
enum Step {
    Used(usize),
    More(usize),
    Broken,
}

impl Mongodb {
    fn go_on(
        &mut self,
        direction: Direction,
        mut building: Box<Building>,
        bytes: &[u8],
        open: Option<&Message>,
    ) -> Parsed<Message> {
        let mut used = 0;
        let at_hand = &bytes[..bytes.len().min(building.left)];
        while used < at_hand.len() {
            match building.step(&at_hand[used..]) {
                Step::Used(0) | Step::Broken => return Parsed::Malformed,
                Step::Used(len) => {
                    used += len;
                    building.left -= len;
                }
                // A message that ends in the middle of a value.
                Step::More(len) if len > building.left => return Parsed::Malformed,
                Step::More(_) if used > 0 => break,
                Step::More(len) => {
                    self.building[direction as usize] = Some(building);
                    return Parsed::More(len);
                }
            }
        }
        if building.left > 0 {
            self.building[direction as usize] = Some(building);
            return Parsed::Part(used);
        }
        Parsed::Message(used, self.message(*building, open))
    }

    fn message(&mut self, building: Building, open: Option<&Message>) -> Message {
        let Building { head, flags, mut facts, returned, .. } = building;
        let more_to_come = flags & MORE_TO_COME != 0;
        if head.answers == 0 && head.code != OP_REPLY {
            self.user = facts.user.take().map(Into::into).or(self.user.take());
            let is_legacy_write = matches!(head.code, OP_UPDATE | OP_INSERT | OP_DELETE | OP_KILL_CURSORS);
            let one_way = is_legacy_write || more_to_come;
            let asked = Arc::new(Asked { user: self.user.clone(), facts });
            return Message::Request(Request { id: head.id, code: head.code, asked, one_way });
        }
        // An answer to an answer goes on with it.
        let further = self.more.take_if(|(id, _)| *id == head.answers);
        let is_further = further.is_some();
        let asked = further.and_then(|(_, asked)| asked);
        if more_to_come {
            let first = || match open {
                Some(Message::Request(request)) if request.id == head.answers => Some(request.asked.clone()),
                _ => None,
            };
            self.more = Some((head.id, asked.clone().or_else(first)));
        }
        Message::Response(Box::new(Response {
            answers: head.answers,
            code: head.code,
            facts,
            returned,
            asked,
            is_further,
        }))
    }
}

#[cfg(test)]
mod tests;
