//! May this answer be believed: what was recorded, lost, rotated out or never targeted in the time a question was about.
//! In: the table `coverage` of a session and a stretch of time. Out: a verdict, and the lines that stand under a result.
//! An answer without rows is one only where nothing is missing.

mod names;
mod plaintext;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use jiff::tz::TimeZone;

use self::names::NameCoverage;
use self::plaintext::PlaintextCoverage;
use crate::asked::Asked;
use crate::session::{Answer, QueryError, Session};
use crate::survey::Part;
use crate::times::{Stretch, shown};

/// What a stretch of time is covered by.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// What was asked about.
    pub asked: Asked,
    /// The time there is anything of.
    pub recorded: Stretch,
    /// Nodes, by name.
    pub nodes: Vec<NodeCoverage>,
    /// What of the plaintext of TLS was recorded, by node; empty where it does not matter.
    pub plaintext: Vec<PlaintextCoverage>,
    /// Where what proves names is missing, by node; empty where nobody asks for names.
    pub names: Vec<NameCoverage>,
    /// Nodes that should be in the snapshots and are not.
    pub missing_nodes: i64,
    /// The part of the source that was read for the answer, where it was not the whole.
    pub part: Option<Part>,
}

/// What a node recorded of it.
#[derive(Clone, Debug, Default)]
pub struct NodeCoverage {
    /// Its name; that of the file where a capture does not tell it.
    pub node: String,
    /// Packets written.
    pub captured: i64,
    /// Packets lost; `None` where nothing tells.
    pub lost: Option<i64>,
    /// Stretches of which packets are missing, in the order of time.
    pub blind: Vec<Missing>,
    /// Interfaces nobody asked to record.
    pub not_targeted: Vec<String>,
    /// Segments of which only their sidecars tell here.
    pub unread: usize,
}

/// A stretch of which packets are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// When, to the nanosecond.
    pub stretch: Stretch,
    /// As the column `state` has it: `lossy` where others of the time were recorded, else nothing was.
    pub state: String,
    /// The reason, in words.
    pub why: String,
}

impl Coverage {
    /// Of what was asked about.
    pub async fn of(session: &Session, asked: Asked) -> Result<Coverage, QueryError> {
        let mut coverage = Coverage { asked, ..Coverage::default() };
        if asked.calls {
            coverage.plaintext = PlaintextCoverage::of(session, asked.stretch).await?;
            // What nobody asked for is missed only by those who ask for it now.
            coverage.plaintext.retain(|of| of.is_targeted() || asked.tls);
        }
        if asked.names {
            coverage.names = NameCoverage::of(session, asked).await?;
        }
        let whole =
            rows(session, "SELECT min(from_ts), max(to_ts) FROM coverage WHERE state <> 'not_targeted'")
                .await?;
        for batch in &whole {
            coverage.recorded = Stretch { from_ns: time(batch, 0, 0), to_ns: time(batch, 1, 0) };
        }
        let inside = inside(asked.stretch);
        let totals = format!(
            "SELECT node, coalesce(sum(captured), 0), sum(dropped), \
             bool_or(captured IS NOT NULL AND dropped IS NULL) FROM coverage WHERE {inside} GROUP BY node ORDER BY node"
        );
        for batch in rows(session, &totals).await? {
            for row in 0..batch.num_rows() {
                let is_unknown = batch.column(3).as_boolean().value(row);
                coverage.nodes.push(NodeCoverage {
                    node: text(&batch, 0, row),
                    captured: batch.column(1).as_primitive::<Int64Type>().value(row),
                    lost: (!is_unknown).then(|| number(&batch, 2, row)),
                    ..NodeCoverage::default()
                });
            }
        }
        let blind = format!(
            "SELECT node, state, why, from_ts, to_ts FROM coverage WHERE {inside} \
             AND why IS NOT NULL AND state <> 'not_targeted' GROUP BY ALL ORDER BY 1, 4, 5, 2, 3"
        );
        for batch in rows(session, &blind).await? {
            for row in 0..batch.num_rows() {
                let stretch = Stretch { from_ns: time(&batch, 3, row), to_ns: time(&batch, 4, row) };
                let (state, why) = (text(&batch, 1, row), text(&batch, 2, row));
                coverage.node(&text(&batch, 0, row)).add_blind(Missing { stretch, state, why });
            }
        }
        let untargeted = format!(
            "SELECT DISTINCT node, iface FROM coverage WHERE state = 'not_targeted' \
             EXCEPT SELECT node, iface FROM coverage WHERE {inside} ORDER BY 1, 2"
        );
        for batch in rows(session, &untargeted).await? {
            for row in 0..batch.num_rows() {
                coverage.node(&text(&batch, 0, row)).not_targeted.push(text(&batch, 1, row));
            }
        }
        let missing = "SELECT coalesce(sum(nodes_expected - nodes_captured), 0) FROM snapshots";
        for batch in rows(session, missing).await? {
            coverage.missing_nodes = number(&batch, 0, 0);
        }
        Ok(coverage)
    }

