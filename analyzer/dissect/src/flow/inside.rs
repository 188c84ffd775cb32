//! What programs at the ends of an encrypted conversation said inside of it. In: packets that the recorder made of what passed
//! between a program and its TLS library, of one end or of both. Out: a conversation within the conversation, with the facts of
//! the outer one and streams of its own. Never counted as packets, never mixed with the bytes of the wire.

use std::mem::{replace, swap};

use crate::flow::{Flow, Scope, Spot, from, teller};
use crate::frame::{ACK, Packet, SYN, Transport};
use crate::layer::End;

/// A conversation within a conversation.
pub struct Inside {
    /// Its streams, and what each end told; the facts lie in the outer flow.
    pub flow: Flow,
    /// Whether an end's bytes are read, by the number of its observation.
    read: Vec<bool>,
    /// The ends number bytes from the beginning of the conversation. One that did not see it numbers them for itself: then
    /// it is the only one that is read.
    from_begin: bool,
}

impl Inside {
    /// True where a packet begins another session for an end that has begun one.
    pub fn is_begun_by(&self, packet: &Packet<'_>) -> bool {
        let place = self.flow.place(Spot::of(packet), from(packet), teller(packet));
        begins(packet) && place.is_some_and(|place| self.is_read(place))
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.flow.memory() + self.read.capacity() + size_of::<Inside>() - size_of::<Flow>()
    }

    fn is_read(&self, place: usize) -> bool {
        self.read.get(place) == Some(&true)
    }

    fn packet(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>) {
        if self.is_begun_by(packet) {
            self.begin_again(scope, packet);
        }
        let place = self.flow.count(packet);
        self.read.resize(self.read.len().max(place + 1), false);
        if !self.read.contains(&true) {
            self.from_begin = begins(packet);
            self.read[place] = true;
        } else if self.from_begin && begins(packet) {
            self.read[place] = true;
        }
        if self.read[place] {
            self.flow.both_tell = self.read.iter().filter(|read| **read).count() > 1;
            if begins(packet) {
                // The recorder knows who began the handshake of TLS.
                self.flow.facts().client.get_or_insert((from(packet), "protocol"));
            }
            self.flow.read(scope, packet, place);
        }
    }

    /// Another session on the same connection, as through a proxy that was asked inside of the first.
    fn begin_again(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>) {
        self.flow.finish(scope, End::Fin);
        let old = replace(&mut self.flow, Flow::new(packet));
        self.flow.first = old.first;
        self.flow.counted = old.counted;
        self.flow.others = old.others;
        self.flow.facts = old.facts;
        self.read.fill(false);
    }
}

impl Flow {
    /// Takes what one of its programs told.
    pub fn packet_inside(&mut self, scope: &mut Scope<'_>, packet: &Packet<'_>) {
        if self.inside.is_none() {
            self.recognise("tls");
            let flow = Flow::new(packet);
            self.inside = Some(Box::new(Inside { flow, read: Vec::new(), from_begin: false }));
        }
        self.with_inside(|inside| inside.packet(scope, packet));
    }

    /// True for what was told in another network namespace, where equal addresses are of another conversation. Plaintext has an
    /// interface for each of them.
    pub fn is_elsewhere(&self, packet: &Packet<'_>) -> bool {
        let is_other = |inside: &Inside| inside.flow.counted.iface != packet.frame.iface;
        let is_told = packet.frame.site.told.is_some();
        is_told && self.key.is_of_node() && self.inside.as_deref().is_some_and(is_other)
    }

    /// Nothing more will come, inside or outside.
    pub fn finish(&mut self, scope: &mut Scope<'_>, end: End) {
        let inner = match (self.connection.rst, self.closed) {
            (Some(_), _) => End::Reset,
            (None, true) => End::Fin,
            (None, false) => end,
        };
        if !self.closed {
            self.close(scope, if self.reset.is_some() { End::Reset } else { end });
        }
        self.with_inside(|inside| inside.flow.finish(scope, inner));
    }

    /// True where nothing more is expected.
    pub fn is_over(&self) -> bool {
        let is_ending = self.reset.is_some() || self.waiting.is_some() && self.connection.is_ending();
        self.closed
            || is_ending
            || !self.is_seen() && self.inside.as_ref().is_some_and(|inside| inside.flow.closed)
    }

    /// Both have the same facts.
    fn with_inside(&mut self, work: impl FnOnce(&mut Inside)) {
        let Some(mut inside) = self.inside.take() else { return };
        swap(&mut self.facts, &mut inside.flow.facts);
        work(&mut inside);
        swap(&mut self.facts, &mut inside.flow.facts);
        self.inside = Some(inside);
    }
}

/// The first packet of a session that its end saw begin.
fn begins(packet: &Packet<'_>) -> bool {
    matches!(&packet.transport, Transport::Tcp(tcp) if tcp.flags & (SYN | ACK) == SYN)
}
