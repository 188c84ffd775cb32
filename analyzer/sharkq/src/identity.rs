//! Who an address belonged to at a time. In: sockets, processes and objects of Kubernetes from the logs, DNS answers from the
//! packets, a static identity file. Out: names and how they were proven; never today's owner of an address for yesterday's packet,
//! and no name at all where two could be meant.

pub mod claims;
pub mod cluster;
pub mod fixed;
pub mod history;
pub mod homes;
pub mod join;
pub mod lives;
pub mod lookup;
pub mod names;
pub mod nat;
pub mod numbers;
pub mod parties;
pub mod policies;
pub mod rows;
pub mod sockets;
pub mod tables;
pub mod timeline;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use arrow::array::{AsArray, RecordBatch};
use shark_dissect::rows::Answer;
use shark_schema::tables::{processes, sockets as sockets_table};

use self::cluster::{Cluster, PodNames, ServiceNames};
use self::fixed::{Fixed, IdentityError};
use self::history::History;
use self::lives::Lives;
use self::lookup::Claimed;
use self::names::Names;
use self::nat::Links;
use self::rows::Rows;
use self::sockets::{Endpoint, Found, Owner, Site, Sockets};
use crate::source::Sources;

/// All that is known of who was who.
#[derive(Default)]
pub struct Identities {
    fixed: Arc<Fixed>,
    /// Objects over time.
    pub history: History,
    /// Whom addresses belonged to.
    pub cluster: Cluster,
    sockets: Sockets,
    rows: Vec<Rows>,
    names: RwLock<Names>,
    /// What was heard and is not among the names yet: the analysis never waits for a join.
    heard: Mutex<Vec<Answer>>,
    /// Conversations on both sides of an address translation.
    pub links: Links,
    warnings: Vec<String>,
}

/// Who an end of a conversation was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Identity<'a> {
    /// Namespace of pod or service.
    pub namespace: Option<&'a str>,
    /// Top of the pod's owners.
    pub workload: Option<&'a str>,
    /// What kind of object that is.
    pub workload_kind: Option<&'a str>,
    /// Pod.
    pub pod: Option<&'a str>,
    /// Its uid.
    pub pod_uid: Option<&'a str>,
    /// Container: its name, else the first twelve digits of its id.
    pub container: Option<&'a str>,
    /// Node it was on.
    pub node: Option<&'a str>,
    /// Zone of that.
    pub zone: Option<&'a str>,
    /// Service.
    pub service: Option<&'a str>,
    /// Executable name.
    pub process: Option<&'a str>,
    /// What the process calls itself.
    pub comm: Option<&'a str>,
    /// Pid.
    pub pid: Option<i32>,
    /// pod, node, service, external, unknown.
    pub kind: Option<&'static str>,
    /// How that is proven.
    pub proof: Option<&'static str>,
}

impl Identities {
    /// With a static identity file only.
    pub fn read(path: &Path) -> Result<Identities, IdentityError> {
        Ok(Identities { fixed: Arc::new(Fixed::read(path)?), ..Identities::default() })
    }

    /// The same static file, and what the logs of these sources tell.
    pub fn with(&self, sources: &Sources) -> Identities {
        let mut warnings = Vec::new();
        let mut lives = Lives::new(&sources.facts);
        let sockets = rows::read(&sources.logs, &sockets_table::TABLE, &mut lives, &mut warnings);
        let processes = rows::read(&sources.logs, &processes::TABLE, &mut lives, &mut warnings);
        let history = History::new(&sources.facts);
        let mut cluster = Cluster::new(&history);
        for batch in [&sockets, &processes].into_iter().flat_map(|rows| &rows.batches) {
            learn_aliases(&mut cluster, batch);
        }
        if cluster.forgets_backends {
            warnings.push(
                "backends of services changed too often to be remembered: those of later times are not known"
                    .into(),
            );
        }
        Identities {
            fixed: Arc::clone(&self.fixed),
            sockets: Sockets::new(&sockets, &processes, |name| cluster.cluster_number(name)),
            rows: vec![sockets, processes],
            history,
            cluster,
            warnings,
            ..Identities::default()
        }
    }

