//! Pods over time: who owned which address, and when.

use crate::table;

table! {
    /// One row per pod, address and interval in which it owned that address; pods that never had one of their own have one row
    /// without.
    plain "pods", PodRow, PodBlock, sort ["namespace", "name", "valid_from"] {
        /// UID.
        pod_uid: Text = 1001 [otel = "k8s.pod.uid"],
        /// Pod name.
        name: Text = 1002 [otel = "k8s.pod.name"],
        /// Namespace.
        namespace: Text = 1003 [otel = "k8s.namespace.name"],
        /// Pod IP in this interval; the node's for pods of the host network, which own none.
        ip: Text = 1004 [otel = "k8s.pod.ip"],
        /// Ownership of the address starts.
        valid_from: Time = 1005 [tz = "UTC"],
        /// Ends (deletion, Succeeded, Failed, or nobody watched any more); NULL open.
        valid_to: Time = 1006 [tz = "UTC"],
        /// Shares the node's network; never matched by address.
        host_network: Bool = 1007,
        /// Node.
        node: Text = 1008 [otel = "k8s.node.name"],
        /// Availability zone of the node.
        zone: Text = 1009 [otel = "cloud.availability_zone"],
        /// Top owner; the pod itself where it has none.
        workload: Text = 1010 [otel = "k8s.deployment.name"],
        /// Deployment, StatefulSet, DaemonSet, Job, ...
        workload_kind: Text = 1011 [hubble = "workloads.kind"],
        /// Service account.
        service_account: Text = 1012,
        /// Labels.
        labels: TextMap = 1013 [otel = "k8s.pod.label.<k>"],
        /// Images of its containers, with digest where that is known.
        images: TextList = 1014 [otel = "container.image.name"],
        /// Label app.kubernetes.io/version, else the image's tag where all containers have one image.
        version: Text = 1015 [otel = "service.version"],
        /// Label pod-template-hash or controller-revision-hash.
        revision: Text = 1016,
        /// Last phase of the interval: Pending, Running, Succeeded, Failed, Unknown.
        phase: Text = 1017 [otel = "k8s.pod.status.phase"],
        /// Guaranteed, Burstable, BestEffort.
        qos_class: Text = 1018,
        /// Restarts of all its containers at the end of the interval.
        restarts: Int32 = 1019 [otel = "k8s.container.restart_count"],
        /// Ids of its containers.
        containers: TextList = 1020 [otel = "container.id"],
        /// Cgroup v2 ids its processes were seen in.
        cgroup_ids: Int64List = 1021 [hubble = "cgroup_id"],
        /// Network namespace (inode) its processes were seen in; NULL when that was none or several.
        netns: Int64 = 1022,
    }
}
