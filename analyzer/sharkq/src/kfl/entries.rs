//! `entries`: every call and every flow as one table, by name, with the `protocol` of each row a literal of its branch. In:
//! the tables of the catalogue. Out: a plan that reads only the tables and columns a question needs; what flows and TCP
//! metrics say of a call's conversation is joined only when it is asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, cast, col, lit, utils::conjunction,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use shark_schema::table::{self, Table};
use shark_schema::tables::{TABLES, flows, table};
use shark_schema::views::{SAID_OF_CALLS, call_columns};

use crate::session::texts::{viewed, viewed_type};

/// A column of `entries`.
pub struct EntryColumn {
    /// Its name.
    pub name: String,
    /// The description that stands in the reference.
    pub doc: &'static str,
    /// Its type.
    pub kind: DataType,
    /// Tables whose rows have it.
    pub tables: Vec<&'static str>,
}

/// All columns of `entries`, made from the catalogue.
pub static COLUMNS: LazyLock<Vec<EntryColumn>> = LazyLock::new(columns);

/// The Arrow schema of `entries`.
pub fn schema() -> SchemaRef {
    let field =
        |column: &EntryColumn| Field::new(&column.name, column.kind.clone(), column.name != "protocol");
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

/// What the catalogue says of every call in words of its own, with the words for a flow.
const TOLD: [&str; 4] = ["operation", "resource", "summary", "status"];

/// The tables whose rows are entries.
fn members() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().copied().filter(|table| table.call.is_some()).chain([&flows::TABLE])
}

/// What `flows` says of the ends of a conversation, and what `tcp` measured of it: known of its calls as well.
const SIDES: [&str; 2] = ["flows", "tcp"];

fn is_of_side(side: &str, column: &str) -> bool {
    let is_common = call_columns().any(|common| common.name == column);
    match side {
        "flows" => !is_common && (column.starts_with("src_") || column.starts_with("dst_")),
        _ => column != "flow_id" && column != "ts",
    }
}

/// The name a side's column has in `entries`.
fn side_name(side: &str, column: &str) -> String {
    if side == "flows" || column.starts_with("tcp_") { column.into() } else { format!("{side}_{column}") }
}

/// The name a table's own column has in `entries`: its own, unless that means something else there.
fn name_of(table: &Table, column: &table::Column) -> String {
    let kind = (column.data_type)();
    let first = members().find_map(|other| other.column(column.name)).map(|first| (first.data_type)());
    let taken = column.name == "protocol" || TOLD.contains(&column.name) || first != Some(kind);
    if taken { format!("{}_{}", table.name, column.name) } else { column.name.into() }
}

fn columns() -> Vec<EntryColumn> {
    let every: Vec<&str> = members().map(|table| table.name).collect();
    let told = SAID_OF_CALLS.iter().filter(|said| said.name == "protocol" || TOLD.contains(&said.name));
    let mut columns: Vec<EntryColumn> = told
        .map(|said| EntryColumn {
            name: said.name.into(),
            doc: said.doc,
            kind: DataType::Utf8,
            tables: every.clone(),
        })
        .collect();
    let mut add = |name: String, column: &'static table::Column, table: &'static str| match columns
        .iter_mut()
        .find(|known| known.name == name)
    {
        Some(known) => known.tables.push(table),
        None => columns.push(EntryColumn {
            name,
            doc: column.doc,
            kind: (column.data_type)(),
            tables: vec![table],
        }),
    };
    for table in members() {
        table.asked().for_each(|column| add(name_of(table, column), column, table.name));
    }
    for side in SIDES.iter().filter_map(|name| table(name)) {
        for column in side.columns().filter(|column| is_of_side(side.name, column.name)) {
            for member in members().filter(|member| member.name != side.name) {
                add(side_name(side.name, column.name), column, member.name);
            }
            if side.name != "flows" {
                add(side_name(side.name, column.name), column, "flows");
            }
        }
    }
    columns.iter_mut().for_each(|column| {
        column.tables.sort_unstable();
        column.tables.dedup();
    });
    columns
}

