//! The reference of all tables: as Markdown, which is `schema/TABLES.md`, and as rows, which lie in each
//! index as `columns.json`, for whoever reads its files with another program.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::table::{Column, Table, paragraph};
use crate::tables::TABLES;
use crate::views::{API_CALLS, SAID_OF_CALLS, VIEWS, call_columns};

/// The text of `TABLES.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Tables\n\n\
         Generated from `schema/src/tables/`; `UPDATE_TABLES=1 cargo test -p shark-schema` writes it anew.\n\n\
         Time stamps are nanoseconds UTC without zone, integers are signed, sizes are bytes, durations end in `_ns`, \
         ratios are 0 to 1, and NULL means *not known*, never 0.\n\n\
         ## Columns of every call table\n\n",
    );
    columns(&mut text, call_columns());
    for table in TABLES {
        let _ = write!(text, "\n## `{}`\n\n{}", table.name, paragraph(table.doc));
        let _ = writeln!(text, " Sorted by `{}`.{}\n", table.sort.join(", "), view_note(table));
        let skip = if table.call.is_some() { call_columns().count() } else { 0 };
        columns(&mut text, table.columns().skip(skip));
        if !table.derived.is_empty() {
            text.push_str("\nNot stored, and computed from the others by `sharkq`:\n\n");
            columns(&mut text, table.derived.iter().map(|derived| &derived.column));
        }
    }
    text.push_str("\n## Views\n\nThey are not stored: `sharkq` makes them of the tables.\n\n| View | Rows |\n| --- | --- |\n");
    for view in VIEWS.iter() {
        let _ = writeln!(text, "| `{}` | {} |", view.name, view.doc);
    }
    let _ = writeln!(text, "\n`{API_CALLS}` has the columns of every call table, and behind them:\n");
    columns(&mut text, SAID_OF_CALLS.iter());
    text
}

/// One column of one table, under the names that SQL's information schema has for such things.
#[derive(Debug, Serialize)]
pub struct ColumnNote {
    /// Table.
    pub table_name: &'static str,
    /// Column.
    pub column_name: &'static str,
    /// Its type, in the words of the reference.
    pub data_type: String,
    /// Its unit, where it has one.
    pub unit: Option<&'static str>,
    /// What it means.
    pub meaning: String,
    /// Its names under other conventions.
    pub also_known_as: BTreeMap<&'static str, &'static str>,
}

/// All columns of all tables.
pub fn column_notes() -> Vec<ColumnNote> {
    let note = |table: &Table, column: &'static Column| ColumnNote {
        table_name: table.name,
        column_name: column.name,
        data_type: type_name(&(column.data_type)()),
        unit: column.named("unit"),
        meaning: paragraph(column.doc),
        also_known_as: foreign_names(column).collect(),
    };
    TABLES.iter().flat_map(|table| table.columns().map(|column| note(table, column))).collect()
}

fn foreign_names(column: &Column) -> impl Iterator<Item = (&'static str, &'static str)> {
    column.metadata.iter().copied().filter(|(key, _)| !matches!(*key, "unit" | "tz"))
}

fn view_note(table: &Table) -> String {
    match &table.call {
        Some(view) => format!(
            " Has the columns of every call table first. In `api_calls`: `operation` is `{}`, `resource` is `{}`, \
             `status` is `{}`.",
            view.operation, view.resource, view.status
        ),
        None => String::new(),
    }
}

fn columns<'a>(text: &mut String, columns: impl Iterator<Item = &'a Column>) {
    text.push_str("| Column | Type | Unit | Meaning | Also known as |\n| --- | --- | --- | --- | --- |\n");
    for column in columns {
        let names: Vec<String> = foreign_names(column).map(|(key, name)| format!("{key} `{name}`")).collect();
        let unit = column.named("unit").or(column.named("tz")).unwrap_or("");
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            column.name,
            type_name(&(column.data_type)()),
            unit,
            paragraph(column.doc).replace('|', "\\|"),
            names.join(", ")
        );
    }
}

/// An Arrow type in the words of the reference.
pub fn type_name(data_type: &arrow::datatypes::DataType) -> String {
    use arrow::datatypes::DataType::{BinaryView, List, Map, Struct, Timestamp, Utf8View};
    match data_type {
        Utf8View => "Utf8".into(),
        BinaryView => "Binary".into(),
        Timestamp(..) => "Timestamp(ns)".into(),
        List(item) => format!("List<{}>", type_name(item.data_type())),
        Map(..) => "Map<Utf8,Utf8>".into(),
        Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            format!("Struct<{}>", names.join(", "))
        }
        other => other.to_string(),
    }
}
