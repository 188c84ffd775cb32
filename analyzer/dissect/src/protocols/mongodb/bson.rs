//! A walk over a BSON document (bsonspec.org, version 1.1) that is not wholly at hand. In: its bytes, piece by piece. Out: the values
//! that [`Facts`] asks for. All other values are passed by their lengths; it goes no deeper than where those values lie.

use super::Step;
use super::facts::{At, Facts, Wish};
use crate::limits;

/// How far the walk is.
#[derive(Default)]
pub(super) struct Walker {
    levels: Vec<Level>,
    /// Bytes to pass.
    skip: usize,
    begun: bool,
}

struct Level {
    left: usize,
    at: At,
}

/// A value, of which perhaps not all bytes are at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub kind: u8,
    pub bytes: &'a [u8],
}

pub(super) const DOUBLE: u8 = 0x01;
pub(super) const STRING: u8 = 0x02;
pub(super) const DOCUMENT: u8 = 0x03;
pub(super) const ARRAY: u8 = 0x04;
pub(super) const BINARY: u8 = 0x05;
pub(super) const OBJECT_ID: u8 = 0x07;
pub(super) const BOOL: u8 = 0x08;
pub(super) const DATE: u8 = 0x09;
pub(super) const REGEX: u8 = 0x0b;
pub(super) const INT32: u8 = 0x10;
pub(super) const TIMESTAMP: u8 = 0x11;
pub(super) const INT64: u8 = 0x12;

/// Bytes of a value that may be needed.
const NEEDED: usize = limits::NAME_BYTES;

impl Walker {
    pub(super) fn is_done(&self) -> bool {
        self.begun && self.levels.is_empty() && self.skip == 0
    }

    /// Bytes that are being passed.
    pub(super) fn passes(&self) -> usize {
        self.skip
    }

    pub(super) fn pass(&mut self, len: usize) {
        self.skip = self.skip.saturating_sub(len);
    }

    /// Takes the next bytes: how many were used, or how many it needs at once.
    pub(super) fn feed(&mut self, bytes: &[u8], facts: &mut Facts) -> Step {
        let mut used = 0;
        while !self.is_done() && used < bytes.len() {
            match self.step(&bytes[used..], facts) {
                Step::Used(len) => used += len,
                Step::More(_) if used > 0 => break,
                step => return step,
            }
        }
        Step::Used(used)
    }

    fn step(&mut self, bytes: &[u8], facts: &mut Facts) -> Step {
        if self.skip > 0 {
            let take = self.skip.min(bytes.len());
            self.skip -= take;
            return Step::Used(take);
        }
        let Some(level) = self.levels.last_mut() else { return self.begin(bytes) };
        if bytes[0] == 0 {
            let is_end = level.left == 1;
            self.levels.pop();
            return if is_end { Step::Used(1) } else { Step::Broken };
        }
        let (name, value) = match element(bytes) {
            Ok(element) => element,
            Err(step) => return step,
        };
        let Ok(len) = value_len(bytes[0], value) else { return Step::Broken };
        let Some(len) = len else { return Step::More(bytes.len() - value.len() + 4.max(value.len() + 1)) };
        let before = bytes.len() - value.len();
        // The end of the document must follow.
        if before + len >= level.left {
            return Step::Broken;
        }
        let wish = facts.wish(level.at, name, bytes[0]);
        if let Wish::Take = wish
            && value.len() < len.min(NEEDED)
        {
            return Step::More(before + len.min(NEEDED));
        }
        level.left -= before + len;
        match wish {
            Wish::Enter(at) if len > 4 => {
                self.levels.push(Level { left: len - 4, at });
                Step::Used(before + 4)
            }
            Wish::Take => {
                facts.take(
                    self.levels.last().map_or(At::Top, |level| level.at),
                    name,
                    Value { kind: bytes[0], bytes: &value[..len.min(value.len())] },
                );
                self.skip = len;
                Step::Used(before)
            }
            _ => {
                self.skip = len;
                Step::Used(before)
            }
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Step {
        let Some(len) = length(bytes) else { return Step::More(4) };
        if self.begun || len < 5 {
            return Step::Broken;
        }
        self.begun = true;
        self.levels.push(Level { left: len - 4, at: At::Top });
        Step::Used(4)
    }
}

/// Name of an element, and what follows it.
pub(super) fn element(bytes: &[u8]) -> Result<(&[u8], &[u8]), Step> {
    let name = bytes.get(1..).unwrap_or_default();
    match memchr::memchr(0, &name[..name.len().min(limits::NAME_BYTES)]) {
        Some(end) => Ok((&name[..end], &name[end + 1..])),
        None if name.len() < limits::NAME_BYTES => Err(Step::More(bytes.len() + 1)),
        None => Err(Step::Broken),
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|len| u32::from_le_bytes(*len) as usize)
}

/// Length of a value with what stands before it; nothing where too few bytes are at hand to tell.
pub(super) fn value_len(kind: u8, value: &[u8]) -> Result<Option<usize>, ()> {
    const LONGEST: usize = super::LONGEST;
    let with = |more: usize| match length(value) {
        Some(len) if len <= LONGEST => Ok(Some(len + more)),
        Some(_) => Err(()),
        None => Ok(None),
    };
    let fixed = match kind {
        DOUBLE | DATE | TIMESTAMP | INT64 => 8,
        INT32 => 4,
        OBJECT_ID => 12,
        BOOL => 1,
        0x13 => 16,
        // Undefined, null, and the smallest and the largest of all.
        0x06 | 0x0a | 0x7f | 0xff => 0,
        STRING | 0x0d | 0x0e => return with(4),
        DOCUMENT | ARRAY | 0x0f => return with(0),
        BINARY => return with(5),
        0x0c => return with(4 + 12),
        REGEX => return regex_len(value),
        _ => return Err(()),
    };
    Ok(Some(fixed))
}

/// Two texts: the expression and its options.
fn regex_len(value: &[u8]) -> Result<Option<usize>, ()> {
    let at_hand = &value[..value.len().min(limits::STATEMENT_BYTES)];
    let end = memchr::memchr_iter(0, at_hand).nth(1);
    match end {
        Some(end) => Ok(Some(end + 1)),
        None if at_hand.len() < limits::STATEMENT_BYTES => Ok(None),
        None => Err(()),
    }
}

impl<'a> Value<'a> {
    /// A number of any kind, whole.
    pub(super) fn number(self) -> Option<i64> {
        match self.kind {
            INT32 => self.bytes.first_chunk().map(|bytes| i32::from_le_bytes(*bytes).into()),
            INT64 => self.bytes.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)),
            DOUBLE => self.bytes.first_chunk().map(|bytes| f64::from_le_bytes(*bytes) as i64),
            BOOL => self.bytes.first().map(|byte| i64::from(*byte != 0)),
            _ => None,
        }
    }

    /// What is in a text or a binary, as far as it is at hand.
    pub(super) fn content(self) -> Option<&'a [u8]> {
        let len = length(self.bytes)?;
        match self.kind {
            STRING => {
                let text = &self.bytes[4..];
                Some(&text[..text.len().min(len.saturating_sub(1))])
            }
            BINARY => {
                let bytes = self.bytes.get(5..)?;
                Some(&bytes[..bytes.len().min(len)])
            }
            _ => None,
        }
    }
}
