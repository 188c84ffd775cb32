//! tshark's word on AMQP: as many methods of each class, and the same arguments and sizes of contents.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;

use super::{frames, is_installed, sorted};
use crate::recording::{analysed, captures, read};

/// Columns that have the values of one field, of requests and of what is sent alone.
const SAME: &[(&str, &str)] = &[
    ("exchange", "amqp.method.arguments.exchange"),
    ("routing_key", "amqp.method.arguments.routing_key"),
    ("delivery_tag", "amqp.method.arguments.delivery_tag"),
    ("redelivered", "amqp.method.arguments.redelivered"),
    ("reply_code", "amqp.method.arguments.reply_code"),
    ("body_len", "amqp.header.body-size"),
    ("content_type", "amqp.method.properties.content_type"),
];

#[test]
fn tshark_reads_the_same_amqp() {
    if !is_installed() {
        return;
    }
    for capture in captures("amqp") {
        let rows = analysed(&read(&capture)).remove("amqp").expect("the table");
        let told = |field: &str| -> Vec<String> {
            let mut values: Vec<String> = frames(&capture, field, &[field])
                .into_iter()
                .flat_map(|frame| frame.into_iter().flatten())
                .collect();
            values.retain(|value| !value.is_empty());
            values.sort();
            values
        };
        for (column, field) in SAME {
            let mut ours = sorted(&rows, |batch, row| match (cell(batch, "method", row).as_str(), *column) {
                // tshark has other fields for both ends of such a binding.
                ("exchange.bind" | "exchange.unbind", "exchange") => String::new(),
                _ => cell(batch, column, row),
            });
            ours.retain(|value| !value.is_empty());
            let told: Vec<String> = told(field).into_iter().map(|value| flag(column, value)).collect();
            assert_eq!(ours, told, "{column}");
        }
        let halves = |batch: &RecordBatch, row: usize| {
            ["request_bytes", "response_bytes"]
                .iter()
                .filter(|name| !cell(batch, name, row).is_empty())
                .count()
        };
        let of_class = |name: &str| -> usize {
            let is_of =
                |batch: &RecordBatch, row: usize| cell(batch, "method", row).split('.').next() == Some(name);
            let count = |batch: &RecordBatch| {
                (0..batch.num_rows())
                    .filter(|&row| is_of(batch, row))
                    .map(|row| halves(batch, row))
                    .sum::<usize>()
            };
            rows.iter().map(count).sum()
        };
        let classes = told("amqp.method.class");
        for (name, number) in [
            ("connection", "10"),
            ("channel", "20"),
            ("exchange", "40"),
            ("queue", "50"),
            ("basic", "60"),
            ("tx", "90"),
        ] {
            assert_eq!(of_class(name), classes.iter().filter(|class| *class == number).count(), "{name}");
        }
    }
}

/// tshark's flags are numbers.
fn flag(column: &str, value: String) -> String {
    match (column, value.as_str()) {
        ("redelivered", "0") => "false".to_owned(),
        ("redelivered", "1") => "true".to_owned(),
        _ => value,
    }
}

fn cell(batch: &RecordBatch, name: &str, row: usize) -> String {
    let column = &batch[name];
    if column.is_null(row) {
        String::new()
    } else {
        array_value_to_string(column, row).expect("a type that prints")
    }
}
