//! From an object of the API to a fact.
//! In: objects of any server. Out: what a fact keeps of them. Environment, commands, annotations and secrets are never read.

use serde_json::Value;
use shark_schema::identity::{
    Container, Endpoint, EndpointSlice, Event, Fact, Namespace, NetworkPolicy, NodeObject, ObjectRef, Pod,
    Port, Service,
};

use super::objects::{Object, flag, list, map, number, text, texts, time_ns};
use super::store::{Found, Owner};

pub fn pod(object: &Object) -> Option<Found> {
    let of = &object.data;
    let phase = text(of, "/status/phase").unwrap_or_default();
    let statuses =
        [list(of, "/status/initContainerStatuses"), list(of, "/status/containerStatuses")].concat();
    let over = matches!(phase.as_str(), "Succeeded" | "Failed");
    let ended = || statuses.iter().filter_map(|one| time_ns(one, "/state/terminated/finishedAt")).max();
    let mut ips: Vec<String> = list(of, "/status/podIPs").iter().filter_map(|ip| text(ip, "/ip")).collect();
    if ips.is_empty() {
        ips.extend(text(of, "/status/podIP"));
    }
    let owner = owner(object);
    let pod = Pod {
        uid: object.uid()?,
        namespace: object.namespace(),
        name: object.name(),
        deleted: false,
        labels: object.labels(),
        owners: owner.iter().map(|owner| owner.object.clone()).collect(),
        ips,
        node: text(of, "/spec/nodeName"),
        host_network: flag(of, "/spec/hostNetwork").unwrap_or(false),
        ended_ns: if over { ended() } else { None },
        phase,
        containers: containers(of, &statuses),
        service_account: text(of, "/spec/serviceAccountName"),
        started_ns: time_ns(of, "/status/startTime"),
        qos_class: text(of, "/status/qosClass"),
        deletion_ns: object.deletion_ns(),
        grace_ns: object.grace_ns(),
        restarts: statuses
            .iter()
            .filter_map(|one| number(one, "/restartCount"))
            .sum::<u64>()
            .min(u32::MAX.into()) as u32,
    };
    Some(Found::Pod(pod, owner))
}

fn containers(of: &Value, statuses: &[Value]) -> Vec<Container> {
    let container = |spec: &Value| {
        let name = text(spec, "/name").unwrap_or_default();
        let status = statuses.iter().find(|one| text(one, "/name").as_ref() == Some(&name));
        let told = |path: &str| status.and_then(|one| text(one, path));
        let ports =
            list(spec, "/ports").iter().filter_map(|port| self::port(port, "/containerPort")).collect();
        Container {
            id: told("/containerID"),
            image: text(spec, "/image"),
            image_id: told("/imageID"),
            ports,
            name,
        }
    };
    let specs = list(of, "/spec/initContainers").iter().chain(list(of, "/spec/containers"));
    specs.map(container).collect()
}

/// The controller, which there is one of at most, else the first.
fn owner(object: &Object) -> Option<Owner> {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first())?;
    let object = ObjectRef { kind: owner.kind.clone(), name: owner.name.clone() };
    Some(Owner { uid: owner.uid.clone(), object })
}

/// What stands between a pod and its workload.
pub fn owned(object: &Object) -> Option<Found> {
    Some(Found::Owner { uid: object.uid()?, owner: owner(object) })
}

pub fn namespace(object: &Object) -> Option<Found> {
    let (uid, name, labels) = (object.uid()?, object.name(), object.labels());
    Some(Found::Fact(Fact::Namespace(Namespace { uid, name, deleted: false, labels })))
}

pub fn node(object: &Object) -> Option<Found> {
    let of = &object.data;
    let address = |one: &Value| {
        let kind = text(one, "/type")?;
        text(one, "/address").filter(|_| matches!(kind.as_str(), "InternalIP" | "ExternalIP"))
    };
    let mut pod_cidrs = texts(of, "/spec/podCIDRs");
    if pod_cidrs.is_empty() {
        pod_cidrs.extend(text(of, "/spec/podCIDR"));
    }
    // The second name of each label is of servers before 1.17.
    let label = |first: &str, second: &str| object.label(first).or_else(|| object.label(second));
    Some(Found::Fact(Fact::Node(NodeObject {
        uid: object.uid()?,
        name: object.name(),
        deleted: false,
        ips: list(of, "/status/addresses").iter().filter_map(address).collect(),
        pod_cidrs,
        zone: label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        region: label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
        instance_type: label("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"),
        labels: object.labels(),
        kubelet_version: text(of, "/status/nodeInfo/kubeletVersion"),
        kernel: text(of, "/status/nodeInfo/kernelVersion"),
    })))
}

