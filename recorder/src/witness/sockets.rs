//! The TCP and UDP sockets of a node and whose they are. In: events of the kernel, and now and then all that are open.
//! Out: rows: of all that are open, or of those that changed. A row never names a process that nobody was certain of without
//! saying how it is known.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shark_bpf::sockets::{Event, Kind, TCP_LISTEN};
use shark_schema::table::Block;
use shark_schema::tables::sockets::{SocketBlock, SocketRow};

use super::Names;
use super::cgroup::{Groups, Membership};
use super::proc::TICK_NS;
use super::processes::Processes;

#[derive(Debug, Clone)]
pub struct Socket {
    pub cookie: Option<u64>,
    pub protocol: u8,
    pub netns: u32,
    pub local: (IpAddr, u16),
    pub peer: (IpAddr, u16),
    pub op: &'static str,
    pub result: Option<String>,
    pub start_ns: Option<i64>,
    pub end_ns: Option<i64>,
    pub owner: Option<Owner>,
    pub cgroup_id: u64,
    /// When it was found open, of one whose begin nobody told and that was not there when we came.
    found_ns: Option<i64>,
    /// When anything was last heard or seen of it.
    seen_ns: i64,
    /// Several processes have it open: which of them accepts is not known.
    is_shared: bool,
    /// Its process has closed it.
    is_given_up: bool,
    measured: Option<Measured>,
    changed: bool,
    missed: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub start_ticks: u64,
    pub comm: String,
    pub proof: Proof,
}

/// How an owner is known, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    Listener,
    File,
    Call,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    sent: u64,
    received: u64,
    retransmits: u32,
    srtt_us: u32,
}

#[derive(Default)]
pub struct Sockets {
    open: HashMap<u64, Socket>,
    closed: Vec<Socket>,
    /// Cookies of those that listen, by network namespace, address and port.
    listeners: HashMap<(u32, IpAddr, u16), Vec<u64>>,
    /// Not taken in, because there are too many.
    pub refused: u64,
    /// What is found open from now on was not there when we came.
    has_looked: bool,
}

const MOST: usize = 262_144;
/// Looks in a row that did not find a TCP socket that nobody saw closing; one that a process has given up lives on for minutes.
const MOST_MISSED: u32 = 60;
/// The same after events were lost: its end may have been among them. Of one that waits to be accepted nothing is in any file, either.
const MOST_MISSED_AFTER_LOSS: u32 = 2;
/// net/tcp_states.h
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSED: u8 = 7;
const TCP: u8 = 6;

impl Sockets {
    /// Takes in what the kernel tells. `offset_ns` leads from its clock to ours.
    pub fn hear(&mut self, event: Event, offset_ns: i64) {
        let at_ns = event.at_boottime_ns as i64 + offset_ns;
        match event.kind {
            Kind::Failed | Kind::Closed | Kind::Released => self.close(&event, at_ns),
            Kind::Open => {}
            Kind::Owned => self.own(&event, at_ns),
            _ => self.change(&event, Some(at_ns), at_ns),
        }
    }

    /// Who accepted a connection: the first to read or write. It may be over by then.
    fn own(&mut self, event: &Event, at_ns: i64) {
        let closed = self.closed.iter_mut().rev().find(|socket| socket.cookie == Some(event.cookie));
        let socket = self.open.get_mut(&event.cookie).or(closed);
        if let (Some(socket), Some(owner)) = (socket, owner_of(event)) {
            socket.seen_ns = at_ns;
            socket.own(owner);
        }
    }

    fn change(&mut self, event: &Event, at_ns: Option<i64>, now_ns: i64) {
        let owner = owner_of(event).or_else(|| match event.kind {
            Kind::Accepted => self.listener(event.netns, event.local),
            _ => None,
        });
        if !self.open.contains_key(&event.cookie) {
            if self.open.len() >= MOST {
                self.refused += 1;
                return;
            }
            // One that closes and was never seen before was open before we came.
            let start_ns = at_ns.filter(|_| event.kind != Kind::Closing);
            self.open.insert(event.cookie, self.first_seen(event, start_ns, now_ns));
        }
        if event.protocol == TCP && event.state == TCP_LISTEN {
            let cookies = self.listeners.entry((event.netns, event.local.0, event.local.1)).or_default();
            if !cookies.contains(&event.cookie) {
                cookies.push(event.cookie);
            }
        }
        let Some(socket) = self.open.get_mut(&event.cookie) else { return };
        socket.see(event);
        socket.seen_ns = now_ns;
        socket.is_given_up |= event.kind == Kind::Closing;
        if let Some(owner) = owner {
            socket.own(owner);
        }
        match event.kind {
            Kind::Connected | Kind::Accepted => socket.result = Some("ok".to_owned()),
            Kind::Closing => socket.measure(event),
            _ => {}
        }
    }

