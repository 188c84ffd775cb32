//! `sharkq kfl`: the calls and flows that an expression selects, one a line.

use std::path::PathBuf;

use clap::CommandFactory;
use jiff::tz::TimeZone;

use super::open::{FooterArgs, Footers, IndexArgs, MarginArgs, exit};
use super::{Exit, SourceArgs, tell, write_lines_to, write_to};
use crate::kfl::{self, Program, fields};
use crate::print::{Format, Layout, print};
use crate::times::TimeArgs;

/// List the calls and flows that a KFL expression selects.
///
/// KFL2 (CEL with short names) and KFL v1 are understood; --fields lists all names. Formats for programs have more columns.
#[derive(clap::Args)]
#[command(override_usage = "sharkq kfl [OPTIONS] SRC... EXPR", after_help = EXAMPLES)]
pub struct Args {
    /// Capture files, segments, rings, snapshots, or one index; - for standard input. Last the expression: an empty
    /// one selects everything
    #[arg(value_names = ["SRC", "EXPR"], required_unless_present = "fields", num_args = 1..)]
    words: Vec<String>,
    #[command(flatten)]
    index: IndexArgs,
    /// Most entries to list; 0 for all [default: 100 for tables, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    layout: Layout,
    /// File to write to
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the SQL it becomes, and the tables that are read
    #[arg(long)]
    explain: bool,
    /// List all fields with their types
    #[arg(long)]
    fields: bool,
    #[command(flatten)]
    times: TimeArgs,
    #[command(flatten)]
    margin: MarginArgs,
    #[command(flatten)]
    footer: FooterArgs,
    /// Exit with 3 when nothing is selected
    #[arg(long)]
    exit_code: bool,
}

const EXAMPLES: &str = "\
Examples:
  sharkq kfl ring/ 'http && status_code >= 500'
  sharkq kfl capture.pcapng 'dns && rcode == \"NXDOMAIN\" && src.workload == \"checkout\"'
  sharkq kfl s3://bucket/snapshots/01J... 'elapsed_time > duration(\"100ms\") && dst.ip in \"10.0.0.0/8\"' --format json
  sharkq kfl --fields";

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    if args.fields {
        return list();
    }
    let mut sources = args.words;
    if sources.len() < 2 {
        let reason = "give the recordings and then the expression; an empty one, '', selects everything";
        super::Cli::command().error(clap::error::ErrorKind::TooFewValues, reason).exit();
    }
    let text = sources.pop().unwrap_or_default();
    // A typing error shows before hours of packets are indexed.
    let program = compiled(&text)?;
    let opened = SourceArgs { sources, index: args.index }.open(&args.times, args.margin.reading())?;
    let is_for_people = matches!(args.layout.format, Format::Table | Format::Markdown);
    let columns = if is_for_people { PEOPLE } else { PROGRAMS };
    let time = clock(&opened.zone);
    let columns: Vec<(&str, &str)> = columns
        .iter()
        .map(|(name, sql)| (*name, if *name == "time" { time.as_str() } else { sql }))
        .collect();
    let columns = columns.as_slice();
    if args.explain {
        let read = opened.runtime.block_on(opened.session.reads(&program, columns))?;
        let read = if read.is_empty() { "nothing".into() } else { read.join(", ") };
        let sql = program.sql().map_err(anyhow::Error::msg)?;
        write_lines_to(args.output.as_deref(), |out| Ok(writeln!(out, "{sql}\n-- reads {read}")?))?;
        return Ok(exit(&opened.ready));
    }
    let most = match args.limit {
        None if args.layout.format == Format::Table => Some(DEFAULT_LIMIT),
        None | Some(0) => None,
        some => some,
    };
    let mut answer =
        opened.runtime.block_on(opened.session.entries(&program, columns, most.map(|most| most + 1)))?;
    let found: usize = answer.batches.iter().map(|batch| batch.num_rows()).sum();
    if let Some(most) = most.filter(|most| found > *most) {
        answer.cut(most);
        if args.limit.is_none() {
            tell(format_args!("sharkq: the first {most} entries; --limit 0 lists all"));
        }
    }
    write_to(args.output.as_deref(), |out| print(&answer, args.layout, out))?;
    let mut footers = Footers::new(args.footer);
    footers.under(&answer, &opened)?;
    Ok(footers.exit(found, args.exit_code, &opened.ready))
}

/// The time of an entry as a person reads it.
fn clock(zone: &TimeZone) -> String {
    let ts = match zone.iana_name() {
        Some(name) if *zone != TimeZone::UTC => {
            format!("arrow_cast(arrow_cast(ts, 'Timestamp(ns, \"UTC\")'), 'Timestamp(ns, \"{name}\")')")
        }
        _ => "ts".into(),
    };
    format!("to_char({ts}, '%m-%d %H:%M:%S%.3f')")
}

/// Tables for people stop here unless told otherwise.
const DEFAULT_LIMIT: usize = 100;

/// What a person reads, in the width of a terminal.
const PEOPLE: &[(&str, &str)] = &[
    ("time", "ts"),
    ("protocol", "CASE WHEN protocol = 'flows' THEN proto ELSE protocol END"),
    ("src", fields::SHOWN[0]),
    ("dst", fields::SHOWN[1]),
    ("operation", "CASE WHEN protocol <> 'flows' THEN operation END"),
    (
        "resource",
        "CASE WHEN character_length(resource) > 48 THEN left(resource, 47) || '…' ELSE resource END",
    ),
    ("status", "status"),
    ("latency_ms", "round(CAST(duration_ns AS DOUBLE) / 1e6, 3)"),
];

/// What a program reads.
const PROGRAMS: &[(&str, &str)] = &[
    ("ts", "ts"),
    ("protocol", "CASE WHEN protocol = 'flows' THEN proto ELSE protocol END"),
    ("src_ip", "src_ip"),
    ("src_port", "src_port"),
    ("src_namespace", "src_namespace"),
    ("src_workload", "src_workload"),
    ("src_pod", "src_pod"),
    ("dst_ip", "dst_ip"),
    ("dst_port", "dst_port"),
    ("dst_namespace", "dst_namespace"),
    ("dst_workload", "dst_workload"),
    ("dst_pod", "dst_pod"),
    ("operation", "operation"),
    ("resource", "resource"),
    ("status", "status"),
    ("duration_ns", "duration_ns"),
    ("is_error", "is_error"),
    ("call_id", "call_id"),
    ("flow_id", "flow_id"),
];

/// An expression that can be asked; what limits its answer is said on standard error.
pub fn compiled(text: &str) -> anyhow::Result<Program> {
    let program = kfl::compile(text, crate::session::now_ns())?;
    anyhow::ensure!(
        program.unrecorded.is_empty(),
        "this version does not record {}; `sharkq kfl --fields` lists what can be asked",
        program.unrecorded.join(", ")
    );
    program.notes.iter().for_each(|note| tell(format_args!("sharkq: {note}")));
    Ok(program)
}

fn list() -> anyhow::Result<Exit> {
    write_lines_to(None, |out| {
        for field in fields::all() {
            let aliases = if field.aliases.is_empty() {
                String::new()
            } else {
                format!(" (also {})", field.aliases.join(", "))
            };
            let unrecorded =
                if kfl::expression(field).is_none() { " [this version does not record it]" } else { "" };
            writeln!(out, "{:<30} {:<16} {}{aliases}{unrecorded}", field.name, field.kind.name(), field.doc)?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
