//! Conversations that one address translation gave two rows.

use crate::table;

table! {
    /// One row per conversation that was recorded on both sides of a virtual address (kube-proxy's DNAT): the caller's flow to the
    /// virtual address, and the flow that reached the backend. Both are in the files of `flows` and of the call tables; the tables in
    /// SQL show the caller's, so that each call is there once, and those with `_all` show both.
    plain "nat_links", NatLinkRow, NatLinkBlock, sort ["before_flow_id"] {
        /// Flow to the virtual address.
        before_flow_id: Text = 1001,
        /// Flow to the backend.
        after_flow_id: Text = 1002,
        /// Virtual address.
        service_ip: Text = 1003,
        /// Its port.
        service_port: Int32 = 1004,
        /// Backend.
        backend_ip: Text = 1005,
        /// Its port.
        backend_port: Int32 = 1006,
    }
}
