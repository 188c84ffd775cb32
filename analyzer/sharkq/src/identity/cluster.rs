//! Whom the addresses of a cluster belonged to. In: the history of its objects. Out: the pod, service or node that had an address
//! at a time, and what is known of it. Pods of the host network and pods that have ended own no address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use shark_schema::identity::{Fact, NodeObject, Pod, Port};

use super::claims::{addresses, begun, claim, claims_of_pod, endpoints_of, slices};
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
    nodes_by_name: HashMap<Box<str>, Number>,
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
    /// Backends of services changed more often than is remembered.
    pub forgets_backends: bool,
}

/// Backends at all moments of all services that are remembered.
const MOST_BACKENDS: usize = 4_000_000;

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
        self.nodes.get(*self.nodes_by_name.get(name)? as usize)
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
            // Of several of one name, in as many clusters, the first.
            self.nodes_by_name.entry(last.name.as_str().into()).or_insert(number);
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
        let (begun, slices) = (begun(history), slices(history));
        let mut room = MOST_BACKENDS;
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
            let endpoints = endpoints_of(&slices, &begun, name, last, &mut room);
            for (at, (from_ns, backends)) in endpoints.iter().enumerate() {
                let to_ns = endpoints.get(at + 1).map_or(OPEN, |next| next.0);
                for (ip, port) in backends {
                    let claim = Claim::certain(number, *from_ns, to_ns);
                    go_on(by_backend.entry((cluster, *ip, *port)).or_default(), claim);
                    go_on(by_pod.entry((cluster, *ip)).or_default(), claim);
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
        self.forgets_backends = room == 0;
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

/// A claim after those before; one that follows on another of its owner is the same.
fn go_on(claims: &mut Vec<Claim<Number>>, next: Claim<Number>) {
    match claims.last_mut() {
        Some(last) if last.owner == next.owner && last.to_ns >= next.from_ns => {
            last.to_ns = last.to_ns.max(next.to_ns);
        }
        _ => claims.push(next),
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
mod tests;
