//! Who reads the source of a distribution, and how much of it: pure.
//!
//! The object is cut into shares. Each is read by the member that has it, its *seed*; the others have it from that one. What
//! may be read is granted when an attempt begins, and counts in full from then on. An attempt that tells how much it has
//! read gives the rest back; of one that was lost, all that was granted counts as read. So the source is never read more
//! often than the budget says, whatever dies.
//!
//! Where there is more than one share, and the budget allows, each seed may also read that of the seed before it, should
//! that one be gone: its reserve. So a distribution goes on while nobody can grant anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Most shares of an object. More seeds begin faster, and ask the source more often.
pub const SHARES_MAX: u32 = 8;
/// The whole object: budgets are counted in millionths of it.
const WHOLE: u64 = 1_000_000;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds {
    /// How many shares there are.
    shares: u32,
    /// How much may be read, in millionths of the object.
    budget: u64,
    /// How much was read, or may have been, by attempts that are over.
    spent: u64,
    /// Who has each share, or had it last.
    holders: BTreeMap<u32, u64>,
    /// What running attempts may read, by member.
    granted: BTreeMap<u64, Grant>,
    /// The keys of all that ever had a share: what they have read goes on from one to the other.
    #[serde(default)]
    keys: BTreeSet<String>,
}

/// What an attempt may read of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which share.
    pub share: u32,
    /// Whether it may read the one before it, too.
    pub reserve: bool,
    /// How much that is, in millionths of the object.
    amount: u64,
}

impl Seeds {
    /// For so many hosts, and a budget in thousandths of the object.
    pub fn new(hosts: usize, budget_milli: u32) -> Self {
        let shares = u32::try_from(hosts).unwrap_or(u32::MAX).clamp(1, SHARES_MAX);
        let budget = u64::from(budget_milli) * WHOLE / 1000;
        Self { shares, budget, spent: 0, holders: BTreeMap::new(), granted: BTreeMap::new(), keys: BTreeSet::new() }
    }

    /// How many shares there are.
    pub fn shares(&self) -> u32 {
        self.shares
    }

    /// Who has a share, or had it last.
    pub fn holder(&self, share: u32) -> Option<u64> {
        self.holders.get(&share).copied()
    }

    /// What an attempt of a member that begins now may read, if anything. `missing` tells how much of a share it has not
    /// got yet, in millionths of the share; `is_free`, whether nobody will go on with the share of that member.
    pub fn grant(&mut self, member: u64, missing: impl Fn(u32) -> u64, is_free: impl Fn(u64) -> bool) -> Option<Grant> {
        self.settle(member, None);
        let own = self.holders.iter().find(|(_, holder)| **holder == member).map(|(share, _)| *share);
        let unclaimed = || (0..self.shares).find(|share| !self.holders.contains_key(share));
        let orphaned = || self.holders.iter().find(|(_, holder)| is_free(**holder)).map(|(share, _)| *share);
        let share = own.or_else(unclaimed).or_else(orphaned)?;
        let amount_of = |share: u32| missing(share).min(WHOLE) / u64::from(self.shares);
        let left = self.left();
        let primary = amount_of(share);
        if primary > left {
            return None;
        }
        // The first reading of every share comes before any reserve.
        let unread = (0..self.shares).filter(|other| *other != share && !self.holders.contains_key(other)).count();
        let kept = unread as u64 * (WHOLE / u64::from(self.shares));
        let reserved = amount_of((share + self.shares - 1) % self.shares);
        let reserve = self.shares > 1 && primary + reserved + kept <= left;
        let amount = primary + if reserve { reserved } else { 0 };
        let grant = Grant { share, reserve, amount };
        self.holders.insert(share, member);
        self.granted.insert(member, grant);
        Some(grant)
    }

    /// The executor that has this key reads a share.
    pub fn trust(&mut self, key: &str) {
        self.keys.insert(key.to_owned());
    }

    /// The keys of all that ever had a share.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// What a running attempt may read.
    pub fn granted(&self, member: u64) -> Option<Grant> {
        self.granted.get(&member).copied()
    }

    /// An attempt is over; it has read so much of the source, in millionths of the object. None: nobody knows.
    pub fn settle(&mut self, member: u64, read: Option<u64>) {
        if let Some(grant) = self.granted.remove(&member) {
            self.spent += read.map_or(grant.amount, |read| read.min(grant.amount));
        }
    }

    /// What may be granted still.
    fn left(&self) -> u64 {
        let granted: u64 = self.granted.values().map(|grant| grant.amount).sum();
        self.budget.saturating_sub(self.spent + granted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: fn(u32) -> u64 = |_| WHOLE;
    const NOBODY: fn(u64) -> bool = |_| false;

    #[test]
    fn members_get_a_share_each_as_long_as_there_are_some_and_keep_it() {
        let mut seeds = Seeds::new(3, 2000);
        let grants = [10, 11, 12].map(|member| seeds.grant(member, ALL, NOBODY).unwrap());
        assert_eq!(grants.map(|grant| (grant.share, grant.reserve)), [(0, true), (1, true), (2, true)]);
        assert_eq!(seeds.grant(13, ALL, NOBODY), None, "the others have it");
        seeds.settle(11, Some(0));
        assert_eq!(seeds.grant(11, ALL, NOBODY).unwrap().share, 1, "as before");
    }

    #[test]
    fn what_one_who_is_gone_leaves_goes_to_another_while_the_budget_lasts() {
        let mut seeds = Seeds::new(1, 2000);
        seeds.grant(1, ALL, NOBODY).unwrap();
        seeds.settle(1, None);
        assert_eq!(seeds.grant(2, ALL, NOBODY), None, "somebody may come back");
        assert_eq!(seeds.grant(2, ALL, |member| member == 1).map(|grant| grant.share), Some(0));
        seeds.settle(2, None);
        assert_eq!(seeds.grant(3, ALL, |member| member == 2), None, "it may have been read twice");
    }

    #[test]
    fn no_reserve_takes_from_what_nobody_has_read_yet() {
        let mut seeds = Seeds::new(2, 1400);
        assert!(!seeds.grant(1, ALL, NOBODY).unwrap().reserve);
        assert!(!seeds.grant(2, ALL, NOBODY).unwrap().reserve);
    }

    #[test]
    fn what_was_not_read_is_given_back_and_what_is_there_is_not_granted() {
        let mut seeds = Seeds::new(1, 1000);
        seeds.grant(1, ALL, NOBODY).unwrap();
        seeds.settle(1, Some(WHOLE / 4));
        assert_eq!(seeds.grant(1, ALL, NOBODY), None, "three quarters are left");
        let quarter_is_here = |_| WHOLE * 3 / 4;
        assert_eq!(seeds.grant(1, quarter_is_here, NOBODY).unwrap().amount, WHOLE * 3 / 4);
    }

    proptest! {
        #[test]
        fn no_more_is_granted_than_the_budget_allows_whatever_dies(
            hosts in 1usize..12,
            budget_milli in 1000u32..4000,
            events in prop::collection::vec((0u64..12, any::<bool>(), 0u64..=WHOLE), 0..100),
        ) {
            let mut seeds = Seeds::new(hosts, budget_milli);
            for (member, dies, part) in events {
                match seeds.granted(member) {
                    Some(_) if dies => seeds.settle(member, None),
                    Some(_) => seeds.settle(member, Some(part / 8)),
                    None => drop(seeds.grant(member, |_| part, |holder| holder % 2 == 0)),
                }
                let granted: u64 = seeds.granted.values().map(|grant| grant.amount).sum();
                prop_assert!(seeds.spent + granted <= seeds.budget);
            }
        }
    }
}
