//! Messages of both directions, by the frames they come in.

use flate2::{Compress, Compression, FlushCompress};

use super::*;

const CLIENT: Direction = Direction::Forward;
const SERVER: Direction = Direction::Backward;

fn begun(fields: &[(&str, &str)]) -> Ws {
    let carried: Vec<(Box<str>, Box<str>)> =
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Ws::new(&Begin { options: &Options::default(), carried: &carried })
}

/// A frame of a server, or with a mask of a client.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..126 => bytes.push(masked | len as u8),
        len => {
            bytes.push(masked | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| bytes.extend(mask)).unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// All messages of these bytes, which come `step` by `step`.
fn heard(ws: &mut Ws, direction: Direction, bytes: &[u8], step: usize) -> Vec<Message> {
    let (mut messages, mut waiting) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        waiting.extend_from_slice(piece);
        while !waiting.is_empty() {
            let used = match ws.parse(direction, &waiting, None) {
                Parsed::Message(len, message) => {
                    messages.push(message);
                    len
                }
                Parsed::PartOf(len, DATA) => len,
                Parsed::More(need) => {
                    assert!(need > waiting.len());
                    break;
                }
                _ => panic!("no frame: {waiting:?}"),
            };
            waiting.drain(..used);
        }
    }
    assert!(waiting.is_empty(), "{waiting:?}");
    messages
}

#[test]
fn fragments_masks_and_control_frames_between_them() {
    let mask = Some([1, 2, 3, 4]);
    let bytes = [
        frame(0x01, mask, b"hel"),
        frame(0x89, mask, b"are you there"),
        frame(0x00, mask, b"lo "),
        frame(0x80, mask, b"world"),
        frame(0x82, mask, &[0xff; 300]),
        frame(0x88, mask, &[0x03, 0xf3, b'b', b'y', b'e']),
    ]
    .concat();
    for step in [1, 2, 3, 7, bytes.len()] {
        let messages = heard(&mut begun(&[("target", "/chat")]), CLIENT, &bytes, step);
        let seen: Vec<_> = messages
            .iter()
            .map(|message| (message.opcode, message.frames, message.kept.as_slice()))
            .collect();
        let expected: [(Opcode, i32, &[u8]); 4] = [
            (Opcode::Ping, 1, b"are you there"),
            (Opcode::Text, 3, b"hello world"),
            (Opcode::Binary, 1, &[0xff; 300]),
            (Opcode::Close, 1, &[0x03, 0xf3, b'b', b'y', b'e']),
        ];
        assert_eq!(seen, expected);
        assert!(
            messages.iter().all(|message| message.from_client && message.path.as_deref() == Some("/chat"))
        );
    }
}

#[test]
fn compressed_messages_refer_to_those_before_them() {
    let mut compress = Compress::new(Compression::default(), false);
    let text = "the same words again and again".repeat(20);
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let mut out = Vec::with_capacity(4096);
        compress.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).expect("it compresses");
        assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
        bytes.extend(frame(0xc1, None, &out));
    }
    let fields = [("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=15")];
    for step in [1, 5, bytes.len()] {
        let messages = heard(&mut begun(&fields), SERVER, &bytes, step);
        assert_eq!(messages.len(), 3);
        for message in &messages {
            assert_eq!(message.kept, text.as_bytes());
            assert_eq!((message.decoded_len, message.compressed), (Some(text.len() as u64), true));
        }
        assert!(messages[2].len < messages[0].len, "the last refers to the first");
    }
    // Behind a gap nothing can be decompressed any more, and the messages are still there.
    let mut ws = begun(&fields);
    let first = frame(0xc1, None, &[0xaa; 20]);
    assert!(matches!(ws.parse(SERVER, &first[..10], None), Parsed::PartOf(2, DATA)));
    assert!(matches!(ws.gap(SERVER, &[], 20, None), Gap::Message(_)));
    let messages = heard(&mut ws, SERVER, &bytes, 100);
    assert!(messages.iter().all(|message| message.kept.is_empty() && message.decoded_len.is_none()));
}

#[test]
fn what_is_no_frame_is_refused() {
    for bytes in
        [&[0x83, 0][..], &[0x91, 0], &[0x09, 0], &[0x89, 126, 0, 200], &[0x82, 126, 0, 5], &[0x80, 1, 0]]
    {
        assert!(matches!(begun(&[]).parse(SERVER, bytes, None), Parsed::Malformed), "{bytes:x?}");
    }
}

#[test]
fn a_chain_of_frames_is_found_behind_a_gap() {
    let chain = [frame(0x81, None, b"one"), frame(0x82, None, b"two")].concat();
    let bytes = [b"rest of a frame".as_slice(), &chain].concat();
    assert_eq!(Ws::resync(&bytes), Some(15));
    assert_eq!(Ws::resync(b"nothing of that kind"), None);
}
