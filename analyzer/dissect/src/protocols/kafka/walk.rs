//! The walk along the fields of a body while its bytes pass. In: the bytes, in pieces. Out: what is kept of them. Holds the place in the
//! nested lists and never a value; where something does not fit it stops, and what was kept until then stays.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::fields::Keep::{
    Acks, Coordinated, CoordinatedKind, Error, ErrorOfVersion, Group, Offset, Partition, Throttle, Topic,
};
use super::fields::{Field, Keep, Kind};
use super::records::Records;

/// What is kept of a body: of lists, what the first element says that says something.
#[derive(Debug, Default, PartialEq)]
pub struct Body {
    /// Consumer group.
    pub group: Option<Box<str>>,
    /// First topic, or its id.
    pub topic: Option<Box<str>>,
    /// First partition.
    pub partition: Option<i32>,
    /// Its offset.
    pub offset: Option<i64>,
    /// Acknowledgements wanted.
    pub acks: Option<i16>,
    /// Throttle time.
    pub throttle_ms: Option<i32>,
    /// First error that is one, else 0.
    pub error: Option<i16>,
    /// Records of all partitions.
    pub records: Option<i64>,
    /// What is looked for is no group but a transaction.
    coordinates_other: bool,
}

/// Longest text kept.
const TEXT: usize = 256;

impl Body {
    /// Bytes held beside its own.
    pub fn memory(&self) -> usize {
        [&self.group, &self.topic].into_iter().flatten().map(|text| text.len()).sum()
    }

    fn keep_text(&mut self, keep: Keep, text: &[u8]) {
        let place = match keep {
            Group => &mut self.group,
            Coordinated if !self.coordinates_other => &mut self.group,
            Topic => &mut self.topic,
            _ => return,
        };
        if place.is_none() && !text.is_empty() {
            let text = String::from_utf8_lossy(text);
            *place = Some(text[..text.floor_char_boundary(TEXT)].into());
        }
    }

    fn keep_number(&mut self, keep: Keep, number: i64) {
        match keep {
            Partition => self.partition = self.partition.or(i32::try_from(number).ok()),
            // -1 stands for none.
            Offset => self.offset = self.offset.or((number >= 0).then_some(number)),
            Acks => self.acks = i16::try_from(number).ok(),
            Throttle => self.throttle_ms = i32::try_from(number).ok(),
            Error | ErrorOfVersion if self.error.is_none_or(|error| error == 0) => {
                self.error = i16::try_from(number).ok();
            }
            CoordinatedKind if number != 0 => {
                self.coordinates_other = true;
                self.group = None;
            }
            _ => {}
        }
    }
}

/// The place in a body.
pub struct Walk {
    version: i16,
    is_flexible: bool,
    /// Structures that are open, outermost first.
    levels: Vec<Level>,
    /// Bytes of a value to come that are not looked at, but for records.
    skip: u64,
    in_records: bool,
    records: Option<Records>,
    walked: u64,
    /// All fields were walked along.
    is_whole: bool,
    body: Body,
}

/// A list, of whose elements one is open.
struct Level {
    fields: &'static [Field],
    /// Its next field.
    at: usize,
    /// Elements to come, with the open one.
    left: u64,
    /// Tagged fields to come; `None` before they are counted.
    tags: Option<u32>,
    has_tags: bool,
    /// How far the walk was when the element began.
    began: u64,
}

/// Why a step was not made.
enum Stop {
    /// It needs more bytes.
    Short,
    /// What is there does not fit.
    Bad,
}

impl Walk {
    /// At the end of a header, before its tags if it has any.
    pub fn new(fields: &'static [Field], version: i16, is_flexible: bool, has_tags: bool) -> Walk {
        let level =
            |fields, has_tags| Level { fields, at: 0, left: 1, tags: None, has_tags, began: u64::MAX };
        let mut levels = vec![level(fields, false)];
        if has_tags {
            levels.push(level(&[], true));
        }
        Walk {
            version,
            is_flexible,
            levels,
            skip: 0,
            in_records: false,
            records: None,
            walked: 0,
            is_whole: false,
            body: Body::default(),
        }
    }

