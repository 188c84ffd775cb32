//! The program `sharkq`: everything is in the library.

use std::process::ExitCode;

/// Threads take and give back most of what they work on, large and small: this allocator lets them do it
/// without each other, and keeps the pages of large buffers for the next ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sharkq::cli::main()
}
