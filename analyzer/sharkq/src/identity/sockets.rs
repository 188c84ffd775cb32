//! Whose sockets spoke. In: rows of sockets and processes of any number of nodes. Out: sockets with their owners and times, by hash of
//! their addresses and then by begin; and where addresses were at home. Finding the one that is meant is the work of `lookup`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};

use super::homes::{Homes, Inhabitants, Netns, Sight};
use super::numbers::{Index, NONE, Texts};
use super::rows::{Rows, Span};

/// Clocks of nodes differ.
pub const CLOCKS_NS: i64 = 50_000_000;

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
pub enum Op {
    /// It began a connection, or sent to one peer only.
    Connect,
    /// It was accepted.
    Accept,
    /// It waits for connections.
    Listen,
    /// It takes and sends datagrams of any peer.
    Bind,
}

/// A socket.
pub struct Socket {
    /// IP protocol; 0 for one without an address.
    pub protocol: u8,
    /// What it was for.
    pub op: Op,
    /// This end of it.
    pub local: Place,
    /// The other end, as the process knows it.
    pub peer: Option<Place>,
    /// When it is known to have been there.
    pub span: Span,
    /// It was there before anybody looked.
    pub was_open: bool,
    /// Number of its cluster.
    pub cluster: u16,
    /// Number of the node that told of it.
    pub node: u32,
    /// Its network namespace.
    pub netns: u32,
    process: u32,
    comm: u32,
    pid: Option<i32>,
    /// Number of its pod's uid.
    pub pod_uid: u32,
    container: u32,
    /// Only the process is known that had the listening socket open.
    is_by_listener: bool,
    /// The same in the logs of all recorders of a machine.
    pub id: u64,
}

/// What is known of the owner of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Executable name.
    pub process: Option<&'a str>,
    /// What the process calls itself.
    pub comm: Option<&'a str>,
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
    pub fn shared(self, other: Owner<'a>) -> Option<Owner<'a>> {
        if self == other {
            return Some(self);
        }
        let same_pod = self.pod_uid.is_some() && (self.pod_uid, self.node) == (other.pod_uid, other.node);
        let container_id = self.container_id.filter(|_| self.container_id == other.container_id);
        same_pod.then_some(Owner { process: None, comm: None, pid: None, container_id, ..self })
    }
}

/// Sockets of all nodes.
#[derive(Default)]
pub struct Sockets {
    sockets: Vec<Socket>,
    texts: Texts,
    pub(super) by_tuple: Index<(u16, u8, Place, Place)>,
    pub(super) by_local: Index<(u16, u8, Place)>,
    pub(super) accepted_from: Index<(u16, u8, Place)>,
    /// Sockets that wait on every address of their network namespace.
    pub(super) by_port: Index<(u16, u8, u16)>,
    pub(super) homes: Homes,
    pub(super) inhabitants: Inhabitants,
}

/// Program, pod and container of a process.
type Programs = HashMap<Box<str>, (u32, u32, u32)>;

impl Sockets {
    /// From the last rows of all sockets and processes; `cluster` numbers the clusters' names.
    pub fn new(sockets: &Rows, processes: &Rows, mut cluster: impl FnMut(&str) -> u16) -> Sockets {
        let mut all = Sockets::default();
        let (mut programs, mut lives) = (Programs::new(), Vec::new());
        for ((batch, name), spans) in processes.batches.iter().zip(&processes.clusters).zip(&processes.spans)
        {
            all.add_processes(batch, spans, cluster(name), &mut programs, &mut lives);
        }
        all.inhabitants = Inhabitants::new(lives.into_iter());
        for ((batch, name), spans) in sockets.batches.iter().zip(&sockets.clusters).zip(&sockets.spans) {
            all.add_sockets(batch, spans, cluster(name), &programs);
        }
        all.sort();
        all
    }

    fn add_processes(
        &mut self,
        batch: &RecordBatch,
        spans: &[Span],
        cluster: u16,
        programs: &mut Programs,
        lives: &mut Vec<(Netns, u32, (i64, i64))>,
    ) {
        let text = |name: &str| batch[name].as_string::<i32>();
        let (ids, exes, comms, nodes) = (text("proc_id"), text("exe"), text("comm"), text("node"));
        let (pods, containers) = (text("pod_uid"), text("container_id"));
        let netns = batch["netns"].as_primitive::<Int64Type>();
        for (row, span) in spans.iter().enumerate() {
            let exe = value(exes, row).map(program_name);
            let name = exe.filter(|name| !name.is_empty()).or(value(comms, row));
            let [program, pod, container, node] =
                [name, value(pods, row), value(containers, row), value(nodes, row)]
                    .map(|text| self.texts.number(text));
            programs.insert(ids.value(row).into(), (program, pod, container));
            if netns.is_valid(row) {
                let key = (cluster, node, netns.value(row) as u32);
                lives.push((key, pod, (span.from_ns, span.to_ns)));
            }
        }
    }

