//! ClientHello and ServerHello (RFC 8446 sections 4.1.2 and 4.1.3, RFC 5246 section 7.4.1). In: a whole message behind its four bytes
//! of type and length. Out: what was offered and agreed on, and the fingerprints JA3, JA3S and JA4. A message that is
//! short somewhere gives what stood before that place.

use std::fmt::Write;
use std::net::Ipv4Addr;

use md5::{Digest, Md5};
use sha2::Sha256;

use super::names;

/// Extensions (IANA, TLS ExtensionType Values).
mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const EC_POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
}

/// The random of a ServerHello that asks for another ClientHello (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a client asked for.
#[derive(Debug, Default)]
pub struct ClientHello {
    /// `legacy_version`.
    version: u16,
    /// Highest version offered.
    pub offered: u16,
    /// `legacy_session_id`.
    pub session: Vec<u8>,
    /// Cipher suites, in the client's order.
    pub ciphers: Vec<u16>,
    /// Server name, as sent.
    pub sni: Option<String>,
    /// Protocols.
    pub alpn: Vec<String>,
    extensions: Vec<u16>,
    groups: Vec<u16>,
    points: Vec<u16>,
    signatures: Vec<u16>,
}

/// What a server agreed on.
#[derive(Debug, Default)]
pub struct ServerHello {
    legacy: u16,
    /// Version agreed on.
    pub version: u16,
    /// `legacy_session_id_echo`.
    pub session: Vec<u8>,
    /// Cipher suite.
    pub cipher: u16,
    /// Group of its key share.
    pub group: Option<u16>,
    /// Protocol, where it is not encrypted.
    pub alpn: Option<String>,
    /// It took a key that was shared before.
    pub takes_shared_key: bool,
    /// It asks for another ClientHello.
    pub is_retry: bool,
    extensions: Vec<u16>,
}

/// Values that mean nothing and keep servers tolerant (RFC 8701).
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

impl ClientHello {
    /// Reads as much as there is.
    pub fn read(message: &[u8]) -> ClientHello {
        let mut hello = ClientHello::default();
        hello.walk(message);
        if hello.offered == 0 {
            hello.offered = hello.version;
        }
        hello
    }

    fn walk(&mut self, message: &[u8]) -> Option<()> {
        let mut rest = Reader(message);
        self.version = rest.number::<2>()? as u16;
        rest.take(32)?; // random
        self.session = rest.vector::<1>()?.to_vec();
        self.ciphers = numbers::<2>(rest.vector::<2>()?);
        rest.vector::<1>()?; // legacy_compression_methods
        let mut extensions = Reader(rest.vector::<2>()?);
        while let Some(kind) = extensions.number::<2>() {
            let body = extensions.vector::<2>()?;
            self.extensions.push(kind as u16);
            self.extension(kind as u16, body);
        }
        Some(())
    }

    fn extension(&mut self, kind: u16, body: &[u8]) -> Option<()> {
        let mut rest = Reader(body);
        match kind {
            extension::SERVER_NAME => self.sni = first_host(body),
            extension::SUPPORTED_GROUPS => self.groups = numbers::<2>(rest.vector::<2>()?),
            extension::EC_POINT_FORMATS => self.points = numbers::<1>(rest.vector::<1>()?),
            extension::SIGNATURE_ALGORITHMS => self.signatures = numbers::<2>(rest.vector::<2>()?),
            extension::ALPN => self.alpn = protocols(body),
            extension::SUPPORTED_VERSIONS => {
                let versions = numbers::<2>(rest.vector::<1>()?);
                self.offered = versions.into_iter().filter(|version| !is_grease(*version)).max()?;
            }
            _ => {}
        }
        Some(())
    }

    /// JA3 (<https://github.com/salesforce/ja3>): MD5 of the version, cipher suites, extensions, groups and point formats.
    pub fn ja3(&self) -> String {
        let lists = [&self.ciphers, &self.extensions, &self.groups, &self.points].map(|list| decimal(list));
        hex(&Md5::digest(format!("{},{}", self.version, lists.join(","))))
    }

    /// JA4 over TCP (<https://github.com/FoxIO-LLC/ja4>).
    pub fn ja4(&self) -> String {
        let plain =
            |list: &[u16]| list.iter().copied().filter(|value| !is_grease(*value)).collect::<Vec<u16>>();
        let (mut ciphers, mut extensions) = (plain(&self.ciphers), plain(&self.extensions));
        let counts = (ciphers.len().min(99), extensions.len().min(99));
        ciphers.sort_unstable();
        extensions.retain(|kind| ![extension::SERVER_NAME, extension::ALPN].contains(kind));
        extensions.sort_unstable();
        let mut sorted = hexadecimal(&extensions);
        if !self.signatures.is_empty() && !sorted.is_empty() {
            let _ = write!(sorted, "_{}", hexadecimal(&plain(&self.signatures)));
        }
        let version = names::ja4_version(self.offered);
        let named = if self.extensions.contains(&extension::SERVER_NAME) { 'd' } else { 'i' };
        let alpn = self.alpn.first().map_or_else(|| "00".to_owned(), |name| ends(name));
        let (ciphers, extensions) = (cut_sha256(&hexadecimal(&ciphers)), cut_sha256(&sorted));
        format!("t{version}{named}{:02}{:02}{alpn}_{ciphers}_{extensions}", counts.0, counts.1)
    }

