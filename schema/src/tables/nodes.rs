//! Nodes over time.

use crate::table;

table! {
    /// One row per node and interval. The clock's error is what makes an order over nodes defensible.
    plain "nodes", NodeRow, NodeBlock, sort ["name", "valid_from"] {
        /// Node.
        name: Text = 1001 [otel = "k8s.node.name"],
        /// UID.
        uid: Text = 1002 [otel = "k8s.node.uid"],
        /// Its first address.
        internal_ip: Text = 1003,
        /// Availability zone.
        zone: Text = 1004 [otel = "cloud.availability_zone"],
        /// Region.
        region: Text = 1005 [otel = "cloud.region"],
        /// Type of the machine.
        instance_type: Text = 1006 [otel = "host.type"],
        /// Kernel release.
        kernel: Text = 1007 [otel = "os.version"],
        /// Ranges its pods get their addresses from.
        pod_cidrs: TextList = 1008,
        /// Largest error of that clock, as the node's recorder was told.
        clock_error_ns: Int64 = 1010 [unit = "ns"],
        /// Start.
        valid_from: Time = 1011 [tz = "UTC"],
        /// End (changed, deleted, or nobody watched any more); NULL open.
        valid_to: Time = 1012 [tz = "UTC"],
        /// All its addresses.
        ips: TextList = 1013,
    }
}
