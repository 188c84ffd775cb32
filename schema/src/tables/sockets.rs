//! Whose connections these were: one row per socket.

use crate::table;

table! {
    /// One row per socket lifetime, with the process that opened it: process truth from the kernel.
    plain "sockets", SocketRow, SocketBlock, sort ["start_ts"] {
        /// Node, boot and cookie: unique for ever.
        sock_id: Text [hubble = "socket_cookie"],
        /// Joins flows.
        flow_id: Text [zeek = "uid"],
        /// Joins processes.
        proc_id: Text,
        /// Node.
        node: Text [otel = "k8s.node.name"],
        /// When it was connected to or accepted, bound to a port, or first sent; NULL when it was open already.
        start_ts: Time [tz = "UTC"],
        /// When it was closed; the time of the first look that did not find it any more, where nobody told; NULL while it is open.
        end_ts: Time [tz = "UTC"],
        /// Connect, accept, listen, or bind for datagrams without a fixed peer.
        op: Text,
        /// Ok, ECONNREFUSED, ETIMEDOUT, ... of a connect; NULL while it is under way.
        result: Text [otel = "error.type"],
        /// Pid as the node sees it; NULL where nobody was certain.
        pid: Int32 [otel = "process.pid"],
        /// Short name.
        comm: Text [otel = "process.command"],
        /// Pod.
        pod_uid: Text [otel = "k8s.pod.uid"],
        /// Namespace.
        namespace: Text [otel = "k8s.namespace.name"],
        /// Pod.
        pod: Text [otel = "k8s.pod.name"],
        /// Container.
        container: Text [otel = "k8s.container.name"],
        /// Tcp, udp.
        proto: Text [otel = "network.transport"],
        /// Local address; the unspecified one means any of the network namespace.
        local_ip: Text [otel = "network.local.address"],
        /// Local port.
        local_port: Int32 [otel = "network.local.port"],
        /// Peer; NULL without a fixed one.
        peer_ip: Text [otel = "network.peer.address"],
        /// Peer port.
        peer_port: Int32 [otel = "network.peer.port"],
        /// Sent, retransmissions apart.
        tx_bytes: Int64 [unit = "B"],
        /// Received.
        rx_bytes: Int64 [unit = "B"],
        /// Segments sent again.
        retransmits: Int64 [unit = "pkts"],
        /// Last smoothed round-trip time.
        srtt_ns: Int64 [unit = "ns"],
        /// The kernel's number of the socket, unique since boot; NULL where only /proc could be read.
        cookie: Int64,
        /// Network namespace (inode).
        netns: Int64,
        /// Cgroup v2 id of the socket; 1 is the root.
        cgroup_id: Int64 [hubble = "cgroup_id"],
        /// Path of the cgroup of its process, else of its own.
        cgroup: Text,
        /// Container.
        container_id: Text [otel = "container.id"],
        /// Start of the process.
        proc_start_ts: Time [tz = "UTC"],
        /// How the process is known: call (it connected, sent, received or closed), file (it has it open), listener (it alone had
        /// the listening socket open, which says less).
        pid_proof: Text,
        /// When it was found open, of one whose begin nobody told; NULL where it was open when the recorder began.
        found_ts: Time [tz = "UTC"],
    }
}