    /// The server name, where DNS could resolve it: letters, digits, hyphens and underscores in labels, and no address.
    pub fn host_name(&self) -> Option<String> {
        let text = self.sni.as_deref().filter(|text| text.len() <= 253)?;
        let is_label = |label: &str| {
            let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(is_of_names)
        };
        let is_name = text.split('.').all(is_label) && text.parse::<Ipv4Addr>().is_err();
        is_name.then(|| text.to_ascii_lowercase())
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let lists = [&self.ciphers, &self.extensions, &self.groups, &self.points, &self.signatures];
        let texts = self.alpn.iter().map(|name| name.capacity() + size_of::<String>()).sum::<usize>();
        let numbers = lists.iter().map(|list| 2 * list.capacity()).sum::<usize>();
        numbers + texts + self.session.capacity() + self.sni.as_ref().map_or(0, String::capacity)
    }
}

impl ServerHello {
    /// Reads as much as there is.
    pub fn read(message: &[u8]) -> ServerHello {
        let mut hello = ServerHello::default();
        hello.walk(message);
        if hello.version == 0 {
            hello.version = hello.legacy;
        }
        hello
    }

    fn walk(&mut self, message: &[u8]) -> Option<()> {
        let mut rest = Reader(message);
        self.legacy = rest.number::<2>()? as u16;
        self.is_retry = rest.take(32)? == RETRY;
        self.session = rest.vector::<1>()?.to_vec();
        self.cipher = rest.number::<2>()? as u16;
        rest.take(1)?; // legacy_compression_method
        let mut extensions = Reader(rest.vector::<2>()?);
        while let Some(kind) = extensions.number::<2>() {
            let body = extensions.vector::<2>()?;
            self.extensions.push(kind as u16);
            match kind as u16 {
                extension::SUPPORTED_VERSIONS => {
                    self.version = Reader(body).number::<2>().unwrap_or(0) as u16
                }
                extension::KEY_SHARE => self.group = Reader(body).number::<2>().map(|group| group as u16),
                extension::ALPN => self.alpn = protocols(body).into_iter().next(),
                extension::PRE_SHARED_KEY => self.takes_shared_key = true,
                _ => {}
            }
        }
        Some(())
    }

    /// JA3S: MD5 of the version, cipher suite and extensions.
    pub fn ja3s(&self) -> String {
        hex(&Md5::digest(format!("{},{},{}", self.legacy, self.cipher, decimal(&self.extensions))))
    }
}

/// The first host name of a ServerNameList (RFC 6066 section 3).
fn first_host(body: &[u8]) -> Option<String> {
    let mut list = Reader(Reader(body).vector::<2>()?);
    loop {
        let kind = list.number::<1>()?;
        let name = list.vector::<2>()?;
        if kind == 0 {
            return Some(String::from_utf8_lossy(name).into_owned());
        }
    }
}

/// A ProtocolNameList (RFC 7301 section 3.1).
fn protocols(body: &[u8]) -> Vec<String> {
    let mut list = Reader(Reader(body).vector::<2>().unwrap_or_default());
    std::iter::from_fn(|| Some(String::from_utf8_lossy(list.vector::<1>()?).into_owned())).collect()
}

fn numbers<const BYTES: usize>(bytes: &[u8]) -> Vec<u16> {
    let mut rest = Reader(bytes);
    std::iter::from_fn(|| Some(rest.number::<BYTES>()? as u16)).collect()
}

fn decimal(list: &[u16]) -> String {
    let plain = list.iter().filter(|value| !is_grease(**value));
    plain.map(u16::to_string).collect::<Vec<_>>().join("-")
}

fn hexadecimal(list: &[u16]) -> String {
    list.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

/// First and last letter of a protocol's name, or of its hexadecimal form where they are no letters or digits.
fn ends(name: &str) -> String {
    let of = |text: &str| text.chars().next().into_iter().chain(text.chars().next_back()).collect::<String>();
    let letters = of(name);
    if letters.chars().all(|letter| letter.is_ascii_alphanumeric()) && !letters.is_empty() {
        letters
    } else {
        of(&hex(name.as_bytes()))
    }
}

/// The first 12 digits; zeros for an empty list.
fn cut_sha256(text: &str) -> String {
    match text {
        "" => "0".repeat(12),
        text => hex(&Sha256::digest(text)[..6]),
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is left to read.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// So many bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes.
    pub fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        Some(self.take(BYTES)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length.
    pub fn vector<const BYTES: usize>(&mut self) -> Option<&'a [u8]> {
        let len = self.number::<BYTES>()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of JA4's technical details, a Chrome.
    #[test]
    fn ja4_of_its_description() {
        let hello = ClientHello {
            offered: 0x0304,
            ciphers: vec![
                0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            alpn: vec!["h2".into(), "http/1.1".into()],
            extensions: vec![
                0x0a0a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0x2a2a,
            ],
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            ..ClientHello::default()
        };
        assert_eq!(hello.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn only_names_of_hosts_are_names() {
        let of = |name: &str| ClientHello { sni: Some(name.into()), ..ClientHello::default() }.host_name();
        assert_eq!(of("Shop.TEST").as_deref(), Some("shop.test"));
        assert_eq!(of("a_b-c.d.9").as_deref(), Some("a_b-c.d.9"));
        for no in
            ["192.0.2.1", "shop test", "shop..est", ".shoptest", "shoptest.", "sh\0p.test", "sh\u{fffd}p", ""]
        {
            assert_eq!(of(no), None, "{no:?}");
        }
        assert_eq!(of(&"a.".repeat(200)), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (asked, answered) = (ClientHello::read(&bytes), ServerHello::read(&bytes));
            prop_assert_eq!((asked.ja3().len(), asked.ja4().len() >= 36, answered.ja3s().len()), (32, true, 32));
        }
    }
}
