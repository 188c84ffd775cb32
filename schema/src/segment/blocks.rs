//! Walks any pcapng: both byte orders, several sections and interfaces, every packet block there ever was.
//! In: a slice, or consecutive chunks of one. Out: borrowed blocks with their byte offsets.
//! It must never panic, loop without progress, or allocate for a packet, whatever the bytes are.

use super::clock::Resolution;
use super::{Error, MAX_BLOCK_BYTES, MAX_INTERFACES};

/// One block and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<'a> {
    /// From the first byte ever fed to the reader.
    pub offset: u64,
    pub block: Block<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Block<'a> {
    Packet(Packet<'a>),
    Section(Section<'a>),
    /// Described by [`Reader::interfaces`] at this place.
    Interface(u32),
    Statistics(Statistics),
    Secrets(Secrets<'a>),
    /// Any other type of block, passed over by its length.
    Other {
        kind: u32,
        body: &'a [u8],
    },
}

/// A packet of an EPB, an SPB or the obsolete packet block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Index into [`Reader::interfaces`], counted over all sections.
    pub interface: u32,
    /// None in a simple packet block, which has no stamp. Stamps past the year 2262 stop there.
    pub ts_ns: Option<i64>,
    pub original_len: u32,
    pub flags: u32,
    /// Packets lost on this interface since the one before, where the writer said so.
    pub dropped: u64,
    pub data: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    pub version: (u16, u16),
    pub comment: Option<&'a str>,
    pub application: Option<&'a str>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub link_type: u16,
    /// 0 means no limit.
    pub snaplen: u32,
    pub name: Option<String>,
    pub description: Option<String>,
    pub filter: Option<String>,
    resolution: Resolution,
    offset_s: i64,
}

/// An interface statistics block; what its writer left out is None.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub interface: u32,
    pub ts_ns: i64,
    pub start_ns: Option<i64>,
    pub end_ns: Option<i64>,
    /// isb_ifrecv
    pub received: Option<u64>,
    /// isb_ifdrop
    pub nic_dropped: Option<u64>,
    /// isb_filteraccept
    pub accepted: Option<u64>,
    /// isb_osdrop
    pub os_dropped: Option<u64>,
    /// isb_usrdeliv
    pub delivered: Option<u64>,
}

/// A decryption secrets block; `kind` 0x544c534b is a TLS key log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secrets<'a> {
    pub kind: u32,
    pub data: &'a [u8],
}

/// What [`Reader::next`] found at the start of the bytes it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<'a> {
    /// One whole block of `len` bytes; feed what follows it next.
    Block(Item<'a>, usize),
    /// Not a whole block: at least this many bytes from the same start are needed. At the end of the input this means
    /// a torn tail, unless no bytes were left.
    More(usize),
}

/// What a walk has to remember between blocks; it owns no bytes, so chunks may come from anywhere.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    big_endian: bool,
    in_section: bool,
    first_interface: usize,
    interfaces: Vec<Interface>,
    offset: u64,
}

impl Reader {
    pub fn new() -> Reader {
        Reader::default()
    }

