//! Negative evidence of plaintext: what of TLS was read, and what was not.

use crate::table;

table! {
    /// What was recorded of the plaintext of TLS (`sharkrec record --tls`), and what is missing: a row per node and 10 s in which
    /// there is any, and one for each stretch of which something is known to be missing, or that was recorded without that option.
    /// `coverage` tells of packets alone, and this table of none of them.
    plain "tls_coverage", TlsCoverageRow, TlsCoverageBlock, sort ["node", "from_ts"] {
        /// Snapshot.
        snapshot_id: Text = 1001,
        /// Node.
        node: Text = 1002 [otel = "k8s.node.name"],
        /// Begin of the stretch; NULL where that is not known.
        from_ts: Time = 1003 [tz = "UTC"],
        /// Its end; NULL where that is not known.
        to_ts: Time = 1004 [tz = "UTC"],
        /// ok, lossy, rotated_out, off (the kernel refused all or a part), unreadable, not_targeted (nobody asked for it).
        state: Text = 1005,
        /// Packets made of it and written.
        captured: Int64 = 1006 [unit = "pkts"],
        /// Calls of a library, or parts of such, that were lost or cut; NULL where their number is not known.
        dropped: Int64 = 1007,
        /// Process whose calls they are, where that is known: its number and its name.
        process: Text = 1008,
        /// Library or executable that is unreadable: its path, device and inode.
        library: Text = 1009,
        /// The reason, where one is known.
        why: Text = 1010,
    }
}
