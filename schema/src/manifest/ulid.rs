//! ULIDs: 48 bits of milliseconds and 80 random bits in 26 letters that sort by time.
//! In: a time and random bytes, both from the caller. Out: text. Reading a clock or a random device is not done here.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

impl Ulid {
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Ulid {
        let low = random.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        Ulid(u128::from(unix_ms & 0xFFFF_FFFF_FFFF) << 80 | low)
    }

    pub fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..26).rev().try_for_each(|digit| {
            let letter = ALPHABET[(self.0 >> (digit * 5) & 31) as usize];
            write!(f, "{}", letter as char)
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a ULID (26 letters and digits)")]
pub struct UlidError(pub String);

impl FromStr for Ulid {
    type Err = UlidError;

    fn from_str(text: &str) -> Result<Ulid, UlidError> {
        let bad = || UlidError(text.chars().take(60).collect());
        // The first digit has only three bits: 26 * 5 is two more than 128.
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(bad());
        }
        let digits = text.bytes().map(|b| ALPHABET.iter().position(|a| *a == b.to_ascii_uppercase()));
        digits.into_iter().try_fold(0u128, |sum, d| d.map(|d| sum << 5 | d as u128)).map(Ulid).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = Ulid::new(1_700_000_000_123, [255, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.unix_ms(), 1_700_000_000_123);
        assert!(Ulid::new(1, [255; 10]).to_string() < Ulid::new(2, [0; 10]).to_string());
        // The example of the ULID specification.
        assert_eq!("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<Ulid>().unwrap().unix_ms(), 1_469_922_850_259);
    }

    #[test]
    fn strangers_are_refused() {
        for text in
            ["", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "é1ARZ3NDEKTSV4RRFFQ69G5FA"]
        {
            assert!(text.parse::<Ulid>().is_err(), "{text}");
        }
    }
}
