//! `shark-bench`: makes captures, compares programs over them, checks memory. See `benches/README.md`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shark-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
