//! Sockets and processes as the logs have them. In: Arrow files, each with the whole state first. Out: the last row of every id,
//! once, and the time in which it is known to have been there. What the state of a later file lacks has ended, at the latest then.
//! The newest file is read first, so that no more is held than one file and what counts.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use shark_schema::identity::arrows::Decoder;
use shark_schema::table::Table;

use super::lives::Lives;
use super::timeline::OPEN;
use crate::source::LogFile;
use crate::source::facts::most_unpacked;

/// A recorder attaches to interfaces before it says that it begins.
const ATTACHED_NS: i64 = 5_000_000_000;

/// Rows of one table.
pub struct Rows {
    /// Of which table.
    pub table: &'static Table,
    /// Batches, each with all columns of the table.
    pub batches: Vec<RecordBatch>,
    /// Cluster of each batch.
    pub clusters: Vec<String>,
    /// When each row of each batch is known to have been there.
    pub spans: Vec<Vec<Span>>,
    /// The times that the files tell of.
    pub told: Vec<Told>,
}

/// A time of which a file tells all there was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Cluster and node.
    pub site: (String, String),
    /// Since when.
    pub from_ns: i64,
    /// Until when.
    pub to_ns: i64,
}

/// A time in which something is known to have been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Since when.
    pub from_ns: i64,
    /// Until when, for packets that the same recorder wrote.
    pub to_ns: i64,
    /// Until when for those of others, who may have lived longer.
    pub sure_ns: i64,
}

impl Rows {
    /// Rows that no file bounds.
    pub fn unbounded(table: &'static Table, batches: Vec<RecordBatch>) -> Rows {
        let spans = batches
            .iter()
            .map(|batch| {
                let [starts, ends] = ["start_ts", end_of(table)].map(|name| times(batch, name));
                let span = |row| Span {
                    from_ns: at(starts, row).unwrap_or(i64::MIN),
                    to_ns: at(ends, row).unwrap_or(OPEN),
                    sure_ns: at(ends, row).unwrap_or(OPEN),
                };
                (0..batch.num_rows()).map(span).collect()
            })
            .collect();
        Rows { table, clusters: vec![String::new(); batches.len()], batches, spans, told: Vec::new() }
    }
}

/// The column that says when something ended.
fn end_of(table: &Table) -> &'static str {
    if table.column("exit_ts").is_some() { "exit_ts" } else { "end_ts" }
}

/// A log file, and where it stands among those of its node.
struct File {
    cluster: String,
    node: String,
    started_ns: i64,
    /// The one before it.
    before: Option<usize>,
    /// Nothing of what it says is lost; one that is still being written ends where it ends.
    is_whole: bool,
}

/// Where an id stands for the first time.
#[derive(Clone, Copy)]
struct First {
    file: u32,
    in_state: bool,
}

/// The last row of each id in these logs. What is damaged is told in `warnings`, and its whole rows are taken.
pub fn read(logs: &[LogFile], table: &'static Table, lives: &mut Lives, warnings: &mut Vec<String>) -> Rows {
    let id = table.columns().next().expect("a table has columns").name;
    let schema: SchemaRef = table.schema().into();
    let mut logs: Vec<&LogFile> = logs.iter().filter(|log| std::ptr::eq(log.table, table)).collect();
    // The newest first, the longest of several copies first: by name, in which the time has as many digits for centuries.
    logs.sort_by_key(|log| std::cmp::Reverse((started_of(log), log.size)));
    let mut seen: HashMap<Box<str>, First> = HashMap::new();
    let mut rows = Rows::unbounded(table, Vec::new());
    let mut files: Vec<File> = Vec::new();
    let mut later: HashMap<(String, String), usize> = HashMap::new();
    for log in logs {
        let Some((batches, file)) = told(log, &schema, warnings) else { continue };
        let key = (file.cluster.clone(), file.node.clone());
        let next = later.get(&key).copied();
        if next.is_some_and(|next| files[next].started_ns == file.started_ns) {
            continue;
        }
        let number = files.len();
        let words = batches.iter().flat_map(|batch| last_time(batch, end_of(table))).max();
        for ns in words.into_iter().chain([file.started_ns]) {
            lives.hear(&file.cluster, &file.node, ns);
        }
        // Without its state a file says nothing of what is absent in it.
        if !batches.is_empty() {
            next.into_iter().for_each(|next| files[next].before = Some(number));
            later.insert(key, number);
        }
        let ended = next.map(|next| files[next].started_ns);
        let known = Known::of(&file, ended, lives);
        for (at, batch) in batches.into_iter().enumerate().rev() {
            let ids = batch[id].as_string::<i32>();
            let mut counts = vec![false; batch.num_rows()];
            let first = First { file: number as u32, in_state: at == 0 };
            for row in (0..batch.num_rows()).rev().filter(|row| ids.is_valid(*row)) {
                match seen.get_mut(ids.value(row)) {
                    Some(known) => *known = first,
                    None => {
                        seen.insert(ids.value(row).into(), first);
                        counts[row] = true;
                    }
                }
            }
            let kept = filter_record_batch(&batch, &BooleanArray::from(counts)).expect("one flag a row");
            if kept.num_rows() > 0 {
                let (kept, spans) = known.bound(kept, table);
                rows.batches.push(kept);
                rows.clusters.push(file.cluster.clone());
                rows.spans.push(spans);
            }
        }
        files.push(file);
    }
    for (batch, spans) in rows.batches.iter().zip(&mut rows.spans) {
        let ids = batch[id].as_string::<i32>();
        let found = times(batch, "found_ts");
        for (row, span) in spans.iter_mut().enumerate().filter(|(_, span)| span.from_ns == i64::MIN) {
            let first = seen[ids.value(row)];
            span.from_ns = at(found, row).unwrap_or_else(|| since(&files, first, lives));
            span.to_ns = span.to_ns.max(span.from_ns);
            span.sure_ns = span.sure_ns.max(span.from_ns);
        }
    }
    rows.told = times_of(&files, lives);
    rows
}

