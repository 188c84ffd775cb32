//! Columns that all rows of a flow have in common: what names it, where it was seen, and who its endpoints are.
//! They are decided once a flow. Rows carry the number of their flow, and the columns are gathered by it.

use crate::column;
use crate::table::{Column, Source};

macro_rules! flow_columns {
    ($( $(#[doc = $doc:literal])+ $variant:ident, $constant:ident = $name:literal : $cell:ident $($hint:ident)* = $id:literal
        $([$($meta:tt)*])? ),* $(,)?) => {
        /// Which column, of those that tell of a flow as a whole.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FlowColumn {
            $( $(#[doc = $doc])+ $variant, )*
        }

        $( $(#[doc = $doc])+
        pub const $constant: Column = column!(
            $name, concat!($($doc, "\n"),+), $cell, [$($hint)*], $id, Source::Flow(FlowColumn::$variant), [$($($meta)*)?]
        ); )*
    };
}

flow_columns! {
    /// Joins the rows of a flow; a hash of its endpoints and its first time stamp.
    FlowId, FLOW_ID = "flow_id": Text Lookup = 2 [zeek = "uid", kfl = "conn_id"],
    /// Snapshot the row came from (ULID).
    SnapshotId, SNAPSHOT_ID = "snapshot_id": Text = 7,
    /// Cluster name.
    Cluster, CLUSTER = "cluster": Text = 8 [otel = "k8s.cluster.name"],
    /// Capturing node.
    Node, NODE = "node": Text = 9 [otel = "k8s.node.name", hubble = "node_name"],
    /// Where it was seen: client, server, transit, loopback, tls_uprobe; NULL when that is not known.
    Vantage, VANTAGE = "vantage": Text = 10,
    /// Address on the other side of an address translation (kube-proxy, ClusterIP): of the backend where `dst_ip` is a service's,
    /// of the service where `dst_ip` is the backend that answered for it; NULL where nothing proves one. A conversation that was
    /// recorded on both sides has a row for each, linked in `nat_links` and never merged: `flows` and the call tables show the
    /// caller's, `flows_all` and `http_all`, `dns_all`, ... both. Whoever reads the Parquet files leaves out `after_flow_id`.
    DstNatIp, DST_NAT_IP = "dst_nat_ip": Text = 11,
    /// Zones known and different.
    IsCrossZone, IS_CROSS_ZONE = "is_cross_zone": Bool = 12,
    /// Namespaces known and different.
    IsCrossNamespace, IS_CROSS_NAMESPACE = "is_cross_namespace": Bool = 13,
    /// src_workload -> dst_workload label.
    CommunityPair, COMMUNITY_PAIR = "community_pair": Text = 14,
}

/// Which end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Who opened it, the client.
    Src,
    /// Who accepted it, the server.
    Dst,
}

macro_rules! endpoint {
    ($( $(#[doc = $doc:literal])+ $variant:ident $name:literal : $cell:ident $($hint:ident)* {
        src = $src_id:literal $($src_doc:literal)? $([$($src:tt)*])?,
        dst = $dst_id:literal $($dst_doc:literal)? $([$($dst:tt)*])? $(,)?
    } )*) => {
        /// Which column, of those that tell of one endpoint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EndpointColumn {
            $( $(#[doc = $doc])+ $variant, )*
        }

        /// The columns `src_*`.
        pub const SRC: &[Column] = &[$( column!(
            concat!("src_", $name), concat!($($doc, "\n"),+ $(, $src_doc)?), $cell, [$($hint)*], $src_id,
            Source::Endpoint(Endpoint::Src, EndpointColumn::$variant), [$($($src)*)?]
        ), )*];

        /// The columns `dst_*`.
        pub const DST: &[Column] = &[$( column!(
            concat!("dst_", $name), concat!($($doc, "\n"),+ $(, $dst_doc)?), $cell, [$($hint)*], $dst_id,
            Source::Endpoint(Endpoint::Dst, EndpointColumn::$variant), [$($($dst)*)?]
        ), )*];
    };
}

// The first six are columns of every call table, too, and all but the last stand together in `flows`.
endpoint! {
    /// Address, RFC 5952 text.
    Ip "ip": Text Lookup {
        src = 101 "Of the initiator, the client." [otel = "client.address", ecs = "source.ip", zeek = "id.orig_h"],
        dst = 201 "Of the responder, the server." [otel = "server.address", ecs = "destination.ip", zeek = "id.resp_h"],
    }
    /// Port.
    Port "port": Int32 { src = 102 [zeek = "id.orig_p"], dst = 202 [zeek = "id.resp_p"] }
    /// Kubernetes namespace.
    Namespace "namespace": Text {
        src = 103 [kfl = "src.namespace", hubble = "source.namespace"],
        dst = 203 [kfl = "dst.namespace", hubble = "destination.namespace"],
    }
    /// Owning Deployment/StatefulSet/... name.
    Workload "workload": Text { src = 104 [hubble = "workloads[].name"], dst = 204 [hubble = "workloads[].name"] }
    /// Pod name.
    Pod "pod": Text {
        src = 105 [otel = "k8s.pod.name", kfl = "src.pod.name"],
        dst = 205 [otel = "k8s.pod.name", kfl = "dst.pod.name"],
    }
    /// Service name (ClusterIP or inferred).
    Service "service": Text {
        src = 106 [otel = "k8s.service.name", kfl = "src.service.name"],
        dst = 206 [otel = "k8s.service.name", kfl = "dst.service.name"],
    }
    /// Pod, node, service, external, unknown: what the address is; a service's stays one where its backend's pod is known.
    Kind "kind": Text { src = 107, dst = 207 }
    /// Deployment, StatefulSet, DaemonSet, Job, ...
    WorkloadKind "workload_kind": Text { src = 108 [hubble = "workloads[].kind"], dst = 208 [hubble = "workloads[].kind"] }
    /// Pod UID (joins pods; survives name reuse).
    PodUid "pod_uid": Text { src = 109 [otel = "k8s.pod.uid"], dst = 209 [otel = "k8s.pod.uid"] }
    /// Container name; where no Kubernetes fact has it, the first twelve digits of its id.
    Container "container": Text { src = 110 [otel = "k8s.container.name"], dst = 210 [otel = "k8s.container.name"] }
    /// Availability zone of the node.
    Zone "zone": Text { src = 111 [otel = "cloud.availability_zone"], dst = 211 [otel = "cloud.availability_zone"] }
    /// Labels of its pod when the flow began; NULL without a pod, or where they changed while nobody watched.
    Labels "labels": TextMap {
        src = 112 [otel = "k8s.pod.label.<k>", kfl = "src.labels", hubble = "source.labels"],
        dst = 212 [otel = "k8s.pod.label.<k>", kfl = "dst.labels", hubble = "destination.labels"],
    }
    /// Name from passive DNS.
    Dns "dns": Text {
        src = 113 [kfl = "src.dns", hubble = "source_names"],
        dst = 213 "Else the one that the client asked for when it began TLS (SNI)." [kfl = "dst.dns", hubble = "destination_names"],
    }
    /// Executable name (eBPF).
    Process "process": Text { src = 114 [otel = "process.executable.name"], dst = 214 [otel = "process.executable.name"] }
    /// Host pid (eBPF).
    Pid "pid": Int32 { src = 115 [otel = "process.pid"], dst = 215 [otel = "process.pid"] }
    /// How the identity was proven: socket, listener (who had the listening socket open), cgroup, netns, ip_interval, service,
    /// node, dns, sni (a destination's), static (an identity file), none.
    Identity "identity": Text { src = 116, dst = 216 }
    /// What its process calls itself, which may be another name than that of its executable (eBPF).
    Comm "comm": Text { src = 117 [otel = "process.command"], dst = 217 [otel = "process.command"] }
}

const fn first(columns: &'static [Column], count: usize) -> &'static [Column] {
    columns.split_at(count).0
}

/// The columns `src_*` of call tables.
pub const CALL_SRC: &[Column] = first(SRC, 6);
/// The columns `dst_*` of call tables.
pub const CALL_DST: &[Column] = first(DST, 6);
/// The columns `src_*` that stand together in `flows`.
pub const FLOW_SRC: &[Column] = first(SRC, 16);
/// The columns `dst_*` that stand together in `flows`.
pub const FLOW_DST: &[Column] = first(DST, 16);
/// The columns that stand at the end of `flows`.
pub const COMMS: &[&[Column]] = &[SRC.split_at(16).1, DST.split_at(16).1];
