//! Negative evidence: what was recorded, and what was not.

use crate::table;

table! {
    /// What was recorded and what was not: a row for each node, interface and 10 s bucket with what was counted, also where nothing
    /// came, and one for each part of a bucket of which packets are missing. An empty answer means something only with it.
    plain "coverage", CoverageRow, CoverageBlock, sort ["node", "bucket"] {
        /// Snapshot.
        snapshot_id: Text,
        /// Node.
        node: Text [otel = "k8s.node.name"],
        /// Interface or *.
        iface: Text [pcapng = "if_name"],
        /// Bucket start.
        bucket: Time [tz = "UTC", zeek = "capture_loss"],
        /// Begin of the part of the bucket that the row is about.
        from_ts: Time [tz = "UTC"],
        /// Its end.
        to_ts: Time [tz = "UTC"],
        /// ok, lossy, gap, not_targeted, rotated_out, recorder_restart.
        state: Text,
        /// Why packets are missing.
        why: Text,
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
