//! Link layers: where the IP header of a record begins, and the VLAN tags before it.

/// Link types of libpcap (<https://www.tcpdump.org/linktypes.html>).
pub mod kind {
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    pub const PPP: u16 = 9;
    pub const RAW_OPENBSD: u16 = 12;
    pub const RAW_BSD: u16 = 14;
    pub const RAW: u16 = 101;
    pub const LOOP: u16 = 108;
    pub const SLL: u16 = 113;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const NFLOG: u16 = 239;
    pub const PKTAP: u16 = 258;
    pub const SLL2: u16 = 276;
}

pub type Layer2 = Option<Result<(usize, [u16; 2]), ()>>;

/// Where the IP header starts and the VLAN tags before it; `Err` for another protocol, `None` for a cut header.
pub fn ip_offset(link_type: u16, data: &[u8]) -> Layer2 {
    match link_type {
        kind::ETHERNET => ether_type(data, 12),
        kind::SLL => ether_type(data, 14),
        kind::SLL2 => vlan_tags(data, 20, be16(data, 0)?),
        kind::PPP => ppp(data),
        kind::NFLOG => nflog(data),
        kind::PKTAP => {
            let header = le32(data, 0)? as usize;
            let inner = u16::try_from(le32(data, 8)?).ok().filter(|inner| *inner != kind::PKTAP)?;
            let (offset, vlans) = match ip_offset(inner, data.get(header..)?)? {
                Ok(found) => found,
                Err(()) => return Some(Err(())),
            };
            Some(Ok((header + offset, vlans)))
        }
        kind::RAW | kind::RAW_BSD | kind::RAW_OPENBSD | kind::IPV4 | kind::IPV6 => Some(Ok((0, [0; 2]))),
        // The family is in the byte order of the machine that wrote it (LOOP: network order); its numbers are below 256.
        kind::NULL | kind::LOOP => match data.get(..4)? {
            [2, 0, 0, 0] | [0, 0, 0, 2] => Some(Ok((4, [0; 2]))),
            [24 | 28 | 30 | 10, 0, 0, 0] | [0, 0, 0, 24 | 28 | 30 | 10] => Some(Ok((4, [0; 2]))),
            _ => Some(Err(())),
        },
        _ => Some(Err(())),
    }
}

/// Netfilter's log: type, length and value, of which NFULA_PAYLOAD (9) is the packet (linux/netfilter/nfnetlink_log.h).
/// Lengths are in the byte order of the machine that wrote them; x86 and ARM are little-endian.
fn nflog(data: &[u8]) -> Layer2 {
    let mut at = 4;
    loop {
        let (len, kind) = (le16(data, at)? as usize, le16(data, at + 2)?);
        match kind & 0x7fff {
            9 => return Some(Ok((at + 4, [0; 2]))),
            _ if len < 4 => return None,
            _ => at += len.next_multiple_of(4),
        }
    }
}

fn le16(data: &[u8], at: usize) -> Option<u16> {
    be16(data, at).map(u16::swap_bytes)
}

fn le32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(le16(data, at + 2)?) << 16 | u32::from(le16(data, at)?))
}

fn ether_type(data: &[u8], at: usize) -> Layer2 {
    vlan_tags(data, at + 2, be16(data, at)?)
}

/// Walks VLAN tags (IEEE 802.1Q section 9): `payload` is what follows the EtherType `ether_type`.
fn vlan_tags(data: &[u8], mut payload: usize, mut ether_type: u16) -> Layer2 {
    let mut vlans = [0; 2];
    let mut depth = 0;
    loop {
        match ether_type {
            0x0800 | 0x86dd => return Some(Ok((payload, vlans))),
            0x8100 | 0x88a8 | 0x9100 => {
                if let Some(vlan) = vlans.get_mut(depth) {
                    *vlan = be16(data, payload)? & 0x0fff;
                }
                ether_type = be16(data, payload + 2)?;
                payload += 4;
                depth += 1;
            }
            // PPP over Ethernet (RFC 2516 section 4): six bytes, then the protocol of PPP.
            0x8864 => match ppp(data.get(payload + 6..)?)? {
                Ok((offset, _)) => return Some(Ok((payload + 6 + offset, vlans))),
                Err(()) => return Some(Err(())),
            },
            0x8847 | 0x8848 => return mpls(data, payload, vlans),
            _ => return Some(Err(())),
        }
    }
}

/// Walks a stack of labels up to its bottom (RFC 3032 section 2.1); what follows has no type, only the version of IP.
fn mpls(data: &[u8], mut at: usize, vlans: [u16; 2]) -> Layer2 {
    while *data.get(at + 2)? & 1 == 0 {
        at += 4;
    }
    match data.get(at + 4)? >> 4 {
        4 | 6 => Some(Ok((at + 4, vlans))),
        _ => Some(Err(())),
    }
}

/// Address and control may be left out, and the first byte of the protocol too (RFC 1661 sections 6.5 and 6.6).
fn ppp(data: &[u8]) -> Layer2 {
    let at = if data.starts_with(&[0xff, 0x03]) { 2 } else { 0 };
    match data.get(at..)? {
        [0x21 | 0x57, ..] => Some(Ok((at + 1, [0; 2]))),
        [0x00, 0x21 | 0x57, ..] => Some(Ok((at + 2, [0; 2]))),
        [] => None,
        _ => Some(Err(())),
    }
}

pub fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]))
}
