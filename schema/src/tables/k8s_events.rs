//! What Kubernetes says of its objects, on the clock of the packets.

use crate::table;

table! {
    /// One row per Kubernetes event, with its last count.
    plain "k8s_events", EventRow, EventBlock, sort ["ts"] {
        /// When it happened last.
        ts: Time = 1001 [tz = "UTC"],
        /// Cluster.
        cluster: Text = 1002 [otel = "k8s.cluster.name"],
        /// Namespace.
        namespace: Text = 1003 [otel = "k8s.namespace.name"],
        /// Pod, Deployment, NetworkPolicy, ...: what it is about.
        kind: Text = 1004,
        /// Name of that.
        name: Text = 1005,
        /// UID of that.
        uid: Text = 1006,
        /// Killing, Unhealthy, ScalingReplicaSet, RolloutStarted, PolicyChanged, ...
        reason: Text = 1007,
        /// Message.
        message: Text = 1008,
        /// How often it happened.
        count: Int64 = 1009,
        /// Template hash or revision of a Deployment.
        revision: Text = 1010,
        /// New image of a rollout.
        image: Text = 1011 [otel = "container.image.name"],
        /// Who says so.
        component: Text = 1012,
        /// When it happened first.
        first_ts: Time = 1013 [tz = "UTC"],
    }
}
