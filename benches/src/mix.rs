//! Many conversations at once: HTTP keep-alive, DNS, TLS and an unknown protocol, their frames shuffled together.
//! In: a seed, a size, and how much of each. Out: stamped frames, and the count of what they hold.
//! Every conversation is played to its end, so that the counts are exact.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shark_fixtures::seed::Draw;

use crate::line::{CLIENT, Endpoint, Line, SERVER};
use crate::words;

/// What a capture holds, as the program that made it knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub frames: u64,
    /// Bytes of frames, without any file format.
    pub bytes: u64,
    pub http_requests: u64,
    pub dns_queries: u64,
    pub dns_replies: u64,
    /// TCP connections, and pairs of a DNS client's port with its server.
    pub conversations: u64,
}

/// Takes a frame and its time in ns since 1970.
pub type Sink<'a> = dyn FnMut(i64, &[u8]) -> Result<()> + 'a;

/// Conversations of each kind in a hundred.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    pub http: u64,
    pub dns: u64,
    pub tls: u64,
    pub unknown: u64,
}

impl Shares {
    pub const MIXED: Shares = Shares { http: 50, dns: 30, tls: 12, unknown: 8 };
    pub const HTTP: Shares = Shares { http: 100, dns: 0, tls: 0, unknown: 0 };
    pub const DNS: Shares = Shares { http: 0, dns: 100, tls: 0, unknown: 0 };
}

/// 2026-01-01T00:00:00Z: captures of the same seed are the same bytes, so they cannot carry today's time.
pub const START_NS: i64 = 1_767_225_600_000_000_000;
const AT_ONCE: usize = 64;

/// Mean time between two frames: about a gigabit a second.
pub const GAP_NS: u64 = 4000;

/// Hands `sink` frames of at least `bytes` bytes, on average `gap_ns` apart.
pub fn play(seed: u64, bytes: u64, shares: Shares, gap_ns: u64, sink: &mut Sink<'_>) -> Result<Counts> {
    let counts = Counts::default();
    let mut mix = Mix { draw: Draw::new(seed, "mix"), shares, gap_ns, now_ns: START_NS, counts };
    let mut talks: Vec<Talk> = (0..AT_ONCE).map(|_| mix.begin()).collect::<Result<_>>()?;
    while !talks.is_empty() {
        let at = mix.draw.between(0, talks.len() as u64 - 1) as usize;
        // A few frames in a row, as they come from one sender.
        for _ in 0..mix.draw.between(1, 4) {
            if let Some(frame) = mix.next(&mut talks[at])? {
                mix.pass(&frame, sink)?;
            } else if mix.counts.bytes < bytes {
                talks[at] = mix.begin()?;
            } else {
                talks.swap_remove(at);
                break;
            }
        }
    }
    Ok(mix.counts)
}

struct Mix {
    draw: Draw,
    shares: Shares,
    gap_ns: u64,
    now_ns: i64,
    counts: Counts,
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Dns,
    Tls,
    Unknown,
}

struct Talk {
    kind: Kind,
    line: Line,
    /// Exchanges to come; none left means that the end was said.
    left: Option<u64>,
    begun: bool,
}

impl Mix {
    fn begin(&mut self) -> Result<Talk> {
        let Shares { http, dns, tls, unknown } = self.shares;
        let draw = &mut self.draw;
        let at = draw.between(1, http + dns + tls + unknown);
        let (kind, port) = match at {
            at if at <= http => (Kind::Http, *draw.pick(&[80, 8080])),
            at if at <= http + dns => (Kind::Dns, 53),
            at if at <= http + dns + tls => (Kind::Tls, 443),
            _ => (Kind::Unknown, 9999),
        };
        // Every conversation has endpoints of its own: a port that is used again is another test.
        let number = self.counts.conversations as u32;
        self.counts.conversations += 1;
        let [_, b, c, d] = (number / 28_000).to_be_bytes();
        let client = Endpoint { ip: [10, 128 | b, c, d], port: 32_000 + (number % 28_000) as u16 };
        let server = Endpoint { ip: [10, 0, 1, draw.between(1, 20) as u8], port };
        let mut line = Line::new(client, server, draw);
        if !matches!(kind, Kind::Dns) {
            line.open()?;
        }
        Ok(Talk { kind, line, left: Some(draw.between(1, 40)), begun: false })
    }

    fn next(&mut self, talk: &mut Talk) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = talk.line.take() {
                return Ok(Some(frame));
            }
            match talk.left {
                None => return Ok(None),
                Some(0) => {
                    talk.left = None;
                    if !matches!(talk.kind, Kind::Dns) {
                        talk.line.close()?;
                    }
                }
                Some(left) => {
                    talk.left = Some(left - 1);
                    self.exchange(talk)?;
                }
            }
        }
    }

    fn exchange(&mut self, talk: &mut Talk) -> Result<()> {
        let draw = &mut self.draw;
        let first = !std::mem::replace(&mut talk.begun, true);
        let exchange = match talk.kind {
            Kind::Http => words::http(draw),
            Kind::Dns => words::dns(draw),
            Kind::Tls if first => words::hello(draw),
            Kind::Tls => words::sealed(draw),
            Kind::Unknown => words::unknown(draw),
        };
        match talk.kind {
            Kind::Dns => {
                self.counts.dns_queries += 1;
                self.counts.dns_replies += 1;
                talk.line.datagram(CLIENT, &exchange.request)?;
                return talk.line.datagram(SERVER, &exchange.response);
            }
            Kind::Http => self.counts.http_requests += 1,
            Kind::Tls | Kind::Unknown => {}
        }
        talk.line.say(CLIENT, &exchange.request)?;
        talk.line.say(SERVER, &exchange.response)?;
        if draw.one_in(100) {
            talk.line.disturb(draw);
        }
        Ok(())
    }

    fn pass(&mut self, frame: &[u8], sink: &mut Sink<'_>) -> Result<()> {
        self.now_ns += self.draw.between(1, 2 * self.gap_ns) as i64;
        self.counts.frames += 1;
        self.counts.bytes += frame.len() as u64;
        sink(self.now_ns, frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(seed: u64) -> (Counts, u64) {
        let mut sum = 0_u64;
        let mut sink = |ts_ns: i64, frame: &[u8]| {
            for &byte in frame {
                sum = sum.wrapping_mul(31).wrapping_add(u64::from(byte) ^ ts_ns as u64);
            }
            Ok(())
        };
        let counts = play(seed, 300_000, Shares::MIXED, GAP_NS, &mut sink).expect("memory takes everything");
        (counts, sum)
    }

    #[test]
    fn a_seed_is_a_capture() {
        assert_eq!(digest(3), digest(3));
        assert_ne!(digest(3), digest(4));
    }
}
