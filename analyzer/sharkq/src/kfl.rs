//! KFL: filter expressions over `entries`. In: the text of KFL2 (CEL with short names) or KFL v1. Out: a condition of the
//! query engine, which is the only evaluator, or an error with a caret, a reason and a suggestion.

mod calls;
mod check;
mod compare;
pub mod entries;
pub mod error;
pub mod fields;
pub mod functions;
mod lexer;
mod maps;
mod parser;
mod syntax;
mod times;
mod types;

use std::collections::BTreeSet;

use datafusion::logical_expr::{Expr, lit};

use check::Check;
pub use check::{engine_type, expression};
pub use error::{Fault, KflError, Span};
pub use types::{Element, Type};

/// An expression that can be asked.
#[derive(Debug)]
pub struct Program {
    /// Its condition over `entries`.
    pub condition: Expr,
    /// What the person should know of the answer, a line each: a protocol without a table, a field without a source.
    pub notes: Vec<String>,
    /// Fields that no recording of this version can have: what asks for them has no honest answer.
    pub unrecorded: Vec<&'static str>,
}

/// Checks and translates a text; `now()` is `now_ns` in all rows. Needs no recording.
pub fn compile(text: &str, now_ns: i64) -> Result<Program, KflError> {
    translate(text, now_ns).map_err(|fault| fault.of(text))
}

fn translate(text: &str, now_ns: i64) -> Result<Program, Fault> {
    let parsed = parser::parse(text)?;
    let Some(root) = parsed.root else {
        return Ok(Program { condition: lit(true), notes: Vec::new(), unrecorded: Vec::new() });
    };
    let mut check = Check {
        is_v1: parsed.is_v1,
        now_ns,
        notes: BTreeSet::new(),
        unrecorded: BTreeSet::new(),
        variables: Vec::new(),
    };
    let condition = check.condition(&root, true)?;
    Ok(Program {
        condition,
        notes: check.notes.into_iter().collect(),
        unrecorded: check.unrecorded.into_iter().collect(),
    })
}

impl Program {
    /// The SQL it became.
    pub fn sql(&self) -> Result<String, String> {
        let dialect = datafusion::sql::unparser::dialect::DefaultDialect {};
        let unparser = datafusion::sql::unparser::Unparser::new(&dialect);
        let condition = unparser.expr_to_sql(&self.condition).map_err(|error| error.strip_backtrace())?;
        Ok(format!("SELECT * FROM entries WHERE {condition}"))
    }
}
