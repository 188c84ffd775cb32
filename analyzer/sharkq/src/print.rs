//! Answers as people and programs read them. In: record batches. Out: bytes of a table, CSV, TSV, JSON, NDJSON, Markdown,
//! Parquet or Arrow, and nothing else: no counts, no colour.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimestampNanosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use jiff::tz::TimeZone;
use parquet::arrow::ArrowWriter;

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

/// Writes an answer.
pub fn print(answer: &Answer, format: Format, mut out: &mut dyn Write) -> anyhow::Result<()> {
    let batches: Vec<&RecordBatch> = answer.batches.iter().collect();
    match format {
        Format::Table => table(answer, out)?,
        Format::Csv | Format::Tsv => {
            separated(answer, if format == Format::Csv { b',' } else { b'\t' }, out)?
        }
        Format::Json => {
            let mut writer = arrow::json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow::json::writer::JsonArray>(&mut out);
            writer.write_batches(&batches)?;
            writer.finish()?;
            drop(writer);
            writeln!(out)?;
        }
        Format::Ndjson => {
            let mut writer = arrow::json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow::json::writer::LineDelimited>(&mut out);
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
    let schema = answer.schema.clone();
    let text = arrow::util::pretty::pretty_format_batches_with_schema(schema, &answer.batches)?;
    writeln!(out, "{text}")?;
    let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
    writeln!(out, "({rows} {})", if rows == 1 { "row" } else { "rows" })?;
    Ok(())
}

/// Each row below the other, a column a line: for rows that are wider than a terminal.
pub fn expanded(answer: &Answer, out: &mut dyn Write) -> anyhow::Result<()> {
    let names: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let widest = names.iter().map(|name| name.len()).max().unwrap_or(0);
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

/// Each cell as text; NULL is empty.
fn cells(answer: &Answer, mut row: impl FnMut(Vec<String>) -> std::io::Result<()>) -> anyhow::Result<()> {
    let options = options();
    for batch in &answer.batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for at in 0..batch.num_rows() {
            row(columns.iter().map(|column| column.value(at).to_string()).collect())?;
        }
    }
    Ok(())
}

/// Nested values are texts here, which the CSV writer of arrow does not take.
fn separated(answer: &Answer, separator: u8, out: &mut dyn Write) -> anyhow::Result<()> {
    let quote = |text: &str| {
        let plain = !text.bytes().any(|byte| matches!(byte, b'"' | b'\n' | b'\r') || byte == separator);
        if plain { text.to_string() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
    };
    let line = |texts: &[String]| {
        texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(&(separator as char).to_string())
    };
    let names: Vec<String> = answer.schema.fields().iter().map(|field| field.name().clone()).collect();
    writeln!(out, "{}", line(&names))?;
    cells(answer, |row| writeln!(out, "{}", line(&row)))
}

fn markdown(answer: &Answer, out: &mut dyn Write) -> anyhow::Result<()> {
    let names: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
    writeln!(out, "| {} |", names.join(" | "))?;
    writeln!(out, "|{}", " --- |".repeat(names.len()))?;
    cells(answer, |row| {
        let row: Vec<String> =
            row.iter().map(|text| text.replace('|', "\\|").replace('\n', "<br>")).collect();
        writeln!(out, "| {} |", row.join(" | "))
    })
}
