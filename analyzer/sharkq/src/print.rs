//! Answers as people and programs read them. In: record batches. Out: bytes of a table, CSV, TSV, JSON, NDJSON, Markdown,
//! Parquet or Arrow, and nothing else: no counts, no colour. In what people read, characters that would steer a terminal are spelled
//! out; cells that a spreadsheet would take for formulas are defused.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimestampNanosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use jiff::tz::TimeZone;
use parquet::arrow::ArrowWriter;
use shark_schema::shown::{Shown, shown, shown_in_line};

use crate::session::Answer;

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// Comma-separated, with a header (RFC 4180).
    Csv,
    /// Tab-separated, with a header.
    Tsv,
    /// An array of objects.
    Json,
    /// An object a line.
    Ndjson,
    /// A table in Markdown.
    Markdown,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Layout {
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Leave texts in CSV and TSV that begin with = + - @, a tab or a carriage return as they are; without it an apostrophe
    /// before them keeps spreadsheets from running them as formulas
    #[arg(long)]
    pub raw_cells: bool,
}

impl Layout {
    /// A format, with formulas defused.
    pub fn of(format: Format) -> Layout {
        Layout { format, raw_cells: false }
    }
}

/// Writes an answer.
pub fn print(answer: &Answer, layout: Layout, mut out: &mut dyn Write) -> anyhow::Result<()> {
    let format = layout.format;
    let batches: Vec<&RecordBatch> = answer.batches.iter().collect();
    match format {
        Format::Table => table(answer, out)?,
        Format::Csv | Format::Tsv => {
            separated(answer, if format == Format::Csv { ',' } else { '\t' }, !layout.raw_cells, out)?
        }
        Format::Json => {
            let mut writer = arrow::json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow::json::writer::JsonArray>(Shown::json(&mut out));
            writer.write_batches(&batches)?;
            writer.finish()?;
            drop(writer);
            writeln!(out)?;
        }
        Format::Ndjson => {
            let mut writer = arrow::json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow::json::writer::LineDelimited>(Shown::json(&mut out));
            writer.write_batches(&batches)?;
            writer.finish()?;
        }
        Format::Markdown => markdown(answer, out)?,
        Format::Parquet => {
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, answer.schema.clone(), None)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.close()?;
            out.write_all(&bytes)?;
        }
        Format::Arrow => {
            let mut writer = arrow::ipc::writer::FileWriter::try_new(&mut out, &answer.schema)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
    }
    Ok(())
}

fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_null("").with_types_info(false)
}

fn table(answer: &Answer, out: &mut dyn Write) -> anyhow::Result<()> {
    let field = |field: &Arc<Field>| Field::new(shown_in_line(field.name()), DataType::Utf8, false);
    let schema: SchemaRef =
        Arc::new(Schema::new(answer.schema.fields().iter().map(field).collect::<Vec<_>>()));
    let options = options();
    let texts = |column: &ArrayRef| -> anyhow::Result<ArrayRef> {
        let cells = ArrayFormatter::try_new(column, &options)?;
        let texts = (0..column.len()).map(|at| shown(&cells.value(at).to_string()).into_owned());
        Ok(Arc::new(StringArray::from_iter_values(texts)))
    };
    // Widths are of what is shown.
    let batches = answer.batches.iter().filter(|batch| batch.num_columns() > 0).map(|batch| {
        let columns = batch.columns().iter().map(texts).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    });
    let batches = batches.collect::<anyhow::Result<Vec<_>>>()?;
    let text = arrow::util::pretty::pretty_format_batches_with_schema(Arc::clone(&schema), &batches)?;
    writeln!(out, "{text}")?;
    let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
    writeln!(out, "({rows} {})", if rows == 1 { "row" } else { "rows" })?;
    Ok(())
}

/// Each row below the other, a column a line: for rows that are wider than a terminal.
pub fn expanded(answer: &Answer, out: &mut dyn Write) -> anyhow::Result<()> {
    let names = names(answer);
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut number = 0;
    cells(answer, |row| {
        number += 1;
        writeln!(out, "-[ row {number} ]{}", "-".repeat(widest.saturating_sub(6)))?;
        names.iter().zip(row).try_for_each(|(name, cell)| {
            let mut lines = cell.lines();
            writeln!(out, "{name:<widest$} | {}", lines.next().unwrap_or_default())?;
            lines.try_for_each(|line| writeln!(out, "{:<widest$} | {line}", ""))
        })
    })?;
    writeln!(out, "({number} {})", if number == 1 { "row" } else { "rows" })?;
    Ok(())
}

