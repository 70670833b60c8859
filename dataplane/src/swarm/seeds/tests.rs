use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{super::Allotment, *};

const CHUNKS: u32 = 60;
const NOBODY: fn(u64) -> bool = |_| false;
const EVERYBODY: fn(u64) -> bool = |_| true;

fn seeds(members: usize, budget_milli: u32) -> Seeds {
    let mut seeds = Seeds::new(members, budget_milli);
    seeds.know(CHUNKS);
    seeds
}

fn all_missing(classes: u32) -> impl Fn(u32) -> u64 + Copy {
    move |class| Seeds::size_of(class, classes, CHUNKS).into()
}

fn begin(seeds: &mut Seeds, member: u64, lives: impl Fn(u64) -> bool) -> Option<Grant> {
    let missing = all_missing(seeds.classes());
    seeds.begin(member, missing, lives)
}

fn read_by(seeds: &Seeds, which: impl Fn(&Grant) -> Classes) -> Vec<u32> {
    let mut classes: Vec<u32> = seeds.granted.values().flat_map(|grant| which(grant).iter()).collect();
    classes.sort_unstable();
    classes
}

#[test]
fn every_class_is_one_seeds_own_and_another_ones_reserve_which_all_of_them_share() {
    for members in 1..9 {
        let mut seeds = seeds(members, 2000);
        for member in 0..members as u64 {
            begin(&mut seeds, member, EVERYBODY).unwrap();
        }
        let all: Vec<u32> = (0..seeds.classes()).collect();
        assert_eq!(read_by(&seeds, |grant| grant.own), all);
        if members > 1 {
            assert_eq!(read_by(&seeds, |grant| grant.reserve), all);
            for (member, grant) in &seeds.granted {
                let of: Vec<u64> = grant.reserve.iter().map(|class| seeds.holder(class).unwrap()).collect();
                let others: Vec<u64> = (0..members as u64).filter(|other| other != member).collect();
                let distinct: BTreeSet<u64> = of.iter().copied().collect();
                assert_eq!((of.len(), Vec::from_iter(distinct)), (others.len(), others), "one class of each other");
            }
        }
        assert_eq!(begin(&mut seeds, 99, EVERYBODY), None, "the others have it");
    }
}

#[test]
fn a_share_is_chunks_and_those_of_each_other_seed_apart() {
    let mut seeds = seeds(3, 2000);
    for member in 0..3 {
        begin(&mut seeds, member, EVERYBODY).unwrap();
    }
    let allotment = seeds.share(0).allotment(8);
    assert_eq!(allotment.own.iter().collect::<Vec<_>>(), [0, 3, 6]);
    let reserves: Vec<_> = allotment.reserves.iter().map(|one| (one.of.0, one.chunks.iter().collect())).collect();
    assert_eq!(reserves, [(1, vec![4]), (2, vec![2])]);
    assert!(Share::default().is_none());
    assert_eq!(Share::default().allotment(8), Allotment::none(8));
}

#[test]
fn a_member_keeps_its_seat_and_what_one_leaves_who_is_gone_goes_to_another_while_the_budget_lasts() {
    let mut seeds = seeds(1, 2000);
    begin(&mut seeds, 1, EVERYBODY).unwrap();
    seeds.settle(1, Some(0));
    assert_eq!(begin(&mut seeds, 1, EVERYBODY).unwrap().own.len(), 1, "as before");
    seeds.settle(1, None);
    assert_eq!(begin(&mut seeds, 2, EVERYBODY), None, "somebody may come back");
    assert!(begin(&mut seeds, 2, NOBODY).is_some());
    seeds.settle(2, None);
    assert_eq!(begin(&mut seeds, 3, NOBODY), None, "it may have been read twice");
    assert!(seeds.is_exhausted(NOBODY));
}

#[test]
fn no_reserve_takes_from_what_nobody_has_read_yet() {
    for budget_milli in [1000, 1400] {
        let mut seeds = seeds(2, budget_milli);
        for member in [1, 2] {
            let grant = begin(&mut seeds, member, EVERYBODY).unwrap();
            assert_eq!((grant.own.len(), grant.reserve.len()), (1, 0));
        }
    }
}

#[test]
fn what_was_not_read_is_given_back_and_what_is_there_is_not_granted() {
    let mut seeds = seeds(1, 1000);
    begin(&mut seeds, 1, EVERYBODY).unwrap();
    seeds.settle(1, Some(15));
    assert_eq!(begin(&mut seeds, 1, EVERYBODY), None, "three quarters are left");
    assert!(!seeds.is_exhausted(EVERYBODY) || seeds.left() == Some(45));
    assert_eq!(seeds.begin(1, |_| 45, EVERYBODY).unwrap().amount, 45);
}