/// A recorder writes its first state a moment after its begin.
const FIRST_STATE_NS: i64 = 10_000_000_000;

/// What each file tells of that is not damaged: from its state, which the first of a life has of its begin,
/// to the next one's, or to the last word.
fn times_of(files: &[File], lives: &Lives) -> Vec<Told> {
    let told = |(number, file): (usize, &File)| {
        let File { cluster, node, started_ns, .. } = file;
        let is_same = |other: &&File| lives.is_one(cluster, node, [other.started_ns, *started_ns]);
        let begin = lives.at(cluster, node, *started_ns).map(|life| life.from_ns);
        let is_first = file.before.map(|before| &files[before]).filter(is_same).is_none();
        let is_early = begin.is_some_and(|begin_ns| started_ns.saturating_sub(begin_ns) < FIRST_STATE_NS);
        let from_ns = match begin {
            Some(begin_ns) if is_first && is_early => begin_ns.saturating_sub(ATTACHED_NS),
            _ => *started_ns,
        };
        let next = files.iter().find(|other| other.before == Some(number));
        let to_ns = match next {
            Some(next) if is_same(&next) => next.started_ns,
            Some(_) => lives.at(cluster, node, *started_ns).map_or(*started_ns, |life| life.last_word_ns),
            None => OPEN,
        };
        Told { site: (cluster.clone(), node.clone()), from_ns, to_ns }
    };
    files.iter().enumerate().filter(|(_, file)| file.is_whole).map(told).collect()
}

/// Since when something is known to have been there that was there already when somebody looked.
fn since(files: &[File], first: First, lives: &Lives) -> i64 {
    let file = &files[first.file as usize];
    let life = lives.at(&file.cluster, &file.node, file.started_ns);
    match file.before.map(|before| &files[before]) {
        // The state of this file did not have it.
        _ if !first.in_state => file.started_ns,
        Some(before) if lives.is_one(&file.cluster, &file.node, [before.started_ns, file.started_ns]) => {
            before.started_ns
        }
        Some(before) => lives
            .at(&before.cluster, &before.node, before.started_ns)
            .map_or(file.started_ns, |life| life.last_word_ns),
        None => life.map_or(i64::MIN, |life| life.from_ns.saturating_sub(ATTACHED_NS)),
    }
}

/// What is known of the end of that which a file leaves open.
struct Known {
    /// When the next file began, which lacks it.
    ended_ns: Option<i64>,
    /// Until when it is known to have been there.
    to_ns: i64,
    /// The same for packets of other recorders.
    sure_ns: i64,
}

impl Known {
    fn of(file: &File, ended_ns: Option<i64>, lives: &Lives) -> Known {
        let File { cluster, node, started_ns, .. } = file;
        let last_word_ns = lives.at(cluster, node, *started_ns).map_or(*started_ns, |life| life.last_word_ns);
        let (to_ns, sure_ns) = match ended_ns {
            // Its end was never told.
            Some(next_ns) if lives.is_one(cluster, node, [*started_ns, next_ns]) => {
                (*started_ns, *started_ns)
            }
            Some(_) => (last_word_ns, last_word_ns),
            None => (OPEN, last_word_ns),
        };
        Known { ended_ns, to_ns, sure_ns }
    }

