//! The pipeline: frames in rounds, rows out. Stage 1 decodes the chunks of a round in parallel and deals their packets to
//! 64 shards; fragments are put together between the stages so that they get their flow's shard; stage 2 works through the
//! shards in parallel. A round is cut by its bytes, never by the number of threads.

use rayon::prelude::*;
use shark_schema::table::Table;

use crate::batch::{Batch, tables};
use crate::frame::{Datagram, Decoded, Fragment, Frame, Packet, decode};
use crate::layer::Options;
use crate::limits;
use crate::protocols::call_tables;
use crate::reassemble::Fragments;
use crate::rows::{Answer, Catalog};
use crate::shard::{SHARDS, Shard, shard_of};

/// Frames of one recorded file, in its order.
pub type Chunk<'a> = Vec<Frame<'a>>;

/// Groups of shards that are finished one after the other: a million open flows are a million rows.
pub const FINISH_GROUPS: usize = 8;

/// What was read, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Frames.
    pub frames: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// Captured bytes.
    pub captured_bytes: u64,
    /// Packets that were made of what programs told of their TLS; none of the frames.
    pub plaintext: u64,
    /// Frames that are not IP.
    pub not_ip: u64,
    /// Frames cut short or broken before their addresses.
    pub undecodable: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Datagrams that never became whole.
    pub incomplete_datagrams: u64,
}

/// An analysis under way.
pub struct Analysis {
    shards: Vec<Shard>,
    fragments: Fragments,
    counts: Counts,
    options: Options,
    tables: Vec<&'static Table>,
    /// Segments and interfaces by number; the caller adds them before their frames.
    pub catalog: Catalog,
}

/// What stage 1 makes of a chunk.
struct Dealt<'a> {
    shards: Vec<Vec<Packet<'a>>>,
    fragments: Vec<Fragment<'a>>,
    strays: Vec<(Frame<'a>, &'static str)>,
    counts: Counts,
}

impl Analysis {
    /// Empty.
    pub fn new(options: Options) -> Analysis {
        Analysis {
            shards: (0..SHARDS).map(|_| Shard::new(options)).collect(),
            fragments: Fragments::default(),
            counts: Counts::default(),
            options,
            tables: tables(&call_tables()),
            catalog: Catalog::default(),
        }
    }

    /// Tables in the order of [`Analysis::pending`] and [`Analysis::take`].
    pub fn tables(&self) -> &[&'static Table] {
        &self.tables
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        Counts { incomplete_datagrams: self.fragments.incomplete, ..self.counts }
    }

    /// Takes the frames of a round. `merge` puts the packets of each flow in the order of their time stamps, for chunks
    /// that were recorded side by side; otherwise the order of the chunks holds, but for packets that several queues of a
    /// device gave out of order.
    pub fn round(&mut self, chunks: &[Chunk<'_>], merge: bool) {
        let keep_strays = self.options.packets;
        let mut dealt: Vec<Dealt<'_>> = chunks.par_iter().map(|chunk| deal(chunk, keep_strays)).collect();
        let whole = self.reassemble(&dealt);
        for (chunk, fragment, payload) in &whole {
            let Some(packet) = reassembled(fragment, payload) else { continue };
            // The piece that completes a datagram stands for it.
            dealt[*chunk].strays.retain(|(frame, _)| frame.number != packet.frame.number);
            let packets = &mut dealt[*chunk].shards[shard_of(&packet.key)];
            let at = packets.partition_point(|other| other.frame.number < packet.frame.number);
            packets.insert(at, packet);
        }
        for part in &dealt {
            self.counts.add(&part.counts);
        }
        let catalog = &self.catalog;
        self.shards.par_iter_mut().enumerate().for_each(|(number, shard)| {
            let packets = dealt.iter().flat_map(|part| &part.shards[number]);
            if merge {
                let mut packets: Vec<&Packet<'_>> = packets.collect();
                packets.sort_by_key(|packet| packet.frame.ts_ns);
                packets.into_iter().for_each(|packet| shard.packet(catalog, packet));
            } else {
                in_time_order(packets).for_each(|packet| shard.packet(catalog, packet));
            }
        });
        for (frame, proto) in dealt.iter().flat_map(|part| &part.strays) {
            self.shards[0].stray(catalog, frame, proto);
        }
    }

    /// Bytes of rows waiting in each table, over all shards.
    pub fn pending(&mut self) -> Vec<usize> {
        let mut sums = vec![0; self.tables.len()];
        for shard in &mut self.shards {
            for (sum, bytes) in sums.iter_mut().zip(shard.pending()) {
                *sum += bytes;
            }
        }
        sums
    }

    /// Takes the waiting rows of a table, a batch a shard.
    pub fn take(&mut self, table: usize) -> Vec<Batch> {
        self.shards.iter_mut().filter_map(|shard| shard.take(table)).collect()
    }

    /// Takes what names were told to lead to since the last time, in an order that depends on the packets alone.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        self.shards.iter_mut().flat_map(Shard::take_answers).collect()
    }

