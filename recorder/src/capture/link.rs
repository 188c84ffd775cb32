//! Makes frames of other link types look like Ethernet, the only link type of a segment.
//! In: a record of a capture file. Out: a frame with the header it lacks, whatever the record is.
//! Nothing of the packet itself is changed.

use shark_schema::segment::flags;

use super::filter::View;
use super::lane::{Frame, Splice};

/// Link types (tcpdump.org/linktypes) a replay understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Ethernet,
    Null,
    Raw,
    Sll,
    Sll2,
}

impl Link {
    pub fn from_type(number: u16) -> Option<Link> {
        Some(match number {
            1 => Link::Ethernet,
            0 | 108 => Link::Null,
            // 12 and 14 are what DLT_RAW is on some systems.
            12 | 14 | 101 | 228 | 229 => Link::Raw,
            113 => Link::Sll,
            276 => Link::Sll2,
            _ => return None,
        })
    }

    pub fn is_synthetic(self) -> bool {
        self != Link::Ethernet
    }

    /// A record without the header its link type says is kept whole, behind a header that says nothing.
    pub fn frame<'a>(self, data: &'a [u8], original_len: u32, ts_ns: i64, flags: u32) -> Frame<'a> {
        let whole = Frame { ts_ns, data, original_len, flags, splice: Splice::Ethernet([0; 14]) };
        self.translate(data, original_len, ts_ns, flags).unwrap_or(whole)
    }

    fn translate<'a>(self, data: &'a [u8], original_len: u32, ts_ns: i64, flags: u32) -> Option<Frame<'a>> {
        let frame = |skip: usize, splice, flags| {
            let data = data.get(skip..)?;
            Some(Frame { ts_ns, data, original_len: original_len.saturating_sub(skip as u32), flags, splice })
        };
        match self {
            Link::Ethernet => frame(0, Splice::Nothing, flags),
            Link::Raw => frame(0, Splice::Ethernet(header([0; 6], ip_version(data.first()?)?)), flags),
            // The family in front is in the byte order of whoever captured; the version nibble says the same.
            Link::Null => frame(4, Splice::Ethernet(header([0; 6], ip_version(data.get(4)?)?)), flags),
            Link::Sll => {
                let fixed: &[u8; 16] = data.first_chunk()?;
                let splice = Splice::Ethernet(header(mac(&fixed[6..12]), [fixed[14], fixed[15]]));
                frame(16, splice, flags | direction(fixed[1]))
            }
            Link::Sll2 => {
                let fixed: &[u8; 20] = data.first_chunk()?;
                let splice = Splice::Ethernet(header(mac(&fixed[12..18]), [fixed[0], fixed[1]]));
                frame(20, splice, flags | direction(fixed[10]))
            }
        }
    }
}

/// The frame as the kernel would show it to a filter: a tag in the bytes is left out there.
pub fn view<'a>(frame: &'a Frame<'a>) -> View<'a> {
    match &frame.splice {
        Splice::Ethernet(header) => View { link: header, rest: frame.data },
        _ if frame.data.len() >= 16 && matches!(frame.data[12..14], [0x81, 0x00] | [0x88, 0xA8]) => {
            View { link: &frame.data[..12], rest: &frame.data[16..] }
        }
        _ => View { link: frame.data, rest: &[] },
    }
}

fn header(source: [u8; 6], ethertype: [u8; 2]) -> [u8; 14] {
    let mut header = [0; 14];
    header[6..12].copy_from_slice(&source);
    header[12..].copy_from_slice(&ethertype);
    header
}

fn mac(bytes: &[u8]) -> [u8; 6] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn ip_version(byte: &u8) -> Option<[u8; 2]> {
    match byte >> 4 {
        4 => Some([0x08, 0x00]),
        6 => Some([0x86, 0xDD]),
        _ => None,
    }
}

fn direction(packet_type: u8) -> u32 {
    if packet_type == 4 { flags::OUTBOUND } else { flags::INBOUND }
}
