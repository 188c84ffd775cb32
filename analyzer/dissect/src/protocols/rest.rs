//! The rest of a message that misses bytes and whose length is known: what comes of it passes, and what is still missing is counted.

use crate::layer::{Gap, Parsed};

/// Bytes still to come, and the message as far as its beginning tells it.
pub(super) struct Rest<M> {
    left: u64,
    message: Option<M>,
}

impl<M> Rest<M> {
    /// What a gap of `len` bytes behind `held` ones makes of a message of `total` bytes that is `message` so far.
    pub(super) fn behind(
        total: usize,
        held: usize,
        len: u64,
        message: Option<M>,
        rest: &mut Option<Rest<M>>,
    ) -> Gap<M> {
        *rest = Some(Rest { left: (total - held.min(total)) as u64, message });
        Rest::lose(rest, len)
    }

    /// More of it is missing.
    pub(super) fn lose(rest: &mut Option<Rest<M>>, len: u64) -> Gap<M> {
        match rest.take() {
            None => Gap::Lost(None),
            Some(Rest { left, message }) if len > left => Gap::Lost(message),
            Some(Rest { left, message }) if len == left => message.map_or(Gap::Skip, Gap::Message),
            Some(Rest { left, message }) => {
                let lost = if message.is_some() { Gap::Part } else { Gap::Skip };
                *rest = Some(Rest { left: left - len, message });
                lost
            }
        }
    }

    /// Some of it comes; nothing where there is no such message.
    pub(super) fn pass(rest: &mut Option<Rest<M>>, at_hand: usize) -> Option<Parsed<M>> {
        let Rest { left, message } = rest.take()?;
        let len = at_hand.min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - len as u64;
        Some(match message {
            Some(message) if left == 0 => Parsed::Message(len, message),
            None if left == 0 => Parsed::Skip(len),
            message => {
                let parsed = if message.is_some() { Parsed::Part(len) } else { Parsed::Skip(len) };
                *rest = Some(Rest { left, message });
                parsed
            }
        })
    }

    /// The message as it is.
    pub(super) fn end(rest: &mut Option<Rest<M>>) -> Option<M> {
        rest.take()?.message
    }
}
