//! One conversation of the transport layer: counters for each place it was seen at, its two streams, and whatever protocol
//! speaks on it. In: packets in capture order. Out: a row of `flows`, and calls through the protocol's driver.

mod application;
mod inside;
mod name;
mod places;
mod proxy;
mod resets;
mod waiting;

pub use self::inside::Inside;
pub use self::name::{community_id, has_ports};
pub use self::places::{Counters, Further, Observation, Spot};

use self::application::App;
use self::name::flow_id;
use self::resets::Reset;
use self::waiting::{Segment, Waiting};
use crate::batch::Tables;
use crate::copies::{Copies, Recent};
use crate::frame::{ACK, FIN, FlowKey, Frame, Packet, RST, SYN, Tcp, Told, Transport};
use crate::layer::{Direction, End, Options};
use crate::limits;
use crate::protocols::PROTOCOLS;
use crate::rows::{Catalog, Context, FlowFacts};
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
    /// Ended in both directions.
    pub closed: bool,
    /// A reset that its receiver accepts. What was sent before it may still be captured.
    reset: Option<Reset>,
    /// The programs of both ends tell of it: what one says that it sent, the other need not have received yet.
    pub both_tell: bool,
    streams: [Stream; 2],
    /// The last window that each end announced, and by how many bits windows are shifted.
    windows: [(u16, Option<u8>); 2],
    copies: Copies,
    recent: Recent,
    /// Packets of the counted observation that it showed twice.
    repeated: [Counters; 2],
    waiting: Option<Box<Waiting>>,
    app: App,
    /// The start of the application's bytes was captured.
    aligned: bool,
    /// Bytes are missing before the first that a protocol took.
    gapped: bool,
    /// Offset in each stream behind what was handed out.
    handed: [u64; 2],
    /// Bytes that a proxy put before each.
    proxied: [u64; 2],
}

