//! Services over time, with the backends they had.

use crate::table;

table! {
    /// One row per service and interval in which neither it nor its endpoints changed.
    plain "services", ServiceRow, ServiceBlock, sort ["namespace", "name", "valid_from"] {
        /// UID.
        service_uid: Text = 1001 [otel = "k8s.service.uid"],
        /// Name.
        name: Text = 1002 [otel = "k8s.service.name"],
        /// Namespace.
        namespace: Text = 1003 [otel = "k8s.namespace.name"],
        /// ClusterIP, NodePort, LoadBalancer, ExternalName.
        r#type: Text = 1004 [otel = "k8s.service.type"],
        /// Cluster addresses.
        cluster_ips: TextList = 1005,
        /// Addresses of load balancers and external ones.
        external_ips: TextList = 1006,
        /// Ports, each as `name:port/protocol->target`.
        ports: TextList = 1007,
        /// Selector.
        selector: TextMap = 1008 [otel = "k8s.service.selector"],
        /// Backends in the interval, each as `address:port`.
        endpoints: TextList = 1009,
        /// Start.
        valid_from: Time = 1010 [tz = "UTC"],
        /// End (changed, deleted, or nobody watched any more); NULL open.
        valid_to: Time = 1011 [tz = "UTC"],
    }
}
