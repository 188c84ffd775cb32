//! A session: an index in, answers to SQL and KFL out. Every table of the catalogue is there, empty ones too; the views
//! `api_calls` and `entries` are made from what each call table says of itself.

mod header_list;
mod run_table;
mod tables;
pub mod texts;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{SQLOptions, SessionConfig, SessionContext};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::col;
use datafusion::physical_plan::collect;
use datafusion::prelude::DataFrame;
use shark_schema::table::Table;
use shark_schema::tables::TABLES;
use shark_schema::views::names;

use self::tables::Tables;
use crate::asked::{self, Asked};
use crate::kfl::{self, Program};
use crate::times::Stretch;
use crate::yielding::Yielding;

/// Bytes that what was read of footers may take in memory.
const FOOTERS_BYTES: usize = 128 << 20;

/// Answers of one statement.
pub struct Answer {
    /// Columns, also where there are no rows.
    pub schema: SchemaRef,
    /// Rows.
    pub batches: Vec<RecordBatch>,
    /// What it was about; `None` where no packet of the recording matters to it.
    pub asked: Option<Asked>,
}

impl Answer {
    /// Leaves only the first rows.
    pub fn cut(&mut self, most: usize) {
        let mut left = most;
        for batch in &mut self.batches {
            *batch = batch.slice(0, batch.num_rows().min(left));
            left -= batch.num_rows();
        }
    }
}

/// What `now()` is: the wall clock, once a command.
pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Why a statement has no answer, in a sentence with a way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(pub String);

/// A session over an index.
pub struct Session {
    context: SessionContext,
    within: Stretch,
}

impl Session {
    /// Opens the tables below `folder`; of those whose rows have a time, only what lies `within`.
    pub fn open(folder: &Path, threads: usize, within: Stretch) -> anyhow::Result<Session> {
        let mut config =
            SessionConfig::new().with_target_partitions(threads.max(1)).with_information_schema(true);
        config.options_mut().execution.parquet.pushdown_filters = true;
        config.options_mut().execution.parquet.reorder_filters = true;
        // The generic dialect takes the column `cluster` for the start of CLUSTER BY.
        config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
        let runtime = RuntimeEnvBuilder::new().with_metadata_cache_limit(FOOTERS_BYTES).build_arc()?;
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_physical_optimizer_rule(Arc::new(Yielding));
        let context = SessionContext::new_with_state(state.build());
        kfl::functions::all().into_iter().for_each(|function| context.register_udf(function));
        context.register_udf(header_list::header_list());
        let tables = Arc::new(Tables::new(&context, folder, within));
        let defaults = context.copied_config().options().catalog.clone();
        let catalog = context.catalog(&defaults.default_catalog).context("the engine has a catalog")?;
        catalog.register_schema(&defaults.default_schema, tables)?;
        Ok(Session { context, within })
    }

    /// The entries a program selects, by time, each column an SQL expression over `entries`.
    pub async fn entries(
        &self,
        program: &Program,
        columns: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Result<Answer, QueryError> {
        self.collected(self.listed(program, columns, limit).await?).await
    }

    /// The tables whose files that reads.
    pub async fn reads(
        &self,
        program: &Program,
        columns: &[(&str, &str)],
    ) -> Result<Vec<&'static str>, QueryError> {
        let plan = self.listed(program, columns, None).await?.create_physical_plan().await;
        let plan = plan.map_err(|error| QueryError(explain(&error)))?;
        let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
        let is_read = |table: &&Table| text.contains(&format!("/tables/{}/", table.name));
        Ok(TABLES.iter().copied().filter(is_read).map(|table| table.name).collect())
    }

