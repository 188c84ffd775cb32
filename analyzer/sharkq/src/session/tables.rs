//! The tables of an index by name. In: its folder. Out: what a statement names, made when it is first named:
//! most statements name one table of thirty.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, col, lit};
use datafusion::optimizer::Analyzer;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_plan::ExecutionPlan;
use shark_schema::table::Table;
use shark_schema::tables::{TABLES, flows, nat_links, packets, table};
use shark_schema::views::{API_CALLS, ENTRIES, FLOWS_ALL, both_sides, call_columns, is_of_conversations};

use super::run_table::RunTable;
use super::texts::viewed;
use crate::kfl::entries::Entries;
use crate::times::Stretch;

/// Gives the state of the session that asks, while there is one.
type State = Box<dyn Fn() -> Option<SessionState> + Send + Sync>;

/// Tables and views of an index.
pub struct Tables {
    folder: PathBuf,
    within: Stretch,
    state: State,
    views: HashMap<String, String>,
    made: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

impl Tables {
    /// The tables below `folder`; of those whose rows have a time, only what lies `within`.
    pub fn new(context: &SessionContext, folder: &Path, within: Stretch) -> Tables {
        let state = context.state_weak_ref();
        let state: State = Box::new(move || state.upgrade().map(|state| state.read().clone()));
        let folder = folder.join("tables");
        let views = views(has_files(&folder.join(nat_links::TABLE.name))).into_iter().collect();
        Tables { folder, within, state, views, made: Mutex::default() }
    }

    async fn make(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(sql) = self.views.get(name) {
            return Ok(Some(self.view(sql).await?));
        }
        if name == ENTRIES {
            let context = SessionContext::new_with_state(self.state()?);
            return Ok(Some(Arc::new(Entries::new(&context).await?)));
        }
        // Where a view has the name of a table, what was recorded has another.
        let hidden = || TABLES.iter().copied().filter(|table| self.views.contains_key(table.name));
        let stored = table(name).or_else(|| hidden().find(|table| both_sides(table) == name));
        stored
            .map(|table| self.stored(table, name).map_err(|error| DataFusionError::External(error.into())))
            .transpose()
    }

    fn state(&self) -> Result<SessionState> {
        (self.state)().ok_or_else(|| DataFusionError::Execution("the session has ended".into()))
    }

    async fn view(&self, sql: &str) -> Result<Arc<dyn TableProvider>> {
        let state = self.state()?;
        let plan = state.create_logical_plan(sql).await?;
        Ok(Arc::new(ViewTable::new(self.coerced(plan)?, Some(sql.to_owned()))))
    }

    /// Branches of a union have one type from here on, and arguments of functions those that they take.
    fn coerced(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let coerced = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
        coerced.execute_and_check(plan, self.state()?.config_options(), |_, _| {})
    }

