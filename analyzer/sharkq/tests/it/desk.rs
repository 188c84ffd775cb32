//! A desk to work at: a folder of its own with a cache of its own, and `sharkq` asked from there.
//! In: arguments. Out: rows, texts, or the one sentence a failure must say. Gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::programs::{of_memory, printed, within};

pub struct Desk {
    dir: TempDir,
}

impl Desk {
    pub fn new() -> Desk {
        Desk { dir: tempfile::tempdir().expect("a folder") }
    }

    /// A place in the desk's folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// `sharkq`, with nothing in its environment but what a test gives it.
    pub fn sharkq(&self) -> Command {
        self.here(within(300, env!("CARGO_BIN_EXE_sharkq")))
    }

    /// The same, aborted once it wants more memory than this.
    pub fn sharkq_of(&self, bytes: usize) -> Command {
        self.here(of_memory(bytes, env!("CARGO_BIN_EXE_sharkq")))
    }

    fn here(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars() {
            if ["SHARKQ_", "AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env("SHARKQ_CACHE", self.at("cache")).current_dir(self.folder());
        command
    }

    /// Rows of one statement over one source.
    pub fn rows(&self, source: &Path, sql: &str) -> Vec<Value> {
        self.rows_with(source, sql, &[])
    }

    pub fn rows_with(&self, source: &Path, sql: &str, more: &[&str]) -> Vec<Value> {
        let mut command = self.sharkq();
        command.arg("sql").arg(source).args(more);
        let text = printed(command.args(["--format", "ndjson", "-c", sql]));
        text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
    }

    /// The one value of a statement.
    pub fn value(&self, source: &Path, sql: &str) -> Value {
        let rows = self.rows(source, sql);
        let values: Vec<&Value> = rows[0].as_object().expect("a row").values().collect();
        assert_eq!((rows.len(), values.len()), (1, 1), "{sql}");
        values[0].clone()
    }
}

/// Exit code and the one sentence of a run that must fail and print no result.
pub fn refused(output: &Output) -> (i32, String) {
    let error = String::from_utf8(output.stderr.clone()).expect("text");
    assert!(output.stdout.is_empty(), "a failure printed {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(error.lines().count(), 1, "not one sentence: {error:?}");
    (output.status.code().expect("no signal"), error.trim_end().to_owned())
}
