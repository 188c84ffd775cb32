//! tshark's word on the fixtures: the same methods, targets and statuses, the same questions and response codes.

mod amqp;
mod diameter;
mod icmp;
mod kafka;
mod ldap;
mod mongodb;
mod mysql;
mod postgresql;
mod radius;
mod redis;
mod tls;
mod ws;

use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::util::display::array_value_to_string;

use crate::recording::{analysed, captures, read};

#[test]
fn tshark_reads_the_same_http() {
    if !is_installed() {
        return;
    }
    for capture in captures("http") {
        let rows = analysed(&read(&capture)).remove("http").expect("the table");
        let requests = sorted(&rows, |batch, row| {
            let text = |name: &str| batch[name].as_string::<i32>();
            let query = text("query").is_valid(row).then(|| format!("?{}", text("query").value(row)));
            let uri = format!("{}{}", text("path").value(row), query.unwrap_or_default());
            format!("{}\t{uri}", text("method").value(row))
        });
        assert_eq!(requests, tshark(&capture, "http.request", &["http.request.method", "http.request.uri"]));
        let statuses = sorted(&rows, |batch, row| {
            batch["status_code"].as_primitive::<Int32Type>().value(row).to_string()
        });
        assert_eq!(statuses, tshark(&capture, "http.response.code >= 200", &["http.response.code"]));
    }
}

#[test]
fn tshark_reads_the_same_dns() {
    if !is_installed() {
        return;
    }
    for capture in captures("dns") {
        let rows = analysed(&read(&capture)).remove("dns").expect("the table");
        let seen = sorted(&rows, |batch, row| {
            let number = |name: &str| batch[name].as_primitive::<Int32Type>().value(row);
            let query = batch["query"].as_string::<i32>().value(row);
            format!("0x{:04x}\t{query}\t{}", number("trans_id"), number("n_answers"))
        });
        let fields = ["dns.id", "dns.qry.name", "dns.count.answers"];
        let mut told: Vec<String> = tshark(&capture, "dns.flags.response == 1", &fields)
            .iter()
            .map(|line| line.to_lowercase())
            .collect();
        told.sort();
        assert_eq!(seen, told);
        let rcodes =
            sorted(&rows, |batch, row| batch["rcode_num"].as_primitive::<Int32Type>().value(row).to_string());
        assert_eq!(rcodes, tshark(&capture, "dns.flags.response == 1", &["dns.flags.rcode"]));
    }
}

fn sorted(batches: &[RecordBatch], line: impl Fn(&RecordBatch, usize) -> String) -> Vec<String> {
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let mut lines: Vec<String> = rows.map(|(batch, row)| line(batch, row)).collect();
    lines.sort();
    assert!(!lines.is_empty(), "no row");
    lines
}

/// Columns of the rows of a table, a line a row: as tshark prints its fields, empty where there is nothing.
fn cells(capture: &Path, table: &str, columns: &[&str]) -> Vec<String> {
    let rows = analysed(&read(capture)).remove(table).expect("the table");
    sorted(&rows, |batch, row| {
        let cell = |name: &&str| match batch[*name].is_null(row) {
            true => String::new(),
            false => array_value_to_string(&batch[*name], row).expect("a type that prints"),
        };
        columns.iter().map(cell).collect::<Vec<_>>().join("\t")
    })
}

/// Values of fields, one line a message: several messages of a frame come in one line of tshark's, comma by comma.
fn tshark(capture: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for columns in frames(capture, filter, fields) {
        let messages = columns.iter().map(Vec::len).max().expect("a field");
        for at in 0..messages {
            let message: Vec<&str> =
                columns.iter().map(|column| column[at.min(column.len() - 1)].as_str()).collect();
            lines.push(message.join("\t"));
        }
    }
    lines.sort();
    lines
}

/// Frame by frame and field by field, its values.
fn frames(capture: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["-Y", filter, "-T", "fields"]).stderr(Stdio::null());
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().expect("tshark starts");
    assert!(output.status.success(), "{command:?}");
    let split = |column: &str| column.split(',').map(str::to_owned).collect();
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.split('\t').map(split).collect()).collect()
}

fn is_installed() -> bool {
    let found = Command::new("tshark").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: tshark is not installed");
    }
    found
}

/// All values of a field, in the order of the capture, whatever signs they hold.
fn values(capture: &Path, filter: &str, field: &str) -> Vec<String> {
    const BETWEEN: &str = "\u{1e}";
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["-Y", filter, "-T", "fields", "-e", field]);
    command.args(["-E", &format!("aggregator={BETWEEN}")]).stderr(Stdio::null());
    let output = command.output().expect("tshark starts");
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let values = text.lines().flat_map(|line| line.split(BETWEEN)).filter(|value| !value.is_empty());
    values.map(str::to_owned).collect()
}
