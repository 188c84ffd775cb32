//! Which protocol speaks on a conversation, and handing it what was said. In: bytes and gaps of both streams, in order. Out: calls
//! through the protocol's driver. Once nothing we know begins like these bytes, nothing more of them is held.

use super::proxy::{self, Prefix};
use crate::driver::{Conversation, Status};
use crate::flow::{Flow, Scope};
use crate::frame::FlowKey;
use crate::layer::{Begin, Carrier, Direction, End, Probe, Successor};
use crate::limits;
use crate::protocols::{PROTOCOLS, RECOGNISED, table_numbers};
use crate::stream::{Event, Mark};

/// What is known of the protocol.
pub(super) enum App {
    /// Nothing but bytes that fit several protocols.
    Undecided(Option<Box<Held>>),
    Talk(Box<dyn Conversation>),
    /// No protocol we know.
    Opaque,
}

impl Default for App {
    fn default() -> App {
        App::Undecided(None)
    }
}

impl App {
    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        match self {
            App::Talk(talk) => talk.memory(),
            App::Undecided(Some(held)) => {
                size_of::<Held>() + held.sides.iter().map(|(bytes, _)| bytes.len()).sum::<usize>()
            }
            _ => 0,
        }
    }
}

#[derive(Default)]
pub(super) struct Held {
    sides: [(Vec<u8>, Mark); 2],
    /// How often each direction began like no protocol.
    tries: [u8; 2],
}

/// Looks at each direction: once at the start of a stream, but a datagram says nothing of the next one, and in the middle of
/// a stream any packet may begin a message.
const TRIES: u8 = 8;

impl Flow {
    /// Hands on what a stream gave out.
    pub(super) fn application(
        &mut self,
        scope: &mut Scope<'_>,
        direction: Direction,
        event: Event<'_>,
        quiet: bool,
    ) {
        self.handed[direction as usize] += match event {
            Event::Data(bytes, _) => bytes.len() as u64,
            Event::Gap(len) => len,
        };
        self.hand(scope, direction, event, quiet);
    }

    fn hand(&mut self, scope: &mut Scope<'_>, direction: Direction, event: Event<'_>, quiet: bool) {
        match std::mem::replace(&mut self.app, App::Opaque) {
            App::Opaque => {}
            App::Talk(talk) => self.talk(scope, talk, direction, event, quiet),
            App::Undecided(held) => match event {
                Event::Gap(_) => {
                    self.aligned = false;
                    self.gapped = true;
                    self.app = App::Undecided(None);
                }
                Event::Data(bytes, mark) => self.decide(scope, held, direction, (bytes, mark), quiet),
            },
        }
    }

    fn talk(
        &mut self,
        scope: &mut Scope<'_>,
        mut talk: Box<dyn Conversation>,
        direction: Direction,
        event: Event<'_>,
        quiet: bool,
    ) {
        let mut cx = self.context(scope);
        let status = match event {
            Event::Data(bytes, mark) => talk.data(&mut cx, direction, bytes, mark, quiet),
            Event::Gap(len) => {
                talk.gap(&mut cx, direction, len);
                Status::Open
            }
        };
        match status {
            Status::Open => self.app = App::Talk(talk),
            Status::Done => talk.finish(&mut cx, End::Fin),
            Status::Refused => {
                cx.flow.l7.retain(|name| *name != talk.name());
                self.app = App::Opaque;
            }
            Status::Became => {
                // Before the conversation ends: what it holds is its successor's.
                let directions = [Direction::Forward, Direction::Backward];
                let rests = directions.map(|direction| talk.take_rest(direction));
                talk.finish(&mut cx, End::Fin);
                self.aligned = true;
                let Successor { name, carried } = talk.take_successor();
                let named = PROTOCOLS.iter().position(|protocol| Some(protocol.name) == name);
                self.app = match named {
                    Some(number) => {
                        let mut starts = self.handed;
                        starts
                            .iter_mut()
                            .zip(&rests)
                            .for_each(|(start, (rest, _))| *start -= rest.len() as u64);
                        App::Talk(self.start(scope, number, true, &carried, starts))
                    }
                    None => App::Undecided(None),
                };
                for (direction, (rest, mark)) in directions.into_iter().zip(rests) {
                    if !rest.is_empty() {
                        self.hand(scope, direction, Event::Data(&rest, mark), false);
                    }
                }
            }
        }
    }

    /// A conversation of a protocol, by its number, whose first bytes lie at `starts`.
    fn start(
        &mut self,
        scope: &Scope<'_>,
        number: usize,
        aligned: bool,
        carried: &[(Box<str>, Box<str>)],
        starts: [u64; 2],
    ) -> Box<dyn Conversation> {
        let begin = Begin { options: scope.options, carried };
        let mut talk = (PROTOCOLS[number].begin)(table_numbers(number), &begin, aligned);
        talk.begin(starts, starts == self.proxied);
        self.recognise(talk.name());
        talk
    }

