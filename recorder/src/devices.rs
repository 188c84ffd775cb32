//! The network devices of this network namespace: which there are, when that changes, and their own counters.
//! In: rtnetlink(7), and /proc/net/dev, which unlike /sys always shows the namespace of the reader. Out: devices, counters by
//! name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use crate::capture::Device;
use crate::netlink::{Netlink, attributes};

// linux/rtnetlink.h
const GROUP_LINK: u32 = 1;
const GET_LINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
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
    /// Received and dropped before any socket could see it; the kernel adds rx_missed_errors here.
    pub rx_dropped: u64,
}

pub fn counters() -> io::Result<BTreeMap<String, DeviceCounters>> {
    Ok(fs::read_to_string("/proc/self/net/dev")?.lines().filter_map(parse).collect())
}

/// `name: rx bytes packets errs drop fifo frame compressed multicast tx bytes packets …`
fn parse(line: &str) -> Option<(String, DeviceCounters)> {
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [rx_bytes, rx_packets, _, rx_dropped, _, _, _, _, tx_bytes, tx_packets, ..] = numbers[..] else {
        return None;
    };
    let counters =
        DeviceCounters { packets: rx_packets + tx_packets, bytes: rx_bytes + tx_bytes, rx_dropped };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel() {
        let line = "  eth0:0: 1500 10 0 3 0 0 0 1 900 6 0 0 0 0 0 0";
        let expected = DeviceCounters { packets: 16, bytes: 2_400, rx_dropped: 3 };
        assert_eq!(parse(line), Some(("eth0:0".to_owned(), expected)));
        assert_eq!(parse(" face |bytes packets errs drop"), None);
        assert_eq!(parse("lo: 1 2 3"), None);
    }

    #[test]
    fn loopback_is_there() {
        assert!(counters().unwrap().contains_key("lo"));
        let devices = Watch::open().unwrap().list().unwrap();
        let lo = devices.iter().find(|device| device.name == "lo").unwrap();
        assert!(lo.ifindex == 1 && lo.loopback && !lo.synthetic_ethernet);
    }
}
