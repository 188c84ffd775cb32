//! Capture provenance: one row per recorded file.

use crate::table;

table! {
    /// Evidence and loss of each recorded file (or capture file read).
    plain "segments", SegmentRow, SegmentBlock, sort ["node", "first_ts"] {
        /// ULID, also in the pcapng SHB comment.
        segment_id: Text,
        /// Snapshot.
        snapshot_id: Text,
        /// Cluster.
        cluster: Text [otel = "k8s.cluster.name"],
        /// Node.
        node: Text [otel = "k8s.node.name"],
        /// Object key relative to the manifest.
        path: Text,
        /// First packet.
        first_ts: Time [tz = "UTC"],
        /// Last packet.
        last_ts: Time [tz = "UTC"],
        /// EPBs.
        packets: Int64 [unit = "pkts"],
        /// Pcapng bytes.
        bytes_raw: Int64 [unit = "B"],
        /// Zstd bytes.
        bytes_stored: Int64 [unit = "B"],
        /// Hash of stored bytes.
        sha256: Text,
        /// Hash of decompressed bytes.
        sha256_raw: Text,
        /// Hash chain to the node's previous segment.
        prev_sha256: Text,
        /// Fsync + rename time.
        sealed_at: Time [tz = "UTC"],
        /// Size, time, snapshot, shutdown, crash_recovered.
        close_reason: Text,
        /// Tp_packets (includes drops).
        kernel_received: Int64 [unit = "pkts", pcapng = "isb_ifrecv"],
        /// Tp_drops in this segment (delta).
        kernel_dropped: Int64 [unit = "pkts", pcapng = "isb_osdrop", zeek = "pkts_dropped"],
        /// Tp_freeze_q_cnt.
        ring_freezes: Int64,
        /// Rx_dropped+rx_missed delta.
        nic_dropped: Int64 [unit = "pkts", pcapng = "isb_ifdrop"],
        /// Rejected by the capture filter (policy, not loss).
        filtered: Int64 [unit = "pkts", pcapng = "isb_filteraccept"],
        /// Our own queue overflow.
        user_dropped: Int64 [unit = "pkts"],
        /// Payload cut or flow cut by policy.
        unwritten_policy_bytes: Int64 [unit = "B"],
        /// Lost to slow disk.
        unwritten_overload_bytes: Int64 [unit = "B"],
        /// Caplen < len.
        truncated: Int64 [unit = "pkts"],
        /// Packets altered by redaction.
        redacted: Int64 [unit = "pkts"],
        /// Snaplen in force.
        snaplen: Int32 [unit = "B", pcapng = "IDB"],
        /// BPF + selector in force.
        filter: Text [pcapng = "if_filter"],
        /// Version.
        recorder_version: Text [pcapng = "shb_userappl"],
        /// Hash of effective config.
        config_sha256: Text,
        /// Packets, or plaintext: packets that the recorder made of what programs said inside of TLS.
        series: Text,
    }
}
