//! Capture provenance: one row per recorded file.

use crate::table;

table! {
    /// Evidence and loss of each recorded file (or capture file read).
    plain "segments", SegmentRow, SegmentBlock, sort ["node", "first_ts"] {
        /// ULID, also in the pcapng SHB comment.
        segment_id: Text = 1001,
        /// Snapshot.
        snapshot_id: Text = 1002,
        /// Cluster.
        cluster: Text = 1003 [otel = "k8s.cluster.name"],
        /// Node.
        node: Text = 1004 [otel = "k8s.node.name"],
        /// Object key relative to the manifest.
        path: Text = 1005,
        /// First packet.
        first_ts: Time = 1006 [tz = "UTC"],
        /// Last packet.
        last_ts: Time = 1007 [tz = "UTC"],
        /// EPBs.
        packets: Int64 = 1008 [unit = "pkts"],
        /// Pcapng bytes.
        bytes_raw: Int64 = 1009 [unit = "B"],
        /// Zstd bytes.
        bytes_stored: Int64 = 1010 [unit = "B"],
        /// Hash of stored bytes.
        sha256: Text = 1011,
        /// Hash chain to the node's previous segment.
        prev_sha256: Text = 1013,
        /// Fsync + rename time.
        sealed_at: Time = 1014 [tz = "UTC"],
        /// Size, time, snapshot, shutdown, crash_recovered.
        close_reason: Text = 1015,
        /// Tp_packets (includes drops).
        kernel_received: Int64 = 1016 [unit = "pkts", pcapng = "isb_ifrecv"],
        /// Tp_drops in this segment (delta).
        kernel_dropped: Int64 = 1017 [unit = "pkts", pcapng = "isb_osdrop", zeek = "pkts_dropped"],
        /// Tp_freeze_q_cnt.
        ring_freezes: Int64 = 1018,
        /// Rx_dropped+rx_missed delta.
        nic_dropped: Int64 = 1019 [unit = "pkts", pcapng = "isb_ifdrop"],
        /// Rejected by the capture filter (policy, not loss).
        filtered: Int64 = 1020 [unit = "pkts", pcapng = "isb_filteraccept"],
        /// Our own queue overflow.
        user_dropped: Int64 = 1021 [unit = "pkts"],
        /// Payload cut or flow cut by policy.
        unwritten_policy_bytes: Int64 = 1022 [unit = "B"],
        /// Lost to slow disk.
        unwritten_overload_bytes: Int64 = 1023 [unit = "B"],
        /// Caplen < len.
        truncated: Int64 = 1024 [unit = "pkts"],
        /// Snaplen in force.
        snaplen: Int32 = 1026 [unit = "B", pcapng = "IDB"],
        /// BPF + selector in force.
        filter: Text = 1027 [pcapng = "if_filter"],
        /// Version.
        recorder_version: Text = 1028 [pcapng = "shb_userappl"],
        /// Hash of effective config.
        config_sha256: Text = 1029,
        /// Packets, or plaintext: packets that the recorder made of what programs said inside of TLS.
        series: Text = 1030,
    }
}
