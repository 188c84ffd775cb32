//! Rows under construction: what a flow knows about itself, and the column builders of one shard.
//! In: calls and flows as the driver and the flow table finish them. Out: record batches.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use shark_schema::call::{CallBlock, CallRow, OriginBlock, OriginRow};
use shark_schema::table::{Block, Table};

use crate::layer::{Carrier, Direction, End, Resolved, Written};
use crate::stream::Mark;

/// A recorded file or segment that frames come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentInfo {
    /// Name, as rows give it.
    pub name: String,
    /// Snapshot it lies in.
    pub snapshot_id: Option<String>,
    /// Cluster it was recorded in.
    pub cluster: Option<String>,
    /// Node it was recorded on.
    pub node: Option<String>,
}

/// All sources, by the numbers frames carry.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Segments and files.
    pub segments: Vec<SegmentInfo>,
    /// Interface names; `None` where the file has none.
    pub interfaces: Vec<Option<String>>,
}

/// What is the same for all rows of a flow.
#[derive(Debug, Default)]
pub struct FlowFacts {
    /// `flow_id`.
    pub id: String,
    /// Addresses of both ends as text.
    pub ips: [String; 2],
    /// Ports of both ends.
    pub ports: [u16; 2],
    /// First packet.
    pub start_ns: i64,
    /// Who asked, and how that is known.
    pub client: Option<(Direction, &'static str)>,
    /// Protocols recognised.
    pub l7: Vec<&'static str>,
    /// Whom the client asked for when it began TLS.
    pub server_name: Option<String>,
    /// Calls written.
    pub calls: u64,
    /// True where there are ports.
    pub has_ports: bool,
}

/// Where a conversation writes.
pub struct Context<'a> {
    /// Its flow.
    pub flow: &'a mut FlowFacts,
    /// Builders of its shard.
    pub tables: &'a mut Tables,
    /// Names of segments.
    pub catalog: &'a Catalog,
    /// Programs at its ends told it; on the wire it is encrypted.
    pub is_inside: bool,
}

/// What the driver knows of a finished call.
pub struct CallFacts {
    /// First byte.
    pub began: Mark,
    /// Last byte.
    pub ended: Mark,
    /// Last byte of the response.
    pub end_ns: Option<i64>,
    /// Request first byte to response last byte.
    pub duration_ns: Option<i64>,
    /// Size of the request on the wire.
    pub request_bytes: Option<u64>,
    /// Size of the response on the wire.
    pub response_bytes: Option<u64>,
    /// Near a gap.
    pub lossy: bool,
    /// Nothing answers it.
    pub is_one_way: bool,
    /// Who asks here: among datagrams, both ends may.
    pub asked_by: Direction,
    /// Who asks, where nothing was said on the conversation before.
    pub opened_by: Option<Direction>,
    /// Why there is no response.
    pub end: Option<End>,
}

impl CallFacts {
    fn pairing(&self) -> &'static str {
        match (self.lossy, self.request_bytes, self.response_bytes) {
            (true, ..) => "lossy",
            _ if self.is_one_way => "complete",
            (_, Some(_), Some(_)) => "complete",
            (_, Some(_), None) => "request_only",
            _ => "response_only",
        }
    }

    /// What a missing response means; nothing where a gap may have swallowed it.
    fn failure(&self) -> Option<&'static str> {
        match (self.lossy || self.is_one_way, self.response_bytes, self.end) {
            (true, ..) | (_, Some(_), _) => None,
            (_, _, Some(End::Reset)) => Some("reset"),
            (_, _, Some(End::Timeout)) => Some("timeout"),
            _ => Some("no_response"),
        }
    }
}

impl Context<'_> {
    /// Notes who asks, unless a handshake already told.
    pub fn orient(&mut self, client: Direction) {
        self.flow.client.get_or_insert((client, "protocol"));
    }
}

/// Where a layer writes the rows of a call.
pub struct RowSink<'a, 'b> {
    cx: &'a mut Context<'b>,
    tables: &'a [usize],
    carrier: Carrier,
    facts: &'a CallFacts,
}

impl<'a, 'b> RowSink<'a, 'b> {
    /// To `tables`, by their places among those of calls.
    pub fn new(cx: &'a mut Context<'b>, tables: &'a [usize], carrier: Carrier, facts: &'a CallFacts) -> Self {
        RowSink { cx, tables, carrier, facts }
    }

    /// Writes a row to the table with these columns, which must be one of the layer's.
    pub fn call<B: Block + 'static>(&mut self, write: impl FnOnce(&mut B) -> Written) {
        let RowSink { ref mut cx, tables, carrier, facts: call } = *self;
        let is_its = |table: &&usize| cx.tables.calls[**table].as_any().is::<CallRows<B>>();
        let table = *tables.iter().find(is_its).expect("a layer writes to its own tables");
        cx.write_call(table, carrier, call, write);
    }
}

