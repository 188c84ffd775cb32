//! Runs: rows of one table from all shards in, one sorted Parquet file with names joined in out. The same rows give the
//! same bytes.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::{DataType, Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use shark_dissect::rows::Batch;
use shark_schema::table::Table;

use crate::identity::{Identities, Owner};

/// Columns that are looked up by value, and get bloom filters.
const LOOKED_UP: &[&str] =
    &["src_ip", "dst_ip", "community_id", "flow_id", "call_id", "trace_id", "query", "x_request_id"];

/// Columns whose values hardly repeat: a dictionary would only be built to be thrown away.
const UNIQUE: &[&str] = &["flow_id", "call_id", "community_id", "x_request_id", "trace_id"];

/// Bodies are large, and the same one is often sent again: their dictionaries may grow beyond the usual megabyte.
const BODIES: &[&str] = &["request_body", "response_body", "request_body_raw", "response_body_raw"];
const BODY_DICTIONARY_BYTES: usize = 8 << 20;

/// Joins names to the rows, sorts them and writes them.
pub fn write(
    table: &Table,
    schema: &SchemaRef,
    batches: Vec<Batch>,
    identities: &Identities,
    path: &Path,
) -> anyhow::Result<()> {
    let batches: Vec<RecordBatch> =
        batches.into_iter().map(|batch| join(schema, batch, identities)).collect();
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let sorted = sort(table, &batches)?;
    let properties = properties(table, schema, rows);
    let mut writer = ArrowWriter::try_new(File::create(path)?, Arc::clone(schema), Some(properties))?;
    writer.write(&sorted)?;
    writer.close()?;
    Ok(())
}

fn properties(table: &Table, schema: &SchemaRef, rows: usize) -> WriterProperties {
    let sorting = table.sort.iter().filter_map(|name| {
        let column_idx = schema.index_of(name).ok()? as i32;
        Some(SortingColumn { column_idx, descending: false, nulls_first: false })
    });
    let level = ZstdLevel::try_new(1).expect("1 is a level of zstd");
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_sorting_columns(Some(sorting.collect()))
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

fn sort(table: &Table, batches: &[RecordBatch]) -> anyhow::Result<RecordBatch> {
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
    let order: Vec<(usize, usize)> = order.values().iter().map(|&at| places[at as usize]).collect();
    Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &order)?)
}

/// Fills the identity columns of both ends, as of the start of each row's flow.
fn join(schema: &SchemaRef, batch: Batch, identities: &Identities) -> RecordBatch {
    if schema.index_of("src_workload").is_err() {
        return batch.rows;
    }
    let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
    let ends = ["src", "dst"].map(|end| owners(&batch, &format!("{end}_ip"), identities));
    for (end, owners) in ["src", "dst"].iter().zip(&ends) {
        let mut fill = |column: &str, text: fn(&Owner) -> Option<&str>, unknown: Option<&str>| {
            if let Ok(at) = schema.index_of(&format!("{end}_{column}")) {
                let texts = owners.iter().map(|owner| owner.map_or(unknown, text));
                columns[at] = Arc::new(texts.collect::<arrow::array::StringArray>());
            }
        };
        fill("namespace", |owner| owner.namespace.as_deref(), None);
        fill("workload", |owner| owner.workload.as_deref(), None);
        fill("workload_kind", |owner| owner.workload_kind.as_deref(), None);
        fill("pod", |owner| owner.pod.as_deref(), None);
        fill("service", |owner| owner.service.as_deref(), None);
        fill("kind", |owner| Some(owner.kind()), Some("unknown"));
        fill("identity", |_| Some("static"), Some("none"));
    }
    let [src, dst] = &ends;
    let pairs = src.iter().zip(dst);
    if let Ok(at) = schema.index_of("is_cross_namespace") {
        let crosses = pairs.clone().map(|(src, dst)| {
            let (src, dst) = (src.as_ref()?.namespace.as_ref()?, dst.as_ref()?.namespace.as_ref()?);
            Some(src != dst)
        });
        columns[at] = Arc::new(crosses.collect::<arrow::array::BooleanArray>());
    }
    if let Ok(at) = schema.index_of("community_pair") {
        let mut labels = StringBuilder::new();
        for (src, dst) in pairs {
            let workloads =
                src.and_then(|src| src.workload.as_ref()).zip(dst.and_then(|dst| dst.workload.as_ref()));
            labels.append_option(workloads.map(|(src, dst)| format!("{src} -> {dst}")));
        }
        columns[at] = Arc::new(labels.finish());
    }
    RecordBatch::try_new(Arc::clone(schema), columns).expect("only text and boolean columns were replaced")
}

fn owners<'a>(batch: &Batch, column: &str, identities: &'a Identities) -> Vec<Option<&'a Owner>> {
    let ips = batch.rows[column].as_string::<i32>();
    let mut last: Option<(&str, i64, Option<&Owner>)> = None;
    let mut owner = |ip, start_ns| match last {
        Some((last_ip, last_ns, owner)) if (last_ip, last_ns) == (ip, start_ns) => owner,
        _ => {
            let owner = identities.at(ip, start_ns);
            last = Some((ip, start_ns, owner));
            owner
        }
    };
    ips.iter().zip(&batch.flow_starts_ns).map(|(ip, start_ns)| owner(ip?, *start_ns)).collect()
}
