//! What is watched, of which versions, and how it is read.
//! In: a scope. Out: one entry a watch, in the order in which they start.
//! Only what names an endpoint or explains one; where the metadata is enough, nothing else is fetched.

use kube::core::{ApiResource, GroupVersionKind};

use super::Scope;
use super::objects::Object;
use super::read;
use super::store::Found;

pub struct Resource {
    /// As in `kube_pods`.
    pub name: &'static str,
    kind: &'static str,
    /// Group and version, the first that the server has.
    pub versions: &'static [(&'static str, &'static str)],
    pub metadata_only: bool,
    /// Others whose first list comes before this one, so that what it says is complete at once.
    pub after: &'static [&'static str],
    /// As [`shark_schema::identity::Fact::object`] names what is read, "event" for events; None where nothing is kept of it.
    pub fact: Option<&'static str>,
    /// None for what is no such object.
    pub read: fn(&Object) -> Option<Found>,
}

const REPLICA_SETS: Resource = Resource {
    name: "replicasets",
    kind: "ReplicaSet",
    versions: &[("apps", "v1")],
    metadata_only: true,
    after: &[],
    fact: None,
    read: read::owned,
};

const JOBS: Resource = Resource {
    name: "jobs",
    kind: "Job",
    versions: &[("batch", "v1")],
    metadata_only: true,
    after: &[],
    fact: None,
    read: read::owned,
};

const PODS: Resource = Resource {
    name: "pods",
    kind: "Pod",
    versions: &[("", "v1")],
    metadata_only: false,
    after: &["replicasets", "jobs"],
    fact: Some("pod"),
    read: read::pod,
};

const NAMESPACES: Resource = Resource {
    name: "namespaces",
    kind: "Namespace",
    versions: &[("", "v1")],
    metadata_only: true,
    after: &[],
    fact: Some("namespace"),
    read: read::namespace,
};

const NODES: Resource = Resource {
    name: "nodes",
    kind: "Node",
    versions: &[("", "v1")],
    metadata_only: false,
    after: &[],
    fact: Some("node"),
    read: read::node,
};

const SERVICES: Resource = Resource {
    name: "services",
    kind: "Service",
    versions: &[("", "v1")],
    metadata_only: false,
    after: &[],
    fact: Some("service"),
    read: read::service,
};

const ENDPOINT_SLICES: Resource = Resource {
    name: "endpointslices",
    kind: "EndpointSlice",
    // Servers before 1.21 have only the second.
    versions: &[("discovery.k8s.io", "v1"), ("discovery.k8s.io", "v1beta1")],
    metadata_only: false,
    after: &[],
    fact: Some("endpoint_slice"),
    read: read::endpoint_slice,
};

const NETWORK_POLICIES: Resource = Resource {
    name: "networkpolicies",
    kind: "NetworkPolicy",
    versions: &[("networking.k8s.io", "v1")],
    metadata_only: false,
    after: &[],
    fact: Some("network_policy"),
    read: read::network_policy,
};

const EVENTS: Resource = Resource {
    name: "events",
    kind: "Event",
    versions: &[("", "v1")],
    metadata_only: false,
    after: &[],
    fact: Some("event"),
    read: read::event,
};

static OF_NODE: [Resource; 1] = [Resource { after: &[], ..PODS }];
static OF_CLUSTER: [Resource; 9] =
    [NAMESPACES, NODES, REPLICA_SETS, JOBS, PODS, SERVICES, ENDPOINT_SLICES, NETWORK_POLICIES, EVENTS];

/// What looks up owners one by one where they are not watched.
pub const OWNERS: &str = "owners";

pub fn of(scope: &Scope) -> &'static [Resource] {
    match scope {
        Scope::Node(_) => &OF_NODE,
        Scope::Cluster => &OF_CLUSTER,
    }
}

/// Of those kinds whose own owner is the workload.
pub fn owner(kind: &str) -> Option<ApiResource> {
    [&REPLICA_SETS, &JOBS].into_iter().find(|of| of.kind == kind).map(|of| of.api(0))
}

impl Resource {
    pub fn api(&self, version: usize) -> ApiResource {
        let (group, version) = self.versions[version % self.versions.len()];
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.kind), self.name)
    }

    /// What limits the watch to the scope.
    pub fn field_selector(&self, scope: &Scope) -> Option<String> {
        match scope {
            Scope::Node(node) => Some(format!("spec.nodeName={node}")),
            Scope::Cluster => None,
        }
    }
}
