//! The same SQL over the same Parquet files, by sharkq, DuckDB and Polars: cold, as a process each, and
//! warm, in a session that answered the statement before. The answers of sharkq and DuckDB must agree. In:
//! the index that was measured before. Out: a row a query, and what the engines disagree about.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use shark_benches::measure::{Cost, Job, median};

use super::Bench;
use super::index::INDEX;

const START: &str = "SELECT 1";

/// `POINT` stands for the id of a call that is there.
const QUERIES: &[(&str, &str)] = &[
    ("start", START),
    ("count", "SELECT count(*) FROM http"),
    ("statuses", "SELECT status_code, count(*) FROM http GROUP BY 1 ORDER BY 1"),
    (
        "routes",
        "SELECT route, count(*), CAST(round(percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ns)) AS BIGINT) \
         FROM http GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
    ),
    (
        "failures",
        "SELECT call_id, method, path, status_code, duration_ns FROM http WHERE status_code >= 500 \
         ORDER BY duration_ns DESC, call_id LIMIT 20",
    ),
    (
        "per second",
        "SELECT CAST(date_part('epoch', date_trunc('second', ts)) AS BIGINT), count(*), max(duration_ns) \
         FROM http GROUP BY 1 ORDER BY 1",
    ),
    ("rcodes", "SELECT rcode, count(*) FROM dns GROUP BY 1 ORDER BY 2 DESC, 1"),
    ("names", "SELECT query, rcode, count(*) FROM dns GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20"),
    (
        "talkers",
        "SELECT dst_ip, dst_port, sum(orig_bytes), sum(resp_bytes), count(*) FROM flows \
         GROUP BY 1, 2 ORDER BY 4 DESC, 1, 2 LIMIT 20",
    ),
    ("bodies", "SELECT count(*) FROM http WHERE response_body LIKE '%\"umbrella\",\"quantity\":7%'"),
    (
        "header",
        "SELECT method, count(*) FROM http WHERE request_headers['host'] = 'stock.shop.svc.cluster.local' \
         GROUP BY 1 ORDER BY 1",
    ),
    (
        "join",
        "SELECT f.conn_state, count(*), sum(h.response_bytes) FROM http h JOIN flows f ON f.flow_id = h.flow_id \
         GROUP BY 1 ORDER BY 2 DESC, 1",
    ),
    ("point", "SELECT method, path, status_code, duration_ns FROM http WHERE call_id = 'POINT'"),
];

const SCRIPT: &str = include_str!("ask.py");
const ENGINES: [&str; 3] = ["sharkq", "duckdb", "polars"];

/// What a query costs each engine.
#[derive(Debug, Serialize)]
pub struct QueryRow {
    query: &'static str,
    /// In the order of the engines; none where one is not installed or has no such SQL.
    engines: Vec<(&'static str, Option<QueryCost>)>,
}

#[derive(Debug, Serialize)]
struct QueryCost {
    cold: Cost,
    warm_ms: f64,
}

/// Faults and rows.
pub fn rows(bench: &Bench) -> Result<(Vec<String>, Vec<QueryRow>)> {
    let (mut faults, mut rows) = (Vec::new(), Vec::new());
    let queries = queries(bench)?;
    let engines: Vec<Option<Engine<'_>>> =
        ENGINES.iter().map(|name| Engine::open(bench, name)).collect::<Result<_>>()?;
    let warm: Vec<Vec<Option<f64>>> = engines
        .iter()
        .map(|engine| engine.as_ref().map_or(Ok(Vec::new()), |engine| engine.warm(&queries)))
        .collect::<Result<_>>()?;
    for (at, (query, statement)) in queries.iter().enumerate() {
        eprintln!("shark-bench: query {query}");
        let mut answers = Vec::new();
        let mut costs = Vec::new();
        for (engine, warm) in engines.iter().zip(&warm) {
            let warm_ms = warm.get(at).copied().flatten();
            costs.push(match (engine, warm_ms) {
                (Some(engine), Some(warm_ms)) => {
                    let (cold, answer) = engine.cold(statement)?;
                    answers.push((engine.name, answer));
                    Some(QueryCost { cold, warm_ms })
                }
                _ => None,
            });
        }
        // Polars writes some values in other words.
        answers.retain(|(name, _)| *name != "polars");
        if answers.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            faults.push(format!("sharkq and DuckDB differ on: {statement}"));
        }
        rows.push(QueryRow { query, engines: ENGINES.into_iter().zip(costs).collect() });
    }
    Ok((faults, rows))
}

