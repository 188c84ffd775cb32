//! A file goes the way of live packets: same bytes, same stamps, same filter as the kernel's and as tcpdump's.

use std::fs;
use std::path::Path;

use crate::net::{Net, run, send_numbers};
use crate::process::{Recorder, sharkrec_fails, sharkrec_ok};
use crate::reading::{packets, packets_of, sidecars, totals};

#[test]
fn a_replay_keeps_bytes_stamps_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("in.pcap");
    fs::write(&pcap, old_pcap(1, &(0..500).map(|n| (n * 1_000_003, frame(n as u16))).collect::<Vec<_>>()))
        .unwrap();
    for (suffix, program) in [("", ""), (".zst", "zstd -q -k"), (".gz", "gzip -k")] {
        if !program.is_empty() {
            run("sh", &["-c", &format!("{program} {}", pcap.display())]);
        }
        let ring = dir.path().join(format!("ring{suffix}"));
        let input = format!("{}{suffix}", pcap.display());
        sharkrec_ok(&["record", "--ring", ring.to_str().unwrap(), "--read", &input]);
        let recorded = packets(&ring.join("segments"));
        let expected: Vec<(i64, Vec<u8>)> = (0..500).map(|n| (n * 1_000_003_000, frame(n as u16))).collect();
        assert_eq!(recorded.into_iter().map(|p| (p.ts_ns, p.data)).collect::<Vec<_>>(), expected);
        assert_eq!(totals(&ring.join("segments")).kernel_received, None, "there was no kernel");
    }
}

#[test]
fn a_torn_file_is_replayed_up_to_the_tear_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (pcap, ring) = (dir.path().join("torn.pcap"), dir.path().join("ring"));
    let whole = old_pcap(1, &(0..10).map(|n| (n, frame(n as u16))).collect::<Vec<_>>());
    fs::write(&pcap, &whole[..whole.len() - 5]).unwrap();
    let (code, error) =
        sharkrec_fails(&["record", "--ring", ring.to_str().unwrap(), "--read", pcap.to_str().unwrap()]);
    assert_eq!(code, 1);
    let tear = 24 + 9 * (16 + frame(0).len());
    assert!(error.contains("torn.pcap") && error.contains(&format!("byte {tear}")), "{error}");
    assert_eq!(packets(&ring.join("segments")).len(), 9);
    assert_eq!(sidecars(&ring.join("segments"))[0].close_reason.as_str(), "stop");
}

#[test]
fn packets_without_ethernet_get_a_header_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for (link, strip) in [(101, 14), (12, 14)] {
        let (pcap, ring) = (dir.path().join(format!("{link}.pcap")), dir.path().join(format!("ring{link}")));
        fs::write(&pcap, old_pcap(link, &[(1, frame(7)[strip..].to_vec())])).unwrap();
        sharkrec_ok(&["record", "--ring", ring.to_str().unwrap(), "--read", pcap.to_str().unwrap()]);
        let recorded = packets(&ring.join("segments"));
        assert_eq!(recorded[0].data[12..], frame(7)[12..]);
        assert_eq!(recorded[0].data[..12], [0; 12]);
        assert_eq!(recorded[0].original_len as usize, frame(7).len());
        assert!(sidecars(&ring.join("segments"))[0].interfaces[0].synthetic_ethernet);
    }
}

