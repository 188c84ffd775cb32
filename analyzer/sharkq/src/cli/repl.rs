//! `sharkq sql SRC` at a terminal: a prompt with history and completion. In: keys. Out: what the shell answers.
//! Ctrl-C ends the line or the query that runs, never the program; Ctrl-D ends it.

use std::io::stdout;
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use shark_schema::views::{self, names};

use super::shell::{COMMANDS, Expand, Next, Shell};
use super::{complain, tell};
use crate::kfl::entries::COLUMNS;

/// Reads and answers until the end.
pub fn run(shell: &mut Shell) -> anyhow::Result<()> {
    let config = Config::builder().completion_type(CompletionType::List).max_history_size(10_000)?.build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Words::of(shell)));
    let history = history();
    if let Some(path) = &history {
        // There is none before the first time.
        let _ = editor.load_history(path);
    }
    shell.cancels = true;
    shell.opens_files = true;
    shell.width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    shell.expand = shell.width.map_or(Expand::Off, Expand::WiderThan);
    println!("sharkq {}; \\? lists commands, \\d tables, \\q ends", env!("CARGO_PKG_VERSION"));
    loop {
        let line = match editor.readline(if shell.is_pending() { "     -> " } else { "sharkq> " }) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                shell.forget();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        if !line.trim().is_empty() {
            editor.add_history_entry(&line)?;
        }
        match shell.line(&line, &mut stdout().lock()) {
            Ok(Next::Line) => {}
            Ok(Next::End) => break,
            Err(error) => {
                shell.forget();
                complain(&error);
            }
        }
    }
    if let Some(path) = &history {
        save(&mut editor, path);
    }
    Ok(())
}

/// What was asked may be as secret as the answer: only its owner reads it.
fn save(editor: &mut Editor<Words, FileHistory>, path: &PathBuf) {
    let folder = path.parent().map(std::fs::create_dir_all);
    if let Some(Err(error)) =
        folder.map(|made| made.and_then(|()| editor.save_history(path).map_err(std::io::Error::other)))
    {
        tell(format_args!("sharkq: the history {} is not saved: {error}", path.display()));
    }
}

/// `SHARKQ_HISTORY`, else below the state folder of the XDG Base Directory Specification.
fn history() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SHARKQ_HISTORY") {
        return (!path.is_empty()).then(|| path.into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    Some(state?.join("sharkq/history"))
}

/// What a word can become.
struct Words {
    tables: Vec<(String, Vec<String>)>,
    functions: Vec<String>,
}

const KEYWORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "ORDER",
    "BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "LEFT",
    "INNER",
    "ON",
    "USING",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "LIKE",
    "ILIKE",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "DISTINCT",
    "UNION",
    "ALL",
    "EXCEPT",
    "INTERSECT",
    "WITH",
    "ASC",
    "DESC",
    "NULLS",
    "FIRST",
    "LAST",
    "OVER",
    "PARTITION",
    "FILTER",
    "WITHIN",
    "INTERVAL",
    "TIMESTAMP",
    "EXPLAIN",
    "ANALYZE",
    "DESCRIBE",
    "SHOW",
    "TABLES",
    "CAST",
    "EXISTS",
    "TRUE",
    "FALSE",
];

impl Words {
    fn of(shell: &Shell) -> Words {
        let columns = |name: &str| match name {
            views::ENTRIES => COLUMNS.iter().map(|column| column.name.clone()).collect(),
            _ => views::columns(name).iter().map(|column| column.name.to_owned()).collect(),
        };
        let tables = names().map(|(name, _)| (name.to_owned(), columns(name))).collect();
        Words { tables, functions: shell.opened.session.functions() }
    }

    /// Candidates for the word that begins at `start`.
    fn candidates(&self, line: &str, start: usize, word: &str) -> Vec<String> {
        if start == 0 && word.starts_with(['\\', '.']) {
            let commands = COMMANDS.iter().flat_map(|(name, twin, ..)| [*name, *twin]);
            return commands
                .filter(|name| !name.is_empty() && name.starts_with(word))
                .map(str::to_owned)
                .collect();
        }
        let before = line[..start].trim_end();
        let last = before
            .rsplit(|c: char| c.is_whitespace() || c == '(')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let wants_table = ["FROM", "JOIN", "DESCRIBE"].contains(&last.as_str())
            || before.starts_with('\\')
            || before == ".schema";
        let fits = |name: &&str| {
            name.len() >= word.len()
                && name.is_char_boundary(word.len())
                && name[..word.len()].eq_ignore_ascii_case(word)
        };
        let tables = self.tables.iter().map(|(name, _)| name.as_str());
        if wants_table {
            return tables.filter(fits).map(str::to_owned).collect();
        }
        // Columns of the tables named, or of all of them while none is.
        let is_named =
            |name: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
        let any_named = self.tables.iter().any(|(name, _)| is_named(name));
        let columns = self
            .tables
            .iter()
            .filter(|(name, _)| !any_named || is_named(name))
            .flat_map(|(_, columns)| columns);
        let mut found: Vec<String> = columns.map(String::as_str).filter(fits).map(str::to_owned).collect();
        if !word.is_empty() {
            found.extend(tables.filter(fits).map(str::to_owned));
            found.extend(KEYWORDS.iter().copied().filter(fits).map(str::to_owned));
            found.extend(
                self.functions.iter().map(String::as_str).filter(fits).map(|name| format!("{name}(")),
            );
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\\' | '+' | '?');
        let start = line[..at]
            .rfind(|c: char| !is_word(c))
            .map_or(0, |found| found + line[found..].chars().next().map_or(1, char::len_utf8));
        let start = if line[..at].starts_with('.') && !line[..at].contains(' ') { 0 } else { start };
        let words = self.candidates(line, start, &line[start..at]);
        Ok((start, words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_by_where_they_stand() {
        let table = |name: &str, columns: &[&str]| {
            (name.to_owned(), columns.iter().map(|c| (*c).to_owned()).collect())
        };
        let tables = vec![table("http", &["status_code", "path"]), table("dns", &["query", "qtype"])];
        let words = Words { tables, functions: vec!["count".into()] };
        let ask = |line: &str| {
            let start = line.rfind([' ', '(']).map_or(0, |at| at + 1);
            words.candidates(line, start, &line[start..])
        };
        assert_eq!(ask("SELECT * FROM h"), ["http"]);
        assert_eq!(ask("\\d d"), ["dns"]);
        assert_eq!(ask("SELECT stat"), ["status_code"]);
        assert!(ask("SELECT q").iter().any(|word| word == "query"));
        assert!(ask("SELECT * FROM http WHERE q").is_empty(), "no column of http begins so");
        assert_eq!(ask("SELECT cou"), ["count("]);
        assert_eq!(ask("\\ti"), ["\\timing"]);
        assert_eq!(ask("sel"), ["SELECT"]);
    }
}
