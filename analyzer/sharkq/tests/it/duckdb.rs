//! An outsider reads the index: a dozen questions, asked of DuckDB over the Parquet files and of `sharkq` over the same
//! index, have the same answers.

use std::process::Stdio;

use serde_json::Value;

use crate::bundled;
use crate::desk::Desk;
use crate::programs::{finished, printed, python_with, within};
use crate::same::assert_same;

/// One SQL text each, for both engines. Times are compared as the number of microseconds, since neither prints as the other.
const QUESTIONS: &[&str] = &[
    "SELECT count(*) AS n FROM flows",
    "SELECT status_code, count(*) AS n FROM http GROUP BY status_code",
    "SELECT method, path, sum(response_body_len) AS bytes, max(duration_ns) AS slowest FROM http GROUP BY method, path",
    "SELECT request_headers['host'] AS host, count(*) AS n FROM http GROUP BY 1",
    "SELECT x_request_id FROM http WHERE response_headers['content-type'] LIKE 'application/json%'",
    "SELECT call_id, length(request_body) AS len, upper(substr(request_body, 1, 5)) AS head FROM http WHERE length(request_body) > 0",
    "SELECT query, answers[1] AS first, ttls[1] AS ttl FROM dns WHERE rcode = 'NOERROR' AND n_answers > 0",
    "SELECT rcode, count(DISTINCT query) AS names FROM dns GROUP BY rcode HAVING count(*) > 1",
    "SELECT count(*) AS n FROM http WHERE ts >= (SELECT min(ts) FROM http) + INTERVAL '2 seconds'",
    "SELECT CAST(date_trunc('second', ts) AS VARCHAR) < '2100' AS sane, count(*) AS n FROM http GROUP BY 1",
    "SELECT date_part('second', date_trunc('second', ts)) AS second, count(*) AS n FROM dns GROUP BY 1",
    "SELECT f.conn_state, count(*) AS n FROM flows f JOIN http h ON h.flow_id = f.flow_id GROUP BY f.conn_state",
    "SELECT src_ip, dst_ip, dst_port, sum(orig_bytes + resp_bytes) AS bytes FROM flows GROUP BY 1, 2, 3",
    "SELECT flow_id, rank() OVER (PARTITION BY dst_ip ORDER BY orig_bytes DESC, flow_id) AS place FROM flows",
    "SELECT coalesce(interim_statuses[1], 0) AS interim, count(*) AS n FROM http GROUP BY 1",
    "SELECT is_error, error_type, count(*) AS n FROM http GROUP BY ALL",
];

/// Asked in the words of each engine.
const IN_OWN_WORDS: &[(&str, &str)] = &[(
    "SELECT CAST(round(quantile_cont(duration_ns, 0.9)) AS BIGINT) AS p90 FROM http",
    "SELECT CAST(round(percentile_cont(duration_ns, 0.9)) AS BIGINT) AS p90 FROM http",
)];

const SCRIPT: &str = "
import duckdb, json, pathlib, sys
con = duckdb.connect()
for table in sorted(pathlib.Path(sys.argv[1], 'tables').iterdir()):
    if list(table.glob('*.parquet')):
        con.execute(f\"CREATE VIEW {table.name} AS SELECT * FROM '{table}/*.parquet'\")
for sql in json.load(sys.stdin):
    result = con.execute(sql)
    names = [column[0] for column in result.description]
    print(json.dumps([dict(zip(names, row)) for row in result.fetchall()]))
";

#[test]
fn both_engines_give_the_same_answers() {
    let Some(python) = python_with("duckdb") else { return };
    let desk = Desk::new();
    let mut index = desk.sharkq();
    index.arg("index").arg(bundled::snapshot(&desk)).arg("--identity");
    index.arg(format!("{}/shop/identity.json", crate::programs::FIXTURES));
    finished(index.args(["-o", "index"]));
    let shared = QUESTIONS.iter().map(|sql| (*sql, *sql));
    let questions: Vec<(&str, &str)> = shared.chain(IN_OWN_WORDS.iter().copied()).collect();
    let theirs = ask_duckdb(&desk, &python, questions.iter().map(|(theirs, _)| *theirs).collect());
    for ((_, sql), theirs) in questions.iter().zip(theirs) {
        let ours = desk.rows(&desk.at("index"), sql);
        assert!(!ours.is_empty(), "{sql}");
        assert_same(sql, &lines(&ours), &lines(&theirs));
    }
}

fn ask_duckdb(desk: &Desk, python: &str, questions: Vec<&str>) -> Vec<Vec<Value>> {
    std::fs::write(desk.at("questions.json"), serde_json::to_vec(&questions).unwrap()).unwrap();
    let mut command = within(120, python);
    command.args(["-c", SCRIPT]).arg(desk.at("index"));
    command.stdin(Stdio::from(std::fs::File::open(desk.at("questions.json")).unwrap()));
    let text = printed(&mut command);
    text.lines().map(|line| serde_json::from_str(line).expect("rows")).collect()
}

/// Rows in one spelling: a whole number is the same whether an engine gives it as an integer or not.
fn lines(rows: &[Value]) -> Vec<String> {
    let spelled = |value: &Value| match value.as_f64() {
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        _ => value.to_string(),
    };
    let line = |row: &Value| {
        let fields = row.as_object().expect("a row").iter();
        fields.map(|(name, value)| format!("{name}={}", spelled(value))).collect::<Vec<_>>().join(" ")
    };
    rows.iter().map(line).collect()
}
