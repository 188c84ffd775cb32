//! The network devices of this network namespace and their own counters.
//! In: /proc/net/dev, which unlike /sys always shows the namespace of the reader. Out: counters by name.

use std::collections::BTreeMap;
use std::fs;
use std::io;

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
    }
}
