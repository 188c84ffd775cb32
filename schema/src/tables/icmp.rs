//! ICMP and ICMPv6: one row per echo and its reply, and per any other message.

use crate::table;

table! {
    /// ICMP and ICMPv6 messages: one row per echo request with its reply, or per half where the other is missing, and one per error
    /// or other message. Those that report an error quote the packet that caused it: `flows.community_id` has its flow.
    call "icmp", IcmpRow, IcmpBlock, sort ["ts"],
    view {
        operation: "type_name",
        resource: "about_dst_ip",
        summary: "concat(type_name, coalesce(concat(' about ', about_dst_ip, ':', about_dst_port), ''))",
        status: "CAST(code AS VARCHAR)",
        status_code: "code",
        version: "CAST(version AS VARCHAR)",
        excluded: "true",
    } {
        /// 4 for ICMP, 6 for ICMPv6.
        version: Int32 = 1001 [kfl = "icmp_version"],
        /// Type.
        type_number: Int32 = 1002 [wireshark = "icmp.type", hubble = "ICMPv4.type"],
        /// Code.
        code: Int32 = 1003 [wireshark = "icmp.code", hubble = "ICMPv4.code"],
        /// echo_request, dest_unreachable, frag_needed, packet_too_big, time_exceeded, ...
        type_name: Text = 1004 [kfl = "icmp_type"],
        /// Identifier of an echo.
        identifier: Int32 = 1005 [wireshark = "icmp.ident"],
        /// Sequence number of an echo.
        sequence: Int32 = 1006 [wireshark = "icmp.seq"],
        /// Largest packet that the next hop takes (RFC 1191 section 4, RFC 4443 section 3.2).
        mtu: Int32 = 1007 [unit = "B", wireshark = "icmp.mtu"],
        /// Time from an echo request to its reply.
        rtt_ns: Int64 = 1008 [unit = "ns"],
        /// Transport of the packet that an error is about.
        about_proto: Text = 1009,
        /// Source address of that packet.
        about_src_ip: Text = 1010,
        /// Source port of that packet.
        about_src_port: Int32 = 1011,
        /// Destination address of that packet.
        about_dst_ip: Text = 1012,
        /// Destination port of that packet.
        about_dst_port: Int32 = 1013,
        /// Community ID of the flow of that packet, as in `flows.community_id`.
        about_community_id: Text = 1014,
    }
}