    /// All interfaces seen so far, over all sections.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Bytes consumed so far: the offset of the next block.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the block at the start of `bytes`, which must follow what was consumed before.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Next<'a>, Error> {
        let Some(head) = bytes.first_chunk::<12>() else {
            return self.short(bytes);
        };
        let is_section = head[..4] == [0x0A, 0x0D, 0x0D, 0x0A];
        if is_section {
            self.start_section([head[8], head[9], head[10], head[11]])?;
        } else if !self.in_section {
            return Err(self.corrupt("no section header: not a pcapng file"));
        }
        let (kind, stated) = (self.u32(head, 0), self.u32(head, 4) as usize);
        if !(12..=MAX_BLOCK_BYTES).contains(&stated) {
            return Err(self.corrupt("block length is impossible"));
        }
        // The draft wants multiples of four; writers exist that forget, and pad nevertheless.
        let total = stated.next_multiple_of(4);
        let Some(whole) = bytes.get(..total) else {
            return Ok(Next::More(total));
        };
        if self.u32(whole, total - 4) as usize != stated {
            return Err(self.corrupt("the two lengths of the block differ"));
        }
        let body = &whole[8..total - 4];
        let block = match kind {
            6 => Block::Packet(self.enhanced_packet(body)?),
            _ => self.rare(kind, body)?,
        };
        let offset = self.offset;
        self.offset += total as u64;
        Ok(Next::Block(Item { offset, block }, total))
    }

    fn short<'a>(&self, bytes: &[u8]) -> Result<Next<'a>, Error> {
        let marker = [0x0A, 0x0D, 0x0D, 0x0A];
        let compared = bytes.len().min(4);
        if !self.in_section && bytes[..compared] != marker[..compared] {
            return Err(self.corrupt("no section header: not a pcapng file"));
        }
        Ok(Next::More(12))
    }

    fn start_section(&mut self, magic: [u8; 4]) -> Result<(), Error> {
        self.big_endian = match magic {
            [0x1A, 0x2B, 0x3C, 0x4D] => true,
            [0x4D, 0x3C, 0x2B, 0x1A] => false,
            _ => return Err(self.corrupt("the byte-order magic is neither 1A2B3C4D nor 4D3C2B1A")),
        };
        self.in_section = true;
        self.first_interface = self.interfaces.len();
        Ok(())
    }

    fn rare<'a>(&mut self, kind: u32, body: &'a [u8]) -> Result<Block<'a>, Error> {
        Ok(match kind {
            0x0A0D_0D0A => Block::Section(self.section(body)?),
            1 => Block::Interface(self.interface(body)?),
            2 => Block::Packet(self.obsolete_packet(body)?),
            3 => Block::Packet(self.simple_packet(body)?),
            // Counters of an interface that was not described count nothing that is read.
            5 if body.len() >= 4 && !self.is_described(self.u32(body, 0) as usize) => {
                Block::Other { kind, body }
            }
            5 => Block::Statistics(self.statistics(body)?),
            10 => Block::Secrets(self.secrets(body)?),
            _ => Block::Other { kind, body },
        })
    }

    fn section<'a>(&self, body: &'a [u8]) -> Result<Section<'a>, Error> {
        let options = body.get(16..).ok_or_else(|| self.corrupt("section header is too short"))?;
        let version = (self.u16(body, 4), self.u16(body, 6));
        if version.0 != 1 {
            return Err(self.corrupt("unknown major version of pcapng"));
        }
        let mut section = Section { version, comment: None, application: None };
        self.options(options, |code, value| match code {
            1 => section.comment = section.comment.or(str::from_utf8(value).ok()),
            4 => section.application = str::from_utf8(value).ok(),
            _ => {}
        });
        Ok(section)
    }

    fn interface(&mut self, body: &[u8]) -> Result<u32, Error> {
        let options = body.get(8..).ok_or_else(|| self.corrupt("interface block is too short"))?;
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(self.corrupt("more interfaces than any recording has"));
        }
        let mut found =
            Interface { link_type: self.u16(body, 0), snaplen: self.u32(body, 4), ..Default::default() };
        let text = |value: &[u8]| Some(String::from_utf8_lossy(value).into_owned());
        self.options(options, |code, value| match (code, value) {
            (2, _) => found.name = text(value),
            (3, _) => found.description = text(value),
            (9, [resolution, ..]) => found.resolution = Resolution::from_option(*resolution),
            // The first octet of a filter says what kind it is; 0 is text.
            (11, [0, filter @ ..]) => found.filter = text(filter),
            (14, [a, b, c, d, e, f, g, h]) => {
                let raw = [*a, *b, *c, *d, *e, *f, *g, *h];
                found.offset_s =
                    if self.big_endian { i64::from_be_bytes(raw) } else { i64::from_le_bytes(raw) };
            }
            _ => {}
        });
        self.interfaces.push(found);
        Ok((self.interfaces.len() - 1) as u32)
    }

    #[inline]
    fn enhanced_packet<'a>(&self, body: &'a [u8]) -> Result<Packet<'a>, Error> {
        let (Some(fixed), Some(rest)) = (body.first_chunk::<20>(), body.get(20..)) else {
            return Err(self.corrupt("packet block is too short"));
        };
        let caplen = self.u32(fixed, 12) as usize;
        let (data, options) = self.split_data(rest, caplen)?;
        let (interface, ts_ns) =
            self.stamp(self.u32(fixed, 0) as usize, self.u32(fixed, 4), self.u32(fixed, 8))?;
        let original_len = self.u32(fixed, 16);
        let mut packet = Packet { interface, ts_ns: Some(ts_ns), original_len, flags: 0, dropped: 0, data };
        self.packet_options(options, &mut packet);
        Ok(packet)
    }

    fn obsolete_packet<'a>(&self, body: &'a [u8]) -> Result<Packet<'a>, Error> {
        let rest = body.get(20..).ok_or_else(|| self.corrupt("packet block is too short"))?;
        let (data, options) = self.split_data(rest, self.u32(body, 12) as usize)?;
        let (interface, ts_ns) =
            self.stamp(self.u16(body, 0) as usize, self.u32(body, 4), self.u32(body, 8))?;
        // 0xFFFF says that the writer does not know how many were lost.
        let dropped = match self.u16(body, 2) {
            0xFFFF => 0,
            count => u64::from(count),
        };
        let original_len = self.u32(body, 16);
        let mut packet = Packet { interface, ts_ns: Some(ts_ns), original_len, flags: 0, dropped, data };
        self.packet_options(options, &mut packet);
        Ok(packet)
    }

    /// A simple packet block states no captured length: it is the smallest of length, snaplen and room.
    fn simple_packet<'a>(&self, body: &'a [u8]) -> Result<Packet<'a>, Error> {
        let rest = body.get(4..).ok_or_else(|| self.corrupt("packet block is too short"))?;
        let of = self.interfaces.get(self.first_interface);
        let of = of.ok_or_else(|| self.corrupt("packet of an interface that was not described"))?;
        let original_len = self.u32(body, 0);
        let limit = if of.snaplen == 0 { original_len } else { original_len.min(of.snaplen) };
        let data = &rest[..rest.len().min(limit as usize)];
        let interface = self.first_interface as u32;
        Ok(Packet { interface, ts_ns: None, original_len, flags: 0, dropped: 0, data })
    }

    fn statistics(&self, body: &[u8]) -> Result<Statistics, Error> {
        let options = body.get(12..).ok_or_else(|| self.corrupt("statistics block is too short"))?;
        let local = self.u32(body, 0) as usize;
        let (interface, ts_ns) = self.stamp(local, self.u32(body, 4), self.u32(body, 8))?;
        let mut found = Statistics { interface, ts_ns, ..Default::default() };
        self.options(options, |code, value| {
            if value.len() < 8 {
                return;
            }
            let time = || self.stamp(local, self.u32(value, 0), self.u32(value, 4)).ok().map(|(_, ns)| ns);
            match code {
                2 => found.start_ns = time(),
                3 => found.end_ns = time(),
                4 => found.received = Some(self.u64(value)),
                5 => found.nic_dropped = Some(self.u64(value)),
                6 => found.accepted = Some(self.u64(value)),
                7 => found.os_dropped = Some(self.u64(value)),
                8 => found.delivered = Some(self.u64(value)),
                _ => {}
            }
        });
        Ok(found)
    }

    fn secrets<'a>(&self, body: &'a [u8]) -> Result<Secrets<'a>, Error> {
        let rest = body.get(8..).ok_or_else(|| self.corrupt("secrets block is too short"))?;
        let data = rest.get(..self.u32(body, 4) as usize);
        let data = data.ok_or_else(|| self.corrupt("secrets reach past their block"))?;
        Ok(Secrets { kind: self.u32(body, 0), data })
    }

    #[inline]
    fn split_data<'a>(&self, rest: &'a [u8], caplen: usize) -> Result<(&'a [u8], &'a [u8]), Error> {
        if caplen > rest.len() {
            return Err(self.corrupt("packet reaches past its block"));
        }
        let (data, after) = rest.split_at(caplen);
        Ok((data, after.get(caplen.wrapping_neg() & 3..).unwrap_or_default()))
    }

    fn is_described(&self, local: usize) -> bool {
        self.interfaces.len() > self.first_interface + local
    }

    #[inline]
    fn stamp(&self, local: usize, high: u32, low: u32) -> Result<(u32, i64), Error> {
        let index = self.first_interface + local;
        let of = self.interfaces.get(index);
        let of = of.ok_or_else(|| self.corrupt("packet of an interface that was not described"))?;
        let ticks = u64::from(high) << 32 | u64::from(low);
        Ok((index as u32, of.resolution.to_ns(ticks, of.offset_s)))
    }

    #[inline]
    fn packet_options(&self, options: &[u8], packet: &mut Packet<'_>) {
        if options.is_empty() {
            return;
        }
        self.options(options, |code, value| match code {
            2 if value.len() == 4 => packet.flags = self.u32(value, 0),
            4 if value.len() == 8 => packet.dropped = self.u64(value),
            _ => {}
        });
    }

    /// Calls `each` for every whole option; a torn option list loses its rest, not the packet before it.
    #[inline]
    fn options<'a>(&self, mut rest: &'a [u8], mut each: impl FnMut(u16, &'a [u8])) {
        while rest.len() >= 4 {
            let (code, len) = (self.u16(rest, 0), self.u16(rest, 2) as usize);
            let Some(value) = rest.get(4..4 + len).filter(|_| code != 0) else {
                return;
            };
            each(code, value);
            rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    #[cold]
    fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { offset: self.offset, what }
    }

    // Callers have checked the length; a byte that is missing all the same reads as zero instead of panicking.
    #[inline]
    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let raw = bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) }
    }

    #[inline]
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let raw = bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
    }

    #[inline]
    fn u64(&self, bytes: &[u8]) -> u64 {
        let raw = bytes.first_chunk().copied().unwrap_or_default();
        if self.big_endian { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) }
    }
}
