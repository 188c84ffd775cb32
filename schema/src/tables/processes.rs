//! Who ran on a node: one row per process.

use crate::table;

table! {
    /// One row per process lifetime: from the kernel's tracepoints, or from /proc where those are refused.
    plain "processes", ProcessRow, ProcessBlock, sort ["start_ts"] {
        /// Node, boot, pid and start: unique for ever.
        proc_id: Text,
        /// Node.
        node: Text [otel = "k8s.node.name"],
        /// Pid as the node sees it.
        pid: Int32 [otel = "process.pid"],
        /// Parent.
        ppid: Int32 [otel = "process.parent_pid"],
        /// When it began; an exec does not change it.
        start_ts: Time [tz = "UTC", otel = "process.creation.time"],
        /// When it ended; the time of the first look that did not find it any more, where nobody told; NULL while it runs.
        exit_ts: Time [tz = "UTC", otel = "process.exit.time"],
        /// Exit code, 128 + N for death by signal N.
        exit_code: Int32 [otel = "process.exit.code"],
        /// Path of the program.
        exe: Text [otel = "process.executable.path"],
        /// Short name.
        comm: Text [otel = "process.command"],
        /// Arguments, joined by blanks, at most 1 KiB.
        cmdline: Text [otel = "process.command_line"],
        /// User.
        uid: Int32 [otel = "process.user.id"],
        /// Container.
        container_id: Text [otel = "container.id"],
        /// Pod.
        pod_uid: Text [otel = "k8s.pod.uid"],
        /// Cgroup v2 id; 1 is the root.
        cgroup_id: Int64 [hubble = "cgroup_id"],
        /// Library found in its maps.
        tls_library: Text,
        /// Path of the cgroup.
        cgroup: Text,
        /// Network namespace (inode); NULL for one that ended before anybody looked.
        netns: Int64,
        /// Start of it as /proc counts it: ticks of 10 ms since boot.
        start_ticks: Int64,
    }
}
