//! Names held against the ledger. In: what programs opened, and the rows of flows and calls. Out: right, NULL and wrong by proof. A
//! name is wrong where another pod is named, or a process that did not answer.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::names_agents::{Flow, text};

/// Where an end may have no name: the case, the end, and why.
pub const MAY_BE_NULL: [(&str, &str, &str); 10] = [
    ("N3", "src", "two pods of one network asked from one port in the course of what is one flow"),
    (
        "N3-at-once",
        "src",
        "the same, and within a millisecond clocks do not tell which of two sockets it was",
    ),
    (
        "N2-swapped",
        "dst",
        "nothing but the old owner's connection tells of the address before its new owner spoke",
    ),
    ("N2-swapped", "src", "the same"),
    ("N1-held", "src", "it began before anybody recorded, and ended while nobody did"),
    ("N1-held", "dst", "the same"),
    ("N6-dying", "src", "its deletion was asked for, and another pod that may have its address has begun"),
    ("N6-dying", "dst", "the same"),
    ("N6-heir", "src", "the pod before it may still have the address, as far as anybody tells"),
    ("N6-heir", "dst", "the same"),
];

/// Rows by their ends, in the order of their time.
pub struct Rows {
    by_ends: HashMap<String, Vec<Value>>,
}

pub const SECOND_NS: i64 = 1_000_000_000;

impl Rows {
    pub fn new(rows: Vec<Value>) -> Rows {
        let mut by_ends: HashMap<String, Vec<Value>> = HashMap::new();
        for row in rows {
            let ends = format!(
                "{} {}:{} {}:{}",
                text(&row, "proto"),
                text(&row, "src_ip"),
                row["src_port"],
                text(&row, "dst_ip"),
                row["dst_port"]
            );
            by_ends.entry(ends).or_default().push(row);
        }
        for rows in by_ends.values_mut() {
            rows.sort_by_key(|row| row["ns"].as_i64());
        }
        Rows { by_ends }
    }

    /// The one that began last before the flow did, by less than a second after it, or that lasted until then.
    pub fn of(&self, flow: &Flow) -> Option<&Value> {
        let rows = self.by_ends.get(&flow.ends())?;
        let at = rows.partition_point(|row| row["ns"].as_i64() < Some(flow.ns));
        let after = rows.get(at).filter(|row| row["ns"].as_i64() <= Some(flow.ns + SECOND_NS));
        let before = at.checked_sub(1).map(|at| &rows[at]);
        after.or(before.filter(|row| row["end_ns"].as_i64() >= Some(flow.ns)))
    }
}

#[derive(Default)]
pub struct Verdicts {
    /// Right, NULL and wrong, by proof.
    counts: BTreeMap<(String, String), [usize; 3]>,
    pub wrong: Vec<String>,
    /// Where the table does not allow it.
    pub null: Vec<String>,
    pub absent: Vec<String>,
}

impl Verdicts {
    pub fn judge(&mut self, flow: &Flow, row: &Value, kind: &str) {
        for (at, end) in ["src", "dst"].into_iter().enumerate() {
            let pod = row[format!("{end}_pod")].as_str();
            let proof = text(row, &format!("{end}_identity")).to_owned();
            let container = row[format!("{end}_container")].as_str();
            let is_process = row[format!("{end}_pid")].is_number();
            let (told_pod, told_container) = (&flow.pod[at], flow.container[at].as_deref());
            // Where no process answered none may be named; where one did, that one or none.
            let is_container = match told_container {
                None => !is_process,
                Some(told) => {
                    !is_process && kind != "a call" || container.is_none_or(|container| container == told)
                }
            };
            let verdict = match pod {
                None => 1,
                Some(pod) if pod == told_pod && is_container => 0,
                Some(_) => 2,
            };
            let group = if kind == "a call" { "dns".to_owned() } else { flow.case.clone() };
            self.counts.entry((group, proof)).or_default()[verdict] += 1;
            let is_allowed = (kind != "a call" || flow.case == "N3-at-once")
                && MAY_BE_NULL.iter().any(|(case, of, _)| (*case, *of) == (&flow.case, end));
            match verdict {
                1 if !is_allowed => self.null.push(format!("{kind} {end} {flow:?} {row}")),
                2 => self.wrong.push(format!("{kind} {end} {flow:?} {row}")),
                _ => {}
            }
        }
    }

    pub fn first_of<'a>(&self, of: &'a [String]) -> &'a [String] {
        &of[..of.len().min(5)]
    }

    pub fn print(&self, flows: usize) {
        println!("{flows} flows; ends by case and proof:");
        println!("{:<12} {:<12} {:>8} {:>8} {:>8}", "case", "proof", "right", "NULL", "wrong");
        let mut all: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        for ((case, proof), counts) in &self.counts {
            println!("{case:<12} {proof:<12} {:>8} {:>8} {:>8}", counts[0], counts[1], counts[2]);
            let sum = all.entry(proof).or_default();
            counts.iter().zip(sum).for_each(|(count, sum)| *sum += count);
        }
        for (proof, counts) in all {
            println!("{:<12} {proof:<12} {:>8} {:>8} {:>8}", "all", counts[0], counts[1], counts[2]);
        }
    }
}
