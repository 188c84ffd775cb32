//! The name of a segment file: `<worker>-<seq>-<first-ns>.pcapng[.zst][.open]`, and the folder that it lies in.
//! In: a file name. Out: its parts, ordered by worker and sequence, never by clock.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// What the name of a segment file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    pub worker: u16,
    pub seq: u64,
    /// Stamp of the first packet; stamps are not monotonic, so it is a label and not a bound.
    pub first_ns: i64,
    pub compressed: bool,
    /// Still being written, or left behind by a recorder that died.
    pub open: bool,
}

/// In the names of segments of plaintext, as their worker; those of packets have lower numbers.
pub const PLAINTEXT_WORKER: u16 = 99;

/// What segments hold; each series has a folder, a chain and a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    Packets,
    /// Plaintext of TLS.
    Tls,
}

impl Series {
    pub const ALL: [Series; 2] = [Series::Packets, Series::Tls];

    /// Its folder in a ring, and in a node's part of a snapshot.
    pub fn folder(self) -> &'static str {
        match self {
            Series::Packets => "segments",
            Series::Tls => "tls",
        }
    }
}

impl Name {
    pub fn series(self) -> Series {
        if self.worker == PLAINTEXT_WORKER { Series::Tls } else { Series::Packets }
    }

    /// Of the plaintext of TLS, and not of packets.
    pub fn is_plaintext(self) -> bool {
        self.series() == Series::Tls
    }

    /// The same segment once sealed.
    pub fn sealed(self) -> Name {
        Name { open: false, ..self }
    }

    /// The sidecar lies beside the sealed segment under its name and `.json`.
    pub fn sidecar(self) -> String {
        format!("{}.json", self.sealed())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Zero padding lets `ls` show the order of recording; parsing does not depend on it.
        write!(f, "{:02}-{:08}-{}.pcapng", self.worker, self.seq, self.first_ns)?;
        f.write_str(if self.compressed { ".zst" } else { "" })?;
        f.write_str(if self.open { ".open" } else { "" })
    }
}

/// The file name is not one of a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a segment name (<worker>-<seq>-<first-ns>.pcapng[.zst][.open])")]
pub struct NameError(pub String);

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        parse(text).ok_or_else(|| NameError(text.chars().take(200).collect()))
    }
}

fn parse(text: &str) -> Option<Name> {
    let (rest, open) = strip(text, ".open");
    let (rest, compressed) = strip(rest, ".zst");
    let mut parts = rest.strip_suffix(".pcapng")?.splitn(3, '-');
    let (worker, seq) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let first = parts.next()?;
    let first_ns = match first.strip_prefix('-') {
        Some(before_1970) => digits::<i64>(before_1970)?.checked_neg()?,
        None => digits(first)?,
    };
    Some(Name { worker, seq, first_ns, compressed, open })
}

fn strip<'a>(text: &'a str, suffix: &str) -> (&'a str, bool) {
    text.strip_suffix(suffix).map_or((text, false), |rest| (rest, true))
}

/// `parse` alone would also take a plus sign.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let key = |n: &Name| (n.worker, n.seq, n.first_ns, n.compressed, n.open);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for text in
            ["00-00000001-1700000000000000000.pcapng.zst.open", "03-00000042--5.pcapng", "1-2-3.pcapng.open"]
        {
            let name: Name = text.parse().unwrap();
            assert_eq!(name, name.to_string().parse().unwrap());
        }
        let name: Name = "00-00000001-17.pcapng.zst.open".parse().unwrap();
        assert_eq!(name.sidecar(), "00-00000001-17.pcapng.zst.json");
    }

    #[test]
    fn order_is_by_sequence_not_by_clock() {
        let older: Name = "0-9-900.pcapng".parse().unwrap();
        let newer: Name = "0-10-100.pcapng".parse().unwrap();
        assert!(older < newer);
    }

    #[test]
    fn strangers_are_refused() {
        for text in [
            "",
            "a-1-2.pcapng",
            "0-1.pcapng",
            "0-1-2.pcap",
            "+0-1-2.pcapng",
            "0-1-2.pcapng.gz",
            "0-1-2-3.pcapng",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