    fn close(&mut self, event: &Event, at_ns: i64) {
        let mut socket = match self.open.remove(&event.cookie) {
            Some(socket) => socket,
            // A datagram socket that never sent, or a connection that was over before we came.
            None if event.kind == Kind::Released || event.peer.1 == 0 => return,
            None => self.first_seen(event, None, at_ns),
        };
        self.forget_listener(&socket);
        match event.kind {
            Kind::Failed => {
                socket.see(event);
                socket.result = Some(error_name(event.error));
            }
            Kind::Closed => socket.measure(event),
            _ => {}
        }
        socket.end_ns = Some(at_ns);
        self.closed.push(socket);
    }

    /// Takes in all sockets that processes have open. Datagram sockets that are not among them have been closed, where nobody
    /// tells of that; where events were lost, so have connections that no process gave up.
    pub fn look_around(
        &mut self,
        found: &[Event],
        now_ns: i64,
        datagrams_are_told: bool,
        events_were_lost: bool,
    ) {
        let mut holders: HashMap<u64, (Option<u32>, bool)> = HashMap::new();
        for event in found {
            let (first, is_shared) = holders.entry(event.cookie).or_insert((event.pid, false));
            *is_shared |= *first != event.pid;
        }
        let listens = |event: &&Event| event.state == TCP_LISTEN && event.protocol == TCP;
        // Those that listen first: what they accepted is known by them.
        for event in found.iter().filter(listens).chain(found.iter().filter(|event| !listens(event))) {
            let is_unused = event.local.1 == 0 || (event.protocol == TCP && event.state == TCP_CLOSED);
            let is_shared = holders.get(&event.cookie).is_some_and(|(_, is_shared)| *is_shared);
            if !is_unused {
                // Which of several uses it is not known.
                let pid = event.pid.filter(|_| !is_shared);
                self.change(&Event { pid, ..event.clone() }, None, now_ns);
            }
            if let (false, Some(socket)) = (is_unused, self.open.get_mut(&event.cookie)) {
                socket.missed = 0;
                socket.is_shared = is_shared;
            }
        }
        self.has_looked = true;
        let there: HashSet<u64> = found.iter().map(|event| event.cookie).collect();
        let mut gone = Vec::new();
        for (cookie, socket) in self.open.iter_mut().filter(|(cookie, _)| !there.contains(cookie)) {
            socket.missed += 1;
            let most = match socket.protocol {
                TCP if events_were_lost && !socket.is_given_up => MOST_MISSED_AFTER_LOSS,
                protocol if protocol != TCP && !datagrams_are_told => 1,
                protocol if protocol != TCP && events_were_lost => MOST_MISSED_AFTER_LOSS,
                _ => MOST_MISSED,
            };
            if socket.missed >= most {
                gone.push(*cookie);
            }
        }
        for cookie in gone {
            let Some(mut socket) = self.open.remove(&cookie) else { continue };
            self.forget_listener(&socket);
            // When it ended nobody told: after this nothing is known of it.
            socket.end_ns =
                Some(if datagrams_are_told || socket.protocol == TCP { socket.seen_ns } else { now_ns });
            self.closed.push(socket);
        }
    }

    fn forget_listener(&mut self, socket: &Socket) {
        let key = (socket.netns, socket.local.0, socket.local.1);
        if let (Some(cookies), Some(cookie)) = (self.listeners.get_mut(&key), socket.cookie) {
            cookies.retain(|known| *known != cookie);
            if cookies.is_empty() {
                self.listeners.remove(&key);
            }
        }
    }

    /// Replaces everything by what is open now: where no events come, those that are not found any more have ended.
    pub fn replace(&mut self, found: HashMap<u64, Socket>, now_ns: i64) {
        let gone: Vec<u64> = self.open.keys().copied().filter(|key| !found.contains_key(key)).collect();
        for mut socket in gone.into_iter().filter_map(|key| self.open.remove(&key)) {
            socket.end_ns = Some(now_ns);
            self.closed.push(socket);
        }
        let found_ns = self.has_looked.then_some(now_ns);
        for (key, socket) in found {
            self.open.entry(key).or_insert(Socket { found_ns, ..socket }).seen_ns = now_ns;
        }
        self.has_looked = true;
    }

