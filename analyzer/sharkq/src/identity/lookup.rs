//! The socket behind an end of a conversation at a time. In: sockets of all nodes. Out: the one that is meant, or what all that may be
//! meant have in common; the proof that is nearest in time counts. Where several owners could have been meant, nobody is named.

use std::net::IpAddr;

use super::numbers::NONE;
use super::sockets::{CLOCKS_NS, Endpoint, Found, Op, Owner, Place, Site, Socket, Sockets};

/// A node's packets and events have one clock, and nothing comes to a socket that does not listen yet or is closed.
const ONE_CLOCK_NS: i64 = 1_000_000;
/// A connection may wait as long for the queue of its listener: so long a first segment is sent again.
const BACKLOG_NS: i64 = 30_000_000_000;
/// As long a handshake may take: what is accepted later from the same port of a peer may be of another connection.
const HANDSHAKE_NS: i64 = 1_000_000_000;
/// Sockets looked at for one address and port: more at a time say nothing certain any more.
const MOST: usize = 256;

/// What the cluster says of an address at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claimed<'a> {
    /// The uid of the pod that had it.
    pub pod_uid: Option<&'a str>,
    /// Some pod had it at some time.
    pub is_known: bool,
}

impl Sockets {
    /// The socket behind an end: with just these ends, accepted from just this peer at another port, with this address and port,
    /// or waiting for anybody.
    pub fn behind(&self, site: Site, end: &Endpoint, ts_ns: i64, claimed: Claimed<'_>) -> Option<Found<'_>> {
        let exact = self.exact(site, end, ts_ns);
        exact
            .or_else(|| self.redirected(site, end, ts_ns))
            .or_else(|| self.local(site, end, ts_ns))
            .or_else(|| self.waiting(site, end, ts_ns, claimed))
    }

    /// The socket with just these ends that was open then, or was accepted soon after.
    pub fn exact(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        let key = (site.cluster, end.protocol, end.local, end.peer);
        self.then(self.by_tuple.get(&key), site, end.local.0, ts_ns, |_| true)
    }

    /// The only socket at this address that was accepted from just this peer, on another port: the kernel led the connection there.
    /// What the peer dialled itself was not led anywhere.
    fn redirected(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        let listed = self.accepted_from.get(&(site.cluster, end.protocol, end.peer));
        self.then(listed, site, end.local.0, ts_ns, |socket| {
            let dialled = (site.cluster, end.protocol, end.peer, socket.local);
            let is_soon = socket.span.from_ns <= ts_ns.saturating_add(HANDSHAKE_NS);
            is_soon && socket.local.0 == end.local.0 && self.by_tuple.get(&dialled).is_empty()
        })
    }

    /// A socket with this address and port, whatever its process takes for the other end: all that were open then were of one
    /// owner. An address translation changes the other end only.
    fn local(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        let key = (site.cluster, end.protocol, end.local);
        self.then(self.by_local.get(&key), site, end.local.0, ts_ns, |_| true)
    }

    /// The socket that waited for anything that came to this port, in the network namespace that had the address, or of the pod
    /// that had it.
    fn waiting(&self, site: Site, end: &Endpoint, ts_ns: i64, claimed: Claimed<'_>) -> Option<Found<'_>> {
        let listed = self.by_port.get(&(site.cluster, end.protocol, end.local.1));
        if listed.is_empty() {
            return None;
        }
        let ip = end.local.0;
        if let Some((node, netns)) = self.home(site, ip, ts_ns, claimed) {
            return self.then(listed, site, ip, ts_ns, |socket| (socket.node, socket.netns) == (node, netns));
        }
        let pod = self.number(Some(claimed.pod_uid?));
        self.then(listed, site, ip, ts_ns, |socket| pod != NONE && socket.pod_uid == pod)
    }

    /// What the log of the node says on which the packets were seen; that of another only where it says nothing, and where the
    /// address means the same there.
    fn then<'a>(
        &'a self,
        listed: &'a [u32],
        site: Site,
        ip: IpAddr,
        ts_ns: i64,
        fits: impl Fn(&Socket) -> bool,
    ) -> Option<Found<'a>> {
        let of = |is_here: bool| self.of_node(listed, site, is_here).filter(|socket| fits(socket));
        let found = self.one(of(true), ts_ns, ONE_CLOCK_NS, true);
        found.or_else(|| if ip.is_loopback() { None } else { self.one(of(false), ts_ns, CLOCKS_NS, false) })
    }