#[test]
fn our_filters_choose_what_tcpdump_chooses() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let recorder = Recorder::start(&net, &ring, &[]);
    for port in [53, 4000, 4001, 5_000] {
        net.in_sender(move || send_numbers(&format!("10.99.0.9:{port}"), 0, 20, 3_000, 0)).join().unwrap();
    }
    for last in 10..20 {
        // Nobody answers: ARP requests, and no TCP beyond a SYN where a neighbour is known.
        net.in_sender(move || send_numbers(&format!("10.99.0.{last}:80"), 0, 1, 50, 0)).join().unwrap();
    }
    let connect = |address: &'static str| {
        net.in_sender(move || {
            let address = address.parse().unwrap();
            let _ = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(50));
        })
    };
    connect("10.99.0.9:443").join().unwrap();
    connect("10.99.0.9:80").join().unwrap();
    let mut ipv6 = vec![2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 0x86, 0xDD, 0x60, 0, 0, 0, 0, 20, 17, 64];
    ipv6.extend([0xFD; 16]);
    ipv6.extend([0xFE; 16]);
    ipv6.extend([0x12, 0x34, 0, 53, 0, 20, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    net.send_frame(ipv6);
    recorder.stop();
    let all = dir.path().join("all.pcapng");
    let all = all.to_str().unwrap();
    sharkrec_ok(&["pcap", "--ring", ring.to_str().unwrap(), "-w", all]);
    let total = packets_of(&fs::read(all).unwrap()).len();
    let texts = [
        "tcp",
        "udp",
        "arp",
        "ip",
        "ip6",
        "icmp",
        "host 10.99.0.9",
        "src host 10.99.0.1",
        "dst host 10.99.0.1",
        "net 10.99.0.0/28",
        "port 53",
        "udp port 4000",
        "tcp port 443",
        "udp src port 53",
        "dst port 80",
        "portrange 4000-4500",
        "tcp or arp",
        "not udp",
        "udp and not port 4001",
        "not (tcp port 443 or udp port 53)",
        "host 10.99.0.12 or host 10.99.0.13 and arp",
        "ip6 and udp port 53",
        "src net fd00::/8",
        "host fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd",
        "udp portrange 1-65535 and dst net 10.99.0.8/30",
        "not not arp",
        "sctp",
    ];
    let mut selective = 0;
    for (index, text) in texts.iter().enumerate() {
        let other = dir.path().join(format!("ring{index}"));
        let arguments = ["record", "--ring", other.to_str().unwrap(), "--read", all, "--filter", text];
        sharkrec_ok(&arguments);
        let ours = packets(&other.join("segments")).len();
        let theirs = run(
            "sh",
            &["-c", &format!("tcpdump -n -r {all} '{text}' 2>/dev/null | grep -c '^[0-9]' || true")],
        );
        assert_eq!(ours.to_string(), theirs.trim(), "{text}");
        selective += usize::from(ours > 0 && ours < total);
    }
    assert!(selective >= 20, "only {selective} filters told packets apart");
}

/// A UDP packet with a number in it.
fn frame(number: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([
        0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 9, 0, 10, 0, 0,
    ]);
    frame.extend(number.to_be_bytes());
    frame
}

/// A classic pcap with microsecond stamps.
fn old_pcap(link: u32, records: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xA1B2_C3D4, 0x0004_0002, 0, 0, 262_144, link]);
    for (us, data) in records {
        let len = data.len() as u32;
        file.extend(words(&[(us / 1_000_000) as u32, (us % 1_000_000) as u32, len, len]));
        file.extend(data);
    }
    file
}

#[test]
fn a_record_without_its_own_header_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (pcap, ring) = (dir.path().join("short.pcap"), dir.path().join("ring"));
    fs::write(&pcap, old_pcap(113, &[(1, vec![7; 5]), (2, vec![])])).unwrap();
    sharkrec_ok(&["record", "--ring", ring.to_str().unwrap(), "--read", pcap.to_str().unwrap()]);
    let recorded: Vec<Vec<u8>> = packets(&ring.join("segments")).into_iter().map(|p| p.data).collect();
    assert_eq!(recorded, [[vec![0; 14], vec![7; 5]].concat(), vec![0; 14]]);
}

#[test]
fn strangers_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let refuse = |name: &str, bytes: &[u8], why: &str| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (code, error) =
            sharkrec_fails(&["record", "--ring", ring.to_str().unwrap(), "--read", path.to_str().unwrap()]);
        assert_eq!(code, 1);
        assert!(error.contains(name) && error.contains(why), "{error}");
        assert!(!Path::new(&ring).exists(), "a ring was made for nothing");
    };
    refuse("text", b"this is not a capture, whatever its name says", "not a capture file");
    refuse("empty", b"", "not a capture file");
    refuse("none.pcap", &old_pcap(1, &[]), "no packet");
    refuse("wifi.pcap", &old_pcap(105, &[(1, vec![0; 60])]), "link type 105");
}
