//! One conversation of the transport layer: counters for each place it was seen at, its two streams, and whatever protocol
//! speaks on it. In: packets in capture order. Out: a row of `flows`, and calls through the protocol's driver.

mod application;
mod inside;
mod name;

pub use self::inside::Inside;
pub use self::name::{community_id, has_ports, ip_text};

use self::application::App;
use self::name::flow_id;
use crate::copies::Copies;
use crate::dissector::{Direction, End, Options};
use crate::frame::{FIN, FlowKey, Frame, Packet, RST, SYN, Tcp, Told, Transport};
use crate::rows::{Catalog, Context, FlowFacts, Tables};
use crate::stream::{Event, Mark, Piece, Stream};
use crate::tcp::Connection;

/// A conversation.
pub struct Flow {
    /// Endpoints and context.
    pub key: FlowKey,
    /// First packet.
    pub first: Mark,
    /// Last packet.
    pub last: Mark,
    /// Sender of the first packet.
    pub first_from: Direction,
    /// The observation that is counted: the interface of the first packet.
    pub counted: Observation,
    /// What was seen at other interfaces.
    pub others: Vec<Further>,
    /// What programs at its ends said inside of its TLS.
    pub inside: Option<Box<Inside>>,
    /// Flags of the counted observation.
    pub connection: Connection,
    /// Made when something is to be written.
    pub facts: Option<Box<FlowFacts>>,
    /// Packets were cut by the capture.
    pub truncated: bool,
    /// Payload was seen.
    pub has_payload: bool,
    /// Reset, or ended in both directions.
    pub closed: bool,
    /// The programs of both ends tell of it: what one says that it sent, the other need not have received yet.
    pub both_tell: bool,
    streams: [Stream; 2],
    copies: Copies,
    app: App,
    /// The start of the application's bytes was captured.
    aligned: bool,
    /// Bytes are missing before the first that a protocol took.
    gapped: bool,
    /// Offset in each stream behind what was handed out.
    handed: [u64; 2],
}

/// Counters of one interface, or of what a program at one end told.
#[derive(Clone, Default)]
pub struct Observation {
    /// Interface.
    pub iface: u32,
    /// The end whose program told it; none for packets of a wire.
    pub teller: Option<Direction>,
    /// What each end sent.
    pub sides: [Counters; 2],
}

/// What was seen at an interface beyond the first.
pub struct Further {
    /// Its counters.
    pub seen: Observation,
    /// First packet there.
    pub first: Mark,
    /// Last packet there.
    pub last: Mark,
}

/// What one end sent.
#[derive(Clone, Copy, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u32,
    /// Transport payload.
    pub payload_bytes: u64,
    /// IP bytes.
    pub ip_bytes: u64,
    /// Frame bytes on the wire.
    pub wire_bytes: u64,
}

/// What a flow needs from its shard.
pub struct Scope<'a> {
    /// Builders.
    pub tables: &'a mut Tables,
    /// Names of segments and interfaces.
    pub catalog: &'a Catalog,
    /// What to keep.
    pub options: &'a Options,
    /// Table number of each protocol.
    pub table_numbers: &'a [usize],
}

impl Flow {
    /// A flow whose first packet comes next.
    pub fn new(packet: &Packet<'_>) -> Flow {
        let mark = mark(&packet.frame, None);
        Flow {
            key: packet.key,
            first: mark,
            last: mark,
            first_from: from(packet),
            counted: Observation::default(),
            others: Vec::new(),
            inside: None,
            connection: Connection::default(),
            facts: None,
            truncated: false,
            has_payload: false,
            closed: false,
            both_tell: false,
            streams: [Stream::default(), Stream::default()],
            copies: Copies::default(),
            app: App::default(),
            aligned: packet.key.protocol != 6,
            gapped: false,
            handed: [0; 2],
        }
    }

    /// True for a SYN that begins another connection between the same ends.
    pub fn is_reused_by(&self, packet: &Packet<'_>) -> bool {
        let Transport::Tcp(tcp) = &packet.transport else {
            return false;
        };
        if packet.frame.site.told.is_some() {
            return !self.is_seen() && self.inside.as_ref().is_some_and(|inside| inside.is_begun_by(packet));
        }
        let stream = &self.streams[from(packet) as usize];
        let begins = tcp.flags & (SYN | crate::frame::ACK | RST) == SYN;
        begins && stream.started() && !stream.begins_at(tcp.seq.wrapping_add(1))
    }

