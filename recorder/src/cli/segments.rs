//! `sharkrec segments`: what lies in a ring, one line a segment.

use std::io::{self, Write};
use std::path::PathBuf;

use shark_schema::segment::Sidecar;
use shark_schema::shown::{Shown, shown_in_line};

use crate::ring::Ring;
use crate::time::show;

/// List the segments of a ring
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sharkrec segments --ring /var/lib/sharkrec --json | jq -r .sha256")]
pub struct Arguments {
    /// Directory of the ring
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: PathBuf,
    /// One sidecar a line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let ring = Ring::open(&self.ring)?;
        let out = io::stdout().lock();
        let mut out = if self.json { Shown::json(out) } else { Shown::text(out) };
        if !self.json {
            let row = ["segment", "packets", "stored", "lost", "from", "to", "closed"];
            writeln!(
                out,
                "{:<46} {:>9} {:>11} {:>7} {:<25} {:<25} {}",
                row[0], row[1], row[2], row[3], row[4], row[5], row[6]
            )?;
        }
        for name in ring.list()? {
            match ring.sidecar(name) {
                Ok((sidecar, _)) if self.json => writeln!(out, "{}", serde_json::to_string(&sidecar)?)?,
                Ok((sidecar, _)) => line(&mut out, &sidecar)?,
                Err(_) if name.open && !self.json => {
                    writeln!(out, "{name:<46} (open)", name = name.to_string())?
                }
                Err(_) if name.open => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
        Ok(())
    }
}

fn line(out: &mut impl Write, of: &Sidecar) -> io::Result<()> {
    let moment = |ns: Option<i64>| ns.map_or("-".to_owned(), show);
    writeln!(
        out,
        "{:<46} {:>9} {:>11} {:>7} {:<25} {:<25} {}",
        shown_in_line(&of.segment),
        of.packets,
        of.bytes_stored,
        of.totals.lost(),
        moment(of.min_ns),
        moment(of.max_ns),
        of.close_reason.as_str()
    )
}
