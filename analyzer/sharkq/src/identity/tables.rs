//! What the logs tell, as tables: pods, services, nodes, processes, sockets, events, policies, conflicts, NAT links. In: everything
//! that identities were made from. Out: batches of each table, intervals as they were found.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use shark_schema::identity::{Container, Event, Fact, LogHeader, NodeObject, Pod, Port, Record, Service};
use shark_schema::table::{Block, Table};
use shark_schema::tables::identity_conflicts::{self, ConflictBlock, ConflictRow};
use shark_schema::tables::k8s_events::{self, EventBlock, EventRow};
use shark_schema::tables::nodes::{self, NodeBlock, NodeRow};
use shark_schema::tables::pods::{self, PodBlock, PodRow};
use shark_schema::tables::services::{self, ServiceBlock, ServiceRow};
use shark_schema::tables::{nat_links, network_policies};

use super::claims::addresses;
use super::cluster::{Cluster, Number, ServiceNames};
use super::history::Object;
use super::rows::Rows;
use super::sockets::own_id;
use super::timeline::{Claim, OPEN};
use super::{Identities, policies};
use crate::source::Sources;

/// A batch of rows is full at this many bytes.
const BATCH_BYTES: usize = 4 << 20;

const TOO_MANY_POLICIES: &str = "network policies allow more than the table network_policies has rows for";

/// What they would lack, without making them.
pub fn warnings(identities: &Identities) -> Vec<String> {
    policies::are_too_many(&identities.history).then(|| TOO_MANY_POLICIES.into()).into_iter().collect()
}

