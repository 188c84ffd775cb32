//! `sharkq tables`: the catalogue, without a source.

use shark_schema::reference::{markdown, type_name};
use shark_schema::table::paragraph;
use shark_schema::tables::{TABLES, table};

use super::{Exit, write_lines_to};
use crate::session::nearest;

/// Describe the tables and their columns.
#[derive(clap::Args)]
pub struct Args {
    /// Table to describe; all of them by name without one
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
            for table in TABLES {
                writeln!(out, "{:<10} {}", table.name, paragraph(table.doc))?;
            }
            return Ok(writeln!(
                out,
                "{:<10} The common columns of all call tables, one row a call.",
                "api_calls"
            )?);
        };
        let Some(table) = table(name) else {
            let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
            let hint =
                nearest(name, &names).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            anyhow::bail!("there is no table {name}{hint} (`sharkq tables` lists them)");
        };
        writeln!(out, "{}\n", paragraph(table.doc))?;
        for column in table.asked() {
            let kind = type_name(&(column.data_type)());
            writeln!(out, "{:<22} {:<16} {}", column.name, kind, paragraph(column.doc))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
