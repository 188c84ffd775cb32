//! tshark's word on Kafka: the headers of all requests, the topics, groups and errors of the versions it knows (4.0 knows none of these
//! brokers' FETCH), and the correlation ids of responses.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;

use super::{frames, is_installed, sorted};
use crate::recording::{analysed, captures, read};

#[test]
fn tshark_reads_the_same_kafka() {
    if !is_installed() {
        return;
    }
    for capture in captures("kafka") {
        let rows = analysed(&read(&capture)).remove("kafka").expect("the table");
        // Requests: port, api, version, correlation id, client id.
        let fields =
            ["tcp.srcport", "kafka.api_key", "kafka.api_version", "kafka.correlation_id", "kafka.client_id"];
        let told = lines(frames(&capture, "tcp.dstport == 9092 && kafka.api_version", &fields), fields.len());
        let ours = sorted(&rows, |batch, row| {
            ["src_port", "api_key", "api_version", "correlation_id", "client_id"]
                .map(|name| cell(batch, name, row))
                .join("\t")
        });
        assert_eq!(ours, told);
        let fields = ["tcp.dstport", "kafka.correlation_id"];
        let mut told = lines(frames(&capture, "tcp.srcport == 9092 && kafka", &fields), fields.len());
        // The broker answers what asked for no answer, too.
        let unanswered = sorted(&rows, |batch, row| match cell(batch, "acks", row).as_str() {
            "0" => ["src_port", "correlation_id"].map(|name| cell(batch, name, row)).join("\t"),
            _ => String::new(),
        });
        told.retain(|text| !unanswered.contains(text));
        let mut answered = sorted(&rows, |batch, row| match cell(batch, "response_bytes", row).as_str() {
            "" => String::new(),
            _ => ["src_port", "correlation_id"].map(|name| cell(batch, name, row)).join("\t"),
        });
        answered.retain(|text| !text.is_empty());
        assert_eq!(answered, told);
        // What bodies say, where tshark says it.
        let by_id: BTreeMap<String, [String; 3]> = rows
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)))
            .map(|(batch, row)| {
                let id = ["src_port", "correlation_id"].map(|name| cell(batch, name, row)).join("\t");
                (id, ["topic", "group", "acks"].map(|name| cell(batch, name, row)))
            })
            .collect();
        let fields = [
            "tcp.srcport",
            "kafka.correlation_id",
            "kafka.topic_name",
            "kafka.consumer_group",
            "kafka.required_acks",
            "kafka.api_key",
            "kafka.api_version",
        ];
        let mut compared = 0;
        for frame in frames(&capture, "tcp.dstport == 9092 && kafka.api_version", &fields) {
            let version: i16 = frame[6][0].parse().expect("a version");
            if frame[1].len() > 1 || !is_known(&frame[5][0], version) {
                continue;
            }
            let id = [&frame[0][0], &frame[1][0]].map(String::as_str).join("\t");
            for (ours, theirs) in by_id[&id].iter().zip(&frame[2..5]) {
                let theirs = theirs[0].as_str();
                if !theirs.is_empty() && theirs != "[ Null ]" {
                    assert_eq!(ours, theirs, "{id}");
                    compared += 1;
                }
            }
        }
        assert!(compared >= 9, "only {compared} values were compared");
    }
}

/// tshark 4.0 reads the bodies of these versions: it takes later ones for the last it knows.
fn is_known(api: &str, version: i16) -> bool {
    match api {
        "0" => version <= 9,
        "1" => version <= 12,
        "9" => version <= 7,
        "10" => version <= 3,
        _ => true,
    }
}

/// One line a message, sorted; tshark lists the messages of a frame value by value.
fn lines(frames: Vec<Vec<Vec<String>>>, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for columns in frames {
        for at in 0..columns[1].len() {
            let value = |column: &Vec<String>| column[at.min(column.len() - 1)].clone();
            lines.push(columns.iter().take(width).map(value).collect::<Vec<_>>().join("\t"));
        }
    }
    lines.sort();
    lines
}

fn cell(batch: &RecordBatch, name: &str, row: usize) -> String {
    let column = &batch[name];
    if column.is_null(row) {
        String::new()
    } else {
        array_value_to_string(column, row).expect("a type that prints")
    }
}