    /// Sockets that the log of this node tells of, or those that others do.
    fn of_node<'a>(
        &'a self,
        listed: &'a [u32],
        site: Site,
        is_here: bool,
    ) -> impl Iterator<Item = &'a Socket> {
        let all = listed.iter().map(|&at| self.get(at));
        all.filter(move |socket| (socket.node == site.node) == is_here)
    }

    /// Of sockets by their begin: those that were open, if they were of one owner; else the one that was accepted soon after the
    /// first packet came for it. Of one connection there is one socket at a time: the one that began last.
    fn one<'a>(
        &'a self,
        listed: impl Iterator<Item = &'a Socket>,
        ts_ns: i64,
        clocks_ns: i64,
        is_here: bool,
    ) -> Option<Found<'a>> {
        let (mut open, mut next, mut count) = (None::<Found<'a>>, None, 0);
        let mut certain = Certain::default();
        let mut is_contested = false;
        for socket in listed {
            if socket.span.from_ns > ts_ns.saturating_add(BACKLOG_NS) || next.is_some() {
                break;
            }
            if socket.is_open(ts_ns, clocks_ns, is_here) {
                count += 1;
                if count > MOST {
                    return None;
                }
                let found = Found { socket, owner: self.owner(socket) };
                certain.add(found, ts_ns);
                let began = socket.span.from_ns <= ts_ns.saturating_add(ONE_CLOCK_NS);
                let shared = match open {
                    Some(before) if began && socket.replaces(before.socket) => Some(found.owner),
                    Some(before) => before.owner.shared(found.owner),
                    None => Some(found.owner),
                };
                is_contested |= shared.is_none();
                open = Some(Found { socket, owner: shared.unwrap_or(found.owner) });
            } else if socket.span.from_ns > ts_ns && socket.op == Op::Accept && self.listened(socket, ts_ns) {
                next = Some(Found { socket, owner: self.owner(socket) });
            }
        }
        match is_contested {
            true => certain.only(),
            false => open.or(next),
        }
    }

    /// Whether somebody listened then where a socket was accepted later.
    fn listened(&self, accepted: &Socket, ts_ns: i64) -> bool {
        let Socket { cluster, protocol, local, node, netns, .. } = *accepted;
        let own = self.by_local.get(&(cluster, protocol, local)).iter();
        let wild = self.by_port.get(&(cluster, protocol, local.1)).iter();
        own.chain(wild).map(|&at| self.get(at)).any(|socket| {
            let is_there = (socket.op, socket.node, socket.netns) == (Op::Listen, node, netns);
            is_there && socket.is_open(ts_ns, ONE_CLOCK_NS, true)
        })
    }

    /// What is still certain of who sent datagrams from an end, of a conversation that lasted: a port may have gone to another
    /// socket meanwhile.
    pub fn throughout<'a>(
        &'a self,
        found: Found<'a>,
        end: &Endpoint,
        [start_ns, end_ns]: [i64; 2],
    ) -> Option<Found<'a>> {
        let Socket { cluster, protocol, node, netns, .. } = *found.socket;
        let own = self.by_local.get(&(cluster, protocol, end.local));
        let wild = self.by_port.get(&(cluster, protocol, end.local.1));
        let mut owner = found.owner;
        for socket in [own, wild].into_iter().flat_map(|listed| listed.iter().map(|&at| self.get(at))) {
            let is_there = (socket.node, socket.netns) == (node, netns);
            let may_speak =
                socket.peer.is_none_or(|peer| peer == end.peer || found.socket.peer == Some(peer));
            let meanwhile = socket.span.from_ns <= end_ns.saturating_add(CLOCKS_NS)
                && socket.span.to_ns >= start_ns.saturating_sub(ONE_CLOCK_NS);
            if is_there && may_speak && meanwhile {
                owner = owner.shared(self.owner(socket))?;
            }
        }
        Some(Found { owner, ..found })
    }

    /// Sockets that dialled from an address and port and were open then, of the node on which the packets were seen; of others only
    /// where it had none.
    pub fn dialling(&self, site: Site, end: &Endpoint, ts_ns: i64) -> impl Iterator<Item = &Socket> {
        let listed = self.by_local.get(&(site.cluster, end.protocol, end.local));
        let open = move |is_here: bool, clocks_ns| {
            let of = self.of_node(listed, site, is_here).filter(|socket| socket.asks());
            of.filter(move |socket| socket.is_open(ts_ns, clocks_ns, is_here)).take(MOST)
        };
        let mut here = open(true, ONE_CLOCK_NS).peekable();
        let is_known = here.peek().is_some();
        let elsewhere = (!is_known && !end.local.0.is_loopback()).then(|| open(false, CLOCKS_NS));
        here.chain(elsewhere.into_iter().flatten())
    }

    /// The only socket that was accepted from there at that time, at another address than the one that was dialled: the kernel
    /// translated it on the way. `leads` says of an address whether what was dialled leads there, as far as that is known.
    pub fn translated(
        &self,
        cluster: u16,
        end: &Endpoint,
        ts_ns: i64,
        leads: impl Fn(Place) -> Option<bool>,
    ) -> Option<&Socket> {
        let Endpoint { protocol, local: from, peer: dialled } = *end;
        let listed = self.accepted_from.get(&(cluster, protocol, from));
        let mut found = listed.iter().map(|&at| self.get(at)).filter(|socket| {
            let latest_ns = ts_ns.saturating_add(BACKLOG_NS);
            let span = socket.span;
            let is_then = span.from_ns <= latest_ns && span.to_ns >= ts_ns.saturating_sub(CLOCKS_NS);
            let began = socket.was_open || span.from_ns >= ts_ns.saturating_sub(CLOCKS_NS);
            // What the caller dialled itself was not translated.
            let direct = (cluster, protocol, from, socket.local);
            let may_be = is_then && began && socket.local != dialled && self.by_tuple.get(&direct).is_empty();
            may_be && leads(socket.local).unwrap_or_else(|| !self.may_answer_another(socket, from, dialled))
        });
        let only = found.next()?;
        found.all(|other| other.local == only.local).then_some(only)
    }

    /// Whether somebody dialled something else from there when a socket was accepted: ports are used again at once.
    fn may_answer_another(&self, accepted: &Socket, from: Place, dialled: Place) -> bool {
        let listed = self.by_local.get(&(accepted.cluster, accepted.protocol, from));
        let dialling = listed.iter().map(|&at| self.get(at)).filter(|socket| socket.asks());
        dialling
            .filter(|socket| socket.peer.is_some_and(|peer| peer != dialled))
            .any(|socket| socket.is_open(accepted.span.from_ns, CLOCKS_NS, true))
    }

    /// The pod whose network namespace had the address, where that was one and of this pod only.
    pub fn resident(&self, site: Site, ip: IpAddr, ts_ns: i64, claimed: Claimed<'_>) -> Option<Owner<'_>> {
        let (node, netns) = self.home(site, ip, ts_ns, claimed)?;
        let pod_uid = self.text(self.inhabitants.pod_at((site.cluster, node, netns), ts_ns)?);
        pod_uid.map(|uid| Owner { pod_uid: Some(uid), node: self.text(node), ..Owner::default() })
    }

    /// Node and network namespace that had an address. Where it was seen there only before, nothing else may speak against it: what
    /// the cluster says of a pod that came later counts more than what was seen of one before.
    fn home(&self, site: Site, ip: IpAddr, ts_ns: i64, claimed: Claimed<'_>) -> Option<(u32, u32)> {
        let home = self.homes.at(site.cluster, site.node, ip, ts_ns)?;
        let lived = || self.inhabitants.pod_at((site.cluster, home.node, home.netns), ts_ns);
        let stands = match claimed.pod_uid {
            _ if home.only_before_ns.is_none() => true,
            Some(uid) => lived().is_some_and(|pod| pod == self.number(Some(uid))),
            None => !claimed.is_known && home.is_recent(ts_ns),
        };
        stands.then_some((home.node, home.netns))
    }
}