    /// Finds the protocol that begins like these bytes.
    fn decide(
        &mut self,
        scope: &mut Scope<'_>,
        held: Option<Box<Held>>,
        direction: Direction,
        (bytes, mark): (&[u8], Mark),
        quiet: bool,
    ) {
        let mut held = held.unwrap_or_default();
        let tries = if self.key.protocol == 6 && self.aligned { 1 } else { TRIES };
        if held.tries[direction as usize] >= tries {
            self.app = App::Undecided(Some(held));
            return;
        }
        let newest = mark;
        let before = &held.sides[direction as usize];
        let joined = (!before.0.is_empty()).then(|| [before.0.as_slice(), bytes].concat());
        let (bytes, mark) = joined.as_ref().map_or((bytes, mark), |joined| (joined.as_slice(), before.1));
        if self.key.protocol == 6 && held.tries[direction as usize] == 0 {
            match proxy::header(bytes) {
                Prefix::None => {}
                Prefix::More => {
                    held.sides[direction as usize] = (bytes.to_vec(), mark);
                    self.app = App::Undecided(Some(held));
                    return;
                }
                Prefix::Whole(len) => {
                    // What follows came with the last of the packets.
                    let rest = bytes[len..].to_vec();
                    held.sides[direction as usize].0 = Vec::new();
                    self.proxied[direction as usize] += len as u64;
                    match rest.is_empty() {
                        true => self.app = App::Undecided(Some(held)),
                        false => self.decide(scope, Some(held), direction, (&rest, newest), false),
                    }
                    return;
                }
            }
        }
        let over = Carrier::of(self.key.protocol);
        let mut wait = RECOGNISED.iter().any(|(_, begins)| begins(bytes) == Probe::More);
        let mut found = None;
        for (number, protocol, is_own_port) in by_port(&self.key, over) {
            let probe = if is_own_port { protocol.probe } else { protocol.probe_elsewhere };
            let begins_later = || {
                let at = (protocol.resync)(bytes);
                at.is_some_and(|at| {
                    is_own_port || bytes.get(at..).is_some_and(|rest| probe(rest) == Probe::Yes)
                })
            };
            match probe(bytes) {
                Probe::Yes => found = Some((number, true)),
                Probe::More => wait = true,
                Probe::No if !self.aligned && begins_later() => found = Some((number, false)),
                Probe::No => {}
            }
            if found.is_some() {
                break;
            }
        }
        if let Some((number, aligned)) = found {
            let gapped = self.gapped;
            let mut starts = self.handed;
            starts[direction as usize] -= bytes.len() as u64;
            starts[direction.opposite() as usize] -= held.sides[direction.opposite() as usize].0.len() as u64;
            let mut talk = self.start(scope, number, aligned, &[], starts);
            let mut cx = self.context(scope);
            if gapped {
                // Whether what is missing asked or answered, nobody knows.
                talk.gap(&mut cx, direction, 0);
            }
            self.app = App::Talk(talk);
            let (other, other_mark) = std::mem::take(&mut held.sides[direction.opposite() as usize]);
            if !other.is_empty() {
                self.hand(scope, direction.opposite(), Event::Data(&other, other_mark), false);
            }
            let quiet = quiet && joined.is_none() && !gapped;
            self.hand(scope, direction, Event::Data(bytes, mark), quiet);
        } else if let Some((name, _)) = RECOGNISED.iter().find(|(_, begins)| begins(bytes) == Probe::Yes) {
            self.recognise(name);
        } else if wait && bytes.len() < limits::PROBE_BUFFER {
            held.sides[direction as usize] = (bytes.to_vec(), mark);
            self.app = App::Undecided(Some(held));
        } else {
            held.tries[direction as usize] += 1;
            held.sides[direction as usize].0 = Vec::new();
            if held.tries.iter().any(|&spent| spent < tries) {
                self.app = App::Undecided(Some(held));
            }
        }
    }

    /// A direction is over.
    pub(super) fn end_application(&mut self, scope: &mut Scope<'_>, direction: Direction, end: End) {
        if let App::Talk(mut talk) = std::mem::replace(&mut self.app, App::Opaque) {
            talk.end(&mut self.context(scope), direction, end);
            self.app = App::Talk(talk);
        }
    }

    /// Both are.
    pub(super) fn finish_application(&mut self, scope: &mut Scope<'_>, end: End) {
        if let App::Talk(mut talk) = std::mem::replace(&mut self.app, App::Opaque) {
            talk.finish(&mut self.context(scope), end);
        }
    }
}

/// Protocols over a transport, those whose usual port fits first; true for these.
fn by_port(
    key: &FlowKey,
    over: Carrier,
) -> impl Iterator<Item = (usize, &'static crate::protocols::Protocol, bool)> + use<> {
    let ports = key.ends.map(|end| end.port);
    let fits =
        move |protocol: &crate::protocols::Protocol| ports.iter().any(|port| protocol.ports.contains(port));
    let with_port = move |is_own_port: bool| {
        let protocols = PROTOCOLS.iter().enumerate().filter(move |(_, protocol)| protocol.over == over);
        protocols
            .filter(move |(_, protocol)| fits(protocol) == is_own_port)
            .map(move |(number, protocol)| (number, protocol, is_own_port))
    };
    with_port(true).chain(with_port(false))
}
