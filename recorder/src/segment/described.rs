//! The interfaces that an open segment describes, in the order of their blocks.
//! In: interfaces by the number that the recording has for them. Out: the places by which blocks and the
//! sidecar name them. A segment describes only what there is while it is open, so that places and numbers
//! differ once an interface is gone.

use std::collections::BTreeMap;

use shark_schema::segment::{Bucket, SHARED_SOCKET, SidecarInterface, renumber};

use crate::batch::Batch;

#[derive(Default)]
pub struct Described {
    interfaces: Vec<SidecarInterface>,
    /// By number.
    places: BTreeMap<u32, u32>,
}

impl Described {
    /// Gives an interface the next place.
    pub fn add(&mut self, mut interface: SidecarInterface) {
        let place = self.interfaces.len() as u32;
        self.places.insert(interface.id, place);
        interface.id = place;
        self.interfaces.push(interface);
    }

    pub fn place(&self, number: u32) -> Option<u32> {
        self.places.get(&number).copied()
    }

    pub fn numbers(&self) -> Vec<u32> {
        self.places.keys().copied().collect()
    }

    /// Gives the packets of a batch the places of their interfaces.
    pub fn renumber(&self, batch: &mut Batch) {
        // As long as no interface has gone, both are the same.
        if batch.interfaces().all(|number| self.place(number) == Some(number)) {
            return;
        }
        let mut last = None;
        renumber(&mut batch.data, |number| match last {
            Some((of, place)) if of == number => place,
            _ => {
                let place = self.place(number).unwrap_or(number);
                last = Some((number, place));
                place
            }
        });
    }

    /// What stands in the sidecar: the interfaces, and counters by their places.
    pub fn into_sidecar(self, mut buckets: Vec<Bucket>) -> (Vec<SidecarInterface>, Vec<Bucket>) {
        for bucket in &mut buckets {
            bucket.interface = self.place(bucket.interface).unwrap_or(SHARED_SOCKET);
        }
        (self.interfaces, buckets)
    }
}

#[cfg(test)]
mod tests {
    use shark_schema::segment::{Block, Blocks, PacketHead, packet};

    use super::*;
    use crate::batch::Tally;

    fn interface(id: u32) -> SidecarInterface {
        let name = format!("v{id}");
        SidecarInterface { id, name, ifindex: None, snaplen: 96, synthetic_ethernet: false, pod: None }
    }

    #[test]
    fn packets_get_the_places_of_their_interfaces() {
        let mut described = Described::default();
        [4, 7, 9].map(interface).into_iter().for_each(|of| described.add(of));
        let mut batch = Batch::default();
        for (number, bytes) in [(7, 3), (9, 60), (9, 0), (4, 1), (7, 17)] {
            batch.tallies.push(Tally { packets: 1, ..Tally::new(number) });
            let head = PacketHead {
                interface: number,
                flags: 1,
                dropped: u64::from(number),
                ..PacketHead::default()
            };
            packet(&mut batch.data, &head, &vec![0xff; bytes]);
        }
        described.renumber(&mut batch);
        let mut segment = Vec::new();
        let note = shark_schema::segment::SectionNote {
            format: 1,
            segment_id: String::new(),
            node: String::new(),
            cluster: String::new(),
            worker: 0,
            seq: 1,
        };
        shark_schema::segment::section(&mut segment, "test", &note);
        for of in &described.interfaces {
            let note = shark_schema::segment::InterfaceNote {
                ifindex: None,
                snaplen: 96,
                synthetic_ethernet: false,
                pod: None,
            };
            shark_schema::segment::interface(&mut segment, &of.name, &note, None);
        }
        segment.extend_from_slice(&batch.data);
        let packets: Vec<(u32, u64, usize)> = Blocks::new(&segment)
            .filter_map(|item| match item.expect("a block").block {
                Block::Packet(packet) => Some((packet.interface, packet.dropped, packet.data.len())),
                _ => None,
            })
            .collect();
        assert_eq!(packets, [(1, 7, 3), (2, 9, 60), (2, 9, 0), (0, 4, 1), (1, 7, 17)]);
    }
}
