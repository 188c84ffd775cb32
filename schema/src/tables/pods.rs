//! Pods over time: who owned which address, and when.

use crate::table;

table! {
    /// One row per pod, address and interval in which it owned that address; pods that never had one of their own have one row
    /// without.
    plain "pods", PodRow, PodBlock, sort ["namespace", "name", "valid_from"] {
        /// UID.
        pod_uid: Text [otel = "k8s.pod.uid"],
        /// Pod name.
        name: Text [otel = "k8s.pod.name"],
        /// Namespace.
        namespace: Text [otel = "k8s.namespace.name"],
        /// Pod IP in this interval; the node's for pods of the host network, which own none.
        ip: Text [otel = "k8s.pod.ip"],
        /// Ownership of the address starts.
        valid_from: Time [tz = "UTC"],
        /// Ends (deletion, Succeeded, Failed, or nobody watched any more); NULL open.
        valid_to: Time [tz = "UTC"],
        /// Shares the node's network; never matched by address.
        host_network: Bool,
        /// Node.
        node: Text [otel = "k8s.node.name"],
        /// Availability zone of the node.
        zone: Text [otel = "cloud.availability_zone"],
        /// Top owner; the pod itself where it has none.
        workload: Text [otel = "k8s.deployment.name"],
        /// Deployment, StatefulSet, DaemonSet, Job, ...
        workload_kind: Text [hubble = "workloads.kind"],
        /// Service account.
        service_account: Text,
        /// Labels.
        labels: TextMap [otel = "k8s.pod.label.<k>"],
        /// Images of its containers, with digest where that is known.
        images: TextList [otel = "container.image.name"],
        /// Label app.kubernetes.io/version, else the image's tag where all containers have one image.
        version: Text [otel = "service.version"],
        /// Label pod-template-hash or controller-revision-hash.
        revision: Text,
        /// Last phase of the interval: Pending, Running, Succeeded, Failed, Unknown.
        phase: Text [otel = "k8s.pod.status.phase"],
        /// Guaranteed, Burstable, BestEffort.
        qos_class: Text,
        /// Restarts of all its containers at the end of the interval.
        restarts: Int32 [otel = "k8s.container.restart_count"],
        /// Ids of its containers.
        containers: TextList [otel = "container.id"],
        /// Cgroup v2 ids its processes were seen in.
        cgroup_ids: Int64List [hubble = "cgroup_id"],
        /// Network namespace (inode) its processes were seen in; NULL when that was none or several.
        netns: Int64,
    }
}
