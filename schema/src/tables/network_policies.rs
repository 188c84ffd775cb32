//! Network policies, resolved to workloads, so that SQL can join them.

use crate::table;

table! {
    /// One row per policy, subject, rule, peer and port; a policy that selects workloads and allows nothing has a row without peer and
    /// port whose `allows` is false.
    plain "network_policies", PolicyRow, PolicyBlock, sort ["namespace", "name"] {
        /// Policy.
        name: Text = 1001,
        /// Its namespace, and that of its subjects.
        namespace: Text = 1002,
        /// NetworkPolicy, CiliumNetworkPolicy, AdminNetworkPolicy.
        kind: Text = 1003,
        /// Ingress or egress, in lower case.
        direction: Text = 1004 [hubble = "traffic_direction"],
        /// Workload selected, by the labels of its pods in the interval; NULL when there was none.
        subject_workload: Text = 1005,
        /// Namespace of the peer; NULL any.
        peer_namespace: Text = 1006,
        /// Workload of the peer; NULL any.
        peer_workload: Text = 1007,
        /// Range of addresses of the peer.
        peer_cidr: Text = 1008,
        /// Port; NULL any.
        port: Int32 = 1009,
        /// Tcp, udp or sctp, in lower case; NULL any.
        proto: Text = 1010,
        /// Start.
        valid_from: Time = 1011 [tz = "UTC"],
        /// End; NULL open.
        valid_to: Time = 1012 [tz = "UTC"],
        /// False for the row of a policy that lets nothing in this direction.
        allows: Bool = 1013,
        /// Last port of a range that begins at `port`; NULL for a single one.
        end_port: Int32 = 1014,
        /// Ranges within `peer_cidr` that are not meant.
        except_cidrs: TextList = 1015,
    }
}