    async fn listed(
        &self,
        program: &Program,
        columns: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Result<DataFrame, QueryError> {
        let failed = |error: DataFusionError| QueryError(explain(&error));
        let chosen = self.select(program).await?;
        // By all that tells entries apart: the same question has the same answer in the same order.
        let order = ["ts", "protocol", "flow_id", "call_id"].map(|name| col(name).sort(true, false));
        let sorted = chosen.sort(order.to_vec()).and_then(|rows| rows.limit(0, limit)).map_err(failed)?;
        let shown = columns.iter().map(|(name, sql)| Ok(sorted.parse_sql_expr(sql)?.alias(*name)));
        let shown = shown.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        sorted.select(shown).map_err(failed)
    }

    /// The entries a program selects, with all columns.
    pub async fn select(&self, program: &Program) -> Result<DataFrame, QueryError> {
        let entries = self.context.table("entries").await.map_err(|error| QueryError(explain(&error)))?;
        entries.filter(program.condition.clone()).map_err(|error| QueryError(explain(&error)))
    }

    /// The rows of a table for which an SQL condition holds, with all columns.
    pub async fn select_where(&self, table: &str, condition: &str) -> Result<DataFrame, QueryError> {
        let sql = format!("SELECT * FROM {table} WHERE {condition}");
        bounded(&sql)?;
        let frame = self.context.sql_with_options(&sql, allowed()).await;
        frame.map_err(|error| QueryError(explain(&error)))
    }

    /// The rows of a frame.
    pub async fn collected(&self, frame: DataFrame) -> Result<Answer, QueryError> {
        let failed = |error: DataFusionError| QueryError(explain(&error));
        let (state, plan) = frame.into_parts();
        let schema = Arc::clone(plan.schema().inner());
        let plan = state.optimize(&plan).map_err(failed)?;
        let asked = asked::about(&plan).map(|asked| asked.within(self.within));
        let plan = state.query_planner().create_physical_plan(&plan, &state).await.map_err(failed)?;
        let batches = collect(plan, state.task_ctx()).await.map_err(failed)?;
        // Expressions may be less nullable than planned.
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        let schema = texts::plain(&schema);
        let batches = batches.iter().map(|batch| texts::plain_rows(batch, &schema));
        let batches = batches.collect::<Result<_, _>>().map_err(|error| failed(error.into()))?;
        Ok(Answer { schema, batches, asked })
    }

    /// The stretch of time that rows are of.
    pub fn within(&self) -> Stretch {
        self.within
    }

    /// The columns of a table or view, with their types.
    pub async fn columns(&self, name: &str) -> Option<Vec<(String, arrow::datatypes::DataType)>> {
        let provider = self.context.table_provider(name).await.ok()?;
        let schema = provider.schema();
        Some(schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect())
    }

    /// Names of the functions of SQL here.
    pub fn functions(&self) -> Vec<String> {
        let state = self.context.state();
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let mut names: Vec<String> = names.chain(state.window_functions().keys()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Runs one or several statements; the last one's answer counts. Nothing can be changed from here.
    pub async fn run(&self, sql: &str) -> Result<Vec<Answer>, QueryError> {
        bounded(sql)?;
        let dialect = datafusion::sql::sqlparser::dialect::PostgreSqlDialect {};
        let statements = datafusion::sql::parser::DFParser::parse_sql_with_dialect(sql, &dialect)
            .map_err(|error| QueryError(explain(&error)))?;
        let mut answers = Vec::new();
        for statement in statements {
            let failed = |error: DataFusionError| QueryError(explain(&error));
            let plan = self.context.state().statement_to_plan(statement).await.map_err(failed)?;
            allowed().verify_plan(&plan).map_err(failed)?;
            let frame = self.context.execute_logical_plan(plan).await.map_err(failed)?;
            answers.push(self.collected(frame).await?);
        }
        Ok(answers)
    }
}

/// Operators and keywords that a text may have: each can make its tree one deeper, and trees are walked by recursion.
const MOST_OPERATORS: usize = 2_000;

/// A text whose tree no stack is too small for. Lists of values, however long, are no deeper than one.
fn bounded(sql: &str) -> Result<(), QueryError> {
    use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
    let dialect = datafusion::sql::sqlparser::dialect::PostgreSqlDialect {};
    // What has no tokens is told by the parser.
    let Ok(tokens) = Tokenizer::new(&dialect, sql).tokenize() else { return Ok(()) };
    let is_flat = |token: &Token| {
        let is_value = matches!(
            token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::SemiColon
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::RParen
                | Token::EOF
        );
        let is_name = |word: &datafusion::sql::sqlparser::tokenizer::Word| {
            word.keyword == datafusion::sql::sqlparser::keywords::Keyword::NoKeyword
        };
        is_value || matches!(token, Token::Word(word) if is_name(word))
    };
    let mut statement = 0;
    for token in &tokens {
        statement = if *token == Token::SemiColon { 0 } else { statement + usize::from(!is_flat(token)) };
        if statement > MOST_OPERATORS {
            let reason = format!(
                "the statement has more than {MOST_OPERATORS} operators and keywords; compare with a list: x IN (1, 2, ...)"
            );
            return Err(QueryError(reason));
        }
    }
    Ok(())
}

fn allowed() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(true)
}

/// An engine's error as one sentence, with the nearest name where one is unknown.
fn explain(error: &DataFusionError) -> String {
    if let DataFusionError::SchemaError(schema_error, _) = error.find_root()
        && let datafusion::common::SchemaError::FieldNotFound { field, valid_fields } = schema_error.as_ref()
    {
        let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
        let hint = suggestion(&field.name, &names);
        return format!("there is no column {}{hint} (`sharkq tables TABLE` lists columns)", field.name);
    }
    if let DataFusionError::SQL(fault, _) = error.find_root() {
        use datafusion::sql::sqlparser::parser::ParserError;
        let (ParserError::ParserError(text) | ParserError::TokenizerError(text)) = fault.as_ref() else {
            return "the statement is nested too deeply".into();
        };
        return format!("that is not SQL: {text}");
    }
    // What was being done is said around it.
    let text = error.find_root().message();
    let text = text.lines().next().unwrap_or_default();
    if let Some(name) = text.split("table '").nth(1).and_then(|rest| rest.split('\'').next())
        && text.ends_with("not found")
    {
        let name = name.rsplit('.').next().unwrap_or(name);
        let names: Vec<&str> = names().map(|(name, _)| name).collect();
        let hint = suggestion(name, &names);
        return format!("there is no table {name}{hint} (`sharkq tables` lists them)");
    }
    if let Some((_, what)) = text.split_once("DDL not supported: ").or(text.split_once("DML not supported: "))
    {
        return format!("a recording is only asked, never changed: {what} is refused");
    }
    // That texts are views here says nothing to whoever asked.
    text.replace("Utf8View", "Utf8").replace("BinaryView", "Binary")
}

/// `; did you mean ...?` with the name that differs least; nothing where none is near.
pub fn suggestion(name: &str, names: &[&str]) -> String {
    nearest(name, names).map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// The name that differs least, if it is near.
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| datafusion::common::utils::datafusion_strsim::levenshtein(name, other);
    let near = names.iter().map(|other| (distance(other), *other)).min()?;
    let contained = names.iter().find(|other| other.contains(name) && name.len() > 2);
    // Of a short name most letters would have to be others.
    if near.0 <= 2.max(name.len() / 3).min(name.len() / 2) { Some(near.1) } else { contained.copied() }
}
