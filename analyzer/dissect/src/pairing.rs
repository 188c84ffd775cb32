//! Which response answers which request. In: the messages of a conversation in the order of their last bytes, each as what it says
//! of itself and where it lies, without its bytes. Out: calls, in order.
//!
//! Pairing never invents. A response pairs only with a request that had arrived by the acknowledgement its first packet
//! carries. After a gap that lost the place in a first-in-first-out conversation only requests that were open before it
//! pair; the rest becomes calls half by half, which are lossy, until a quiet point. Where a key joins request and response, a gap
//! takes only what was in it.

use std::collections::VecDeque;

use crate::layer::{Direction, End, Meta, Pairing, Role};
use crate::limits;
use crate::stream::Mark;

/// A message that is paired.
pub struct Half {
    /// Its place among the messages that the conversation holds.
    pub message: usize,
    /// What it says of itself.
    pub meta: Meta,
    /// Who sent it.
    pub from: Direction,
    /// First byte.
    pub began: Mark,
    /// Last byte.
    pub ended: Mark,
    /// Size on the wire.
    pub bytes: u64,
    /// Offset in its stream from which on it may be answered.
    pub answerable: u64,
    /// Bytes of it are missing.
    pub damaged: bool,
    /// Its answer may be among what is missing.
    pub doubtful: bool,
    /// How often the same datagram was sent again.
    pub repeats: u32,
}

/// A call: at least one of both is there.
pub struct Paired {
    /// Asks.
    pub request: Option<Half>,
    /// Answers.
    pub response: Option<Half>,
    /// Why there is no response.
    pub end: Option<End>,
    /// Near a gap.
    pub lossy: bool,
}

/// Messages that wait for their other half.
pub struct Pairs {
    is_datagrams: bool,
    open: VecDeque<Half>,
    /// The answer to the request that is still being sent.
    early: Option<Half>,
    /// Datagrams that answer what the capture has not shown yet.
    ahead: VecDeque<Half>,
    /// Datagram requests that were sent more than once and are answered.
    repeated: VecDeque<Repeated>,
    /// Memory of the messages that wait.
    held: usize,
    /// The place was lost in a gap, or never known, and no quiet point came since.
    lossy: bool,
    /// A key was seen that joins request and response.
    is_keyed: bool,
    /// Calls that are to be written.
    ready: VecDeque<Paired>,
}

struct Repeated {
    pairing: Pairing,
    /// How many more answers may come.
    left: u32,
    since_ns: i64,
}

