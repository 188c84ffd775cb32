//! Certificates of a handshake up to TLS 1.2 (RFC 5246 section 7.4.2, RFC 5280); later ones are encrypted. In: the message. Out: what
//! the leaf says of itself, nothing of whether it is true.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::hello::{Reader, hex};

/// Names of a certificate kept.
const NAMES: usize = 256;

/// A leaf.
#[derive(Debug, Default)]
pub struct Certificate {
    /// Subject.
    pub subject: Option<String>,
    /// Issuer.
    pub issuer: Option<String>,
    /// Names and addresses.
    pub names: Vec<String>,
    /// Expiry.
    pub not_after_ns: Option<i64>,
    /// SHA-256 of it.
    pub sha256: String,
}

impl Certificate {
    /// The first of a message's list.
    pub fn leaf(message: &[u8]) -> Option<Certificate> {
        let der = Reader(Reader(message).vector::<3>()?).vector::<3>()?;
        let sha256 = hex(&Sha256::digest(der));
        let Ok((_, leaf)) = X509Certificate::from_der(der) else {
            return Some(Certificate { sha256, ..Certificate::default() });
        };
        let names = leaf.subject_alternative_name().ok().flatten();
        let names = names.map_or_else(Vec::new, |names| {
            names.value.general_names.iter().filter_map(text).take(NAMES).collect()
        });
        let not_after_ns = leaf.validity().not_after.timestamp().checked_mul(1_000_000_000);
        let (subject, issuer) = (leaf.subject().to_string(), leaf.issuer().to_string());
        let some = |text: String| (!text.is_empty()).then_some(text);
        Some(Certificate { subject: some(subject), issuer: some(issuer), names, not_after_ns, sha256 })
    }

    /// The SPIFFE id among its names.
    pub fn spiffe(&self) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| name.starts_with("spiffe://"))
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let texts = [&self.subject, &self.issuer];
        let names = self.names.iter().map(|name| name.capacity() + size_of::<String>()).sum::<usize>();
        texts.iter().filter_map(|text| text.as_ref()).map(String::capacity).sum::<usize>()
            + names
            + self.sha256.capacity()
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).to_string()),
            _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}
