//! `sharkrec estimate`: how long a GiB of ring lasts on this node's traffic.
//! In: the counters of interfaces, twice. Out: rates, and hours a GiB; compression counts only where a ring shows it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use shark_schema::shown::{Shown, shown_in_line};

use crate::devices::{self, DeviceCounters};
use crate::ring::Ring;
use crate::time::parse_duration;
use crate::units::show_bytes;

/// Bytes a packet block has beside its packet: fixed fields, padding, flags.
const OVERHEAD_BYTES: f64 = 46.0;

/// Measure traffic and print how many hours a GiB of ring holds
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sharkrec estimate --iface eth0 --for 30s --ring /var/lib/sharkrec")]
pub struct Arguments {
    /// Interface to measure; may be repeated
    #[arg(long, required = true, value_name = "NAME")]
    iface: Vec<String>,
    /// How long to measure
    #[arg(long = "for", default_value = "5s", value_name = "DURATION")]
    period: String,
    /// A ring whose compression so far is taken into account
    #[arg(long, env = "SHARKREC_RING", value_name = "DIR")]
    ring: Option<PathBuf>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<()> {
        let period = parse_duration(&self.period).filter(|period| *period >= Duration::from_millis(100));
        let period =
            period.with_context(|| format!("--for: '{}' is not a duration of 100ms or more", self.period));
        let period = period.unwrap_or_else(|error| super::usage(error));
        let ratio = self.ring.as_ref().map(|dir| compression(&Ring::open(dir)?)).transpose()?.flatten();
        let before: Vec<DeviceCounters> =
            self.iface.iter().map(|name| traffic(name)).collect::<Result<_, _>>()?;
        let started = Instant::now();
        thread::sleep(period);
        let seconds = started.elapsed().as_secs_f64();
        let mut out = Shown::text(io::stdout().lock());
        let mut stored_a_second = 0.0;
        for (name, before) in self.iface.iter().zip(before) {
            let now = traffic(name)?;
            let packets = now.packets.saturating_sub(before.packets) as f64 / seconds;
            let bytes = now.bytes.saturating_sub(before.bytes) as f64 / seconds;
            stored_a_second += bytes + packets * OVERHEAD_BYTES;
            let name = shown_in_line(name);
            writeln!(out, "{name:<16} {packets:>10.0} packets/s {:>12}/s", show_bytes(bytes as u64))?;
        }
        let hours = |ratio: f64| match stored_a_second * ratio {
            0.0 => "no traffic was seen".to_owned(),
            rate => format!("{:.2} hours a GiB", (1u64 << 30) as f64 / rate / 3600.0),
        };
        writeln!(out, "uncompressed     {}", hours(1.0))?;
        if let Some(ratio) = ratio {
            writeln!(
                out,
                "compressed       {} (this ring stores {:.0} % of the bytes)",
                hours(ratio),
                ratio * 100.0
            )?;
        }
        Ok(())
    }
}

fn traffic(interface: &str) -> anyhow::Result<DeviceCounters> {
    let counters = devices::counters().context("rtnetlink")?;
    let missing = || format!("interface '{interface}' does not exist here; `ip link` lists those that do");
    counters.get(interface).copied().with_context(missing)
}

/// Stored bytes for each byte before compression, over all sealed segments.
fn compression(ring: &Ring) -> anyhow::Result<Option<f64>> {
    let (mut raw, mut stored) = (0, 0);
    for name in ring.list()? {
        if let Ok((sidecar, _)) = ring.sidecar(name) {
            raw += sidecar.bytes_raw;
            stored += sidecar.bytes_stored;
        }
    }
    Ok((raw > 0).then(|| stored as f64 / raw as f64))
}
