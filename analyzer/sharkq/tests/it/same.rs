//! Two multisets of lines, one told and one seen. Out: nothing if they are equal; else a failure that lists what only one
//! of them has, since a thousand equal lines explain nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

pub fn assert_same<T: AsRef<str>>(what: &str, told: &[T], seen: &[T]) {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    told.iter().for_each(|line| *balance.entry(line.as_ref()).or_default() += 1);
    seen.iter().for_each(|line| *balance.entry(line.as_ref()).or_default() -= 1);
    balance.retain(|_, count| *count != 0);
    if balance.is_empty() {
        return;
    }
    let mut text = format!("{what}: {} told, {} seen, they differ in:\n", told.len(), seen.len());
    for (line, count) in balance.iter().take(20) {
        let side = if *count > 0 { "only told" } else { "only seen" };
        let _ = writeln!(text, "  {side} ({} times): {line}", count.abs());
    }
    panic!("{text}");
}

#[test]
#[should_panic(expected = "only seen (1 times): b")]
fn one_line_more_is_found() {
    assert_same("lines", &["a", "b"], &["b", "a", "b"]);
}
