//! `sharkq tables`: the catalogue, without a source.

use arrow::datatypes::DataType;
use shark_schema::reference::{markdown, type_name};
use shark_schema::table::paragraph;
use shark_schema::views::{ENTRIES, columns, names};

use super::{Exit, write_lines_to};
use crate::kfl::entries::COLUMNS;
use crate::session::suggestion;

/// Describe the tables and views, and their columns.
#[derive(clap::Args)]
pub struct Args {
    /// Table or view to describe; all of them by name without one
    table: Option<String>,
    /// Print the whole reference as Markdown
    #[arg(long, conflicts_with = "table")]
    markdown: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    write_lines_to(None, |out| {
        if args.markdown {
            return Ok(write!(out, "{}", markdown())?);
        }
        let Some(name) = &args.table else {
            return names().try_for_each(|(name, doc)| Ok(writeln!(out, "{name:<18} {doc}")?));
        };
        let Some((_, doc)) = names().find(|(known, _)| known == name) else {
            let names: Vec<&str> = names().map(|(name, _)| name).collect();
            let hint = suggestion(name, &names);
            anyhow::bail!("there is no table {name}{hint} (`sharkq tables` lists them)");
        };
        writeln!(out, "{doc}\n")?;
        let mut line = |name: &str, kind: &DataType, doc: &str| {
            writeln!(out, "{name:<22} {:<16} {}", type_name(kind), paragraph(doc))
        };
        if name == ENTRIES {
            return Ok(COLUMNS.iter().try_for_each(|column| line(&column.name, &column.kind, column.doc))?);
        }
        Ok(columns(name)
            .iter()
            .try_for_each(|column| line(column.name, &(column.data_type)(), column.doc))?)
    })?;
    Ok(Exit::Done)
}
