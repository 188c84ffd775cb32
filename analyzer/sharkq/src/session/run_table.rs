//! A table of an index as the engine reads it. In: a folder of Parquet files. Out: plans that scan them.
//! What the footers say is read once a session and kept, statistics only of the columns that questions name,
//! and texts are read as views of the pages they lie in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::texts::viewed;

/// Footers read at a time.
const FOOTERS_AT_ONCE: usize = 16;

/// Bytes read of the end of each file: nearly always the whole footer.
const FOOTER_BYTES: usize = 64 << 10;

/// The files of one table.
#[derive(Debug)]
pub struct RunTable {
    schema: SchemaRef,
    runs: Vec<Run>,
}

/// One file.
#[derive(Debug)]
struct Run {
    object: ObjectMeta,
    known: Mutex<Known>,
}

/// What was learned of a file.
#[derive(Debug, Default)]
struct Known {
    /// Columns as the reader gives them.
    schema: Option<SchemaRef>,
    statistics: BTreeMap<usize, ColumnStatistics>,
}

impl RunTable {
    /// The files in a folder; each may have some of the columns of the schema.
    pub fn open(schema: &Schema, folder: &Path) -> anyhow::Result<RunTable> {
        let mut runs = Vec::new();
        for entry in fs::read_dir(std::path::absolute(folder)?)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if path.extension().is_some_and(|extension| extension == "parquet") && metadata.len() > 0 {
                let object = ObjectMeta {
                    location: object_store::path::Path::from_absolute_path(&path)?,
                    last_modified: metadata.modified()?.into(),
                    size: metadata.len(),
                    e_tag: None,
                    version: None,
                };
                runs.push(Run { object, known: Mutex::default() });
            }
        }
        runs.sort_by(|one, other| one.object.location.cmp(&other.object.location));
        Ok(RunTable { schema: viewed(schema), runs })
    }

    /// The footers of all files, those read before from the session's cache. Only conditions need the index
    /// of pages.
    async fn footers(&self, session: &dyn Session, conditions: bool) -> Result<Vec<Arc<ParquetMetaData>>> {
        let runtime = session.runtime_env();
        let store = runtime.object_store(ObjectStoreUrl::local_filesystem())?;
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let pages = if conditions { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
        let footers = futures::stream::iter(&self.runs).map(|run| {
            let (store, cache) = (Arc::clone(&store), Arc::clone(&cache));
            async move {
                DFParquetMetadata::new(store.as_ref(), &run.object)
                    .with_metadata_size_hint(Some(FOOTER_BYTES))
                    .with_file_metadata_cache(Some(cache))
                    .with_page_index_policy(Some(pages))
                    .fetch_metadata()
                    .await
            }
        });
        footers.boxed().buffered(FOOTERS_AT_ONCE).try_collect().await
    }
}

impl Run {
    /// The file as a plan reads it, with statistics of some columns.
    fn file(
        &self,
        table: &SchemaRef,
        footer: &ParquetMetaData,
        columns: &BTreeSet<usize>,
    ) -> Result<PartitionedFile> {
        let mut known = self.known.lock().expect("nobody panics while holding it");
        let schema = match &known.schema {
            Some(schema) => Arc::clone(schema),
            None => Arc::clone(known.schema.insert(as_read(table, footer)?)),
        };
        let missing: Vec<usize> =
            columns.iter().copied().filter(|column| !known.statistics.contains_key(column)).collect();
        if !missing.is_empty() {
            let wanted = Arc::new(table.project(&missing)?);
            let statistics = DFParquetMetadata::statistics_from_parquet_metadata(footer, &wanted)?;
            known.statistics.extend(missing.into_iter().zip(statistics.column_statistics));
        }
        let mut statistics = Statistics::new_unknown(table);
        statistics.num_rows = Precision::Exact(rows(footer));
        for column in columns {
            statistics.column_statistics[*column] = known.statistics[column].clone();
        }
        let file = PartitionedFile::from(self.object.clone());
        Ok(file.with_arrow_schema(schema).with_statistics(Arc::new(statistics)))
    }
}

