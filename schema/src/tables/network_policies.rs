//! Network policies, resolved to workloads, so that SQL can join them.

use crate::table;

table! {
    /// One row per policy, subject, rule, peer and port; a policy that selects workloads and allows nothing has a row without peer and
    /// port whose `allows` is false.
    plain "network_policies", PolicyRow, PolicyBlock, sort ["namespace", "name"] {
        /// Policy.
        name: Text,
        /// Its namespace, and that of its subjects.
        namespace: Text,
        /// NetworkPolicy, CiliumNetworkPolicy, AdminNetworkPolicy.
        kind: Text,
        /// Ingress or egress, in lower case.
        direction: Text [hubble = "traffic_direction"],
        /// Workload selected, by the labels of its pods in the interval; NULL when there was none.
        subject_workload: Text,
        /// Namespace of the peer; NULL any.
        peer_namespace: Text,
        /// Workload of the peer; NULL any.
        peer_workload: Text,
        /// Range of addresses of the peer.
        peer_cidr: Text,
        /// Port; NULL any.
        port: Int32,
        /// Tcp, udp or sctp, in lower case; NULL any.
        proto: Text,
        /// Start.
        valid_from: Time [tz = "UTC"],
        /// End; NULL open.
        valid_to: Time [tz = "UTC"],
        /// False for the row of a policy that lets nothing in this direction.
        allows: Bool,
        /// Last port of a range that begins at `port`; NULL for a single one.
        end_port: Int32,
        /// Ranges within `peer_cidr` that are not meant.
        except_cidrs: TextList,
    }
}