/// All of them. What they lack is told in `warnings`.
pub fn all(
    identities: &Identities,
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> Vec<(&'static Table, Vec<RecordBatch>)> {
    let (policies, is_cut) = policies::rows(&identities.history);
    warnings.extend(is_cut.then(|| TOO_MANY_POLICIES.into()));
    let mut tables = vec![
        (&pods::TABLE, pod_rows(identities)),
        (&services::TABLE, service_rows(identities)),
        (&nodes::TABLE, node_rows(identities, sources)),
        (&k8s_events::TABLE, event_rows(&sources.facts)),
        (&network_policies::TABLE, policies),
        (&identity_conflicts::TABLE, conflict_rows(&identities.cluster)),
        (&nat_links::TABLE, identities.links.rows()),
    ];
    tables.extend(identities.rows().iter().map(|rows| (rows.table, told(rows, identities))));
    tables
}

/// Collects rows of a table in batches of bounded size. A batch needs twice its memory while it is finished, and a hostile log
/// can have very many rows.
pub struct Batches<B: Block> {
    table: &'static Table,
    rows: B,
    bytes: usize,
    full: Vec<RecordBatch>,
}

impl<B: Block> Batches<B> {
    /// No rows yet.
    pub fn new(table: &'static Table) -> Batches<B> {
        Batches { table, rows: B::default(), bytes: 0, full: Vec::new() }
    }

    /// Appends a row.
    pub fn append(&mut self, row: &B::Row<'_>) {
        self.bytes += self.rows.append(row);
        if self.bytes >= BATCH_BYTES {
            self.bytes = 0;
            self.full.push(batch(self.table, std::mem::take(&mut self.rows)));
        }
    }

    /// All rows, in at least one batch.
    pub fn finish(mut self) -> Vec<RecordBatch> {
        self.full.push(batch(self.table, self.rows));
        self.full
    }
}

/// Rows of a block as a batch of its table.
pub fn batch<B: Block>(table: &Table, mut rows: B) -> RecordBatch {
    let mut columns = Vec::new();
    rows.finish(&mut columns);
    table.batch(columns).expect("builders and schema come from one table")
}

/// The end of an interval; one that is open has none.
pub fn open_end(to_ns: i64) -> Option<i64> {
    (to_ns != OPEN).then_some(to_ns)
}

fn begin(from_ns: i64) -> Option<i64> {
    (from_ns != i64::MIN).then_some(from_ns)
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Names and values as a column of them takes them.
pub fn map(of: &BTreeMap<String, String>) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    of.iter().map(|(key, value)| (Cow::from(key), Cow::from(value))).collect()
}

fn pod_rows(identities: &Identities) -> Vec<RecordBatch> {
    let mut rows = Batches::<PodBlock>::new(&pods::TABLE);
    let cluster = &identities.cluster;
    let lives = Lives::new(identities);
    // In the order in which the cluster numbered its pods.
    let listed = identities.history.of("pod").map(|(_, object)| object);
    let mut owned: HashMap<Number, Vec<&(IpAddr, Claim<Number>)>> = HashMap::new();
    cluster.owned.iter().for_each(|of| owned.entry(of.1.owner).or_default().push(of));
    for (number, object) in (0..).zip(listed.filter(|object| !object.versions.is_empty())) {
        let owned = owned.get(&number).into_iter().flatten();
        let mut intervals: Vec<(Option<String>, i64, i64)> = owned
            .map(|(ip, claim)| (Some(ip.to_string()), claim.early_ns.min(claim.from_ns), claim.to_ns))
            .collect();
        intervals.sort();
        intervals.dedup();
        if intervals.is_empty() {
            let (first, last) = (&object.versions[0], &object.versions[object.versions.len() - 1]);
            let Fact::Pod(pod) = &last.fact else { continue };
            intervals.push((pod.ips.first().cloned(), first.from_ns, last.known_to_ns()));
        }
        for (ip, from_ns, to_ns) in intervals {
            // What the pod was when the interval ended.
            let Some(Fact::Pod(pod)) = object.near(to_ns.saturating_sub(1)).map(|version| &version.fact)
            else {
                continue;
            };
            append_pod(&mut rows, pod, ip.as_deref(), (from_ns, to_ns), cluster, &lives);
        }
    }
    rows.finish()
}

fn append_pod(
    rows: &mut Batches<PodBlock>,
    pod: &Pod,
    ip: Option<&str>,
    (from_ns, to_ns): (i64, i64),
    cluster: &Cluster,
    lives: &Lives,
) {
    let names = cluster.pod(&pod.uid);
    let labels = map(&pod.labels);
    let image = |container: &Container| container.image_id.clone().or(container.image.clone());
    let images: Vec<String> = pod.containers.iter().filter_map(image).collect();
    let ids: Vec<&str> = pod
        .containers
        .iter()
        .filter_map(|container| container.id.as_deref())
        .map(|id| id.rsplit("://").next().unwrap_or(id))
        .collect();
    let life = lives.of.get(pod.uid.as_str());
    let label = |key: &str| pod.labels.get(key).map(String::as_str);
    rows.append(&PodRow {
        pod_uid: Some(&pod.uid),
        name: Some(&pod.name),
        namespace: Some(&pod.namespace),
        ip,
        valid_from: begin(from_ns),
        valid_to: open_end(to_ns),
        host_network: Some(pod.host_network),
        node: pod.node.as_deref(),
        zone: names.and_then(|names| names.zone.as_deref()),
        workload: names.map(|names| names.workload.1.as_str()),
        workload_kind: names.map(|names| names.workload.0.as_str()),
        service_account: pod.service_account.as_deref(),
        labels: Some(&labels),
        images: Some(&texts(&images)),
        version: label("app.kubernetes.io/version").or_else(|| tag(&pod.containers)),
        revision: label("pod-template-hash").or(label("controller-revision-hash")),
        phase: Some(pod.phase.as_str()).filter(|phase| !phase.is_empty()),
        qos_class: pod.qos_class.as_deref(),
        restarts: i32::try_from(pod.restarts).ok(),
        containers: Some(&ids),
        cgroup_ids: life.map(|life| life.cgroups.as_slice()).filter(|ids| !ids.is_empty()),
        netns: life.and_then(|life| <[i64; 1]>::try_from(life.netns.as_slice()).ok()).map(|[only]| only),
        ..PodRow::default()
    });
}

/// The tag of the image, where all containers have one.
fn tag(containers: &[Container]) -> Option<&str> {
    let mut tags = containers.iter().map(|container| {
        let (name, tag) = container.image.as_deref()?.split('@').next()?.rsplit_once(':')?;
        // What follows a colon before a slash is the port of a registry.
        (!name.is_empty() && !tag.contains('/')).then_some(tag)
    });
    let first = tags.next()??;
    tags.all(|tag| tag == Some(first)).then_some(first)
}

/// Where the processes of pods were seen.
struct Lives {
    of: BTreeMap<String, Life>,
}

#[derive(Default)]
struct Life {
    cgroups: Vec<i64>,
    netns: Vec<i64>,
}

impl Lives {
    fn new(identities: &Identities) -> Lives {
        use arrow::datatypes::Int64Type;
        let mut of = BTreeMap::<String, Life>::new();
        for batch in identities.rows().iter().flat_map(|rows| &rows.batches) {
            let uids = batch["pod_uid"].as_string::<i32>();
            let [cgroups, netns] = ["cgroup_id", "netns"].map(|name| batch[name].as_primitive::<Int64Type>());
            for (row, uid) in uids.iter().enumerate().filter_map(|(row, uid)| Some((row, uid?))) {
                let life = of.entry(uid.to_owned()).or_default();
                for (list, column) in [(&mut life.cgroups, cgroups), (&mut life.netns, netns)] {
                    let value = column.is_valid(row).then(|| column.value(row));
                    // The root of the hierarchy is no cgroup of a pod.
                    if let Some(value) = value.filter(|value| *value > 1 && !list.contains(value)) {
                        list.push(value);
                    }
                }
            }
        }
        for life in of.values_mut() {
            life.cgroups.sort_unstable();
        }
        Lives { of }
    }
}

fn service_rows(identities: &Identities) -> Vec<RecordBatch> {
    let mut rows = Batches::<ServiceBlock>::new(&services::TABLE);
    let mut by_uid: HashMap<&str, &ServiceNames> = HashMap::new();
    for names in &identities.cluster.services {
        by_uid.entry(&names.uid).or_insert(names);
    }
    for (_, object) in identities.history.of("service") {
        let Some(Fact::Service(last)) = object.versions.last().map(|last| &last.fact) else { continue };
        let names = by_uid.get(last.uid.as_str());
        let backends = names.map(|names| names.endpoints.as_slice()).unwrap_or_default();
        for version in &object.versions {
            let Fact::Service(service) = &version.fact else { continue };
            let from_ns = if object.was_there && std::ptr::eq(version, &object.versions[0]) {
                i64::MIN
            } else {
                version.from_ns
            };
            let changes =
                backends.iter().map(|(ns, _)| *ns).filter(|ns| (from_ns..version.known_to_ns()).contains(ns));
            let mut moments: Vec<i64> = changes.chain([from_ns]).collect();
            moments.sort_unstable();
            moments.dedup();
            for (at, start_ns) in moments.iter().enumerate() {
                let to_ns = moments.get(at + 1).copied().unwrap_or(version.known_to_ns());
                let there = names.map(|names| names.backends_at(*start_ns)).unwrap_or_default();
                append_service(&mut rows, service, there, (*start_ns, to_ns));
            }
        }
    }
    rows.finish()
}

fn append_service(
    rows: &mut Batches<ServiceBlock>,
    service: &Service,
    backends: &[(IpAddr, u16)],
    (from_ns, to_ns): (i64, i64),
) {
    let ports: Vec<String> = service.ports.iter().map(port).collect();
    let endpoints: Vec<String> =
        backends.iter().map(|place| std::net::SocketAddr::from(*place).to_string()).collect();
    let selector = map(&service.selector);
    rows.append(&ServiceRow {
        service_uid: Some(&service.uid),
        name: Some(&service.name),
        namespace: Some(&service.namespace),
        r#type: Some(&service.kind),
        cluster_ips: Some(&texts(&service.cluster_ips)),
        external_ips: Some(&texts(&service.external_ips)),
        ports: Some(&texts(&ports)),
        selector: Some(&selector),
        endpoints: Some(&texts(&endpoints)),
        valid_from: begin(from_ns),
        valid_to: open_end(to_ns),
        ..ServiceRow::default()
    });
}

fn port(port: &Port) -> String {
    let name = port.name.as_deref().map(|name| format!("{name}:")).unwrap_or_default();
    let target = port.target.as_deref().map(|target| format!("->{target}")).unwrap_or_default();
    format!("{name}{}/{}{target}", port.port, port.protocol.to_lowercase())
}

/// Nodes as the API server has them, and those that only their recorders tell of.
fn node_rows(identities: &Identities, sources: &Sources) -> Vec<RecordBatch> {
    let mut rows = Batches::<NodeBlock>::new(&nodes::TABLE);
    let manifests = sources.snapshots.iter().flat_map(|snapshot| &snapshot.nodes);
    let clocks: BTreeMap<&str, i64> =
        manifests.filter_map(|node| Some((node.node.as_str(), node.clock_error_ns?))).collect();
    let mut only_recorded: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
    for (header, record) in &sources.facts {
        if header.writer == "recorder"
            && let Fact::Start(start) = &record.fact
            && identities.cluster.node(&header.node).is_none()
        {
            only_recorded.entry(&header.node).or_insert((&start.kernel, record.ts_ns));
        }
    }
    for (name, (kernel, from_ns)) in only_recorded {
        rows.append(&NodeRow {
            name: Some(name),
            kernel: Some(kernel),
            clock_error_ns: clocks.get(name).copied(),
            valid_from: Some(from_ns),
            ..NodeRow::default()
        });
    }
    for (_, object) in identities.history.of("node") {
        for version in &object.versions {
            let Fact::Node(node) = &version.fact else { continue };
            append_node(
                &mut rows,
                node,
                object,
                (version.from_ns, version.known_to_ns()),
                clocks.get(node.name.as_str()),
            );
        }
    }
    rows.finish()
}

fn append_node(
    rows: &mut Batches<NodeBlock>,
    node: &NodeObject,
    object: &Object,
    (from_ns, to_ns): (i64, i64),
    clock_error_ns: Option<&i64>,
) {
    let ips: Vec<String> = addresses(&node.ips).map(|ip| ip.to_string()).collect();
    let was_there = object.was_there && object.versions[0].from_ns == from_ns;
    rows.append(&NodeRow {
        name: Some(&node.name),
        uid: Some(&node.uid),
        internal_ip: ips.first().map(String::as_str),
        zone: node.zone.as_deref(),
        region: node.region.as_deref(),
        instance_type: node.instance_type.as_deref(),
        kernel: node.kernel.as_deref(),
        pod_cidrs: Some(&texts(&node.pod_cidrs)),
        clock_error_ns: clock_error_ns.copied(),
        valid_from: (!was_there).then_some(from_ns),
        valid_to: open_end(to_ns),
        ips: Some(&texts(&ips)),
        ..NodeRow::default()
    });
}

/// One row an event; told again with a higher count it is the same one.
fn event_rows(facts: &[(LogHeader, Record)]) -> Vec<RecordBatch> {
    let mut last: BTreeMap<(&str, &str), (&Event, i64)> = BTreeMap::new();
    for (header, record) in facts {
        let Fact::Event(event) = &record.fact else { continue };
        let known = last.entry((&header.cluster, &event.uid)).or_insert((event, record.ts_ns));
        if event.count >= known.0.count {
            *known = (event, record.ts_ns);
        }
    }
    let mut rows = Batches::<EventBlock>::new(&k8s_events::TABLE);
    for ((cluster, _), (event, told_ns)) in last {
        rows.append(&EventRow {
            ts: event.last_ns.or(event.first_ns).or(Some(told_ns)),
            cluster: Some(cluster).filter(|name| !name.is_empty()),
            namespace: Some(&event.namespace),
            kind: event.about.as_ref().map(|about| about.kind.as_str()),
            name: event.about.as_ref().map(|about| about.name.as_str()),
            uid: event.about_uid.as_deref(),
            reason: Some(&event.reason),
            message: Some(&event.message),
            count: Some(event.count.into()),
            component: event.component.as_deref(),
            first_ts: event.first_ns,
            ..EventRow::default()
        });
    }
    rows.finish()
}

fn conflict_rows(cluster: &Cluster) -> Vec<RecordBatch> {
    let mut rows = Batches::<ConflictBlock>::new(&identity_conflicts::TABLE);
    for found in &cluster.conflicts {
        let who = |number: &u32| -> (String, String) {
            let at = *number as usize;
            match found.kind {
                "pod" => {
                    let pod = &cluster.pods[at];
                    (format!("{}/{}", pod.namespace, pod.name), pod.uid.clone())
                }
                "service" => {
                    let service = &cluster.services[at];
                    (format!("{}/{}", service.namespace, service.name), service.uid.clone())
                }
                _ => (cluster.nodes[at].name.clone(), String::new()),
            }
        };
        let (names, uids): (Vec<String>, Vec<String>) = found.conflict.owners.iter().map(who).unzip();
        let ip = found.ip.to_string();
        rows.append(&ConflictRow {
            ip: Some(&ip),
            valid_from: begin(found.conflict.from_ns),
            valid_to: open_end(found.conflict.to_ns),
            kind: Some(found.kind),
            claims: Some(&texts(&names)),
            uids: Some(&texts(&uids)),
            ..ConflictRow::default()
        });
    }
    rows.finish()
}

/// Sockets and processes as told; sockets with the names of their pods.
fn told(rows: &Rows, identities: &Identities) -> Vec<RecordBatch> {
    let cluster = &identities.cluster;
    let schema = Arc::new(rows.table.schema());
    let named = |batch: &RecordBatch| -> RecordBatch {
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        if let Some((at, _)) = schema.column_with_name("namespace") {
            let uids = batch["pod_uid"].as_string::<i32>();
            let ids = batch["container_id"].as_string::<i32>();
            let pods: Vec<_> = uids.iter().zip(ids).map(|(uid, id)| cluster.pod_of(uid, id)).collect();
            let namespaces = pods.iter().map(|pod| pod.map(|pod| pod.namespace.as_str()));
            columns[at] = Arc::new(namespaces.collect::<StringArray>());
            let (own, nodes) = (batch["sock_id"].as_string::<i32>(), batch["node"].as_string::<i32>());
            let own = own.iter().zip(nodes).map(|(id, node)| own_id(id.unwrap_or_default(), node));
            columns[schema.index_of("flow_id").expect("a column of sockets")] =
                Arc::new(identities.links.flows_of(own));
            let names = pods.iter().map(|pod| pod.map(|pod| pod.name.as_str()));
            columns[schema.index_of("pod").expect("a column of sockets")] =
                Arc::new(names.collect::<StringArray>());
            let containers = ids.iter().map(|id| cluster.container(id?));
            columns[schema.index_of("container").expect("a column of sockets")] =
                Arc::new(containers.collect::<StringArray>());
        }
        RecordBatch::try_new(schema.clone(), columns).expect("columns were replaced by such of their type")
    };
    rows.batches.iter().map(named).collect()
}
