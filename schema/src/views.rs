//! The views: what can be asked beside the tables, with their columns. They are not stored.

use std::sync::LazyLock;

use crate::call::CallBlock;
use crate::column;
use crate::table::{Block, Column, Source, Table, paragraph};
use crate::tables::{TABLES, flows, table};

/// A view as the catalogue sees it.
#[derive(Debug)]
pub struct View {
    /// Name in SQL.
    pub name: String,
    /// What one row is.
    pub doc: String,
    /// Its columns; none of [`ENTRIES`], whose columns those of all calls and flows together are.
    pub columns: Vec<&'static Column>,
}

/// Name of the view over all call tables.
pub const API_CALLS: &str = "api_calls";

/// Name of the view over all call tables and flows, with all their columns.
pub const ENTRIES: &str = "entries";

/// Name of the view with every observation of every conversation.
pub const FLOWS_ALL: &str = "flows_all";

/// What each call table says of its calls, in words of its own: the columns of `api_calls` behind the common ones.
pub const SAID_OF_CALLS: &[Column] = &[
    column!("protocol", "Table that the call is in.", Text, [], 0, Source::Row, []),
    column!("version", "Version of the protocol.", Text, [], 0, Source::Row, []),
    column!("operation", "What was asked: a method, a verb, a query type.", Text, [], 0, Source::Row, []),
    column!("resource", "What the operation was done to.", Text, [], 0, Source::Row, []),
    column!("summary", "The call in one line, for people.", Text, [], 0, Source::Row, []),
    column!("status", "Outcome as text.", Text, [], 0, Source::Row, []),
    column!("status_code", "Outcome as a number, where the protocol has one.", Int64, [], 0, Source::Row, []),
];

/// All views.
pub static VIEWS: LazyLock<Vec<View>> = LazyLock::new(views);

/// The columns that all call tables have.
pub fn call_columns() -> impl Iterator<Item = &'static Column> {
    <CallBlock as Block>::COLUMNS.iter().flat_map(|group| group.iter())
}

/// Whether rows of a table are of conversations, of which there are two where both sides of an address translation
/// were recorded.
pub fn is_of_conversations(table: &Table) -> bool {
    table.call.is_some() || table.name == flows::TABLE.name
}

/// Name of the view that has both sides of each address translation. (`flows_all` is another: it also has what other
/// interfaces saw.)
pub fn both_sides(table: &Table) -> String {
    if table.call.is_some() { format!("{}_all", table.name) } else { format!("{}_recorded", table.name) }
}

fn views() -> Vec<View> {
    let of_both_sides = TABLES.iter().filter(|table| is_of_conversations(table)).map(|table| View {
        name: both_sides(table),
        doc: format!(
            "`{}` with both sides of each address translation (`nat_links`), of which it shows the caller's.",
            table.name
        ),
        columns: table.asked().collect(),
    });
    let others = [
        View {
            name: FLOWS_ALL.into(),
            doc: "`flows_recorded` and `flow_copies`: every observation of every conversation.".into(),
            columns: flows::TABLE.asked().collect(),
        },
        View {
            name: API_CALLS.into(),
            doc: "The common columns of all call tables, one row a call, and what each table says of its calls.".into(),
            columns: call_columns().chain(SAID_OF_CALLS).collect(),
        },
        View {
            name: ENTRIES.into(),
            doc: "All calls and flows with the columns of all of them, as KFL sees them.".into(),
            columns: Vec::new(),
        },
    ];
    others.into_iter().chain(of_both_sides).collect()
}

/// Columns of a table or a view; none of [`ENTRIES`].
pub fn columns(name: &str) -> Vec<&'static Column> {
    let view = || VIEWS.iter().find(|view| view.name == name).map(|view| view.columns.clone());
    table(name).map(|table| table.asked().collect()).or_else(view).unwrap_or_default()
}

/// Names of all tables and views, each with what one row is.
pub fn names() -> impl Iterator<Item = (&'static str, String)> {
    let tables = TABLES.iter().map(|table| (table.name, paragraph(table.doc)));
    tables.chain(VIEWS.iter().map(|view| (view.name.as_str(), view.doc.replace('`', ""))))
}
