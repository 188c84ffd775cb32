//! What is in a recording, in the manner of capinfos: size, time, loss, and bytes by protocol, including what is encrypted,
//! unrecognised or began before the recording, so that an empty table explains itself. Of a source that is
//! not indexed it says what sidecars and manifests tell; what only an analysis of its packets knows is None.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;
use shark_schema::shown::{Shown, shown_in_line};
use shark_schema::tables::TABLES;

use crate::cache::Ready;
use crate::print::{Format, Layout, print};
use crate::session::{Answer, Session};

/// Bytes and flows by protocol: every byte of a flow is in exactly one row.
const BY_PROTOCOL: &str = "\
SELECT CASE WHEN l7 IS NULL THEN 'no payload' \
            WHEN cardinality(l7) = 0 THEN 'unrecognised' \
            ELSE array_to_string(l7, '+') END AS protocol, \
       proto AS transport, count(*) AS flows, \
       count(*) FILTER (WHERE capture_state = 'mid_stream') AS mid_stream, \
       count(*) FILTER (WHERE capture_state = 'lossy') AS lossy, \
       CAST(sum(orig_pkts + resp_pkts) AS BIGINT) AS packets, \
       CAST(sum(orig_wire_bytes + resp_wire_bytes) AS BIGINT) AS bytes, \
       CAST(sum(missed_bytes) AS BIGINT) AS missed_bytes, \
       bool_or(array_has(l7, 'tls') OR array_has(l7, 'ssh')) IS TRUE AS encrypted \
FROM flows GROUP BY 1, 2 ORDER BY bytes DESC, 1, 2";

const LOSS: &str = "\
SELECT CAST(sum(kernel_dropped) AS BIGINT) AS kernel, CAST(sum(user_dropped) AS BIGINT) AS queue_or_disk, \
       CAST(sum(nic_dropped) AS BIGINT) AS device, CAST(sum(filtered) AS BIGINT) AS filtered, \
       CAST(sum(truncated) AS BIGINT) AS truncated FROM segments WHERE series = 'packets'";

/// Rows of each table of calls and of flows that has any.
fn rows() -> String {
    let counted = TABLES.iter().filter(|table| table.call.is_some() || table.name == "flows");
    let count =
        |name| format!("SELECT '{name}' AS \"table\", count(*) AS rows FROM {name} HAVING count(*) > 0");
    let counts: Vec<String> = counted.map(|table| count(table.name)).collect();
    format!("{} ORDER BY 1", counts.join(" UNION ALL "))
}

/// What was read.
#[derive(Debug, Serialize)]
struct Info {
    files: usize,
    packets: u64,
    captured_bytes: u64,
    wire_bytes: u64,
    first_ts: Option<String>,
    last_ts: Option<String>,
    duration_s: Option<f64>,
    packets_per_s: Option<f64>,
    not_ip_packets: Option<u64>,
    undecodable_packets: Option<u64>,
    fragments: Option<u64>,
    incomplete_datagrams: Option<u64>,
    plaintext_packets: u64,
    lost: Value,
    protocols: Option<Value>,
    rows: Option<Value>,
    /// Segments whose bytes were not read: sidecars tell of them.
    segments_not_read: usize,
    damage: Vec<String>,
    warnings: Vec<String>,
}

