//! The command line: one file a subcommand.
//! In: arguments. Out: results on standard output, everything else on standard error, an error for `main` to print.

mod completions;
mod doctor;
mod estimate;
mod pcap;
mod record;
mod segments;
mod snapshot;
mod status;
mod witness;

use std::io::{self, IsTerminal};

use clap::{Parser, Subcommand};
use shark_schema::shown::{shown, shown_in_line};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

/// Records all packets of a node into a fixed disk budget, and saves windows of it
#[derive(Parser)]
#[command(name = "sharkrec", version, max_term_width = 110, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  sharkrec record --ring /var/lib/sharkrec --iface eth0 --ring-size 10GiB
  sharkrec status --ring /var/lib/sharkrec
  sharkrec snapshot --ring /var/lib/sharkrec --since 10m --to s3://incidents/prod
  sharkrec pcap --ring /var/lib/sharkrec --since 2m -w - | tshark -r -

Exit codes: 0 done, 1 failed, 2 usage";

#[derive(Subcommand)]
enum Command {
    Record(Box<record::Arguments>),
    Witness(witness::Arguments),
    Snapshot(snapshot::Arguments),
    Status(status::Arguments),
    Segments(segments::Arguments),
    Pcap(pcap::Arguments),
    Doctor(doctor::Arguments),
    Estimate(estimate::Arguments),
    Completions(completions::Arguments),
}

pub fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("SHARKREC_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,object_store=off,kube_client=off"));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Names from outside stand in these lines, so each stays one line, and steers no terminal.
    let fields = debug_fn(|to, field, value| match (field.name(), format!("{value:?}")) {
        ("message", text) => write!(to, "{}", shown_in_line(&text)),
        (name, text) => write!(to, "{name}={}", shown_in_line(&text)),
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .fmt_fields(fields.delimited(" "))
        .init();
    match arguments.command {
        Command::Record(arguments) => arguments.run(),
        Command::Witness(arguments) => arguments.run(),
        Command::Snapshot(arguments) => arguments.run(),
        Command::Status(arguments) => arguments.run(),
        Command::Segments(arguments) => arguments.run(),
        Command::Pcap(arguments) => arguments.run(),
        Command::Doctor(arguments) => arguments.run(),
        Command::Estimate(arguments) => arguments.run(),
        Command::Completions(arguments) => arguments.run(),
    }
}

/// Whether the reader of our output went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// An error and its causes in one line; a cause that the line has already is not said again.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.contains(&cause) {
        true => line,
        false if line.is_empty() => cause,
        false => format!("{line}: {cause}"),
    })
}

/// Exit code 2: what was asked for makes no sense.
fn usage(error: anyhow::Error) -> ! {
    eprintln!("sharkrec: {}", shown(&sentence(&error)));
    std::process::exit(2)
}
