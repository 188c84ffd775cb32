//! Statements that a connection prepared, to be found again when they are executed. In: names or ids and texts from the wire.
//! Out: the text. Holds no more than `limits.rs` says: beyond it all are forgotten, since no server tells which are in use.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::limits;

/// Texts by name or id.
pub struct Statements<K> {
    by_key: FxHashMap<K, Arc<str>>,
    bytes: usize,
}

impl<K: Hash + Eq> Default for Statements<K> {
    fn default() -> Self {
        Statements { by_key: FxHashMap::default(), bytes: 0 }
    }
}

/// What a name takes beside its text.
const ENTRY: usize = 64;

impl<K: Hash + Eq> Statements<K> {
    /// A statement has this text from now on.
    pub fn remember(&mut self, key: K, text: Arc<str>) {
        self.forget(&key);
        if self.by_key.len() >= limits::STATEMENTS || self.bytes + text.len() > limits::STATEMENTS_BYTES {
            *self = Statements::default();
        }
        self.bytes += text.len();
        self.by_key.insert(key, text);
    }

    /// The text of a statement.
    pub fn text<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Arc<str>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.by_key.get(key).cloned()
    }

    /// The statement is no more.
    pub fn forget<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        if let Some(text) = self.by_key.remove(key) {
            self.bytes -= text.len();
        }
    }

    /// Memory held.
    pub fn memory(&self) -> usize {
        self.bytes + self.by_key.capacity() * ENTRY
    }
}

/// The beginning of a text from the wire, at most `limit` bytes of it, cut between characters.
pub fn excerpt(bytes: &[u8], limit: usize) -> String {
    let mut end = bytes.len().min(limit);
    // At most three bytes continue a character (RFC 3629 section 3).
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    for _ in 0..3 {
        if end > 0 && continues(end) {
            end -= 1;
        }
    }
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_fits_is_forgotten() {
        let mut statements = Statements::default();
        let long: Arc<str> = "x".repeat(limits::STATEMENT_BYTES).into();
        for id in 0..1_000_u32 {
            statements.remember(id, long.clone());
            assert!(statements.bytes <= limits::STATEMENTS_BYTES);
            assert!(statements.text(&id).is_some());
        }
        assert_eq!(statements.text(&0), None);
        for id in 0..10_000_u32 {
            statements.remember(id, "".into());
        }
        assert!(statements.by_key.len() <= limits::STATEMENTS);
    }

    #[test]
    fn a_statement_is_replaced_and_forgotten() {
        let mut statements = Statements::default();
        statements.remember(1, "SELECT 1".into());
        statements.remember(1, "SELECT 2".into());
        assert_eq!(statements.text(&1).as_deref(), Some("SELECT 2"));
        assert_eq!(statements.bytes, 8);
        statements.forget(&1);
        assert_eq!((statements.text(&1), statements.bytes), (None, 0));
    }

    #[test]
    fn an_excerpt_ends_between_characters() {
        assert_eq!(excerpt("añb".as_bytes(), 2), "a");
        assert_eq!(excerpt("añb".as_bytes(), 3), "añ");
        assert_eq!(excerpt(b"a\xffb", 9), "a\u{fffd}b");
        assert_eq!(excerpt(&[0x80; 9], 5), "\u{fffd}\u{fffd}");
    }
}
