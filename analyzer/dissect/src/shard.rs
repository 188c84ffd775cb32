//! One of the 64 shards: its flows, by key and by age, and its builders. In: the packets of its flows in capture order.
//! Out: rows. No lock, no other shard: the same packets give the same rows on one core or sixteen.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::ages::{Age, Ages, Clock};
use crate::batch::{Batch, Tables};
use crate::flow::{Flow, Scope};
use crate::frame::{FlowKey, Packet};
use crate::layer::{End, Options};
use crate::limits;
use crate::protocols::CALL_TABLES;
use crate::rows::{Answer, Catalog};
use crate::write::{flow_row, packet_row};

/// Number of shards, whatever the number of cores.
pub const SHARDS: usize = 64;

/// The shard of a conversation.
pub fn shard_of(key: &FlowKey) -> usize {
    (FxBuildHasher.hash_one(key) >> 58) as usize % SHARDS
}

/// A shard.
pub struct Shard {
    /// Each on its own: a list of flows by value would double its memory whenever it grows.
    flows: Vec<Option<Box<Flow>>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    ages: Ages,
    memory: usize,
    clock: Clock,
    tables: Tables,
    options: Options,
}

impl Shard {
    /// Empty.
    pub fn new(options: Options) -> Shard {
        let calls = CALL_TABLES.iter().map(|table| (table.rows)()).collect();
        Shard {
            flows: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            ages: Ages::default(),
            memory: 0,
            clock: Clock::default(),
            tables: Tables::new(calls),
            options,
        }
    }

    /// Takes a packet of one of its flows.
    pub fn packet(&mut self, catalog: &Catalog, packet: &Packet<'_>) {
        self.clock.tick(packet.frame.ts_ns);
        self.expire(catalog);
        let mut hash = FxBuildHasher.hash_one(packet.key);
        let mut at = self.find(hash, packet);
        let of_another_place;
        let packet = match at {
            Some(found) if self.flow(found).is_elsewhere(packet) => {
                of_another_place = Packet { key: packet.key.at(packet.frame.iface), ..*packet };
                hash = FxBuildHasher.hash_one(of_another_place.key);
                at = self.find(hash, &of_another_place);
                &of_another_place
            }
            _ => packet,
        };
        if let Some(old) = at
            && self.flow(old).is_reused_by(packet)
        {
            self.remove(catalog, old, End::Timeout);
            at = None;
        }
        let at = at.unwrap_or_else(|| self.insert(hash, packet));
        let keep_packets = self.options.packets;
        self.with_flow(catalog, at, |flow, scope| {
            flow.packet(scope, packet);
            if keep_packets {
                let facts = flow.facts();
                packet_row(catalog, packet, facts).append(&mut scope.tables.packets);
            }
        });
        let class = Age::of(self.flow(at));
        self.ages.touch(at, class, self.clock.now_ns());
        while self.memory > limits::SHARD_BYTES && self.ages.len() > 1 {
            let idlest = self.ages.idlest().expect("there are flows");
            self.remove(catalog, idlest, End::Timeout);
        }
    }

    /// A frame that belongs to no flow, for the table `packets`.
    pub fn stray(&mut self, catalog: &Catalog, frame: &crate::frame::Frame<'_>, proto: &'static str) {
        crate::write::stray_row(catalog, frame, proto, &mut self.tables.packets);
    }

    /// Writes every flow that is still open.
    pub fn finish(&mut self, catalog: &Catalog) {
        while let Some(at) = self.ages.idlest() {
            self.remove(catalog, at, End::Timeout);
        }
    }

    /// Bytes waiting in each table.
    pub fn pending(&mut self) -> Vec<usize> {
        self.tables.all().map(|rows| rows.bytes()).collect()
    }

    /// Takes what names were told to lead to.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.tables.answers)
    }

    /// Takes the rows of a table.
    pub fn take(&mut self, table: usize) -> Option<Batch> {
        self.tables.all().nth(table).and_then(|rows| rows.take())
    }

    fn flow(&self, at: u32) -> &Flow {
        self.flows[at as usize].as_ref().expect("listed flows exist")
    }

    /// The flow of a packet: one that was seen with the same VLAN tags, or else one that its numbers go on from. Networks that use
    /// the same addresses have flows of the same key.
    fn find(&self, hash: u64, packet: &Packet<'_>) -> Option<u32> {
        let of_key = |at: u32| Some(self.flow(at)).filter(|flow| flow.key == packet.key);
        let seen = self.by_key.find(hash, |&at| of_key(at).is_some_and(|flow| flow.has_tags_of(packet)));
        let going_on =
            || self.by_key.find(hash, |&at| of_key(at).is_some_and(|flow| flow.goes_on_with(packet)));
        seen.or_else(going_on).copied()
    }

    fn insert(&mut self, hash: u64, packet: &Packet<'_>) -> u32 {
        let flow = Flow::new(packet);
        self.memory += flow.memory();
        let at = self.free.pop().unwrap_or(self.flows.len() as u32);
        if at as usize == self.flows.len() {
            self.flows.push(None);
        }
        self.flows[at as usize] = Some(Box::new(flow));
        let flows = &self.flows;
        self.by_key.insert_unique(hash, at, |&at| {
            FxBuildHasher.hash_one(flows[at as usize].as_ref().expect("listed flows exist").key)
        });
        at
    }

    fn remove(&mut self, catalog: &Catalog, at: u32, end: End) {
        self.with_flow(catalog, at, |flow, scope| {
            flow.finish(scope, end);
            flow_row(flow, scope);
        });
        let flow = self.flows[at as usize].take().expect("listed flows exist");
        self.memory -= flow.memory();
        let hash = FxBuildHasher.hash_one(flow.key);
        if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        self.ages.remove(at);
        self.free.push(at);
    }

    /// Works on a flow and keeps the account of its memory.
    fn with_flow(&mut self, catalog: &Catalog, at: u32, work: impl FnOnce(&mut Flow, &mut Scope<'_>)) {
        let flow = self.flows[at as usize].as_mut().expect("listed flows exist");
        let before = flow.memory();
        let mut scope = Scope { tables: &mut self.tables, catalog, options: &self.options };
        work(flow, &mut scope);
        self.memory = self.memory - before + flow.memory();
    }

    fn expire(&mut self, catalog: &Catalog) {
        while let Some(at) = self.ages.expired(self.clock.now_ns()) {
            self.remove(catalog, at, End::Timeout);
        }
    }
}
