//! Kubernetes objects as facts: what the analyzer needs of them to name an endpoint at a time, and no more.
//! In: objects a witness watched. Out: the same, as plain data. Secrets and environment variables never get in.
//! How a log is read: every log file begins with all objects that are known; an object holds from its fact to the next one
//! about the same `uid`. A feature `kube_pods` (`kube_services`, …) that goes off and on again bounds a time in which nobody
//! watched; what then turns out to have changed carries that time in `Record::after_ns`. One that stays off ends what is known
//! of such objects, from its own `after_ns`, where it has one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Fact;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub deleted: bool,
    pub labels: BTreeMap<String, String>,
    /// From the direct owner up to the workload.
    pub owners: Vec<ObjectRef>,
    pub ips: Vec<String>,
    pub node: Option<String>,
    pub host_network: bool,
    pub phase: String,
    pub containers: Vec<Container>,
    pub service_account: Option<String>,
    pub started_ns: Option<i64>,
    /// When the last of its containers ended, of a pod that is Succeeded or Failed: to the second, by the node's clock.
    #[serde(default)]
    pub ended_ns: Option<i64>,
    #[serde(default)]
    pub qos_class: Option<String>,
    /// Of all its containers.
    #[serde(default)]
    pub restarts: u32,
    /// `deletionTimestamp` of one that is to end: by when it is to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_ns: Option<i64>,
    /// How long it was given for that: its deletion was asked for as long before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ns: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// With its runtime scheme, e.g. `containerd://…`.
    pub id: Option<String>,
    /// As the pod asks for it.
    pub image: Option<String>,
    /// What it turned out to be, with its digest.
    #[serde(default)]
    pub image_id: Option<String>,
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: String,
    pub port: u16,
    pub target: Option<String>,
    pub node_port: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub deleted: bool,
    pub kind: String,
    pub cluster_ips: Vec<String>,
    pub external_ips: Vec<String>,
    pub ports: Vec<Port>,
    pub selector: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub deleted: bool,
    pub service: Option<String>,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub addresses: Vec<String>,
    pub ready: Option<bool>,
    pub pod: Option<String>,
    pub node: Option<String>,
    pub zone: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeObject {
    pub uid: String,
    pub name: String,
    pub deleted: bool,
    pub ips: Vec<String>,
    pub pod_cidrs: Vec<String>,
    pub zone: Option<String>,
    pub region: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub kubelet_version: Option<String>,
    #[serde(default)]
    pub kernel: Option<String>,
    #[serde(default)]
    pub instance_type: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub uid: String,
    pub name: String,
    pub deleted: bool,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub deleted: bool,
    /// As the API gives it: policies are evaluated by the analyzer.
    pub spec: serde_json::Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub uid: String,
    pub namespace: String,
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub about: Option<ObjectRef>,
    #[serde(default)]
    pub about_uid: Option<String>,
    pub component: Option<String>,
    pub count: u32,
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
}

impl Fact {
    /// Kind and uid of an object that lasts until it is deleted; None for events and for the recorder's own facts.
    pub fn object(&self) -> Option<(&'static str, &str)> {
        Some(match self {
            Fact::Pod(of) => ("pod", &of.uid),
            Fact::Service(of) => ("service", &of.uid),
            Fact::EndpointSlice(of) => ("endpoint_slice", &of.uid),
            Fact::Node(of) => ("node", &of.uid),
            Fact::Namespace(of) => ("namespace", &of.uid),
            Fact::NetworkPolicy(of) => ("network_policy", &of.uid),
            _ => return None,
        })
    }

    /// Whether it is the last word about an object; nothing can be deleted that is no object.
    pub fn deleted(&self) -> bool {
        match self {
            Fact::Pod(Pod { deleted, .. })
            | Fact::Service(Service { deleted, .. })
            | Fact::EndpointSlice(EndpointSlice { deleted, .. })
            | Fact::Node(NodeObject { deleted, .. })
            | Fact::Namespace(Namespace { deleted, .. })
            | Fact::NetworkPolicy(NetworkPolicy { deleted, .. }) => *deleted,
            _ => false,
        }
    }

    /// The same object, deleted.
    pub fn into_deleted(mut self) -> Fact {
        match &mut self {
            Fact::Pod(Pod { deleted, .. })
            | Fact::Service(Service { deleted, .. })
            | Fact::EndpointSlice(EndpointSlice { deleted, .. })
            | Fact::Node(NodeObject { deleted, .. })
            | Fact::Namespace(Namespace { deleted, .. })
            | Fact::NetworkPolicy(NetworkPolicy { deleted, .. }) => *deleted = true,
            _ => {}
        }
        self
    }
}
