//! Services over time, with the backends they had.

use crate::table;

table! {
    /// One row per service and interval in which neither it nor its endpoints changed.
    plain "services", ServiceRow, ServiceBlock, sort ["namespace", "name", "valid_from"] {
        /// UID.
        service_uid: Text [otel = "k8s.service.uid"],
        /// Name.
        name: Text [otel = "k8s.service.name"],
        /// Namespace.
        namespace: Text [otel = "k8s.namespace.name"],
        /// ClusterIP, NodePort, LoadBalancer, ExternalName.
        r#type: Text [otel = "k8s.service.type"],
        /// Cluster addresses.
        cluster_ips: TextList,
        /// Addresses of load balancers and external ones.
        external_ips: TextList,
        /// Ports, each as `name:port/protocol->target`.
        ports: TextList,
        /// Selector.
        selector: TextMap [otel = "k8s.service.selector"],
        /// Backends in the interval, each as `address:port`.
        endpoints: TextList,
        /// Start.
        valid_from: Time [tz = "UTC"],
        /// End (changed, deleted, or nobody watched any more); NULL open.
        valid_to: Time [tz = "UTC"],
    }
}
