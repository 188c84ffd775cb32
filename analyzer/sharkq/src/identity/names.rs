//! Names that clients were told the addresses of, in the traffic itself. In: DNS answers as they are read. Out: the last name a
//! client got for an address before a time. Bounded: beyond that nothing new is learnt, and that is said.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use shark_dissect::rows::Answer;

/// Pairs of client and address, and changes of their names, that are remembered.
const MOST: usize = 200_000;

/// Since when, and what.
type Told = (i64, Arc<str>);

/// What was told to whom.
#[derive(Default)]
pub struct Names {
    told: HashMap<(IpAddr, IpAddr), Vec<Told>>,
    texts: HashSet<Arc<str>>,
    count: usize,
    /// Answers that were not taken in.
    pub refused: u64,
}

impl Names {
    /// Takes answers in.
    pub fn hear(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            let Ok(client) = answer.client.parse::<IpAddr>() else { continue };
            let name = self.text(&answer.name);
            for address in answer.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                self.learn((client.to_canonical(), address.to_canonical()), answer.ts_ns, &name);
            }
        }
    }

    fn text(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(name) {
            return Arc::clone(known);
        }
        let text: Arc<str> = name.into();
        if self.texts.len() < MOST {
            self.texts.insert(Arc::clone(&text));
        }
        text
    }

    fn learn(&mut self, key: (IpAddr, IpAddr), ts_ns: i64, name: &Arc<str>) {
        let told = self.told.get(&key);
        let at = told.map_or(0, |told| told.partition_point(|(before_ns, _)| *before_ns <= ts_ns));
        let known = told.and_then(|told| told.get(at.checked_sub(1)?));
        if known.is_some_and(|(_, known)| known == name) {
            return;
        }
        if self.count >= MOST {
            self.refused += 1;
            return;
        }
        self.count += 1;
        self.told.entry(key).or_default().insert(at, (ts_ns, Arc::clone(name)));
    }

    /// The last name the client was told for the address before a time.
    pub fn at(&self, client: IpAddr, address: IpAddr, ts_ns: i64) -> Option<&str> {
        let told = self.told.get(&(client, address))?;
        let after = told.partition_point(|(told_ns, _)| *told_ns <= ts_ns);
        Some(&*told.get(after.checked_sub(1)?)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_before_counts() {
        let mut names = Names::default();
        let mut tell = |ts_ns, name: &str, address: &str| {
            let (client, name, addresses) = ("10.0.0.1".into(), name.into(), vec![address.into()]);
            names.hear(vec![Answer { client, name, addresses, ts_ns }]);
        };
        tell(10, "one.example", "192.0.2.1");
        tell(20, "one.example", "192.0.2.1");
        tell(40, "late.example", "192.0.2.1");
        tell(30, "two.example", "192.0.2.1");
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let at = |ts_ns| names.at(ip("10.0.0.1"), ip("192.0.2.1"), ts_ns);
        assert_eq!(
            [9, 10, 29, 30, 39].map(at),
            [None, Some("one.example"), Some("one.example"), Some("two.example"), Some("two.example"),]
        );
        assert_eq!(at(40), Some("late.example"));
        assert_eq!(names.at(ip("10.0.0.2"), ip("192.0.2.1"), 50), None, "told to another");
    }
}