/// Writes what is in an index, or is known of a source that is not indexed, some segments of which were not
/// read.
pub async fn write(
    ready: &Ready,
    session: &Session,
    unread: Option<usize>,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let note = &ready.note;
    let windows = note.files.iter().filter_map(|file| file.stats.window);
    let first_ns = windows.clone().map(|(first, _)| first).min();
    let last_ns = windows.map(|(_, last)| last).max();
    let duration_s = first_ns.zip(last_ns).map(|(first, last)| last.saturating_sub(first) as f64 / 1e9);
    let is_analysed = unread.is_none();
    let analysed = |count: u64| is_analysed.then_some(count);
    let (protocols, rows) = match is_analysed {
        true => (Some(one(session, BY_PROTOCOL).await?), Some(json(&one(session, &rows()).await?)?)),
        false => (None, None),
    };
    let info = Info {
        files: note.files.len(),
        packets: note.counts.frames,
        captured_bytes: note.counts.captured_bytes,
        wire_bytes: note.counts.wire_bytes,
        first_ts: first_ns.map(utc),
        last_ts: last_ns.map(utc),
        duration_s,
        packets_per_s: duration_s.filter(|seconds| *seconds > 0.0).map(|s| note.counts.frames as f64 / s),
        not_ip_packets: analysed(note.counts.not_ip),
        undecodable_packets: analysed(note.counts.undecodable),
        fragments: analysed(note.counts.fragments),
        incomplete_datagrams: analysed(note.counts.incomplete_datagrams),
        plaintext_packets: note.counts.plaintext,
        lost: json(&one(session, LOSS).await?)?.get(0).cloned().unwrap_or_default(),
        protocols: protocols.as_ref().map(json).transpose()?,
        rows,
        segments_not_read: unread.unwrap_or(0),
        damage: note.damage.clone(),
        warnings: note.warnings.clone(),
    };
    if format == Format::Json {
        serde_json::to_writer_pretty(Shown::json(&mut *out), &info)?;
        return Ok(writeln!(out)?);
    }
    anyhow::ensure!(format == Format::Table, "info prints a table or --format json");
    text(&info, out)?;
    protocols.map_or(Ok(()), |protocols| print(&protocols, Layout::of(Format::Table), out))
}

fn text(info: &Info, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "Files:         {}", info.files)?;
    writeln!(out, "Packets:       {}", info.packets)?;
    writeln!(out, "Bytes:         {} captured of {} on the wire", info.captured_bytes, info.wire_bytes)?;
    if let (Some(first), Some(last), Some(duration)) = (&info.first_ts, &info.last_ts, info.duration_s) {
        writeln!(out, "Time (UTC):    {first} to {last} ({duration:.3} s)")?;
    }
    if let (Some(not_ip), Some(undecodable), Some(incomplete), Some(fragments)) =
        (info.not_ip_packets, info.undecodable_packets, info.incomplete_datagrams, info.fragments)
    {
        writeln!(
            out,
            "Not analysed:  {not_ip} not IP, {undecodable} undecodable, {incomplete} incomplete datagrams ({fragments} fragments)"
        )?;
    }
    if info.plaintext_packets > 0 {
        writeln!(
            out,
            "Plaintext:     {} packets, made of what programs said inside of TLS",
            info.plaintext_packets
        )?;
    }
    let lost = info.lost.as_object().into_iter().flatten();
    let lost: Vec<String> =
        lost.filter(|(_, count)| !count.is_null()).map(|(cause, n)| format!("{cause} {n}")).collect();
    writeln!(
        out,
        "Lost:          {}",
        if lost.is_empty() { "not known for such a file".into() } else { lost.join(", ") }
    )?;
    if info.protocols.is_none() {
        writeln!(out, "Protocols:     not known yet, since this is not indexed; --protocols indexes it")?;
    }
    if info.segments_not_read > 0 {
        writeln!(
            out,
            "Not read:      {} segments, of which their sidecars tell; `sharkq verify` compares their hashes",
            info.segments_not_read
        )?;
    }
    for line in info.damage.iter().chain(&info.warnings) {
        writeln!(out, "Note:          {}", shown_in_line(line))?;
    }
    Ok(())
}

async fn one(session: &Session, sql: &str) -> anyhow::Result<Answer> {
    session.run(sql).await?.pop().ok_or_else(|| anyhow::anyhow!("a statement gives an answer"))
}

fn json(answer: &Answer) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    print(answer, Layout::of(Format::Json), &mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A time in UTC.
pub fn utc(ts_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(ts_ns.into())
        .map_or_else(|_| format!("{ts_ns} ns"), |time| time.to_string())
}
