//! The segment: one recorded file, its name, its bytes (PCAP-NG) and the sidecar beside it.
//! In: packets and counters, or the bytes of any pcapng file. Out: bytes appended to a buffer, or borrowed blocks.
//! Nothing here touches a file, allocates per packet, or panics on bytes from outside.

mod blocks;
mod clock;
mod encode;
mod name;
mod ring;
mod sidecar;
mod slice;

pub use blocks::{Block, Interface, Item, Next, Packet, Reader, Secrets, Section, Statistics};
pub use encode::{
    InterfaceNote, PacketHead, SectionNote, interface, packet, packet_len, packet_spliced, renumber, section,
    statistics,
};
pub use name::{Name, NameError, PLAINTEXT_WORKER, Series};
pub use ring::{RING_FILE, RING_FORMAT, RingFile};
pub use sidecar::{
    Bucket, CloseReason, Counters, Loss, LostBy, MOST_LOSSES, PodRef, SHARED_SOCKET, Sidecar, SidecarError,
    SidecarInterface, Versions,
};
pub use slice::Blocks;

/// Version of the file format and of its sidecar; a reader accepts every version up to its own.
pub const FORMAT_VERSION: u32 = 1;

/// LINKTYPE_ETHERNET; every interface of a segment has it, because libpcap refuses a mix.
pub const LINKTYPE_ETHERNET: u16 = 1;

/// The snaplen every interface block states, since libpcap refuses a mix; what was in force is in [`InterfaceNote`].
pub const FILE_SNAPLEN_BYTES: u32 = 262_144;

/// Longest block a reader accepts; a longer length field is taken for damage, not for a reason to allocate.
pub const MAX_BLOCK_BYTES: usize = 64 << 20;

/// Most interfaces a reader keeps over all sections of one input.
pub const MAX_INTERFACES: usize = 1 << 18;

/// Time after which counters are written again, within a segment and in the log.
pub const BUCKET_NS: i64 = 10_000_000_000;

/// Bits of `epb_flags` (draft-ietf-opsawg-pcapng, Enhanced Packet Block flags word).
pub mod flags {
    pub const DIRECTION_MASK: u32 = 0b11;
    pub const INBOUND: u32 = 0b01;
    pub const OUTBOUND: u32 = 0b10;
    /// The checksum is left to hardware that never saw the packet: a wrong one means nothing.
    pub const CHECKSUM_NOT_READY: u32 = 1 << 9;
    pub const CHECKSUM_VALID: u32 = 1 << 10;
    /// The kernel handed over several wire segments as one (TSO or GRO).
    pub const SEGMENTATION_OFFLOAD: u32 = 1 << 11;
}

/// Why bytes could not be read as pcapng.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends inside a block: everything before `offset` is whole.
    #[error(
        "the file ends in the middle of a block that starts at byte {offset}; everything before it is whole"
    )]
    Torn { offset: u64 },
    /// The bytes at `offset` contradict the format.
    #[error("damaged pcapng at byte {offset}: {what}")]
    Corrupt { offset: u64, what: &'static str },
}
