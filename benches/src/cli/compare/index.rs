//! Capture in, events out: `sharkq index`, `tshark -T fields`, Suricata at full depth.
//! Each is asked for its events afterwards, outside the measured time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use shark_benches::measure::{Job, median};

use super::{Bench, Build, Row};
use crate::cli::memory::walk;

pub const ALL_CORES: &str = "sharkq, all cores";
/// The index that the queries read.
pub const INDEX: &str = "index";

pub fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // This build comes last: its index is the one that the queries read.
    for build in bench.builds().collect::<Vec<_>>().into_iter().rev() {
        rows.push(sharkq(bench, build, "sharkq, 1 thread", Some("1"))?);
        rows.push(all_cores(bench, build)?);
    }
    rows.extend([tshark(bench)?, suricata(bench)?]);
    Ok(rows)
}

/// Makes an index on all cores.
pub fn all_cores(bench: &Bench, build: &Build) -> Result<Row> {
    sharkq(bench, build, ALL_CORES, None)
}

fn sharkq(bench: &Bench, build: &Build, name: &str, threads: Option<&str>) -> Result<Row> {
    let name = format!("{name}{}", build.suffix);
    eprintln!("shark-bench: {name}");
    let (index, capture) = (bench.path(INDEX), bench.whole.path.display().to_string());
    let mut words = vec![&*build.sharkq, "index", &capture, "-o", &index];
    words.extend(threads.iter().flat_map(|threads| ["--threads", threads]));
    let cost = median(&Job::new(&words), bench.runs, || remove(&index))?;
    let events = "SELECT (SELECT count(*) FROM http), (SELECT count(trans_id) + count(rcode) FROM dns)";
    let counted = sql(bench, build, events)?;
    let (http, dns) = counted.trim().split_once(',').context("two numbers were asked for")?;
    let mut row = Row::measured("index", &name, cost, &bench.whole);
    row.stored_ratio =
        Some(bytes_below(&bench.room.join(INDEX).join("tables"))? as f64 / bench.whole.file_bytes as f64);
    (row.http_requests, row.dns_messages) = (Some(http.parse()?), Some(dns.parse()?));
    Ok(row)
}

/// The last line of the answer, as CSV.
fn sql(bench: &Bench, build: &Build, statement: &str) -> Result<String> {
    let answer = bench.room.join("answer.csv");
    let job = Job::new(&[&build.sharkq, "sql", &bench.path(INDEX), "--format", "csv", "-c", statement]);
    shark_benches::measure::once(&job.into_file(&answer))?;
    let text = fs::read_to_string(answer)?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

const FIELDS: &[&str] = &[
    "http.request.method",
    "dns.flags.response",
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "tcp.stream",
    "http.request.uri",
    "http.response.code",
    "http.time",
    "dns.qry.name",
    "dns.flags.rcode",
];

fn tshark(bench: &Bench) -> Result<Row> {
    const NAME: &str = "tshark -T fields, slice";
    if !installed("tshark") {
        return Ok(Row::absent("index", NAME, "not installed"));
    }
    eprintln!("shark-bench: {NAME}");
    let (capture, out) = (bench.slice.path.display().to_string(), bench.room.join("fields.tsv"));
    // Without it a request that overtook another segment is not found.
    let mut words = vec!["tshark", "-r", &capture, "-o", "tcp.reassemble_out_of_order:TRUE", "-T", "fields"];
    words.extend(FIELDS.iter().flat_map(|field| ["-e", field]));
    let cost = median(&Job::new(&words).into_file(&out), bench.runs, || Ok(()))?;
    let text = fs::read_to_string(&out)?;
    // Several messages of one frame come with commas between them.
    let values = |column: usize| -> u64 {
        let cells = text.lines().filter_map(|line| line.split('\t').nth(column));
        cells.map(|cell| cell.split(',').filter(|value| !value.is_empty()).count() as u64).sum()
    };
    let mut row = Row::measured("index", NAME, cost, &bench.slice);
    (row.http_requests, row.dns_messages) = (Some(values(0)), Some(values(1)));
    row.note = "text, no tables".into();
    Ok(row)
}

fn suricata(bench: &Bench) -> Result<Row> {
    const NAME: &str = "suricata, full depth";
    if !installed("suricata") {
        return Ok(Row::absent("index", NAME, "not installed"));
    }
    eprintln!("shark-bench: {NAME}");
    let (capture, logs) = (bench.whole.path.display().to_string(), bench.path("suricata"));
    // By default it stops reading a stream after 1 MiB, and then sees a fifth of the requests.
    let mut words =
        vec!["suricata", "-r", &capture, "-k", "none", "-S", "/dev/null", "-l", &logs, "--runmode", "single"];
    let settings = [
        "stream.reassembly.depth=0",
        "stream.memcap=1gb",
        "stream.reassembly.memcap=4gb",
        "app-layer.protocols.http.memcap=2gb",
        "flow.memcap=1gb",
    ];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let cost = median(&Job::new(&words), bench.runs, || {
        remove(&logs)?;
        Ok(fs::create_dir_all(&logs)?)
    })?;
    let text = fs::read_to_string(Path::new(&logs).join("eve.json"))?;
    let events = |kind: &str| text.lines().filter(|line| line.contains(kind)).count() as u64;
    let mut row = Row::measured("index", NAME, cost, &bench.whole);
    row.http_requests = Some(events("\"event_type\":\"http\""));
    row.dns_messages = Some(events("\"event_type\":\"dns\""));
    row.note = "JSON, no tables".into();
    Ok(row)
}

pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

pub fn remove(folder: &str) -> Result<()> {
    if Path::new(folder).exists() {
        fs::remove_dir_all(folder).with_context(|| folder.to_owned())?;
    }
    Ok(())
}

pub fn bytes_below(folder: &Path) -> Result<u64> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}
