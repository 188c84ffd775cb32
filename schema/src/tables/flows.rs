//! Conversations of the transport layer.

use crate::table;

table! {
    /// The centre of the model: one row per conversation, however many interfaces and nodes saw it (`flows_all` has each of those).
    /// Its figures are those of packets; with vantage tls_uprobe there were none, and only programs at its ends told of it.
    traced "flows", FlowRow, FlowBlock, sort ["dst_namespace", "dst_workload", "ts"] {
        /// Deterministic: hash of community id and first time stamp.
        flow_id: Text [zeek = "uid"],
        /// 1:base64 Community ID v1.
        community_id: Text [ecs = "network.community_id"],
        /// First packet.
        ts: Time [tz = "UTC", zeek = "ts"],
        /// Last packet.
        end_ts: Time [tz = "UTC", ecs = "event.end"],
        /// End minus start.
        duration_ns: Int64 [unit = "ns", zeek = "duration"],
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
        /// Pod, node, service, external, unknown: what the address is; a service's stays one where its backend's pod is known.
        src_kind: Text,
        /// Deployment, StatefulSet, DaemonSet, Job, ...
        src_workload_kind: Text [hubble = "workloads[].kind"],
        /// Pod UID (joins pods; survives name reuse).
        src_pod_uid: Text [otel = "k8s.pod.uid"],
        /// Container name; where no Kubernetes fact has it, the first twelve digits of its id.
        src_container: Text [otel = "k8s.container.name"],
        /// Availability zone of the node.
        src_zone: Text [otel = "cloud.availability_zone"],
        /// Labels of its pod when the flow began; NULL without a pod, or where they changed while nobody watched.
        src_labels: TextMap [otel = "k8s.pod.label.<k>", kfl = "src.labels", hubble = "source.labels"],
        /// Name from passive DNS.
        src_dns: Text [kfl = "src.dns", hubble = "source_names"],
        /// Executable name (eBPF).
        src_process: Text [otel = "process.executable.name"],
        /// Host pid (eBPF).
        src_pid: Int32 [otel = "process.pid"],
        /// How the identity was proven: socket, listener (who had the listening socket open), cgroup, netns, ip_interval, service, node, dns, static (an identity file), none.
        src_identity: Text,
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
        /// Pod, node, service, external, unknown: what the address is; a service's stays one where its backend's pod is known.
        dst_kind: Text,
        /// Deployment, StatefulSet, DaemonSet, Job, ...
        dst_workload_kind: Text [hubble = "workloads[].kind"],
        /// Pod UID (joins pods; survives name reuse).
        dst_pod_uid: Text [otel = "k8s.pod.uid"],
        /// Container name; where no Kubernetes fact has it, the first twelve digits of its id.
        dst_container: Text [otel = "k8s.container.name"],
        /// Availability zone of the node.
        dst_zone: Text [otel = "cloud.availability_zone"],
        /// Labels of its pod when the flow began; NULL without a pod, or where they changed while nobody watched.
        dst_labels: TextMap [otel = "k8s.pod.label.<k>", kfl = "dst.labels", hubble = "destination.labels"],
        /// Name from passive DNS; else the one that the client asked for when it began TLS (SNI).
        dst_dns: Text [kfl = "dst.dns", hubble = "destination_names"],
        /// Executable name (eBPF).
        dst_process: Text [otel = "process.executable.name"],
        /// Host pid (eBPF).
        dst_pid: Int32 [otel = "process.pid"],
        /// How the identity was proven: socket, listener (who had the listening socket open), cgroup, netns, ip_interval, service, node, dns, sni, static (an identity file), none.
        dst_identity: Text,
        /// tcp, udp, sctp, icmp, icmp6 or the IP protocol number.
        proto: Text [zeek = "proto", otel = "network.transport"],
        /// Protocols recognised, for example tls, http2, grpc; empty when the payload was not recognised, NULL when there was none.
        l7: TextList [zeek = "service", kfl = "conn_l7_detected"],
        /// Payload originator to responder; with vantage tls_uprobe what was said inside of TLS, else what was sent.
        orig_bytes: Int64 [unit = "B", zeek = "orig_bytes", ecs = "source.bytes"],
        /// Payload back.
        resp_bytes: Int64 [unit = "B", zeek = "resp_bytes"],
        /// Packets from originator.
        orig_pkts: Int64 [unit = "pkts", zeek = "orig_pkts"],
        /// Packets back.
        resp_pkts: Int64 [unit = "pkts", zeek = "resp_pkts"],
        /// IP bytes from originator.
        orig_ip_bytes: Int64 [unit = "B", zeek = "orig_ip_bytes"],
        /// IP bytes back.
        resp_ip_bytes: Int64 [unit = "B", zeek = "resp_ip_bytes"],
        /// S0 S1 SF REJ S2 S3 RSTO RSTR RSTOS0 RSTRH SH SHR OTH.
        conn_state: Text [zeek = "conn_state"],
        /// ShADadFfRr... letter history.
        history: Text [zeek = "history"],
        /// fin, rst_src, rst_dst, timeout, open, icmp_unreachable.
        close_reason: Text,
        /// src, dst, middlebox, NULL.
        rst_by: Text,
        /// First RST.
        rst_ts: Time [tz = "UTC"],
        /// How src/dst were decided: syn, protocol (the parser knows its client), port, first_seen.
        orientation: Text,
        /// Address on the other side of an address translation (kube-proxy, ClusterIP): of the backend where `dst_ip` is a service's,
        /// of the service where `dst_ip` is the backend that answered for it; NULL where nothing proves one. A conversation that was
        /// recorded on both sides has a row for each, linked in `nat_links` and never merged: `flows` and the call tables show the
        /// caller's, `flows_all` and `http_all`, `dns_all`, ... both. Whoever reads the Parquet files leaves out `after_flow_id`.
        dst_nat_ip: Text,
        /// Forwarded, dropped, audit, unknown.
        verdict: Text [hubble = "verdict"],
        /// NetworkPolicy that allowed or denied, when computed.
        policy_match: Text [hubble = "policy"],
        /// Zones known and different.
        is_cross_zone: Bool,
        /// Namespaces known and different.
        is_cross_namespace: Bool,
        /// Bytes lost in content gaps.
        missed_bytes: Int64 [unit = "B", zeek = "missed_bytes"],
        /// complete, mid_stream (no handshake seen), truncated (packets cut by snaplen), lossy (gaps).
        capture_state: Text [wireshark = "tcp.completeness"],
        /// src_workload -> dst_workload label.
        community_pair: Text,
        /// VLAN ids around the packets, outermost first.
        vlans: Int64List [wireshark = "vlan.id"],
        /// Innermost tunnel the packets came through: vxlan, geneve, gre, erspan, gtpu or ipip; NULL for none.
        tunnel: Text,
        /// Virtual network identifier of VXLAN or Geneve, key of GRE, session of ERSPAN, or tunnel endpoint identifier of GTP-U.
        tunnel_id: Int64 [wireshark = "vxlan.vni"],
        /// Interface of the observation that was counted.
        iface: Text [pcapng = "if_name"],
        /// Observations (interfaces) this conversation was seen at.
        observations: Int32,
        /// Bitmask as Wireshark's: 1 SYN, 2 SYN-ACK, 4 ACK, 8 DATA, 16 FIN, 32 RST.
        completeness: Int32 [wireshark = "tcp.completeness"],
        /// Bytes of frames from originator, as on the wire.
        orig_wire_bytes: Int64 [unit = "B"],
        /// Bytes of frames back, as on the wire.
        resp_wire_bytes: Int64 [unit = "B"],
        /// What the source's process calls itself, which may be another name than that of its executable (eBPF).
        src_comm: Text [otel = "process.command"],
        /// What the destination's process calls itself (eBPF).
        dst_comm: Text [otel = "process.command"],
    }
}
