//! The snapshots a result came from.

use crate::table;

table! {
    /// One row per snapshot.
    plain "snapshots", SnapshotRow, SnapshotBlock, sort ["created_at"] {
        /// ULID.
        snapshot_id: Text,
        /// Incident name.
        name: Text,
        /// Cluster.
        cluster: Text [otel = "k8s.cluster.name"],
        /// Created.
        created_at: Time [tz = "UTC"],
        /// User from SubjectAccessReview.
        created_by: Text,
        /// Free text / alert fingerprint.
        reason: Text,
        /// Requested start.
        from_ts: Time [tz = "UTC"],
        /// Requested end.
        to_ts: Time [tz = "UTC"],
        /// Oldest packet on the worst node.
        actual_from_ts: Time [tz = "UTC"],
        /// Newest.
        actual_to_ts: Time [tz = "UTC"],
        /// Nodes matching.
        nodes_expected: Int32,
        /// Nodes delivered.
        nodes_captured: Int32,
        /// Count.
        segments: Int64,
        /// Total.
        packets: Int64 [unit = "pkts"],
        /// Total.
        bytes_stored: Int64 [unit = "B"],
        /// Total recorder loss.
        dropped: Int64 [unit = "pkts"],
        /// Overall.
        loss_ratio: Float64 [unit = "ratio"],
        /// Hash of manifest.json.
        manifest_sha256: Text,
        /// Cosign bundle path.
        signature: Text,
        /// Object-lock retention.
        worm_until: Time [tz = "UTC"],
        /// Profile name + hash.
        redaction_profile: Text,
        /// S3:// or gs://.
        uri: Text,
    }
}
