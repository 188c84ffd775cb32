//! What a protocol is to the rest: how its messages are found in a stream, told apart, matched and written.
//! Buffering, time stamps, pairing, limits and Arrow are the driver's. A layer never sees a packet.

use std::borrow::Cow;

use crate::batch::CallTable;
use crate::rows::RowSink;

/// Which end of a conversation sent something: the index into [`crate::frame::FlowKey::ends`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The first end sends.
    Forward = 0,
    /// The second end sends.
    Backward = 1,
}

impl Direction {
    /// The other way.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        }
    }
}

/// What carries a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A byte stream: TCP.
    Stream,
    /// One message a datagram: UDP.
    Datagram,
    /// One message a packet of ICMP.
    Icmp,
    /// One message a packet of ICMPv6.
    Icmp6,
}

impl Carrier {
    /// By the protocol number of IP.
    pub fn of(protocol: u8) -> Carrier {
        match protocol {
            1 => Carrier::Icmp,
            6 => Carrier::Stream,
            58 => Carrier::Icmp6,
            _ => Carrier::Datagram,
        }
    }
}

/// Does this begin like the protocol?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Too few bytes to tell.
    More,
}

impl Probe {
    /// No, where it does not; else what is said of the rest.
    pub fn and(self, rest: Probe) -> Probe {
        if self == Probe::No { Probe::No } else { rest }
    }
}

/// What `parse` made of the bytes at hand.
pub enum Parsed<M> {
    /// A message ends after this many bytes.
    Message(usize, M),
    /// These bytes belong to the message being built.
    Part(usize),
    /// These bytes belong to the message of this key; others of the direction are being built beside it.
    PartOf(usize, u64),
    /// The message being built had ended before these bytes, which are parsed anew.
    Ended(M),
    /// These bytes belong to no message.
    Skip(usize),
    /// Nothing can be said before this many bytes are at hand.
    More(usize),
    /// Not this protocol, or broken.
    Malformed,
    /// After these bytes the conversation is another protocol's; the message, if any, ends with them.
    Become(usize, Option<M>, Successor),
}

impl<M> Parsed<M> {
    /// The same of bytes that are missing.
    pub fn into_gap(self) -> Gap<M> {
        match self {
            Parsed::Message(_, message) => Gap::Message(message),
            Parsed::Part(_) => Gap::Part,
            Parsed::PartOf(_, key) => Gap::PartOf(key),
            Parsed::Skip(_) => Gap::Skip,
            _ => Gap::Lost(None),
        }
    }
}

/// The protocol that follows on the same connection.
#[derive(Debug, Default)]
pub struct Successor {
    /// Its name in the list of protocols; none where its first bytes decide.
    pub name: Option<&'static str>,
    /// What it is told.
    pub carried: Carried,
}

impl Successor {
    /// TLS, which is told nothing.
    pub fn tls() -> Successor {
        Successor { name: Some("tls"), carried: Vec::new() }
    }
}

/// Names and values that a protocol hands over to its successor, such as the header fields of an upgrade.
pub type Carried = Vec<(Box<str>, Box<str>)>;

/// What a conversation begins with.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// What is kept of it.
    pub options: &'a Options,
    /// What the protocol before it on the same connection handed over.
    pub carried: &'a [(Box<str>, Box<str>)],
}

/// What `gap` makes of missing bytes, and of those before them that `parse` left waiting.
pub enum Gap<M> {
    /// They belong to the message being built, which goes on behind them.
    Part,
    /// They belong to the message of this key, which goes on behind them; others of the direction are being built beside it.
    PartOf(u64),
    /// The message being built ends with them.
    Message(M),
    /// They are a message whose beginning is missing, or belong to none; the next begins behind them.
    Skip,
    /// The place in the stream is lost; of a message that began before them this is known.
    Lost(Option<M>),
}

/// Why a direction came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN, or the end of the datagram.
    Fin,
    /// RST.
    Reset,
    /// Silence, or the end of the capture.
    Timeout,
    /// Bytes are missing and the place is lost.
    Gap,
}

/// Which half of a call a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks.
    Request,
    /// Answers.
    Response,
}

/// What joins a response to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// First in, first out.
    InOrder,
    /// First in, first out, where a server may leave requests unanswered: an answer has its request's number, and the requests
    /// before that one have none.
    Numbered(u64),
    /// First in, first out among those of this key.
    InOrderOf(u64),
    /// A key that no two requests under way share: behind a gap it still tells what is answered. `mask` says which bits of the key
    /// an answer has.
    Keyed {
        /// The key.
        key: u64,
        /// Bits of it that must be equal.
        mask: u64,
    },
    /// Nothing answers it: it is a call of its own, and no failure.
    Alone,
}

impl Pairing {
    /// A key of which an answer has all bits.
    pub fn keyed(key: u64) -> Pairing {
        Pairing::Keyed { key, mask: u64::MAX }
    }

    /// Place in order, where it has one.
    pub fn number(self) -> Option<u64> {
        match self {
            Pairing::Numbered(number) => Some(number),
            _ => None,
        }
    }

    /// A response with this answers a request with that, as far as keys tell.
    pub fn answers(self, request: Pairing) -> bool {
        match (self, request) {
            (Pairing::Keyed { key, mask }, Pairing::Keyed { key: asked, .. }) => key & mask == asked & mask,
            (response, request) => response == request,
        }
    }
}