    /// Takes a packet of the wire, or of one of the programs at its ends.
    pub fn packet(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>) {
        match packet.frame.site.told {
            Some(_) => self.packet_inside(scope, packet),
            None => {
                let place = self.count(packet);
                self.read(scope, packet, place);
            }
        }
    }

    /// Reads what a packet says that was counted at a place.
    fn read(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>, place: usize) {
        let direction = from(packet);
        match &packet.transport {
            Transport::Tcp(tcp) => {
                if place == 0 {
                    self.connection.packet(direction, tcp, packet.frame.ts_ns);
                }
                self.tcp(scope, packet, direction, tcp);
            }
            Transport::Udp { payload, .. } if !payload.is_empty() => {
                self.has_payload = true;
                if !self.copies.is_copy(direction, payload, packet.frame.ts_ns, place) {
                    let event = Event::Data(payload, mark(&packet.frame, None));
                    self.application(scope, direction, event, false);
                }
            }
            Transport::Udp { .. } | Transport::Other => {}
        }
    }

    /// Counts a packet where it was seen; returns the number of that observation, 0 for the one that stands for the flow.
    fn count(&mut self, packet: &Packet<'_>) -> usize {
        let here = mark(&packet.frame, None);
        let (iface, teller) = (packet.frame.iface, teller(packet));
        if !self.is_seen() {
            self.counted = Observation { iface, teller, ..Observation::default() };
            self.first = here;
        }
        self.last = here;
        self.truncated |= (packet.frame.data.len() as u32) < packet.frame.wire_len;
        let place = self.place(iface, teller).unwrap_or_else(|| {
            let seen = Observation { iface, teller, ..Observation::default() };
            self.others.push(Further { seen, first: here, last: here });
            self.others.len()
        });
        let observation = match place.checked_sub(1) {
            None => &mut self.counted,
            Some(other) => {
                self.others[other].last = here;
                &mut self.others[other].seen
            }
        };
        let side = &mut observation.sides[from(packet) as usize];
        side.packets += 1;
        side.ip_bytes += u64::from(packet.ip_len);
        side.wire_bytes += u64::from(packet.frame.wire_len);
        side.payload_bytes += match &packet.transport {
            Transport::Tcp(tcp) => tcp.payload_len.into(),
            Transport::Udp { payload_len, .. } => (*payload_len).into(),
            Transport::Other => 0,
        };
        place
    }

    /// Number of an observation, the counted one first.
    fn place(&self, iface: u32, teller: Option<Direction>) -> Option<usize> {
        let all = [&self.counted].into_iter().chain(self.others.iter().map(|other| &other.seen));
        all.into_iter().position(|seen| (seen.iface, seen.teller) == (iface, teller))
    }

    /// True once a packet was counted; what its programs said inside of a conversation does not count for it.
    pub fn is_seen(&self) -> bool {
        self.counted.sides.iter().any(|side| side.packets > 0)
    }

    fn tcp(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>, direction: Direction, tcp: &Tcp<'_>) {
        let other = direction.opposite();
        let mut seq = tcp.seq;
        if tcp.flags & SYN != 0 {
            seq = seq.wrapping_add(1);
            self.aligned = true;
        }
        self.streams[direction as usize].start(seq);
        let mut mark = mark(&packet.frame, None);
        if let Some(ack) = tcp.ack {
            self.streams[other as usize].start(ack);
            mark.acked = self.streams[other as usize].offset(ack);
            if !self.both_tell || packet.frame.site.told == Some(Told::BySender) {
                self.stream(scope, other, false, |stream, out| stream.acknowledge(ack, out));
            }
        }
        // What was overtaken was sent before the point that looks quiet.
        let in_order = self.streams[direction as usize].is_latest(Some(seq))
            && self.streams[other as usize].is_latest(tcp.ack);
        let quiet = in_order && self.streams.iter().all(Stream::quiet);
        if tcp.payload_len > 0 && !self.closed {
            self.has_payload = true;
            let piece = Piece { seq, bytes: tcp.payload, len: tcp.payload_len, mark };
            self.stream(scope, direction, quiet, |stream, out| stream.segment(piece, out));
        }
        if tcp.flags & FIN != 0 {
            self.streams[direction as usize].fin(seq.wrapping_add(tcp.payload_len));
        }
        for direction in [direction, other] {
            if self.streams[direction as usize].ended() {
                self.end_application(scope, direction, End::Fin);
            }
        }
        if tcp.flags & RST != 0 && !self.closed {
            self.close(scope, End::Reset);
        }
        if self.streams.iter().all(Stream::ended) {
            self.close(scope, End::Fin);
        }
    }