    /// Takes bytes as far as whole values go; returns how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let step = if self.skip > 0 {
                Ok(self.pass(rest))
            } else if self.levels.is_empty() {
                return bytes.len();
            } else {
                self.step(rest)
            };
            match step {
                Ok(len) => {
                    used += len;
                    self.walked += len as u64;
                }
                Err(Stop::Short) => return used,
                Err(Stop::Bad) => self.stop(),
            }
        }
        used
    }

    /// The rest is not looked at.
    pub fn stop(&mut self) {
        self.levels.clear();
        (self.skip, self.in_records, self.is_whole) = (0, false, false);
    }

    /// Missing bytes: may they be, without losing the place?
    pub fn skip(&mut self, len: u64) -> bool {
        let may = self.levels.is_empty() || len <= self.skip;
        if may && self.in_records {
            self.records.iter_mut().for_each(|records| records.skip(len));
        }
        self.skip = self.skip.saturating_sub(if may { len } else { 0 });
        may
    }

    /// What was kept; a response that was read to its end and told of no error has none.
    pub fn finish(mut self, is_response: bool) -> Body {
        if is_response && self.is_whole {
            self.body.error.get_or_insert(0);
        }
        self.body.records = self.records.and_then(|records| records.count());
        self.body
    }

    fn pass(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= len as u64;
        if self.in_records {
            self.records.iter_mut().for_each(|records| records.push(&bytes[..len]));
            self.in_records = self.skip > 0;
        }
        len
    }

    /// One field, one tag, or the end of an element.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let Some(level) = self.levels.last_mut() else { return Err(Stop::Bad) };
        let Some(field) = level.fields.get(level.at) else { return self.end_element(bytes) };
        if !(field.from..=field.to).contains(&self.version) {
            level.at += 1;
            return Ok(0);
        }
        let len = self.field(field, bytes)?;
        Ok(len)
    }

    /// Reads a field and goes on to the next, or into its list.
    fn field(&mut self, field: &'static Field, bytes: &[u8]) -> Result<usize, Stop> {
        let (len, number) = match field.kind {
            Kind::I8 => (1, i64::from(i8::from_be_bytes(array(bytes)?))),
            Kind::I16 => (2, i64::from(i16::from_be_bytes(array(bytes)?))),
            Kind::I32 => (4, i64::from(i32::from_be_bytes(array(bytes)?))),
            Kind::I64 => (8, i64::from_be_bytes(array(bytes)?)),
            Kind::Id => {
                let id: [u8; 16] = array(bytes)?;
                if field.keep != Keep::Nothing && id != [0; 16] {
                    self.body.keep_text(field.keep, URL_SAFE_NO_PAD.encode(id).as_bytes());
                }
                self.next();
                return Ok(id.len());
            }
            Kind::Text => return self.text(field.keep, bytes),
            Kind::List(fields) => return self.list(fields, true, bytes),
            Kind::Plain(fields) => return self.list(fields, false, bytes),
            Kind::Records => return self.records(bytes),
        };
        self.body.keep_number(field.keep, number);
        self.next();
        if field.keep == ErrorOfVersion && number != 0 { Err(Stop::Bad) } else { Ok(len) }
    }

    fn next(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.at += 1;
        }
    }

    fn text(&mut self, keep: Keep, bytes: &[u8]) -> Result<usize, Stop> {
        let (before, len) = self.len(bytes, |bytes| Ok(i16::from_be_bytes(array(bytes)?).into()), 2)?;
        let mut end = before;
        if keep != Keep::Nothing {
            end += len.min(TEXT as u64) as usize;
            self.body.keep_text(keep, bytes.get(before..end).ok_or(Stop::Short)?);
        }
        self.next();
        self.skip = len - (end - before) as u64;
        Ok(end)
    }

    fn records(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let (before, len) = self.len(bytes, |bytes| Ok(i32::from_be_bytes(array(bytes)?).into()), 4)?;
        self.records.get_or_insert_default().begin(len);
        self.next();
        (self.skip, self.in_records) = (len, len > 0);
        Ok(before)
    }

    fn list(&mut self, fields: &'static [Field], has_tags: bool, bytes: &[u8]) -> Result<usize, Stop> {
        let (before, left) = self.len(bytes, |bytes| Ok(i32::from_be_bytes(array(bytes)?).into()), 4)?;
        self.next();
        if left > 0 {
            let began = self.walked + before as u64;
            let has_tags = has_tags && self.is_flexible;
            self.levels.push(Level { fields, at: 0, left, tags: None, has_tags, began });
        }
        Ok(before)
    }

    /// A length and the bytes it takes; what is none (-1) has length 0. Compact ones have 1 added to them.
    fn len(
        &self,
        bytes: &[u8],
        plain: impl Fn(&[u8]) -> Result<i64, Stop>,
        size: usize,
    ) -> Result<(usize, u64), Stop> {
        if self.is_flexible {
            let (before, len) = varint(bytes)?;
            return Ok((before, u64::from(len).saturating_sub(1)));
        }
        Ok((size, u64::try_from(plain(bytes)?).unwrap_or(0)))
    }

    /// Tagged fields (KIP-482), none of which is needed; then the next element.
    fn end_element(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let walked = self.walked;
        let Some(level) = self.levels.last_mut() else { return Err(Stop::Bad) };
        match level.tags {
            None if level.has_tags => {
                let (len, count) = varint(bytes)?;
                level.tags = Some(count);
                Ok(len)
            }
            Some(count @ 1..) => {
                let (first, _) = varint(bytes)?;
                let (second, len) = varint(&bytes[first..])?;
                level.tags = Some(count - 1);
                self.skip = len.into();
                Ok(first + second)
            }
            // An element that takes no bytes would have no end.
            _ if level.began == walked => Err(Stop::Bad),
            _ => {
                level.left -= 1;
                (level.at, level.tags, level.began) = (0, None, walked);
                if level.left == 0 {
                    self.levels.pop();
                    self.is_whole = self.levels.is_empty();
                }
                Ok(0)
            }
        }
    }
}

