//! The program `sharkq`: everything is in the library.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;

fn main() -> ExitCode {
    tell_allocator();
    sharkq::cli::main()
}

/// How many arenas glibc's allocator may have (mallopt(3)). Each keeps what was freed in it, and by default there are eight a core:
/// long runs would hold much more than they use. One a core is enough, since no more threads than that allocate at a time.
const ARENAS: &str = "MALLOC_ARENA_MAX";
/// Free memory at the top of an arena that it gives back and that it takes in advance. Said once, they also keep the size above which
/// a buffer has pages of its own where it is: such buffers grow without being copied and are given back at once.
const PAGES: [(&str, &str); 2] = [("MALLOC_TRIM_THRESHOLD_", "268435456"), ("MALLOC_TOP_PAD_", "8388608")];

/// The allocator reads its variables once, when a program begins: so it begins again with them.
fn tell_allocator() {
    if cfg!(target_env = "gnu") && std::env::var_os(ARENAS).is_none() {
        let (Ok(program), Ok(cores)) = (std::env::current_exe(), available_parallelism()) else { return };
        let mut again = Command::new(program);
        again.args(std::env::args_os().skip(1)).env(ARENAS, cores.to_string());
        again.envs(PAGES.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        if let Some(name) = std::env::args_os().next() {
            again.arg0(name);
        }
        // Where this fails, the program goes on as it is.
        let _ = again.exec();
    }
}
