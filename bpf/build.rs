//! Compiles `src/programs/*.bpf.c` with clang. In: sources, and $CLANG where one is wanted. Out: objects in `OUT_DIR`.
//! Without a clang that can do it, the objects in `prebuilt/` are taken, and cargo says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PROGRAMS: &[&str] = &["any_socket", "processes", "sockets", "tls"];
const CLANGS: &[&str] = &["clang-19", "clang", "clang-14"];

fn main() {
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-changed=src/programs/kernel.h");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in PROGRAMS {
        let source = format!("src/programs/{name}.bpf.c");
        let prebuilt = format!("prebuilt/{name}.bpf.o");
        println!("cargo:rerun-if-changed={source}");
        println!("cargo:rerun-if-changed={prebuilt}");
        let object = out.join(format!("{name}.bpf.o"));
        if let Err(why) = compile(&source, &object) {
            println!("cargo:warning={prebuilt} is used, since {why}");
            fs::copy(&prebuilt, &object).unwrap_or_else(|error| panic!("{prebuilt}: {error}"));
        }
    }
}

/// The first clang that succeeds; what the last one said otherwise.
fn compile(source: &str, object: &Path) -> Result<(), String> {
    let chosen = env::var("CLANG").ok();
    let candidates = chosen.as_deref().into_iter().chain(CLANGS.iter().copied());
    let mut why = String::from("no clang was found (set CLANG)");
    for clang in candidates {
        // The debug information holds the BTF by which maps are described.
        let run = Command::new(clang)
            .args(["-target", "bpf", "-g", "-O2", "-Wall", "-Werror", "-mcpu=v3", "-c", source, "-o"])
            .arg(object)
            .output();
        match run {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                why = format!("{clang} failed: {}", text.lines().next().unwrap_or("without a word"));
            }
            Err(_) => {}
        }
    }
    Err(why)
}
