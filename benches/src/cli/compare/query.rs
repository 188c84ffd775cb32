//! The same SQL over the same Parquet files, by sharkq and by DuckDB, start-up included; the answers must agree.
//! In: the index that was measured before. Out: a row an engine and query, and what they disagree about.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use shark_benches::measure::{Job, median};

use super::index::INDEX;
use super::{Bench, Row};

const QUERIES: &[(&str, &str)] = &[
    ("start", "SELECT 1"),
    ("statuses", "SELECT status_code, count(*) FROM http GROUP BY 1 ORDER BY 1"),
    ("paths", "SELECT path, count(*) FROM http GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20"),
    (
        "failures",
        "SELECT dst_ip, count(*), max(duration_ns), sum(response_bytes) FROM http WHERE status_code >= 500 GROUP BY 1 ORDER BY 1",
    ),
    ("names", "SELECT query, rcode, count(*) FROM dns GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20"),
    ("bodies", "SELECT count(*) FROM http WHERE response_body LIKE '%\"umbrella\",\"quantity\":7%'"),
];

const DUCKDB: &str = include_str!("ask.py");

/// Faults and rows.
pub fn rows(bench: &Bench) -> Result<(Vec<String>, Vec<Row>)> {
    let (mut faults, mut rows) = (Vec::new(), Vec::new());
    // A script called duckdb.py would import itself.
    let script = bench.room.join("ask.py");
    fs::write(&script, DUCKDB)?;
    let index = bench.path(INDEX);
    for (name, statement) in QUERIES {
        eprintln!("shark-bench: query {name}");
        let job = Job::new(&[&bench.sharkq, "sql", &index, "--format", "csv", "-c", statement]);
        let ours = answer(bench, &format!("sharkq: {name}"), job, &mut rows)?;
        let Some(python) = &bench.python else {
            rows.push(Row::absent("query", &format!("duckdb: {name}"), "not installed (see --venv)"));
            continue;
        };
        let words = [&*python.display().to_string(), &script.display().to_string(), &index, statement];
        let theirs = answer(bench, &format!("duckdb: {name}"), Job::new(&words), &mut rows)?;
        if ours != theirs {
            faults.push(format!("sharkq and DuckDB differ on: {statement}"));
        }
    }
    Ok((faults, rows))
}

/// The answer without its header line, which engines word differently.
fn answer(bench: &Bench, name: &str, job: Job, rows: &mut Vec<Row>) -> Result<Vec<String>> {
    let out = bench.room.join("answer.csv");
    let cost = median(&job.into_file(&out), bench.runs, || Ok(()))?;
    let mut row = Row::measured("query", name, cost, &bench.whole);
    (row.ns_per_packet, row.mb_per_cpu_s) = (None, None);
    rows.push(row);
    lines(&out)
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}
