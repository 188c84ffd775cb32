//! Reads one block of a TPACKET_V3 ring (linux/if_packet.h: tpacket_block_desc, tpacket3_hdr, sockaddr_ll).
//! In: the bytes of a block the kernel has handed over. Out: its frames, each with the index of its device.
//! Offsets come from the kernel and are checked all the same: a wrong one ends the block, it never panics.

use shark_schema::segment::flags;

use super::lane::{Frame, Splice};

const STATUS_LOSING: u32 = 1 << 2;
const STATUS_CSUMNOTREADY: u32 = 1 << 3;
const STATUS_VLAN_VALID: u32 = 1 << 4;
const STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const STATUS_CSUM_VALID: u32 = 1 << 7;
const STATUS_GSO_TCP: u32 = 1 << 8;

const PACKET_OUTGOING: u8 = 4;
const HEADER_BYTES: usize = 48;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// linux/if_arp.h: devices with an Ethernet header.
pub const ARPHRD_ETHER: u16 = 1;
pub const ARPHRD_LOOPBACK: u16 = 772;

/// The frames of a block.
#[derive(Clone)]
pub struct Frames<'a> {
    block: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Frames<'a> {
    pub fn new(block: &'a [u8]) -> Frames<'a> {
        let left = u32_at(block, 12).unwrap_or(0);
        let at = u32_at(block, 16).unwrap_or(0) as usize;
        Frames { block, at, left }
    }

    /// Stamp of the first packet.
    pub fn first_ns(&self) -> Option<i64> {
        self.clone().next().map(|(_, frame)| frame.ts_ns)
    }

    /// The kernel has lost packets, before those of this block, and its statistics tell how many.
    pub fn losing(&self) -> bool {
        u32_at(self.block, 8).unwrap_or(0) & STATUS_LOSING != 0
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (u32, Frame<'a>);

    #[inline]
    fn next(&mut self) -> Option<(u32, Frame<'a>)> {
        if self.left == 0 {
            return None;
        }
        let header = self.block.get(self.at..)?;
        // The fixed header and the sockaddr_ll behind it, in one check.
        let fixed: &[u8; HEADER_BYTES + 20] = header.first_chunk()?;
        let status = u32_at(fixed, 20)?;
        let start = u16_at(fixed, 24)? as usize;
        let data = header.get(start..start + u32_at(fixed, 12)? as usize)?;
        let frame = Frame {
            ts_ns: i64::from(u32_at(fixed, 4)?) * 1_000_000_000 + i64::from(u32_at(fixed, 8)?),
            data,
            original_len: u32_at(fixed, 16)?,
            flags: epb_flags(status, fixed[HEADER_BYTES + 10]),
            splice: splice(fixed, status),
        };
        self.left -= 1;
        self.at += u32_at(fixed, 0)? as usize;
        Some((u32_at(fixed, HEADER_BYTES + 4)?, frame))
    }
}

#[inline]
fn splice(fixed: &[u8; HEADER_BYTES + 20], status: u32) -> Splice {
    let link_type = u16::from_ne_bytes([fixed[HEADER_BYTES + 8], fixed[HEADER_BYTES + 9]]);
    if !has_ethernet(link_type) {
        let mut header = [0; 14];
        // sll_protocol is in network order, as the EtherType of the header it stands in for.
        header[12..].copy_from_slice(&fixed[HEADER_BYTES + 2..HEADER_BYTES + 4]);
        return Splice::Ethernet(header);
    }
    if status & STATUS_VLAN_VALID == 0 {
        return Splice::Nothing;
    }
    let tci = u32_at(fixed, 32).unwrap_or(0) as u16;
    let tpid = match status & STATUS_VLAN_TPID_VALID {
        0 => ETHERTYPE_VLAN,
        _ => u16_at(fixed, 36).unwrap_or(ETHERTYPE_VLAN),
    };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), tci.to_be_bytes());
    Splice::Tag([a, b, c, d])
}

/// Whether a device of this ARPHRD type has a link layer we keep.
pub fn has_ethernet(link_type: u16) -> bool {
    matches!(link_type, ARPHRD_ETHER | ARPHRD_LOOPBACK)
}

#[inline]
fn epb_flags(status: u32, packet_type: u8) -> u32 {
    let mut bits = match packet_type {
        PACKET_OUTGOING => flags::OUTBOUND,
        _ => flags::INBOUND,
    };
    // Reception type, bits 2 to 4: unicast, multicast, broadcast, promiscuous.
    bits |= match packet_type {
        0 => 1 << 2,
        1 => 3 << 2,
        2 => 2 << 2,
        3 => 4 << 2,
        _ => 0,
    };
    if status & STATUS_CSUMNOTREADY != 0 {
        bits |= flags::CHECKSUM_NOT_READY;
    }
    if status & STATUS_CSUM_VALID != 0 {
        bits |= flags::CHECKSUM_VALID;
    }
    if status & STATUS_GSO_TCP != 0 {
        bits |= flags::SEGMENTATION_OFFLOAD;
    }
    bits
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_ne_bytes(*raw))
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_ne_bytes(*raw))
}