    fn node(&mut self, name: &str) -> &mut NodeCoverage {
        let at = self.nodes.iter().position(|node| node.node == name).unwrap_or_else(|| {
            self.nodes.push(NodeCoverage { node: name.into(), lost: Some(0), ..NodeCoverage::default() });
            self.nodes.len() - 1
        });
        &mut self.nodes[at]
    }

    /// True where packets of the time asked about, the plaintext of calls in it, or what proves names, are known to be missing, or nothing was
    /// recorded in it at all.
    pub fn is_incomplete(&self) -> bool {
        let lacks = |node: &NodeCoverage| node.lost.unwrap_or(0) > 0 || !node.blind.is_empty();
        self.missing_nodes > 0
            || !self.overlap().1.is_empty()
            || self.nodes.iter().any(lacks)
            || self.plaintext.iter().any(PlaintextCoverage::is_incomplete)
            || self.names.iter().any(NameCoverage::is_incomplete)
    }

    /// What of the time asked about lies in the recording, and the parts that do not.
    fn overlap(&self) -> (Stretch, Vec<Stretch>) {
        let (Some(first_ns), Some(last_ns)) = (self.recorded.from_ns, self.recorded.to_ns) else {
            return (self.asked.stretch, vec![self.asked.stretch]);
        };
        let asked = self.asked.stretch;
        let before = asked.from_ns.filter(|from_ns| *from_ns < first_ns);
        let after = asked.to_ns.filter(|to_ns| *to_ns > last_ns);
        let is_apart = asked.from_ns.is_some_and(|from_ns| from_ns > last_ns)
            || asked.to_ns.is_some_and(|to_ns| to_ns < first_ns);
        let mut outside = Vec::new();
        if is_apart {
            outside.push(asked);
        } else {
            outside.extend(before.map(|_| Stretch { from_ns: before, to_ns: Some(first_ns) }));
            outside.extend(after.map(|_| Stretch { from_ns: Some(last_ns), to_ns: after }));
        }
        (asked.and(self.recorded), outside)
    }

    /// A row a node, for programs.
    pub fn answer(&self) -> anyhow::Result<Answer> {
        let nodes = || self.nodes.iter();
        let (node, captured): (StringArray, Int64Array) =
            (nodes().map(|node| Some(&node.node)).collect(), nodes().map(|node| node.captured).collect());
        let (lost, blind): (Int64Array, Int64Array) =
            (nodes().map(|node| node.lost).collect(), nodes().map(NodeCoverage::blind_seconds).collect());
        let why = nodes().map(|node| {
            let mut why: Vec<&str> = node.blind.iter().map(|of| of.state.as_str()).collect();
            why.dedup();
            (!why.is_empty()).then(|| why.join(" "))
        });
        let unread = nodes().map(|node| i64::try_from(node.unread).unwrap_or(i64::MAX));
        let not_targeted =
            nodes().map(|node| (!node.not_targeted.is_empty()).then(|| node.not_targeted.join(" ")));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("node", Arc::new(node) as ArrayRef, false),
            ("captured", Arc::new(captured), false),
            ("dropped", Arc::new(lost), true),
            ("blind_seconds", Arc::new(blind), false),
            ("blind_why", Arc::new(why.collect::<StringArray>()), true),
            ("not_targeted", Arc::new(not_targeted.collect::<StringArray>()), true),
            ("segments_not_read", Arc::new(unread.collect::<Int64Array>()), false),
        ])?;
        Ok(Answer { schema: batch.schema(), batches: vec![batch], asked: Some(self.asked) })
    }

    /// How far the verdict reaches where segments were not read.
    fn unread(&self) -> String {
        match self.nodes.iter().map(|node| node.unread).sum::<usize>() {
            0 => String::new(),
            1 => {
                ", by the sidecar of a segment whose bytes were not read (--strict compares its hash)".into()
            }
            many => {
                format!(
                    ", by the sidecars of {many} segments whose bytes were not read (--strict compares their hashes)"
                )
            }
        }
    }

    /// The lines under a result.
    pub fn lines(&self, zone: &TimeZone) -> Vec<String> {
        let stretch = |stretch: Stretch| match (stretch.from_ns, stretch.to_ns) {
            (Some(from_ns), Some(to_ns)) => format!("{} to {}", shown(from_ns, zone), shown(to_ns, zone)),
            (Some(from_ns), None) => format!("from {}", shown(from_ns, zone)),
            (None, Some(to_ns)) => format!("until {}", shown(to_ns, zone)),
            (None, None) => "the whole time".into(),
        };
        let (seen, outside) = self.overlap();
        if self.recorded.from_ns.is_none() {
            return vec!["coverage: INCOMPLETE: nothing was recorded at all".into()];
        }
        let verdict = match self.is_incomplete() {
            true => "INCOMPLETE",
            false if self.nodes.iter().any(|node| node.lost.is_none()) => {
                "what the capture lost is not known"
            }
            false => "complete",
        };
        let is_empty = seen.from_ns > seen.to_ns;
        let about = if is_empty { self.asked.stretch } else { seen };
        let mut lines = vec![format!("coverage: {verdict}, {}{}", stretch(about), self.unread())];
        lines.extend(outside.into_iter().map(|part| format!("  not in the recording: {}", stretch(part))));
        lines.extend(self.part.map(|part| format!("  {}", part.line(zone))));
        if self.missing_nodes > 0 {
            lines.push(format!("  {} of the nodes of the snapshot are missing", self.missing_nodes));
        }
        for node in &self.nodes {
            lines.push(format!("  {}", node.line(&stretch)));
            let plaintext = self.plaintext.iter().filter(|of| of.node == node.node);
            lines.extend(plaintext.map(|of| format!("  {}", of.line(&stretch))));
            let names = self.names.iter().filter(|of| of.node == node.node && of.is_incomplete());
            lines.extend(names.map(|of| format!("  {}", of.line(&stretch))));
        }
        lines
    }
}

