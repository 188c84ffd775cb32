//! Statements and commands, whoever types them: `-c`, a file, a pipe or a person. In: lines. Out: answers, and what psql's
//! backslash commands and DuckDB's dot commands print. It keeps what they set.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use shark_schema::reference::type_name;
use shark_schema::table::paragraph;
use shark_schema::views::names;

use super::open::{Footers, Opened};
use super::private;
use crate::print::{Format, Layout, expanded, in_zone, print};
use crate::session::{Answer, suggestion};

/// Commands with their twins, arguments and what they do.
pub const COMMANDS: &[(&str, &str, &str, &str)] = &[
    ("\\d", ".schema", "[TABLE]", "list the tables, or the columns of one"),
    ("\\d+", "", "TABLE", "columns with their meaning and their names elsewhere"),
    ("\\dt", ".tables", "", "list the tables"),
    ("\\df", "", "", "list the functions"),
    ("\\x", "", "[on|off|auto]", "print each column on its own line"),
    ("\\timing", ".timer", "[on|off]", "print how long each statement took"),
    ("\\f", ".mode", "FORMAT", "table, csv, tsv, json, ndjson, markdown"),
    ("\\o", ".output", "[FILE]", "write results to a file; without one to the terminal again"),
    ("\\i", ".read", "FILE", "run the statements of a file"),
    ("\\?", ".help", "", "this list"),
    ("\\q", ".quit", "", "end"),
];

/// Whether columns stand below each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expand {
    /// Always.
    On,
    /// Never.
    Off,
    /// Where a table would be wider than this many characters.
    WiderThan(usize),
}

/// What was set, and what was found.
pub struct Shell {
    /// The recording.
    pub opened: Opened,
    /// Lines of a statement that is not complete.
    pending: String,
    /// Output format.
    pub layout: Layout,
    /// Layout of tables.
    pub expand: Expand,
    /// Width of the terminal, where there is one.
    pub width: Option<usize>,
    timing: bool,
    /// Files that read each other.
    depth: usize,
    file: Option<(String, File)>,
    /// What stands under answers.
    pub footers: Footers,
    /// Rows of all answers.
    pub rows: usize,
    /// A person types the lines: they may name files.
    pub opens_files: bool,
    /// Lines of scripts may, too.
    pub scripts_open_files: bool,
    /// Ctrl-C ends the statement that runs, and not the program.
    pub cancels: bool,
}

/// Whether more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next line.
    Line,
    /// Nothing: it was told to end.
    End,
}

impl Shell {
    /// Over a recording.
    pub fn new(opened: Opened, layout: Layout, footers: Footers) -> Shell {
        let (pending, expand) = (String::new(), Expand::Off);
        let (width, timing, file) = (None, false, None);
        Shell {
            opened,
            pending,
            layout,
            expand,
            width,
            timing,
            depth: 0,
            file,
            footers,
            rows: 0,
            opens_files: false,
            scripts_open_files: false,
            cancels: false,
        }
    }

    /// True inside a statement.
    pub fn is_pending(&self) -> bool {
        !self.pending.trim().is_empty()
    }

    /// Forgets a statement that is not complete.
    pub fn forget(&mut self) {
        self.pending.clear();
    }

    /// Runs all of a text: its last statement needs no semicolon.
    pub fn text(&mut self, text: &str, out: &mut dyn Write) -> anyhow::Result<Next> {
        for line in text.lines() {
            if self.line(line, out)? == Next::End {
                return Ok(Next::End);
            }
        }
        let rest = std::mem::take(&mut self.pending);
        if !rest.trim().is_empty() {
            self.statement(&rest, out)?;
        }
        Ok(Next::Line)
    }

