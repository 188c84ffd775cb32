//! Negative evidence: what was recorded, and what was not.

use crate::table;

table! {
    /// What was recorded and what was not: a row for each node, interface and 10 s bucket with what was counted, also where nothing
    /// came, and one for each part of a bucket of which packets are missing. An empty answer means something only with it.
    plain "coverage", CoverageRow, CoverageBlock, sort ["node", "bucket"] {
        /// Snapshot.
        snapshot_id: Text = 1001,
        /// Node.
        node: Text = 1002 [otel = "k8s.node.name"],
        /// Interface or *.
        iface: Text = 1003 [pcapng = "if_name"],
        /// Bucket start.
        bucket: Time = 1004 [tz = "UTC", zeek = "capture_loss"],
        /// Begin of the part of the bucket that the row is about.
        from_ts: Time = 1005 [tz = "UTC"],
        /// Its end.
        to_ts: Time = 1006 [tz = "UTC"],
        /// ok, lossy, gap, not_targeted, rotated_out, recorder_restart.
        state: Text = 1007,
        /// Why packets are missing.
        why: Text = 1008,
        /// Packets offered.
        received: Int64 = 1009 [unit = "pkts", zeek = "pkts_link"],
        /// Packets written.
        captured: Int64 = 1010 [unit = "pkts"],
        /// Delta, never cumulative.
        dropped: Int64 = 1011 [unit = "pkts"],
        /// Dropped / (captured + dropped).
        loss_ratio: Float64 = 1012 [unit = "ratio", zeek = "percent_lost"],
    }
}
