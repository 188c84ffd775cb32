//! The program: everything is in the library, the one place that prints an error is here.

use std::process::ExitCode;

fn main() -> ExitCode {
    match sharkrec::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closed the pipe has what it wanted.
        Err(error) if sharkrec::cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sharkrec: {}", shark_schema::shown::shown(&sharkrec::cli::sentence(&error)));
            ExitCode::FAILURE
        }
    }
}
