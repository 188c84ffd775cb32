//! Flows by age: four lists, one for each time-out, oldest first. In: a touch a packet. Out: what has been silent for too
//! long, and the idlest flow where memory runs out. All by capture time.

use crate::flow::Flow;
use crate::limits;

/// Capture time as a shard sees it. A single stamp far off, as a damaged capture or a stepping clock has them, does not age
/// every flow at once: it takes several in a row.
#[derive(Default)]
pub struct Clock {
    now_ns: Option<i64>,
    astray: u32,
}

impl Clock {
    const JUMP_NS: i64 = 600_000_000_000;
    const WITNESSES: u32 = 8;

    /// Takes the stamp of a packet.
    pub fn tick(&mut self, ts_ns: i64) {
        let now_ns = *self.now_ns.get_or_insert(ts_ns);
        if ts_ns.abs_diff(now_ns) <= Self::JUMP_NS as u64 {
            self.now_ns = Some(now_ns.max(ts_ns));
            self.astray = 0;
            return;
        }
        self.astray += 1;
        if self.astray >= Self::WITNESSES {
            self.now_ns = Some(ts_ns);
            self.astray = 0;
        }
    }

    /// The time.
    pub fn now_ns(&self) -> i64 {
        self.now_ns.unwrap_or(0)
    }
}

const NONE: u32 = u32::MAX;

/// Which time-out holds for a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// TCP that came to its end.
    Closed,
    /// Datagrams of which every question has its answer.
    Answered,
    /// Anything but TCP.
    Other,
    /// TCP.
    Open,
}

impl Age {
    /// The time-out of a flow.
    pub fn of(flow: &Flow) -> Age {
        match (flow.key.protocol, flow.is_over()) {
            (6, true) => Age::Closed,
            (6, false) => Age::Open,
            _ if flow.is_answered() => Age::Answered,
            _ => Age::Other,
        }
    }

    fn timeout_ns(self) -> i64 {
        match self {
            Age::Closed => limits::TCP_CLOSED_NS,
            Age::Answered => limits::ANSWERED_IDLE_NS,
            Age::Other => limits::OTHER_IDLE_NS,
            Age::Open => limits::TCP_IDLE_NS,
        }
    }
}

/// The lists.
pub struct Ages {
    nodes: Vec<Node>,
    lists: [List; 4],
    len: usize,
}

#[derive(Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    age: Age,
    listed: bool,
    touched_ns: i64,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

impl Default for Ages {
    fn default() -> Self {
        Ages { nodes: Vec::new(), lists: [List { oldest: NONE, newest: NONE }; 4], len: 0 }
    }
}

impl Ages {
    /// Number of flows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts a flow at the young end of its list.
    pub fn touch(&mut self, at: u32, age: Age, now_ns: i64) {
        let unused = Node { previous: NONE, next: NONE, age, listed: false, touched_ns: now_ns };
        if self.nodes.len() <= at as usize {
            self.nodes.resize(at as usize + 1, unused);
        }
        self.remove(at);
        let list = &mut self.lists[age as usize];
        self.nodes[at as usize] = Node { previous: list.newest, listed: true, ..unused };
        match list.newest {
            NONE => list.oldest = at,
            newest => self.nodes[newest as usize].next = at,
        }
        list.newest = at;
        self.len += 1;
    }

    /// Takes a flow out.
    pub fn remove(&mut self, at: u32) {
        let node = self.nodes[at as usize];
        if !node.listed {
            return;
        }
        let list = &mut self.lists[node.age as usize];
        match node.previous {
            NONE => list.oldest = node.next,
            previous => self.nodes[previous as usize].next = node.next,
        }
        match node.next {
            NONE => list.newest = node.previous,
            next => self.nodes[next as usize].previous = node.previous,
        }
        self.nodes[at as usize].listed = false;
        self.len -= 1;
    }

    /// A flow that has been silent for longer than its time-out.
    pub fn expired(&self, now_ns: i64) -> Option<u32> {
        self.lists.iter().map(|list| list.oldest).find(|&oldest| {
            oldest != NONE && {
                let node = &self.nodes[oldest as usize];
                now_ns.saturating_sub(node.touched_ns) > node.age.timeout_ns()
            }
        })
    }

    /// The flow to give up first: closed ones, then answered datagrams, then others, then the longest silent.
    pub fn idlest(&self) -> Option<u32> {
        self.lists.iter().map(|list| list.oldest).find(|&oldest| oldest != NONE)
    }
}
