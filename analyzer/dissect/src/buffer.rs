//! The bytes of one direction that a layer has not parsed yet, and the packet of each of them. In: bytes in order, with the mark
//! of their packet. Out: where the message being built begins, and the mark of any of its bytes.

use std::collections::VecDeque;

use crate::limits;
use crate::stream::Mark;

/// One direction.
#[derive(Default)]
pub struct Buffer {
    /// Bytes not yet parsed.
    pub bytes: Vec<u8>,
    /// Offset of the first of them in the stream.
    pub start: u64,
    /// For each packet of the buffered bytes, the offset of its first byte, and its mark.
    marks: VecDeque<(u64, Mark)>,
    /// Bytes to wait for before parsing again.
    pub need: usize,
    /// First byte of the message being built.
    pub began: Option<(u64, Mark)>,
    /// Last byte of it that is known to be its.
    pub ended: Mark,
    /// Messages that are built beside each other.
    parts: Vec<Part>,
    /// The message being built has missing bytes.
    pub damaged: bool,
    /// Looking for the next message.
    pub resync: bool,
    /// Bytes looked through for it.
    skipped: u64,
    /// Newest packet.
    pub last: Mark,
    /// No more bytes are taken.
    pub over: bool,
}

/// The pieces seen so far of a message whose pieces are interleaved with those of other messages.
pub struct Part {
    key: u64,
    /// First byte.
    pub began: Mark,
    /// Size of all pieces.
    pub bytes: u64,
    /// Some are missing.
    pub damaged: bool,
}

impl Buffer {
    /// Notes that bytes of a packet come next.
    pub fn mark(&mut self, mark: Mark) {
        self.last = mark;
        if self.bytes.is_empty() {
            self.marks.clear();
        }
        self.marks.push_back((self.start + self.bytes.len() as u64, mark));
    }

    /// Gives back what is left of bytes that were taken out for parsing.
    pub fn restore(&mut self, mut bytes: Vec<u8>, used: usize) {
        bytes.drain(..used);
        if bytes.is_empty() && bytes.capacity() > 4096 {
            bytes = Vec::new();
        }
        self.bytes = bytes;
    }

    /// So many bytes were parsed.
    pub fn advance(&mut self, len: usize) {
        self.start += len as u64;
        self.need = 0;
    }

    /// The mark of the packet of an offset.
    pub fn mark_at(&self, offset: u64) -> Mark {
        let after = self.marks.partition_point(|(start, _)| *start <= offset);
        self.marks.get(after.saturating_sub(1)).map_or(self.last, |(_, mark)| *mark)
    }

    /// Forgets packets before the bytes that are not parsed.
    pub fn forget_marks(&mut self) {
        while self.marks.len() > 1 && self.marks[1].0 <= self.start {
            self.marks.pop_front();
        }
    }

    /// So many bytes belong to the message of this key.
    pub fn add_part(&mut self, key: u64, len: u64, damaged: bool) {
        let began = self.began.take().map_or_else(|| self.mark_at(self.start), |(_, mark)| mark);
        let is_full = self.parts.len() >= limits::OPEN_REQUESTS;
        match self.parts.iter_mut().find(|part| part.key == key) {
            Some(part) => {
                part.bytes += len;
                part.damaged |= damaged;
            }
            None if !is_full => self.parts.push(Part { key, began, bytes: len, damaged }),
            None => {}
        }
    }

    /// The pieces seen so far of the message with this key.
    pub fn take_part(&mut self, key: u64) -> Option<Part> {
        let at = self.parts.iter().position(|part| part.key == key)?;
        Some(self.parts.swap_remove(at))
    }

    /// How many bytes to skip while the place in the stream is lost; `found` is the offset of the next possible start of a
    /// message. None where more bytes are needed first, since a start may be cut at the end of the buffered bytes.
    pub fn look_for_start(&mut self, found: Option<usize>, at_hand: usize) -> Option<usize> {
        match found {
            Some(0) => {
                self.resync = false;
                self.skipped = 0;
                Some(0)
            }
            Some(offset) => Some(offset.min(at_hand)),
            None => {
                let skip = at_hand.saturating_sub(limits::RESYNC_TAIL);
                self.skipped += skip as u64;
                if self.skipped > limits::RESYNC_WINDOW {
                    self.over = true;
                }
                (skip > 0).then_some(skip)
            }
        }
    }

    /// The place in the stream is lost.
    pub fn lose_place(&mut self) {
        self.began = None;
        self.parts.clear();
        self.damaged = false;
        self.resync = true;
    }

    /// Forgets the message being built.
    pub fn start_afresh(&mut self) {
        let start = self.start + self.bytes.len() as u64;
        *self = Buffer { start, over: self.over, last: self.last, ..Buffer::default() };
    }

    /// Frees the memory of lists that are empty.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.marks = VecDeque::new();
        }
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.marks.capacity() * size_of::<(u64, Mark)>()
            + self.parts.capacity() * size_of::<Part>()
    }
}
