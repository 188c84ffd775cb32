//! The way of events from a program to us: a ring, and the count of what it had no room for.
//! In: a loaded object with maps `events` and `lost`. Out: the bytes of each event, once. It never waits.

use aya::Ebpf;
use aya::maps::{Array, MapData, RingBuf};

use crate::Reason;

pub(crate) struct Events {
    ring: RingBuf<MapData>,
    lost: Array<MapData, u64>,
    lost_before: u64,
}

impl Events {
    pub(crate) fn of(loaded: &mut Ebpf) -> Result<Events, Reason> {
        let mut map = |name: &str| loaded.take_map(name).ok_or_else(|| Reason::missing(name));
        let ring = RingBuf::try_from(map("events")?).map_err(|error| Reason::of(&error))?;
        let lost = Array::try_from(map("lost")?).map_err(|error| Reason::of(&error))?;
        Ok(Events { ring, lost, lost_before: 0 })
    }

    pub(crate) fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some(item) = self.ring.next() {
            each(&item);
        }
    }

    /// Events lost since the last time.
    pub(crate) fn lost(&mut self) -> u64 {
        let total = self.lost.get(&0, 0).unwrap_or(self.lost_before);
        total - std::mem::replace(&mut self.lost_before, total)
    }
}

/// Bytes up to the first zero, whatever they are.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