impl Pairs {
    /// `lossy`: in the middle of a conversation it is not known which request an answer is for.
    pub fn new(is_datagrams: bool, lossy: bool) -> Pairs {
        Pairs {
            is_datagrams,
            open: VecDeque::new(),
            early: None,
            ahead: VecDeque::new(),
            repeated: VecDeque::new(),
            held: 0,
            lossy,
            is_keyed: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes a message; `asking` is where what its receiver is sending began. Gives the message back where it is no part of any
    /// call: a datagram that was sent again.
    pub fn take(&mut self, half: Half, asking: Option<u64>) -> Option<Half> {
        self.is_keyed |= matches!(half.meta.pairing, Pairing::Keyed { .. });
        match (half.meta.role, half.meta.pairing) {
            (role, Pairing::Alone) => {
                let lossy = half.damaged;
                let (request, response) = match role {
                    Role::Request => (Some(half), None),
                    Role::Response => (None, Some(half)),
                };
                self.ready.push_back(Paired { request, response, end: None, lossy });
                None
            }
            (Role::Request, _) => self.request(half),
            (Role::Response, _) => self.response(half, asking),
        }
    }

    /// The next call that is to be written.
    pub fn next_call(&mut self) -> Option<Paired> {
        self.ready.pop_front()
    }

    /// The message of the oldest request that waits.
    pub fn oldest(&self) -> Option<usize> {
        self.open.front().map(|half| half.message)
    }

    /// A request waits for its answer.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.early.is_none() && self.ahead.is_empty()
    }

    /// What follows stands for itself until a quiet point.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Sets it.
    pub fn set_lossy(&mut self, lossy: bool) {
        self.lossy = lossy;
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        (self.open.capacity() + self.ahead.capacity()) * size_of::<Half>()
            + self.repeated.capacity() * size_of::<Repeated>()
            + self.held
    }

    fn request(&mut self, half: Half) -> Option<Half> {
        if let Some(answer) = self.take_early() {
            let lossy = answer.damaged || half.damaged;
            self.pair(half, answer, lossy);
            return None;
        }
        if self.lossy && half.is_ordered() {
            self.ready.push_back(Paired { request: Some(half), response: None, end: None, lossy: true });
            return None;
        }
        if self.is_datagrams {
            if let Some(at) = self.ahead.iter().position(|answer| answer.overtook(&half)) {
                let answer = self.ahead.remove(at).expect("it was found there");
                self.held -= answer.meta.memory;
                self.pair(half, answer, false);
                return None;
            }
            // A datagram that is sent again asks nothing new.
            if let Some(open) = self.open.iter_mut().find(|open| half.repeats_request(open)) {
                open.repeats += 1;
                return Some(half);
            }
        }
        self.held += half.meta.memory;
        self.open.push_back(half);
        if self.open.len() > limits::OPEN_REQUESTS {
            self.give_up_oldest(None, false);
        }
        None
    }

    fn response(&mut self, half: Half, asking: Option<u64>) -> Option<Half> {
        let number = half.meta.pairing.number();
        let is_ordered = matches!(half.meta.pairing, Pairing::InOrder | Pairing::Numbered(_));
        if is_ordered {
            let is_passed_over =
                |request: &Half| half.had_arrived(request) && request.meta.pairing.number() < number;
            while self.open.front().is_some_and(is_passed_over) {
                self.give_up_oldest(None, self.lossy);
            }
        }
        let is_meant = |request: &Half| half.had_arrived(request) && request.meta.pairing.number() == number;
        let is_answered =
            |request: &Half| half.meta.pairing.answers(request.meta.pairing) && half.had_arrived(request);
        let at = match self.is_datagrams {
            _ if is_ordered => self.open.front().is_some_and(is_meant).then_some(0),
            // Where a number is used again, what used it before was given up.
            true => self.open.iter().rposition(is_answered),
            false => self.open.iter().position(is_answered),
        };
        let request = at.and_then(|at| self.open.remove(at));
        if let Some(request) = &request {
            self.held -= request.meta.memory;
            if request.repeats > 0 {
                self.repeated.truncate(limits::WAITING_ANSWERS - 1);
                let repeated = Repeated {
                    pairing: request.meta.pairing,
                    left: request.repeats,
                    since_ns: half.began.ts_ns,
                };
                self.repeated.push_front(repeated);
            }
        } else if is_ordered && self.answers_what_is_being_sent(&half, asking) {
            self.held += half.meta.memory;
            self.early = Some(half);
            return None;
        } else if self.is_datagrams {
            if self.answers_again(&half) {
                return Some(half);
            }
            self.held += half.meta.memory;
            self.ahead.push_back(half);
            if self.ahead.len() > limits::WAITING_ANSWERS {
                self.give_up_ahead();
            }
            return None;
        }
        let lossy = half.damaged
            || request.as_ref().is_some_and(|request| request.damaged)
            || (self.lossy && request.is_none() && half.is_ordered());
        self.ready.push_back(Paired { request, response: Some(half), end: None, lossy });
        None
    }

    fn pair(&mut self, request: Half, response: Half, lossy: bool) {
        self.ready.push_back(Paired { request: Some(request), response: Some(response), end: None, lossy });
    }

    /// What was asked more than once is answered more than once: that is one call.
    fn answers_again(&mut self, half: &Half) -> bool {
        let is_asked = |repeated: &&mut Repeated| {
            half.meta.pairing.answers(repeated.pairing)
                && repeated.left > 0
                && half.began.ts_ns - repeated.since_ns <= limits::DATAGRAM_ANSWER_NS
        };
        let asked = self.repeated.iter_mut().find(is_asked);
        asked.map(|repeated| repeated.left -= 1).is_some()
    }

    /// A server may answer before it has all of a request: all earlier ones are answered, and it has the beginning of this.
    fn answers_what_is_being_sent(&self, answer: &Half, asking: Option<u64>) -> bool {
        let has_begun = asking.is_some_and(|start| answer.began.acked.is_some_and(|acked| start < acked));
        has_begun && self.open.is_empty() && self.early.is_none() && !self.lossy
    }

    fn take_early(&mut self) -> Option<Half> {
        let early = self.early.take();
        self.held -= early.as_ref().map_or(0, |half| half.meta.memory);
        early
    }

    /// What the early answer is for never came to its end.
    fn give_up_early(&mut self) {
        if let Some(answer) = self.take_early() {
            self.ready.push_back(Paired { request: None, response: Some(answer), end: None, lossy: true });
        }
    }

    fn give_up_oldest(&mut self, end: Option<End>, lossy: bool) {
        if let Some(half) = self.open.pop_front() {
            self.held -= half.meta.memory;
            let lossy = lossy || half.damaged || half.doubtful;
            self.ready.push_back(Paired { request: Some(half), response: None, end, lossy });
        }
    }

    fn give_up_open(&mut self, end: Option<End>, lossy: bool) {
        while self.is_open() {
            self.give_up_oldest(end, lossy);
        }
    }

    fn give_up_ahead(&mut self) {
        if let Some(answer) = self.ahead.pop_front() {
            self.held -= answer.meta.memory;
            let lossy = answer.damaged;
            self.ready.push_back(Paired { request: None, response: Some(answer), end: None, lossy });
        }
    }

    /// Gives up datagrams that nothing answers, and answers whose requests do not come.
    pub fn expire(&mut self, now_ns: i64) {
        let is_late = |half: &Half, after_ns: i64| now_ns - half.began.ts_ns > after_ns;
        while self.open.front().is_some_and(|half| is_late(half, limits::DATAGRAM_ANSWER_NS)) {
            self.give_up_oldest(Some(End::Timeout), false);
        }
        while self.ahead.front().is_some_and(|half| is_late(half, limits::REORDER_NS)) {
            self.give_up_ahead();
        }
    }

    /// The place in one direction is lost.
    pub fn lose_place(&mut self, is_of_server: bool) {
        self.lossy = true;
        self.give_up_early();
        if !is_of_server {
            return;
        }
        if self.open.front().is_some_and(Half::is_ordered) {
            self.give_up_open(None, true);
        }
        self.doubt_open();
    }

    /// Answers may be among what is missing.
    pub fn doubt_open(&mut self) {
        self.open.iter_mut().for_each(|half| half.doubtful = true);
    }

    /// A quiet point: nothing is under way, so what follows pairs again. True where keys tell what is answered, so that all is kept
    /// whose place is known.
    pub fn start_afresh(&mut self) -> bool {
        if !self.is_keyed {
            self.give_up_open(None, true);
            self.give_up_early();
        }
        self.lossy = false;
        self.is_keyed
    }

    /// Nothing more comes.
    pub fn finish(&mut self, end: End) {
        self.give_up_open(Some(end), false);
        self.give_up_early();
        while !self.ahead.is_empty() {
            self.give_up_ahead();
        }
    }

    /// Frees the memory of lists that are empty: datagram conversations are many, short, and kept for long.
    pub fn shrink(&mut self) {
        if self.open.is_empty() {
            self.open = VecDeque::new();
        }
        self.ready = VecDeque::new();
    }
}

impl Half {
    /// What it answers is told by order, at least behind a gap.
    fn is_ordered(&self) -> bool {
        !matches!(self.meta.pairing, Pairing::Keyed { .. })
    }

