//! Parquet settings of a run. In: the table, and the first rows of the run. Out: encoding, statistics and bloom filter of each
//! column. A column gets a dictionary only where its values repeat: otherwise the dictionary would store every value again.

use std::hash::{BuildHasher, Hash};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, UInt32Type};
use hashbrown::HashSet;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rustc_hash::FxBuildHasher;
use shark_schema::table::{Hint, SCHEMA_VERSION, Table};

/// Bodies are large, and the same one is often sent again: their dictionaries may grow beyond the usual megabyte.
const BODY_DICTIONARY_BYTES: usize = 8 << 20;

/// Values by which it is judged whether those of a column repeat.
const SAMPLE: usize = 2048;

/// How a run of so many rows is stored.
pub fn properties(table: &Table, first: &RecordBatch, rows: usize) -> WriterProperties {
    let place = |name: &&str| table.columns().position(|column| column.name == *name);
    let sorting = table.sort.iter().filter_map(place).map(|at| SortingColumn {
        column_idx: at as i32,
        descending: false,
        nulls_first: false,
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
    for (column, values) in table.columns().zip(first.columns()) {
        let path = ColumnPath::from(column.name);
        if column.hints.contains(&Hint::Lookup) {
            properties = properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_max_ndv(path.clone(), rows as u64);
        }
        if column.hints.contains(&Hint::Body) {
            properties = properties
                .set_column_dictionary_page_size_limit(path.clone(), BODY_DICTIONARY_BYTES)
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        for leaf in leaves(column.name, values.as_ref()) {
            if leaf.is_nested {
                // Nobody asks for the smallest or the largest of what lies in maps and lists.
                properties =
                    properties.set_column_statistics_enabled(leaf.path.clone(), EnabledStatistics::None);
            }
            if !repeat(leaf.values) {
                properties = properties.set_column_dictionary_enabled(leaf.path, false);
            }
        }
        if matches!(values.data_type(), DataType::Timestamp(..)) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

/// A column as Parquet has it: of a map or a list of pairs there are two.
struct Leaf<'a> {
    path: ColumnPath,
    values: &'a dyn Array,
    is_nested: bool,
}

fn leaves<'a>(name: &str, values: &'a dyn Array) -> Vec<Leaf<'a>> {
    let below = |parts: &[&str], values: &'a dyn Array| {
        let path = [&[name], parts].concat().into_iter().map(String::from).collect::<Vec<String>>();
        Leaf { path: ColumnPath::from(path), values, is_nested: !parts.is_empty() }
    };
    match values.data_type() {
        DataType::Map(..) => {
            let map = values.as_map();
            vec![below(&["key_value", "key"], map.keys()), below(&["key_value", "value"], map.values())]
        }
        DataType::List(item) => {
            let items = values.as_list::<i32>().values();
            match item.data_type() {
                DataType::Struct(fields) => {
                    let parts = fields.iter().zip(items.as_struct().columns());
                    parts.map(|(part, values)| below(&["list", "item", part.name()], values)).collect()
                }
                _ => vec![below(&["list", "item"], items)],
            }
        }
        _ => vec![below(&[], values)],
    }
}

/// Whether values repeat often enough for a dictionary. With too few values to judge by, the answer is yes.
fn repeat(values: &dyn Array) -> bool {
    match values.data_type() {
        DataType::Utf8 => any_repeat(values.as_string::<i32>().iter()),
        DataType::Utf8View => any_repeat(values.as_string_view().iter()),
        DataType::BinaryView => any_repeat(values.as_binary_view().iter()),
        DataType::Dictionary(..) => any_repeat(values.as_dictionary::<UInt32Type>().keys().iter()),
        _ => true,
    }
}

fn any_repeat<T: Hash>(values: impl ExactSizeIterator<Item = Option<T>>) -> bool {
    const LEAST: usize = 64;
    let step = values.len().div_ceil(SAMPLE).max(1);
    let mut known = 0;
    let mut distinct = HashSet::with_capacity_and_hasher(SAMPLE, FxBuildHasher);
    for value in values.step_by(step).flatten() {
        known += 1;
        distinct.insert(FxBuildHasher.hash_one(value));
    }
    known < LEAST || distinct.len() * 2 <= known
}
