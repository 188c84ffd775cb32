//! Conversations of the transport layer.

use crate::shared::{
    CLUSTER, COMMS, COMMUNITY_PAIR, DST_NAT_IP, FLOW_DST, FLOW_ID, FLOW_SRC, IS_CROSS_NAMESPACE,
    IS_CROSS_ZONE, NODE, SNAPSHOT_ID, VANTAGE,
};
use crate::table;

table! {
    /// The centre of the model: one row per conversation, however many interfaces and nodes saw it (`flows_all` has each of those).
    /// Its figures are those of packets; with vantage tls_uprobe there were none, and only programs at its ends told of it.
    traced "flows", FlowRow, FlowBlock, sort ["dst_namespace", "dst_workload", "ts"] {
        shared [&[FLOW_ID]]
        own {
            /// 1:base64 Community ID v1.
            community_id: Text Lookup = 1001 [ecs = "network.community_id"],
            /// First packet.
            ts: Time = 1002 [tz = "UTC", zeek = "ts"],
            /// Last packet.
            end_ts: Time = 1003 [tz = "UTC", ecs = "event.end"],
            /// End minus start.
            duration_ns: Int64 = 1004 [unit = "ns", zeek = "duration"],
        }
        shared [&[SNAPSHOT_ID, CLUSTER, NODE, VANTAGE], FLOW_SRC, FLOW_DST]
        own {
            /// tcp, udp, sctp, icmp, icmp6 or the IP protocol number.
            proto: Text = 1005 [zeek = "proto", otel = "network.transport"],
            /// Protocols recognised, for example tls, http2, grpc; empty when the payload was not recognised, NULL when there was none.
            l7: TextList = 1006 [zeek = "service", kfl = "conn_l7_detected"],
            /// Payload originator to responder; with vantage tls_uprobe what was said inside of TLS, else what was sent.
            orig_bytes: Int64 = 1007 [unit = "B", zeek = "orig_bytes", ecs = "source.bytes"],
            /// Payload back.
            resp_bytes: Int64 = 1008 [unit = "B", zeek = "resp_bytes"],
            /// Packets from originator.
            orig_pkts: Int64 = 1009 [unit = "pkts", zeek = "orig_pkts"],
            /// Packets back.
            resp_pkts: Int64 = 1010 [unit = "pkts", zeek = "resp_pkts"],
            /// IP bytes from originator.
            orig_ip_bytes: Int64 = 1011 [unit = "B", zeek = "orig_ip_bytes"],
            /// IP bytes back.
            resp_ip_bytes: Int64 = 1012 [unit = "B", zeek = "resp_ip_bytes"],
            /// S0 S1 SF REJ S2 S3 RSTO RSTR RSTOS0 RSTRH SH SHR OTH.
            conn_state: Text = 1013 [zeek = "conn_state"],
            /// ShADadFfRr... letter history.
            history: Text = 1014 [zeek = "history"],
            /// fin, rst_src, rst_dst, timeout, open, icmp_unreachable.
            close_reason: Text = 1015,
            /// src, dst, middlebox, NULL.
            rst_by: Text = 1016,
            /// First RST.
            rst_ts: Time = 1017 [tz = "UTC"],
            /// How src/dst were decided: syn, protocol (the parser knows its client), port, first_seen.
            orientation: Text = 1018,
        }
        shared [&[DST_NAT_IP, IS_CROSS_ZONE, IS_CROSS_NAMESPACE]]
        own {
            /// Bytes lost in content gaps.
            missed_bytes: Int64 = 1021 [unit = "B", zeek = "missed_bytes"],
            /// complete, mid_stream (no handshake seen), truncated (packets cut by snaplen), lossy (gaps).
            capture_state: Text = 1022 [wireshark = "tcp.completeness"],
        }
        shared [&[COMMUNITY_PAIR]]
        own {
            /// VLAN ids around the packets, outermost first.
            vlans: Int64List = 1023 [wireshark = "vlan.id"],
            /// Innermost tunnel the packets came through: vxlan, geneve, gre, erspan, gtpu or ipip; NULL for none.
            tunnel: Text = 1024,
            /// Virtual network identifier of VXLAN or Geneve, key of GRE, session of ERSPAN, or tunnel endpoint identifier of GTP-U.
            tunnel_id: Int64 = 1025 [wireshark = "vxlan.vni"],
            /// Interface of the observation that was counted.
            iface: Text = 1026 [pcapng = "if_name"],
            /// Observations (interfaces) this conversation was seen at.
            observations: Int32 = 1027,
            /// Bitmask as Wireshark's: 1 SYN, 2 SYN-ACK, 4 ACK, 8 DATA, 16 FIN, 32 RST.
            completeness: Int32 = 1028 [wireshark = "tcp.completeness"],
            /// Bytes of frames from originator, as on the wire.
            orig_wire_bytes: Int64 = 1029 [unit = "B"],
            /// Bytes of frames back, as on the wire.
            resp_wire_bytes: Int64 = 1030 [unit = "B"],
        }
        shared [COMMS[0], COMMS[1]]
    }
}
