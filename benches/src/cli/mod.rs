//! The command line. In: arguments. Out: results on standard output, progress on standard error, an error for `main`.

mod compare;
mod generate;
mod memory;
mod rows;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use shark_benches::measure::{Job, run_here};

/// Makes captures, compares programs over them, checks memory
#[derive(Parser)]
#[command(name = "shark-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Generate(generate::Arguments),
    Compare(compare::Arguments),
    Memory(memory::Arguments),
    Rows(rows::Arguments),
    /// Run one job and print its cost
    #[command(hide = true)]
    Run {
        job: String,
    },
}

pub fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Generate(arguments) => arguments.run(),
        Command::Compare(arguments) => arguments.run(),
        Command::Memory(arguments) => arguments.run(),
        Command::Rows(arguments) => arguments.run(),
        Command::Run { job } => {
            let job: Job = serde_json::from_str(&job).context("not a job")?;
            println!("{}", serde_json::to_string(&run_here(&job)?)?);
            Ok(())
        }
    }
}

/// A program of this project: named by a flag, or beside this one.
fn program(flag: Option<&PathBuf>, name: &str) -> Result<String> {
    let path = match flag {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name(name),
    };
    anyhow::ensure!(
        path.exists(),
        "{} does not exist: build it with `cargo build --release --bin {name}`, or say where it is with --{name}",
        path.display()
    );
    Ok(path.display().to_string())
}

/// A number of bytes: 300MB, 64MiB, 1GB or plain.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("{unit} is no unit; MB, MiB, GB and GiB are")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text} is not a number of bytes"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too much"))
}
