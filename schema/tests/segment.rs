//! The segment format against an independent reader, and against bytes that mean harm.

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block as Other, PcapNgReader};
use shark_schema::segment::{
    self, Block, Blocks, Error, InterfaceNote, MAX_BLOCK_BYTES, Next, PacketHead, Reader, SectionNote,
    Statistics, flags,
};

/// A section with two interfaces, `count` packets of every length and a statistics block.
fn sample(count: usize) -> (Vec<u8>, Vec<(PacketHead, Vec<u8>)>) {
    let mut out = Vec::new();
    let note = SectionNote {
        format: 1,
        segment_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        node: "n1".into(),
        cluster: "c".into(),
        worker: 0,
        seq: 7,
    };
    segment::section(&mut out, "sharkrec test", &note);
    for name in ["eth0", "veth1"] {
        let note = InterfaceNote { ifindex: Some(3), snaplen: 96, synthetic_ethernet: false, pod: None };
        segment::interface(&mut out, name, &note, Some("tcp port 80"));
    }
    let mut packets = Vec::new();
    for n in 0..count {
        let data: Vec<u8> = (0..n % 300).map(|byte| byte as u8).collect();
        let head = PacketHead {
            interface: (n % 2) as u32,
            ts_ns: 1_700_000_000_123_456_789 + n as i64,
            original_len: data.len() as u32 + 5,
            flags: if n % 3 == 0 { flags::OUTBOUND | flags::CHECKSUM_NOT_READY } else { 0 },
            dropped: if n % 7 == 0 { n as u64 } else { 0 },
        };
        let before = out.len();
        segment::packet(&mut out, &head, &data);
        assert_eq!(out.len() - before, segment::packet_len(&head, data.len()));
        packets.push((head, data));
    }
    let statistics = Statistics {
        interface: 1,
        ts_ns: 1_700_000_001_000_000_000,
        start_ns: Some(1_700_000_000_000_000_000),
        end_ns: Some(1_700_000_001_000_000_000),
        received: Some(10),
        nic_dropped: None,
        accepted: None,
        os_dropped: Some(3),
        delivered: Some(7),
    };
    segment::statistics(&mut out, &statistics);
    (out, packets)
}

#[test]
fn what_we_write_another_reader_reads() {
    let (bytes, packets) = sample(700);
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let mut seen = 0;
    while let Some(block) = reader.next_block() {
        match block.unwrap().0 {
            Other::InterfaceDescription(interface) => assert_eq!(interface.linktype, DataLink::ETHERNET),
            Other::EnhancedPacket(packet) => {
                let (head, data) = &packets[seen];
                assert_eq!(packet.data, data.as_slice());
                assert_eq!((packet.interface_id, packet.original_len), (head.interface, head.original_len));
                let flagged = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Flags(flags) => Some(*flags),
                    _ => None,
                });
                let dropped = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::DropCount(count) => Some(*count),
                    _ => None,
                });
                assert_eq!((flagged.unwrap_or(0), dropped.unwrap_or(0)), (head.flags, head.dropped));
                seen += 1;
            }
            _ => {}
        }
    }
    assert_eq!(seen, packets.len());
}

#[test]
fn what_we_write_we_read() {
    let (bytes, packets) = sample(700);
    let mut blocks = Blocks::new(&bytes);
    let items: Vec<_> = blocks.by_ref().map(Result::unwrap).collect();
    let read = items.iter().filter_map(|item| match item.block {
        Block::Packet(packet) => Some(packet),
        _ => None,
    });
    assert!(read.clone().count() == packets.len());
    for (packet, (head, data)) in read.zip(&packets) {
        assert_eq!((packet.data, packet.ts_ns), (data.as_slice(), Some(head.ts_ns)));
        assert_eq!((packet.interface, packet.original_len), (head.interface, head.original_len));
        assert_eq!((packet.flags, packet.dropped), (head.flags, head.dropped));
    }
    let Block::Section(section) = &items[0].block else { panic!("{:?}", items[0]) };
    let note: SectionNote = serde_json::from_str(section.comment.unwrap()).unwrap();
    assert_eq!((note.seq, section.application), (7, Some("sharkrec test")));
    let Some(Block::Statistics(last)) = items.last().map(|item| &item.block) else { panic!("no statistics") };
    assert_eq!((last.received, last.nic_dropped, last.os_dropped), (Some(10), None, Some(3)));
    assert_eq!(last.end_ns, Some(last.ts_ns));
    assert_eq!(blocks.interfaces()[1].name.as_deref(), Some("veth1"));
    assert_eq!(blocks.interfaces()[0].filter.as_deref(), Some("tcp port 80"));
}

#[test]
fn a_tear_is_told_from_damage() {
    let (bytes, _) = sample(20);
    let ends: Vec<u64> =
        Blocks::new(&bytes).map(|item| item.unwrap().offset).chain([bytes.len() as u64]).collect();
    for cut in 0..bytes.len() {
        let found: Vec<_> = Blocks::new(&bytes[..cut]).collect();
        match ends.iter().position(|end| *end == cut as u64) {
            Some(whole) => assert!(found.len() == whole && found.iter().all(Result::is_ok), "cut at {cut}"),
            None => {
                let offset = *ends.iter().rfind(|end| **end < cut as u64).unwrap();
                assert_eq!(found.last(), Some(&Err(Error::Torn { offset })), "cut at {cut}");
            }
        }
    }
    let mut damaged = bytes.clone();
    let at = ends[5] as usize;
    damaged[at + 4] ^= 0xFF;
    let error = Blocks::new(&damaged).find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Corrupt { offset, .. } if offset == ends[5]), "{error}");
}