    fn add_sockets(&mut self, batch: &RecordBatch, spans: &[Span], cluster: u16, programs: &Programs) {
        let text = |name: &str| batch[name].as_string::<i32>();
        let int = |name: &str| batch[name].as_primitive::<Int32Type>();
        let (process_ids, comms, nodes, protocols) =
            (text("proc_id"), text("comm"), text("node"), text("proto"));
        let (ids, pods) = (text("sock_id"), text("pod_uid"));
        let (containers, ops, proofs) = (text("container_id"), text("op"), text("pid_proof"));
        let ends =
            [("local_ip", "local_port"), ("peer_ip", "peer_port")].map(|(ip, port)| (text(ip), int(port)));
        let [starts, born] =
            ["start_ts", "proc_start_ts"].map(|name| batch[name].as_primitive::<TimestampNanosecondType>());
        let (pids, netns) = (int("pid"), batch["netns"].as_primitive::<Int64Type>());
        for (row, &span) in spans.iter().enumerate() {
            let [local, peer] = ends.map(|(ips, ports)| {
                let ip = value(ips, row)?.parse::<IpAddr>().ok()?.to_canonical();
                Some((ip, u16::try_from(ports.is_valid(row).then(|| ports.value(row))?).ok()?))
            });
            // One without an address is never found, but keeps its place.
            let unknown = (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
            let known = value(process_ids, row).and_then(|id| programs.get(id)).copied();
            let mut own = [value(comms, row), value(pods, row), value(containers, row)]
                .map(|text| self.texts.number(text));
            let comm = own[0];
            if let Some((program, pod, container)) = known {
                for (own, other) in own.iter_mut().zip([program, pod, container]) {
                    *own = if other == NONE { *own } else { other };
                }
            }
            let was_open = starts.is_null(row);
            let mut span = span;
            // Nothing that was there before is known of a time before its process was.
            if was_open && born.is_valid(row) {
                span.from_ns = born.value(row).max(span.from_ns);
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
                span,
                was_open,
                cluster,
                node: self.texts.number(value(nodes, row)),
                netns: if netns.is_valid(row) { netns.value(row) as u32 } else { NONE },
                process: own[0],
                comm,
                pid: pids.is_valid(row).then(|| pids.value(row)),
                pod_uid: own[1],
                container: own[2],
                is_by_listener: value(proofs, row) == Some("listener"),
                id: own_id(ids.value(row), value(nodes, row)),
            });
        }
    }

    fn sort(&mut self) {
        let numbered = || (0..).zip(&self.sockets);
        let begin = |socket: &Socket| socket.span.from_ns;
        let tuples = numbered().filter_map(|(number, socket)| {
            Some(((socket.cluster, socket.protocol, socket.local, socket.peer?), begin(socket), number))
        });
        let own =
            numbered().filter(|(_, socket)| socket.op != Op::Accept && !socket.local.0.is_unspecified());
        let own = own
            .map(|(number, socket)| ((socket.cluster, socket.protocol, socket.local), begin(socket), number));
        let accepted =
            numbered().filter(|(_, socket)| socket.op == Op::Accept).filter_map(|(number, socket)| {
                Some(((socket.cluster, socket.protocol, socket.peer?), begin(socket), number))
            });
        let wild = numbered().filter(|(_, socket)| socket.local.0.is_unspecified());
        let wild = wild.map(|(number, socket)| {
            ((socket.cluster, socket.protocol, socket.local.1), begin(socket), number)
        });
        let indexes = (
            Index::new(tuples.collect()),
            Index::new(own.collect()),
            Index::new(accepted.collect()),
            Index::new(wild.collect()),
        );
        (self.by_tuple, self.by_local, self.accepted_from, self.by_port) = indexes;
        self.homes = Homes::new(self.sockets.iter().filter_map(Socket::sight).collect());
    }

    /// The number of a node by its name.
    pub fn node(&self, name: Option<&str>) -> u32 {
        self.texts.known(name)
    }

    /// The number of a text, if any socket or process has it.
    pub fn number(&self, text: Option<&str>) -> u32 {
        self.texts.known(text)
    }

    /// A text by its number.
    pub fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(number)
    }

    /// A socket by its number.
    pub fn get(&self, at: u32) -> &Socket {
        &self.sockets[at as usize]
    }

    /// Who had a socket.
    pub fn owner(&self, socket: &Socket) -> Owner<'_> {
        let of_process = |number| self.texts.get(number).filter(|_| socket.pid.is_some());
        Owner {
            process: of_process(socket.process),
            comm: of_process(socket.comm),
            pid: socket.pid,
            pod_uid: self.texts.get(socket.pod_uid),
            container_id: self.texts.get(socket.container),
            node: self.texts.get(socket.node),
        }
    }
}

impl Socket {
    /// Open then, as far as clocks tell; what a socket did first is stamped when its process runs again.
    pub fn is_open(&self, ts_ns: i64, clocks_ns: i64, is_here: bool) -> bool {
        let late_ns = if self.op == Op::Listen { clocks_ns } else { CLOCKS_NS };
        let to_ns = if is_here { self.span.to_ns } else { self.span.sure_ns };
        self.span.from_ns <= ts_ns.saturating_add(late_ns) && to_ns >= ts_ns.saturating_sub(clocks_ns)
    }

    /// How far from its begin a time is.
    pub fn distance_ns(&self, ts_ns: i64) -> u64 {
        self.span.from_ns.abs_diff(ts_ns)
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

    /// Only who listened is known, not who accepted.
    pub fn is_by_listener(&self) -> bool {
        self.is_by_listener || self.op == Op::Listen
    }

    /// The address it had when it began.
    fn sight(&self) -> Option<Sight> {
        let ip = self.local.0;
        let is_anywhere = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
        let Socket { cluster, node, netns, span, .. } = *self;
        (!is_anywhere && netns != NONE).then_some(Sight { cluster, node, netns, ip, ts_ns: span.from_ns })
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

/// The file's name; of one that was replaced while it ran, that which it had.
fn program_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}