/// `entries` as the engine sees it.
#[derive(Debug)]
pub struct Entries {
    schema: SchemaRef,
    providers: Vec<(&'static str, Arc<dyn TableProvider>)>,
    /// By table: what the catalogue says of each of its rows, in the order of [`TOLD`].
    told: Vec<(&'static str, [Expr; 4])>,
}

impl Entries {
    /// Over the tables of a session.
    pub async fn new(context: &SessionContext) -> Result<Entries> {
        let mut providers = Vec::new();
        for table in TABLES {
            providers.push((table.name, context.table_provider(table.name).await?));
        }
        let mut said = Vec::new();
        for member in members() {
            let scope = DFSchema::try_from_qualified_schema(member.name, &viewed(&member.asked_schema()))?;
            let parse = |what: &str| -> Result<Expr> {
                Ok(cast(context.parse_sql_expr(told(member, what), &scope)?, DataType::Utf8))
            };
            said.push((member.name, [parse(TOLD[0])?, parse(TOLD[1])?, parse(TOLD[2])?, parse(TOLD[3])?]));
        }
        Ok(Entries { schema: schema(), providers, told: said })
    }

    fn provider(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.providers.iter().find(|(table, _)| *table == name).map(|(_, provider)| Arc::clone(provider))
    }

    /// The rows of one table, with these columns of `entries`.
    fn branch(&self, member: &'static Table, needed: &[&EntryColumn]) -> Result<LogicalPlanBuilder> {
        let Some(provider) = self.provider(member.name) else {
            return datafusion::common::plan_err!("no table {}", member.name);
        };
        let mut plan = LogicalPlanBuilder::scan(member.name, provider_as_source(provider), None)?;
        let mut own: Vec<(String, Expr)> = vec![("protocol".into(), lit(member.name))];
        let told = self.told.iter().find(|(table, _)| *table == member.name).map(|(_, told)| told.iter());
        own.extend(
            TOLD.iter().zip(told.into_iter().flatten()).map(|(what, expr)| (what.to_string(), expr.clone())),
        );
        let qualified =
            |table: &str, name: &str| Expr::Column(Column::new(Some(TableReference::bare(table)), name));
        own.extend(
            member.asked().map(|column| (name_of(member, column), qualified(member.name, column.name))),
        );
        for side in SIDES.iter().filter_map(|name| table(name)).filter(|side| side.name != member.name) {
            let columns = side.columns().filter(|column| is_of_side(side.name, column.name));
            let columns: Vec<_> =
                columns.map(|column| (side_name(side.name, column.name), column.name)).collect();
            if !needed.iter().any(|column| columns.iter().any(|(name, _)| *name == column.name)) {
                continue;
            }
            if let Some(provider) = self.provider(side.name) {
                let right =
                    LogicalPlanBuilder::scan(side.name, provider_as_source(provider), None)?.build()?;
                let on = |table: &str| vec![Column::new(Some(TableReference::bare(table)), "flow_id")];
                plan = plan.join(right, JoinType::Left, (on(member.name), on(side.name)), None)?;
                own.extend(columns.into_iter().map(|(name, column)| (name, qualified(side.name, column))));
            }
        }
        let projected = needed.iter().map(|column| {
            let found = own.iter().find(|(name, _)| *name == column.name).map(|(_, expr)| expr.clone());
            let value = match found {
                Some(expr) => plain(expr, &column.kind),
                None => Expr::Literal(ScalarValue::try_from(&column.kind)?, None),
            };
            Ok(value.alias(&column.name))
        });
        plan.project(projected.collect::<Result<Vec<_>>>()?)
    }
}

/// Texts and bytes of a table, as the words of KFL take them.
fn plain(value: Expr, kind: &DataType) -> Expr {
    if viewed_type(kind) == *kind { value } else { cast(value, kind.clone()) }
}

/// Whether a condition can hold for a row of this table: its protocol is known, and columns of other tables are NULL.
fn may_hold(condition: &Expr, member: &Table, simplifier: &ExprSimplifier) -> bool {
    let known = condition.clone().transform(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        let value = match COLUMNS.iter().find(|known| known.name == column.name) {
            Some(known) if known.name == "protocol" => lit(member.name),
            Some(known) if !known.tables.contains(&member.name) => {
                Expr::Literal(ScalarValue::try_from(&known.kind)?, None)
            }
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::yes(value))
    });
    let simple = known.and_then(|known| simplifier.simplify(known.data));
    !matches!(simple, Ok(Expr::Literal(value, _)) if value.is_null() || value == ScalarValue::from(false))
}

/// Operation, resource, summary or status of a row, in the words of its table.
fn told(member: &Table, what: &str) -> &'static str {
    match (&member.call, what) {
        (Some(view), "operation") => view.operation,
        (Some(view), "resource") => view.resource,
        (Some(view), "summary") => view.summary,
        (Some(view), _) => view.status,
        (None, "operation") => "proto",
        (None, "resource") => "array_to_string(l7, ',')",
        (None, "summary") => "concat(proto, ' ', coalesce(array_to_string(l7, ','), ''))",
        (None, _) => "conn_state",
    }
}

/// A session that leaves the last rewriting of a plan to the one this plan becomes part of: some of it can be done only
/// once.
fn unfinished(state: &dyn Session) -> Result<SessionState> {
    let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
        return datafusion::common::plan_err!("entries are asked in a session of another kind");
    };
    Ok(SessionStateBuilder::new_from_existing(state.clone()).with_physical_optimizer_rules(vec![]).build())
}

#[async_trait::async_trait]
impl TableProvider for Entries {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Each branch plans them again, where its literal protocol decides most of them.
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..COLUMNS.len()).collect();
        let projection = projection.unwrap_or(&all);
        let mut wanted: BTreeSet<&str> =
            filters.iter().flat_map(|f| f.column_refs()).map(|c| c.name.as_str()).collect();
        wanted.extend(projection.iter().map(|at| COLUMNS[*at].name.as_str()));
        // A branch without columns would have no rows to count.
        wanted.insert("protocol");
        let needed: Vec<&EntryColumn> =
            COLUMNS.iter().filter(|column| wanted.contains(column.name.as_str())).collect();
        let mut plan: Option<LogicalPlanBuilder> = None;
        let context =
            SimplifyContext::builder().with_schema(Arc::new(DFSchema::try_from(self.schema())?)).build();
        let simplifier = ExprSimplifier::new(context);
        // Planning a branch takes longer than to see that none of its rows is asked for.
        let asked = |member: &&Table| filters.iter().all(|filter| may_hold(filter, member, &simplifier));
        let mut branches: Vec<&Table> = members().filter(asked).collect();
        if branches.is_empty() {
            branches.extend(members().take(1));
        }
        for member in branches {
            let branch = self.branch(member, &needed)?;
            plan = Some(match plan {
                Some(plan) => plan.union(branch.build()?)?,
                None => branch,
            });
        }
        let Some(mut plan) = plan else { return datafusion::common::plan_err!("the catalogue is empty") };
        if let Some(condition) = conjunction(filters.iter().cloned()) {
            plan = plan.filter(condition)?;
        }
        plan = plan.project(projection.iter().map(|at| col(Column::from_name(&COLUMNS[*at].name))))?;
        plan = plan.limit(0, limit)?;
        unfinished(state)?.create_physical_plan(&plan.build()?).await
    }
}
