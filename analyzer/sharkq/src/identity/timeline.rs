//! Who had something at a time. In: claims, each for its interval. Out: stretches in which exactly one holds, found by binary
//! search; stretches with several claims have no owner and are told. It never prefers one of two equal claims.

use std::collections::BTreeMap;

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
    /// Until when, exclusive.
    pub to_ns: i64,
}

impl<T> Claim<T> {
    /// Certain from the beginning.
    pub fn certain(owner: T, from_ns: i64, to_ns: i64) -> Claim<T> {
        Claim { owner, early_ns: from_ns, from_ns, to_ns }
    }
}

/// A time in which several claimed it.
#[derive(Debug, PartialEq)]
pub struct Conflict<T> {
    /// Since when.
    pub from_ns: i64,
    /// Until when.
    pub to_ns: i64,
    /// Who, in their order.
    pub owners: Vec<T>,
}

/// Owners over time.
#[derive(Debug)]
pub struct Timeline<T> {
    /// Each begins where the one before ends.
    stretches: Vec<(i64, Option<T>)>,
}

impl<T: Copy + Ord> Timeline<T> {
    /// From claims in any order.
    pub fn new(claims: &[Claim<T>]) -> (Timeline<T>, Vec<Conflict<T>>) {
        let mut events: Vec<(i64, bool, bool, T)> = Vec::new();
        for claim in claims.iter().filter(|claim| claim.early_ns.min(claim.from_ns) < claim.to_ns) {
            let certain_ns = claim.from_ns.min(claim.to_ns);
            for (certain, from_ns, to_ns) in
                [(false, claim.early_ns, certain_ns), (true, certain_ns, claim.to_ns)]
            {
                if from_ns < to_ns {
                    events.push((from_ns, true, certain, claim.owner));
                    events.push((to_ns, false, certain, claim.owner));
                }
            }
        }
        events.sort_unstable();
        let mut holders = [BTreeMap::<T, u32>::new(), BTreeMap::new()];
        let mut timeline = Timeline { stretches: Vec::new() };
        let mut conflicts: Vec<Conflict<T>> = Vec::new();
        for moment in events.chunk_by(|a, b| a.0 == b.0) {
            let at_ns = moment[0].0;
            for &(_, begins, certain, owner) in moment {
                let count = holders[usize::from(certain)].entry(owner).or_default();
                // Ends sort before beginnings: for a moment a count may be what it was not.
                *count = if begins { count.wrapping_add(1) } else { count.wrapping_sub(1) };
            }
            holders.iter_mut().for_each(|of| of.retain(|_, count| *count != 0));
            if let Some(conflict) = conflicts.last_mut().filter(|conflict| conflict.to_ns == OPEN) {
                conflict.to_ns = at_ns;
            }
            let [early, certain] = &holders;
            let counted = if certain.is_empty() { early } else { certain };
            if counted.len() > 1 {
                let owners: Vec<T> = counted.keys().copied().collect();
                match conflicts.last_mut() {
                    Some(last) if last.to_ns == at_ns && last.owners == owners => last.to_ns = OPEN,
                    _ => conflicts.push(Conflict { from_ns: at_ns, to_ns: OPEN, owners }),
                }
            }
            let owner = if counted.len() == 1 { counted.keys().next().copied() } else { None };
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
        Claim { owner, early_ns, from_ns, to_ns }
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
}
