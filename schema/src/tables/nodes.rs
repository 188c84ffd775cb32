//! Nodes over time.

use crate::table;

table! {
    /// One row per node and interval. The clock's error is what makes an order over nodes defensible.
    plain "nodes", NodeRow, NodeBlock, sort ["name", "valid_from"] {
        /// Node.
        name: Text [otel = "k8s.node.name"],
        /// UID.
        uid: Text [otel = "k8s.node.uid"],
        /// Its first address.
        internal_ip: Text,
        /// Availability zone.
        zone: Text [otel = "cloud.availability_zone"],
        /// Region.
        region: Text [otel = "cloud.region"],
        /// Type of the machine.
        instance_type: Text [otel = "host.type"],
        /// Kernel release.
        kernel: Text [otel = "os.version"],
        /// Ranges its pods get their addresses from.
        pod_cidrs: TextList,
        /// Offset of its clock to UTC; NULL where nobody measured it.
        clock_offset_ns: Int64 [unit = "ns"],
        /// Largest error of that clock, as the node's recorder was told.
        clock_error_ns: Int64 [unit = "ns"],
        /// Start.
        valid_from: Time [tz = "UTC"],
        /// End (changed, deleted, or nobody watched any more); NULL open.
        valid_to: Time [tz = "UTC"],
        /// All its addresses.
        ips: TextList,
    }
}
