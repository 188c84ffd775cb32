//! Sockets and processes as the logs have them. In: Arrow files, each with the whole state first. Out: the last row of every id,
//! once. The newest file is read first, so that no more is held than one file and what counts.

use std::collections::HashSet;
use std::io::Read;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use shark_schema::identity::arrows::Decoder;
use shark_schema::table::Table;

use crate::source::LogFile;

/// Rows of one table.
pub struct Rows {
    /// Of which table.
    pub table: &'static Table,
    /// Batches, each with all columns of the table.
    pub batches: Vec<RecordBatch>,
    /// Cluster of each batch.
    pub clusters: Vec<String>,
}

/// The last row of each id in these logs. What is damaged is told in `warnings`, and its whole rows are taken.
pub fn read(logs: &[LogFile], table: &'static Table, warnings: &mut Vec<String>) -> Rows {
    let id = table.columns().next().expect("a table has columns").name;
    let schema: SchemaRef = table.schema().into();
    let mut seen = HashSet::new();
    let mut rows = Rows { table, batches: Vec::new(), clusters: Vec::new() };
    for log in logs.iter().rev().filter(|log| std::ptr::eq(log.table, table)) {
        let (batches, cluster) = match batches(log, &schema) {
            Ok((batches, cluster, None)) => (batches, cluster),
            Ok((batches, cluster, Some(damage))) => {
                // One that is still being written ends where it ends.
                if !log.place.name().ends_with(".open") {
                    warnings.push(format!("{}: {damage}", log.place.name()));
                }
                (batches, cluster)
            }
            Err(why) => {
                // Of one that was only just begun not even the head is there yet.
                if !log.place.name().ends_with(".open") {
                    warnings.push(format!("{} was left out: {why}", log.place.name()));
                }
                continue;
            }
        };
        for batch in batches.into_iter().rev() {
            let ids = batch[id].as_string::<i32>();
            let mut counts = vec![false; batch.num_rows()];
            for row in (0..batch.num_rows()).rev().filter(|row| ids.is_valid(*row)) {
                if !seen.contains(ids.value(row)) {
                    seen.insert(Box::<str>::from(ids.value(row)));
                    counts[row] = true;
                }
            }
            let kept = filter_record_batch(&batch, &BooleanArray::from(counts)).expect("one flag a row");
            if kept.num_rows() > 0 {
                rows.batches.push(kept);
                rows.clusters.push(cluster.clone());
            }
        }
    }
    rows
}

type Read1 = (Vec<RecordBatch>, String, Option<String>);

fn batches(log: &LogFile, schema: &SchemaRef) -> Result<Read1, String> {
    let reader = log.place.reader().map_err(|error| error.to_string())?;
    let reader: Box<dyn Read> = match log.place.name().contains(".zst") {
        true => Box::new(zstd::stream::read::Decoder::new(reader).map_err(|error| error.to_string())?),
        false => Box::new(reader),
    };
    let mut decoder = Decoder::new(log.table, reader).map_err(|error| error.to_string())?;
    let cluster = decoder.head().cluster.clone();
    let mut batches = Vec::new();
    for batch in &mut decoder {
        match batch {
            Ok(batch) => batches.push(widened(&batch, schema)),
            Err(damage) => return Ok((batches, cluster, Some(damage.to_string()))),
        }
    }
    Ok((batches, cluster, None))
}

/// An earlier version of a table has fewer columns: those it lacks are unknown.
fn widened(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("the decoder checked the types")
}
