//! The program `sharkq`: everything is in the library.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;

fn main() -> ExitCode {
    limit_arenas();
    sharkq::cli::main()
}

/// How many arenas glibc's allocator may have (mallopt(3)); it reads this once, when a program begins.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Each arena keeps what was freed in it, and by default there are eight a core: long runs would hold much more than they use. One a
/// core is enough, since no more threads than that allocate at a time.
fn limit_arenas() {
    if cfg!(target_env = "gnu") && std::env::var_os(ARENAS).is_none() {
        let (Ok(program), Ok(cores)) = (std::env::current_exe(), available_parallelism()) else { return };
        let mut again = Command::new(program);
        again.args(std::env::args_os().skip(1)).env(ARENAS, cores.to_string());
        if let Some(name) = std::env::args_os().next() {
            again.arg0(name);
        }
        // Where this fails, the program goes on as it is.
        let _ = again.exec();
    }
}
