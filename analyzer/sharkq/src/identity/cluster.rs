//! Whom the addresses of a cluster belonged to. In: the history of its objects. Out: the pod, service or node that had an address
//! at a time, and what is known of it. Pods of the host network and pods that have ended own no address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use shark_schema::identity::{Fact, NodeObject, Pod, Port};

use super::claims::{addresses, begun, claim, claims_of_pod, endpoints_of};
use super::history::{History, Object};
use super::timeline::{Claim, Conflict, OPEN, Timeline};

/// Number of an object in its list.
pub type Number = u32;

/// An address, within a cluster.
type Address = (u16, IpAddr);

/// A cluster, or several.
#[derive(Default)]
pub struct Cluster {
    /// Names of the clusters; their places are their numbers.
    pub clusters: Vec<String>,
    /// Pods.
    pub pods: Vec<PodNames>,
    /// Services.
    pub services: Vec<ServiceNames>,
    /// Nodes.
    pub nodes: Vec<NodeNames>,
    pods_by_uid: HashMap<Box<str>, Number>,
    /// Names of containers by id, and whose they are.
    containers: HashMap<Box<str>, (Box<str>, Number)>,
    /// What cgroups call pods by, where that is not their uid.
    aliases: HashMap<Box<str>, Number>,
    pods_by_ip: HashMap<Address, Timeline<Number>>,
    services_by_ip: HashMap<Address, Timeline<Number>>,
    nodes_by_ip: HashMap<Address, Timeline<Number>>,
    /// Services by backend.
    backends: HashMap<(u16, IpAddr, u16), Timeline<Number>>,
    /// Services by the address of a backend.
    serving: HashMap<Address, Timeline<Number>>,
    /// Services by node port.
    node_ports: HashMap<(u16, u16), Timeline<Number>>,
    /// Times in which an address had several owners.
    pub conflicts: Vec<AddressConflict>,
    /// Intervals in which pods owned addresses.
    pub owned: Vec<(IpAddr, Claim<Number>)>,
}

/// Several owners of an address.
pub struct AddressConflict {
    /// Address.
    pub ip: IpAddr,
    /// pod, service or node.
    pub kind: &'static str,
    /// When, and who.
    pub conflict: Conflict<Number>,
}

/// What is known of a pod.
pub struct PodNames {
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Top of its owners, itself without one.
    pub workload: (String, String),
    /// Node.
    pub node: Option<String>,
    /// Zone of that.
    pub zone: Option<String>,
    /// The name of its only container.
    pub container: Option<String>,
    /// Shares the node's addresses.
    pub host_network: bool,
    /// Each holds until the next.
    labels: Vec<Labels>,
}

struct Labels {
    from_ns: i64,
    /// They may have become so at any time after this.
    after_ns: i64,
    labels: BTreeMap<String, String>,
}

/// A service with its backends over time.
pub struct ServiceNames {
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Each holds until the next.
    pub endpoints: Vec<(i64, Vec<(IpAddr, u16)>)>,
    /// Ports by number: what they lead to.
    ports: Vec<Port>,
}

/// A node.
pub struct NodeNames {
    /// Name.
    pub name: String,
    /// Zone.
    pub zone: Option<String>,
}

