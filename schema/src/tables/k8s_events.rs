//! What Kubernetes says of its objects, on the clock of the packets.

use crate::table;

table! {
    /// One row per Kubernetes event, with its last count.
    plain "k8s_events", EventRow, EventBlock, sort ["ts"] {
        /// When it happened last.
        ts: Time [tz = "UTC"],
        /// Cluster.
        cluster: Text [otel = "k8s.cluster.name"],
        /// Namespace.
        namespace: Text [otel = "k8s.namespace.name"],
        /// Pod, Deployment, NetworkPolicy, ...: what it is about.
        kind: Text,
        /// Name of that.
        name: Text,
        /// UID of that.
        uid: Text,
        /// Killing, Unhealthy, ScalingReplicaSet, RolloutStarted, PolicyChanged, ...
        reason: Text,
        /// Message.
        message: Text,
        /// How often it happened.
        count: Int64,
        /// Template hash or revision of a Deployment.
        revision: Text,
        /// New image of a rollout.
        image: Text [otel = "container.image.name"],
        /// Who says so.
        component: Text,
        /// When it happened first.
        first_ts: Time [tz = "UTC"],
    }
}
