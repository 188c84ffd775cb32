//! What ping and the kernel sent, as tshark reads it.

use super::{cells, is_installed, tshark};
use crate::recording::captures;

#[test]
fn tshark_reads_the_same_icmp() {
    if !is_installed() {
        return;
    }
    for capture in captures("icmp") {
        let echoes = cells(&capture, "icmp", &["type_number", "identifier", "sequence"]);
        let echoes: Vec<_> = echoes.into_iter().filter(|line| line.starts_with("8\t")).collect();
        assert_eq!(echoes, tshark(&capture, "icmp.type == 8", &["icmp.type", "icmp.ident", "icmp.seq"]));
        let about = cells(&capture, "icmp", &["type_number", "code", "about_dst_port"]);
        let about: Vec<_> = about.into_iter().filter(|line| line.starts_with("3\t3\t")).collect();
        assert_eq!(
            about,
            tshark(&capture, "icmp.type == 3 and icmp.code == 3", &["icmp.type", "icmp.code", "udp.dstport"])
        );
        assert!(!echoes.is_empty() && !about.is_empty());
    }
}