pub fn service(object: &Object) -> Option<Found> {
    let of = &object.data;
    let mut cluster_ips = texts(of, "/spec/clusterIPs");
    if cluster_ips.is_empty() {
        cluster_ips.extend(text(of, "/spec/clusterIP"));
    }
    let mut external_ips = texts(of, "/spec/externalIPs");
    let balancers = list(of, "/status/loadBalancer/ingress");
    external_ips
        .extend(balancers.iter().filter_map(|one| text(one, "/ip").or_else(|| text(one, "/hostname"))));
    Some(Found::Fact(Fact::Service(Service {
        uid: object.uid()?,
        namespace: object.namespace(),
        name: object.name(),
        deleted: false,
        kind: text(of, "/spec/type").unwrap_or_default(),
        cluster_ips,
        external_ips,
        ports: list(of, "/spec/ports").iter().filter_map(|one| port(one, "/port")).collect(),
        selector: map(of, "/spec/selector"),
        labels: object.labels(),
    })))
}

pub fn endpoint_slice(object: &Object) -> Option<Found> {
    let of = &object.data;
    let endpoint = |one: &Value| Endpoint {
        addresses: texts(one, "/addresses"),
        ready: flag(one, "/conditions/ready"),
        pod: text(one, "/targetRef/name").filter(|_| text(one, "/targetRef/kind").as_deref() == Some("Pod")),
        // v1beta1 had both in a map of labels, whose names hold slashes.
        node: text(one, "/nodeName").or_else(|| text(one, "/topology/kubernetes.io~1hostname")),
        zone: text(one, "/zone").or_else(|| text(one, "/topology/topology.kubernetes.io~1zone")),
    };
    Some(Found::Fact(Fact::EndpointSlice(EndpointSlice {
        uid: object.uid()?,
        namespace: object.namespace(),
        name: object.name(),
        deleted: false,
        service: object.label("kubernetes.io/service-name"),
        ports: list(of, "/ports").iter().filter_map(|one| port(one, "/port")).collect(),
        endpoints: list(of, "/endpoints").iter().map(endpoint).collect(),
    })))
}

pub fn network_policy(object: &Object) -> Option<Found> {
    Some(Found::Fact(Fact::NetworkPolicy(NetworkPolicy {
        uid: object.uid()?,
        namespace: object.namespace(),
        name: object.name(),
        deleted: false,
        spec: object.data.get("spec").cloned().unwrap_or_default(),
    })))
}

pub fn event(object: &Object) -> Option<Found> {
    let of = &object.data;
    let about = text(of, "/involvedObject/kind").zip(text(of, "/involvedObject/name"));
    // Newer sources fill `series` and `eventTime` instead.
    let first = |paths: &[&str]| paths.iter().find_map(|path| time_ns(of, path));
    let count = number(of, "/count").or_else(|| number(of, "/series/count")).unwrap_or(1);
    Some(Found::Event(Event {
        uid: object.uid()?,
        namespace: text(of, "/involvedObject/namespace").unwrap_or_else(|| object.namespace()),
        kind: text(of, "/type").unwrap_or_default(),
        reason: text(of, "/reason").unwrap_or_default(),
        message: text(of, "/message").unwrap_or_default(),
        about: about.map(|(kind, name)| ObjectRef { kind, name }),
        about_uid: text(of, "/involvedObject/uid"),
        component: text(of, "/source/component").or_else(|| text(of, "/reportingComponent")),
        count: count.min(u32::MAX.into()) as u32,
        first_ns: first(&["/firstTimestamp", "/eventTime"]),
        last_ns: first(&["/lastTimestamp", "/series/lastObservedTime", "/eventTime"]),
    }))
}

/// None for a port that is no number; a slice may leave it out to mean all ports.
fn port(of: &Value, path: &str) -> Option<Port> {
    let target = of.pointer("/targetPort");
    Some(Port {
        name: text(of, "/name"),
        protocol: text(of, "/protocol").unwrap_or_else(|| "TCP".to_owned()),
        port: number(of, path)?.try_into().ok()?,
        target: target.and_then(|to| to.as_u64().map(|n| n.to_string()).or(to.as_str().map(str::to_owned))),
        node_port: number(of, "/nodePort").and_then(|port| port.try_into().ok()),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;

    use super::*;

    #[test]
    fn a_pod_that_is_to_be_deleted_says_by_when_and_how_long_it_was_given() {
        let of = |metadata: Value| {
            let object = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let Some(Found::Pod(pod, _)) = pod(&object.into()) else { panic!("a pod") };
            (pod.deletion_ns, pod.grace_ns)
        };
        assert_eq!(of(serde_json::json!({ "uid": "u", "name": "a" })), (None, None));
        let terminating = serde_json::json!({ "uid": "u", "name": "a",
            "deletionTimestamp": "1970-01-01T00:00:40Z", "deletionGracePeriodSeconds": 30 });
        assert_eq!(of(terminating), (Some(40_000_000_000), Some(30_000_000_000)));
    }
}
