//! Numbers in place of texts and lists. In: texts, and numbers under keys. Out: each text once, and the numbers under a key in the order
//! of their begin, in two allocations for all keys together.

use std::collections::HashMap;
use std::hash::Hash;

/// The number of no text.
pub const NONE: u32 = u32::MAX;

/// Texts by number, each once.
#[derive(Default)]
pub struct Texts {
    numbers: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Texts {
    /// The number of a text, a new one where it is needed.
    pub fn number(&mut self, text: Option<&str>) -> u32 {
        let Some(text) = text else { return NONE };
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// A text by its number.
    pub fn get(&self, number: u32) -> Option<&str> {
        self.texts.get(number as usize).map(|text| &**text)
    }

    /// The number of a text that is known.
    pub fn known(&self, text: Option<&str>) -> u32 {
        text.and_then(|text| self.numbers.get(text)).copied().unwrap_or(NONE)
    }
}

/// Numbers of sockets, ordered by key and begin, with the range of each key.
pub struct Index<K> {
    ranges: HashMap<K, (u32, u32)>,
    order: Vec<u32>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Index { ranges: HashMap::new(), order: Vec::new() }
    }
}

impl<K: Copy + Ord + Hash> Index<K> {
    /// From keys with begin and number.
    pub fn new(mut entries: Vec<(K, i64, u32)>) -> Index<K> {
        entries.sort_unstable();
        let mut ranges = HashMap::new();
        let mut start = 0;
        for run in entries.chunk_by(|a, b| a.0 == b.0) {
            ranges.insert(run[0].0, (start, start + run.len() as u32));
            start += run.len() as u32;
        }
        Index { ranges, order: entries.into_iter().map(|entry| entry.2).collect() }
    }

    /// Numbers under a key, by their begin.
    pub fn get(&self, key: &K) -> &[u32] {
        self.ranges.get(key).map_or(&[], |(from, to)| &self.order[*from as usize..*to as usize])
    }
}
