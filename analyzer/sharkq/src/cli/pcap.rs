//! `sharkq pcap`: the packets behind rows.

use std::path::PathBuf;

use super::kfl::compiled;
use super::open::{MarginArgs, exit};
use super::{Exit, SourceArgs, tell, write_to};
use crate::session::suggestion;
use crate::times::TimeArgs;
use crate::{pcap, place};

/// Write the packets behind rows, byte for byte, as plain pcapng.
///
/// Which rows is said in KFL, after the recordings or with --kfl, or in SQL with --from and --where.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    times: TimeArgs,
    #[command(flatten)]
    margin: MarginArgs,
    /// Which calls and flows, as a KFL expression
    #[arg(long = "kfl", value_name = "EXPR", conflicts_with_all = ["table", "condition"])]
    kfl: Option<String>,
    /// Table of the rows: flows or a call table
    #[arg(long = "from", value_name = "TABLE", default_value = "flows")]
    table: String,
    /// Which rows, as an SQL condition
    #[arg(long = "where", value_name = "SQL", default_value = "true")]
    condition: String,
    /// File to write; - for standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    output: PathBuf,
    /// Also write what other interfaces saw of the same packets; without it each is written once, as the row counts it
    #[arg(long)]
    all_interfaces: bool,
    /// Exit with 3 when there are no packets
    #[arg(long)]
    exit_code: bool,
}

const EXAMPLES: &str = "\
Examples:
  sharkq pcap ring/ 'http && status_code >= 500' -w failed.pcapng
  sharkq pcap ring/ --from http --where 'status_code >= 500' -w failed.pcapng
  sharkq pcap capture.pcapng --where \"rst_by = 'dst'\" -w - | wireshark -k -i -";

/// Runs the command.
pub fn run(mut args: Args) -> anyhow::Result<Exit> {
    let program = args.expression().map(|text| compiled(&text)).transpose()?;
    anyhow::ensure!(
        program.is_none() || (args.table == "flows" && args.condition == "true"),
        "an expression says already which rows; leave out --from and --where"
    );
    traced(&args.table)?;
    anyhow::ensure!(
        args.source.sources.iter().all(|source| source != "-"),
        "packets are read a second time, which standard input does not allow; name a file"
    );
    let opened = args.source.open(&args.times, args.margin.reading())?;
    anyhow::ensure!(
        opened.sources.index.is_none(),
        "an index holds no packets; name the recording it was made of instead"
    );
    let mut packets = 0;
    let mut recorded = pcap::Recorded::new(&opened.sources, &opened.ready.note);
    write_to(Some(&args.output), |out| {
        packets = opened.runtime.block_on(async {
            let rows = match &program {
                Some(program) => opened.session.select(program).await?,
                None => opened.session.select_where(&args.table, &args.condition).await?,
            };
            pcap::write(&opened.session, &mut recorded, rows, args.all_interfaces, out).await
        })?;
        Ok(())
    })?;
    tell(format_args!("{packets} packets"));
    if let Some(part) = opened.part {
        tell(format_args!("sharkq: {}", part.line(&opened.zone)));
    }
    for damage in &recorded.damage {
        tell(format_args!("sharkq: warning: {damage}"));
    }
    if !recorded.damage.is_empty() {
        return Ok(Exit::Failed);
    }
    Ok(if args.exit_code && packets == 0 { Exit::NoRows } else { exit(&opened.ready) })
}

impl Args {
    /// The KFL expression: given as one, or the last of several words that names no place.
    fn expression(&mut self) -> Option<String> {
        let is_place = |text: &str| text == "-" || place::is_url(text) || std::path::Path::new(text).exists();
        let sources = &mut self.source.sources;
        let is_last = self.kfl.is_none()
            && sources.len() > 1
            && !sources.last().is_some_and(|last| is_place(last) || looks_like_a_path(last));
        if is_last { sources.pop() } else { self.kfl.take() }
    }
}

/// A file that is missing is better reported as such than as an expression.
fn looks_like_a_path(text: &str) -> bool {
    let endings = [".pcap", ".pcapng", ".cap", ".zst", ".gz", ".lz4"];
    endings.iter().any(|ending| text.ends_with(ending)) && !text.contains(' ')
}

/// Rows of this table lead to packets.
fn traced(table: &str) -> anyhow::Result<()> {
    let traced: Vec<&str> = shark_schema::tables::TABLES
        .iter()
        .filter(|table| table.column("first_frame").is_some())
        .map(|table| table.name)
        .collect();
    if !traced.contains(&table) {
        let hint = suggestion(table, &traced);
        anyhow::bail!("rows of {table} do not lead to packets, those of {} do{hint}", traced.join(", "));
    }
    Ok(())
}
