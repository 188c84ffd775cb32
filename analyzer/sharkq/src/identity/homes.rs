//! Where addresses were at home, and who lived there. In: sockets and processes with their network namespaces and times. Out: the
//! namespace that had an address at a time, and the pod whose processes lived in it then. Numbers of namespaces are used again, and
//! addresses move: what was seen proves nothing of another time, unless the same was seen before and after.

use std::collections::HashMap;
use std::net::IpAddr;

/// Clocks of nodes differ, and what a socket did first is stamped when its process runs again.
const CLOCKS_NS: i64 = 50_000_000;
/// As long after an address was last seen in a namespace it is taken to be there still, where nobody else says anything of it.
const STILL_NS: i64 = 10_000_000_000;

/// Cluster, node and inode of a network namespace.
pub type Netns = (u16, u32, u32);

/// Network namespaces in which addresses were seen.
#[derive(Default)]
pub struct Homes {
    /// By cluster, node and address, one after the other.
    runs: HashMap<(u16, u32, IpAddr), Vec<Run>>,
    nodes: HashMap<(u16, IpAddr), Vec<u32>>,
}

/// That an address was seen in one namespace only.
#[derive(Clone, Copy, Debug)]
struct Run {
    netns: u32,
    first_ns: i64,
    last_ns: i64,
}

/// Where an address was at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The node.
    pub node: u32,
    /// The network namespace.
    pub netns: u32,
    /// When that was seen last, before the time that was asked about; None where it was seen afterwards, too.
    pub only_before_ns: Option<i64>,
}

/// An address that a socket had when it began.
pub struct Sight {
    /// Cluster.
    pub cluster: u16,
    /// Node.
    pub node: u32,
    /// Network namespace.
    pub netns: u32,
    /// The address.
    pub ip: IpAddr,
    /// When.
    pub ts_ns: i64,
}

impl Homes {
    /// From what was seen, in any order.
    pub fn new(mut sights: Vec<Sight>) -> Homes {
        sights.sort_unstable_by_key(|sight| (sight.cluster, sight.node, sight.ip, sight.ts_ns, sight.netns));
        let mut homes = Homes::default();
        for Sight { cluster, node, netns, ip, ts_ns } in sights {
            let runs = homes.runs.entry((cluster, node, ip)).or_default();
            match runs.last_mut() {
                Some(run) if run.netns == netns => run.last_ns = ts_ns,
                _ => runs.push(Run { netns, first_ns: ts_ns, last_ns: ts_ns }),
            }
            let nodes = homes.nodes.entry((cluster, ip)).or_default();
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        homes
    }

    /// The namespace that had an address then: by what this node saw, by what the only other one did that knows the address
    /// where this one does not.
    pub fn at(&self, cluster: u16, node: u32, ip: IpAddr, ts_ns: i64) -> Option<Home> {
        if self.runs.contains_key(&(cluster, node, ip)) {
            return self.of_node(cluster, node, ip, ts_ns);
        }
        let mut homes =
            self.nodes.get(&(cluster, ip))?.iter().filter_map(|node| self.of_node(cluster, *node, ip, ts_ns));
        let only = homes.next()?;
        homes.next().is_none().then_some(only)
    }

    fn of_node(&self, cluster: u16, node: u32, ip: IpAddr, ts_ns: i64) -> Option<Home> {
        let runs = self.runs.get(&(cluster, node, ip))?;
        let next = runs.partition_point(|run| run.first_ns <= ts_ns.saturating_add(CLOCKS_NS));
        let run = runs[next.checked_sub(1)?];
        let home = |only_before_ns| Home { node, netns: run.netns, only_before_ns };
        if ts_ns <= run.last_ns {
            return Some(home(None));
        }
        // It moved at some time after that.
        (next == runs.len()).then(|| home(Some(run.last_ns)))
    }
}

impl Home {
    /// Whether it was seen but a moment before.
    pub fn is_recent(&self, ts_ns: i64) -> bool {
        self.only_before_ns.is_none_or(|last_ns| ts_ns.saturating_sub(last_ns) <= STILL_NS)
    }
}

/// Pods whose processes lived in network namespaces, with the number of no pod for processes of none.
#[derive(Default)]
pub struct Inhabitants {
    lives: HashMap<Netns, Vec<(u32, Spans)>>,
}

/// Times in which something was there, in their order.
type Spans = Vec<(i64, i64)>;

impl Inhabitants {
    /// From lives of processes, in any order.
    pub fn new(lives: impl Iterator<Item = (Netns, u32, (i64, i64))>) -> Inhabitants {
        let mut pods: HashMap<(Netns, u32), Spans> = HashMap::new();
        for (netns, pod, span) in lives {
            pods.entry((netns, pod)).or_default().push(span);
        }
        let mut all = Inhabitants::default();
        for ((netns, pod), spans) in pods {
            all.lives.entry(netns).or_default().push((pod, merged(spans)));
        }
        all
    }

