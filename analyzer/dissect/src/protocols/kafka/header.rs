//! Headers of requests: what stands in the first bytes, and whether bytes are likely to be one.

use super::api::{self, Api};
use crate::layer::Probe;

/// Bytes of the size before a message.
pub const SIZE: usize = 4;
/// Bytes of a request's header before its client id, the length of that included.
const FIXED: usize = 10;
/// Longest client id kept.
const CLIENT_ID: usize = 256;
/// Highest version that may come to be.
const HIGHEST: i16 = 64;

/// A header.
pub struct Header {
    /// Number of the API.
    pub key: i16,
    /// Version.
    pub version: i16,
    /// Correlation id.
    pub correlation: i32,
    /// Client id.
    pub client_id: Option<Box<str>>,
    /// Bytes of it, without tags.
    pub len: usize,
}

/// What was read of a header.
pub enum Read {
    /// All.
    Whole(Header),
    /// So many bytes are needed.
    More(usize),
    /// It is none.
    Bad,
}

/// Reads the header behind a size.
pub fn read(bytes: &[u8]) -> Read {
    let (Some(key), Some(version), Some(correlation)) = (short(bytes, 0), short(bytes, 2), number(bytes, 4))
    else {
        return Read::More(8);
    };
    if key < 0 || !(0..=HIGHEST).contains(&version) {
        return Read::Bad;
    }
    // The one request without a client id (header version 0).
    if (key, version) == (api::CONTROLLED_SHUTDOWN, 0) {
        return Read::Whole(Header { key, version, correlation, client_id: None, len: 8 });
    }
    let Some(client_len) = short(bytes, 8) else { return Read::More(FIXED) };
    let len = FIXED + usize::try_from(client_len).unwrap_or(0);
    let Some(client) = bytes.get(FIXED..len) else { return Read::More(len) };
    let client = String::from_utf8_lossy(client);
    let client = (!client.is_empty()).then(|| client[..client.floor_char_boundary(CLIENT_ID)].into());
    Read::Whole(Header { key, version, correlation, client_id: client, len })
}

fn short(bytes: &[u8], at: usize) -> Option<i16> {
    bytes.get(at..at + 2)?.try_into().ok().map(i16::from_be_bytes)
}

/// A number of 4 bytes.
pub fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4)?.try_into().ok().map(i32::from_be_bytes)
}

/// Where a header is looked for.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    /// At the start of a conversation with a broker's port.
    OwnPort,
    /// At the start of another.
    First,
    /// Anywhere.
    Any,
}

/// Does a request begin here? Its size, API, version, correlation id and client id must all be likely.
pub fn begins(bytes: &[u8], place: Place) -> Probe {
    /// `message.max.bytes` and the like are far below.
    const LIKELY: i32 = 128 << 20;
    /// Versions later than those known.
    const LATER: i16 = 3;
    let size = number(bytes, 0);
    let api = short(bytes, SIZE).map(api::by_key);
    let is_version = |version: i16| {
        api.flatten().is_some_and(|api| (0..=api.latest.saturating_add(LATER)).contains(&version))
    };
    let fits = bytes.first().is_none_or(|byte| *byte < 8)
        && size.is_none_or(|size| (FIXED as i32..=LIKELY).contains(&size))
        && api.is_none_or(|api| api.is_some())
        && short(bytes, SIZE + 2).is_none_or(is_version)
        && number(bytes, SIZE + 4).is_none_or(|correlation| correlation >= 0);
    let (Some(size), Some(len)) = (size.filter(|_| fits), short(bytes, SIZE + 8)) else {
        return if fits { Probe::More } else { Probe::No };
    };
    let text = &bytes[SIZE + FIXED..];
    let text = &text[..text.len().min(usize::try_from(len).unwrap_or(0))];
    let is_text = std::str::from_utf8(text).map_or_else(|error| error.error_len().is_none(), |_| true)
        && !text.iter().any(u8::is_ascii_control);
    // Without a client id there are only small numbers, of which lists are full: where brokers are, it is left out by NULL or is empty;
    // elsewhere no more than a first request is taken for one. A response has no number of an API, and begins with a small number.
    let is_brokers = || {
        let is_version = |api: &Api| short(bytes, SIZE + 2).is_some_and(|version| version <= api.latest);
        let is_known = api.flatten().is_some_and(|api| is_version(api) && (len == -1 || api.key > 0));
        let is_early = number(bytes, SIZE + 4).is_some_and(|correlation| correlation < 1 << 16);
        place == Place::OwnPort && is_known && is_early
    };
    let is_greeting = || {
        place != Place::Any
            && matches!(api, Some(Some(api)) if api.key == api::API_VERSIONS || api.key == api::METADATA)
            && size < 1024
            && number(bytes, SIZE + 4).is_some_and(|correlation| correlation < 1 << 16)
    };
    match len {
        -1 | 0 if is_greeting() || is_brokers() => Probe::Yes,
        1..=255 if i32::from(len) + FIXED as i32 > size || !is_text => Probe::No,
        1..=255 if text.len() < len as usize => Probe::More,
        1..=255 => Probe::Yes,
        _ => Probe::No,
    }
}
