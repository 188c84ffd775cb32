//! Whose sockets spoke. In: rows of sockets and processes of any number of nodes. Out: the socket behind an end of a conversation
//! at a time, by hash of its addresses and then by time. Where several processes could have been meant, nobody is named.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};

use super::numbers::{Index, NONE, Texts};
use super::rows::Rows;
use super::timeline::OPEN;

/// Clocks of nodes differ.
const CLOCKS_NS: i64 = 50_000_000;
/// A node's packets and events have one clock, and nothing comes to a socket that does not listen yet or is closed.
const ONE_CLOCK_NS: i64 = 1_000_000;
/// A connection may wait as long in the queue of its listener before it is accepted.
const BACKLOG_NS: i64 = 30_000_000_000;
/// Sockets looked at for one address and port: more at a time say nothing certain any more.
const MOST: usize = 256;

/// An address and a port.
pub type Place = (IpAddr, u16);

/// One end of a conversation, as packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IP protocol.
    pub protocol: u8,
    /// Of this end.
    pub local: Place,
    /// Of the other.
    pub peer: Place,
}

/// Where packets were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Number of the cluster.
    pub cluster: u16,
    /// Number of the node, as [`Sockets::node`] gives it.
    pub node: u32,
}

/// What a socket was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Connect,
    Accept,
    Listen,
    Bind,
}

/// A socket.
pub struct Socket {
    protocol: u8,
    op: Op,
    local: Place,
    /// The other end, as the process knows it.
    pub peer: Option<Place>,
    from_ns: i64,
    to_ns: i64,
    cluster: u16,
    node: u32,
    netns: u32,
    process: u32,
    pid: Option<i32>,
    pod_uid: u32,
    container: u32,
    /// The same in the logs of all recorders of a machine.
    pub id: u64,
}

/// What is known of the owner of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Executable name.
    pub process: Option<&'a str>,
    /// Pid.
    pub pid: Option<i32>,
    /// Pod.
    pub pod_uid: Option<&'a str>,
    /// Container.
    pub container_id: Option<&'a str>,
    /// Node.
    pub node: Option<&'a str>,
}

/// A socket and whose it was.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The socket, or one of several of one owner.
    pub socket: &'a Socket,
    /// Its owner; without a process where several of a pod could have been meant.
    pub owner: Owner<'a>,
}

impl<'a> Owner<'a> {
    /// What two sockets have in common, if that is at least a pod.
    fn shared(self, other: Owner<'a>) -> Option<Owner<'a>> {
        if self == other {
            return Some(self);
        }
        let same_pod = self.pod_uid.is_some() && (self.pod_uid, self.node) == (other.pod_uid, other.node);
        let container_id = self.container_id.filter(|_| self.container_id == other.container_id);
        same_pod.then_some(Owner { process: None, pid: None, container_id, ..self })
    }
}

/// Sockets of all nodes.
#[derive(Default)]
pub struct Sockets {
    sockets: Vec<Socket>,
    texts: Texts,
    by_tuple: Index<(u16, u8, Place, Place)>,
    by_local: Index<(u16, u8, Place)>,
    accepted_from: Index<(u16, u8, Place)>,
    /// Sockets that wait on every address of their network namespace.
    by_port: Index<(u16, u8, u16)>,
    /// Network namespaces in which an address was seen.
    homes: HashMap<(u16, IpAddr), Vec<Home>>,
    /// Pods whose processes were seen in a network namespace; None among them for processes of no pod.
    inhabitants: HashMap<(u16, u32, u32), Vec<u32>>,
}

/// That an address was one of a network namespace.
struct Home {
    node: u32,
    netns: u32,
    from_ns: i64,
    to_ns: i64,
}

impl Sockets {
    /// From the last rows of all sockets and processes; `cluster` numbers the clusters' names.
    pub fn new(sockets: &Rows, processes: &Rows, mut cluster: impl FnMut(&str) -> u16) -> Sockets {
        let mut all = Sockets::default();
        let mut programs = HashMap::new();
        for (batch, name) in processes.batches.iter().zip(&processes.clusters) {
            all.add_processes(batch, cluster(name), &mut programs);
        }
        for (batch, name) in sockets.batches.iter().zip(&sockets.clusters) {
            all.add_sockets(batch, cluster(name), &programs);
        }
        all.sort();
        all
    }