    /// Works on a stream and hands what it gives out to the application.
    fn stream(
        &mut self,
        scope: &mut Scope<'_>,
        direction: Direction,
        quiet: bool,
        work: impl FnOnce(&mut Stream, &mut dyn FnMut(Event<'_>)),
    ) {
        let mut stream = std::mem::take(&mut self.streams[direction as usize]);
        work(&mut stream, &mut |event| {
            if matches!(event, Event::Gap(1..)) {
                self.connection.gap(direction);
            }
            self.application(scope, direction, event, quiet);
        });
        self.streams[direction as usize] = stream;
    }

    /// Nothing more will come: hands out what is held and writes what waits.
    pub fn close(&mut self, scope: &mut Scope<'_>, end: End) {
        for direction in [Direction::Forward, Direction::Backward] {
            self.stream(scope, direction, false, |stream, out| stream.flush(out));
        }
        self.finish_application(scope, end);
        self.closed = true;
    }

    /// Bytes in gaps, over both directions.
    pub fn missed_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.missed).sum()
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let facts = self.facts.as_ref().map_or(0, |_| size_of::<FlowFacts>() + 160);
        let streams: usize = self.streams.iter().map(Stream::memory).sum();
        let others = self.others.capacity() * size_of::<Further>();
        let inside = self.inside.as_ref().map_or(0, |inside| inside.memory());
        size_of::<Flow>() + self.app.memory() + facts + streams + others + inside + self.copies.memory()
    }

    /// Nothing that was asked waits for its answer.
    pub fn is_answered(&self) -> bool {
        matches!(&self.app, App::Talk(talk) if talk.is_answered())
    }

    /// Who asks, and how that is known; without proof the end with the well-known port answers.
    pub fn client(&self) -> (Direction, &'static str) {
        if let Some(client) = self.facts.as_ref().and_then(|facts| facts.client) {
            return client;
        }
        if let Some(client) = self.connection.client() {
            return (client, "syn");
        }
        let [first, second] = self.key.ends.map(|end| end.port);
        let has_ports = has_ports(self.key.protocol);
        match (has_ports && first < 1024, has_ports && second < 1024) {
            (false, true) => (Direction::Forward, "port"),
            (true, false) => (Direction::Backward, "port"),
            _ => (self.first_from, "first_seen"),
        }
    }

    /// The facts, made now if they were not.
    pub fn facts(&mut self) -> &mut FlowFacts {
        let facts = self.facts.get_or_insert_with(|| {
            let [a, b] = self.key.ends;
            Box::new(FlowFacts {
                id: flow_id(&self.key, self.first.ts_ns),
                ips: [ip_text(&a.ip), ip_text(&b.ip)],
                ports: [a.port, b.port],
                start_ns: self.first.ts_ns,
                client: None,
                l7: Vec::new(),
                server_name: None,
                calls: 0,
                has_ports: has_ports(self.key.protocol),
            })
        });
        if facts.client.is_none() {
            facts.client = self.connection.client().map(|client| (client, "syn"));
        }
        facts
    }

    /// Notes what it speaks.
    fn recognise(&mut self, name: &'static str) {
        let l7 = &mut self.facts().l7;
        if !l7.contains(&name) {
            l7.push(name);
        }
    }

    fn context<'a>(&'a mut self, scope: &'a mut Scope<'_>) -> Context<'a> {
        let catalog = scope.catalog;
        let is_inside = self.counted.teller.is_some();
        Context { flow: self.facts(), tables: scope.tables, catalog, is_inside }
    }
}

/// Sender of a packet.
pub fn from(packet: &Packet<'_>) -> Direction {
    if packet.from_first { Direction::Forward } else { Direction::Backward }
}

/// The end whose program told of a packet.
pub fn teller(packet: &Packet<'_>) -> Option<Direction> {
    Some(match packet.frame.site.told? {
        Told::BySender => from(packet),
        Told::ByReceiver => from(packet).opposite(),
    })
}

/// Where a frame lies.
pub fn mark(frame: &Frame<'_>, acked: Option<u64>) -> Mark {
    Mark { ts_ns: frame.ts_ns, segment: frame.segment, frame: frame.number, acked }
}
