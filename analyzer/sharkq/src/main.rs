//! The program `sharkq`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sharkq::cli::main()
}
