//! The network devices of this network namespace: which there are, when that changes, and their own counters.
//! In: rtnetlink(7), which unlike /sys always shows the namespace of the reader. Out: devices, counters by name.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::capture::Device;
use crate::netlink::{Netlink, attributes};

// linux/rtnetlink.h
const GROUP_LINK: u32 = 1;
const GET_LINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_STATS64: u16 = 23;
/// struct ifinfomsg: family, padding, type (2 bytes), index, flags, change mask.
const IFINFO_BYTES: usize = 16;

/// Tells when devices come, go or change.
pub struct Watch {
    told: Netlink,
    questions: Netlink,
}

impl Watch {
    pub fn open() -> io::Result<Watch> {
        Ok(Watch { told: Netlink::open(None, GROUP_LINK)?, questions: Netlink::open(None, 0)? })
    }

    /// Waits for a change. True at once after one; what changed is for [`Watch::list`] to tell.
    pub fn wait(&self, timeout: Duration) -> bool {
        let changed = self.told.wait(timeout).unwrap_or(false);
        if changed {
            self.told.drain();
        }
        changed
    }

    /// All devices there are now, by index.
    pub fn list(&self) -> io::Result<Vec<Device>> {
        let mut devices = Vec::new();
        self.questions.dump(GET_LINK, &[0; IFINFO_BYTES], |body| devices.extend(device(body)))?;
        devices.sort_by_key(|device| device.ifindex);
        Ok(devices)
    }
}

fn device(body: &[u8]) -> Option<Device> {
    let fixed: &[u8; IFINFO_BYTES] = body.first_chunk()?;
    let link_type = u16::from_ne_bytes([fixed[2], fixed[3]]);
    let ifindex = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let name = attributes(&body[IFINFO_BYTES..]).find(|(kind, _)| *kind == IFLA_IFNAME)?.1;
    let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next()?).into_owned();
    Some(Device::new(name, ifindex, link_type))
}

/// Running totals since the device was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    pub packets: u64,
    pub bytes: u64,
    /// Received and dropped before any socket could see it, for want of buffers: rx_missed_errors and rx_fifo_errors. The kernel's
    /// rx_dropped is left out: it counts packets that no protocol took, such as those of an unknown VLAN, which sockets have seen.
    pub rx_missed: u64,
}

pub fn counters() -> io::Result<BTreeMap<String, DeviceCounters>> {
    let mut all = BTreeMap::new();
    Netlink::open(None, 0)?.dump(GET_LINK, &[0; IFINFO_BYTES], |body| all.extend(counters_of(body)))?;
    Ok(all)
}

fn counters_of(body: &[u8]) -> Option<(String, DeviceCounters)> {
    let name = device(body)?.name;
    let (_, stats) = attributes(body.get(IFINFO_BYTES..)?).find(|(kind, _)| *kind == IFLA_STATS64)?;
    Some((name, parse(stats)?))
}

/// struct rtnl_link_stats64 (linux/if_link.h): rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped,
/// tx_dropped, multicast, collisions, rx_length_errors, rx_over_errors, rx_crc_errors, rx_frame_errors, rx_fifo_errors,
/// rx_missed_errors, and more.
fn parse(stats: &[u8]) -> Option<DeviceCounters> {
    let at = |place: usize| Some(u64::from_ne_bytes(*stats.get(place * 8..)?.first_chunk()?));
    Some(DeviceCounters {
        packets: at(0)?.saturating_add(at(1)?),
        bytes: at(2)?.saturating_add(at(3)?),
        rx_missed: at(14)?.saturating_add(at(15)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_unknown_protocols_are_not_missed_packets() {
        // rx_packets 10, tx_packets 6, rx_bytes 1500, tx_bytes 900, rx_dropped 3, rx_fifo_errors 1, rx_missed_errors 2.
        let words: [u64; 16] = [10, 6, 1_500, 900, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        let stats: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let expected = DeviceCounters { packets: 16, bytes: 2_400, rx_missed: 3 };
        assert_eq!(parse(&stats), Some(expected));
        assert_eq!(parse(&stats[..100]), None);
    }

    #[test]
    fn this_namespace_has_a_loopback_device() {
        assert!(counters().unwrap().contains_key("lo"));
    }
}
