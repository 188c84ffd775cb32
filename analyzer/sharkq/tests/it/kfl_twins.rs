//! What KFL selects: each text of `fixtures/kfl` selects a row and leaves out a row of the seeded tables, and the same rows as
//! its SQL twin, which a person wrote. The published examples lie outside; where they are there, they pass the same test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use shark_schema::tables::TABLES;
use sharkq::kfl::{self, Program, fields};
use sharkq::session::Session;

use crate::kfl_rows::{self, NOW_NS};
use crate::programs::FIXTURES;

/// A text, what it is called, and its twin; a text that no row can answer has none.
struct Case {
    name: String,
    text: String,
    twin: Option<String>,
}

#[test]
fn each_text_selects_what_its_twin_selects() {
    let twins = pairs("twins.sql");
    let texts = pairs("texts.kfl");
    let names: BTreeSet<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
    let orphans: Vec<_> = twins.iter().filter(|(name, _)| !names.contains(name.as_str())).collect();
    assert!(orphans.is_empty() && names.len() == texts.len(), "twins without a text: {orphans:?}");
    let twins: BTreeMap<String, String> = twins.into_iter().collect();
    let cases: Vec<Case> =
        texts.into_iter().map(|(name, text)| Case { twin: twins.get(&name).cloned(), name, text }).collect();
    let excepted = judge(&cases);
    // Exactly these ask for what has no table or no source yet.
    let expected = ["gql-operation", "annotations", "tcp-metrics", "tcp-payload"];
    assert_eq!(excepted, expected);
}

#[test]
fn published_examples_select_what_their_twins_select() {
    let Some(examples) = examples() else { return };
    let cases = published(examples.iter().filter(|example| !example.is_v1()));
    assert_eq!(cases.len(), 216, "all examples of KFL2");
    // Their pages give the command of PostgreSQL in two ways, as `SELECT` and as `COM_QUERY`; it is the former here.
    let without: Vec<String> = judge(&cases);
    assert_eq!(without, ["117"]);
}

/// Texts of KFL v1 whose fields are here. What the others are told is in `examples.refusals`.
#[test]
fn published_v1_texts_select_what_their_twins_select() {
    let Some(examples) = examples() else { return };
    let accepted =
        examples.iter().filter(|example| example.is_v1() && kfl::compile(&example.text, NOW_NS).is_ok());
    let cases = published(accepted);
    let is_constant = |case: &&Case| case.twin.as_ref().is_some_and(|twin| twin.parse::<bool>().is_ok());
    let constant = cases.iter().filter(is_constant).count();
    // One writes a pattern as a name, which no pod can have.
    assert_eq!(judge(&cases), ["236"]);
    assert_eq!((cases.len(), constant), (94, 29));
}

/// Every field that has a source is asked for by some text, every field's expression has its type.
#[test]
fn every_field_is_asked_for() {
    let texts = pairs("texts.kfl");
    let mut forgotten = Vec::new();
    for field in fields::all() {
        let names: Vec<&str> = std::iter::once(field.name).chain(field.aliases.iter().copied()).collect();
        let is_asked = || {
            texts.iter().any(|(_, text)| {
                let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
                words.clone().any(|word| {
                    names.iter().any(|name| word == *name || word.starts_with(&format!("{name}.")))
                })
            })
        };
        let Some(expression) = kfl::expression(field) else { continue };
        if !is_asked()
            && field.protocol().is_none_or(|(_, table)| shark_schema::tables::table(table).is_some())
        {
            forgotten.push(field.name);
        }
        let kind = kfl::engine_type(&expression).unwrap_or_else(|| panic!("{} has no type", field.name));
        use arrow::datatypes::DataType;
        let fits = match field.kind {
            kfl::Type::Bool => kind == DataType::Boolean,
            kfl::Type::Int | kfl::Type::Micros => kind.is_integer(),
            kfl::Type::Double => kind.is_floating(),
            kfl::Type::Text | kfl::Type::Ip => kind.is_string(),
            kfl::Type::Time => matches!(kind, DataType::Timestamp(..)),
            kfl::Type::List(_) => matches!(kind, DataType::List(_)),
            kfl::Type::Map => matches!(kind, DataType::Map(..)),
            _ => false,
        };
        assert!(fits, "{} is {} but gives {kind}", field.name, field.kind.name());
    }
    assert!(forgotten.is_empty(), "no text asks for {forgotten:?}");
}

