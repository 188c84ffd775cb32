//! Whose connections these were: one row per socket.

use crate::table;

table! {
    /// One row per socket lifetime, with the process that opened it: process truth from the kernel.
    plain "sockets", SocketRow, SocketBlock, sort ["start_ts"] {
        /// Node, boot and cookie: unique for ever.
        sock_id: Text = 1001 [hubble = "socket_cookie"],
        /// Joins flows.
        flow_id: Text Lookup = 1002 [zeek = "uid"],
        /// Joins processes.
        proc_id: Text = 1003,
        /// Node.
        node: Text = 1004 [otel = "k8s.node.name"],
        /// When it was connected to or accepted, bound to a port, or first sent; NULL when it was open already.
        start_ts: Time = 1005 [tz = "UTC"],
        /// When it was closed; the time of the first look that did not find it any more, where nobody told; NULL while it is open.
        end_ts: Time = 1006 [tz = "UTC"],
        /// Connect, accept, listen, or bind for datagrams without a fixed peer.
        op: Text = 1007,
        /// Ok, ECONNREFUSED, ETIMEDOUT, ... of a connect; NULL while it is under way.
        result: Text = 1008 [otel = "error.type"],
        /// Pid as the node sees it; NULL where nobody was certain.
        pid: Int32 = 1009 [otel = "process.pid"],
        /// Short name.
        comm: Text = 1010 [otel = "process.command"],
        /// Pod.
        pod_uid: Text = 1011 [otel = "k8s.pod.uid"],
        /// Namespace.
        namespace: Text = 1012 [otel = "k8s.namespace.name"],
        /// Pod.
        pod: Text = 1013 [otel = "k8s.pod.name"],
        /// Container.
        container: Text = 1014 [otel = "k8s.container.name"],
        /// Tcp, udp.
        proto: Text = 1015 [otel = "network.transport"],
        /// Local address; the unspecified one means any of the network namespace.
        local_ip: Text = 1016 [otel = "network.local.address"],
        /// Local port.
        local_port: Int32 = 1017 [otel = "network.local.port"],
        /// Peer; NULL without a fixed one.
        peer_ip: Text = 1018 [otel = "network.peer.address"],
        /// Peer port.
        peer_port: Int32 = 1019 [otel = "network.peer.port"],
        /// Sent, retransmissions apart.
        tx_bytes: Int64 = 1020 [unit = "B"],
        /// Received.
        rx_bytes: Int64 = 1021 [unit = "B"],
        /// Segments sent again.
        retransmits: Int64 = 1022 [unit = "pkts"],
        /// Last smoothed round-trip time.
        srtt_ns: Int64 = 1023 [unit = "ns"],
        /// The kernel's number of the socket, unique since boot; NULL where only /proc could be read.
        cookie: Int64 = 1024,
        /// Network namespace (inode).
        netns: Int64 = 1025,
        /// Cgroup v2 id of the socket; 1 is the root.
        cgroup_id: Int64 = 1026 [hubble = "cgroup_id"],
        /// Path of the cgroup of its process, else of its own.
        cgroup: Text = 1027,
        /// Container.
        container_id: Text = 1028 [otel = "container.id"],
        /// Start of the process.
        proc_start_ts: Time = 1029 [tz = "UTC"],
        /// How the process is known: call (it connected, sent, received or closed), file (it has it open), listener (it alone had
        /// the listening socket open, which says less).
        pid_proof: Text = 1030,
        /// When it was found open, of one whose begin nobody told; NULL where it was open when the recorder began.
        found_ts: Time = 1031 [tz = "UTC"],
    }
}
