//! What a conversation is called. In: its key and its first stamp. Out: texts and ids that other tools compute alike.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::frame::FlowKey;
use crate::shared::FlowId;

/// True for protocols whose endpoints have ports (ICMP has a type and a code there).
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// Community ID version 1 with seed 0 (<https://github.com/corelight/community-id-spec>).
pub fn community_id(key: &FlowKey) -> String {
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    let [first, second] = &key.ends;
    // IPv4 addresses are hashed with their four bytes; their order is that of the mapped form.
    for end in [first, second] {
        let v4 = std::net::Ipv6Addr::from(end.ip).to_ipv4_mapped();
        match v4 {
            Some(v4) => hash.update(v4.octets()),
            None => hash.update(end.ip),
        }
    }
    hash.update([key.protocol, 0]);
    if has_ports(key.protocol) || matches!(key.protocol, 1 | 58) {
        hash.update(first.port.to_be_bytes());
        hash.update(second.port.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

/// Deterministic id of a conversation: its key and its first time stamp.
pub(super) fn flow_id(key: &FlowKey, first_ns: i64) -> FlowId {
    let mut hash = Sha1::new();
    for end in &key.ends {
        hash.update(end.ip);
        hash.update(end.port.to_be_bytes());
    }
    hash.update([key.protocol]);
    for vlan in key.vlans {
        hash.update(vlan.to_be_bytes());
    }
    hash.update(first_ns.to_be_bytes());
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    let mut id = [0; 20];
    for (two, byte) in id.as_chunks_mut::<2>().0.iter_mut().zip(hash.finalize()) {
        *two = digits(byte);
    }
    FlowId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{End, mapped};

    /// Example values of the Community ID specification.
    #[test]
    fn community_ids_of_the_specification() {
        let key = |a: [u8; 4], ap, b: [u8; 4], bp, protocol| FlowKey {
            ends: [End { ip: mapped(a), port: ap }, End { ip: mapped(b), port: bp }],
            protocol,
            vlans: [0; 2],
            scope: 0,
        };
        let tcp = key([66, 35, 250, 204], 80, [128, 232, 110, 120], 34855, 6);
        assert_eq!(community_id(&tcp), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        let udp = key([8, 8, 8, 8], 53, [192, 168, 1, 52], 54585, 17);
        assert_eq!(community_id(&udp), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
    }
}
