//! The TCP and UDP sockets of a node and whose they are. In: events of the kernel, and now and then all that are open.
//! Out: rows: of all that are open, or of those that changed. A row never names a process that nobody was certain of without
//! saying how it is known.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

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
    /// Who listens, by network namespace and port.
    listeners: HashMap<(u32, u16), Owner>,
    /// Not taken in, because there are too many.
    pub refused: u64,
}

const MOST: usize = 262_144;
/// Looks in a row that did not find a TCP socket that nobody saw closing; one that a process has given up lives on for minutes.
const MOST_MISSED: u32 = 60;
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
            _ => self.change(&event, Some(at_ns)),
        }
    }

    fn change(&mut self, event: &Event, at_ns: Option<i64>) {
        let owner = owner_of(event).or_else(|| match event.kind {
            Kind::Accepted => self.listener(event.netns, event.local.1),
            _ => None,
        });
        if let (Kind::Listening, Some(owner)) = (event.kind, &owner) {
            self.listeners.insert((event.netns, event.local.1), owner.clone());
        }
        if !self.open.contains_key(&event.cookie) {
            if self.open.len() >= MOST {
                self.refused += 1;
                return;
            }
            // One that closes and was never seen before was open before we came.
            let start_ns = at_ns.filter(|_| event.kind != Kind::Closing);
            self.open.insert(event.cookie, self.first_seen(event, start_ns));
        }
        let Some(socket) = self.open.get_mut(&event.cookie) else { return };
        socket.see(event);
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
            None => self.first_seen(event, None),
        };
        if socket.op == "listen" {
            let key = (socket.netns, socket.local.1);
            let still =
                self.open.values().any(|other| other.op == "listen" && (other.netns, other.local.1) == key);
            if !still {
                self.listeners.remove(&key);
            }
        }
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
    /// tells of that.
    pub fn look_around(&mut self, found: &[Event], now_ns: i64, datagrams_are_told: bool) {
        for event in found.iter().filter(|event| event.state == TCP_LISTEN && event.protocol == TCP) {
            if let Some(owner) = owner_of(event) {
                self.listeners.entry((event.netns, event.local.1)).or_insert(owner);
            }
        }
        for event in found {
            let unused = event.local.1 == 0 || (event.protocol == TCP && event.state == TCP_CLOSED);
            if !unused {
                self.change(event, None);
            }
            if let (false, Some(socket)) = (unused, self.open.get_mut(&event.cookie)) {
                socket.missed = 0;
            }
        }
        let there: HashSet<u64> = found.iter().map(|event| event.cookie).collect();
        let mut gone = Vec::new();
        for (cookie, socket) in self.open.iter_mut().filter(|(cookie, _)| !there.contains(cookie)) {
            socket.missed += 1;
            let most = if socket.protocol != TCP && !datagrams_are_told { 1 } else { MOST_MISSED };
            if socket.missed >= most {
                gone.push(*cookie);
            }
        }
        for mut socket in gone.into_iter().filter_map(|cookie| self.open.remove(&cookie)) {
            // When is not known to more than the time between two looks.
            socket.end_ns = Some(now_ns);
            self.closed.push(socket);
        }
    }

    /// Replaces everything by what is open now: where no events come, those that are not found any more have ended.
    pub fn replace(&mut self, found: HashMap<u64, Socket>, now_ns: i64) {
        let gone: Vec<u64> = self.open.keys().copied().filter(|key| !found.contains_key(key)).collect();
        for mut socket in gone.into_iter().filter_map(|key| self.open.remove(&key)) {
            socket.end_ns = Some(now_ns);
            self.closed.push(socket);
        }
        for (key, socket) in found {
            self.open.entry(key).or_insert(socket);
        }
    }

    /// Whose beginning nobody told is taken for accepted where somebody listens on its port.
    fn first_seen(&self, event: &Event, start_ns: Option<i64>) -> Socket {
        let mut socket = Socket::new(event, start_ns);
        let began = matches!(event.kind, Kind::Connecting | Kind::Connected | Kind::Failed);
        if !began && socket.op == "connect" && self.listeners.contains_key(&(event.netns, event.local.1)) {
            socket.op = "accept";
        }
        if event.protocol == TCP && !began && socket.op != "listen" && event.state != TCP_SYN_SENT {
            socket.result = Some("ok".to_owned());
        }
        socket
    }

    fn listener(&self, netns: u32, port: u16) -> Option<Owner> {
        let owner = self.listeners.get(&(netns, port))?;
        Some(Owner { proof: Proof::Listener, ..owner.clone() })
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