    fn add_processes(
        &mut self,
        batch: &RecordBatch,
        cluster: u16,
        programs: &mut HashMap<Box<str>, (u32, u32, u32)>,
    ) {
        let text = |name: &str| batch[name].as_string::<i32>();
        let (ids, exes, comms, nodes) = (text("proc_id"), text("exe"), text("comm"), text("node"));
        let (pods, containers) = (text("pod_uid"), text("container_id"));
        let netns = batch["netns"].as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let exe = exes.is_valid(row).then(|| exes.value(row)).map(file_name);
            let name = exe.filter(|name| !name.is_empty()).or(comms.is_valid(row).then(|| comms.value(row)));
            let [program, pod, container, node] =
                [name, value(pods, row), value(containers, row), value(nodes, row)]
                    .map(|text| self.texts.number(text));
            programs.insert(ids.value(row).into(), (program, pod, container));
            if netns.is_valid(row) {
                let key = (cluster, node, netns.value(row) as u32);
                let pods = self.inhabitants.entry(key).or_default();
                if !pods.contains(&pod) {
                    pods.push(pod);
                }
            }
        }
    }

    fn add_sockets(
        &mut self,
        batch: &RecordBatch,
        cluster: u16,
        programs: &HashMap<Box<str>, (u32, u32, u32)>,
    ) {
        let text = |name: &str| batch[name].as_string::<i32>();
        let int = |name: &str| batch[name].as_primitive::<Int32Type>();
        let time = |name: &str| batch[name].as_primitive::<TimestampNanosecondType>();
        let (process_ids, comms, nodes, protocols) =
            (text("proc_id"), text("comm"), text("node"), text("proto"));
        let (ids, pods) = (text("sock_id"), text("pod_uid"));
        let (containers, ops) = (text("container_id"), text("op"));
        let ends =
            [("local_ip", "local_port"), ("peer_ip", "peer_port")].map(|(ip, port)| (text(ip), int(port)));
        let (starts, closes, pids) = (time("start_ts"), time("end_ts"), int("pid"));
        let netns = batch["netns"].as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let [local, peer] = ends.map(|(ips, ports)| {
                let ip = value(ips, row)?.parse::<IpAddr>().ok()?.to_canonical();
                Some((ip, u16::try_from(ports.is_valid(row).then(|| ports.value(row))?).ok()?))
            });
            // One without an address is never found, but keeps its place.
            let unknown = (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
            let known = value(process_ids, row).and_then(|id| programs.get(id)).copied();
            let mut own = [value(comms, row), value(pods, row), value(containers, row)]
                .map(|text| self.texts.number(text));
            if let Some((program, pod, container)) = known {
                for (own, other) in own.iter_mut().zip([program, pod, container]) {
                    *own = if other == NONE { *own } else { other };
                }
            }
            self.sockets.push(Socket {
                protocol: match (local, value(protocols, row)) {
                    (None, _) => 0,
                    (_, Some("tcp")) => 6,
                    _ => 17,
                },
                op: match value(ops, row) {
                    Some("accept") => Op::Accept,
                    Some("listen") => Op::Listen,
                    Some("bind") => Op::Bind,
                    _ => Op::Connect,
                },
                local: local.unwrap_or(unknown),
                peer,
                from_ns: if starts.is_valid(row) { starts.value(row) } else { i64::MIN },
                to_ns: if closes.is_valid(row) { closes.value(row) } else { OPEN },
                cluster,
                node: self.texts.number(value(nodes, row)),
                netns: if netns.is_valid(row) { netns.value(row) as u32 } else { NONE },
                process: own[0],
                pid: pids.is_valid(row).then(|| pids.value(row)),
                pod_uid: own[1],
                container: own[2],
                id: own_id(ids.value(row), value(nodes, row)),
            });
        }
    }

