//! What is wrong with an expression: where, why and what to write instead. In: a byte span. Out: the line, a caret under
//! the span, the reason and a suggestion. It never prints control characters of the text it shows.

use std::fmt;

/// A stretch of the text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl Span {
    /// From the start of this one to the end of another.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start, end: other.end }
    }
}

/// Why a part of an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which part.
    pub span: Span,
    /// One clause, without a full stop.
    pub reason: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a suggestion.
    pub fn new(span: Span, reason: impl Into<String>) -> Fault {
        Fault { span, reason: reason.into(), hint: None }
    }

    /// With a suggestion.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// Together with the text it is about.
    pub fn of(self, text: &str) -> KflError {
        KflError { text: text.into(), fault: self }
    }
}

/// An expression that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct KflError {
    /// The expression.
    pub text: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Longer lines are shown around the fault only.
const SHOWN_CHARS: usize = 100;

impl fmt::Display for KflError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.fault.reason)?;
        let start = boundary(&self.text, self.fault.span.start);
        let end = boundary(&self.text, self.fault.span.end.max(start));
        let from = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = self.text[from..].find('\n').map_or(self.text.len(), |at| from + at);
        let line: Vec<char> = self.text[from..to].chars().map(printable).collect();
        let at = self.text[from..start].chars().count();
        let wide = self.text[start..end.min(to).max(start)].chars().count().max(1);
        let first = at.saturating_sub(SHOWN_CHARS / 2);
        let last = line.len().min(first + SHOWN_CHARS);
        let shown: String = line[first.min(last)..last].iter().collect();
        let before = if first > 0 { "…" } else { "" };
        let after = if last < line.len() { "…" } else { "" };
        writeln!(out, "  {before}{shown}{after}")?;
        let carets = wide.min(SHOWN_CHARS.saturating_sub(at - first).max(1));
        let indent = " ".repeat(at - first + before.chars().count());
        write!(out, "  {indent}{}", "^".repeat(carets))?;
        self.fault.hint.as_ref().map_or(Ok(()), |hint| write!(out, "\n  {hint}"))
    }
}

fn printable(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

/// The nearest start of a character at or before a byte.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