    /// Whose beginning nobody told is taken for accepted where somebody listens on its port.
    fn first_seen(&self, event: &Event, start_ns: Option<i64>, now_ns: i64) -> Socket {
        let mut socket = Socket::new(event, start_ns);
        socket.seen_ns = now_ns;
        socket.found_ns = (start_ns.is_none() && self.has_looked).then_some(now_ns);
        let began = matches!(event.kind, Kind::Connecting | Kind::Connected | Kind::Failed);
        if !began && socket.op == "connect" && self.listening(event.netns, event.local).is_some() {
            socket.op = "accept";
        }
        if event.protocol == TCP && !began && socket.op != "listen" && event.state != TCP_SYN_SENT {
            socket.result = Some("ok".to_owned());
        }
        socket
    }

    /// Those that listen for what comes to an address and port: at this address, else at all of its kind, else at all.
    fn listening(&self, netns: u32, (ip, port): (IpAddr, u16)) -> Option<&[u64]> {
        let anywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let all = anywhere.into_iter().skip(usize::from(ip.is_ipv6()));
        let found = [ip].into_iter().chain(all).find_map(|ip| self.listeners.get(&(netns, ip, port)));
        found.map(Vec::as_slice)
    }

    /// The only process that can have accepted a connection.
    fn listener(&self, netns: u32, local: (IpAddr, u16)) -> Option<Owner> {
        let mut owners = self.listening(netns, local)?.iter().map(|cookie| {
            let socket = self.open.get(cookie).filter(|socket| !socket.is_shared)?;
            socket.owner.clone()
        });
        let owner = owners.next()??;
        let is_only = owners.all(|other| other.is_some_and(|other| other.pid == owner.pid));
        is_only.then_some(Owner { proof: Proof::Listener, ..owner })
    }

    /// Rows of what changed since the last time; None where nothing did.
    pub fn changes(
        &mut self,
        names: &Names,
        processes: &Processes,
        groups: &mut Groups,
    ) -> Option<SocketBlock> {
        let mut rows = None;
        let changed = self.open.values_mut().filter_map(|socket| {
            let changed = std::mem::take(&mut socket.changed);
            changed.then_some(&*socket)
        });
        for socket in self.closed.iter().chain(changed) {
            socket.write(names, processes, groups, rows.get_or_insert_default());
        }
        self.closed.clear();
        rows
    }

    /// Rows of all that are open.
    pub fn state(&self, names: &Names, processes: &Processes, groups: &mut Groups) -> SocketBlock {
        let mut rows = SocketBlock::default();
        self.open.values().for_each(|socket| socket.write(names, processes, groups, &mut rows));
        rows
    }
}

impl Socket {
    fn new(event: &Event, start_ns: Option<i64>) -> Socket {
        let op = match (event.kind, event.protocol) {
            (Kind::Accepted, _) => "accept",
            (Kind::Listening, _) => "listen",
            (_, TCP) if event.state == TCP_LISTEN => "listen",
            (_, TCP) => "connect",
            _ => "bind",
        };
        Socket {
            cookie: Some(event.cookie),
            protocol: event.protocol,
            netns: event.netns,
            local: event.local,
            peer: event.peer,
            op,
            result: None,
            start_ns,
            end_ns: None,
            owner: None,
            cgroup_id: event.cgroup_id,
            found_ns: None,
            seen_ns: 0,
            is_shared: false,
            is_given_up: false,
            measured: None,
            changed: true,
            missed: 0,
        }
    }

    /// As /proc shows it.
    pub fn found(
        protocol: u8,
        netns: u32,
        local: (IpAddr, u16),
        peer: (IpAddr, u16),
        op: &'static str,
    ) -> Socket {
        Socket {
            cookie: None,
            protocol,
            netns,
            local,
            peer,
            op,
            result: (protocol == TCP && op != "listen").then(|| "ok".to_owned()),
            start_ns: None,
            end_ns: None,
            owner: None,
            cgroup_id: 0,
            found_ns: None,
            seen_ns: 0,
            is_shared: false,
            is_given_up: false,
            measured: None,
            changed: true,
            missed: 0,
        }
    }

    /// Its ends, as far as they are fixed by now.
    fn see(&mut self, event: &Event) {
        let before = (self.local, self.peer);
        if event.local.1 != 0 {
            self.local = event.local;
        }
        if event.peer.1 != 0 {
            self.peer = event.peer;
        }
        if self.protocol != TCP {
            self.op = if self.peer.1 == 0 { "bind" } else { "connect" };
        }
        self.changed |= before != (self.local, self.peer) || event.kind != Kind::Open;
    }

