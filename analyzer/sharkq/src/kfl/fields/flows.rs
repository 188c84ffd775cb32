//! Fields of connections: rows of `flows`, one conversation each. `conn_*` and `flow_*` are the same here, since a
//! conversation of this index is one socket's life. Local is the client, except where the server's side was captured.

use super::super::types::Element;
use super::super::types::Fold::{Lower, Upper};
use super::super::types::Type::{Bool, Bytes, Int, List, Text};
use super::Field;

const FLOWS: &[&str] = &["flows"];
/// The table of flows, and that of ICMP messages.
const ICMP: &[&str] = &["flows", "icmp"];

const STATE: &str = "CASE WHEN close_reason = 'open' AND conn_state IN ('S0', 'SH', 'SHR') THEN 'in_progress' \
                     WHEN close_reason = 'open' THEN 'open' ELSE 'closed' END";
const LOCAL_PKTS: &str = "CASE WHEN vantage = 'server' THEN resp_pkts ELSE orig_pkts END";
const REMOTE_PKTS: &str = "CASE WHEN vantage = 'server' THEN orig_pkts ELSE resp_pkts END";
const LOCAL_BYTES: &str = "CASE WHEN vantage = 'server' THEN resp_ip_bytes ELSE orig_ip_bytes END";
const REMOTE_BYTES: &str = "CASE WHEN vantage = 'server' THEN orig_ip_bytes ELSE resp_ip_bytes END";
const L7: &str =
    "CASE WHEN cardinality(l7) > 0 THEN string_to_array(upper(array_to_string(l7, ',')), ',') END";