fn rows(footer: &ParquetMetaData) -> usize {
    usize::try_from(footer.file_metadata().num_rows()).unwrap_or(0)
}

/// The columns of a file, texts and bytes as the table has them. What a footer says of types beyond
/// Parquet's own is not needed.
fn as_read(table: &SchemaRef, footer: &ParquetMetaData) -> Result<SchemaRef> {
    let stored = parquet_to_arrow_schema(footer.file_metadata().schema_descr(), None)?;
    let read = stored.fields().iter().map(|stored| {
        let wanted = table.field_with_name(stored.name()).map(Field::data_type);
        let kind = match (stored.data_type(), wanted) {
            (DataType::Utf8, Ok(DataType::Utf8View)) => DataType::Utf8View,
            (DataType::Binary, Ok(DataType::BinaryView)) => DataType::BinaryView,
            (other, _) => other.clone(),
        };
        Field::new(stored.name(), kind, stored.is_nullable())
    });
    let read = Schema::new(read.collect::<Vec<_>>());
    // Files of this version share one schema, and the engine sees that they have nothing to be cast.
    Ok(if read == **table { Arc::clone(table) } else { Arc::new(read) })
}

#[async_trait::async_trait]
impl TableProvider for RunTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Files and pages are left out by them; rows are left out where the plan hands them on to the
        // reader.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let footers = self.footers(session, !filters.is_empty()).await?;
        let mut named: BTreeSet<usize> = match projection {
            Some(columns) => columns.iter().copied().collect(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let conditions = filters.iter().flat_map(Expr::column_refs);
        named.extend(conditions.filter_map(|column| self.schema.index_of(&column.name).ok()));
        let files =
            self.runs.iter().zip(&footers).map(|(run, footer)| run.file(&self.schema, footer, &named));
        let files = files.collect::<Result<Vec<_>>>()?;
        let statistics = files.iter().filter_map(|file| file.statistics.as_deref());
        let statistics = Statistics::try_merge_iter(statistics, &self.schema)?;
        let runtime = session.runtime_env();
        let url = ObjectStoreUrl::local_filesystem();
        let reader = CachedParquetFileReaderFactory::new(
            runtime.object_store(&url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(session.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn column(name: &str) -> (&str, ArrayRef) {
        match name {
            "number" => (name, Arc::new(Int64Array::from(vec![3, 1]))),
            _ => (name, Arc::new(StringArray::from(vec!["one", "two"]))),
        }
    }

    #[tokio::test]
    async fn a_file_of_an_earlier_version_lacks_columns_and_says_more_of_types() {
        let folder = tempfile::tempdir().unwrap();
        for (file, columns) in [("0.parquet", vec!["text", "number"]), ("1.parquet", vec!["number"])] {
            let rows = RecordBatch::try_from_iter(columns.into_iter().map(column)).unwrap();
            let file = File::create(folder.path().join(file)).unwrap();
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
            writer.write(&rows).unwrap();
            writer.close().unwrap();
        }
        let fields = [("number", DataType::Int64), ("text", DataType::Utf8)];
        let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
        let table = RunTable::open(&Schema::new(fields.to_vec()), folder.path()).unwrap();
        let context = SessionContext::new();
        context.register_table("runs", Arc::new(table)).unwrap();
        // Once from the footers, once from what was kept of them.
        for _ in 0..2 {
            let counted = "SELECT count(*) AS n, min(number) AS least, count(text) AS texts FROM runs";
            let chosen = "SELECT number, text FROM runs WHERE number > 2 ORDER BY text";
            for (sql, expected) in [(counted, "| 4 | 1     | 2     |"), (chosen, "| 3      |      |")] {
                let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
                let shown = pretty_format_batches(&rows).unwrap().to_string();
                assert!(shown.contains(expected), "{shown}");
            }
        }
    }
}