impl Context<'_> {
    fn write_call<B: Block + 'static>(
        &mut self,
        table: usize,
        carrier: Carrier,
        call: &CallFacts,
        write: impl FnOnce(&mut B) -> Written,
    ) {
        let rows = self.tables.calls[table].as_any().downcast_mut::<CallRows<B>>();
        let rows = rows.expect("it was found by its columns");
        let written = write(rows.own.get_or_insert_default());
        let number = self.flow.calls;
        self.flow.calls += 1;
        let flow = &*self.flow;
        let src = match carrier {
            Carrier::Datagram | Carrier::Icmp | Carrier::Icmp6 => call.asked_by,
            Carrier::Stream => flow.client.map_or(Direction::Forward, |(client, _)| client),
        };
        let dst = src.opposite();
        let segment = &self.catalog.segments[call.began.segment as usize];
        // What is asked of a group is answered from other addresses, by those that have something to say, or by nobody.
        let failure =
            call.failure().filter(|_| carrier == Carrier::Stream || !is_group(&flow.ips[dst as usize]));
        rows.text.clear();
        let _ = std::fmt::Write::write_fmt(&mut rows.text, format_args!("{}-{number}", flow.id));
        let row = CallRow {
            call_id: Some(&rows.text),
            flow_id: Some(&flow.id),
            ts: Some(call.began.ts_ns),
            end_ts: call.end_ns,
            duration_ns: call.duration_ns,
            snapshot_id: segment.snapshot_id.as_deref(),
            cluster: segment.cluster.as_deref(),
            node: segment.node.as_deref(),
            vantage: self.is_inside.then_some(INSIDE),
            src_ip: Some(&flow.ips[src as usize]),
            src_port: flow.has_ports.then_some(flow.ports[src as usize].into()),
            dst_ip: Some(&flow.ips[dst as usize]),
            dst_port: flow.has_ports.then_some(flow.ports[dst as usize].into()),
            request_bytes: call.request_bytes.map(|bytes| bytes as i64),
            response_bytes: call.response_bytes.map(|bytes| bytes as i64),
            is_error: written.is_error.or(failure.map(|_| true)),
            error_type: written.error_type.as_deref().or(failure),
            tls: Some(self.is_inside),
            trace_id: written.trace_id.as_deref(),
            pairing: Some(call.pairing()),
            ..CallRow::default()
        };
        rows.bytes += written.bytes + rows.call.get_or_insert_default().append(&row);
        let origin = origin(self.catalog, call.began, call.ended);
        rows.bytes += rows.origin.get_or_insert_default().append(&origin);
        rows.flow_starts_ns.push(flow.start_ns);
        if let Some(Resolved { name, addresses }) = written.resolved {
            let client = flow.ips[src as usize].clone();
            let ts_ns = call.end_ns.unwrap_or(call.began.ts_ns);
            self.tables.answers.push(Answer { client, name, addresses, ts_ns });
        }
        // Inside of a tunnel it is not the destination of this conversation that is named.
        let is_to_dst = !self.is_inside && call.opened_by == Some(src);
        if let Some(name) = written.server_name.filter(|_| is_to_dst) {
            self.flow.server_name.get_or_insert(name);
        }
    }
}

/// A multicast or broadcast address.
fn is_group(ip: &str) -> bool {
    match ip.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_multicast() || ip.is_broadcast(),
        Ok(IpAddr::V6(ip)) => ip.is_multicast(),
        Err(_) => false,
    }
}

/// The vantage of what programs told of their TLS.
pub const INSIDE: &str = "tls_uprobe";

/// Names that a client was told the addresses of.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who asked.
    pub client: String,
    /// For what.
    pub name: String,
    /// What it was told.
    pub addresses: Vec<String>,
    /// When.
    pub ts_ns: i64,
}

/// The packets behind a row.
pub fn origin(catalog: &Catalog, first: Mark, last: Mark) -> OriginRow<'_> {
    OriginRow {
        first_segment: Some(&catalog.segments[first.segment as usize].name),
        first_frame: Some(first.frame.into()),
        last_segment: Some(&catalog.segments[last.segment as usize].name),
        last_frame: Some(last.frame.into()),
        ..OriginRow::default()
    }
}

/// The builders of one shard: a table a protocol, and the tables that are not calls.
pub struct Tables {
    /// By protocol number.
    pub calls: Vec<Box<dyn Rows>>,
    /// Table `flows`.
    pub flows: PlainRows<shark_schema::tables::flows::FlowBlock>,
    /// Table `packets`.
    pub packets: PlainRows<shark_schema::tables::packets::PacketBlock>,
    /// Table `flow_copies`.
    pub copies: PlainRows<shark_schema::tables::flows::FlowBlock>,
    /// Of no table: what was learnt for the names of flows to come.
    pub answers: Vec<Answer>,
}

