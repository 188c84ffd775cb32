//! Runs: rows of one table from all shards in, one sorted Parquet file with names joined in out. The same rows give the
//! same bytes.

mod layout;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{
    SortColumn, SortOptions, concat, interleave, interleave_record_batch, lexsort_to_indices,
};
use arrow::datatypes::{Field, Schema, TimestampNanosecondType, UInt32Type};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use shark_dissect::batch::Batch;
use shark_dissect::rows::Catalog;
use shark_dissect::shared::{Shared, spread};
use shark_schema::table::{Source, Table};

use crate::identity::Identities;
use crate::identity::join::NamedFlows;

/// Rows that are put in order at a time: a second copy of a whole run would be most of the memory of an index.
const ROWS_AT_ONCE: usize = 1024;

/// The same for rows whose texts are views, which are put in order without being copied.
const VIEWS_AT_ONCE: usize = 4096;

/// Writes rows that belong to no flow.
pub fn write_rows(table: &Table, batches: &[RecordBatch], path: &Path) -> anyhow::Result<()> {
    let by = |name: &&str| {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch[*name].as_ref()).collect();
        let options = Some(SortOptions { descending: false, nulls_first: false });
        Ok(SortColumn { values: concat(&parts)?, options })
    };
    let keys = table.sort.iter().map(by).collect::<Result<Vec<_>, ArrowError>>()?;
    let order = lexsort_to_indices(&keys, None)?;
    let numbered = batches.iter().enumerate();
    let places: Vec<(usize, usize)> =
        numbered.flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row))).collect();
    let order: Vec<(usize, usize)> = order.values().iter().map(|&at| places[at as usize]).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    write_in_order(table, &order, ROWS_AT_ONCE, path, |rows| Ok(interleave_record_batch(&batches, rows)?))
}

/// Names the flows of rows, sorts the rows, and writes them.
pub fn write(
    table: &Table,
    batches: &[Batch],
    catalog: &Catalog,
    identities: &Identities,
    path: &Path,
) -> anyhow::Result<()> {
    let flows: Vec<Shared> = batches.iter().flat_map(|batch| batch.flows.iter().cloned()).collect();
    let names = identities.names();
    let named = NamedFlows::new(&flows, catalog, identities, &names);
    if table.name == "flows" {
        named.link();
    }
    let order = order(table, batches, &named);
    let columns = Columns::new(table, batches, catalog, &named);
    write_in_order(table, &order, VIEWS_AT_ONCE, path, |rows| columns.gather(rows))
}

/// Writes a file of rows that are gathered in this order, so many at a time.
fn write_in_order<P>(
    table: &Table,
    order: &[P],
    at_once: usize,
    path: &Path,
    gather: impl Fn(&[P]) -> anyhow::Result<RecordBatch>,
) -> anyhow::Result<()> {
    let mut chunks = order.chunks(at_once);
    let first = gather(chunks.next().unwrap_or_default())?;
    // Parquet's own types say all there is to say, and documentation in every footer would be read again
    // with every footer.
    let properties = layout::properties(table, &first, order.len());
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(path)?, first.schema(), options)?;
    writer.write(&first)?;
    for rows in chunks {
        writer.write(&gather(rows)?)?;
    }
    writer.close()?;
    Ok(())
}

/// The position of a row: the number of its batch, its index in that batch, and the index of its flow over all batches.
#[derive(Clone, Copy)]
struct Place {
    batch: u32,
    row: u32,
    flow: u32,
}

/// Sorts the rows of all batches as the table asks: by time, or by namespace and workload of the server and then by time.
fn order(table: &Table, batches: &[Batch], named: &NamedFlows<'_>) -> Vec<Place> {
    let ranks = match table.sort {
        ["ts"] => Vec::new(),
        ["dst_namespace", "dst_workload", "ts"] => ranks(named),
        other => unreachable!("rows of flows are not sorted by {other:?}"),
    };
    let own = |name: &str| {
        let own = table.columns().filter(|column| matches!(column.source, Source::Row | Source::Segment));
        own.map(|column| column.name).position(|own| own == name).expect("a column of the table")
    };
    let ts = own("ts");
    let mut rows: Vec<(u32, i64, Place)> = Vec::with_capacity(batches.iter().map(Batch::rows).sum());
    let mut flows_before = 0;
    for (number, batch) in batches.iter().enumerate() {
        let times = batch.columns[ts].as_primitive::<TimestampNanosecondType>();
        for (row, time) in times.values().iter().enumerate() {
            let flow = batch.flow_numbers.get(row).map_or(0, |flow| flows_before + flow);
            let rank = ranks.get(flow as usize).copied().unwrap_or(0);
            rows.push((rank, *time, Place { batch: number as u32, row: row as u32, flow }));
        }
        flows_before += batch.flows.len() as u32;
    }
    rows.sort_by_key(|(rank, time, _)| (*rank, *time));
    rows.into_iter().map(|(.., place)| place).collect()
}

