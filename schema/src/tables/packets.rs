//! Raw index into the capture; written on request.

use crate::table;

table! {
    /// One row per packet; written by `sharkq index --packets`.
    plain "packets", PacketRow, PacketBlock, sort ["ts"] {
        /// Ordinal in segment; segment_id+packet_id finds the bytes again.
        packet_id: Int64 = 1001 [wireshark = "frame.number"],
        /// Joins segments (file, hash, loss).
        segment_id: Segment = 1002,
        /// Capture timestamp.
        ts: Time = 1003 [tz = "UTC", wireshark = "frame.time_epoch"],
        /// Snapshot the row came from (ULID).
        snapshot_id: Text = 1004,
        /// Cluster name.
        cluster: Text = 1005 [otel = "k8s.cluster.name"],
        /// Capturing node.
        node: Text = 1006 [otel = "k8s.node.name", hubble = "node_name"],
        /// Where it was seen: client, server, transit, loopback, tls_uprobe; NULL when that is not known.
        vantage: Text = 1007,
        /// Interface name from the IDB.
        iface: Text = 1008 [pcapng = "if_name"],
        /// Captured bytes.
        caplen: Int32 = 1009 [unit = "B", wireshark = "frame.cap_len"],
        /// Original bytes.
        len: Int32 = 1010 [unit = "B", wireshark = "frame.len"],
        /// Joins flows.
        flow_id: Text Lookup = 1011 [zeek = "uid"],
        /// fwd (originator to responder) or rev.
        flow_dir: Text = 1012 [zeek = "is_orig"],
        /// Outer VLAN id incl. stripped tag.
        vlan: Int32 = 1013 [wireshark = "vlan.id"],
        /// Innermost tunnel it came through: vxlan, geneve, gre, erspan, gtpu or ipip; NULL for none.
        tunnel: Text = 1014 [wireshark = "frame.protocols"],
        /// Innermost source (packet direction).
        src_ip: Text Lookup = 1015 [wireshark = "ip.src"],
        /// Innermost destination.
        dst_ip: Text Lookup = 1016 [wireshark = "ip.dst"],
        /// Source port.
        src_port: Int32 = 1017 [wireshark = "tcp.srcport"],
        /// Destination port.
        dst_port: Int32 = 1018 [wireshark = "tcp.dstport"],
        /// Tcp, udp, icmp, icmp6, sctp, arp, other.
        proto: Text = 1019 [otel = "network.transport", zeek = "proto"],
        /// TTL or hop limit.
        ip_ttl: Int32 = 1020 [wireshark = "ip.ttl"],
        /// IPv4 identification.
        ip_id: Int32 = 1021 [wireshark = "ip.id"],
        /// SAFRPUEC letters.
        tcp_flags: Text = 1022 [wireshark = "tcp.flags.str"],
        /// Raw sequence number.
        tcp_seq: Int64 = 1023 [wireshark = "tcp.seq_raw"],
        /// Raw ack number.
        tcp_ack: Int64 = 1024 [wireshark = "tcp.ack_raw"],
        /// Scaled window.
        tcp_window: Int64 = 1025 [unit = "B", wireshark = "tcp.window_size"],
        /// L4 payload length.
        payload_len: Int32 = 1026 [unit = "B", wireshark = "tcp.len"],
    }
}
