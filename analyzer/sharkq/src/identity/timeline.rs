//! Who had something at a time. In: claims, each for its interval. Out: stretches in which exactly one holds, found by binary
//! search; stretches with several claims have no owner and are told. It never prefers one of two equal claims.

use std::collections::{BTreeMap, BTreeSet};

/// Open towards the future.
pub const OPEN: i64 = i64::MAX;

/// That somebody had it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<T> {
    /// Who.
    pub owner: T,
    /// Since when at the earliest: until `from_ns` it holds only where nobody else claims anything.
    pub early_ns: i64,
    /// Since when for certain.
    pub from_ns: i64,
    /// Since when it is only presumed: it holds where nobody else claims anything, and nobody else's does beside it.
    pub fading_ns: i64,
    /// Until when, exclusive.
    pub to_ns: i64,
    /// Until when it may have had it in truth, exclusive: nobody else's claim holds, nor does its own.
    pub ghost_ns: i64,
}

impl<T> Claim<T> {
    /// Certain from the beginning.
    pub fn certain(owner: T, from_ns: i64, to_ns: i64) -> Claim<T> {
        Claim::new(owner, from_ns, from_ns, to_ns)
    }

    /// Certain from a time on, and possible before.
    pub fn new(owner: T, early_ns: i64, from_ns: i64, to_ns: i64) -> Claim<T> {
        Claim { owner, early_ns, from_ns, fading_ns: i64::MAX, to_ns, ghost_ns: i64::MIN }
    }

    /// Its parts, one after the other.
    fn parts(&self) -> [(Part, i64, i64); 4] {
        let certain_ns = self.from_ns.min(self.to_ns);
        let fading_ns = self.fading_ns.clamp(certain_ns, self.to_ns);
        [
            (Part::Early, self.early_ns, certain_ns),
            (Part::Certain, certain_ns, fading_ns),
            (Part::Fading, fading_ns, self.to_ns),
            (Part::Ghost, self.to_ns, self.ghost_ns),
        ]
    }
}

/// How well a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Early,
    Certain,
    Fading,
    Ghost,
}

/// A time in which several claimed it.
#[derive(Debug, PartialEq)]
pub struct Conflict<T> {
    /// Since when.
    pub from_ns: i64,
    /// Until when.
    pub to_ns: i64,
    /// Who, in their order; of very many the first.
    pub owners: Vec<T>,
}

/// Owners that are told of one conflict.
const MOST_OWNERS: usize = 16;

/// Owners over time.
#[derive(Debug)]
pub struct Timeline<T> {
    /// Each begins where the one before ends.
    stretches: Vec<(i64, Option<T>)>,
}

impl<T: Copy + Ord> Timeline<T> {
    /// From claims in any order.
    pub fn new(claims: &[Claim<T>]) -> (Timeline<T>, Vec<Conflict<T>>) {
        let mut events: Vec<(i64, bool, Part, T)> = Vec::new();
        for claim in claims {
            for (part, from_ns, to_ns) in
                claim.parts().into_iter().filter(|(_, from_ns, to_ns)| from_ns < to_ns)
            {
                events.push((from_ns, true, part, claim.owner));
                events.push((to_ns, false, part, claim.owner));
            }
        }
        events.sort_unstable();
        let mut holders: [BTreeMap<T, u32>; 4] = Default::default();
        let mut timeline = Timeline { stretches: Vec::new() };
        let mut conflicts: Vec<Conflict<T>> = Vec::new();
        for moment in events.chunk_by(|a, b| a.0 == b.0) {
            let at_ns = moment[0].0;
            for &(_, begins, part, owner) in moment {
                let count = holders[part as usize].entry(owner).or_default();
                // Ends sort before beginnings: for a moment a count may be what it was not.
                *count = if begins { count.wrapping_add(1) } else { count.wrapping_sub(1) };
            }
            for (_, _, part, owner) in moment {
                let of = &mut holders[*part as usize];
                if of.get(owner) == Some(&0) {
                    of.remove(owner);
                }
            }
            if let Some(conflict) = conflicts.last_mut().filter(|conflict| conflict.to_ns == OPEN) {
                conflict.to_ns = at_ns;
            }
            let [early, certain, fading, ghost] = &holders;
            // However many claim it, the first of them are enough.
            let first = |of: &BTreeMap<T, u32>| of.keys().copied().take(MOST_OWNERS).collect::<Vec<T>>();
            let mut counted: BTreeSet<T> = [fading, ghost].into_iter().flat_map(first).collect();
            let is_presumed = !counted.is_empty();
            counted.extend(first(certain));
            if is_presumed || certain.is_empty() {
                counted.extend(first(early));
            }
            if counted.len() > 1 {
                let owners: Vec<T> = counted.iter().copied().take(MOST_OWNERS).collect();
                match conflicts.last_mut() {
                    Some(last) if last.to_ns == at_ns && last.owners == owners => last.to_ns = OPEN,
                    _ => conflicts.push(Conflict { from_ns: at_ns, to_ns: OPEN, owners }),
                }
            }
            let holds = |owner: &T| [early, certain, fading].iter().any(|of| of.contains_key(owner));
            let only = if counted.len() == 1 { counted.first().copied() } else { None };
            let owner = only.filter(holds);
            if timeline.stretches.last().is_none_or(|(_, before)| *before != owner) {
                timeline.stretches.push((at_ns, owner));
            }
        }
        (timeline, conflicts)
    }

