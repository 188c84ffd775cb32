//! The column builders of one shard, and the batches that come of them.
//! In: rows of calls, flows and packets. Out: arrays of what each row has of its own, and the numbers of the flows.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::UInt32Type;
use arrow::error::ArrowError;
use shark_schema::call::{CallBlock, OriginBlock, OriginRow};
use shark_schema::table::{Block, Source, Table};
use shark_schema::tables::flows::{FlowBlock, FlowRow};
use shark_schema::tables::packets::{PacketBlock, PacketRow};

use crate::rows::{Answer, Catalog};
use crate::shared::{Shared, SharedRows, endpoint_values, flow_values, spread};

/// The builders of one shard: those of each protocol's call table, and those of the other tables.
pub struct Tables {
    /// By protocol number.
    pub calls: Vec<Box<dyn Rows>>,
    /// Table `flows`.
    pub flows: FlowRows,
    /// Table `packets`.
    pub packets: PacketRows,
    /// Table `flow_copies`.
    pub copies: FlowRows,
    /// Addresses that DNS answers gave for names; they name the endpoints of later flows.
    pub answers: Vec<Answer>,
}

/// Builders of the rows of any table.
pub trait Rows: Any + Send {
    /// Bytes appended since the last batch.
    fn bytes(&self) -> usize;
    /// Takes what was appended.
    fn take(&mut self) -> Option<Batch>;
}

/// Rows of one shard: what each has of its own, and the number of its flow.
#[derive(Default)]
pub struct Batch {
    /// The columns of which each row has values of its own, in the order of the table; texts and bytes are views.
    pub columns: Vec<ArrayRef>,
    /// The values that all rows of a flow share, once for each flow.
    pub flows: Vec<Shared>,
    /// Number of each row's flow among them; empty where rows belong to no flow.
    pub flow_numbers: Vec<u32>,
}

impl Batch {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.len())
    }

    /// The rows with all columns of their table. What only the identity log tells is NULL.
    pub fn record_batch(&self, table: &Table, catalog: &Catalog) -> Result<RecordBatch, ArrowError> {
        let mut own = self.columns.iter();
        let mut own = || own.next().expect("there is an array for each column of the rows");
        let segments = catalog.segment_names();
        let rows = self.rows();
        let columns = table.columns().map(|column| {
            let spread_or_null = |values: Option<ArrayRef>| match values {
                Some(values) => spread(&values, &self.flow_numbers),
                None => Ok(new_null_array(&(column.data_type)(), rows)),
            };
            match column.source {
                Source::Row => Ok(Arc::clone(own())),
                Source::Segment => spread(&segments, own().as_primitive::<UInt32Type>().values()),
                Source::Flow(column) => spread_or_null(flow_values(column, &self.flows, catalog)),
                Source::Endpoint(end, column) => spread_or_null(endpoint_values(end, column, &self.flows)),
            }
        });
        table.batch(columns.collect::<Result<_, _>>()?)
    }
}

/// Builders of rows that belong to flows and name the packets behind them. They take memory once there is a row: most shards never
/// see most protocols.
#[derive(Default)]
pub struct TracedRows<B: Block> {
    pub(crate) own: Option<B>,
    pub(crate) origin: Option<OriginBlock>,
    pub(crate) shared: SharedRows,
    pub(crate) bytes: usize,
}

impl<B: Block> TracedRows<B> {
    /// Takes what was appended; its columns come behind those that are given.
    fn take_behind(&mut self, mut columns: Vec<ArrayRef>) -> Option<Batch> {
        self.bytes = 0;
        let (flows, flow_numbers) = self.shared.take();
        self.own.take()?.finish(&mut columns);
        self.origin.take()?.finish(&mut columns);
        Some(Batch { columns, flows, flow_numbers })
    }
}

impl<B: Block + 'static> Rows for TracedRows<B> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self) -> Option<Batch> {
        self.take_behind(Vec::new())
    }
}

/// Builders of `flows` and `flow_copies`, whose rows are flows.
pub type FlowRows = TracedRows<FlowBlock>;

impl FlowRows {
    /// Appends a row.
    pub fn append(&mut self, row: &FlowRow<'_>, origin: &OriginRow<'_>, shared: Shared) {
        self.bytes += self.own.get_or_insert_default().append(row);
        self.bytes += self.origin.get_or_insert_default().append(origin);
        self.bytes += self.shared.append(shared);
    }
}

/// Builders of a call table.
#[derive(Default)]
pub struct CallRows<B: Block> {
    pub(crate) call: Option<CallBlock>,
    pub(crate) traced: TracedRows<B>,
    /// Buffer for the id of a call.
    pub(crate) id: String,
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
    fn bytes(&self) -> usize {
        self.traced.bytes
    }

    fn take(&mut self) -> Option<Batch> {
        let mut columns = Vec::new();
        self.call.take()?.finish(&mut columns);
        self.traced.take_behind(columns)
    }
}

/// Builders of `packets`. They take memory once there is a row.
#[derive(Default)]
pub struct PacketRows {
    own: Option<PacketBlock>,
    bytes: usize,
}

impl PacketRows {
    /// Appends a row.
    pub fn append(&mut self, row: &PacketRow<'_>) {
        self.bytes += self.own.get_or_insert_default().append(row);
    }
}

impl Rows for PacketRows {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self) -> Option<Batch> {
        self.bytes = 0;
        let mut columns = Vec::new();
        self.own.take()?.finish(&mut columns);
        Some(Batch { columns, ..Batch::default() })
    }
}

/// Every table a shard fills, in the order of [`Tables::all`].
pub fn tables(calls: &[&'static Table]) -> Vec<&'static Table> {
    use shark_schema::tables::{flow_copies, flows, packets};
    let others = [&flows::TABLE, &packets::TABLE, &flow_copies::TABLE];
    calls.iter().copied().chain(others).collect()
}

impl Tables {
    /// Empty.
    pub fn new(calls: Vec<Box<dyn Rows>>) -> Tables {
        Tables {
            calls,
            flows: FlowRows::default(),
            packets: PacketRows::default(),
            copies: FlowRows::default(),
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
