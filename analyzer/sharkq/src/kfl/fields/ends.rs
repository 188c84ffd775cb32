//! Fields of every entry: where, when, between whom, and how it was captured.

use super::super::types::Element;
use super::super::types::Fold::{Lower, Upper};
use super::super::types::Type::{Bool, Double, Int, Ip, List, Map, Micros, Text, Time};
use super::Field;

/// The name that Kubernetes gives to an endpoint.
macro_rules! object {
    ($end:literal) => {
        concat!("coalesce(", $end, "_workload, ", $end, "_pod, ", $end, "_service)")
    };
}

/// The name of an end: what Kubernetes calls it, with its namespace, else its address. All of it stands in
/// the tables of calls, so that a list of them reads no other.
macro_rules! shown {
    ($end:literal) => {
        concat!(
            "coalesce(",
            $end,
            "_namespace || '/' || ",
            object!($end),
            ", ",
            object!($end),
            ", ",
            $end,
            "_ip)"
        )
    };
}

/// Other names of an end: each of what Kubernetes calls it, with and without its namespace; of what
/// Kubernetes does not know the DNS name and the process. What is NULL is no name.
macro_rules! names {
    ($end:literal) => {
        &[
            concat!($end, "_workload"),
            concat!($end, "_pod"),
            concat!($end, "_service"),
            concat!($end, "_namespace || '/' || ", $end, "_pod"),
            concat!($end, "_namespace || '/' || ", $end, "_service"),
            concat!("CASE WHEN ", object!($end), " IS NULL THEN ", $end, "_dns END"),
            concat!("CASE WHEN ", object!($end), " IS NULL THEN ", $end, "_process END"),
        ]
    };
}

/// How lists show the client and the server: by `src.name`, and by `dst.name` with its port.
pub const SHOWN: [&str; 2] = [shown!("src"), concat!("concat(", shown!("dst"), ", ':', dst_port)")];