    /// The capture is over: writes every flow that is still open.
    pub fn finish(&mut self) {
        (0..FINISH_GROUPS).for_each(|group| self.finish_group(group));
    }

    /// The same for one group of shards, so that a caller can take rows between groups.
    pub fn finish_group(&mut self, group: usize) {
        self.fragments.finish();
        let catalog = &self.catalog;
        let size = SHARDS / FINISH_GROUPS;
        self.shards[group * size..][..size].par_iter_mut().for_each(|shard| shard.finish(catalog));
    }

    fn reassemble<'a>(&mut self, dealt: &[Dealt<'a>]) -> Vec<(usize, Fragment<'a>, Vec<u8>)> {
        let mut whole = Vec::new();
        for (chunk, part) in dealt.iter().enumerate() {
            for fragment in &part.fragments {
                if let Some(payload) = self.fragments.add(fragment) {
                    whole.push((chunk, *fragment, payload));
                }
            }
        }
        whole
    }
}

/// Puts packets in the order of their time stamps where they are a little out of it. A larger step is one of the clock, or two
/// captures one behind the other: there the order of the file holds.
fn in_time_order<'p, 'a>(
    packets: impl Iterator<Item = &'p Packet<'a>> + Clone,
) -> impl Iterator<Item = &'p Packet<'a>>
where
    'a: 'p,
{
    let is_ordered = packets.clone().is_sorted_by_key(|packet| packet.frame.ts_ns);
    let (mut sorted, mut as_is) = (Vec::new(), None);
    if is_ordered {
        as_is = Some(packets);
    } else {
        sorted.extend(packets);
        let is_step = |before: &&Packet<'_>, after: &&Packet<'_>| {
            after.frame.ts_ns < before.frame.ts_ns.saturating_sub(limits::REORDER_NS)
        };
        sorted
            .chunk_by_mut(|before, after| !is_step(before, after))
            .for_each(|run| run.sort_by_key(|packet| packet.frame.ts_ns));
    }
    as_is.into_iter().flatten().chain(sorted)
}

/// The packet of a datagram whose last piece was `fragment`; none where a tunnel in it carries a piece of another one.
pub fn reassembled<'a>(fragment: &Fragment<'a>, payload: &'a [u8]) -> Option<Packet<'a>> {
    let datagram = Datagram {
        frame: fragment.frame,
        src: fragment.src,
        dst: fragment.dst,
        protocol: fragment.protocol,
        vlans: fragment.vlans,
        tunnel: fragment.tunnel,
        ip_len: fragment.ip_len,
        ttl: fragment.ttl,
        ip_id: fragment.id as u16,
    };
    match datagram.decode(payload, payload.len()) {
        Decoded::Packet(packet) => Some(packet),
        _ => None,
    }
}

fn deal<'a>(chunk: &Chunk<'a>, keep_strays: bool) -> Dealt<'a> {
    let mut dealt = Dealt {
        shards: (0..SHARDS).map(|_| Vec::with_capacity(chunk.len() / SHARDS)).collect(),
        fragments: Vec::new(),
        strays: Vec::new(),
        counts: Counts::default(),
    };
    for frame in chunk {
        dealt.counts.add(&Counts::of(frame));
        let stray = match decode(*frame) {
            Decoded::Packet(packet) => {
                dealt.shards[shard_of(&packet.key)].push(packet);
                continue;
            }
            Decoded::Fragment(fragment) => {
                dealt.counts.fragments += 1;
                dealt.fragments.push(fragment);
                "fragment"
            }
            Decoded::NotIp => {
                dealt.counts.not_ip += 1;
                "other"
            }
            Decoded::Undecodable => {
                dealt.counts.undecodable += 1;
                "undecodable"
            }
        };
        if keep_strays {
            dealt.strays.push((*frame, stray));
        }
    }
    dealt
}

impl Counts {
    fn of(frame: &Frame<'_>) -> Counts {
        match frame.site.told {
            Some(_) => Counts { plaintext: 1, ..Counts::default() },
            None => Counts {
                frames: 1,
                wire_bytes: frame.wire_len.into(),
                captured_bytes: frame.data.len() as u64,
                ..Counts::default()
            },
        }
    }

    fn add(&mut self, other: &Counts) {
        self.frames += other.frames;
        self.wire_bytes += other.wire_bytes;
        self.captured_bytes += other.captured_bytes;
        self.plaintext += other.plaintext;
        self.not_ip += other.not_ip;
        self.undecodable += other.undecodable;
        self.fragments += other.fragments;
    }
}
