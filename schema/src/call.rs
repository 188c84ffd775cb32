//! The columns all call tables share, and those that lead from any row back to its packets.
//! The driver fills both; a protocol never sees them.

use crate::block;

block! {
    /// What every request and response has, whatever the protocol.
    CallRow, CallBlock {
        /// Deterministic id of this exchange.
        call_id: Text [kfl = "id"],
        /// Joins flows.
        flow_id: Text [zeek = "uid", kfl = "conn_id"],
        /// Request first byte.
        ts: Time [tz = "UTC", zeek = "ts"],
        /// Response last byte; NULL when no response.
        end_ts: Time [tz = "UTC", ecs = "event.end"],
        /// `end_ts` minus `ts`; NULL when no response.
        duration_ns: Int64 [unit = "ns", kfl = "elapsed_time"],
        /// Call this one was made on behalf of (trace header or same thread); NULL unknown.
        parent_call_id: Text,
        /// Snapshot the row came from (ULID).
        snapshot_id: Text,
        /// Cluster name.
        cluster: Text [otel = "k8s.cluster.name"],
        /// Capturing node.
        node: Text [otel = "k8s.node.name", hubble = "node_name"],
        /// Where it was seen: client, server, transit, loopback, tls_uprobe; NULL when that is not known.
        vantage: Text,
        /// Source (initiator) address, RFC 5952 text.
        src_ip: Text [otel = "client.address", ecs = "source.ip", zeek = "id.orig_h"],
        /// Source port.
        src_port: Int32 [zeek = "id.orig_p"],
        /// Kubernetes namespace.
        src_namespace: Text [kfl = "src.namespace", hubble = "source.namespace"],
        /// Owning Deployment/StatefulSet/... name.
        src_workload: Text [hubble = "workloads[].name"],
        /// Pod name.
        src_pod: Text [otel = "k8s.pod.name", kfl = "src.pod.name"],
        /// Service name (ClusterIP or inferred).
        src_service: Text [otel = "k8s.service.name", kfl = "src.service.name"],
        /// Destination (responder) address, RFC 5952 text.
        dst_ip: Text [otel = "server.address", ecs = "destination.ip", zeek = "id.resp_h"],
        /// Destination port.
        dst_port: Int32 [zeek = "id.resp_p"],
        /// Kubernetes namespace.
        dst_namespace: Text [kfl = "dst.namespace", hubble = "destination.namespace"],
        /// Owning Deployment/StatefulSet/... name.
        dst_workload: Text [hubble = "workloads[].name"],
        /// Pod name.
        dst_pod: Text [otel = "k8s.pod.name", kfl = "dst.pod.name"],
        /// Service name (ClusterIP or inferred).
        dst_service: Text [otel = "k8s.service.name", kfl = "dst.service.name"],
        /// Request size on the wire.
        request_bytes: Int64 [unit = "B"],
        /// Response size on the wire.
        response_bytes: Int64 [unit = "B"],
        /// Failure by the rules of the protocol, as the server rate counts it (HTTP: 5xx or no answer; a 4xx is not one, see `error_type`).
        is_error: Bool,
        /// Timeout, reset, no_response, 503, NXDOMAIN, SQLSTATE, ...
        error_type: Text [otel = "error.type"],
        /// Payload came from inside TLS (uprobe or keys); `flow_id` is that of the encrypted conversation.
        tls: Bool [kfl = "tls"],
        /// W3C trace id if propagated.
        trace_id: Text [otel = "trace_id"],
        /// complete (also a message that nothing answers), request_only, response_only, or lossy: near a gap, where halves are not paired.
        pairing: Text,
    }
}

block! {
    /// The packets behind a row. Frames are counted from 1 in each segment or file, as tshark counts them.
    OriginRow, OriginBlock {
        /// Segment (or capture file) of the first packet of the row.
        first_segment: Text,
        /// Number of that packet in its segment.
        first_frame: Int64 [wireshark = "frame.number"],
        /// Segment of the last packet of the row.
        last_segment: Text,
        /// Number of that packet in its segment.
        last_frame: Int64 [wireshark = "frame.number"],
    }
}
