//! Counts records by the headers of their batches (Kafka's documentation, "Record Batch" and "Old Message Format"), while the batches
//! pass. In: the bytes of a message. Out: a number. Holds one header.

/// The batches of a message.
pub struct Records {
    /// Bytes to come of the field that is open.
    left: u64,
    /// Bytes to the next header.
    skip: u64,
    head: [u8; HEADER],
    filled: usize,
    count: i64,
    /// False once a count could not be had.
    is_known: bool,
}

/// Bytes of a batch up to the count of its records.
const HEADER: usize = 61;
/// Bytes up to the attributes of an old message, which tell whether it is a compressed set.
const OLD_HEADER: usize = 18;
/// Place of the magic number.
const MAGIC: usize = 16;
/// Bytes of offset and length, which the length does not count.
const PREFIX: u64 = 12;

impl Default for Records {
    fn default() -> Self {
        Records { left: 0, skip: 0, head: [0; HEADER], filled: 0, count: 0, is_known: true }
    }
}

impl Records {
    /// So many bytes of batches follow.
    pub fn begin(&mut self, len: u64) {
        (self.left, self.skip, self.filled) = (len, 0, 0);
    }

    /// Takes the next of them.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        while !bytes.is_empty() {
            let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(self.wanted() - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.wanted() && self.filled > MAGIC {
                self.batch(bytes.len() as u64);
            }
        }
    }

    /// Missing bytes of them.
    pub fn skip(&mut self, len: u64) {
        self.left = self.left.saturating_sub(len);
        self.is_known &= len <= self.skip;
        self.skip = self.skip.saturating_sub(len);
    }

    /// How many there are, once all came.
    pub fn count(&self) -> Option<i64> {
        (self.is_known && self.left == 0).then_some(self.count)
    }

    /// Bytes of the header to read: up to the magic number, which has one place in all formats, then what that says.
    fn wanted(&self) -> usize {
        match self.filled {
            ..=MAGIC => MAGIC + 1,
            _ if self.head[MAGIC] < 2 => OLD_HEADER,
            _ => HEADER,
        }
    }

    /// A header came; so many bytes at hand are behind it.
    fn batch(&mut self, behind: u64) {
        let len = i32::from_be_bytes([self.head[8], self.head[9], self.head[10], self.head[11]]);
        let rest = u64::try_from(len).ok().and_then(|len| (PREFIX + len).checked_sub(self.filled as u64));
        let is_old = self.wanted() == OLD_HEADER;
        let records = if is_old {
            1
        } else {
            i32::from_be_bytes([self.head[57], self.head[58], self.head[59], self.head[60]])
        };
        self.filled = 0;
        let Some(rest) = rest.filter(|_| records >= 0) else {
            (self.is_known, self.skip) = (false, u64::MAX);
            return;
        };
        self.skip = rest;
        // A broker may cut the last batch of a response, which consumers then leave out.
        if rest <= self.left + behind {
            self.count = self.count.saturating_add(records.into());
        }
        // How many messages a compressed one holds is told inside only.
        self.is_known &= !(is_old && self.head[17] & 7 != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + body];
        bytes[11] = (HEADER - 12 + body) as u8;
        (bytes[16], bytes[60]) = (2, records);
        bytes
    }

    fn of(len: usize) -> Records {
        let mut records = Records::default();
        records.begin(len as u64);
        records
    }

    #[test]
    fn any_cut_counts_the_same() {
        let bytes = [batch(3, 20), batch(4, 0)].concat();
        for cut in 0..bytes.len() {
            let mut records = of(bytes.len());
            records.push(&bytes[..cut]);
            records.push(&bytes[cut..]);
            assert_eq!(records.count(), Some(7), "cut at {cut}");
        }
    }

    #[test]
    fn a_cut_batch_does_not_count_and_a_gap_may_lie_within_one() {
        let bytes = [batch(3, 20), batch(4, 20)].concat();
        let mut records = of(bytes.len() - 5);
        records.push(&bytes[..bytes.len() - 5]);
        assert_eq!(records.count(), Some(3));
        let mut records = of(bytes.len());
        records.push(&bytes[..HEADER]);
        assert_eq!(records.count(), None);
        records.skip(20);
        records.push(&bytes[HEADER + 20..]);
        assert_eq!(records.count(), Some(7));
        let mut records = of(bytes.len());
        records.skip(70);
        records.push(&bytes[70..]);
        assert_eq!(records.count(), None);
    }

    #[test]
    fn fields_add_up() {
        let bytes = batch(3, 20);
        let mut records = of(bytes.len() + 9);
        records.push(&[bytes.as_slice(), &[0; 9]].concat());
        records.begin(bytes.len() as u64);
        records.push(&bytes);
        assert_eq!(records.count(), Some(6));
    }

    #[test]
    fn old_messages() {
        let mut message = vec![0; 30];
        message[11] = 18;
        let mut records = of(60);
        records.push(&[message.clone(), message.clone()].concat());
        assert_eq!(records.count(), Some(2));
        message[17] = 1;
        let mut records = of(30);
        records.push(&message);
        assert_eq!(records.count(), None);
        let mut records = of(100);
        records.push(&[0xff; 100]);
        assert_eq!(records.count(), None);
    }
}