    fn sort(&mut self) {
        let numbered = || (0..).zip(&self.sockets);
        let tuples = numbered().filter_map(|(number, socket)| {
            Some(((socket.cluster, socket.protocol, socket.local, socket.peer?), socket.from_ns, number))
        });
        let own =
            numbered().filter(|(_, socket)| socket.op != Op::Accept && !socket.local.0.is_unspecified());
        let own = own.map(|(number, socket)| {
            ((socket.cluster, socket.protocol, socket.local), socket.from_ns, number)
        });
        let accepted =
            numbered().filter(|(_, socket)| socket.op == Op::Accept).filter_map(|(number, socket)| {
                Some(((socket.cluster, socket.protocol, socket.peer?), socket.from_ns, number))
            });
        let wild = numbered().filter(|(_, socket)| socket.local.0.is_unspecified());
        let wild = wild.map(|(number, socket)| {
            ((socket.cluster, socket.protocol, socket.local.1), socket.from_ns, number)
        });
        let indexes = (
            Index::new(tuples.collect()),
            Index::new(own.collect()),
            Index::new(accepted.collect()),
            Index::new(wild.collect()),
        );
        (self.by_tuple, self.by_local, self.accepted_from, self.by_port) = indexes;
        self.find_homes();
    }

    fn find_homes(&mut self) {
        for socket in &self.sockets {
            let ip = socket.local.0;
            if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || socket.netns == NONE {
                continue;
            }
            let homes = self.homes.entry((socket.cluster, ip)).or_default();
            match homes.iter_mut().find(|home| (home.node, home.netns) == (socket.node, socket.netns)) {
                Some(home) => {
                    home.from_ns = home.from_ns.min(socket.from_ns);
                    home.to_ns = home.to_ns.max(socket.to_ns);
                }
                None => homes.push(Home {
                    node: socket.node,
                    netns: socket.netns,
                    from_ns: socket.from_ns,
                    to_ns: socket.to_ns,
                }),
            }
        }
    }

    /// The socket with just these ends that was open then, or was accepted soon after.
    pub fn exact(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        let key = (site.cluster, end.protocol, end.local, end.peer);
        self.then(self.by_tuple.get(&key), site, end.local.0, ts_ns, |_| true)
    }

    /// A socket with this address and port, whatever its process takes for the other end: all that were open then were of one
    /// owner. An address translation changes the other end only.
    pub fn local(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        let key = (site.cluster, end.protocol, end.local);
        self.then(self.by_local.get(&key), site, end.local.0, ts_ns, |_| true)
    }

    /// The socket that waited for anything that came to this port, in the network namespace that had the address.
    pub fn waiting(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        let home = self.home(site, end.local.0, ts_ns)?;
        let listed = self.by_port.get(&(site.cluster, end.protocol, end.local.1));
        self.then(listed, site, end.local.0, ts_ns, |socket| (socket.node, socket.netns) == home)
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
        let found = self.one(of(true), ts_ns, ONE_CLOCK_NS);
        found.or_else(|| if ip.is_loopback() { None } else { self.one(of(false), ts_ns, CLOCKS_NS) })
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

    /// Of sockets by their begin: those that were open, if they were of one owner; else the one that was accepted, or first
    /// answered, soon after the first packet came for it.
    fn one<'a>(
        &'a self,
        listed: impl Iterator<Item = &'a Socket>,
        ts_ns: i64,
        clocks_ns: i64,
    ) -> Option<Found<'a>> {
        let (mut open, mut next, mut count) = (None::<Found<'a>>, None, 0);
        for socket in listed {
            if socket.from_ns > ts_ns.saturating_add(BACKLOG_NS) || next.is_some() {
                break;
            }
            if socket.is_open(ts_ns, clocks_ns) {
                count += 1;
                if count > MOST {
                    return None;
                }
                let owner = self.owner(socket);
                let shared = match open {
                    Some(found) => found.owner.shared(owner)?,
                    None => owner,
                };
                open = Some(Found { socket, owner: shared });
            } else if socket.from_ns > ts_ns && matches!(socket.op, Op::Accept | Op::Bind) {
                next = Some(Found { socket, owner: self.owner(socket) });
            }
        }
        open.or(next)
    }

