//! `shark-bench rows`: whether two builds of sharkq make the same rows. In: two programs, and captures or folders of them. Out: each
//! table whose rows differ, with the first difference; tables and columns that only one of them has. It fails where rows differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Index captures with two builds and compare all rows
#[derive(clap::Args)]
#[command(after_help = "Example:\n  shark-bench rows --before /tmp/old/sharkq fixtures ../shared/corpus")]
pub struct Arguments {
    /// The sharkq of the other build
    #[arg(long, value_name = "FILE")]
    before: PathBuf,
    /// The sharkq of this build [default: beside this program]
    #[arg(long)]
    sharkq: Option<PathBuf>,
    /// A column that is known to differ, and is left out of the comparison; may be given several times
    #[arg(long, value_name = "TABLE.COLUMN")]
    except: Vec<String>,
    /// Captures, or folders in which they are looked for
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const ENDINGS: [&str; 6] = [".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".pcapng.zst"];

/// Lines of the rows of a table, sorted, by the names of its columns.
struct Rows {
    columns: Vec<String>,
    lines: Vec<Vec<String>>,
}

impl Arguments {
    pub fn run(&self) -> Result<()> {
        let after = PathBuf::from(super::program(self.sharkq.as_ref(), "sharkq")?);
        let before = &std::path::absolute(&self.before)?;
        ensure!(before.exists(), "{} does not exist", before.display());
        let mut captures = BTreeSet::new();
        self.paths.iter().try_for_each(|path| find(path, &mut captures))?;
        ensure!(!captures.is_empty(), "no capture is in {:?}", self.paths);
        let (mut rows, mut differ) = (0, 0);
        let mut columns = BTreeSet::new();
        for capture in &captures {
            let both = std::thread::scope(|scope| {
                let before = scope.spawn(|| tables(before, capture));
                (before.join().expect("reading tables does not panic"), tables(&after, capture))
            });
            let (before, after) = match both {
                (Ok(before), Ok(after)) => (before, after),
                (Err(_), Err(_)) => continue,
                (Err(error), Ok(_)) | (Ok(_), Err(error)) => {
                    println!("{}: one of the two failed: {error:#}", capture.display());
                    differ += 1;
                    continue;
                }
            };
            rows += after.values().map(|rows| rows.lines.len()).sum::<usize>();
            for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                match (before.get(name), after.get(name)) {
                    (Some(old), Some(new)) => {
                        if let Some(difference) = self.difference(name, old, new, &mut columns) {
                            println!("{}: {name}: {difference}", capture.display());
                            differ += 1;
                        }
                    }
                    (old, _) => {
                        columns
                            .insert(format!("{name} ({})", if old.is_some() { "before" } else { "after" }));
                    }
                }
            }
        }
        for column in columns {
            println!("only in one build: {column}");
        }
        println!("{} captures, {rows} rows", captures.len());
        if differ > 0 {
            bail!("{differ} tables differ");
        }
        println!("all rows are the same");
        Ok(())
    }

    /// The first line that only one of the two has, by the columns of both.
    fn difference(
        &self,
        table: &str,
        old: &Rows,
        new: &Rows,
        columns: &mut BTreeSet<String>,
    ) -> Option<String> {
        if old.lines.is_empty() && new.lines.is_empty() {
            return None;
        }
        if old.lines.len() != new.lines.len() {
            return Some(format!("{} rows before, {} after", old.lines.len(), new.lines.len()));
        }
        let (shared, alone): (Vec<&String>, Vec<&String>) =
            old.columns.iter().partition(|column| new.columns.contains(column));
        let is_compared = |column: &&String| !self.except.contains(&format!("{table}.{column}"));
        let shared: Vec<&String> = shared.into_iter().filter(is_compared).collect();
        columns.extend(alone.iter().map(|column| format!("{table}.{column} (before)")));
        let added = new.columns.iter().filter(|column| !old.columns.contains(column));
        columns.extend(added.map(|column| format!("{table}.{column} (after)")));
        let (mut before, mut after) = (old.of(&shared), new.of(&shared));
        before.sort_unstable();
        after.sort_unstable();
        let (before, after) = before.iter().zip(&after).find(|(before, after)| before != after)?;
        let cells =
            shared.iter().zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
        let cells: Vec<String> = cells
            .map(|(column, (before, after))| format!("{column}: {before:?} before, {after:?} after"))
            .collect();
        Some(cells.join("; "))
    }
}

fn find(path: &Path, captures: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        captures.insert(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        let is_capture = ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending));
        if is_capture || path.is_dir() {
            find(&path, captures)?;
        }
    }
    Ok(())
}

/// All tables that a program makes of a capture.
fn tables(program: &Path, capture: &Path) -> Result<BTreeMap<String, Rows>> {
    let dir = tempfile::tempdir()?;
    let index = dir.path().join("index");
    let output =
        Command::new(program).arg("index").arg(capture).args(["--packets", "-o"]).arg(&index).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let mut tables = BTreeMap::new();
    for table in std::fs::read_dir(index.join("tables"))? {
        let table = table?;
        let mut rows = Rows { columns: Vec::new(), lines: Vec::new() };
        for file in std::fs::read_dir(table.path())? {
            for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file?.path())?)?.build()? {
                rows.add(&batch?)?;
            }
        }
        rows.lines.sort_unstable();
        tables.insert(table.file_name().to_string_lossy().into_owned(), rows);
    }
    Ok(tables)
}

impl Rows {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let mut order: Vec<usize> = (0..batch.num_columns()).collect();
        order.sort_unstable_by_key(|column| schema.field(*column).name());
        self.columns = order.iter().map(|column| schema.field(*column).name().clone()).collect();
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<ArrayFormatter<'_>> = order
            .iter()
            .map(|column| ArrayFormatter::try_new(batch.column(*column).as_ref(), &options))
            .collect::<Result<_, _>>()?;
        let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect();
        self.lines.extend((0..batch.num_rows()).map(line));
        Ok(())
    }

    /// The lines with some columns only.
    fn of(&self, columns: &[&String]) -> Vec<Vec<&str>> {
        let at = |column: &&String| self.columns.iter().position(|own| own == *column);
        let places: Vec<usize> = columns.iter().filter_map(at).collect();
        self.lines.iter().map(|line| places.iter().map(|at| line[*at].as_str()).collect()).collect()
    }
}
