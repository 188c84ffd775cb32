//! One value of a direction while it arrives: bytes in, at its end its shape and the first texts in it. Holds a few KiB at most,
//! however long the value is.

use super::resp::{self, Element, Read};

/// Deepest nesting; replies of servers have less than ten levels.
const DEPTH: usize = 32;
/// Bytes of texts kept.
const KEPT: usize = 2048;
/// Bytes kept of one text.
const KEPT_OF_ONE: usize = 1024;
/// Texts kept.
const KEPT_TEXTS: usize = 128;
/// Bytes of an error kept.
const KEPT_ERROR: usize = 512;

/// A value being read.
#[derive(Default)]
pub struct Value {
    /// Aggregates that are open, outermost first.
    levels: Vec<Level>,
    /// Content to come of the bulk string that is open.
    bulk: Option<u64>,
    /// Bytes of the CRLF behind it that are missing.
    crlf_seen: u8,
    /// What it looks like so far.
    pub shape: Shape,
    /// Texts of its elements so far.
    pub texts: Texts,
}

struct Level {
    /// Elements to come.
    left: u64,
    /// It describes the value that follows and is none.
    is_attribute: bool,
}

/// What a value looks like.
#[derive(Default)]
pub struct Shape {
    /// Byte that names its type; 0 before it is known.
    pub kind: u8,
    /// Elements announced.
    pub count: u64,
    /// All elements so far are bulk strings.
    pub is_flat: bool,
    /// Nothing, 0, or nothing but nulls; `None` for what says neither.
    pub found: Option<bool>,
    /// It is a null.
    pub is_null: bool,
    /// First byte of a line.
    pub first: u8,
    /// The first error in it.
    pub error: Vec<u8>,
    /// The bulk string that is open is that error.
    in_error: bool,
}

/// Texts one after another.
#[derive(Default)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    is_open: bool,
    is_full: bool,
}

/// Bytes of CRLF.
const CRLF: u8 = 2;

/// Where missing bytes end.
pub enum Skipped {
    /// Inside of the value.
    Inside,
    /// With the value.
    Whole,
    /// Behind what is known.
    Beyond,
}

/// How far a value came.
pub enum Step {
    /// It ends after so many bytes.
    Whole(usize),
    /// So many bytes belong to it.
    Partial(usize),
    /// Nothing before so many bytes are at hand.
    Wait(usize),
    /// It is none.
    Bad,
}

impl Value {
    /// Nothing of it came yet.
    pub fn is_fresh(&self) -> bool {
        self.shape.kind == 0 && self.levels.is_empty()
    }

    /// Forgets all, for the next value.
    pub fn clear(&mut self) {
        self.levels.clear();
        (self.bulk, self.crlf_seen) = (None, 0);
        let error = std::mem::take(&mut self.shape.error);
        self.shape = Shape { error, ..Shape::default() };
        self.shape.error.clear();
        self.texts.clear();
    }

    /// Missing bytes, of a bulk string's content and the CRLF behind it.
    pub fn skip(&mut self, len: u64) -> Skipped {
        let Some(left) = &mut self.bulk else { return Skipped::Beyond };
        let end = *left + u64::from(CRLF - self.crlf_seen);
        if len > end {
            return Skipped::Beyond;
        }
        self.shape.in_error = false;
        self.texts.end();
        self.crlf_seen += len.saturating_sub(*left) as u8;
        *left = left.saturating_sub(len);
        if len < end {
            return Skipped::Inside;
        }
        (self.bulk, self.crlf_seen) = (None, 0);
        if self.close() { Skipped::Whole } else { Skipped::Inside }
    }