    /// Sockets that dialled from an address and port and were open then, of the node on which the packets were seen; of others only
    /// where it had none.
    pub fn dialling(&self, site: Site, end: &Endpoint, ts_ns: i64) -> impl Iterator<Item = &Socket> {
        let listed = self.by_local.get(&(site.cluster, end.protocol, end.local));
        let open = move |is_here: bool, clocks_ns| {
            let of = self.of_node(listed, site, is_here).filter(|socket| socket.asks());
            of.filter(move |socket| socket.is_open(ts_ns, clocks_ns)).take(MOST)
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
            let is_then = socket.from_ns <= latest_ns && socket.to_ns >= ts_ns.saturating_sub(CLOCKS_NS);
            let began = socket.from_ns == i64::MIN || socket.from_ns >= ts_ns.saturating_sub(CLOCKS_NS);
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
            .any(|socket| socket.is_open(accepted.from_ns, CLOCKS_NS))
    }

    /// The pod whose network namespace had the address, where that was one and of this pod only.
    pub fn resident(&self, site: Site, ip: IpAddr, ts_ns: i64) -> Option<Owner<'_>> {
        let (node, netns) = self.home(site, ip, ts_ns)?;
        let pods = self.inhabitants.get(&(site.cluster, node, netns))?;
        let [pod] = pods.as_slice() else { return None };
        let pod_uid = Some(self.texts.get(*pod)?);
        Some(Owner { pod_uid, node: self.texts.get(node), ..Owner::default() })
    }

    fn home(&self, site: Site, ip: IpAddr, ts_ns: i64) -> Option<(u32, u32)> {
        let homes = self.homes.get(&(site.cluster, ip))?;
        let then = |home: &&Home| {
            home.from_ns <= ts_ns.saturating_add(CLOCKS_NS) && home.to_ns >= ts_ns.saturating_sub(CLOCKS_NS)
        };
        let mut here = homes.iter().filter(then).filter(|home| home.node == site.node);
        let mut all = homes.iter().filter(then);
        let home = match here.next() {
            Some(home) => here.next().is_none().then_some(home),
            None => all.next().filter(|_| all.next().is_none()),
        };
        home.map(|home| (home.node, home.netns))
    }

    /// The number of a node by its name.
    pub fn node(&self, name: Option<&str>) -> u32 {
        self.texts.known(name)
    }

    fn get(&self, at: u32) -> &Socket {
        &self.sockets[at as usize]
    }

    /// Who had a socket.
    pub fn owner(&self, socket: &Socket) -> Owner<'_> {
        Owner {
            process: self.texts.get(socket.process).filter(|_| socket.pid.is_some()),
            pid: socket.pid,
            pod_uid: self.texts.get(socket.pod_uid),
            container_id: self.texts.get(socket.container),
            node: self.texts.get(socket.node),
        }
    }
}

impl Socket {
    /// Open then, as far as clocks tell; what a socket did first is stamped when its process runs again.
    fn is_open(&self, ts_ns: i64, clocks_ns: i64) -> bool {
        let late_ns = if self.op == Op::Listen { clocks_ns } else { CLOCKS_NS };
        self.from_ns <= ts_ns.saturating_add(late_ns) && self.to_ns >= ts_ns.saturating_sub(clocks_ns)
    }

    /// How far from its begin a time is.
    pub fn distance_ns(&self, ts_ns: i64) -> u64 {
        self.from_ns.abs_diff(ts_ns)
    }

    /// This end of its connection.
    pub fn local(&self) -> Place {
        self.local
    }

    /// It sends datagrams to anybody.
    pub fn asks_anybody(&self) -> bool {
        self.op == Op::Bind
    }

    /// It began a connection, or sent first.
    pub fn asks(&self) -> bool {
        self.op == Op::Connect
    }
}

/// Boot and number of a socket, without the node it was told of.
pub fn own_id(id: &str, node: Option<&str>) -> u64 {
    let own = node.and_then(|node| id.strip_prefix(node)).unwrap_or(id);
    let mut hasher = DefaultHasher::new();
    own.hash(&mut hasher);
    hasher.finish()
}

fn value(texts: &arrow::array::StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
