//! The server name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3): what a client asked for, before anything is
//! encrypted. In: the first bytes of a stream, as many as there are. Out: the name, that more bytes are needed, or nothing. With an
//! encrypted ClientHello it is the outer name, since no other is on the wire.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use crate::limits;

/// What the bytes at hand tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A host name, in lower case.
    For(String),
    /// It may stand further on.
    More,
    /// No ClientHello, or none with a host name.
    Nothing,
}

/// Looks for the server name in what a direction began with.
pub fn server_name(stream: &[u8]) -> Asked {
    let Some(handshake) = handshake(stream) else { return Asked::Nothing };
    let end = end_of_hello(&handshake);
    let hello = handshake.get(4..end.unwrap_or(handshake.len())).unwrap_or_default();
    match walk(hello) {
        Ok(name) => name.and_then(host_name).map_or(Asked::Nothing, Asked::For),
        Err(Short) if end.is_some() || stream.len() >= limits::CLIENT_HELLO => Asked::Nothing,
        Err(Short) => Asked::More,
    }
}

/// The bytes of a ClientHello as far as they are there. A message may be spread over records (RFC 8446 section 5.1).
fn handshake(stream: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut rest = stream;
    let mut handshake = Cow::Borrowed(&[][..]);
    while let Some((&[kind, major, minor, high, low], body)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if (kind, major) != (0x16, 3) || minor > 4 || len == 0 || len > 1 << 14 {
            return None;
        }
        let (part, next) = body.split_at(len.min(body.len()));
        if handshake.is_empty() {
            handshake = Cow::Borrowed(part);
        } else {
            handshake.to_mut().extend_from_slice(part);
        }
        if handshake.first().is_some_and(|kind| *kind != 1) {
            return None;
        }
        if end_of_hello(&handshake).is_some() {
            break;
        }
        rest = next;
    }
    Some(handshake)
}

/// Where the message ends, once all of it is there.
fn end_of_hello(handshake: &[u8]) -> Option<usize> {
    let &[_, high, middle, low] = handshake.first_chunk()?;
    let end = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
    (handshake.len() >= end).then_some(end)
}

/// The bytes end before what was to be read.
#[derive(Debug)]
struct Short;

/// The first host name among the extensions.
fn walk(message: &[u8]) -> Result<Option<&[u8]>, Short> {
    let mut hello = Reader(message);
    hello.take(2 + 32)?; // legacy_version, random
    hello.vector::<1>()?; // legacy_session_id
    hello.vector::<2>()?; // cipher_suites
    hello.vector::<1>()?; // legacy_compression_methods
    let len = hello.number::<2>()?;
    let mut extensions = Reader(&hello.0[..len.min(hello.0.len())]);
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>()?;
        let body = extensions.vector::<2>()?;
        if kind == 0 {
            // It is all there: what is short in it stays so.
            return Ok(first_host(body).unwrap_or(None));
        }
    }
    if hello.0.len() < len { Err(Short) } else { Ok(None) }
}