/// They are in every table, or nothing says them yet.
#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    Field::new("src.ip", Ip, "src_ip", "Address of the client; `in` takes networks: src.ip in \"10.0.0.0/8\""),
    Field::new("src.port", Int, "src_port", "Port of the client"),
    Field::new("dst.ip", Ip, "dst_ip", "Address of the server"),
    Field::new("dst.port", Int, "dst_port", "Port of the server"),
    Field::new("protocol", Text, "CASE WHEN protocol = 'flows' THEN upper(proto) ELSE upper(protocol) END", "HTTP, DNS, ...; TCP, UDP, ... for flows").or(&["protocol.name", "protocol.abbr"]).fold(Upper),
    Field::new("id", Text, "CASE WHEN protocol = 'flows' THEN flow_id ELSE call_id END", "Id of the entry"),
    Field::new("conn_id", Text, "flow_id", "Id of its flow: joins calls to connections").or(&["stream"]),
    Field::new("flow_id", Text, "flow_id", "Id of its flow"),
    Field::new("node_id", Text, "node", "Capturing node").or(&["worker"]),
    Field::new("index", Int, "", "Position in its stream"),
    Field::new("timestamp", Time, "ts", "When it began").or(&["startTime"]),
    Field::new("elapsed_time", Micros, "duration_ns", "From request to response in µs; compares with duration(\"100ms\") too"),
    Field::new("elapsedTime", Int, "duration_ns / 1000000", "From request to response in ms, as in KFL v1"),
    Field::new("has_pcap", Bool, "first_frame IS NOT NULL", "Its packets are known"),
    Field::new("snapshot", Text, "snapshot_id", "Snapshot it came from"),
    Field::new("cluster", Text, "cluster", "Cluster"),
    Field::new("vantage", Text, "vantage", "Where it was seen: client, server, transit, loopback, tls_uprobe").fold(Lower),

    Field::new("capture_source", Text, "CASE WHEN coalesce(tls, false) OR coalesce(vantage = 'tls_uprobe', false) THEN 'ebpf_tls' ELSE 'af_packet' END", "af_packet, or ebpf_tls for what came from inside TLS").fold(Lower),
    Field::new("capture_backend", Text, "CASE WHEN coalesce(tls, false) OR coalesce(vantage = 'tls_uprobe', false) THEN 'ebpf' ELSE 'af_packet' END", "af_packet or ebpf").fold(Lower),
    Field::new("capture_source_code", Int, "CASE WHEN coalesce(tls, false) OR coalesce(vantage = 'tls_uprobe', false) THEN 3 ELSE 1 END", "1 af_packet, 3 ebpf_tls"),
    Field::new("capture", Map, "query_map(CASE WHEN coalesce(tls, false) OR coalesce(vantage = 'tls_uprobe', false) THEN 'source=ebpf_tls&backend=ebpf' ELSE 'source=af_packet&backend=af_packet' END)", "capture[\"source\"], capture[\"backend\"]"),
    Field::new("tls", Bool, "coalesce(tls, false) OR coalesce(vantage = 'tls_uprobe', false)", "It came from inside TLS; for handshakes see tlsx"),

    Field::new("src.pod.name", Text, "coalesce(src_pod, src_service)", "Pod of the client, else its service"),
    Field::new("dst.pod.name", Text, "coalesce(dst_pod, dst_service)", "Pod of the server, else its service"),
    Field::new("src.pod.namespace", Text, "src_namespace", "Namespace of the client"),
    Field::new("dst.pod.namespace", Text, "dst_namespace", "Namespace of the server"),
    Field::new("src.service.name", Text, "src_service", "Service of the client"),
    Field::new("dst.service.name", Text, "dst_service", "Service of the server"),
    Field::new("src.service.namespace", Text, "src_namespace", "Namespace of the client"),
    Field::new("dst.service.namespace", Text, "dst_namespace", "Namespace of the server"),
    Field::new("src.name", Text, shown!("src"), "Name of the client as lists show it, namespace/workload or address; a comparison also takes its workload, pod or service with or without namespace, and where it has none its DNS name or process").others(names!("src")),
    Field::new("dst.name", Text, shown!("dst"), "Name of the server, likewise; its port is dst.port").others(names!("dst")),
    Field::new("src.namespace", Text, "src_namespace", "Namespace of the client"),
    Field::new("dst.namespace", Text, "dst_namespace", "Namespace of the server"),
    Field::new("src.workload", Text, "src_workload", "Deployment, StatefulSet, ... of the client"),
    Field::new("dst.workload", Text, "dst_workload", "Deployment, StatefulSet, ... of the server"),
    Field::new("src.workload.kind", Text, "src_workload_kind", "Deployment, StatefulSet, ..."),
    Field::new("dst.workload.kind", Text, "dst_workload_kind", "Deployment, StatefulSet, ..."),
    Field::new("src.container", Text, "src_container", "Container of the client"),
    Field::new("dst.container", Text, "dst_container", "Container of the server"),
    Field::new("src.zone", Text, "src_zone", "Availability zone of the client"),
    Field::new("dst.zone", Text, "dst_zone", "Availability zone of the server"),
    Field::new("src.identity", Text, "src_identity", "How the names of the client were proven"),
    Field::new("dst.identity", Text, "dst_identity", "How the names of the server were proven"),
    Field::new("src.labels", Map, "src_labels", "Labels of the client's pod"),
    Field::new("dst.labels", Map, "dst_labels", "Labels of the server's pod"),
    Field::new("src.dns", Text, "src_dns", "DNS name learnt for the client's address").fold(Lower),
    Field::new("dst.dns", Text, "dst_dns", "DNS name learnt for the server's address").fold(Lower),
    Field::new("dns_resolutions", List(Element::Text), "array_distinct(array_remove_all([coalesce(src_dns, ''), coalesce(dst_dns, '')], ''))", "DNS names of both ends").fold(Lower),
    Field::new("namespaces", List(Element::Text), "array_distinct(array_remove_all([coalesce(src_namespace, ''), coalesce(dst_namespace, '')], ''))", "Namespaces of both ends"),
    Field::new("pods", List(Element::Text), "array_distinct(array_remove_all([coalesce(src_pod, ''), coalesce(dst_pod, '')], ''))", "Pods of both ends"),
    Field::new("services", List(Element::Text), "array_distinct(array_remove_all([coalesce(src_service, ''), coalesce(dst_service, '')], ''))", "Services of both ends"),
    Field::new("workloads", List(Element::Text), "array_distinct(array_remove_all([coalesce(src_workload, ''), coalesce(dst_workload, '')], ''))", "Workloads of both ends"),

    Field::new("node", Map, "query_map('name=' || coalesce(node, '') || '&ip=')", "node[\"name\"], node[\"ip\"]"),
    Field::new("node_name", Text, "node", "Capturing node").or(&["node.name"]),
    Field::new("node_ip", Text, "", "Address of the capturing node").or(&["node.ip"]),
    Field::new("local_node_name", Text, "node", "Capturing node"),
    Field::new("remote_node_name", Text, "", "Node of the other end"),
    Field::new("local_labels", Map, "CASE WHEN vantage = 'server' THEN dst_labels ELSE src_labels END", "Labels of the pod on the capturing node"),
    Field::new("remote_labels", Map, "CASE WHEN vantage = 'server' THEN src_labels ELSE dst_labels END", "Labels of the other pod"),
    Field::new("local_annotations", Map, "", "Annotations of the pod on the capturing node"),
    Field::new("remote_annotations", Map, "", "Annotations of the other pod"),
    Field::new("local_process_name", Text, "CASE WHEN vantage = 'server' THEN dst_process ELSE src_process END", "Process on the capturing node"),
    Field::new("remote_process_name", Text, "CASE WHEN vantage = 'server' THEN src_process ELSE dst_process END", "Process of the other end"),
    Field::new("src.process.name", Text, "src_process", "Process of the client"),
    Field::new("dst.process.name", Text, "dst_process", "Process of the server"),
    Field::new("local_resolution_status", Text, "CASE WHEN coalesce(CASE WHEN vantage = 'server' THEN dst_identity ELSE src_identity END, 'none') = 'none' THEN 'cache_miss' END", "Empty when the end on the capturing node has a name, else cache_miss"),
    Field::new("remote_resolution_status", Text, "CASE WHEN coalesce(CASE WHEN vantage = 'server' THEN src_identity ELSE dst_identity END, 'none') = 'none' THEN 'cache_miss' END", "Empty when the other end has a name, else cache_miss"),

    Field::new("is_error", Bool, "is_error", "It failed by the rules of its protocol"),
    Field::new("error", Bool, "coalesce(pairing <> 'complete', false) OR (protocol = 'flows' AND proto = 'tcp' AND coalesce(rst_by IS NOT NULL OR conn_state IN ('REJ', 'RSTO', 'RSTR', 'RSTOS0', 'RSTRH', 'S0', 'S2', 'S3'), false))", "Half a call, or a TCP connection with a tcp_error_type, as in KFL v1; for failed calls see is_error"),
    Field::new("error_type", Text, "error_type", "timeout, reset, no_response, 503, NXDOMAIN, ..."),
    Field::new("trace_id", Text, "trace_id", "Trace id that was propagated").fold(Lower),
    Field::new("pairing", Text, "pairing", "complete, request_only, response_only, lossy").fold(Lower),
    Field::new("request_size", Int, "request_bytes", "Bytes of the request on the wire").or(&["requestSize"]),
    Field::new("response_size", Int, "response_bytes", "Bytes of the response on the wire").or(&["responseSize"]),

    Field::new("tcp_retransmits", Int, "tcp_retransmits", "Segments sent again").or(&["retransmissions"]),
    Field::new("tcp_fast_retransmits", Int, "tcp_fast_retransmits", "After three duplicate acknowledgements").or(&["fast_retransmissions"]),
    Field::new("tcp_retransmit_rate", Double, "tcp_retransmit_rate", "Share of segments sent again, 0 to 1").or(&["retransmission_rate"]),
    Field::new("tcp_dup_acks", Int, "tcp_dup_acks", "Duplicate acknowledgements").or(&["dup_acks"]),
    Field::new("tcp_out_of_order", Int, "tcp_out_of_order", "Late but new segments").or(&["out_of_order"]),
    Field::new("tcp_missing_segments", Int, "tcp_missing_segments", "Gaps never filled").or(&["missing_segments"]),
    Field::new("tcp_zero_windows", Int, "tcp_zero_windows_src + tcp_zero_windows_dst", "Zero windows advertised by either side").or(&["zero_window_events"]),
    Field::new("tcp_zero_window_src", Micros, "tcp_zero_window_ns_src", "Time the client stood at zero window"),
    Field::new("tcp_zero_window_dst", Micros, "tcp_zero_window_ns_dst", "Time the server stood at zero window"),
    Field::new("tcp_window_full", Int, "tcp_window_full", "A sender filled the window").or(&["window_full_events"]),
    Field::new("tcp_rst_count", Int, "tcp_rst_count", "Resets").or(&["rst_count"]),
    Field::new("tcp_fin_count", Int, "tcp_fin_count", "FINs").or(&["fin_count"]),
    Field::new("tcp_keepalives", Int, "tcp_keepalives", "Keep-alive probes").or(&["keepalive_count"]),
    Field::new("tcp_handshake", Micros, "tcp_handshake_ns", "SYN to ACK").or(&["handshake_time_us"]),
    Field::new("tcp_initial_rtt", Micros, "tcp_initial_rtt_ns", "SYN to SYN-ACK").or(&["initial_rtt_us"]),
    Field::new("tcp_rtt_min", Micros, "tcp_rtt_min_ns", "Smallest round trip").or(&["rtt_min_us"]),
    Field::new("tcp_rtt_p50", Micros, "tcp_rtt_p50_ns", "Median round trip"),
    Field::new("tcp_rtt_p99", Micros, "tcp_rtt_p99_ns", "99th percentile of round trips"),
    Field::new("tcp_rtt_max", Micros, "tcp_rtt_max_ns", "Largest round trip").or(&["rtt_max_us"]),
    Field::new("tcp_jitter", Micros, "tcp_jitter_ns", "Standard deviation of round trips").or(&["jitter_us"]),
    Field::new("tcp_ttfb", Micros, "tcp_ttfb_ns", "SYN to the first byte of the server").or(&["time_to_first_byte_us"]),
    Field::new("tcp_goodput_bytes", Int, "tcp_goodput_bytes", "Payload without what was sent again").or(&["goodput_bytes"]),
];