    /// Whether an identity file was given.
    pub fn has_fixed(&self) -> bool {
        !self.fixed.is_empty()
    }

    /// What a person should know of these names.
    pub fn warnings(&self) -> Vec<String> {
        let refused = self.names().refused;
        let full = format!("{refused} addresses in DNS answers were not remembered: there were too many");
        self.warnings.iter().cloned().chain((refused > 0).then_some(full)).collect()
    }

    /// Where rows were recorded, by the names of cluster and node.
    pub fn site(&self, cluster: Option<&str>, node: Option<&str>) -> Site {
        Site { cluster: self.cluster.number(cluster).unwrap_or(u16::MAX), node: self.sockets.node(node) }
    }

    /// Takes in what clients were told in answer to DNS queries.
    pub fn hear(&self, answers: Vec<Answer>) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// Names from DNS, as far as they are known by now.
    pub fn names(&self) -> RwLockReadGuard<'_, Names> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        if !heard.is_empty() {
            self.names.write().unwrap_or_else(PoisonError::into_inner).hear(heard);
        }
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows of sockets and processes as the logs have them.
    pub fn rows(&self) -> &[Rows] {
        &self.rows
    }

    /// Who an end of a conversation was when it began, by the first proof there is: the socket, its cgroup or network namespace, the
    /// pod that had the address, the service, the node.
    pub fn at(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Identity<'_> {
        self.by_socket(self.socket(site, end, ts_ns), site, end, ts_ns)
    }

    fn socket(&self, site: Site, end: &Endpoint, ts_ns: i64) -> Option<Found<'_>> {
        self.sockets.behind(site, end, ts_ns, self.claimed(site, end.local.0, ts_ns))
    }

    /// What the cluster says of an address.
    fn claimed(&self, site: Site, ip: IpAddr, ts_ns: i64) -> Claimed<'_> {
        let pod = self.cluster.pod_at(site.cluster, ip, ts_ns);
        let is_known = self.cluster.is_claimed(site.cluster, ip);
        Claimed { pod_uid: pod.map(|pod| pod.uid.as_str()), is_known }
    }

    fn by_socket<'a>(
        &'a self,
        found: Option<Found<'a>>,
        site: Site,
        end: &Endpoint,
        ts_ns: i64,
    ) -> Identity<'a> {
        let cluster = site.cluster;
        let (ip, _) = end.local;
        let mut who = self.proven(found, site, ip, ts_ns);
        if who.service.is_none() {
            who.service =
                self.cluster.served_at(cluster, end.local, ts_ns).map(|service| service.name.as_str());
        }
        if who.proof.is_none()
            && let Some(service) = self.cluster.service_at(cluster, end.local, ts_ns)
        {
            who = Identity { kind: Some("service"), proof: Some("service"), ..named(service) };
        }
        if let Some(node) = self.cluster.node_at(cluster, ip, ts_ns)
            && who.kind.is_none_or(|kind| kind == "node")
        {
            who.node = who.node.or(Some(&node.name));
            who.zone = who.zone.or(node.zone.as_deref());
            who.kind = Some("node");
            who.proof = who.proof.or(Some("node"));
        }
        if who.proof.is_none() && !self.cluster.clusters.is_empty() && is_public(ip) {
            who.kind = Some("external");
        }
        self.overruled(who, ip, ts_ns)
    }

    /// By socket, cgroup, network namespace or address.
    fn proven<'a>(&'a self, found: Option<Found<'a>>, site: Site, ip: IpAddr, ts_ns: i64) -> Identity<'a> {
        if let Some(Found { socket, owner }) = found
            && (owner.pid.is_some() || owner.pod_uid.is_some())
        {
            let proof = match (owner.pid.is_some(), socket.is_by_listener()) {
                (false, _) => "cgroup",
                (true, true) => "listener",
                (true, false) => "socket",
            };
            let who = self.owned(owner, proof);
            // A process outside of all pods may still speak from a pod's address: somebody entered its network namespace.
            let pod = self.cluster.pod_at(site.cluster, ip, ts_ns).filter(|_| owner.pod_uid.is_none());
            let Some(pod) = pod else { return who };
            let Identity { process, comm, pid, .. } = who;
            return Identity { process, comm, pid, proof: Some("ip_interval"), ..self.of_pod(pod) };
        }
        if let Some(owner) = self.sockets.resident(site, ip, ts_ns, self.claimed(site, ip, ts_ns)) {
            return self.owned(owner, "netns");
        }
        match self.cluster.pod_at(site.cluster, ip, ts_ns) {
            Some(pod) => Identity { proof: Some("ip_interval"), ..self.of_pod(pod) },
            None => Identity::default(),
        }
    }

    fn owned<'a>(&'a self, owner: Owner<'a>, proof: &'static str) -> Identity<'a> {
        let pod = self.cluster.pod_of(owner.pod_uid, owner.container_id);
        let mut who = pod.map_or_else(Identity::default, |pod| self.of_pod(pod));
        let short = |id: &'a str| id.get(..12).unwrap_or(id);
        if let Some(id) = owner.container_id {
            who.container = Some(self.cluster.container(id).unwrap_or_else(|| short(id)));
        }
        who.pod_uid = who.pod_uid.or(owner.pod_uid);
        let outside = owner.container_id.is_none().then_some("node");
        who.kind = who.kind.or(owner.pod_uid.map(|_| "pod")).or(outside);
        // The pod's own word counts more: several recorders may hear of all sockets of one machine.
        who.node = who.node.or(owner.node);
        who.zone = who.zone.or_else(|| self.cluster.node(owner.node?)?.zone.as_deref());
        let Owner { process, comm, pid, .. } = owner;
        Identity { process, comm, pid, proof: Some(proof), ..who }
    }

    fn of_pod<'a>(&'a self, pod: &'a PodNames) -> Identity<'a> {
        let (kind, workload) = &pod.workload;
        Identity {
            namespace: Some(&pod.namespace),
            workload: Some(workload),
            workload_kind: Some(kind),
            pod: Some(&pod.name),
            pod_uid: Some(&pod.uid),
            container: pod.container.as_deref(),
            node: pod.node.as_deref(),
            zone: pod.zone.as_deref(),
            kind: Some("pod"),
            ..Identity::default()
        }
    }

    /// What a person wrote down counts more than anything found.
    fn overruled<'a>(&'a self, who: Identity<'a>, ip: IpAddr, ts_ns: i64) -> Identity<'a> {
        let Some(owner) = self.fixed.at(ip, ts_ns) else { return who };
        Identity {
            namespace: owner.namespace.as_deref(),
            workload: owner.workload.as_deref(),
            workload_kind: owner.workload_kind.as_deref(),
            pod: owner.pod.as_deref(),
            service: owner.service.as_deref(),
            kind: Some(owner.kind()),
            proof: Some("static"),
            ..who
        }
    }
}

/// What cgroups call static pods: by the hash of a manifest, where others have a uid.
fn learn_aliases(cluster: &mut Cluster, batch: &RecordBatch) {
    let [uids, ids] = ["pod_uid", "container_id"].map(|name| batch[name].as_string::<i32>());
    for (uid, id) in uids.iter().zip(ids).filter_map(|(uid, id)| uid.zip(id)) {
        if uid.len() == HASH_DIGITS {
            cluster.learn_alias(uid, id);
        }
    }
}

/// Of MD5, in hex.
const HASH_DIGITS: usize = 32;

/// Not of the ranges that belong to whoever uses them (RFC 1918, RFC 6598, RFC 4193), nor to one link or host.
fn is_public(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return false;
    }
    match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && second & 0xC0 == 64;
            !(v4.is_private() || v4.is_link_local() || v4.is_broadcast() || shared)
        }
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

fn named(service: &ServiceNames) -> Identity<'_> {
    Identity { namespace: Some(&service.namespace), service: Some(&service.name), ..Identity::default() }
}