impl Cluster {
    /// From the history of a cluster's objects.
    pub fn new(history: &History) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.add_nodes(history);
        cluster.add_pods(history);
        cluster.add_services(history);
        cluster
    }

    /// Number of a cluster by its name; without one, of the only cluster there is.
    pub fn number(&self, name: Option<&str>) -> Option<u16> {
        let at = match name {
            Some(name) => self.clusters.iter().position(|known| known == name)?,
            None if self.clusters.len() == 1 => 0,
            None => self.clusters.iter().position(String::is_empty)?,
        };
        u16::try_from(at).ok()
    }

    /// The pod that owned an address.
    pub fn pod_at(&self, cluster: u16, ip: IpAddr, ts_ns: i64) -> Option<&PodNames> {
        let number = self.pods_by_ip.get(&(cluster, ip))?.at(ts_ns)?;
        self.pods.get(number as usize)
    }

    /// A pod by its uid.
    pub fn pod(&self, uid: &str) -> Option<&PodNames> {
        self.pods.get(*self.pods_by_uid.get(uid)? as usize)
    }

    /// A pod by what cgroups say: its uid, else that of one of its containers. The kubelet names the cgroups of a static pod by the
    /// hash of its manifest, the API server only knows its mirror.
    pub fn pod_of(&self, uid: Option<&str>, container_id: Option<&str>) -> Option<&PodNames> {
        let by_container = || self.containers.get(container_id?).map(|(_, pod)| *pod);
        let by_alias = || self.aliases.get(uid?).copied();
        let by_uid = uid.and_then(|uid| self.pods_by_uid.get(uid)).copied();
        self.pods.get(by_uid.or_else(by_container).or_else(by_alias)? as usize)
    }

    /// Takes in that a cgroup was of a pod that is called so, and of this container.
    pub fn learn_alias(&mut self, uid: &str, container_id: &str) {
        if self.pods_by_uid.contains_key(uid) || self.aliases.contains_key(uid) {
            return;
        }
        if let Some((_, pod)) = self.containers.get(container_id) {
            self.aliases.insert(uid.into(), *pod);
        }
    }

    /// The name of a container by its id.
    pub fn container(&self, id: &str) -> Option<&str> {
        self.containers.get(id).map(|(name, _)| &**name)
    }

    /// Whether any pod had an address at any time.
    pub fn is_claimed(&self, cluster: u16, ip: IpAddr) -> bool {
        self.pods_by_ip.contains_key(&(cluster, ip))
    }

    /// The service that had an address, or a port of a node that had it.
    pub fn service_at(&self, cluster: u16, (ip, port): (IpAddr, u16), ts_ns: i64) -> Option<&ServiceNames> {
        let by_ip = || self.services_by_ip.get(&(cluster, ip))?.at(ts_ns);
        let by_port = || {
            let number = self.node_ports.get(&(cluster, port))?.at(ts_ns)?;
            self.node_at(cluster, ip, ts_ns).map(|_| number)
        };
        self.services.get(by_ip().or_else(by_port)? as usize)
    }

    /// The only service whose backend this was.
    pub fn served_at(&self, cluster: u16, (ip, port): (IpAddr, u16), ts_ns: i64) -> Option<&ServiceNames> {
        let number = self.backends.get(&(cluster, ip, port))?.at(ts_ns)?;
        self.services.get(number as usize)
    }

    /// The only service that led to this address at all.
    pub fn serving_at(&self, cluster: u16, ip: IpAddr, ts_ns: i64) -> Option<&ServiceNames> {
        let number = self.serving.get(&(cluster, ip))?.at(ts_ns)?;
        self.services.get(number as usize)
    }

    /// The node that had an address.
    pub fn node_at(&self, cluster: u16, ip: IpAddr, ts_ns: i64) -> Option<&NodeNames> {
        self.nodes.get(self.nodes_by_ip.get(&(cluster, ip))?.at(ts_ns)? as usize)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeNames> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The number of a cluster; one that was not known gets one. Who does not say which cluster it belongs to belongs to the only one.
    pub fn cluster_number(&mut self, name: &str) -> u16 {
        let known = match self.clusters.as_mut_slice() {
            [_] if name.is_empty() => Some(0),
            [only] if only.is_empty() => {
                only.push_str(name);
                Some(0)
            }
            all => all.iter().position(|known| known == name),
        };
        let at = known.unwrap_or_else(|| {
            self.clusters.push(name.to_owned());
            self.clusters.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    fn add_nodes(&mut self, history: &History) {
        let mut claims: BTreeMap<Address, Vec<Claim<Number>>> = BTreeMap::new();
        for (name, object) in history.of("node") {
            let cluster = self.cluster_number(name);
            let number = self.nodes.len() as Number;
            let Some(Fact::Node(last)) = object.versions.last().map(|last| &last.fact) else { continue };
            self.nodes.push(NodeNames { name: last.name.clone(), zone: last.zone.clone() });
            for version in &object.versions {
                let Fact::Node(NodeObject { ips, .. }) = &version.fact else { continue };
                for ip in addresses(ips) {
                    claims.entry((cluster, ip)).or_default().push(claim(number, object, version));
                }
            }
        }
        self.nodes_by_ip = self.timelines("node", claims);
    }

    fn add_pods(&mut self, history: &History) {
        let mut claims: BTreeMap<Address, Vec<Claim<Number>>> = BTreeMap::new();
        for (name, object) in history.of("pod") {
            let cluster = self.cluster_number(name);
            let Some(Fact::Pod(last)) = object.versions.last().map(|last| &last.fact) else { continue };
            let number = self.pods.len() as Number;
            self.pods_by_uid.insert(last.uid.as_str().into(), number);
            for version in &object.versions {
                let Fact::Pod(pod) = &version.fact else { continue };
                for container in &pod.containers {
                    if let Some(id) = container.id.as_deref().and_then(|id| id.rsplit("://").next()) {
                        self.containers.insert(id.into(), (container.name.as_str().into(), number));
                    }
                }
            }
            let zone =
                last.node.as_deref().and_then(|node| self.node(node)).and_then(|node| node.zone.clone());
            self.pods.push(PodNames::new(last, zone, labels_of(object)));
            for (ip, claim) in claims_of_pod(number, object) {
                claims.entry((cluster, ip)).or_default().push(claim);
            }
        }
        for ((_, ip), claims) in &claims {
            self.owned.extend(claims.iter().map(|claim| (*ip, *claim)));
        }
        self.pods_by_ip = self.timelines("pod", claims);
    }

    fn add_services(&mut self, history: &History) {
        let mut by_ip: BTreeMap<Address, Vec<Claim<Number>>> = BTreeMap::new();
        let mut by_port: BTreeMap<(u16, u16), Vec<Claim<Number>>> = BTreeMap::new();
        let mut by_pod: BTreeMap<Address, Vec<Claim<Number>>> = BTreeMap::new();
        let mut by_backend: BTreeMap<(u16, IpAddr, u16), Vec<Claim<Number>>> = BTreeMap::new();
        let begun = begun(history);
        for (name, object) in history.of("service") {
            let cluster = self.cluster_number(name);
            let Some(Fact::Service(last)) = object.versions.last().map(|last| &last.fact) else { continue };
            let number = self.services.len() as Number;
            for version in &object.versions {
                let Fact::Service(service) = &version.fact else { continue };
                let claim = claim(number, object, version);
                for ip in addresses(&service.cluster_ips).chain(addresses(&service.external_ips)) {
                    by_ip.entry((cluster, ip)).or_default().push(claim);
                }
                for port in service.ports.iter().filter_map(|port| port.node_port) {
                    by_port.entry((cluster, port)).or_default().push(claim);
                }
            }
            let endpoints = endpoints_of(history, &begun, name, last);
            for (at, (from_ns, backends)) in endpoints.iter().enumerate() {
                let to_ns = endpoints.get(at + 1).map_or(OPEN, |next| next.0);
                for (ip, port) in backends {
                    let claim = Claim::certain(number, *from_ns, to_ns);
                    by_backend.entry((cluster, *ip, *port)).or_default().push(claim);
                    by_pod.entry((cluster, *ip)).or_default().push(claim);
                }
            }
            self.services.push(ServiceNames {
                uid: last.uid.clone(),
                namespace: last.namespace.clone(),
                name: last.name.clone(),
                endpoints,
                ports: last.ports.clone(),
            });
        }
        self.services_by_ip = self.timelines("service", by_ip);
        // A pod may well serve for several services: that is no conflict, it only leaves open which one was meant.
        let only = |claims: Vec<Claim<Number>>| Timeline::new(&claims).0;
        self.node_ports = by_port.into_iter().map(|(key, claims)| (key, only(claims))).collect();
        self.serving = by_pod.into_iter().map(|(key, claims)| (key, only(claims))).collect();
        self.backends = by_backend.into_iter().map(|(key, claims)| (key, only(claims))).collect();
    }

    fn timelines(
        &mut self,
        kind: &'static str,
        claims: BTreeMap<Address, Vec<Claim<Number>>>,
    ) -> HashMap<Address, Timeline<Number>> {
        let mut timelines = HashMap::with_capacity(claims.len());
        for ((cluster, ip), claims) in claims {
            let (timeline, conflicts) = Timeline::new(&claims);
            let conflicts = conflicts.into_iter();
            self.conflicts.extend(conflicts.map(|conflict| AddressConflict { ip, kind, conflict }));
            timelines.insert((cluster, ip), timeline);
        }
        timelines
    }
}

impl PodNames {
    fn new(pod: &Pod, zone: Option<String>, labels: Vec<Labels>) -> PodNames {
        let own = ("Pod".to_owned(), pod.name.clone());
        let workload = pod.owners.last().map_or(own, |owner| (owner.kind.clone(), owner.name.clone()));
        let container = match pod.containers.as_slice() {
            [only] => Some(only.name.clone()),
            _ => None,
        };
        PodNames {
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            workload,
            node: pod.node.clone(),
            zone,
            container,
            host_network: pod.host_network,
            labels,
        }
    }

    /// Its labels at a time; of the time before anybody told of it those that it was first told with.
    pub fn labels_at(&self, ts_ns: i64) -> Option<&BTreeMap<String, String>> {
        let next = self.labels.partition_point(|labels| labels.from_ns <= ts_ns);
        let is_unsure = next > 0 && self.labels.get(next).is_some_and(|later| later.after_ns <= ts_ns);
        let known = self.labels.get(next.saturating_sub(1)).filter(|_| !is_unsure)?;
        Some(&known.labels)
    }
}

fn labels_of(pod: &Object) -> Vec<Labels> {
    let mut changes: Vec<Labels> = Vec::new();
    for version in &pod.versions {
        let Fact::Pod(pod) = &version.fact else { continue };
        if changes.last().is_none_or(|last| last.labels != pod.labels) {
            let after_ns = version.after_ns.unwrap_or(version.from_ns);
            changes.push(Labels { from_ns: version.from_ns, after_ns, labels: pod.labels.clone() });
        }
    }
    changes
}

impl ServiceNames {
    /// Its backends at a time.
    pub fn backends_at(&self, ts_ns: i64) -> &[(IpAddr, u16)] {
        let after = self.endpoints.partition_point(|(from_ns, _)| *from_ns <= ts_ns);
        after.checked_sub(1).map_or(&[], |at| &self.endpoints[at].1)
    }

    /// Whether it led to this backend; None where its backends are not known.
    pub fn leads_to(&self, backend: (IpAddr, u16), ts_ns: i64) -> Option<bool> {
        let known = self.backends_at(ts_ns);
        (!known.is_empty()).then(|| known.contains(&backend))
    }

    /// The backend, where a port led to one only.
    pub fn only_backend_at(&self, port: u16, ts_ns: i64) -> Option<(IpAddr, u16)> {
        let target = self.ports.iter().find(|known| known.port == port || known.node_port == Some(port))?;
        let wanted = target.target.as_deref().and_then(|text| text.parse::<u16>().ok());
        let mut there = self.backends_at(ts_ns).iter().filter(|(_, port)| {
            // A target with a name is a number in the endpoints only.
            wanted.map_or(target.target.is_some() || *port == target.port, |wanted| *port == wanted)
        });
        let only = there.next()?;
        there.all(|other| other == only).then_some(*only)
    }
}

#[cfg(test)]
mod tests {
    use shark_schema::identity::{Endpoint, EndpointSlice, Feature, LogHeader, Record, Service};

    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;

    fn pod(name: &str) -> Pod {
        let ips = vec!["10.0.0.1".into()];
        Pod { uid: name.into(), name: name.into(), ips, phase: "Running".into(), ..Pod::default() }
    }

    fn cluster(told: Vec<(i64, Option<i64>, Pod)>) -> Cluster {
        let facts = told.into_iter().map(|(at, after, pod)| said("n", at, after, Fact::Pod(pod)));
        Cluster::new(&History::new(&facts.collect::<Vec<_>>()))
    }

    fn said(node: &str, at: i64, after: Option<i64>, fact: Fact) -> (LogHeader, Record) {
        let header = LogHeader {
            log: "sharkrec".into(),
            format: 1,
            node: node.into(),
            cluster: String::new(),
            writer: "witness".into(),
            started_ns: 0,
        };
        let after_ns = after.map(|after| after * SECOND_NS);
        (header, Record { ts_ns: at * SECOND_NS, after_ns, fact })
    }

    fn watch(node: &str, at: i64, after: Option<i64>, name: &str, on: bool) -> (LogHeader, Record) {
        let feature = Feature { name: name.into(), on, cause: None, why: format!("at {at}") };
        said(node, at, after, Fact::Feature(feature))
    }

    fn owners<const N: usize>(cluster: &Cluster, at: [i64; N]) -> [Option<&str>; N] {
        let ip = "10.0.0.1".parse().expect("an address");
        at.map(|at| cluster.pod_at(0, ip, at * SECOND_NS).map(|pod| pod.name.as_str()))
    }

    #[test]
    fn an_address_is_owned_from_the_start_to_the_end_of_a_pod() {
        let started = Pod { started_ns: Some(3 * SECOND_NS), ..pod("a") };
        let ended = Pod { phase: "Failed".into(), ended_ns: Some(7 * SECOND_NS), ..started.clone() };
        let told = cluster(vec![(5, None, started), (9, None, ended)]);
        assert_eq!(owners(&told, [2, 3, 7, 8, 9]), [None, Some("a"), Some("a"), None, None]);
        assert!(told.conflicts.is_empty());
    }

    #[test]
    fn what_ended_before_anybody_looked_yields_to_what_runs() {
        let done = Pod {
            phase: "Succeeded".into(),
            started_ns: Some(SECOND_NS),
            ended_ns: Some(4 * SECOND_NS),
            ..pod("done")
        };
        let told = cluster(vec![(6, None, done), (3, None, pod("runs"))]);
        assert_eq!(owners(&told, [1, 2, 3, 6]), [Some("done"), Some("done"), Some("runs"), Some("runs")]);
    }

    #[test]
    fn of_a_time_without_a_watch_nothing_is_said_but_what_both_sides_agree_on() {
        let changed = Pod { restarts: 1, ..pod("a") };
        let gone = Pod { deleted: true, ..changed.clone() };
        let told = cluster(vec![(1, None, pod("a")), (9, Some(5), changed), (20, Some(15), gone)]);
        assert_eq!(owners(&told, [4, 7, 14, 15, 18]), [Some("a"), Some("a"), Some("a"), None, None]);
    }

    #[test]
    fn what_is_to_be_deleted_keeps_its_heir_from_having_a_name() {
        let terminating =
            Pod { deletion_ns: Some(40 * SECOND_NS), grace_ns: Some(30 * SECOND_NS), ..pod("old") };
        let heir = Pod { started_ns: Some(15 * SECOND_NS), ..pod("heir") };
        let told = |last: Pod| {
            let old = [(1, None, pod("old")), (11, None, terminating.clone()), (30, None, last)];
            cluster(old.into_iter().chain([(20, None, heir.clone())]).collect())
        };
        // Its deletion was asked for at 10, its heir began at 15 and is told with the address at 20, it is gone at 30, and was
        // given until 40.
        let gone = told(Pod { deleted: true, ..terminating.clone() });
        assert_eq!(owners(&gone, [9, 12, 14]), [Some("old"); 3]);
        assert_eq!(owners(&gone, [15, 20, 29, 30, 39]), [None; 5]);
        assert_eq!(owners(&gone, [40, 50]), [Some("heir"); 2]);
        let conflict = &gone.conflicts[..];
        assert_eq!(conflict.len(), 1);
        assert_eq!(
            (conflict[0].conflict.from_ns, conflict[0].conflict.to_ns),
            (15 * SECOND_NS, 40 * SECOND_NS)
        );
        // One that says that it has ended has given its address back.
        let over = Pod { phase: "Failed".into(), ended_ns: Some(25 * SECOND_NS), ..terminating.clone() };
        assert_eq!(owners(&told(over), [20, 24, 26, 31]), [None, None, Some("heir"), Some("heir")]);
        // Without an heir nobody contradicts, and after its end nobody has the address.
        let alone = vec![(1, None, pod("old")), (11, None, terminating.clone())];
        let gone = (30, None, Pod { deleted: true, ..terminating.clone() });
        let alone = cluster(alone.into_iter().chain([gone]).collect());
        assert_eq!(owners(&alone, [12, 29, 31]), [Some("old"), Some("old"), None]);
        assert!(alone.conflicts.is_empty());
    }

    #[test]
    fn a_static_pod_is_known_by_its_containers() {
        let container = |id: &str| shark_schema::identity::Container {
            name: "etcd".into(),
            id: Some(format!("containerd://{id}")),
            ..Default::default()
        };
        let mirror = Pod { containers: vec![container("c1")], host_network: true, ..pod("etcd-n1") };
        let mut told = cluster(vec![(1, None, mirror)]);
        let name = |told: &Cluster, uid, id| told.pod_of(uid, id).map(|pod| pod.name.clone());
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(name(&told, Some(hash), Some("c1")).as_deref(), Some("etcd-n1"));
        assert_eq!(name(&told, Some(hash), Some("c2")), None);
        assert_eq!(name(&told, None, Some("c1")).as_deref(), Some("etcd-n1"));
        // A container that came later, of the same manifest; another manifest is another pod.
        told.learn_alias(hash, "c1");
        assert_eq!(name(&told, Some(hash), Some("c2")).as_deref(), Some("etcd-n1"));
        assert_eq!(name(&told, Some("e41d8cd98f00b204e9800998ecf8427e"), Some("c2")), None);
        assert_eq!(name(&told, Some("etcd-n1"), Some("c9")).as_deref(), Some("etcd-n1"), "by its uid");
    }

    #[test]
    fn labels_are_those_of_the_time() {
        let labelled = |app: &str| Pod { labels: [("app".into(), app.into())].into(), ..pod("a") };
        let (one, two, three) = (labelled("one"), labelled("two"), labelled("three"));
        let restarted = Pod { restarts: 1, ..two.clone() };
        let told =
            cluster(vec![(3, None, one), (5, None, two), (7, Some(6), restarted), (12, Some(9), three)]);
        let at = |second: i64| Some(told.pod("a")?.labels_at(second * SECOND_NS)?["app"].as_str());
        assert_eq!([1, 3, 4].map(at), [Some("one"); 3]);
        assert_eq!([5, 6, 8].map(at), [Some("two"); 3]);
        // They changed at a time when nobody watched.
        assert_eq!([9, 11, 12].map(at), [None, None, Some("three")]);
    }

    #[test]
    fn nothing_is_claimed_from_when_nobody_watches_any_more() {
        let told = |node: &str| said(node, 1, None, Fact::Pod(pod("a")));
        let on = |node: &str, at: i64| watch(node, at, None, "kube_pods", true);
        let off = |node: &str, at: i64, after| watch(node, at, after, "kube_pods", false);
        let until = |facts: &[(LogHeader, Record)]| {
            let cluster = Cluster::new(&History::new(facts));
            (1..30).find(|at| owners(&cluster, [*at]) == [None])
        };
        let begun = [on("n", 1), told("n")];
        let with = |more: &[(LogHeader, Record)]| until(&[&begun[..], more].concat());
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[off("n", 9, None)]), Some(9));
        // Since the last word of the server, however often the reason changes.
        assert_eq!(with(&[off("n", 9, Some(6)), off("n", 12, None)]), Some(6));
        assert_eq!(with(&[off("n", 9, None), on("n", 12)]), None);
        assert_eq!(with(&[off("n", 5, None), on("n", 8), off("n", 12, Some(10))]), Some(10));
        assert_eq!(with(&[watch("n", 9, None, "kube_services", false)]), None);
        // Somebody else watches the pod longer, or another pod.
        assert_eq!(with(&[off("n", 9, None), told("m")]), None);
        assert_eq!(with(&[off("n", 9, None), told("m"), off("m", 15, None)]), Some(15));
        let other = said("m", 1, None, Fact::Pod(Pod { ips: vec![], ..pod("b") }));
        assert_eq!(with(&[off("n", 9, None), other]), Some(9));
        // Told again by the next list, of which the log does not tell the end.
        assert_eq!(with(&[off("n", 9, None), said("n", 13, Some(9), Fact::Pod(pod("a")))]), Some(13));
    }

    #[test]
    fn services_and_nodes_lose_their_names_with_their_watch() {
        let service = Service {
            uid: "s".into(),
            namespace: "shop".into(),
            name: "cart".into(),
            cluster_ips: vec!["10.9.0.1".into()],
            ..Service::default()
        };
        let slice = EndpointSlice {
            uid: "e".into(),
            namespace: "shop".into(),
            service: Some("cart".into()),
            ports: vec![Port { port: 80, ..Port::default() }],
            endpoints: vec![Endpoint { addresses: vec!["10.0.0.1".into()], ..Endpoint::default() }],
            ..EndpointSlice::default()
        };
        let node = NodeObject {
            uid: "n".into(),
            name: "n".into(),
            ips: vec!["10.8.0.1".into()],
            ..NodeObject::default()
        };
        let mut facts: Vec<_> = [Fact::Service(service), Fact::EndpointSlice(slice), Fact::Node(node)]
            .map(|fact| said("n", 1, None, fact))
            .into();
        for (at, what) in [(5, "kube_endpointslices"), (7, "kube_services"), (9, "kube_nodes")] {
            facts.push(watch("n", at, None, what, false));
        }
        let cluster = Cluster::new(&History::new(&facts));
        let at = |ip: &str, at: i64| {
            let (ip, ns) = (ip.parse().expect("an address"), at * SECOND_NS);
            let service = cluster.service_at(0, (ip, 80), ns).map(|of| of.name.as_str());
            let served = cluster.served_at(0, (ip, 80), ns).map(|of| of.name.as_str());
            service.or(served).or(cluster.node_at(0, ip, ns).map(|of| of.name.as_str()))
        };
        for (ip, name, until) in [("10.0.0.1", "cart", 5), ("10.9.0.1", "cart", 7), ("10.8.0.1", "n", 9)] {
            assert_eq!(
                [at(ip, until - 1), at(ip, until), at(ip, until + 9)],
                [Some(name), None, None],
                "{ip}"
            );
        }
    }

    #[test]
    fn what_came_to_serve_unwatched_serves_since_its_pod_began() {
        let service =
            Service { uid: "s".into(), namespace: "shop".into(), name: "cart".into(), ..Service::default() };
        let begun =
            Pod { name: "a".into(), namespace: "shop".into(), started_ns: Some(12 * SECOND_NS), ..pod("a") };
        let endpoint =
            Endpoint { addresses: vec!["10.0.0.1".into()], pod: Some("a".into()), ..Endpoint::default() };
        let slice = EndpointSlice {
            uid: "e".into(),
            namespace: "shop".into(),
            service: Some("cart".into()),
            ports: vec![Port { port: 80, ..Port::default() }],
            endpoints: vec![endpoint],
            ..EndpointSlice::default()
        };
        let facts = [
            said("n", 1, None, Fact::Service(service)),
            said("n", 15, Some(5), Fact::Pod(begun)),
            said("n", 15, Some(5), Fact::EndpointSlice(slice)),
        ];
        let cluster = Cluster::new(&History::new(&facts));
        let ip = "10.0.0.1".parse().expect("an address");
        let served = |at: i64| cluster.served_at(0, (ip, 80), at * SECOND_NS).is_some();
        assert_eq!([6, 11, 12, 14, 16].map(served), [false, false, true, true, true]);
    }

    #[test]
    fn pods_of_the_host_network_own_no_address() {
        let told = cluster(vec![(1, None, Pod { host_network: true, ..pod("host") })]);
        assert_eq!(owners(&told, [1, 5]), [None, None]);
    }
}