    fn stored(&self, table: &Table, name: &str) -> anyhow::Result<Arc<dyn TableProvider>> {
        let folder = self.folder.join(table.name);
        if table.name == packets::TABLE.name && !folder.exists() {
            return Ok(Arc::new(NotIndexed(viewed(&table.schema()))));
        }
        if !has_files(&folder) {
            return Ok(Arc::new(MemTable::try_new(viewed(&table.asked_schema()), vec![vec![]])?));
        }
        let files = Arc::new(RunTable::open(&table.schema(), &folder)?);
        // What tells of the recording itself stays whole.
        let inside = condition(table, self.within);
        if inside.is_none() && table.derived.is_empty() {
            return Ok(files);
        }
        let mut plan = LogicalPlanBuilder::scan(name, provider_as_source(files), None)?;
        if let Some(inside) = inside {
            plan = plan.filter(inside)?;
        }
        if !table.derived.is_empty() {
            let schema = plan.schema();
            let stored = schema.iter().map(Expr::from);
            let state = self.state()?;
            let derived = table.derived.iter().map(|derived| {
                let value = state.create_logical_expr(derived.sql, schema)?;
                Ok(value.alias(derived.column.name))
            });
            let columns = stored.map(Ok).chain(derived).collect::<Result<Vec<Expr>>>()?;
            plan = plan.project(columns)?;
        }
        Ok(Arc::new(ViewTable::new(self.coerced(plan.build()?)?, None)))
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        let stored = TABLES.iter().map(|table| match self.views.contains_key(table.name) {
            true => both_sides(table),
            false => table.name.to_owned(),
        });
        stored.chain(self.views.keys().cloned()).chain([ENTRIES.to_owned()]).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let made = || self.made.lock().expect("nobody panics while holding it");
        if let Some(made) = made().get(name) {
            return Ok(Some(Arc::clone(made)));
        }
        let table = self.make(name).await?;
        if let Some(table) = &table {
            made().insert(name.to_owned(), Arc::clone(table));
        }
        Ok(table)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}

/// The table `packets` where an index was made without it: it has columns, and asking it for rows is an
/// error.
#[derive(Debug)]
struct NotIndexed(SchemaRef);

#[async_trait::async_trait]
impl TableProvider for NotIndexed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn datafusion::catalog::Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        datafusion::common::plan_err!(
            "packets were not indexed; `sharkq index SRC --packets -o DIR` makes an index that has them, which can be asked as DIR"
        )
    }
}

/// Rows that were alive in the stretch. Sockets and processes are of no one time: they name those who were.
fn condition(table: &Table, within: Stretch) -> Option<Expr> {
    table.column("flow_id").and(table.column("ts"))?;
    let moment = |ns| lit(ScalarValue::TimestampNanosecond(Some(ns), None));
    let until = within.to_ns.map(|to_ns| col("ts").lt_eq(moment(to_ns)));
    let since = within.from_ns.map(|from_ns| match table.column("end_ts") {
        Some(_) => col("end_ts").gt_eq(moment(from_ns)).or(col("ts").gt_eq(moment(from_ns))),
        None => col("ts").gt_eq(moment(from_ns)),
    });
    conjunction(since.into_iter().chain(until))
}

/// Views with their SQL. Where conversations were recorded on both sides of an address translation, tables
/// show them where their callers made them; with `_all` they show everything.
fn views(is_linked: bool) -> Vec<(String, String)> {
    let mut views = Vec::new();
    for table in TABLES.iter().filter(|table| is_of_conversations(table)) {
        let (name, all) = (table.name, both_sides(table));
        views.push(match is_linked {
            true => (
                name.to_owned(),
                format!(
                    "SELECT * FROM {all} WHERE NOT EXISTS \
                     (SELECT 1 FROM nat_links WHERE nat_links.after_flow_id = {all}.flow_id)"
                ),
            ),
            false => (all, format!("SELECT * FROM {name}")),
        });
    }
    let flows = both_sides(&flows::TABLE);
    let copies = format!("SELECT * FROM {flows} UNION ALL SELECT * FROM flow_copies");
    views.push((FLOWS_ALL.to_owned(), copies));
    views.push((API_CALLS.to_owned(), api_calls()));
    views
}

/// The view over all call tables: their common columns and what each says of itself.
fn api_calls() -> String {
    let common: Vec<&str> = call_columns().map(|column| column.name).collect();
    let common = common.join(", ");
    let branches: Vec<String> = TABLES
        .iter()
        .filter_map(|table| {
            let view = table.call.as_ref()?;
            Some(format!(
                "SELECT {common}, '{}' AS protocol, {} AS version, {} AS operation, {} AS resource, {} AS summary, \
                 {} AS status, {} AS status_code FROM {} WHERE NOT ({})",
                table.name,
                view.version,
                view.operation,
                view.resource,
                view.summary,
                view.status,
                view.status_code,
                table.name,
                view.excluded
            ))
        })
        .collect();
    branches.join(" UNION ALL ")
}
