//! Captures that strain memory: one long flow, a million flows that never end, one enormous body.
//! In: a size or a number. Out: stamped frames, and the count of what they hold.
//! Nothing here keeps more than a few frames itself.

use anyhow::Result;
use shark_fixtures::seed::Draw;

use crate::line::{CLIENT, Endpoint, Line, SERVER};
use crate::mix::{Counts, START_NS, Sink};
use crate::words;

/// One HTTP keep-alive connection of at least `bytes` bytes.
pub fn one_flow(bytes: u64, sink: &mut Sink<'_>) -> Result<Counts> {
    let mut draw = Draw::new(1, "one flow");
    let (mut stage, mut line) = (Stage::new(sink), line(0, &mut draw));
    line.open()?;
    while stage.counts.bytes < bytes {
        let exchange = words::http(&mut draw);
        line.say(CLIENT, &exchange.request)?;
        line.say(SERVER, &exchange.response)?;
        stage.counts.http_requests += 1;
        stage.pass(&mut line)?;
    }
    line.close()?;
    stage.pass(&mut line)?;
    stage.counts.conversations = 1;
    Ok(stage.counts)
}

/// Connections that are opened, ask half a question and say nothing more.
pub fn open_flows(flows: u64, sink: &mut Sink<'_>) -> Result<Counts> {
    let mut draw = Draw::new(1, "open flows");
    let mut stage = Stage::new(sink);
    for number in 0..flows {
        let mut line = line(number, &mut draw);
        line.open()?;
        let request = words::http(&mut draw).request;
        // Half of the head: not even its first line need be whole.
        line.say(CLIENT, &request[..request.len().min(160) / 2])?;
        stage.pass(&mut line)?;
    }
    stage.counts.conversations = flows;
    Ok(stage.counts)
}

/// One request whose response has a body of this many bytes.
pub fn one_body(bytes: u64, sink: &mut Sink<'_>) -> Result<Counts> {
    let mut draw = Draw::new(1, "one body");
    let (mut stage, mut line) = (Stage::new(sink), line(0, &mut draw));
    line.open()?;
    line.say(CLIENT, b"GET /everything.json HTTP/1.1\r\nHost: shop\r\n\r\n")?;
    line.say(SERVER, format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())?;
    let mut left = bytes as usize;
    while left > 0 {
        let piece = words::json(&mut draw, left.min(1 << 16));
        let piece = &piece.as_bytes()[..piece.len().min(left)];
        line.say(SERVER, piece)?;
        stage.pass(&mut line)?;
        left -= piece.len();
    }
    line.close()?;
    stage.pass(&mut line)?;
    stage.counts.http_requests = 1;
    stage.counts.conversations = 1;
    Ok(stage.counts)
}

fn line(number: u64, draw: &mut Draw) -> Line {
    let [_, b, c, d] = ((number / 50_000) as u32).to_be_bytes();
    let client = Endpoint { ip: [10, 128 | b, c, d], port: 10_000 + (number % 50_000) as u16 };
    Line::new(client, Endpoint { ip: [10, 0, 1, 1], port: 8080 }, draw)
}

struct Stage<'a, 'b> {
    sink: &'a mut Sink<'b>,
    now_ns: i64,
    counts: Counts,
}

impl<'a, 'b> Stage<'a, 'b> {
    fn new(sink: &'a mut Sink<'b>) -> Self {
        Stage { sink, now_ns: START_NS, counts: Counts::default() }
    }

    fn pass(&mut self, line: &mut Line) -> Result<()> {
        while let Some(frame) = line.take() {
            self.now_ns += 1000;
            self.counts.frames += 1;
            self.counts.bytes += frame.len() as u64;
            (self.sink)(self.now_ns, &frame)?;
        }
        Ok(())
    }
}
