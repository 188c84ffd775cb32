//! Names that clients were told the addresses of, in the traffic itself. In: DNS answers as they are read. Out: the last name a
//! client got for an address before a time. Bounded: beyond that nothing new is learnt, and that is said.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::iter::successors;
use std::net::IpAddr;

use hashbrown::HashTable;
use shark_dissect::rows::Answer;

/// Names of pairs of client and address, with their changes, that are remembered.
const MOST: usize = 200_000;
/// Changes of one pair.
const MOST_CHANGES: usize = 1_000;

/// Where a name lies in the text.
type Place = (u32, u16);

/// What was told to whom. Few large pieces of memory: many small ones that live as long as an index is made would lie
/// scattered among the buffers of its runs, and keep their memory from being used again.
#[derive(Default)]
pub struct Names {
    numbers: HashMap<IpAddr, u32>,
    /// The last thing that was told to a client of an address, and how many before it.
    last: HashMap<(u32, u32), (u32, usize)>,
    told: Vec<Told>,
    text: String,
    places: HashTable<Place>,
    hasher: RandomState,
    /// Answers that were not taken in.
    pub refused: u64,
}

struct Told {
    since_ns: i64,
    name: Place,
    /// What was told of the same address earlier.
    before: Option<u32>,
}

impl Names {
    /// Takes answers in.
    pub fn hear(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            for address in answer.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                self.learn(answer.client, address.to_canonical(), answer.ts_ns, &answer.name);
            }
        }
    }

    fn learn(&mut self, client: IpAddr, address: IpAddr, ts_ns: i64, name: &str) {
        if self.at(client, address, ts_ns) == Some(name) {
            return;
        }
        if self.told.len() >= MOST {
            self.refused += 1;
            return;
        }
        let pair = (self.number(client), self.number(address));
        let known = self.last.get(&pair).copied();
        let (last, changes) = known.map_or((None, 0), |(last, changes)| (Some(last), changes));
        if changes >= MOST_CHANGES {
            self.refused += 1;
            return;
        }
        let later = self.changes(pair).take_while(|told| self.told[*told as usize].since_ns > ts_ns).last();
        let before = match later {
            Some(later) => self.told[later as usize].before,
            None => last,
        };
        let Some(name) = self.place(name) else { return };
        let next = self.told.len() as u32;
        self.told.push(Told { since_ns: ts_ns, name, before });
        if let Some(later) = later {
            self.told[later as usize].before = Some(next);
        }
        let last = last.filter(|_| later.is_some()).unwrap_or(next);
        self.last.insert(pair, (last, changes + 1));
    }

    /// The latest first.
    fn changes(&self, pair: (u32, u32)) -> impl Iterator<Item = u32> {
        let last = self.last.get(&pair).map(|(last, _)| *last);
        successors(last, |told| self.told[*told as usize].before)
    }

    fn number(&mut self, of: IpAddr) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(of).or_insert(next)
    }

    /// None for what is too long for a name.
    fn place(&mut self, name: &str) -> Option<Place> {
        let hasher = &self.hasher;
        let hash = |text: &str| hasher.hash_one(text);
        if let Some(place) = self.places.find(hash(name), |place| at(&self.text, *place) == name) {
            return Some(*place);
        }
        let place = (u32::try_from(self.text.len()).ok()?, u16::try_from(name.len()).ok()?);
        self.text.push_str(name);
        let text = &self.text;
        self.places.insert_unique(hash(name), place, |place| hash(at(text, *place)));
        Some(place)
    }

    /// The last name the client was told for the address before a time.
    pub fn at(&self, client: IpAddr, address: IpAddr, ts_ns: i64) -> Option<&str> {
        let pair = (*self.numbers.get(&client)?, *self.numbers.get(&address)?);
        let mut told = self.changes(pair).map(|told| &self.told[told as usize]);
        Some(at(&self.text, told.find(|told| told.since_ns <= ts_ns)?.name))
    }
}

fn at(text: &str, (start, len): Place) -> &str {
    &text[start as usize..][..usize::from(len)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_before_counts() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut names = Names::default();
        let mut tell = |ts_ns, name: &str, address: &str| {
            let (client, name, addresses) = (ip("10.0.0.1"), name.into(), vec![address.into()]);
            names.hear(vec![Answer { client, name, addresses, ts_ns }]);
        };
        tell(10, "one.example", "192.0.2.1");
        tell(20, "one.example", "192.0.2.1");
        tell(40, "late.example", "192.0.2.1");
        tell(30, "two.example", "192.0.2.1");
        let at = |ts_ns| names.at(ip("10.0.0.1"), ip("192.0.2.1"), ts_ns);
        assert_eq!(
            [9, 10, 29, 30, 39].map(at),
            [None, Some("one.example"), Some("one.example"), Some("two.example"), Some("two.example"),]
        );
        assert_eq!(at(40), Some("late.example"));
        assert_eq!(names.at(ip("10.0.0.2"), ip("192.0.2.1"), 50), None, "told to another");
    }
}
