//! Progress on a terminal, and nothing anywhere else.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::rounds::Round;

/// A bar on standard error.
pub struct Progress(ProgressBar);

impl Progress {
    /// Counts captured bytes; hidden unless standard error is a terminal.
    pub fn new(what: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{spinner} {msg}: {bytes} ({bytes_per_sec}) in {elapsed}");
        let bar = ProgressBar::new_spinner().with_message(what.to_string());
        Progress(bar.with_style(style.expect("the template is well formed")))
    }

    /// Counts a round.
    pub fn add(&self, round: &Round) {
        self.0.inc(round.parts.iter().map(|part| part.bytes()).sum());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