    /// The pod of all who lived there then. Where nobody did, of those before and after, if they were of one.
    pub fn pod_at(&self, netns: Netns, ts_ns: i64) -> Option<u32> {
        let pods = self.lives.get(&netns)?;
        let mut living = pods.iter().filter(|(_, spans)| is_in(spans, ts_ns)).map(|(pod, _)| *pod);
        if let Some(pod) = living.next() {
            return living.next().is_none().then_some(pod);
        }
        let before = pods.iter().filter_map(|(pod, spans)| Some((before(spans, ts_ns)?, *pod)));
        let after = pods.iter().filter_map(|(pod, spans)| Some((after(spans, ts_ns)?, *pod)));
        let ((_, before), (_, after)) = (before.max()?, after.min()?);
        (before == after).then_some(before)
    }
}

fn merged(mut spans: Spans) -> Spans {
    spans.sort_unstable();
    let mut merged: Spans = Vec::new();
    for (from_ns, to_ns) in spans {
        match merged.last_mut() {
            Some(last) if from_ns <= last.1 => last.1 = last.1.max(to_ns),
            _ => merged.push((from_ns, to_ns)),
        }
    }
    merged.shrink_to_fit();
    merged
}

fn is_in(spans: &Spans, ts_ns: i64) -> bool {
    let after = spans.partition_point(|(from_ns, _)| *from_ns <= ts_ns.saturating_add(CLOCKS_NS));
    after.checked_sub(1).is_some_and(|at| spans[at].1 >= ts_ns.saturating_sub(CLOCKS_NS))
}

/// The last end before a time.
fn before(spans: &Spans, ts_ns: i64) -> Option<i64> {
    let after = spans.partition_point(|(_, to_ns)| *to_ns < ts_ns);
    Some(spans[after.checked_sub(1)?].1)
}

/// The first begin after a time.
fn after(spans: &Spans, ts_ns: i64) -> Option<i64> {
    spans.get(spans.partition_point(|(from_ns, _)| *from_ns <= ts_ns)).map(|span| span.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;

    fn homes(sights: &[(u32, u32, i64)]) -> Homes {
        let ip = "10.0.0.1".parse().expect("an address");
        let sight = |&(node, netns, second): &(u32, u32, i64)| Sight {
            cluster: 0,
            node,
            netns,
            ip,
            ts_ns: second * SECOND_NS,
        };
        Homes::new(sights.iter().map(sight).collect())
    }

    fn at(homes: &Homes, node: u32, second: i64) -> Option<(u32, bool)> {
        let home = homes.at(0, node, "10.0.0.1".parse().expect("an address"), second * SECOND_NS)?;
        Some((home.netns, home.only_before_ns.is_none()))
    }

    #[test]
    fn an_address_is_at_home_where_it_was_seen_before_and_after() {
        let homes = homes(&[(1, 7, 20), (1, 7, 10), (1, 8, 40), (1, 8, 50)]);
        assert_eq!(at(&homes, 1, 15), Some((7, true)));
        assert_eq!(at(&homes, 1, 45), Some((8, true)));
        assert_eq!(at(&homes, 1, 9), None);
    }

    #[test]
    fn between_two_namespaces_an_address_is_nowhere() {
        let homes = homes(&[(1, 7, 10), (1, 8, 40), (1, 7, 60)]);
        assert_eq!([20, 39, 50].map(|second| at(&homes, 1, second)), [None, None, None]);
        assert_eq!(at(&homes, 1, 61), Some((7, false)));
    }

    #[test]
    fn what_was_only_seen_before_says_so() {
        let homes = homes(&[(1, 7, 10)]);
        assert_eq!(at(&homes, 1, 30), Some((7, false)));
        let home = homes.at(0, 1, "10.0.0.1".parse().expect("an address"), 30 * SECOND_NS);
        assert!(home.is_some_and(|home| home.is_recent(19 * SECOND_NS) && !home.is_recent(30 * SECOND_NS)));
    }

    #[test]
    fn another_node_tells_where_this_one_does_not() {
        let homes = homes(&[(1, 7, 10), (1, 7, 20)]);
        assert_eq!(at(&homes, 2, 15), Some((7, true)));
        let two = self::homes(&[(1, 7, 10), (1, 7, 20), (3, 9, 10), (3, 9, 20)]);
        assert_eq!(at(&two, 2, 15), None);
        assert_eq!(at(&two, 3, 15), Some((9, true)));
    }

    #[test]
    fn inhabitants_have_times() {
        let span = |from: i64, to: i64| (from * SECOND_NS, to * SECOND_NS);
        let netns = (0, 1, 7);
        let lives = [(netns, 1, span(0, 10)), (netns, 1, span(20, 30)), (netns, 2, span(40, 50))];
        let inhabitants = Inhabitants::new(lives.into_iter());
        let at = |second: i64| inhabitants.pod_at(netns, second * SECOND_NS);
        assert_eq!([5, 25, 45].map(at), [Some(1), Some(1), Some(2)]);
        // Of one pod before and after; of another one after; nobody any more.
        assert_eq!([15, 35, 60].map(at), [Some(1), None, None]);
        let both = Inhabitants::new([(netns, 1, span(0, 10)), (netns, 2, span(5, 10))].into_iter());
        assert_eq!([4, 6].map(|second| both.pod_at(netns, second * SECOND_NS)), [Some(1), None]);
    }
}
