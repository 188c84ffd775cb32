//! Where nobody can say who an address belonged to.

use crate::table;

table! {
    /// One row per address and time in which two or more claimed it. Rows of such a time carry no name by address.
    plain "identity_conflicts", ConflictRow, ConflictBlock, sort ["valid_from", "ip"] {
        /// Address.
        ip: Text = 1001,
        /// Start.
        valid_from: Time = 1002 [tz = "UTC"],
        /// End; NULL open.
        valid_to: Time = 1003 [tz = "UTC"],
        /// Kind of what claimed it: pod, service, node.
        kind: Text = 1004,
        /// Who did, each as `namespace/name`.
        claims: TextList = 1005,
        /// UIDs of those, in the same order.
        uids: TextList = 1006,
    }
}
