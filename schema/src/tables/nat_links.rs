//! Conversations that one address translation gave two rows.

use crate::table;

table! {
    /// One row per conversation that was seen on both sides of a virtual address (kube-proxy's DNAT): the caller's flow to the
    /// virtual address, and the flow that reached the backend. Both stay rows of `flows` and of the call tables; `api_calls` leaves out
    /// the calls of `after_flow_id`, so that each is counted once.
    plain "nat_links", NatLinkRow, NatLinkBlock, sort ["before_flow_id"] {
        /// Flow to the virtual address.
        before_flow_id: Text,
        /// Flow to the backend.
        after_flow_id: Text,
        /// Virtual address.
        service_ip: Text,
        /// Its port.
        service_port: Int32,
        /// Backend.
        backend_ip: Text,
        /// Its port.
        backend_port: Int32,
        /// What proves it: sockets (the backend accepted from the caller's address and port), endpoints (the address is one of the
        /// service's, and the caller's socket is the same).
        evidence: Text,
    }
}