    /// Rows with the ends they have at the latest, and when they are known to have been there.
    fn bound(&self, batch: RecordBatch, table: &Table) -> (RecordBatch, Vec<Span>) {
        let (starts, ends) = (times(&batch, "start_ts"), times(&batch, end_of(table)));
        let span = |row| {
            let (start, end) = (at(starts, row), at(ends, row));
            let reach = |ns: i64| end.unwrap_or(ns).max(start.unwrap_or(i64::MIN));
            Span {
                from_ns: start.unwrap_or(i64::MIN),
                to_ns: reach(self.to_ns),
                sure_ns: reach(self.sure_ns),
            }
        };
        let spans = (0..batch.num_rows()).map(span).collect();
        let Some(ended_ns) = self.ended_ns.filter(|_| ends.is_some_and(|ends| ends.null_count() > 0)) else {
            return (batch, spans);
        };
        let shown: TimestampNanosecondArray =
            (0..batch.num_rows()).map(|row| at(ends, row).or(Some(ended_ns))).collect();
        let schema = batch.schema();
        let mut columns = batch.columns().to_vec();
        columns[schema.index_of(end_of(table)).expect("a column of the table")] = Arc::new(shown);
        let batch = RecordBatch::try_new(schema, columns).expect("a column was replaced by one of its type");
        (batch, spans)
    }
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a TimestampNanosecondArray> {
    batch.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>()
}

fn at(times: Option<&TimestampNanosecondArray>, row: usize) -> Option<i64> {
    times.filter(|times| times.is_valid(row)).map(|times| times.value(row))
}

/// The last begin or end that a batch tells of.
fn last_time(batch: &RecordBatch, end: &str) -> Option<i64> {
    ["start_ts", end].into_iter().filter_map(|name| arrow::compute::max(times(batch, name)?)).max()
}

/// When a file was begun, by its name.
fn started_of(log: &LogFile) -> i64 {
    let name = log.place.name();
    let name = name.rsplit('/').next().unwrap_or(&name);
    name.split('-').next().and_then(|start| start.parse().ok()).unwrap_or(0)
}

/// What a file says and whose it is; None for one that cannot be read at all.
fn told(log: &LogFile, schema: &SchemaRef, warnings: &mut Vec<String>) -> Option<(Vec<RecordBatch>, File)> {
    let is_open = log.place.name().ends_with(".open");
    match batches(log, schema) {
        Ok((batches, file, damage)) => {
            // One that is still being written ends where it ends.
            let damage = damage.filter(|_| !is_open);
            warnings.extend(damage.map(|damage| format!("{}: {damage}", log.place.name())));
            Some((batches, file))
        }
        Err(why) => {
            // Of one that was only just begun not even the head is there yet.
            if !is_open {
                warnings.push(format!("{} was left out: {why}", log.place.name()));
            }
            None
        }
    }
}

type Read1 = (Vec<RecordBatch>, File, Option<String>);

fn batches(log: &LogFile, schema: &SchemaRef) -> Result<Read1, String> {
    let reader = log.place.reader().map_err(|error| error.to_string())?;
    let reader: Box<dyn Read> = match log.place.name().contains(".zst") {
        true => {
            let unpacked = zstd::stream::read::Decoder::new(reader).map_err(|error| error.to_string())?;
            Box::new(unpacked.take(most_unpacked(log.size)))
        }
        false => Box::new(reader),
    };
    let mut decoder = Decoder::new(log.table, reader).map_err(|error| error.to_string())?;
    let head = decoder.head().clone();
    let mut file = File {
        cluster: head.cluster,
        node: head.node,
        started_ns: head.started_ns,
        before: None,
        is_whole: true,
    };
    let mut batches = Vec::new();
    for batch in &mut decoder {
        match batch {
            Ok(batch) => batches.push(widened(&batch, schema)),
            Err(damage) => {
                file.is_whole = log.place.name().ends_with(".open");
                return Ok((batches, file, Some(damage.to_string())));
            }
        }
    }
    Ok((batches, file, None))
}

/// An earlier version of a table has fewer columns: those it lacks are unknown.
fn widened(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("the decoder checked the types")
}

#[cfg(test)]
mod tests;