/// Prints all rows as a table; a star is where sharkq is slower than another engine.
pub fn print(rows: &[QueryRow]) {
    println!("{:<12} cold: CPU and wall ms, warm: wall ms; * where sharkq is slower than another", "query");
    print!("{:<12}", "");
    ENGINES.iter().for_each(|engine| print!(" | {engine:<28}"));
    println!();
    for row in rows {
        print!("{:<12}", row.query);
        let costs: Vec<Option<&QueryCost>> = row.engines.iter().map(|(_, cost)| cost.as_ref()).collect();
        for (at, cost) in costs.iter().enumerate() {
            let Some(cost) = cost else {
                print!(" | {:<28}", "-");
                continue;
            };
            let slower = |of: fn(&QueryCost) -> f64| {
                let is_beaten = costs[1..].iter().flatten().any(|other| of(other) < of(cost));
                if at == 0 && is_beaten { "*" } else { "" }
            };
            let cold = format!("{:.0} {:.0}{}", cpu_ms(cost), wall_ms(cost), slower(wall_ms));
            let warm = format!("{:.1}{}", cost.warm_ms, slower(|cost| cost.warm_ms));
            print!(" | cold {cold:<10} warm {warm:<7}");
        }
        println!();
    }
}

fn cpu_ms(cost: &QueryCost) -> f64 {
    cost.cold.cpu_s() * 1e3
}

fn wall_ms(cost: &QueryCost) -> f64 {
    cost.cold.wall_s * 1e3
}

/// The statements, with a call that is there.
fn queries(bench: &Bench) -> Result<Vec<(&'static str, String)>> {
    let sharkq = Engine { bench, name: "sharkq" };
    let (_, ids) = sharkq.cold("SELECT max(call_id) FROM http")?;
    let id = ids.first().context("there are calls")?;
    Ok(QUERIES.iter().map(|(name, statement)| (*name, statement.replace("POINT", id))).collect())
}

struct Engine<'a> {
    bench: &'a Bench,
    name: &'static str,
}

impl Engine<'_> {
    /// None where it is not installed.
    fn open<'a>(bench: &'a Bench, name: &'static str) -> Result<Option<Engine<'a>>> {
        let Some(python) = bench.python.as_ref().filter(|_| name != "sharkq") else {
            return Ok((name == "sharkq").then_some(Engine { bench, name }));
        };
        // A script called duckdb.py would import itself.
        fs::write(bench.room.join("ask.py"), SCRIPT)?;
        let found = Command::new(python).args(["-c", &format!("import {name}")]).output()?;
        Ok(found.status.success().then_some(Engine { bench, name }))
    }

    fn words(&self, statement: &str) -> Vec<String> {
        let index = self.bench.path(INDEX);
        let words: &[&str] = match &self.bench.python {
            Some(python) if self.name != "sharkq" => {
                &[&python.display().to_string(), &self.bench.path("ask.py"), self.name, &index, statement]
            }
            _ => &[&self.bench.build.sharkq, "sql", &index, "-q", "--format", "csv", "-c", statement],
        };
        words.iter().map(ToString::to_string).collect()
    }

    /// What a process costs that answers one statement, and the answer without its header line, which
    /// engines word differently.
    fn cold(&self, statement: &str) -> Result<(Cost, Vec<String>)> {
        let out = self.bench.room.join("answer.csv");
        let job = Job { words: self.words(statement), stdout: Some(out.clone()) };
        let cost = median(&job, self.bench.runs, || Ok(()))?;
        Ok((cost, lines(&out)?.into_iter().skip(1).collect()))
    }

    /// The median time of each statement in one session, the first time left out; none for what the engine
    /// cannot answer.
    fn warm(&self, queries: &[(&str, String)]) -> Result<Vec<Option<f64>>> {
        let times = self.bench.runs.max(5);
        let mut words = self.words("");
        words.pop();
        if self.name == "sharkq" {
            let mut script = String::from("\\timing on\n");
            for (_, statement) in queries {
                (0..=times).for_each(|_| script.push_str(&format!("{statement};\n")));
            }
            let path = self.bench.path("warm.sql");
            fs::write(&path, script)?;
            words.pop();
            words.extend(["-f".to_owned(), path]);
        } else {
            let statements: Vec<&String> = queries.iter().map(|(_, statement)| statement).collect();
            let path = self.bench.path("warm.json");
            fs::write(&path, serde_json::to_vec(&statements)?)?;
            words.extend(["--times".to_owned(), times.to_string(), path]);
        }
        let out = Command::new(&words[0]).args(&words[1..]).output()?;
        ensure!(out.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout);
        let told = text.lines().filter_map(|line| line.strip_prefix("Time: ")?.strip_suffix(" ms"));
        let told: Vec<Option<f64>> = told.map(|ms| ms.parse().ok()).collect();
        ensure!(told.len() == queries.len() * (times + 1), "{}: {} times", self.name, told.len());
        Ok(told.chunks(times + 1).map(|of_one| middle(of_one[1..].iter().copied().collect())).collect())
    }
}

fn middle(times: Option<Vec<f64>>) -> Option<f64> {
    let mut times = times?;
    times.sort_by(f64::total_cmp);
    Some(times[(times.len() - 1) / 2])
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}
