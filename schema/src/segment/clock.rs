//! The clock of a pcapng interface: if_tsresol and if_tsoffset.
//! In: ticks. Out: nanoseconds since 1970, saturating; arithmetic on bytes from outside must never overflow.

/// Ticks of an interface's clock in a second. The default of the format is microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    Nanoseconds,
    /// Nanoseconds in a tick, for 10^0 to 10^-8.
    Coarse(u64),
    /// Ticks in a nanosecond, for 10^-10 to 10^-19 and beyond.
    Fine(u64),
    /// Ticks are 2^-n seconds.
    Binary(u32),
}

impl Default for Resolution {
    fn default() -> Resolution {
        Resolution::Coarse(1_000)
    }
}

impl Resolution {
    pub(super) fn from_option(value: u8) -> Resolution {
        let exponent = u32::from(value & 0x7F);
        match (value & 0x80 != 0, exponent) {
            (true, _) => Resolution::Binary(exponent),
            (false, 9) => Resolution::Nanoseconds,
            (false, 0..9) => Resolution::Coarse(10u64.pow(9 - exponent)),
            (false, _) => Resolution::Fine(10u64.checked_pow(exponent - 9).unwrap_or(u64::MAX)),
        }
    }

    #[inline]
    pub(super) fn to_ns(self, ticks: u64, offset_s: i64) -> i64 {
        match self {
            Resolution::Nanoseconds if offset_s == 0 => i64::try_from(ticks).unwrap_or(i64::MAX),
            _ => self.to_ns_slowly(ticks, offset_s),
        }
    }

    fn to_ns_slowly(self, ticks: u64, offset_s: i64) -> i64 {
        let ns = match self {
            Resolution::Nanoseconds => i128::from(ticks),
            Resolution::Coarse(factor) => i128::from(ticks) * i128::from(factor),
            Resolution::Fine(divisor) => i128::from(ticks / divisor),
            // 64 bits of ticks times 10^9 fit in 94 bits.
            Resolution::Binary(bits) => (i128::from(ticks) * 1_000_000_000) >> bits.min(126),
        };
        let ns = ns + i128::from(offset_s) * 1_000_000_000;
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }
}