/// What a message says of its place in the conversation.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Which half of a call it is.
    pub role: Role,
    /// The end that connected sends it.
    pub from_client: bool,
    /// What joins it to the other half.
    pub pairing: Pairing,
    /// What joins the pieces of it that came as [`Parsed::PartOf`].
    pub parts: Option<u64>,
    /// Bytes at the start of a request after which it may be answered: all of it, unless the protocol says less.
    pub answerable: Option<u64>,
    /// Memory it holds.
    pub memory: usize,
}

impl Meta {
    /// Of a message that is paired in order. Who asks is the client.
    pub fn new(role: Role, memory: usize) -> Meta {
        Meta {
            role,
            from_client: role == Role::Request,
            pairing: Pairing::InOrder,
            parts: None,
            answerable: None,
            memory,
        }
    }

    /// The same with another way of pairing.
    pub fn pairing(self, pairing: Pairing) -> Meta {
        Meta { pairing, ..self }
    }

    /// Nothing answers it.
    pub fn is_alone(&self) -> bool {
        self.pairing == Pairing::Alone
    }

    /// The same of a message that nothing answers, if so.
    pub fn alone_if(self, is_alone: bool) -> Meta {
        if is_alone { self.pairing(Pairing::Alone) } else { self }
    }
}

/// What a protocol says about a finished call beside its own columns.
#[derive(Debug, Default)]
pub struct Written {
    /// Bytes the row took, as the columns' `append` says.
    pub bytes: usize,
    /// Failed, by the rules of the protocol; `None` lets the driver judge (no answer is a failure).
    pub is_error: Option<bool>,
    /// Kind of failure.
    pub error_type: Option<Cow<'static, str>>,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// Whom the client asked for by name, where the conversation is encrypted.
    pub server_name: Option<String>,
    /// What an answer says that a name leads to.
    pub resolved: Option<Resolved>,
}

/// A name and its addresses, as a server told them.
#[derive(Debug)]
pub struct Resolved {
    /// Name asked for.
    pub name: String,
    /// Addresses answered, as text.
    pub addresses: Vec<String>,
}

/// What is kept of a conversation, as the caller of the analysis wants it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Body bytes kept of each message.
    pub body_bytes: usize,
    /// Write the table `packets`.
    pub packets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { body_bytes: 4096, packets: false }
    }
}

/// A call that is to be written: at least one half is there.
#[derive(Debug)]
pub struct Call<'a, M> {
    /// Asks.
    pub request: Option<&'a M>,
    /// Answers.
    pub response: Option<&'a M>,
    /// How long it took.
    pub times: CallTimes,
}

/// How long a call took, as the driver knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallTimes {
    /// Last byte of the request to first byte of the response.
    pub think_ns: Option<i64>,
    /// Request first byte to response last byte.
    pub duration_ns: Option<i64>,
}

/// A protocol.
pub trait Layer: Send + 'static {
    /// Name, as in `flows.l7` and `api_calls.protocol`.
    const NAME: &'static str;
    /// Transport.
    const OVER: Carrier;
    /// Usual ports: protocols are tried in the order in which their ports fit, nothing more.
    const PORTS: &'static [u16];
    /// The tables it writes to.
    const TABLES: &'static [CallTable];
    /// In the middle of a conversation it is not known which request an answer is for, as after a gap: clients do not wait for
    /// answers before they ask again, or not every answer can be found there.
    const LOSSY_START: bool = false;
    /// Clients wait for an answer before they ask again: a capture that begins with a request, while nothing else is under way, has
    /// its place.
    const TAKES_TURNS: bool = false;
    /// A message, owning what its row needs.
    type Message: Send;

    /// Ready for a conversation's first byte.
    fn new(begin: &Begin<'_>) -> Self;
    /// Does a direction that begins with these bytes speak the protocol?
    fn probe(bytes: &[u8]) -> Probe;
    /// The same where none of its ports is used: more must fit where other protocols begin alike.
    fn probe_elsewhere(bytes: &[u8]) -> Probe {
        Self::probe(bytes)
    }
    /// Takes the next bytes of a direction. `open` is the oldest request that waits for its answer.
    fn parse(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        open: Option<&Self::Message>,
    ) -> Parsed<Self::Message>;
    /// So many bytes are missing behind `held`, which `parse` waited with. `open` is as there.
    fn gap(
        &mut self,
        direction: Direction,
        held: &[u8],
        len: u64,
        open: Option<&Self::Message>,
    ) -> Gap<Self::Message>;
    /// Offset of the next place where a message may begin.
    fn resync(bytes: &[u8]) -> Option<usize>;
    /// At a quiet point behind a gap: forgets what may have changed in it.
    fn recover(&mut self, options: &Options)
    where
        Self: Sized,
    {
        *self = Self::new(&Begin { options, carried: &[] });
    }
    /// The direction is over: the message being built, if it has one to give.
    fn end(&mut self, direction: Direction, end: End) -> Option<Self::Message>;
    /// What a message says of its place in the conversation.
    fn meta(message: &Self::Message) -> Meta;
    /// Nothing more is read of this conversation, whatever it says.
    fn is_done(&self) -> bool {
        false
    }
    /// Memory held for the conversation beside messages.
    fn held(&self) -> usize {
        0
    }
    /// Appends the rows of a call.
    fn write(call: &Call<'_, Self::Message>, rows: &mut RowSink<'_, '_>);
}