    /// Its sender had the request when it sent this.
    fn had_arrived(&self, request: &Half) -> bool {
        request.from != self.from && self.began.acked.is_none_or(|acked| request.answerable <= acked)
    }

    /// It answers a request that the capture shows after it.
    fn overtook(&self, request: &Half) -> bool {
        self.from != request.from && self.meta.pairing.answers(request.meta.pairing)
    }

    /// It is the same request, sent again.
    fn repeats_request(&self, earlier: &Half) -> bool {
        earlier.from == self.from && self.meta.pairing == earlier.meta.pairing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of 10 bytes at an offset of its stream; `acked` is what its first packet acknowledges.
    fn half(message: usize, role: Role, pairing: Pairing, at: u64, acked: Option<u64>) -> Half {
        let from = if role == Role::Request { Direction::Forward } else { Direction::Backward };
        let mark = Mark { ts_ns: message as i64, acked, ..Mark::default() };
        let meta = Meta::new(role, 100).pairing(pairing);
        Half {
            message,
            meta,
            from,
            began: mark,
            ended: mark,
            bytes: 10,
            answerable: at + 10,
            damaged: false,
            doubtful: false,
            repeats: 0,
        }
    }

    fn request(message: usize, pairing: Pairing, at: u64) -> Half {
        half(message, Role::Request, pairing, at, None)
    }

    fn response(message: usize, pairing: Pairing, acked: u64) -> Half {
        half(message, Role::Response, pairing, 0, Some(acked))
    }

    /// The messages of each call that is ready, and whether it is lossy.
    fn calls(pairs: &mut Pairs) -> Vec<(Option<usize>, Option<usize>, bool)> {
        let message = |half: Option<Half>| half.map(|half| half.message);
        let calls = std::iter::from_fn(|| pairs.next_call());
        calls.map(|call| (message(call.request), message(call.response), call.lossy)).collect()
    }

    #[test]
    fn what_has_not_arrived_is_not_answered() {
        let mut pairs = Pairs::new(false, false);
        pairs.take(request(0, Pairing::InOrder, 0), None);
        pairs.take(request(1, Pairing::InOrder, 10), None);
        pairs.take(response(2, Pairing::InOrder, 10), None);
        pairs.take(response(3, Pairing::InOrder, 10), None);
        assert_eq!(calls(&mut pairs), [(Some(0), Some(2), false), (None, Some(3), false)]);
        assert_eq!((pairs.oldest(), pairs.held), (Some(1), 100));
    }

    #[test]
    fn requests_without_an_answer_are_passed_over_by_number() {
        let mut pairs = Pairs::new(false, false);
        for at in 0..3 {
            pairs.take(request(at, Pairing::Numbered(at as u64), at as u64 * 10), None);
        }
        pairs.take(response(9, Pairing::Numbered(2), 30), None);
        assert_eq!(
            calls(&mut pairs),
            [(Some(0), None, false), (Some(1), None, false), (Some(2), Some(9), false)]
        );
        assert!(pairs.is_empty() && pairs.held == 0);
    }

    #[test]
    fn keys_join_across_a_gap_and_order_does_not() {
        for pairing in [Pairing::keyed(7), Pairing::InOrderOf(7), Pairing::InOrder] {
            let mut pairs = Pairs::new(false, false);
            pairs.take(request(0, pairing, 0), None);
            pairs.lose_place(true);
            pairs.take(response(1, pairing, 10), None);
            let is_keyed = pairing == Pairing::keyed(7);
            let expected: &[_] = match is_keyed {
                true => &[(Some(0), Some(1), false)],
                false => &[(Some(0), None, true), (None, Some(1), true)],
            };
            assert_eq!(calls(&mut pairs), expected);
            assert_eq!(pairs.start_afresh(), is_keyed);
        }
    }

    #[test]
    fn datagrams_that_are_sent_again_are_one_call() {
        let mut pairs = Pairs::new(true, false);
        let key = Pairing::keyed(7);
        assert!(pairs.take(request(0, key, 0), None).is_none());
        assert!(pairs.take(request(1, key, 10), None).is_some());
        pairs.take(half(2, Role::Response, key, 0, None), None);
        assert!(pairs.take(half(3, Role::Response, key, 0, None), None).is_some());
        assert_eq!(calls(&mut pairs), [(Some(0), Some(2), false)]);
        // One answer more than requests: it waits for a request that may come.
        assert!(pairs.take(half(4, Role::Response, key, 0, None), None).is_none());
        pairs.take(request(5, key, 20), None);
        assert_eq!(calls(&mut pairs), [(Some(5), Some(4), false)]);
        assert_eq!(pairs.held, 0);
    }

    #[test]
    fn an_answer_that_repeats_only_part_of_the_key_answers() {
        let mut pairs = Pairs::new(true, false);
        pairs.take(request(0, Pairing::keyed(0x1_0007), 0), None);
        pairs.take(half(1, Role::Response, Pairing::Keyed { key: 7, mask: 0xffff }, 0, None), None);
        assert_eq!(calls(&mut pairs), [(Some(0), Some(1), false)]);
    }

    #[test]
    fn an_answer_may_come_while_its_request_is_being_sent() {
        let mut pairs = Pairs::new(false, false);
        pairs.take(response(0, Pairing::InOrder, 5), Some(0));
        assert_eq!(calls(&mut pairs), []);
        pairs.take(request(1, Pairing::InOrder, 0), None);
        assert_eq!(calls(&mut pairs), [(Some(1), Some(0), false)]);
        pairs.take(response(2, Pairing::InOrder, 12), Some(10));
        pairs.finish(End::Fin);
        assert_eq!(calls(&mut pairs), [(None, Some(2), true)]);
    }
}