fn varint(bytes: &[u8]) -> Result<(usize, u32), Stop> {
    let mut number = 0;
    for (at, shift) in (0..=28).step_by(7).enumerate() {
        let byte = *bytes.get(at).ok_or(Stop::Short)?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((at + 1, number));
        }
    }
    Err(Stop::Bad)
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Stop> {
    bytes.first_chunk().copied().ok_or(Stop::Short)
}

#[cfg(test)]
mod tests {
    use super::super::fields::{
        API_VERSIONS_TOLD, FIND_COORDINATOR, METADATA, OFFSET_COMMIT, PRODUCE, PRODUCED,
    };
    use super::*;

    /// Walked in pieces of any size, which must make no difference.
    fn walked(bytes: &[u8], version: i16, is_flexible: bool, fields: &'static [Field]) -> Body {
        let whole = in_pieces(bytes, bytes.len(), version, is_flexible, fields);
        for size in 1..bytes.len() {
            assert_eq!(in_pieces(bytes, size, version, is_flexible, fields), whole, "in pieces of {size}");
        }
        whole
    }

    fn in_pieces(
        bytes: &[u8],
        size: usize,
        version: i16,
        is_flexible: bool,
        fields: &'static [Field],
    ) -> Body {
        let mut walk = Walk::new(fields, version, is_flexible, false);
        let (mut start, mut end) = (0, 0);
        while end < bytes.len() {
            end = (end + size).min(bytes.len());
            start += walk.push(&bytes[start..end]);
        }
        walk.finish(false)
    }

    #[test]
    fn both_forms_of_lengths() {
        let old = b"\xff\xff\0\x01\0\0\x75\x30\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\x02\0\0\0\0";
        let body = walked(old, 7, false, PRODUCE);
        assert_eq!((body.acks, body.topic.as_deref(), body.partition), (Some(1), Some("orders"), Some(2)));
        assert_eq!(body.records, Some(0));
        let new = b"\0\xff\xff\0\0\x75\x30\x02\x07orders\x02\0\0\0\x02\x01\x01\x05\x02ab\0\0";
        let body = walked(new, 9, true, PRODUCE);
        assert_eq!((body.acks, body.topic.as_deref(), body.partition), (Some(-1), Some("orders"), Some(2)));
    }

    #[test]
    fn the_first_error_that_is_one() {
        let bytes =
            b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\x01\0\x06\xff\xff\xff\xff\xff\xff\xff\xff";
        let body = walked(bytes, 0, false, PRODUCED);
        assert_eq!((body.partition, body.error, body.offset), (Some(0), Some(6), Some(7)));
    }

    #[test]
    fn what_breaks_off_keeps_what_came_before() {
        assert_eq!(walked(b"\0\x03grp\0\0", 0, false, OFFSET_COMMIT).group.as_deref(), Some("grp"));
        let body = walked(b"\0\x23\xff\xff\xff\xff\xff", 3, true, API_VERSIONS_TOLD);
        assert_eq!((body.error, body.throttle_ms), (Some(35), None));
        // A count that nothing follows, and a number without an end.
        assert_eq!(walked(b"\x7f\xff\xff\xff", 0, false, METADATA), Body::default());
        assert_eq!(walked(&[0xff; 12], 9, true, METADATA), Body::default());
    }

    #[test]
    fn elements_of_nothing_end_the_walk() {
        static NOTHING: &[Field] =
            &[Field { kind: Kind::List(&[]), from: 0, to: i16::MAX, keep: Keep::Nothing }];
        assert_eq!(walked(b"\x7f\xff\xff\xff\0\0\0\0", 0, false, NOTHING), Body::default());
    }

    #[test]
    fn a_transaction_is_no_group() {
        assert_eq!(walked(b"\0\x01t\x01", 1, false, FIND_COORDINATOR).group, None);
        assert_eq!(walked(b"\0\x02\x02g\0", 4, true, FIND_COORDINATOR).group.as_deref(), Some("g"));
        assert_eq!(walked(b"\x01\x02\x02t\0", 4, true, FIND_COORDINATOR).group, None);
    }
}