/// The rank of each flow by the namespace and the workload of its server; what is not known comes last.
fn ranks(named: &NamedFlows<'_>) -> Vec<u32> {
    let key = |(namespace, workload): (Option<&'_ str>, Option<&'_ str>)| {
        let known = |name: Option<&'_ str>| (name.is_none(), name.unwrap_or_default().to_owned());
        (known(namespace), known(workload))
    };
    let keys: Vec<_> = named.places().collect();
    let mut sorted = keys.clone();
    sorted.sort_by_key(|place| key(*place));
    sorted.dedup();
    let ranks: std::collections::HashMap<_, u32> = sorted.into_iter().zip(0..).collect();
    keys.iter().map(|place| ranks[place]).collect()
}

/// The columns of a run, of which rows are taken in any order.
struct Columns<'a> {
    schema: Arc<Schema>,
    columns: Vec<Column<'a>>,
}

enum Column<'a> {
    /// Rows have their own values: an array a batch.
    Own(Vec<&'a dyn Array>),
    /// Rows have numbers of segments, whose names these are.
    Segment(ArrayRef, Vec<&'a [u32]>),
    /// All rows of a flow have the same: a value a flow.
    Shared(ArrayRef),
}

impl<'a> Columns<'a> {
    fn new(table: &Table, batches: &'a [Batch], catalog: &Catalog, named: &NamedFlows<'_>) -> Columns<'a> {
        let segments = catalog.segment_names();
        let mut next = 0..;
        let mut own = || {
            let at = next.next().expect("it has no end");
            batches.iter().map(move |batch| batch.columns[at].as_ref())
        };
        let columns = table.columns().map(|column| match column.source {
            Source::Row => Column::Own(own().collect()),
            Source::Segment => {
                let numbers = own().map(|numbers| &numbers.as_primitive::<UInt32Type>().values()[..]);
                Column::Segment(Arc::clone(&segments), numbers.collect())
            }
            Source::Flow(column) => Column::Shared(named.flow_column(column)),
            Source::Endpoint(endpoint, column) => Column::Shared(named.endpoint_column(endpoint, column)),
        });
        Columns { columns: columns.collect(), schema: Arc::new(table.schema()) }
    }

    /// These rows, in this order. Texts are views or dictionaries.
    fn gather(&self, rows: &[Place]) -> anyhow::Result<RecordBatch> {
        let places: Vec<(usize, usize)> =
            rows.iter().map(|place| (place.batch as usize, place.row as usize)).collect();
        let flows: Vec<u32> = rows.iter().map(|place| place.flow).collect();
        let gathered = self.columns.iter().map(|column| match column {
            Column::Own(arrays) => interleave(arrays, &places),
            Column::Segment(names, numbers) => {
                let numbers: Vec<u32> = places.iter().map(|(batch, row)| numbers[*batch][*row]).collect();
                spread(names, &numbers)
            }
            Column::Shared(values) => spread(values, &flows),
        });
        let arrays: Vec<ArrayRef> = gathered.collect::<Result<_, _>>()?;
        let fields = self.schema.fields().iter().zip(&arrays);
        let fields: Vec<Field> = fields
            .map(|(field, array)| field.as_ref().clone().with_data_type(array.data_type().clone()))
            .collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

#[cfg(test)]
mod tests {
    use parquet::arrow::parquet_to_arrow_schema;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use shark_schema::tables::TABLES;

    use super::*;

    #[test]
    fn a_file_needs_nothing_but_parquet_to_say_its_types() {
        let folder = tempfile::tempdir().unwrap();
        for table in TABLES {
            let path = folder.path().join(table.name);
            let schema = Arc::new(table.schema());
            write_rows(table, &[RecordBatch::new_empty(Arc::clone(&schema))], &path).unwrap();
            let file = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
            let said = file.metadata().file_metadata();
            let pairs = said.key_value_metadata().unwrap();
            assert_eq!(pairs.len(), 2, "{}: {pairs:?}", table.name);
            let stored = parquet_to_arrow_schema(said.schema_descr(), None).unwrap();
            for (stored, defined) in stored.fields().iter().zip(schema.fields()) {
                assert_eq!(stored.data_type(), defined.data_type(), "{}.{}", table.name, defined.name());
                assert_eq!(stored.metadata()["PARQUET:field_id"], defined.metadata()["PARQUET:field_id"]);
            }
        }
    }
}
