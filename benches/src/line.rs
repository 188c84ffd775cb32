//! Two endpoints and the frames that pass between them, as Ethernet, IPv4 and TCP or UDP with right checksums.
//! In: what each end says. Out: frames, in the order in which a tap would see them.
//! It never loses a byte: everything said is in the frames, so what was said can be counted.

use std::collections::VecDeque;

use anyhow::Result;
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpOptionElement};
use shark_fixtures::seed::Draw;

/// Payload of a full TCP segment over Ethernet with time stamps off.
const SEGMENT_BYTES: usize = 1460;
const WINDOW: u16 = 0xFFFF;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: [u8; 4],
    pub port: u16,
}

/// Index into the two ends.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

pub struct Line {
    ends: [Endpoint; 2],
    next_seq: [u32; 2],
    frames: VecDeque<Queued>,
}

struct Queued {
    from: usize,
    has_payload: bool,
    bytes: Vec<u8>,
}

impl Line {
    pub fn new(client: Endpoint, server: Endpoint, draw: &mut Draw) -> Line {
        let next_seq = [draw.number() as u32, draw.number() as u32];
        Line { ends: [client, server], next_seq, frames: VecDeque::new() }
    }

    /// The three-way handshake.
    pub fn open(&mut self) -> Result<()> {
        self.syn(CLIENT, false)?;
        self.syn(SERVER, true)?;
        self.segment(CLIENT, &[], Flags::default())
    }

    /// Bytes of one end, in segments; the other acknowledges every second one and the last.
    pub fn say(&mut self, from: usize, bytes: &[u8]) -> Result<()> {
        let pieces = bytes.len().div_ceil(SEGMENT_BYTES);
        for (at, piece) in bytes.chunks(SEGMENT_BYTES).enumerate() {
            self.segment(from, piece, Flags { push: at + 1 == pieces, fin: false })?;
            if at % 2 == 1 || at + 1 == pieces {
                self.segment(1 - from, &[], Flags::default())?;
            }
        }
        Ok(())
    }

    /// Both ends close.
    pub fn close(&mut self) -> Result<()> {
        for from in [CLIENT, SERVER] {
            self.segment(from, &[], Flags { push: false, fin: true })?;
        }
        self.segment(CLIENT, &[], Flags::default())
    }

    /// A UDP datagram.
    pub fn datagram(&mut self, from: usize, payload: &[u8]) -> Result<()> {
        let (src, dst) = (self.ends[from].port, self.ends[1 - from].port);
        let mut bytes = Vec::with_capacity(64 + payload.len());
        self.ip(from).udp(src, dst).write(&mut bytes, payload)?;
        self.frames.push_back(Queued { from, has_payload: true, bytes });
        Ok(())
    }

    /// What happens on real networks: a segment comes twice, or overtakes the one before it.
    pub fn disturb(&mut self, draw: &mut Draw) {
        if self.frames.len() < 2 {
            return;
        }
        let at = draw.between(0, self.frames.len() as u64 - 2) as usize;
        let [first, second] = [&self.frames[at], &self.frames[at + 1]];
        if !first.has_payload {
            return;
        }
        if second.has_payload && second.from == first.from {
            self.frames.swap(at, at + 1);
        } else {
            let again = Queued { from: first.from, has_payload: true, bytes: first.bytes.clone() };
            self.frames.insert(at + 1, again);
        }
    }

    /// The next frame to pass.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front().map(|frame| frame.bytes)
    }

    fn syn(&mut self, from: usize, answers: bool) -> Result<()> {
        let options = [
            TcpOptionElement::MaximumSegmentSize(SEGMENT_BYTES as u16),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::WindowScale(7),
        ];
        let seq = self.next_seq[from];
        let (src, dst) = (self.ends[from].port, self.ends[1 - from].port);
        let mut step = self.ip(from).tcp(src, dst, seq, WINDOW).syn().options(&options)?;
        if answers {
            step = step.ack(self.next_seq[1 - from]);
        }
        let mut bytes = Vec::with_capacity(80);
        step.write(&mut bytes, &[])?;
        self.next_seq[from] = seq.wrapping_add(1);
        self.frames.push_back(Queued { from, has_payload: false, bytes });
        Ok(())
    }

    fn segment(&mut self, from: usize, payload: &[u8], flags: Flags) -> Result<()> {
        let (seq, ack) = (self.next_seq[from], self.next_seq[1 - from]);
        let (src, dst) = (self.ends[from].port, self.ends[1 - from].port);
        let mut step = self.ip(from).tcp(src, dst, seq, WINDOW).ack(ack);
        if flags.push {
            step = step.psh();
        }
        if flags.fin {
            step = step.fin();
        }
        let mut bytes = Vec::with_capacity(64 + payload.len());
        step.write(&mut bytes, payload)?;
        self.next_seq[from] = seq.wrapping_add(payload.len() as u32 + u32::from(flags.fin));
        self.frames.push_back(Queued { from, has_payload: !payload.is_empty(), bytes });
        Ok(())
    }

    fn ip(&self, from: usize) -> PacketBuilderStep<IpHeaders> {
        let (src, dst) = (self.ends[from].ip, self.ends[1 - from].ip);
        let mac = |[_, b, c, d]: [u8; 4]| [0x02, 0, 0, b, c, d];
        PacketBuilder::ethernet2(mac(src), mac(dst)).ipv4(src, dst, 64)
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    push: bool,
    fin: bool,
}