/// Of datagram sockets that may be meant, those that were open before and after a packet: no other has their port then.
#[derive(Default)]
struct Certain<'a> {
    found: Option<Found<'a>>,
    /// Several were, or some are of another kind or place.
    leaves_open: bool,
    netns: Option<(u32, u32)>,
}

/// What closes as long after a packet was open when that was sent: twice what a clock that is slewed by 500 ppm gains between two readings
/// of how far it is from the one of events.
const SURELY_NS: i64 = 50_000;

impl<'a> Certain<'a> {
    fn add(&mut self, found: Found<'a>, ts_ns: i64) {
        let Socket { node, netns, protocol, span, .. } = *found.socket;
        let place = *self.netns.get_or_insert((node, netns));
        self.leaves_open |= protocol != 17 || place != (node, netns);
        if span.from_ns <= ts_ns && span.to_ns >= ts_ns.saturating_add(SURELY_NS) {
            self.leaves_open |= self.found.is_some_and(|other| other.owner != found.owner);
            self.found = Some(found);
        }
    }

    fn only(self) -> Option<Found<'a>> {
        self.found.filter(|_| !self.leaves_open)
    }
}

impl Socket {
    /// Of the same connection, which there can be only one socket of at each end.
    fn replaces(&self, before: &Socket) -> bool {
        self.protocol == 6
            && self.peer.is_some()
            && (self.local, self.peer, self.netns) == (before.local, before.peer, before.netns)
            && self.span.from_ns > before.span.from_ns
    }
}

#[cfg(test)]
mod tests;
