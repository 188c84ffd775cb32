//! Runs: rows of one table from all shards in, one sorted Parquet file with names joined in out. The same rows give the
//! same bytes.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::{DataType, Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use shark_dissect::rows::Batch;
use shark_schema::table::{SCHEMA_VERSION, Table};

use crate::identity::Identities;
use crate::identity::join::join;

/// Columns that are looked up by value, and get bloom filters.
const LOOKED_UP: &[&str] =
    &["src_ip", "dst_ip", "community_id", "flow_id", "call_id", "trace_id", "query", "x_request_id"];

/// Columns whose values hardly repeat: a dictionary would only be built to be thrown away.
const UNIQUE: &[&str] = &["flow_id", "call_id", "community_id", "x_request_id", "trace_id"];

/// Bodies are large, and the same one is often sent again: their dictionaries may grow beyond the usual megabyte.
const BODIES: &[&str] = &["request_body", "response_body", "request_body_raw", "response_body_raw"];
const BODY_DICTIONARY_BYTES: usize = 8 << 20;

/// Rows that are put in order at a time: a second copy of a whole run would be most of the memory of an index.
const ROWS_AT_ONCE: usize = 1024;

/// Joins names to the rows, sorts them and writes them.
pub fn write(
    table: &Table,
    schema: &SchemaRef,
    batches: Vec<Batch>,
    identities: &Identities,
    path: &Path,
) -> anyhow::Result<()> {
    let batches: Vec<RecordBatch> =
        batches.into_iter().map(|batch| join(table, schema, batch, identities)).collect();
    let order = order(table, &batches)?;
    let properties = properties(table, schema, order.len());
    // Parquet's own types say all there is to say, and documentation in every footer would be read again
    // with every footer.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(path)?, Arc::clone(schema), options)?;
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    for rows in order.chunks(ROWS_AT_ONCE) {
        writer.write(&interleave_record_batch(&batches, rows)?)?;
    }
    writer.close()?;
    Ok(())
}

fn properties(table: &Table, schema: &SchemaRef, rows: usize) -> WriterProperties {
    let sorting = table.sort.iter().filter_map(|name| {
        let column_idx = schema.column_with_name(name)?.0 as i32;
        Some(SortingColumn { column_idx, descending: false, nulls_first: false })
    });
    let said = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
    let said = vec![said("sharkq.table", table.name), said("sharkq.schema_version", SCHEMA_VERSION)];
    let level = ZstdLevel::try_new(1).expect("1 is a level of zstd");
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_sorting_columns(Some(sorting.collect()))
        .set_key_value_metadata(Some(said))
        .set_data_page_row_count_limit(20_000)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(64))
        .set_created_by("sharkq".into());
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().as_str());
        if LOOKED_UP.contains(&field.name().as_str()) {
            properties = properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_max_ndv(path.clone(), rows as u64);
        }
        for leaf in leaves_without_bounds(field) {
            properties = properties.set_column_statistics_enabled(leaf, EnabledStatistics::None);
        }
        if BODIES.contains(&field.name().as_str()) {
            properties =
                properties.set_column_dictionary_page_size_limit(path.clone(), BODY_DICTIONARY_BYTES);
        }
        if UNIQUE.contains(&field.name().as_str()) {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
        }
        if matches!(field.data_type(), DataType::Timestamp(..)) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

/// Columns of which nobody asks for the smallest or largest value: bodies, and what lies in maps and lists.
fn leaves_without_bounds(field: &Field) -> Vec<ColumnPath> {
    let name = field.name().as_str();
    let below = |parts: &[&str]| {
        ColumnPath::from([&[name], parts].concat().into_iter().map(String::from).collect::<Vec<String>>())
    };
    match field.data_type() {
        _ if BODIES.contains(&name) => vec![below(&[])],
        DataType::Map(..) => vec![below(&["key_value", "key"]), below(&["key_value", "value"])],
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => {
                fields.iter().map(|part| below(&["list", "item", part.name()])).collect()
            }
            _ => vec![below(&["list", "item"])],
        },
        _ => Vec::new(),
    }
}

/// Batch and row of each row in the order of the table.
fn order(table: &Table, batches: &[RecordBatch]) -> anyhow::Result<Vec<(usize, usize)>> {
    let keys: Vec<SortColumn> = table
        .sort
        .iter()
        .map(|name| {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch[*name].as_ref()).collect();
            let options = Some(SortOptions { descending: false, nulls_first: false });
            Ok(SortColumn { values: concat(&parts)?, options })
        })
        .collect::<anyhow::Result<_>>()?;
    let order = lexsort_to_indices(&keys, None)?;
    let places: Vec<(usize, usize)> = batches
        .iter()
        .enumerate()
        .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
        .collect();
    Ok(order.values().iter().map(|&at| places[at as usize]).collect())
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
            let schema: SchemaRef = table.schema().into();
            let rows = RecordBatch::new_empty(Arc::clone(&schema));
            let batch = Batch { flow_starts_ns: Vec::new(), rows };
            write(table, &schema, vec![batch], &Identities::default(), &path).unwrap();
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