    fn own(&mut self, owner: Owner) {
        let is_better = self.owner.as_ref().is_none_or(|known| owner.proof > known.proof);
        if is_better {
            self.owner = Some(owner);
            self.changed = true;
        }
    }

    fn measure(&mut self, event: &Event) {
        let Event { sent_bytes: sent, received_bytes: received, retransmits, srtt_us, .. } = *event;
        self.measured = Some(Measured { sent, received, retransmits, srtt_us });
    }

    fn write(&self, names: &Names, processes: &Processes, groups: &mut Groups, rows: &mut SocketBlock) {
        let id = names.socket(self);
        let process = self.owner.as_ref().and_then(|owner| processes.get(owner.pid, owner.start_ticks));
        let proc_id = self.owner.as_ref().map(|owner| names.process(owner.pid, owner.start_ticks));
        // Its own cgroup says who made it, where that of its process is not known.
        let known = process.map(|process| &process.group).filter(|group| !group.path.is_empty());
        let own = known.is_none().then(|| groups.path(self.cgroup_id)).flatten().map(Membership::of_path);
        let group = known.or(own.as_ref());
        let [local_ip, peer_ip] = [self.local.0, self.peer.0].map(|ip| ip.to_string());
        let has_peer = self.peer.1 != 0;
        let count = |of: fn(&Measured) -> u64| self.measured.as_ref().map(|m| of(m) as i64);
        rows.append(&SocketRow {
            sock_id: Some(&id),
            proc_id: proc_id.as_deref(),
            node: Some(&names.node),
            start_ts: self.start_ns,
            end_ts: self.end_ns,
            op: Some(self.op),
            result: self.result.as_deref(),
            pid: self.owner.as_ref().and_then(|owner| i32::try_from(owner.pid).ok()),
            comm: self.owner.as_ref().map(|owner| owner.comm.as_str()),
            pod_uid: group.and_then(|group| group.pod_uid.as_deref()),
            proto: Some(if self.protocol == TCP { "tcp" } else { "udp" }),
            local_ip: Some(&local_ip),
            local_port: Some(self.local.1.into()),
            peer_ip: has_peer.then_some(&peer_ip),
            peer_port: has_peer.then_some(self.peer.1.into()),
            tx_bytes: count(|m| m.sent),
            rx_bytes: count(|m| m.received),
            retransmits: count(|m| m.retransmits.into()),
            srtt_ns: count(|m| u64::from(m.srtt_us) * 1_000),
            cookie: self.cookie.map(|cookie| cookie as i64),
            netns: Some(self.netns.into()),
            cgroup_id: (self.cgroup_id != 0).then_some(self.cgroup_id as i64),
            cgroup: group.map(|group| group.path.as_str()).filter(|path| !path.is_empty()),
            container_id: group.and_then(|group| group.container_id.as_deref()),
            proc_start_ts: process.map(|process| process.start_ns),
            pid_proof: self.owner.as_ref().map(|owner| owner.proof.name()),
            found_ts: self.found_ns,
            ..SocketRow::default()
        });
    }
}

impl Proof {
    fn name(self) -> &'static str {
        match self {
            Proof::Listener => "listener",
            Proof::File => "file",
            Proof::Call => "call",
        }
    }
}

fn owner_of(event: &Event) -> Option<Owner> {
    let proof = if event.kind == Kind::Open { Proof::File } else { Proof::Call };
    let (start_ticks, comm) = (event.process_start_ns / TICK_NS, event.comm.clone());
    event.pid.map(|pid| Owner { pid, start_ticks, comm, proof })
}

/// errno(3), those a connect ends in.
fn error_name(error: u32) -> String {
    match error as i32 {
        // Given up by the process itself.
        0 => "ECANCELED".to_owned(),
        libc::ECONNREFUSED => "ECONNREFUSED".to_owned(),
        libc::ETIMEDOUT => "ETIMEDOUT".to_owned(),
        libc::EHOSTUNREACH => "EHOSTUNREACH".to_owned(),
        libc::ENETUNREACH => "ENETUNREACH".to_owned(),
        libc::ECONNRESET => "ECONNRESET".to_owned(),
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL".to_owned(),
        libc::EADDRINUSE => "EADDRINUSE".to_owned(),
        other => format!("errno {other}"),
    }
}

#[cfg(test)]
mod tests;
