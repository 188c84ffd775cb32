//! Packets in tunnels, behind tags and labels: their innermost addresses and ports, frame by frame.

use super::{Line, Verdict, counted, told};

#[test]
fn the_corpus_has_the_same_packets_in_tunnels() {
    let captures = told("encap", "packets", "frames");
    if captures.is_empty() {
        return;
    }
    let mut verdict = Verdict::default();
    for capture in &captures {
        let ours = counted(&capture.rows, |packet| {
            ends(packet, ["packet_id", "src_ip", "src_port", "dst_ip", "dst_port"])
        });
        let theirs =
            counted(&capture.truth, |packet| ends(packet, ["frame", "src", "sport", "dst", "dport"]));
        verdict.compare(&capture.file, &ours, &theirs);
    }
    verdict.judge(&[], 700);
}

/// Addresses, and ports where there are some; those that we give ICMP stand for its type and code.
fn ends(packet: &Line, names: [&str; 5]) -> Option<String> {
    let is_icmp = packet.get("proto").is_some_and(|proto| proto.starts_with("icmp"));
    let cell = |name: &str| if is_icmp && name.ends_with("port") { "" } else { packet[name].as_str() };
    let text = names.map(cell).join(" ");
    (!packet[names[1]].is_empty()).then_some(text)
}
