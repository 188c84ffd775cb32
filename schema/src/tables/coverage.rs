//! Negative evidence: what was recorded, and what was not.

use crate::table;

table! {
    /// One row per node, interface and 10 s bucket, also when nothing was captured: lets an empty answer mean something.
    plain "coverage", CoverageRow, CoverageBlock, sort ["node", "bucket"] {
        /// Snapshot.
        snapshot_id: Text,
        /// Node.
        node: Text [otel = "k8s.node.name"],
        /// Interface or *.
        iface: Text [pcapng = "if_name"],
        /// Bucket start.
        bucket: Time [tz = "UTC", zeek = "capture_loss"],
        /// ok, lossy, gap, not_targeted, node_down, rotated_out, recorder_restart.
        state: Text,
        /// Packets offered.
        received: Int64 [unit = "pkts", zeek = "pkts_link"],
        /// Packets written.
        captured: Int64 [unit = "pkts"],
        /// Delta, never cumulative.
        dropped: Int64 [unit = "pkts"],
        /// Dropped / (captured + dropped).
        loss_ratio: Float64 [unit = "ratio", zeek = "percent_lost"],
        /// ACKs for data never seen.
        tcp_gaps: Int64 [zeek = "capture_loss"],
        /// Kernel to writer delay p99.
        lag_ns: Int64 [unit = "ns", zeek = "pkt_lag"],
    }
}