/// What a flow needs from its shard.
pub struct Scope<'a> {
    /// Builders.
    pub tables: &'a mut Tables,
    /// Names of segments and interfaces.
    pub catalog: &'a Catalog,
    /// What to keep.
    pub options: &'a Options,
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
            reset: None,
            both_tell: false,
            streams: [Stream::default(), Stream::default()],
            windows: [(0, None); 2],
            copies: Copies::default(),
            recent: Recent::default(),
            repeated: Default::default(),
            waiting: None,
            app: App::default(),
            aligned: packet.key.protocol != 6,
            gapped: false,
            handed: [0; 2],
            proxied: [0; 2],
        }
    }

    /// True for a packet that begins another connection between the same ends: a SYN with another number, or, where the same
    /// numbers come once more after the end or a long silence, as in a replay, the first of them.
    pub fn is_reused_by(&self, packet: &Packet<'_>) -> bool {
        let Transport::Tcp(tcp) = &packet.transport else {
            return false;
        };
        if packet.frame.site.told.is_some() {
            return !self.is_seen() && self.inside.as_ref().is_some_and(|inside| inside.is_begun_by(packet));
        }
        let direction = from(packet);
        let stream = &self.streams[direction as usize];
        if !stream.started() || tcp.flags & RST != 0 {
            return false;
        }
        let silence_ns = packet.frame.ts_ns.saturating_sub(self.last.ts_ns);
        let is_over = self.is_over();
        let has_been_here = || self.counted.is_at(direction, Spot::of(packet));
        if tcp.flags & (SYN | ACK) == SYN {
            let has_data = self.streams.iter().any(Stream::has_begun);
            let is_anew = is_over || has_data && silence_ns > limits::SILENCE_OF_SYN_NS;
            return !stream.begins_at(tcp.seq.wrapping_add(1)) || is_anew && has_been_here();
        }
        let enough_ns = if is_over { limits::SILENCE_OF_SYN_NS } else { limits::SILENCE_NS };
        // A single byte is a keep-alive.
        tcp.payload_len > 1 && silence_ns > enough_ns && stream.has_begun() && {
            stream.begins_at(tcp.seq) && stream.edges().0 >= u64::from(tcp.payload_len) && has_been_here()
        }
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
            Transport::Tcp(tcp) => self.tcp(scope, packet, place, tcp),
            Transport::Udp { payload, .. } if !payload.is_empty() => {
                self.has_payload = true;
                if !self.copies.is_copy(direction, payload, packet.frame.ts_ns, place) {
                    // A proxy puts its header before each datagram.
                    let payload = match proxy::header(payload) {
                        proxy::Prefix::Whole(len) => &payload[len..],
                        _ => payload,
                    };
                    let event = Event::Data(payload, mark(&packet.frame, None));
                    self.application(scope, direction, event, false);
                }
            }
            Transport::Icmp { message, .. } => {
                if !self.copies.is_copy(direction, message, packet.frame.ts_ns, place) {
                    let event = Event::Data(message, mark(&packet.frame, None));
                    self.application(scope, direction, event, false);
                }
            }
            Transport::Udp { .. } | Transport::Other => {}
        }
    }

    /// True once a packet was counted; what its programs said inside of a conversation does not count for it.
    pub fn is_seen(&self) -> bool {
        self.counted.sides.iter().any(|side| side.packets > 0)
    }

    fn tcp(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>, place: usize, tcp: &Tcp<'_>) {
        let direction = from(packet);
        let other = direction.opposite() as usize;
        let is_syn = tcp.flags & SYN != 0;
        let is_reset = tcp.flags & RST != 0;
        let reset = if is_reset { self.accepted(direction, tcp) } else { None };
        if place == 0 {
            self.connection.packet(direction, tcp, packet.frame.ts_ns, reset.is_some() || !is_reset);
        }
        let window = &mut self.windows[direction as usize];
        *window = (tcp.window, if is_syn { tcp.window_shift } else { window.1 });
        self.aligned |= is_syn;
        let segment = Segment {
            direction,
            seq: tcp.seq.wrapping_add(is_syn.into()),
            ack: tcp.ack,
            flags: tcp.flags,
            bytes: tcp.payload,
            len: tcp.payload_len,
            mark: mark(&packet.frame, None),
            told: packet.frame.site.told,
        };
        self.streams[direction as usize].hear(segment.seq, is_syn, segment.len);
        if let Some(ack) = tcp.ack {
            self.streams[other].start(ack);
            self.streams[other].skip_keep_alive(ack);
        }
        if !is_reset {
            self.go_on_after_reset(&segment);
        }
        self.reset = self.reset.or(reset);
        let must_wait = self.must_wait(&segment);
        if must_wait {
            self.waiting.get_or_insert_default().push(&segment);
        } else {
            self.take(scope, &segment);
        }
        if self.waiting.is_some() {
            self.release(scope, packet.frame.ts_ns);
        }
    }

    /// It acknowledges what may still come, or its receiver had reset the connection before.
    fn must_wait(&self, segment: &Segment<'_>) -> bool {
        let stream = &self.streams[segment.direction.opposite() as usize];
        let is_early = || segment.told.is_none() && segment.ack.is_some_and(|ack| stream.awaits(ack));
        !self.closed && (is_early() || self.is_refused(segment))
    }

    /// Lets go on what waited for what has come, and what waited for too long.
    fn release(&mut self, scope: &mut Scope<'_>, now_ns: i64) {
        let Some(mut waiting) = self.waiting.take() else { return };
        while let Some((segment, bytes, is_forced)) = waiting.next(now_ns, |segment| self.must_wait(segment))
        {
            let segment = Segment { bytes: &bytes, ..segment };
            if !(is_forced && self.is_refused(&segment)) {
                self.take(scope, &segment);
            }
        }
        self.waiting = Some(waiting).filter(|waiting| !waiting.is_empty());
    }

    /// Hands a segment to the streams.
    fn take(&mut self, scope: &mut Scope<'_>, segment: &Segment<'_>) {
        let (direction, other) = (segment.direction, segment.direction.opposite());
        let Segment { seq, mut mark, .. } = *segment;
        if let Some(ack) = segment.ack {
            mark.acked = self.streams[other as usize].offset(ack);
            if !self.both_tell || segment.told == Some(Told::BySender) {
                self.stream(scope, other, false, |stream, out| stream.acknowledge(ack, out));
            }
        }
        // What was overtaken was sent before the point that looks quiet.
        let in_order = self.streams[direction as usize].is_latest(Some(seq))
            && self.streams[other as usize].is_latest(segment.ack);
        let quiet = in_order && self.streams.iter().all(Stream::quiet);
        if segment.len > 0 && !self.closed {
            self.has_payload = true;
            let piece = Piece { seq, bytes: segment.bytes, len: segment.len, mark };
            self.stream(scope, direction, quiet, |stream, out| stream.segment(piece, out));
        }
        if segment.flags & FIN != 0 {
            self.streams[direction as usize].fin(seq.wrapping_add(segment.len));
        }
        for direction in [direction, other] {
            if self.streams[direction as usize].ended() {
                self.end_application(scope, direction, End::Fin);
            }
        }
        if !self.closed && self.streams.iter().all(Stream::ended) {
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
        self.release(scope, i64::MAX);
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
        let facts = self.facts.as_ref().map_or(0, |_| size_of::<FlowFacts>() + 96);
        let streams: usize = self.streams.iter().map(Stream::memory).sum();
        let others = self.others.capacity() * size_of::<Further>() + self.recent.memory();
        let others = others + self.waiting.as_ref().map_or(0, |waiting| waiting.memory());
        let inside = self.inside.as_ref().map_or(0, |inside| inside.memory());
        size_of::<Flow>() + self.app.memory() + facts + streams + others + inside + self.copies.memory()
    }

    /// Datagrams of a protocol that answers: nothing that was asked waits for its answer.
    pub fn is_answered(&self) -> bool {
        self.key.protocol == 17 && matches!(&self.app, App::Talk(talk) if talk.is_answered())
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
        let is_system = |port: u16| port < 1024;
        let is_usual = |port: u16| PROTOCOLS.iter().any(|protocol| protocol.ports.contains(&port));
        let by = |is_server: &dyn Fn(u16) -> bool| match (is_server(first), is_server(second)) {
            (false, true) => Some((Direction::Forward, "port")),
            (true, false) => Some((Direction::Backward, "port")),
            _ => None,
        };
        let by_port = || by(&is_system).or_else(|| by(&is_usual));
        let client = has_ports(self.key.protocol).then(by_port).flatten();
        client.unwrap_or((self.first_from, "first_seen"))
    }

    /// The facts, made now if they were not.
    pub fn facts(&mut self) -> &mut FlowFacts {
        let facts = self.facts.get_or_insert_with(|| {
            Box::new(FlowFacts {
                id: flow_id(&self.key, self.first.ts_ns),
                protocol: self.key.protocol,
                ends: self.key.ends,
                start_ns: self.first.ts_ns,
                client: None,
                l7: Vec::new(),
                server_name: None,
                calls: 0,
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
