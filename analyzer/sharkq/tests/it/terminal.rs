//! A session at a terminal, driven through tmux as a person would: completion, history, cancelling, wide rows.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::bundled::snapshot;
use crate::desk::Desk;
use crate::programs::{finished, is_installed, printed, within};

#[test]
fn a_session_at_a_terminal() {
    if !is_installed("tmux") {
        return;
    }
    let desk = Desk::new();
    let snapshot = snapshot(&desk);
    let first = Terminal::open(&desk, &snapshot, 100);
    first.wait("sharkq>");
    // A table after FROM, a column of the table that is named.
    first.keys(&["SELECT count(*) AS calls FROM ht", "Tab"]);
    first.wait("FROM http");
    first.keys(&[" WHERE status_c", "Tab"]);
    first.wait("WHERE status_code");
    first.keys(&[" >= 500;", "Enter"]);
    first.wait("| calls |");
    first.wait("(1 row)");
    first.wait("coverage: complete");
    first.wait_prompt();
    // Several candidates are listed.
    first.keys(&["\\d api_", "Tab", "Enter"]);
    first.wait("The common columns of all call tables");
    first.wait_prompt();
    // A statement over two lines, given up with Ctrl-C.
    first.keys(&["SELECT 1,", "Enter"]);
    first.wait("     ->");
    first.keys(&["C-c"]);
    first.keys(&["SELECT 'af' || 'ter' AS given_up;", "Enter"]);
    first.wait("| after ");
    first.wait_prompt();
    // Ctrl-C ends the query and not the program.
    first.keys(&["SELECT count(*) FROM http a, http b, http c, http d, http e, http f, http g;", "Enter"]);
    thread::sleep(Duration::from_millis(700));
    let asked = Instant::now();
    first.keys(&["C-c"]);
    first.wait("sharkq: cancelled");
    first.wait_prompt();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    first.keys(&["SELECT 'still ' || 'here' AS alive;", "Enter"]);
    first.wait("| still here |");
    first.wait_prompt();
    // Rows wider than the terminal are printed a column a line; narrow ones are not.
    first.keys(&["\\x auto", "Enter"]);
    first.wait("where a table is too wide");
    first.wait_prompt();
    first.keys(&["SELECT * FROM flows LIMIT 1;", "Enter"]);
    first.wait("last_frame");
    first.wait_prompt();
    let wide = first.scrollback();
    assert!(wide.contains("-[ row 1 ]") && wide.lines().any(|line| line.starts_with("flow_id ")), "{wide}");
    // An error does not end it, and names what was meant.
    first.keys(&["SELECT status_cod FROM http;", "Enter"]);
    first.wait("did you mean status_code?");
    first.wait_prompt();
    first.keys(&["C-d"]);
    first.wait_end();

    // What was typed is there the next time.
    let second = Terminal::open(&desk, &snapshot, 100);
    second.wait("sharkq>");
    second.keys(&["Up", "Up", "Up", "Up", "Enter"]);
    second.wait("| still here |");
    second.wait_prompt();
    second.keys(&["\\q", "Enter"]);
    second.wait_end();
    let history = std::fs::metadata(desk.at("history")).expect("it was saved");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(history.permissions().mode() & 0o077, 0, "only its owner reads what was asked");
}

/// A terminal with a shell in it that is gone when `sharkq` ends.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn open(desk: &Desk, source: &Path, columns: u32) -> Terminal {
        let terminal = Terminal { socket: format!("sharkq-{}", std::process::id()) };
        let command = format!(
            "env SHARKQ_CACHE='{}' SHARKQ_HISTORY='{}' '{}' sql '{}'",
            desk.at("cache").display(),
            desk.at("history").display(),
            env!("CARGO_BIN_EXE_sharkq"),
            source.display(),
        );
        let columns = columns.to_string();
        finished(terminal.tmux().args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            "50",
            &command,
        ]));
        terminal
    }

    fn tmux(&self) -> std::process::Command {
        let mut tmux = within(20, "tmux");
        tmux.args(["-L", &self.socket]);
        tmux
    }

    /// Names of keys, and texts that are typed as they are.
    fn keys(&self, keys: &[&str]) {
        for key in keys {
            let is_name = matches!(*key, "Tab" | "Enter" | "Up") || key.starts_with("C-");
            let mut send = self.tmux();
            // A semicolon at the end would end the command of tmux.
            let key = key.strip_suffix(';').map_or_else(|| (*key).to_owned(), |text| format!("{text}\\;"));
            send.arg("send-keys").args((!is_name).then_some("-l")).arg("--").arg(key);
            finished(&mut send);
        }
    }

    fn screen(&self) -> String {
        printed(self.tmux().args(["capture-pane", "-p"]))
    }

    fn scrollback(&self) -> String {
        printed(self.tmux().args(["capture-pane", "-p", "-S", "-500"]))
    }

    fn wait(&self, text: &str) {
        let start = Instant::now();
        while !self.screen().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(60), "no {text:?} in\n{}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// For the next prompt: keys that come while none is there are another's.
    fn wait_prompt(&self) {
        let start = Instant::now();
        while self.screen().trim_end().lines().last().map(str::trim_end) != Some("sharkq>") {
            assert!(start.elapsed() < Duration::from_secs(60), "no prompt in\n{}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_end(&self) {
        let start = Instant::now();
        let is_there = || {
            self.tmux().arg("has-session").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        while is_there() {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is none left after a session that ended by itself.
        let _ = self.tmux().arg("kill-server").stderr(Stdio::null()).status();
    }
}