#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    Field::flag("conn", FLOWS, "protocol = 'flows'", "A connection"),
    Field::flag("flow", FLOWS, "protocol = 'flows'", "A flow; the same as conn here"),
    Field::flag("tcp", FLOWS, "protocol = 'flows' AND proto = 'tcp'", "A TCP connection").or(&["tcp_conn", "tcp_flow"]),
    Field::flag("udp", FLOWS, "protocol = 'flows' AND proto = 'udp'", "A UDP conversation").or(&["udp_conn", "udp_flow"]),
    Field::flag("sctp", FLOWS, "protocol = 'flows' AND proto = 'sctp'", "An SCTP association"),
    Field::flag("icmp", ICMP, "protocol = 'icmp' OR (protocol = 'flows' AND proto IN ('icmp', 'icmp6'))", "ICMP and ICMPv6: messages and their flows"),

    Field::new("conn_state", Text, STATE, "open, in_progress or closed").or(&["flow_state"]).of(FLOWS).fold(Lower),
    Field::new("conn_local_pkts", Int, LOCAL_PKTS, "Packets from the local end").or(&["flow_local_pkts"]).of(FLOWS),
    Field::new("conn_remote_pkts", Int, REMOTE_PKTS, "Packets from the remote end").or(&["flow_remote_pkts"]).of(FLOWS),
    Field::new("conn_local_bytes", Int, LOCAL_BYTES, "IP bytes from the local end").or(&["flow_local_bytes"]).of(FLOWS),
    Field::new("conn_remote_bytes", Int, REMOTE_BYTES, "IP bytes from the remote end").or(&["flow_remote_bytes"]).of(FLOWS),
    Field::new("conn_l7_detected", List(Element::Text), L7, "Protocols recognised: HTTP, DNS, TLS, ...").or(&["flow_l7_detected"]).of(FLOWS).fold(Upper),
    Field::new("conn_group_id", Int, "", "Groups connections between the same peers").or(&["flow_group_id"]).of(FLOWS),
    Field::new("flow_local_pps", Int, "TRY_CAST(CAST(CASE WHEN vantage = 'server' THEN resp_pkts ELSE orig_pkts END AS DOUBLE) * 1e9 / nullif(duration_ns, 0) AS BIGINT)", "Packets a second from the local end, over its life").or(&["conn_local_pps"]).of(FLOWS),
    Field::new("flow_remote_pps", Int, "TRY_CAST(CAST(CASE WHEN vantage = 'server' THEN orig_pkts ELSE resp_pkts END AS DOUBLE) * 1e9 / nullif(duration_ns, 0) AS BIGINT)", "Packets a second from the remote end").or(&["conn_remote_pps"]).of(FLOWS),
    Field::new("flow_local_bps", Int, "TRY_CAST(CAST(CASE WHEN vantage = 'server' THEN resp_ip_bytes ELSE orig_ip_bytes END AS DOUBLE) * 1e9 / nullif(duration_ns, 0) AS BIGINT)", "Bytes (not bits) a second from the local end, over its life").or(&["conn_local_bps"]).of(FLOWS),
    Field::new("flow_remote_bps", Int, "TRY_CAST(CAST(CASE WHEN vantage = 'server' THEN orig_ip_bytes ELSE resp_ip_bytes END AS DOUBLE) * 1e9 / nullif(duration_ns, 0) AS BIGINT)", "Bytes (not bits) a second from the remote end").or(&["conn_remote_bps"]).of(FLOWS),

    Field::new("tcp_method", Text, "", "What a TCP entry did").of(FLOWS),
    Field::new("tcp_payload", Bytes, "", "First bytes of the payload").of(FLOWS),
    Field::new("tcp_error_type", Text, "CASE WHEN proto <> 'tcp' THEN NULL WHEN rst_by IS NOT NULL OR conn_state IN ('REJ', 'RSTO', 'RSTR', 'RSTOS0', 'RSTRH') THEN 'Reset' WHEN conn_state = 'S0' THEN 'SynSent' WHEN conn_state = 'S2' THEN 'CloseWait' WHEN conn_state = 'S3' THEN 'LastAck' END", "Reset, SynSent, CloseWait, LastAck; empty when the connection was sound").of(FLOWS),
    Field::new("tcp_error_message", Text, "CASE WHEN proto = 'tcp' AND (rst_by IS NOT NULL OR conn_state IN ('REJ', 'RSTO', 'RSTR', 'RSTOS0', 'RSTRH', 'S0', 'S2', 'S3')) THEN concat(conn_state, ' ', close_reason) END", "State and close reason behind tcp_error_type").of(FLOWS),
    Field::new("tcp_completeness", Int, "completeness", "Bits: 1 SYN, 2 SYN-ACK, 4 ACK, 8 DATA, 16 FIN, 32 RST").or(&["connection_completeness"]).of(FLOWS),
    Field::new("rst", Bool, "rst_by IS NOT NULL", "It was reset").of(FLOWS),
    Field::new("rst_by", Text, "rst_by", "src, dst or middlebox").of(FLOWS).fold(Lower),
    Field::new("close_reason", Text, "close_reason", "fin, rst_src, rst_dst, timeout, open, icmp_unreachable").of(FLOWS).fold(Lower),
    Field::new("zeek_state", Text, "conn_state", "S0 S1 SF REJ RSTO RSTR ..., as Zeek has it").of(FLOWS).fold(Upper),
    Field::new("missed_bytes", Int, "missed_bytes", "Bytes lost in gaps").of(FLOWS),
    Field::new("cross_zone", Bool, "is_cross_zone", "Both zones are known and differ").of(FLOWS),
    Field::new("cross_namespace", Bool, "is_cross_namespace", "Both namespaces are known and differ").of(FLOWS),

    Field::new("udp_length", Int, "CASE WHEN proto = 'udp' THEN orig_bytes + resp_bytes END", "Payload bytes of the conversation").of(FLOWS),
    Field::new("udp_checksum", Int, "", "Checksum of the datagram").of(FLOWS),
    Field::new("udp_payload", Bytes, "", "Payload of the datagram").of(FLOWS),
    Field::new("sctp_checksum", Int, "", "Checksum of the packet").of(FLOWS),
    Field::new("sctp_chunk_type", Text, "chunk_type", "INIT, DATA, SACK, ABORT, ...").of(&["sctp"]).fold(Upper),
    Field::new("sctp_length", Int, "CASE WHEN proto = 'sctp' THEN orig_bytes + resp_bytes END", "Payload bytes of the association").of(FLOWS),
    Field::new("icmp_type", Text, "type_name", "echo_request, dest_unreachable, ...").of(&["icmp"]).fold(Lower),
    Field::new("icmp_version", Int, "coalesce(icmp_version, CASE proto WHEN 'icmp' THEN 4 WHEN 'icmp6' THEN 6 END)", "4 or 6").of(ICMP),
    Field::new("icmp_length", Int, "CASE WHEN proto IN ('icmp', 'icmp6') THEN orig_bytes + resp_bytes END", "Payload bytes").of(FLOWS),
];
