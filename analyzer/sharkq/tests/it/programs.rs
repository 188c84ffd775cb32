//! The programs under test and those they are tested with. In: a name. Out: a command that ends within a bound.
//! It must never run a program that this workspace did not build under the name of one that it did.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Files of the little shop, made by `fixtures/make`.
pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

/// Succeeds once `sharkrec` records into the ring on a desk; its sockets are there earlier than their rings.
pub const READY: &str = "test -S \"$DESK/ring/control.sock\"";

/// Where `cargo build --workspace --bins` put the programs of this workspace.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sharkq")).parent().expect("the program lies in a folder")
}

/// A program of this workspace that is not of this crate.
pub fn built(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins` first, as deploy/test.sh does",
        path.display()
    );
    path
}

/// A command that is ended, with all it started, when it takes longer than this.
pub fn within(seconds: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string()]).arg(program).stdin(Stdio::null());
    command
}

/// The same for a command that may have so many bytes of memory: one more, and Rust aborts it.
pub fn of_memory(bytes: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = within(500, "prlimit");
    command.arg(format!("--data={bytes}")).arg(program);
    command
}

/// What a command that must succeed gave.
pub fn finished(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Standard output of a command that must succeed.
pub fn printed(command: &mut Command) -> String {
    String::from_utf8(finished(command).stdout).expect("text")
}

pub fn is_installed(program: &str) -> bool {
    let question = format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}");
    let found = within(5, "sh")
        .args(["-c", &question])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Whether network namespaces can be made here; the shop knows.
pub fn is_permitted() -> bool {
    let output = within(30, built("shark-shop")).arg("probe").output().expect("the command starts");
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{words}");
        eprintln!("skipped: {words}");
    }
    output.status.success()
}

/// The Python that deploy/test.sh has put these modules into.
pub fn python_with(modules: &str) -> Option<String> {
    let cache = std::env::var("XDG_CACHE_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")));
    let candidates =
        [std::env::var("SHARK_PYTHON").ok(), cache.ok().map(|at| format!("{at}/sharkrec/venv/bin/python"))];
    let import = format!("import {modules}");
    let found = candidates.into_iter().flatten().find(|python| {
        let imported = within(60, python).args(["-c", &import]).stderr(Stdio::null()).status();
        Path::new(python).exists() && imported.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        eprintln!("skipped: no Python with {modules}; deploy/test.sh makes one");
    }
    found
}