#[test]
fn any_chunking_gives_the_same_blocks() {
    let (bytes, _) = sample(100);
    let whole: Vec<u64> = Blocks::new(&bytes).map(|item| item.unwrap().offset).collect();
    for chunk in [1, 7, 12, 100, 4096] {
        let (mut reader, mut buffer, mut offsets) = (Reader::new(), Vec::new(), Vec::new());
        for part in bytes.chunks(chunk) {
            buffer.extend_from_slice(part);
            let mut used = 0;
            while let Next::Block(item, len) = reader.next(&buffer[used..]).unwrap() {
                offsets.push(item.offset);
                used += len;
            }
            buffer.drain(..used);
        }
        assert_eq!(offsets, whole, "chunks of {chunk}");
    }
}

/// Big-endian blocks by hand: other byte order, other clocks, the older packet blocks, a second section.
#[test]
fn everything_a_pcapng_may_hold() {
    let block = |kind: u32, body: &[u8]| {
        let len = (12 + body.len()) as u32;
        [&kind.to_be_bytes()[..], &len.to_be_bytes(), body, &len.to_be_bytes()].concat()
    };
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
    let shb = block(0x0A0D_0D0A, &words(&[0x1A2B_3C4D, 0x0001_0000, u32::MAX, u32::MAX]));
    // tsresol 2^-10, tsoffset 100 s.
    let mut idb = words(&[0x0001_0000, 8]);
    idb.extend([0, 9, 0, 1, 0x8A, 0, 0, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0]);
    let epb = words(&[0, 0, 512, 4, 9, 0xAABB_CCDD]);
    let obsolete = words(&[0x0000_0005, 0, 1024, 4, 4, 0x0102_0304]);
    let simple = words(&[12, 0x1111_2222, 0x3333_4444, 0x5555_6666]);
    let mut secrets = words(&[0x544C_534B, 5]);
    secrets.extend(b"KEYS\n\0\0\0");
    let (native, _) = sample(1);
    let bytes = [
        shb,
        block(1, &idb),
        block(6, &epb),
        block(2, &obsolete),
        block(3, &simple),
        block(10, &secrets),
        block(0xBAD, &[1, 2, 3, 4]),
        native,
    ]
    .concat();
    let items: Vec<_> = Blocks::new(&bytes).map(|item| item.unwrap().block).collect();
    let packets: Vec<_> =
        items.iter().filter_map(|b| if let Block::Packet(p) = b { Some(p) } else { None }).collect();
    assert_eq!(packets[0].ts_ns, Some(100_500_000_000));
    assert_eq!((packets[0].data, packets[0].original_len), (&[0xAA, 0xBB, 0xCC, 0xDD][..], 9));
    assert_eq!((packets[1].ts_ns, packets[1].dropped), (Some(101_000_000_000), 5));
    assert_eq!((packets[2].ts_ns, packets[2].data.len()), (None, 8), "cut to the snaplen of its interface");
    assert_eq!(packets[3].interface, 1, "interfaces count over sections");
    assert!(items.contains(&Block::Secrets(segment::Secrets { kind: 0x544C_534B, data: b"KEYS\n" })));
    assert!(items.contains(&Block::Other { kind: 0xBAD, body: &[1, 2, 3, 4] }));
}

/// Counters of an interface that nobody described, and some that are cut short, take nothing from the packets behind them.
#[test]
fn statistics_of_an_unknown_interface_are_passed_over() {
    let (mut bytes, packets) = sample(3);
    segment::statistics(&mut bytes, &Statistics { interface: 9, ts_ns: 1, ..Statistics::default() });
    bytes.extend([5_u32, 16, 77, 16].map(u32::to_le_bytes).concat());
    segment::packet(&mut bytes, &packets[2].0, &packets[2].1);
    let is_packet = |block: Block<'_>| matches!(block, Block::Packet(_));
    let mut found = 0;
    for item in Blocks::new(&bytes) {
        found += u32::from(is_packet(item.expect("a whole block").block));
    }
    assert_eq!(found, 4);
}

#[test]
fn nothing_harms_the_reader() {
    let (bytes, _) = sample(60);
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let (mut torn, mut corrupt) = (0, 0);
    for _ in 0..20_000 {
        let mut mutated = bytes.clone();
        for _ in 0..1 + random() % 8 {
            let at = random() % mutated.len();
            mutated[at] = random() as u8;
        }
        mutated.truncate(random() % (mutated.len() + 1));
        let mut last = 0;
        for item in Blocks::new(&mutated) {
            match item {
                Ok(item) => {
                    assert!(item.offset == 0 || item.offset > last, "no progress");
                    last = item.offset;
                }
                Err(Error::Torn { offset }) => {
                    assert!(offset <= mutated.len() as u64);
                    torn += 1;
                }
                Err(Error::Corrupt { offset, .. }) => {
                    assert!(offset <= mutated.len() as u64);
                    corrupt += 1;
                }
            }
        }
    }
    assert!(torn > 1_000 && corrupt > 1_000, "{torn} torn, {corrupt} corrupt");
    // A length that asks for memory is damage, not a reason to wait for it.
    let mut huge = bytes[..12].to_vec();
    huge[4..8].copy_from_slice(&(MAX_BLOCK_BYTES as u32 + 4).to_le_bytes());
    assert!(matches!(Reader::new().next(&huge), Err(Error::Corrupt { offset: 0, .. })));
    assert!(matches!(Reader::new().next(b"GIF8"), Err(Error::Corrupt { offset: 0, .. })));
    assert_eq!(Reader::new().next(b""), Ok(Next::More(12)));
}
