//! The snapshots a result came from.

use crate::table;

table! {
    /// One row per snapshot.
    plain "snapshots", SnapshotRow, SnapshotBlock, sort ["created_at"] {
        /// ULID.
        snapshot_id: Text = 1001,
        /// Incident name.
        name: Text = 1002,
        /// Cluster.
        cluster: Text = 1003 [otel = "k8s.cluster.name"],
        /// Created.
        created_at: Time = 1004 [tz = "UTC"],
        /// User from SubjectAccessReview.
        created_by: Text = 1005,
        /// Free text / alert fingerprint.
        reason: Text = 1006,
        /// Requested start.
        from_ts: Time = 1007 [tz = "UTC"],
        /// Requested end.
        to_ts: Time = 1008 [tz = "UTC"],
        /// Oldest packet on the worst node.
        actual_from_ts: Time = 1009 [tz = "UTC"],
        /// Newest.
        actual_to_ts: Time = 1010 [tz = "UTC"],
        /// Nodes matching.
        nodes_expected: Int32 = 1011,
        /// Nodes delivered.
        nodes_captured: Int32 = 1012,
        /// Count.
        segments: Int64 = 1013,
        /// Total.
        packets: Int64 = 1014 [unit = "pkts"],
        /// Total.
        bytes_stored: Int64 = 1015 [unit = "B"],
        /// Total recorder loss.
        dropped: Int64 = 1016 [unit = "pkts"],
        /// Overall.
        loss_ratio: Float64 = 1017 [unit = "ratio"],
        /// Hash of manifest.json.
        manifest_sha256: Text = 1018,
        /// Cosign bundle path.
        signature: Text = 1019,
        /// S3:// or gs://.
        uri: Text = 1022,
    }
}
