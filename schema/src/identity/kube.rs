//! Kubernetes objects as facts: what the analyzer needs of them to name an endpoint at a time, and no more.
//! In: objects a witness watched. Out: the same, as plain data. Secrets and environment variables never get in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// With its runtime scheme, e.g. `containerd://…`.
    pub id: Option<String>,
    pub image: Option<String>,
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
    pub component: Option<String>,
    pub count: u32,
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
}
