//! Conversations on both sides of an address translation. In: flows as they are named, each with the socket that proves
//! its side. Out: pairs of which both sides were recorded. It links and never merges: each side keeps its row and its packets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use arrow::array::{RecordBatch, StringArray};
use shark_schema::tables::nat_links::{self, NatLinkBlock, NatLinkRow};

use super::sockets::Place;
use super::tables::Batches;

/// What was seen, by the socket that proves it: as many as sockets tell, whatever the packets are.
#[derive(Default)]
pub struct Links {
    seen: Mutex<BTreeMap<u64, Link>>,
    flows: Mutex<HashMap<u64, Box<str>>>,
}

#[derive(Default)]
struct Link {
    /// With the address that was asked, and the backend's behind it.
    before: BTreeMap<String, (Place, Place)>,
    after: BTreeMap<String, Place>,
}

impl Links {
    /// Takes in a flow as the caller sent it, with the address it asked and the backend's behind it.
    pub fn before(&self, socket: u64, flow_id: &str, asked: Place, backend: Place) {
        self.link(socket, |link| {
            link.before.insert(flow_id.to_owned(), (asked, backend));
        });
    }

    /// Takes in a flow as it may have reached a backend.
    pub fn after(&self, socket: u64, flow_id: &str, asked: Place) {
        self.link(socket, |link| {
            link.after.insert(flow_id.to_owned(), asked);
        });
    }

    fn link(&self, socket: u64, add: impl FnOnce(&mut Link)) {
        add(self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(socket).or_default());
    }

    /// Takes in the flow of a socket; of several the one whose id comes first.
    pub fn own(&self, socket: u64, flow_id: &str) {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let flow = flows.entry(socket).or_insert_with(|| flow_id.into());
        if flow_id < &**flow {
            *flow = flow_id.into();
        }
    }

    /// The flow of each of these sockets, if it was recorded.
    pub fn flows_of(&self, sockets: impl Iterator<Item = u64>) -> StringArray {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.map(|socket| flows.get(&socket)).collect()
    }

    /// The pairs. One flow before may have several after, where the translation was made anew.
    pub fn rows(&self) -> Vec<RecordBatch> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Batches::<NatLinkBlock>::new(&nat_links::TABLE);
        for link in seen.values() {
            let pairs =
                link.before.iter().flat_map(|before| link.after.iter().map(move |after| (before, after)));
            for ((before, (service, backend)), (after, _)) in
                pairs.filter(|((_, (_, to)), (_, at))| to == *at)
            {
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
        rows.finish()
    }
}