    /// Takes a line; runs the statements that end on it.
    pub fn line(&mut self, line: &str, out: &mut dyn Write) -> anyhow::Result<Next> {
        let word = line.trim_start();
        let is_command = word.starts_with('\\')
            || word.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        if !self.is_pending() && is_command {
            return self.command(word.trim_end(), out);
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        while let Some(end) = statement_end(&self.pending) {
            let rest = self.pending.split_off(end);
            let statement = std::mem::replace(&mut self.pending, rest);
            self.statement(&statement, out)?;
        }
        Ok(Next::Line)
    }

    fn statement(&mut self, sql: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let started = Instant::now();
        let answers = self.answers(sql)?;
        for answer in answers {
            self.rows += answer.batches.iter().map(|batch| batch.num_rows()).sum::<usize>();
            let answer = in_zone_of(answer, self)?;
            match &mut self.file {
                Some((name, file)) => {
                    print(&answer, self.layout, file).with_context(|| format!("{name} cannot be written"))?;
                }
                None => self.print(&answer, out)?,
            }
            // Before what stands under it on standard error.
            out.flush()?;
            self.footers.under(&answer, &self.opened)?;
        }
        if self.timing {
            writeln!(out, "Time: {:.3} ms", started.elapsed().as_secs_f64() * 1_000.0)?;
        }
        Ok(())
    }

    fn answers(&self, sql: &str) -> anyhow::Result<Vec<Answer>> {
        let session = std::sync::Arc::clone(&self.opened.session);
        if !self.cancels {
            return Ok(self.opened.runtime.block_on(session.run(sql))?);
        }
        let sql = sql.to_owned();
        self.opened.runtime.block_on(async move {
            let mut task = tokio::spawn(async move { session.run(&sql).await });
            tokio::select! {
                done = &mut task => Ok(done.context("the query ended early")??),
                _ = tokio::signal::ctrl_c() => {
                    task.abort();
                    bail!("cancelled");
                }
            }
        })
    }

    fn print(&self, answer: &Answer, out: &mut dyn Write) -> anyhow::Result<()> {
        let wide = |most: usize| -> anyhow::Result<bool> {
            let mut text = Vec::new();
            print(answer, Layout::of(Format::Table), &mut text)?;
            let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            Ok(String::from_utf8_lossy(first).chars().count() > most)
        };
        let expand = match self.expand {
            Expand::On => true,
            Expand::Off => false,
            Expand::WiderThan(most) => wide(most)?,
        };
        if self.layout.format == Format::Table && expand {
            expanded(answer, out)
        } else {
            print(answer, self.layout, out)
        }
    }

    fn command(&mut self, line: &str, out: &mut dyn Write) -> anyhow::Result<Next> {
        let line = line.trim_end_matches(';');
        let (word, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        let canonical =
            COMMANDS.iter().find(|(name, twin, ..)| *name == word || (!twin.is_empty() && *twin == word));
        match canonical.map_or("", |(name, ..)| *name) {
            "\\q" => return Ok(Next::End),
            "\\d" if argument.is_empty() => list(out)?,
            "\\d" => self.describe(argument, false, out)?,
            "\\d+" => self.describe(argument, true, out)?,
            "\\dt" => list(out)?,
            "\\df" => self.opened.session.functions().iter().try_for_each(|name| writeln!(out, "{name}"))?,
            "\\x" => {
                let auto = Expand::WiderThan(self.width.unwrap_or(WIDTH));
                self.expand = match (argument, self.expand) {
                    ("on", _) | ("", Expand::Off) => Expand::On,
                    ("off", _) | ("", Expand::On) => Expand::Off,
                    ("auto", _) => auto,
                    ("", Expand::WiderThan(_)) => Expand::On,
                    _ => bail!("\\x: on, off or auto"),
                };
                let state = match self.expand {
                    Expand::On => "on",
                    Expand::Off => "off",
                    _ => "used where a table is too wide",
                };
                writeln!(out, "Expanded display is {state}.")?;
            }
            "\\timing" => {
                self.timing = match argument {
                    "on" => true,
                    "off" => false,
                    "" => !self.timing,
                    _ => bail!("\\timing: on or off"),
                };
                writeln!(out, "Timing is {}.", if self.timing { "on" } else { "off" })?;
            }
            "\\f" => {
                self.layout.format = <Format as clap::ValueEnum>::from_str(argument, true).map_err(|_| {
                    anyhow::anyhow!("{argument} is no format; table, csv, tsv, json, ndjson or markdown")
                })?;
            }
            "\\o" if argument.is_empty() => self.file = None,
            "\\o" => {
                self.may_open(word)?;
                let file =
                    private(Path::new(argument)).with_context(|| format!("{argument} cannot be written"))?;
                self.file = Some((argument.into(), file));
            }
            "\\i" => {
                self.may_open(word)?;
                let text = std::fs::read_to_string(argument)
                    .with_context(|| format!("{argument} cannot be read"))?;
                anyhow::ensure!(self.depth < DEPTH, "{argument}: more than {DEPTH} files read each other");
                self.depth += 1;
                let next = self.text(&text, out);
                self.depth -= 1;
                return next;
            }
            "\\?" => {
                for (name, twin, arguments, what) in COMMANDS {
                    writeln!(out, "{:<24} {:<9} {what}", format!("{name} {arguments}"), twin)?;
                }
                writeln!(
                    out,
                    "Statements end with a semicolon. Ctrl-C cancels the one that runs, Ctrl-D ends."
                )?;
            }
            _ => bail!("there is no command {word}; \\? lists them"),
        }
        Ok(Next::Line)
    }

    /// A script that came from elsewhere must not read or overwrite what its writer could not.
    fn may_open(&self, word: &str) -> anyhow::Result<()> {
        let is_typed = self.opens_files && self.depth == 0;
        anyhow::ensure!(
            is_typed || self.scripts_open_files,
            "{word} names a file, which scripts may not; --allow-files lets them"
        );
        Ok(())
    }

    fn describe(&self, name: &str, fully: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        let columns = self.opened.runtime.block_on(self.opened.session.columns(name));
        let Some(columns) = columns else {
            let names: Vec<&str> = names().map(|(name, _)| name).collect();
            let hint = suggestion(name, &names);
            bail!("there is no table {name}{hint} (\\d lists them)");
        };
        let doc = names().find(|(known, _)| *known == name).map(|(_, doc)| doc);
        writeln!(out, "{}\n", doc.unwrap_or_default())?;
        let described = shark_schema::views::columns(name);
        for (column, kind) in columns {
            let known = described.iter().find(|known| known.name == column);
            let mut line = format!("{column:<26} {:<16}", type_name(&kind));
            if let (true, Some(known)) = (fully, known) {
                line.push_str(&format!(" {}", paragraph(known.doc)));
                let elsewhere: Vec<String> =
                    known.metadata.iter().map(|(key, name)| format!("{key}={name}")).collect();
                if !elsewhere.is_empty() {
                    line.push_str(&format!(" [{}]", elsewhere.join(", ")));
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A file that reads itself would never end.
const DEPTH: usize = 16;

/// Where a terminal does not tell its width.
const WIDTH: usize = 80;

/// Times are read in the zone asked for; programs get them as they are stored.
fn in_zone_of(answer: Answer, shell: &Shell) -> anyhow::Result<Answer> {
    let is_for_people = matches!(shell.layout.format, Format::Table | Format::Markdown);
    if is_for_people { in_zone(answer, &shell.opened.zone) } else { Ok(answer) }
}

fn list(out: &mut dyn Write) -> std::io::Result<()> {
    names().try_for_each(|(name, doc)| writeln!(out, "{name:<18} {doc}"))
}

/// Offset behind the semicolon that ends the first statement: not in quotes, not in a comment.
fn statement_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let skip = |until: &str, from: usize| text[from..].find(until).map(|end| from + end + until.len());
        at = match bytes[at] {
            b';' => return Some(at + 1),
            // A doubled quote inside is two texts that touch.
            b'\'' => skip("'", at + 1)?,
            b'"' => skip("\"", at + 1)?,
            b'-' if text[at..].starts_with("--") => skip("\n", at)?,
            b'/' if text[at..].starts_with("/*") => skip("*/", at + 2)?,
            _ => at + 1,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_a_semicolon_that_is_not_quoted() {
        let first = |text: &'static str| statement_end(text).map(|end| &text[..end]);
        assert_eq!(first("SELECT 1; SELECT 2;"), Some("SELECT 1;"));
        assert_eq!(first("SELECT ';'"), None);
        assert_eq!(first("SELECT 'it''s;', \";\" -- ;\n ;x"), Some("SELECT 'it''s;', \";\" -- ;\n ;"));
        assert_eq!(first("SELECT /* ; */ 1"), None);
        assert_eq!(first("SELECT 'open;\n"), None);
        assert_eq!(first("SELECT 'ä;ö';"), Some("SELECT 'ä;ö';"));
    }
}