    /// Takes bytes as far as the value goes.
    pub fn read(&mut self, bytes: &[u8]) -> Step {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let is_whole = if self.bulk.is_some() {
                match self.content(rest) {
                    Read::Element(len, _) => {
                        used += len;
                        if self.bulk.is_some() {
                            continue;
                        }
                        self.close()
                    }
                    Read::More(len) => return if used > 0 { Step::Partial(used) } else { Step::Wait(len) },
                    Read::Bad => return Step::Bad,
                }
            } else {
                match resp::element(rest) {
                    Read::Element(len, element) => {
                        used += len;
                        match self.take(&element) {
                            Some(is_whole) => is_whole,
                            None => return Step::Bad,
                        }
                    }
                    Read::More(len) => return if used > 0 { Step::Partial(used) } else { Step::Wait(len) },
                    Read::Bad => return Step::Bad,
                }
            };
            if is_whole {
                return Step::Whole(used);
            }
        }
    }

    /// Content of the open bulk string, then its CRLF.
    fn content(&mut self, bytes: &[u8]) -> Read<'static> {
        let left = self.bulk.unwrap_or_default();
        if left == 0 {
            let end = &b"\r\n"[self.crlf_seen.min(CRLF).into()..];
            if bytes.starts_with(end) {
                (self.bulk, self.crlf_seen) = (None, 0);
                self.texts.end();
                self.shape.in_error = false;
                return Read::Element(end.len(), Element::Null(0));
            }
            return if end.starts_with(bytes) { Read::More(end.len()) } else { Read::Bad };
        }
        let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return Read::More(1);
        }
        self.texts.push(&bytes[..len]);
        if self.shape.in_error {
            self.shape.keep_error(&bytes[..len]);
        }
        self.bulk = Some(left - len as u64);
        Read::Element(len, Element::Null(0))
    }

    /// An element, or the header of one: is the value whole with it? `None` where it is too deep.
    fn take(&mut self, element: &Element<'_>) -> Option<bool> {
        if !self.levels.iter().any(|level| level.is_attribute) {
            self.note(element);
        }
        match element {
            Element::Many(kind, 0) => Some(*kind != b'|' && self.close()),
            Element::Many(kind, count) => {
                self.levels.push(Level { left: *count, is_attribute: *kind == b'|' });
                (self.levels.len() <= DEPTH).then_some(false)
            }
            Element::Bulk(_, len) => {
                self.bulk = Some(*len);
                Some(false)
            }
            Element::Line(..) | Element::Null(_) => Some(self.close()),
        }
    }

    /// An element ended: the value too?
    fn close(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            level.left = level.left.saturating_sub(1);
            if level.left > 0 {
                return false;
            }
            let is_attribute = level.is_attribute;
            self.levels.pop();
            if is_attribute {
                return false;
            }
        }
        true
    }

    fn note(&mut self, element: &Element<'_>) {
        let shape = &mut self.shape;
        if let Element::Many(b'|', _) = element {
            return;
        }
        match self.levels.len() {
            0 => shape.begin(element),
            1 => {
                shape.is_flat &= matches!(element, Element::Bulk(b'$', _));
                if !matches!(element, Element::Null(_)) {
                    shape.found = Some(true);
                }
                self.texts.begin(element);
            }
            // The keys that a client is to forget come as a list in a push.
            2 if shape.kind == b'>' => self.texts.begin(element),
            _ => {}
        }
        match element {
            Element::Line(b'-', text) if shape.error.is_empty() => shape.keep_error(text),
            Element::Bulk(b'!', _) => shape.in_error = shape.error.is_empty(),
            _ => {}
        }
    }
}

impl Shape {
    fn begin(&mut self, element: &Element<'_>) {
        let (kind, found) = match element {
            Element::Many(kind, count) => {
                (self.count, self.is_flat) = (*count, true);
                (*kind, Some(false))
            }
            Element::Bulk(kind, _) => (*kind, (*kind != b'!').then_some(true)),
            Element::Null(kind) => {
                self.is_null = true;
                (*kind, Some(false))
            }
            Element::Line(kind @ b':', text) => (*kind, resp::integer(text).map(|number| number > 0)),
            Element::Line(kind @ b'#', text) => (*kind, Some(*text == b"t")),
            Element::Line(kind @ (b',' | b'('), _) => (*kind, Some(true)),
            Element::Line(kind, text) => {
                self.first = text.first().copied().unwrap_or_default();
                (*kind, None)
            }
        };
        (self.kind, self.found) = (kind, found);
    }

    fn keep_error(&mut self, text: &[u8]) {
        let room = KEPT_ERROR.saturating_sub(self.error.len());
        self.error.extend_from_slice(&text[..text.len().min(room)]);
    }
}

impl Texts {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.is_open, self.is_full) = (false, false);
    }

    fn begin(&mut self, element: &Element<'_>) {
        self.is_full |= self.bytes.len() >= KEPT || self.ends.len() >= KEPT_TEXTS;
        self.is_open = !self.is_full && !matches!(element, Element::Many(..));
        match element {
            Element::Line(_, text) => {
                self.push(text);
                self.end();
            }
            Element::Null(_) => self.end(),
            Element::Many(..) | Element::Bulk(..) => {}
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.is_open {
            let start = self.ends.last().map_or(0, |end| *end as usize);
            let room = KEPT.min(start + KEPT_OF_ONE).saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.ends.push(self.bytes.len() as u32);
        }
    }

    /// A text by its number.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        self.bytes.get(start..end)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The words of an inline command, split as the server does, but for escapes in quotes.
    pub fn split(&mut self, line: &[u8]) {
        self.clear();
        let mut rest = line.trim_ascii();
        while let Some((&first, after)) = rest.split_first() {
            let (word, next) = match first {
                b'"' | b'\'' => cut(after, |byte| byte == first),
                _ => cut(rest, |byte| byte.is_ascii_whitespace()),
            };
            self.begin(&Element::Line(b'+', word));
            rest = next.trim_ascii_start();
        }
    }
}

