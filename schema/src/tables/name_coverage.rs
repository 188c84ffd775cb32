//! Negative evidence of names: where what proves them is missing.

use crate::table;

table! {
    /// Where what proves the names of endpoints is missing: a row for each node, kind of fact and stretch of time. Names of such a time
    /// are proven where they are there; where they are not there, nothing is said.
    plain "name_coverage", NameCoverageRow, NameCoverageBlock, sort ["node", "feature", "from_ts"] {
        /// Snapshot.
        snapshot_id: Text = 1001,
        /// Node.
        node: Text = 1002 [otel = "k8s.node.name"],
        /// What tells of owners: sockets, datagram_sockets, processes, the objects of the cluster
        /// (kube_pods, ...); labels where only an identity file names pods.
        feature: Text = 1003,
        /// ok, missing (nobody wrote it), rotated_out (removed before its packets), lossy, off (the kernel or the server refused),
        /// not_targeted (nobody asked for it).
        state: Text = 1004,
        /// Begin of the stretch; NULL where that is not known.
        from_ts: Time = 1005 [tz = "UTC"],
        /// Its end; NULL where that is not known.
        to_ts: Time = 1006 [tz = "UTC"],
        /// Events that were lost.
        events: Int64 = 1007,
        /// The reason, where one is known.
        why: Text = 1008,
    }
}