/// Runs all cases; the names of those that have no twin, which must select nothing.
fn judge(cases: &[Case]) -> Vec<String> {
    let seeded = Seeded::new();
    let (mut excepted, mut wrong) = (Vec::new(), Vec::new());
    for case in cases {
        let program = match kfl::compile(&case.text, NOW_NS) {
            Ok(program) => program,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let rows = seeded.selected(&program);
        let Some(twin) = &case.twin else {
            if !rows.is_empty() {
                wrong.push(format!("{}: has no twin, but selects {} rows", case.name, rows.len()));
            }
            excepted.push(case.name.clone());
            continue;
        };
        // What asks nothing of a row is all or nothing, and only that.
        let is_constant = program.condition.column_refs().is_empty();
        if let (true, Ok(all)) = (is_constant, twin.parse::<bool>()) {
            if rows.len() != if all { seeded.all } else { 0 } {
                wrong.push(format!("{}: {} rows, but it is always {all}", case.name, rows.len()));
            }
            continue;
        }
        let expected = seeded.ids(&spelled_out(twin));
        if rows != expected {
            let more: Vec<_> = rows.difference(&expected).take(3).collect();
            let fewer: Vec<_> = expected.difference(&rows).take(3).collect();
            wrong.push(format!(
                "{}: {} rows, {} by its twin; only here {more:?}, only there {fewer:?}\n  {}",
                case.name,
                rows.len(),
                expected.len(),
                program.sql().unwrap_or_default()
            ));
        } else if rows.is_empty() || rows.len() == seeded.all {
            wrong.push(format!("{}: proves nothing, it selects {} rows", case.name, rows.len()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    excepted
}

/// `table: condition ; table: condition` as one statement that gives ids.
pub fn spelled_out(twin: &str) -> String {
    let mut parts = Vec::new();
    let calls = || TABLES.iter().filter(|table| table.call.is_some()).map(|table| table.name);
    for part in twin.split(" ; ") {
        let (tables, condition) = part.split_once(": ").expect("tables and a condition");
        let selects = |table: &str| format!("SELECT call_id AS id FROM {table} WHERE {condition}");
        let flows = format!("SELECT flow_id AS id FROM flows WHERE {condition}");
        let on = |table: &str| {
            format!(
                "SELECT call_id AS id FROM {table} WHERE flow_id IN (SELECT flow_id FROM flows WHERE {condition})"
            )
        };
        match tables {
            "flows" => parts.push(flows),
            "calls" => parts.extend(calls().map(selects)),
            "others" => {
                parts.extend(calls().filter(|table| !["http", "dns"].contains(table)).map(selects));
            }
            "all" => parts.extend(calls().map(selects).chain([flows])),
            "ends" => parts.extend(calls().map(on).chain([flows])),
            one => parts.push(selects(one)),
        }
    }
    parts.join(" UNION ALL ")
}

/// The seeded tables, open.
pub struct Seeded {
    _folder: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub session: Session,
    pub all: usize,
}

impl Seeded {
    pub fn new() -> Seeded {
        let folder = tempfile::tempdir().expect("a folder");
        kfl_rows::write(folder.path());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let session = Session::open(folder.path(), 2, Default::default()).expect("the tables open");
        let mut seeded = Seeded { _folder: folder, runtime, session, all: 0 };
        seeded.all = seeded.ids(&spelled_out("all: true")).len();
        seeded
    }

    /// Ids of the entries a program selects.
    pub fn selected(&self, program: &Program) -> BTreeSet<String> {
        let columns = [("id", "coalesce(call_id, flow_id)")];
        let answer = self.runtime.block_on(self.session.entries(program, &columns, None));
        texts(&[answer.unwrap_or_else(|error| panic!("{error}: {}", program.sql().unwrap_or_default()))])
    }

    pub fn ids(&self, sql: &str) -> BTreeSet<String> {
        texts(&self.runtime.block_on(self.session.run(sql)).unwrap_or_else(|error| panic!("{error}: {sql}")))
    }
}

fn texts(answers: &[sharkq::session::Answer]) -> BTreeSet<String> {
    let batches = answers.iter().flat_map(|answer| &answer.batches);
    let ids: Vec<String> = batches
        .flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten().map(String::from))
        .collect();
    let set: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "each entry is selected once");
    set
}

/// Names and texts of a file, without its comments.
pub fn pairs(name: &str) -> Vec<(String, String)> {
    let path = Path::new(FIXTURES).join("kfl").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('\t').unwrap_or_else(|| panic!("no tab in {line}"))).map(owned).collect()
}

fn owned((name, text): (&str, &str)) -> (String, String) {
    (name.into(), text.into())
}

/// A published expression.
pub struct Example {
    pub line: usize,
    pub text: String,
    dialect: String,
}

impl Example {
    /// All that is not KFL2 and nothing else.
    pub fn is_v1(&self) -> bool {
        !self.dialect.starts_with("kfl2 |")
    }
}

fn published<'a>(examples: impl Iterator<Item = &'a Example>) -> Vec<Case> {
    let twins: BTreeMap<String, String> = pairs("examples.twins").into_iter().collect();
    let case = |example: &Example| {
        let name = example.line.to_string();
        Case { twin: twins.get(&name).cloned(), name, text: example.text.clone() }
    };
    examples.map(case).collect()
}

/// The published examples, which lie beside the corpus.
pub fn examples() -> Option<Vec<Example>> {
    let corpus = std::env::var_os("SHARK_CORPUS").map(PathBuf::from);
    let path = corpus
        .and_then(|corpus| Some(corpus.parent()?.join("kfl/examples.tsv")))
        .filter(|path| path.exists());
    let Some(path) = path else {
        eprintln!("skipped: SHARK_CORPUS names no folder beside kfl/examples.tsv");
        return None;
    };
    let text = std::fs::read_to_string(path).expect("it can be read");
    let example = |(number, line): (usize, &str)| {
        let (text, dialect) = line.split_once('\t')?;
        Some(Example { line: number + 1, text: text.into(), dialect: dialect.into() })
    };
    Some(text.lines().enumerate().filter_map(example).collect())
}