#[test]
fn what_two_seeds_leave_that_die_before_anybody_has_anything_is_read_by_the_others() {
    let mut seeds = seeds(4, 2000);
    for member in 0..4 {
        begin(&mut seeds, member, EVERYBODY).unwrap();
    }
    let lives = |member| member < 2;
    seeds.settle(2, None);
    seeds.settle(3, None);
    assert!(seeds.heal(false, lives));
    let classes = seeds.classes();
    let own = |seeds: &Seeds| read_by(seeds, |grant| grant.own).len();
    assert_eq!(own(&seeds), 10, "two classes of twelve were the reserve of one that is dead, too: {seeds:?}");
    // What those two that live have by now, they do not read any more: so much is left for others.
    for member in [0, 1] {
        seeds.note(member, 25, |_| 0);
    }
    assert!(seeds.heal(false, lives));
    assert_eq!(own(&seeds), classes as usize);
    assert!(!seeds.heal(false, lives), "once is enough");
}

#[test]
fn what_nobody_came_for_is_read_by_those_that_are_there() {
    let mut seeds = seeds(8, 1000);
    begin(&mut seeds, 1, EVERYBODY).unwrap();
    assert!(!seeds.heal(false, EVERYBODY), "the others may be about to begin");
    assert!(seeds.heal(true, EVERYBODY));
    assert_eq!(read_by(&seeds, |grant| grant.own).len(), 56);
}

#[test]
fn before_the_object_is_known_nothing_is_granted_more_often_than_the_budget_says() {
    let mut seeds = Seeds::new(1, 2000);
    for _ in 0..2 {
        assert!(seeds.begin(1, |_| 1, EVERYBODY).is_some());
        seeds.settle(1, None);
    }
    assert_eq!(seeds.begin(1, |_| 1, EVERYBODY), None);
    seeds.know(CHUNKS);
    assert_eq!(seeds.left(), Some(0));
    assert_eq!(begin(&mut seeds, 1, EVERYBODY), None);
}

/// A member of the test below.
#[derive(Default)]
struct Member {
    runs: bool,
    has: BTreeSet<u32>,
    read: u64,
    /// What it may read as far as it was told.
    may: Classes,
}

proptest! {
    /// Members read what they were once told that they may, heard of or not.
    #[test]
    fn the_source_is_read_no_more_often_than_the_budget_says_whatever_dies(
        members in 1usize..12,
        budget_milli in 1000u32..4000,
        chunks in 1u32..130,
        known_at in 0usize..20,
        steps in prop::collection::vec((0u8..9, 0usize..12, any::<u32>()), 0..250),
    ) {
        let mut seeds = Seeds::new(members, budget_milli);
        let mut all: Vec<Member> = (0..members).map(|_| Member::default()).collect();
        let (classes, mut reads) = (seeds.classes(), 0);
        let missing_of = |member: &Member, class: u32| {
            (class..chunks).step_by(classes as usize).filter(|chunk| !member.has.contains(chunk)).count() as u64
        };
        for (step, (what, who, random)) in steps.into_iter().enumerate() {
            if step >= known_at {
                seeds.know(chunks);
            }
            let (key, who) = ((who % members) as u64, who % members);
            let lives: Vec<bool> = all.iter().map(|member| member.runs).collect();
            let lives = |member: u64| lives[member as usize];
            let measured = seeds.chunks.is_some();
            let member = &mut all[who];
            match what {
                0 if !member.runs => {
                    (member.runs, member.read) = (true, 0);
                    // Nothing is durable of what nobody knows the length of.
                    if !measured { member.has.clear(); }
                    let missing = |class| missing_of(member, class);
                    member.may = seeds.begin(key, missing, lives).unwrap_or_default().all();
                }
                1 if member.runs => {
                    member.runs = false;
                    seeds.settle(key, None);
                }
                2 if member.runs => {
                    member.runs = false;
                    seeds.settle(key, (measured || member.read == 0).then_some(member.read));
                }
                3 => drop(seeds.heal(random % 2 == 0, lives)),
                4 if member.runs => member.may = seeds.granted(key).unwrap_or_default().all(),
                5 if member.runs => seeds.note(key, member.read, |class| missing_of(member, class)),
                6 if member.runs => drop(member.has.insert(random % chunks)),
                _ if member.runs => {
                    let may = (0..chunks).find(|chunk| {
                        member.may.contains(chunk % classes) && !member.has.contains(chunk)
                    });
                    if let Some(chunk) = may {
                        member.has.insert(chunk);
                        (member.read, reads) = (member.read + 1, reads + 1);
                    }
                }
                _ => {}
            }
            let budget = u64::from(chunks) * u64::from(budget_milli) / 1000;
            prop_assert!(reads <= budget, "{} reads of {}", reads, budget);
        }
    }
}