    /// Who had it then.
    pub fn at(&self, ts_ns: i64) -> Option<T> {
        let after = self.stretches.partition_point(|(from_ns, _)| *from_ns <= ts_ns);
        self.stretches.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(owner: u32, early_ns: i64, from_ns: i64, to_ns: i64) -> Claim<u32> {
        Claim::new(owner, early_ns, from_ns, to_ns)
    }

    #[test]
    fn one_after_the_other() {
        let (timeline, conflicts) =
            Timeline::new(&[claim(1, 0, 0, 10), claim(2, 10, 10, OPEN), claim(1, 5, 5, 10)]);
        assert!(conflicts.is_empty());
        let owners = [-1, 0, 9, 10, 1_000].map(|ns| timeline.at(ns));
        assert_eq!(owners, [None, Some(1), Some(1), Some(2), Some(2)]);
    }

    #[test]
    fn two_at_once_are_nobody() {
        let (timeline, conflicts) = Timeline::new(&[claim(1, 0, 0, 10), claim(2, 6, 6, 20)]);
        assert_eq!([5, 6, 9, 10, 20].map(|ns| timeline.at(ns)), [Some(1), None, None, Some(2), None]);
        assert_eq!(conflicts, [Conflict { from_ns: 6, to_ns: 10, owners: vec![1, 2] }]);
    }

    #[test]
    fn what_is_presumed_yields_to_what_is_known() {
        let (timeline, conflicts) = Timeline::new(&[claim(1, 0, 0, 10), claim(2, 5, 15, 20)]);
        assert!(conflicts.is_empty());
        assert_eq!([9, 10, 14, 15].map(|ns| timeline.at(ns)), [Some(1), Some(2), Some(2), Some(2)]);
        let (timeline, conflicts) = Timeline::new(&[claim(1, 0, 10, 20), claim(2, 5, 15, 20)]);
        assert_eq!([4, 7, 12].map(|ns| timeline.at(ns)), [Some(1), None, Some(1)]);
        assert_eq!(conflicts.len(), 2);
    }

    #[test]
    fn what_fades_holds_alone_and_nothing_holds_beside_it() {
        let old = Claim { fading_ns: 10, ..claim(1, 0, 0, 20) };
        let (timeline, conflicts) = Timeline::new(&[old]);
        assert!(conflicts.is_empty());
        assert_eq!([9, 10, 19, 20].map(|ns| timeline.at(ns)), [Some(1), Some(1), Some(1), None]);
        // Not even what is certain of the heir, nor what is only presumed of it.
        for heir in [claim(2, 12, 12, 30), claim(2, 12, 25, 30)] {
            let (timeline, conflicts) = Timeline::new(&[old, heir]);
            let owners = [11, 12, 19, 20, 25].map(|ns| timeline.at(ns));
            assert_eq!(owners, [Some(1), None, None, Some(2), Some(2)]);
            assert_eq!(conflicts, [Conflict { from_ns: 12, to_ns: 20, owners: vec![1, 2] }]);
        }
        // Before it fades it is the heir that only may have come.
        let (timeline, _) = Timeline::new(&[old, claim(2, 5, 25, 30)]);
        assert_eq!([5, 9, 10].map(|ns| timeline.at(ns)), [Some(1), Some(1), None]);
    }

    #[test]
    fn who_was_given_longer_may_have_it_after_its_end() {
        let old = Claim { fading_ns: 10, ghost_ns: 30, ..claim(1, 0, 0, 20) };
        let (timeline, conflicts) = Timeline::new(&[old, claim(2, 15, 25, 40)]);
        assert_eq!([14, 15, 25, 30].map(|ns| timeline.at(ns)), [Some(1), None, None, Some(2)]);
        assert_eq!(conflicts, [Conflict { from_ns: 15, to_ns: 30, owners: vec![1, 2] }]);
        let (timeline, conflicts) = Timeline::new(&[old]);
        assert!(conflicts.is_empty() && timeline.at(25).is_none());
    }
}
