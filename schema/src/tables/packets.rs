//! Raw index into the capture; written on request.

use crate::table;

table! {
    /// One row per packet; written by `sharkq index --packets`.
    plain "packets", PacketRow, PacketBlock, sort ["ts"] {
        /// Ordinal in segment; segment_id+packet_id finds the bytes again.
        packet_id: Int64 [wireshark = "frame.number"],
        /// Joins segments (file, hash, loss).
        segment_id: Text,
        /// Offset of the EPB in the decompressed segment.
        file_offset: Int64 [unit = "B"],
        /// Capture timestamp.
        ts: Time [tz = "UTC", wireshark = "frame.time_epoch"],
        /// Snapshot the row came from (ULID).
        snapshot_id: Text,
        /// Cluster name.
        cluster: Text [otel = "k8s.cluster.name"],
        /// Capturing node.
        node: Text [otel = "k8s.node.name", hubble = "node_name"],
        /// Where it was seen: client, server, transit, loopback, tls_uprobe; NULL when that is not known.
        vantage: Text,
        /// Interface name from the IDB.
        iface: Text [pcapng = "if_name"],
        /// Network namespace inode.
        netns: Int64,
        /// in, out, unknown.
        direction: Text [pcapng = "epb_flags"],
        /// Captured bytes.
        caplen: Int32 [unit = "B", wireshark = "frame.cap_len"],
        /// Original bytes.
        len: Int32 [unit = "B", wireshark = "frame.len"],
        /// Joins flows.
        flow_id: Text [zeek = "uid"],
        /// fwd (originator to responder) or rev.
        flow_dir: Text [zeek = "is_orig"],
        /// L2 source.
        src_mac: Text [hubble = "ethernet.source"],
        /// L2 destination.
        dst_mac: Text [hubble = "ethernet.destination"],
        /// Outer VLAN id incl. stripped tag.
        vlan: Int32 [wireshark = "vlan.id"],
        /// Innermost tunnel it came through: vxlan, geneve, gre, erspan, gtpu or ipip; NULL for none.
        tunnel: Text [wireshark = "frame.protocols"],
        /// Innermost source (packet direction).
        src_ip: Text [wireshark = "ip.src"],
        /// Innermost destination.
        dst_ip: Text [wireshark = "ip.dst"],
        /// Source port.
        src_port: Int32 [wireshark = "tcp.srcport"],
        /// Destination port.
        dst_port: Int32 [wireshark = "tcp.dstport"],
        /// Tcp, udp, icmp, icmp6, sctp, arp, other.
        proto: Text [otel = "network.transport", zeek = "proto"],
        /// TTL or hop limit.
        ip_ttl: Int32 [wireshark = "ip.ttl"],
        /// IPv4 identification.
        ip_id: Int32 [wireshark = "ip.id"],
        /// SAFRPUEC letters.
        tcp_flags: Text [wireshark = "tcp.flags.str"],
        /// Raw sequence number.
        tcp_seq: Int64 [wireshark = "tcp.seq_raw"],
        /// Raw ack number.
        tcp_ack: Int64 [wireshark = "tcp.ack_raw"],
        /// Scaled window.
        tcp_window: Int64 [unit = "B", wireshark = "tcp.window_size"],
        /// L4 payload length.
        payload_len: Int32 [unit = "B", wireshark = "tcp.len"],
        /// Checksum not filled in (offload).
        csum_partial: Bool [pcapng = "epb_flags"],
        /// Super-packet (TSO/GRO).
        gso: Bool [pcapng = "epb_flags"],
        /// Packets lost just before this one.
        drops_before: Int64 [unit = "pkts", pcapng = "epb_dropcount"],
        /// Pass, drop, redirect when known.
        verdict: Text [pcapng = "epb_verdict", hubble = "verdict"],
        /// Owning process when known.
        pid: Int32 [pcapng = "epb_processid_threadid"],
        /// One-line summary.
        info: Text [wireshark = "_ws.col.info"],
    }
}
