//! Conversations on both sides of an address translation. In: flows as they are named, each with the caller's socket and its
//! side. Out: pairs of which both sides were recorded. It links and never merges: each side keeps its row and its packets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use shark_schema::table::Block;
use shark_schema::tables::nat_links::{self, NatLinkBlock, NatLinkRow};

use super::sockets::Place;

/// Which side of the translation a flow is, by the number of the caller's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As the caller sent it.
    Before(u32),
    /// As it reached the backend.
    After(u32),
}

/// What was seen, by the caller's socket: as many as sockets tell, whatever the packets are.
#[derive(Default)]
pub struct Links {
    seen: Mutex<BTreeMap<u32, Link>>,
}

#[derive(Default)]
struct Link {
    before: BTreeMap<String, Place>,
    after: BTreeMap<String, Place>,
}

impl Links {
    /// Takes in a flow, with the address that was asked.
    pub fn add(&self, side: Side, flow_id: &str, asked: Place) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, is_before) = match side {
            Side::Before(socket) => (socket, true),
            Side::After(socket) => (socket, false),
        };
        let link = seen.entry(socket).or_default();
        let flows = if is_before { &mut link.before } else { &mut link.after };
        flows.insert(flow_id.to_owned(), asked);
    }

    /// The pairs. One flow before may have several after, where the translation was made anew.
    pub fn rows(&self) -> RecordBatch {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = NatLinkBlock::default();
        for link in seen.values() {
            let Some((before, service)) = link.before.first_key_value() else { continue };
            for (after, backend) in &link.after {
                let [service_ip, backend_ip] = [service.0, backend.0].map(|ip| ip.to_string());
                rows.append(&NatLinkRow {
                    before_flow_id: Some(before),
                    after_flow_id: Some(after),
                    service_ip: Some(&service_ip),
                    service_port: Some(service.1.into()),
                    backend_ip: Some(&backend_ip),
                    backend_port: Some(backend.1.into()),
                    ..NatLinkRow::default()
                });
            }
        }
        super::tables::batch(&nat_links::TABLE, rows)
    }
}
