//! Any bytes as one frame of any link type: decoding ends, and what it gives lies within the frame.
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run frames` in `analyzer/dissect`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shark_dissect::frame::{Decoded, Frame, Transport, decode};

fuzz_target!(|data: &[u8]| {
    let [high, low, data @ ..] = data else { return };
    let link_type = u16::from_be_bytes([*high, *low]);
    let wire_len = data.len() as u32;
    let frame = Frame { ts_ns: 0, data, wire_len, link_type, iface: 0, segment: 0, number: 1, site: Default::default() };
    if let Decoded::Packet(packet) = decode(frame)
        && let Transport::Tcp(tcp) = packet.transport
    {
        assert!(tcp.payload.len() <= data.len());
    }
});