/// Of a ServerNameList.
fn first_host(extension: &[u8]) -> Result<Option<&[u8]>, Short> {
    let mut names = Reader(Reader(extension).vector::<2>()?);
    while !names.0.is_empty() {
        let kind = names.number::<1>()?;
        let name = names.vector::<2>()?;
        if kind == 0 {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Only what DNS could resolve: letters, digits, hyphens and underscores in labels, and no address.
fn host_name(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok().filter(|text| text.len() <= 253)?;
    let is_label = |label: &str| {
        let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_of_names)
    };
    let is_name = text.split('.').all(is_label) && text.parse::<Ipv4Addr>().is_err();
    is_name.then(|| text.to_ascii_lowercase())
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes.
    fn number<const BYTES: usize>(&mut self) -> Result<usize, Short> {
        Ok(self.take(BYTES)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length.
    fn vector<const BYTES: usize>(&mut self) -> Result<&'a [u8], Short> {
        let len = self.number::<BYTES>()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// OpenSSL 3.0 as a client of shop.test, with TLS 1.2 and 1.3, and without a name.
    const HELLO_1_2: &str = "\
        1603010095010000910303071df1102c9d0fe2bc545721388e3e7fbaec9eb62b489677b36f74fb7e81adf1000004c02f00ff\
        010000640000000e000c00000973686f702e74657374000b000403000102000a000c000a001d0017001e00190018002300\
        000016000000170000000d002a0028040305030603080708080809080a080b0804080508060401050106010303030103020\
        40205020602";
    const HELLO_1_3: &str = "\
        16030100ee010000ea030351f781e7dfb19324026a2f62947497fccab0be750527adfdf43e697941b9849c20b5533dff5dbd\
        118fb4a4f9e90334b3cca2ad86b4ed5e932866a55cf6206ad222000813021303130100ff010000990000000e000c000009\
        73686f702e74657374000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016\
        000000170000000d001e001c040305030603080708080809080a080b080408050806040105010601002b00030203040\
        02d00020101003300260024001d002016b4e73f71478ee39eada3926b39b912ca6bdbe3635537a8ca4f021662f32116";
    const NAMELESS: &str = "\
        16030100830100007f03030108ab274ed6bb6a8fb312f73a10cff88ac5e580adaf0f53b04599a18399a787000004c02f00ff\
        01000052000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a00280403050\
        30603080708080809080a080b080408050806040105010601030303010302040205020602";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn shop() -> Asked {
        Asked::For("shop.test".into())
    }

    /// The same with another name of the same length.
    fn named(name: &[u8; 9]) -> Asked {
        let mut hello = bytes(HELLO_1_2);
        let at = hello.windows(9).position(|window| window == b"shop.test").expect("its name");
        hello[at..at + 9].copy_from_slice(name);
        server_name(&hello)
    }

    #[test]
    fn a_name_is_found_or_is_not_there() {
        assert_eq!([HELLO_1_2, HELLO_1_3].map(|hello| server_name(&bytes(hello))), [shop(), shop()]);
        assert_eq!(server_name(&bytes(NAMELESS)), Asked::Nothing);
        assert_eq!(server_name(b"\x16\x03\x03\x00\x02\x02\x00"), Asked::Nothing, "a ServerHello");
        assert_eq!(server_name(b"GET / HTTP/1.1\r\n"), Asked::Nothing);
        // Without extensions, as before RFC 3546.
        let mut old =
            [&[0x16, 3, 0, 0, 45, 1, 0, 0, 41, 3, 0][..], &[7; 32], &[0, 0, 2, 0, 5, 1, 0]].concat();
        assert_eq!(server_name(&old), Asked::Nothing);
        old.pop();
        assert_eq!(server_name(&old), Asked::More);
    }

    #[test]
    fn only_names_of_hosts_are_names() {
        assert_eq!(named(b"Shop.TEST"), shop());
        assert_eq!(named(b"a_b-c.d.9"), Asked::For("a_b-c.d.9".into()));
        for no in [
            b"192.0.2.1",
            b"shop test",
            b"shop..est",
            b".shoptest",
            b"shoptest.",
            b"sh\0p.test",
            b"sh\xffp.test",
        ] {
            assert_eq!(named(no), Asked::Nothing, "{no:?}");
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let begun = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3][..], &[0; 34], &[0xff; 20_000]].concat();
        assert_eq!(server_name(&begun[..limits::CLIENT_HELLO - 1]), Asked::More);
        assert_eq!(server_name(&begun[..limits::CLIENT_HELLO]), Asked::Nothing);
    }

    proptest! {
        /// However many bytes there are, in whatever records: the name as soon as it is there, and never another.
        #[test]
        fn any_cut_of_a_hello(sizes in prop::collection::vec(1..256_usize, 1..20), is_new in any::<bool>()) {
            let hello = bytes(if is_new { HELLO_1_3 } else { HELLO_1_2 });
            let (mut stream, mut rest, mut sizes) = (Vec::new(), &hello[5..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (record, next) = rest.split_at(rest.len().min(*sizes.next().expect("endless")));
                stream.extend([0x16, 3, 1, 0, record.len() as u8]);
                stream.extend_from_slice(record);
                rest = next;
            }
            let seen: Vec<Asked> = (0..=stream.len()).map(|end| server_name(&stream[..end])).collect();
            let known = seen.iter().position(|asked| *asked == shop()).expect("it is found in the end");
            prop_assert!(seen[..known].iter().all(|asked| *asked == Asked::More));
            prop_assert!(seen[known..].iter().all(|asked| *asked == shop()));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            server_name(&bytes);
            server_name(&[&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &bytes].concat());
        }

        #[test]
        fn any_byte_may_be_another(at in any::<usize>(), value in any::<u8>()) {
            let mut hello = bytes(HELLO_1_3);
            let at = at % hello.len();
            hello[at] = value;
            server_name(&hello);
        }
    }
}
