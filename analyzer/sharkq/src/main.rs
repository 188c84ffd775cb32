//! The program `sharkq`: everything is in the library.

fn main() -> std::process::ExitCode {
    sharkq::cli::main()
}
