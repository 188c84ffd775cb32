//! `sharkq pcap`: the packets behind rows.

use std::path::PathBuf;

use super::open::exit;
use super::{Exit, SourceArgs, write_to};
use crate::pcap;
use crate::session::nearest;

/// Write the packets behind rows, byte for byte, as plain pcapng.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Table of the rows: flows or a call table
    #[arg(long = "from", value_name = "TABLE", default_value = "flows")]
    table: String,
    /// Which rows, as an SQL condition
    #[arg(long = "where", value_name = "SQL", default_value = "true")]
    condition: String,
    /// File to write; - for standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    output: PathBuf,
    /// Exit with 3 when there are no packets
    #[arg(long)]
    exit_code: bool,
}

const EXAMPLES: &str = "\
Examples:
  sharkq pcap ring/ --from http --where 'status_code >= 500' -w failed.pcapng
  sharkq pcap capture.pcapng --where \"rst_by = 'dst'\" -w - | wireshark -k -i -";

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let traced: Vec<&str> = shark_schema::tables::TABLES
        .iter()
        .filter(|table| table.column("first_frame").is_some())
        .map(|table| table.name)
        .collect();
    if !traced.contains(&args.table.as_str()) {
        let hint =
            nearest(&args.table, &traced).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        anyhow::bail!(
            "rows of {} do not lead to packets, those of {} do{hint}",
            args.table,
            traced.join(", ")
        );
    }
    anyhow::ensure!(
        args.source.sources.iter().all(|source| source != "-"),
        "packets are read a second time, which standard input does not allow; name a file"
    );
    let opened = args.source.open()?;
    anyhow::ensure!(
        opened.sources.index.is_none(),
        "an index holds no packets; name the recording it was made of instead"
    );
    let mut packets = 0;
    write_to(Some(&args.output), |out| {
        let write = pcap::write(&opened.session, &opened.sources, &args.table, &args.condition, out);
        packets = opened.runtime.block_on(write)?;
        Ok(())
    })?;
    eprintln!("{packets} packets");
    Ok(if args.exit_code && packets == 0 { Exit::NoRows } else { exit(&opened.ready) })
}