/// Rows of some table, erased.
pub trait Rows: Send {
    /// For the typed way in.
    fn as_any(&mut self) -> &mut dyn Any;
    /// Bytes appended since the last batch.
    fn bytes(&self) -> usize;
    /// Takes what was appended.
    fn take(&mut self, schema: &SchemaRef) -> Option<Batch>;
}

/// Rows of one shard, and of each row when its flow began (identity is what was true then).
pub struct Batch {
    /// The columns.
    pub rows: RecordBatch,
    /// Start of the flow of each row.
    pub flow_starts_ns: Vec<i64>,
}

/// Builders of a call table. They take memory once there is a row: most shards never see most protocols.
#[derive(Default)]
pub struct CallRows<B: Block> {
    own: Option<B>,
    call: Option<CallBlock>,
    origin: Option<OriginBlock>,
    flow_starts_ns: Vec<i64>,
    bytes: usize,
    text: String,
}

/// A call table and its builders.
pub struct CallTable {
    /// The table.
    pub table: &'static Table,
    /// Empty builders.
    pub rows: fn() -> Box<dyn Rows>,
}

/// The call table with these columns.
pub const fn call_table<B: Block + 'static>(table: &'static Table) -> CallTable {
    CallTable { table, rows: || Box::new(CallRows::<B>::default()) }
}

impl<B: Block + 'static> Rows for CallRows<B> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, schema: &SchemaRef) -> Option<Batch> {
        let flow_starts_ns = std::mem::take(&mut self.flow_starts_ns);
        self.bytes = 0;
        let (call, own, origin) = (self.call.take(), self.own.take(), self.origin.take());
        batch(schema, flow_starts_ns, |columns| {
            call.into_iter().for_each(|mut call| call.finish(columns));
            own.into_iter().for_each(|mut own| own.finish(columns));
            origin.into_iter().for_each(|mut origin| origin.finish(columns));
        })
    }
}

/// Builders of a table that is no call table; `flows` has the packets behind a row, `packets` is them. They take memory once there
/// is a row.
#[derive(Default)]
pub struct PlainRows<B: Block> {
    own: Option<B>,
    origin: Option<OriginBlock>,
    traced: bool,
    flow_starts_ns: Vec<i64>,
    bytes: usize,
}

impl<B: Block + 'static> PlainRows<B> {
    /// With the columns that lead to the packets.
    pub fn traced() -> Self {
        PlainRows { traced: true, ..PlainRows::default() }
    }

    /// Appends a row.
    pub fn append(&mut self, row: &B::Row<'_>, origin: &OriginRow<'_>, flow_start_ns: i64) {
        self.bytes += self.own.get_or_insert_default().append(row);
        if self.traced {
            self.bytes += self.origin.get_or_insert_default().append(origin);
        }
        self.flow_starts_ns.push(flow_start_ns);
    }
}

impl<B: Block + 'static> Rows for PlainRows<B> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, schema: &SchemaRef) -> Option<Batch> {
        let flow_starts_ns = std::mem::take(&mut self.flow_starts_ns);
        self.bytes = 0;
        let (own, origin) = (self.own.take(), self.origin.take());
        batch(schema, flow_starts_ns, |columns| {
            own.into_iter().for_each(|mut own| own.finish(columns));
            origin.into_iter().for_each(|mut origin| origin.finish(columns));
        })
    }
}

fn batch(
    schema: &SchemaRef,
    flow_starts_ns: Vec<i64>,
    finish: impl FnOnce(&mut Vec<ArrayRef>),
) -> Option<Batch> {
    if flow_starts_ns.is_empty() {
        return None;
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    finish(&mut columns);
    let rows =
        RecordBatch::try_new(Arc::clone(schema), columns).expect("builders and schema come from one table");
    Some(Batch { rows, flow_starts_ns })
}

/// Name and schema of every table a shard fills, in the order of [`Tables::all`].
pub fn schemas(calls: &[&'static Table]) -> Vec<(&'static Table, SchemaRef)> {
    use shark_schema::tables::{flow_copies, flows, packets};
    let others = [&flows::TABLE, &packets::TABLE, &flow_copies::TABLE];
    calls.iter().copied().chain(others).map(|table| (table, Arc::new(table.schema()))).collect()
}

impl Tables {
    /// Empty.
    pub fn new(calls: Vec<Box<dyn Rows>>) -> Tables {
        Tables {
            calls,
            flows: PlainRows::traced(),
            packets: PlainRows::default(),
            copies: PlainRows::traced(),
            answers: Vec::new(),
        }
    }

    /// Every table, calls first.
    pub fn all(&mut self) -> impl Iterator<Item = &mut dyn Rows> {
        let calls = self.calls.iter_mut().map(|rows| rows.as_mut() as &mut dyn Rows);
        let others: [&mut dyn Rows; 3] = [&mut self.flows, &mut self.packets, &mut self.copies];
        calls.chain(others)
    }
}
