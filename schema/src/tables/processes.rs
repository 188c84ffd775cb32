//! Who ran on a node: one row per process.

use crate::table;

table! {
    /// One row per process lifetime: from the kernel's tracepoints, or from /proc where those are refused.
    plain "processes", ProcessRow, ProcessBlock, sort ["start_ts"] {
        /// Node, boot, pid and start: unique for ever.
        proc_id: Text = 1001,
        /// Node.
        node: Text = 1002 [otel = "k8s.node.name"],
        /// Pid as the node sees it.
        pid: Int32 = 1003 [otel = "process.pid"],
        /// Parent.
        ppid: Int32 = 1004 [otel = "process.parent_pid"],
        /// When it began; an exec does not change it.
        start_ts: Time = 1005 [tz = "UTC", otel = "process.creation.time"],
        /// When it ended; the time of the first look that did not find it any more, where nobody told; NULL while it runs.
        exit_ts: Time = 1006 [tz = "UTC", otel = "process.exit.time"],
        /// Exit code, 128 + N for death by signal N.
        exit_code: Int32 = 1007 [otel = "process.exit.code"],
        /// Path of the program.
        exe: Text = 1008 [otel = "process.executable.path"],
        /// Short name.
        comm: Text = 1009 [otel = "process.command"],
        /// Arguments, joined by blanks, at most 1 KiB.
        cmdline: Text = 1010 [otel = "process.command_line"],
        /// User.
        uid: Int32 = 1011 [otel = "process.user.id"],
        /// Container.
        container_id: Text = 1012 [otel = "container.id"],
        /// Pod.
        pod_uid: Text = 1013 [otel = "k8s.pod.uid"],
        /// Cgroup v2 id; 1 is the root.
        cgroup_id: Int64 = 1014 [hubble = "cgroup_id"],
        /// Path of the cgroup.
        cgroup: Text = 1016,
        /// Network namespace (inode); NULL for one that ended before anybody looked.
        netns: Int64 = 1017,
        /// Start of it as /proc counts it: ticks of 10 ms since boot.
        start_ticks: Int64 = 1018,
    }
}