/// The same answer with its times in a zone.
pub fn in_zone(answer: Answer, zone: &TimeZone) -> anyhow::Result<Answer> {
    let Some(name) = zone.iana_name().filter(|_| *zone != TimeZone::UTC) else { return Ok(answer) };
    let zoned = |kind: &DataType| match kind {
        DataType::Timestamp(unit, None) => Some(DataType::Timestamp(*unit, Some(name.into()))),
        _ => None,
    };
    let field = |field: &Arc<Field>| match zoned(field.data_type()) {
        Some(kind) => Arc::new(field.as_ref().clone().with_data_type(kind)),
        None => Arc::clone(field),
    };
    let schema: SchemaRef =
        Arc::new(Schema::new(answer.schema.fields().iter().map(field).collect::<Fields>()));
    let column = |column: &ArrayRef| match column.as_primitive_opt::<TimestampNanosecondType>() {
        // What is stored is UTC by contract: only the zone is added, no time is changed.
        Some(times) if times.timezone().is_none() => Arc::new(times.clone().with_timezone(name)) as ArrayRef,
        _ => Arc::clone(column),
    };
    let batch = |batch: RecordBatch| {
        RecordBatch::try_new(Arc::clone(&schema), batch.columns().iter().map(column).collect())
    };
    let batches = answer.batches.into_iter().map(batch).collect::<Result<_, _>>()?;
    Ok(Answer { schema, batches, asked: answer.asked })
}

/// Names of columns as they are shown: aliases are free text.
fn names(answer: &Answer) -> Vec<String> {
    answer.schema.fields().iter().map(|field| shown_in_line(field.name()).into_owned()).collect()
}

/// Each cell as it is shown; NULL is empty.
fn cells(answer: &Answer, mut row: impl FnMut(Vec<String>) -> std::io::Result<()>) -> anyhow::Result<()> {
    each_row(answer, |_, text| shown(&text).into_owned(), &mut row)
}

/// Each cell as text, by column; NULL is empty.
fn each_row(
    answer: &Answer,
    cell: impl Fn(usize, String) -> String,
    mut row: impl FnMut(Vec<String>) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let options = options();
    for batch in &answer.batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for at in 0..batch.num_rows() {
            let texts = columns.iter().enumerate();
            row(texts.map(|(column, texts)| cell(column, texts.value(at).to_string())).collect())?;
        }
    }
    Ok(())
}

/// What a spreadsheet would take for a formula begins with one of these.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A text as a cell that no spreadsheet runs.
fn defused(text: &str) -> String {
    let apostrophe = if text.starts_with(FORMULA) { "'" } else { "" };
    format!("{apostrophe}{}", shown(text))
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Nested values are texts here, which the CSV writer of arrow does not take.
fn separated(answer: &Answer, separator: char, defuses: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let quote = |text: &str| {
        let plain = !text.contains(['"', '\n', separator]);
        if plain { text.to_string() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
    };
    let line = |texts: &[String]| {
        texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(&separator.to_string())
    };
    let fields = answer.schema.fields();
    let names: Vec<String> = fields
        .iter()
        .map(|field| if defuses { defused(field.name()) } else { shown(field.name()).into_owned() })
        .collect();
    writeln!(out, "{}", line(&names))?;
    let texts: Vec<bool> = fields.iter().map(|field| defuses && is_text(field.data_type())).collect();
    let cell = |column: usize, text: String| {
        if texts[column] { defused(&text) } else { shown(&text).into_owned() }
    };
    each_row(answer, cell, |row| writeln!(out, "{}", line(&row)))
}

fn markdown(answer: &Answer, out: &mut dyn Write) -> anyhow::Result<()> {
    let cell = |text: &String| text.replace('|', "\\|").replace('\n', "<br>");
    let line = |texts: &[String]| texts.iter().map(cell).collect::<Vec<_>>().join(" | ");
    let names = names(answer);
    writeln!(out, "| {} |", line(&names))?;
    writeln!(out, "|{}", " --- |".repeat(names.len()))?;
    cells(answer, |row| writeln!(out, "| {} |", line(&row)))
}