impl NodeCoverage {
    /// The table has one row a bucket: those that follow each other are one stretch.
    fn add_blind(&mut self, of: Missing) {
        let goes_on = |last: &&mut Missing| {
            (&last.state, &last.why, last.stretch.to_ns) == (&of.state, &of.why, of.stretch.from_ns)
        };
        match self.blind.iter_mut().rev().find(goes_on) {
            Some(last) => last.stretch.to_ns = of.stretch.to_ns,
            None => self.blind.push(of),
        }
    }

    /// Seconds in which nothing was recorded.
    pub fn blind_seconds(&self) -> i64 {
        let nothing = self.blind.iter().filter(|of| of.state != LOSSY);
        let mut until_ns = i64::MIN;
        let mut length_ns = 0;
        for of in nothing {
            let (from_ns, to_ns) =
                (of.stretch.from_ns.unwrap_or(until_ns), of.stretch.to_ns.unwrap_or(until_ns));
            length_ns += (to_ns - from_ns.max(until_ns)).max(0);
            until_ns = until_ns.max(to_ns);
        }
        length_ns / 1_000_000_000
    }

    fn line(&self, stretch: &dyn Fn(Stretch) -> String) -> String {
        let mut parts = vec![format!("{}: {} packets", self.node, self.captured)];
        match self.lost {
            Some(0) => parts.push("none lost".into()),
            Some(lost) => {
                let share = 100.0 * lost as f64 / (lost + self.captured) as f64;
                parts.push(format!("{lost} lost ({share:.3} %)"));
            }
            None => {}
        }
        for of in self.blind.iter().take(BLIND_SHOWN) {
            parts.push(format!("{} {} ({})", of.state.replace('_', " "), stretch(of.stretch), of.why));
        }
        if self.blind.len() > BLIND_SHOWN {
            parts.push(format!(
                "and {} more blind stretches, {} s in all",
                self.blind.len() - BLIND_SHOWN,
                self.blind_seconds()
            ));
        }
        if !self.not_targeted.is_empty() {
            let shown =
                self.not_targeted.iter().take(INTERFACES_SHOWN).cloned().collect::<Vec<_>>().join(" ");
            let more = self.not_targeted.len().saturating_sub(INTERFACES_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            parts.push(format!("never targeted: {shown}{more}"));
        }
        parts.join(", ")
    }
}

const BLIND_SHOWN: usize = 3;
/// Some of the packets were lost, and counted.
const LOSSY: &str = "lossy";
const INTERFACES_SHOWN: usize = 6;

/// Rows that are about any part of it; one that only ends where it begins is not.
fn inside(stretch: Stretch) -> String {
    let mut conditions = vec!["state <> 'not_targeted'".to_string()];
    if let Some(from_ns) = stretch.from_ns {
        let from = format!("arrow_cast({from_ns}, 'Timestamp(ns)')");
        conditions.push(format!("(to_ts > {from} OR from_ts = {from})"));
    }
    if let Some(to_ns) = stretch.to_ns {
        let to = format!("arrow_cast({to_ns}, 'Timestamp(ns)')");
        conditions.push(format!("(from_ts < {to} OR to_ts = {to})"));
    }
    conditions.join(" AND ")
}

/// Rows of one statement.
pub async fn rows(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    Ok(session.run(sql).await?.into_iter().flat_map(|answer| answer.batches).collect())
}

/// A cell as text; empty for none.
pub fn text(batch: &RecordBatch, column: usize, row: usize) -> String {
    let texts = batch.column(column);
    let shown = arrow::util::display::array_value_to_string(texts, row);
    shown.unwrap_or_default()
}

/// A cell as a number; 0 for none.
pub fn number(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    let numbers = batch.column(column).as_primitive::<Int64Type>();
    if numbers.is_null(row) { 0 } else { numbers.value(row) }
}

/// A cell as a time.
pub fn time(batch: &RecordBatch, column: usize, row: usize) -> Option<i64> {
    let times = batch.column(column).as_primitive::<TimestampNanosecondType>();
    (row < times.len() && !times.is_null(row)).then(|| times.value(row))
}
