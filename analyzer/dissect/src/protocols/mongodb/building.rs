//! A message as it passes: what stands before its documents, its sections, and what is passed of them. In: its bytes, piece by piece. Out:
//! facts, and how many bytes were used or are needed at once.

use super::bson::Walker;
use super::{Building, CHECKSUM, OP_COMPRESSED, OP_KILL_CURSORS, OP_MSG, OP_QUERY, OP_REPLY, Place, Step};
use crate::limits;
use crate::protocols::statements::excerpt;

impl Building {
    pub(super) fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.place {
            Place::Fixed => self.fixed(bytes),
            Place::Section => self.section(bytes),
            Place::Document(walker) => match walker.feed(bytes, &mut self.facts) {
                Step::Used(len) => {
                    self.facts.keep(&bytes[..len]);
                    if walker.is_done() {
                        self.place = if self.head.code == OP_MSG { Place::Section } else { Place::Rest };
                    }
                    Step::Used(len)
                }
                step => step,
            },
            Place::Sequence(left) => {
                let take = bytes.len().min(*left);
                *left -= take;
                self.facts.keep_sequence(&bytes[..take]);
                if *left == 0 {
                    self.place = Place::Section;
                }
                Step::Used(take)
            }
            Place::Rest => Step::Used(bytes.len()),
        }
    }

    /// What stands before the documents, by the kind of message.
    fn fixed(&mut self, bytes: &[u8]) -> Step {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        match self.head.code {
            OP_MSG => {
                let Some(flags) = number(0) else { return Step::More(4) };
                self.flags = flags;
                self.place = Place::Section;
                Step::Used(4)
            }
            OP_REPLY => {
                // Flags, the cursor, where it is, and how many documents follow.
                let Some(returned) = number(16) else { return Step::More(20) };
                self.returned = Some(returned.into());
                self.place = if returned > 0 { Place::Document(Walker::default()) } else { Place::Rest };
                Step::Used(20)
            }
            OP_COMPRESSED => self.compressed(bytes),
            OP_KILL_CURSORS => {
                self.place = Place::Rest;
                Step::Used(bytes.len())
            }
            _ => self.named(bytes),
        }
    }

    /// Flags or a zero, and the name of a collection; a query says from where on and how many.
    fn named(&mut self, bytes: &[u8]) -> Step {
        let behind = if self.head.code == OP_QUERY { 8 } else { 0 };
        let name = bytes.get(4..).unwrap_or_default();
        let Some(end) = memchr::memchr(0, &name[..name.len().min(limits::NAME_BYTES)]) else {
            let needed = bytes.len() + 1;
            return if name.len() < limits::NAME_BYTES { Step::More(needed) } else { Step::Broken };
        };
        let len = 4 + end + 1 + behind;
        if bytes.len() < len {
            return Step::More(len);
        }
        let name = excerpt(&name[..end], limits::NAME_BYTES);
        let is_command = self.facts.namespace(&name, self.head.code);
        self.place = if is_command { Place::Document(Walker::default()) } else { Place::Rest };
        Step::Used(len)
    }

    fn section(&mut self, bytes: &[u8]) -> Step {
        let checksum = if self.flags & CHECKSUM != 0 { 4 } else { 0 };
        if self.left <= checksum {
            self.place = Place::Rest;
            return Step::Used(bytes.len());
        }
        match bytes {
            [0, ..] => {
                self.place = Place::Document(Walker::default());
                Step::Used(1)
            }
            [1, a, b, c, d, rest @ ..] => {
                let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
                let Some(end) = memchr::memchr(0, &rest[..rest.len().min(limits::NAME_BYTES)]) else {
                    let is_short = rest.len() < limits::NAME_BYTES;
                    return if is_short { Step::More(bytes.len() + 1) } else { Step::Broken };
                };
                let Some(left) = len.checked_sub(4 + end + 1).filter(|left| *left <= self.left) else {
                    return Step::Broken;
                };
                self.facts.begin_sequence(&rest[..end]);
                self.place = if left > 0 { Place::Sequence(left) } else { Place::Section };
                Step::Used(5 + end + 1)
            }
            [1, ..] => Step::More(6),
            _ => Step::Broken,
        }
    }

    /// So many bytes are missing behind so many that were held. Beyond what is passed the rest is not looked at.
    pub(super) fn lose(&mut self, held: usize, len: usize) {
        let room = match &self.place {
            Place::Document(walker) => walker.passes(),
            Place::Sequence(left) => *left,
            Place::Rest => self.left,
            Place::Fixed | Place::Section => 0,
        };
        self.left -= held + len;
        self.facts.is_cut = true;
        match &mut self.place {
            Place::Document(walker) if held == 0 && len < room => walker.pass(len),
            Place::Sequence(left) if held == 0 && len < room => *left -= len,
            place => *place = Place::Rest,
        }
    }
}
