//! Captures read and written by a library that is not ours: what went into a file and what came out of it, packet by packet.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapTsResolution, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub time: Duration,
    pub original_len: u32,
    pub data: Vec<u8>,
}

/// All packets of a pcapng file, plain or in zstd, in its order.
pub fn read(path: &Path) -> Vec<Packet> {
    let file = BufReader::new(File::open(path).expect("the capture is there"));
    let bytes: Box<dyn Read> = if path.extension().is_some_and(|ending| ending == "zst") {
        Box::new(zstd::stream::read::Decoder::new(file).expect("zstd"))
    } else {
        Box::new(file)
    };
    let mut reader = PcapNgReader::new(bytes).expect("a pcapng file");
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let (Block::EnhancedPacket(packet), _) = block.expect("a whole block") {
            packets.push(Packet {
                time: packet.timestamp,
                original_len: packet.original_len,
                data: packet.data.into_owned(),
            });
        }
    }
    packets
}

/// The sealed segments of a ring, in their order.
pub fn segments(ring: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(ring.join("segments")).expect("a ring");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".pcapng.zst"));
    paths.sort();
    paths
}

/// A pcap file of Ethernet frames, stamped in nanoseconds.
pub fn write<'a>(path: &Path, packets: impl Iterator<Item = &'a Packet>) {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ts_resolution: PcapTsResolution::NanoSecond,
        snaplen: 256 * 1024,
        ..PcapHeader::default()
    };
    let file = BufWriter::new(File::create(path).expect("the file can be made"));
    let mut writer = PcapWriter::with_header(file, header).expect("the header is written");
    for packet in packets {
        let packet = PcapPacket::new(packet.time, packet.original_len, &packet.data[..]).expect("a packet");
        writer.write_packet(&packet).expect("the packet is written");
    }
    writer.flush().expect("the file is written");
}
