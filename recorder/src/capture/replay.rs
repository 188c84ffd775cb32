//! Replays a capture file through the path of live packets; stamps stay as they are.
//! In: a pcap or pcapng file. Out: batches. A replay waits for the writer, so it loses nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::filter::Filter;
use super::lane::Lane;
use super::link::{Link, view};
use super::pcap::{CaptureFile, FileError};
use super::socket::Device;
use crate::batch::Source;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{path}: interface {interface} has link type {link_type}; known are Ethernet, NULL, RAW, SLL and SLL2"
    )]
    LinkType { path: PathBuf, interface: usize, link_type: u16 },
    #[error("{path}: no packet in it")]
    Empty { path: PathBuf },
}

pub struct Replay {
    path: PathBuf,
    links: Vec<Link>,
    lane: Lane,
    devices: Vec<Device>,
    filter: Filter,
}

impl Replay {
    /// Reads the file once, because a segment names its interfaces before its packets.
    pub fn open(path: &Path, snaplen: u32, filter: Filter) -> Result<Replay, ReplayError> {
        let mut file = CaptureFile::open(path)?;
        let mut packets = 0u64;
        let read = file.read(|_, _| {
            packets += 1;
            true
        });
        // A torn file is replayed up to where it is torn, and then reported.
        if packets == 0 {
            read?;
            return Err(ReplayError::Empty { path: path.into() });
        }
        let lane = Lane::new(snaplen, true);
        let mut replay = Replay { path: path.into(), links: Vec::new(), lane, devices: Vec::new(), filter };
        for (id, (name, link_type)) in file.interfaces().into_iter().enumerate() {
            let unknown = || ReplayError::LinkType { path: path.into(), interface: id, link_type };
            let link = Link::from_type(link_type).ok_or_else(unknown)?;
            replay.links.push(link);
            replay.lane.add(id as u32);
            let name = name.unwrap_or_else(|| format!("replay{id}"));
            let synthetic_ethernet = link.is_synthetic();
            replay.devices.push(Device { name, ifindex: 0, synthetic_ethernet, loopback: false });
        }
        Ok(replay)
    }

    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    pub fn run(mut self, source: &Source, stop: &AtomicBool) -> Result<(), ReplayError> {
        let mut file = CaptureFile::open(&self.path)?;
        let mut last_ns = 0;
        let result = file.read(|_, record| {
            let place = record.interface as usize;
            let Some(link) = self.links.get(place) else { return true };
            last_ns = record.ts_ns;
            let frame = link.frame(record.data, record.original_len, record.ts_ns, record.flags);
            if self.filter.takes(view(&frame)) {
                self.lane.push(source, place, &frame);
            }
            !stop.load(Ordering::Relaxed)
        });
        self.lane.hand_over(source, last_ns);
        Ok(result?)
    }
}