/// What stands before the first such byte, and what after it.
fn cut(bytes: &[u8], ends: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| ends(byte)) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Value {
        let mut value = Value::default();
        assert!(matches!(value.read(bytes), Step::Whole(len) if len == bytes.len()), "{bytes:?}");
        value
    }

    #[test]
    fn nested_values_end_where_they_end() {
        let value = whole(b"*3\r\n:1\r\n%1\r\n+a\r\n*0\r\n$-1\r\n");
        assert_eq!((value.shape.kind, value.shape.found, value.shape.is_flat), (b'*', Some(true), false));
        assert_eq!(whole(b"*2\r\n$-1\r\n$-1\r\n").shape.found, Some(false));
        assert_eq!(whole(b"*-1\r\n").shape.found, Some(false));
        assert_eq!(whole(b"*2\r\n:1\r\n-ERR inside\r\n").shape.error, b"ERR inside");
        assert_eq!(whole(b"!7\r\nSYN bad\r\n").shape.error, b"SYN bad");
    }

    #[test]
    fn an_attribute_is_no_value() {
        let value = whole(b"|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n");
        assert_eq!((value.shape.kind, value.shape.found), (b'$', Some(true)));
        let inside = whole(b"*2\r\n|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!((inside.texts.len(), inside.texts.get(1)), (2, Some(&b"b"[..])));
        assert!(matches!(Value::default().read(b"|0\r\n"), Step::Partial(4)));
    }

    #[test]
    fn any_cut_reads_the_same() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n";
        for cut in 1..bytes.len() {
            let mut value = Value::default();
            let used = match value.read(&bytes[..cut]) {
                Step::Partial(used) => used,
                Step::Wait(_) => 0,
                _ => panic!("cut at {cut}"),
            };
            assert!(matches!(value.read(&bytes[used..]), Step::Whole(len) if len == bytes.len() - used));
            assert_eq!(value.texts.get(1), Some(&b"k"[..]));
        }
    }

    #[test]
    fn what_is_too_deep_or_broken_is_bad() {
        assert!(matches!(Value::default().read(&b"*1\r\n".repeat(40)), Step::Bad));
        assert!(matches!(Value::default().read(b"$1\r\nabc"), Step::Bad));
    }

    #[test]
    fn long_texts_are_cut() {
        let mut value = Value::default();
        assert!(matches!(value.read(b"*2\r\n$3\r\nSET\r\n$9000\r\n"), Step::Partial(20)));
        assert!(matches!(value.read(&[b'x'; 4000]), Step::Partial(4000)));
        assert!(matches!(value.skip(5000), Skipped::Inside));
        assert!(matches!(value.skip(3), Skipped::Beyond));
        assert!(matches!(value.read(b"\r\n"), Step::Whole(2)));
        assert_eq!(value.texts.get(1).map(<[u8]>::len), Some(KEPT_OF_ONE));
    }

    /// The end of a bulk string is known: whatever of it and of the CRLF behind it is missing.
    #[test]
    fn a_value_ends_in_a_gap() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$4\r\nkeys\r\n";
        for at in bytes.len() - 6..bytes.len() {
            for to in at + 1..=bytes.len() {
                let mut value = Value::default();
                let Step::Partial(used) = value.read(&bytes[..at]) else { panic!("not whole") };
                let held = at - used;
                let skipped = value.skip((held + to - at) as u64);
                assert_eq!(matches!(skipped, Skipped::Whole), to == bytes.len(), "{at} {to}");
                if to < bytes.len() {
                    assert!(matches!(value.read(&bytes[to..]), Step::Whole(len) if len == bytes.len() - to));
                }
                assert_eq!(value.texts.get(0), Some(&b"GET"[..]));
            }
        }
    }

    #[test]
    fn inline_words() {
        let mut texts = Texts::default();
        texts.split(b"  set \"a b\"  'c' d\r\n");
        let words: Vec<_> = (0..texts.len()).filter_map(|at| texts.get(at)).collect();
        assert_eq!(words, [&b"set"[..], b"a b", b"c", b"d"]);
    }
}
