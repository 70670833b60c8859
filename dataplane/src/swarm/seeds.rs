//! Who reads the source of a distribution, and how much of it: the control plane's side, pure.
//!
//! The object is cut into classes: chunk i is of class i mod C, so that each class has some of every part of the object. A
//! class is read by one member, its *seed*; the others have it from that one. There are up to [`SEEDS_MAX`] seeds at a
//! time, each in a *seat*, and what one of them reads is the reserve of all others, a class of it for each: should that one
//! be gone, each reads a little more. So a distribution goes on while nobody can grant anything.
//!
//! A right to read is a promise that cannot be taken back: who has it may be using it. So it counts from when it is given.
//! Of an attempt that tells how much it has read, the rest is given back; of one that was lost, everything counts that it
//! could have read since it was heard of last. So the source is never read more often than the budget says, whatever dies.
//!
//! Invariant: what was read and what may still be read are together no more than the budget.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Allotment, ChunkSet, PeerKey, Reserve};

/// Most seeds at a time. More of them begin faster, and ask the source more often.
pub const SEEDS_MAX: u32 = 8;

/// Which classes: there are at most 56.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(u64);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds {
    /// How many seats there are.
    seats: u32,
    /// How often the source may be read, in thousandths.
    budget_milli: u32,
    /// How many chunks the object has, once somebody has seen it.
    chunks: Option<u32>,
    /// Chunks that were read, or may have been, by attempts that are over.
    spent: u64,
    /// What attempts may have read that were over before the object was known.
    unmeasured: Vec<Classes>,
    /// Who is in each seat, or was last.
    seated: BTreeMap<u32, u64>,
    /// Who reads each class, or did last. None: nobody may.
    holders: BTreeMap<u32, u64>,
    /// Those that somebody was to read, once.
    claimed: Classes,
    /// What running attempts may read, by member.
    granted: BTreeMap<u64, Grant>,
}

/// What an attempt may read of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// It reads these.
    pub own: Classes,
    /// And these, where those are gone that read them.
    pub reserve: Classes,
    /// Chunks that it has read, or may still read; unknown before the object is.
    amount: u64,
}

/// What a member may read, as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How many classes there are; none: it may read nothing.
    pub classes: u32,
    /// It reads these.
    pub own: Classes,
    /// In place of which members it reads which classes, should these be gone.
    pub reserves: Vec<(u64, Classes)>,
}

impl Classes {
    /// Whether this one is among them.
    pub fn contains(self, class: u32) -> bool {
        self.0 >> class & 1 == 1
    }

    /// Adds one.
    pub fn insert(&mut self, class: u32) {
        self.0 |= 1 << class;
    }

    /// Takes one out.
    pub fn remove(&mut self, class: u32) {
        self.0 &= !(1 << class);
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        super::chunk_set::bits(self.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Share {
    /// Whether nothing may be read.
    pub fn is_none(&self) -> bool {
        self.classes == 0
    }

    /// The same in chunks of an object that has so many.
    pub fn allotment(&self, chunks: u32) -> Allotment {
        let mut allotment = Allotment::none(chunks);
        let add = |classes: Classes, set: &mut ChunkSet| {
            for class in classes.iter().filter(|class| *class < self.classes) {
                (class..chunks).step_by(self.classes as usize).for_each(|chunk| {
                    set.insert(chunk);
                });
            }
        };
        add(self.own, &mut allotment.own);
        for (of, classes) in &self.reserves {
            let mut reserve = Reserve { of: PeerKey(*of), chunks: ChunkSet::empty(chunks) };
            add(*classes, &mut reserve.chunks);
            reserve.chunks.subtract(&allotment.own);
            allotment.reserves.push(reserve);
        }
        allotment
    }
}

impl Grant {
    fn all(&self) -> Classes {
        self.own.or(self.reserve)
    }
}

impl Seeds {
    /// For so many members, and a budget in thousandths of the object: once at least.
    pub fn new(members: usize, budget_milli: u32) -> Self {
        let seats = u32::try_from(members).unwrap_or(u32::MAX).clamp(1, SEEDS_MAX);
        Self {
            seats,
            budget_milli,
            chunks: None,
            spent: 0,
            unmeasured: Vec::new(),
            seated: BTreeMap::new(),
            holders: BTreeMap::new(),
            claimed: Classes::default(),
            granted: BTreeMap::new(),
        }
    }

    /// How many classes there are.
    pub fn classes(&self) -> u32 {
        (self.seats * (self.seats - 1)).max(1)
    }

    /// How many chunks of an object are of a class, of so many classes.
    pub fn size_of(class: u32, classes: u32, chunks: u32) -> u32 {
        (chunks + (classes - 1 - class)) / classes
    }

    /// Somebody has seen the object: it has so many chunks.
    pub fn know(&mut self, chunks: u32) {
        if self.chunks.is_some() {
            return;
        }
        self.chunks = Some(chunks);
        let size = |these: Classes| these.iter().map(|class| self.size(class)).sum::<u64>();
        let spent = self.unmeasured.iter().map(|these| size(*these)).sum::<u64>();
        let amounts: Vec<u64> = self.granted.values().map(|grant| size(grant.all())).collect();
        self.spent += spent;
        self.unmeasured.clear();
        self.granted.values_mut().zip(amounts).for_each(|(grant, amount)| grant.amount = amount);
    }

    /// Whether a member has a seat.
    pub fn is_seated(&self, member: u64) -> bool {
        self.seated.values().any(|seated| *seated == member)
    }

    /// An attempt of a member begins; what it may read, if anything. `missing` tells how many chunks of a class it has not
    /// got yet, at most; `lives`, whether somebody can be asked for what he has, or will go on reading.
    pub fn begin(&mut self, member: u64, missing: impl Fn(u32) -> u64, lives: impl Fn(u64) -> bool) -> Option<Grant> {
        self.settle(member, None);
        let same = self.seated.iter().find(|(_, seated)| **seated == member).map(|(seat, _)| *seat);
        let empty = || (0..self.seats).find(|seat| !self.seated.contains_key(seat));
        let left = || self.seated.iter().find(|(_, seated)| !lives(**seated)).map(|(seat, _)| *seat);
        // Without a seat, it reads what nobody reads.
        let seat = same.or_else(empty).or_else(left);
        let before = seat.and_then(|seat| self.seated.insert(seat, member));
        self.granted.insert(member, Grant::default());
        let (all, dead) = (0..self.classes(), before.filter(|before| *before != member));
        for class in all.clone() {
            let holder = self.holders.get(&class).copied();
            if holder == Some(member) || (holder.is_some() && holder == dead) || self.is_orphan(class, false, &lives) {
                self.hand(class, member, missing(class).min(self.size(class)));
            }
        }
        for class in all {
            let is_own = self.granted[&member].own.contains(class);
            let need = missing(class).min(self.size(class));
            // The first reading of every class comes before any reserve, also of this one.
            let is_reserve = seat.is_some() && self.keeper(class) == seat && !is_own && need > 0;
            if is_reserve && self.affords(class, need, !self.claimed.contains(class)) {
                let grant = self.granted.get_mut(&member).expect("it was just granted");
                grant.reserve.insert(class);
                grant.amount += need;
            }
        }
        if self.granted[&member].all().is_empty() {
            self.granted.remove(&member);
        }
        self.granted(member)
    }

    /// Sees to it that what nobody reads any more is read by those that run: by whom it is the reserve, or who has least.
    /// `all`: what nobody has begun to read, too. Whether anything has changed.
    pub fn heal(&mut self, all: bool, lives: impl Fn(u64) -> bool) -> bool {
        let before = self.clone();
        for class in 0..self.classes() {
            if !self.is_orphan(class, all, &lives) {
                continue;
            }
            let mut running = self.granted.iter_mut().filter(|(member, _)| lives(**member));
            if let Some((keeper, grant)) = running.find(|(_, grant)| grant.reserve.contains(class)) {
                grant.reserve.remove(class);
                grant.own.insert(class);
                self.holders.insert(class, *keeper);
                continue;
            }
            let running = self.granted.iter().filter(|(member, _)| lives(**member));
            if let Some((least, _)) = running.min_by_key(|(_, grant)| grant.own.len()) {
                self.hand(class, *least, self.size(class));
            }
        }
        *self != before
    }

    /// A running attempt has read so many chunks of the source, and misses so many of each class.
    pub fn note(&mut self, member: u64, read: u64, missing: impl Fn(u32) -> u64) {
        let (Some(grant), Some(_)) = (self.granted.get(&member), self.chunks) else { return };
        let still: u64 = grant.all().iter().map(|class| missing(class).min(self.size(class))).sum();
        let grant = self.granted.get_mut(&member).expect("it was just seen");
        grant.amount = grant.amount.min(read + still);
    }

    /// An attempt is over; it has read so many chunks of the source. None: nobody knows.
    pub fn settle(&mut self, member: u64, read: Option<u64>) {
        let Some(grant) = self.granted.remove(&member) else { return };
        match (self.chunks, read) {
            (Some(_), read) => self.spent += read.map_or(grant.amount, |read| read.min(grant.amount)),
            (None, Some(0)) => {}
            (None, _) => self.unmeasured.push(grant.all()),
        }
    }

    /// What a running attempt may read.
    pub fn granted(&self, member: u64) -> Option<Grant> {
        self.granted.get(&member).copied()
    }

    /// The same, as the member is told.
    pub fn share(&self, member: u64) -> Share {
        let Some(grant) = self.granted.get(&member) else { return Share::default() };
        let mut reserves: BTreeMap<u64, Classes> = BTreeMap::new();
        for class in grant.reserve.iter() {
            // Where nobody reads it yet, nobody is met who does.
            reserves.entry(self.holder(class).unwrap_or(u64::MAX)).or_default().insert(class);
        }
        Share { classes: self.classes(), own: grant.own, reserves: reserves.into_iter().collect() }
    }

    /// Those whose attempts may read something.
    pub fn readers(&self) -> impl Iterator<Item = u64> {
        self.granted.keys().copied()
    }

    /// Who is in the seats before and behind that of a member which may read something.
    pub fn neighbours(&self, member: u64) -> impl Iterator<Item = u64> {
        let seat = self.seated.iter().find(|(_, seated)| **seated == member && self.granted.contains_key(&member));
        let beside =
            seat.into_iter().flat_map(|(seat, _)| [(seat + 1) % self.seats, (seat + self.seats - 1) % self.seats]);
        beside.filter_map(|seat| self.seated.get(&seat).copied()).filter(move |other| *other != member)
    }

    /// Who reads a class, or did last.
    pub fn holder(&self, class: u32) -> Option<u64> {
        self.holders.get(&class).copied()
    }

    /// Whether some of it is read by nobody. `all`: what nobody has begun to read counts, too.
    pub fn has_orphans(&self, all: bool, lives: impl Fn(u64) -> bool) -> bool {
        (0..self.classes()).any(|class| self.is_orphan(class, all, &lives))
    }

    /// Whether somebody could read what nobody reads, if only his attempt began now: none that runs may read anything.
    pub fn wants_reader(&self, all: bool, lives: impl Fn(u64) -> bool) -> bool {
        let mut orphans = (0..self.classes()).filter(|class| self.is_orphan(*class, all, &lives));
        !self.readers().any(&lives) && orphans.any(|class| self.affords(class, self.size(class), false))
    }

    /// Whether some of it is read by nobody, and may not be any more, or not now.
    pub fn is_exhausted(&self, lives: impl Fn(u64) -> bool) -> bool {
        let mut orphans = (0..self.classes()).filter(|class| self.is_orphan(*class, false, &lives));
        orphans.any(|class| !self.affords(class, self.size(class), false))
    }

    /// Chunks that may be granted still; unknown before the object is.
    pub fn left(&self) -> Option<u64> {
        let budget = u64::from(self.chunks?) * u64::from(self.budget_milli) / 1000;
        let promised: u64 = self.granted.values().map(|grant| grant.amount).sum();
        Some(budget.saturating_sub(self.spent + promised))
    }

    /// Makes a member the one that reads a class of which it misses so much; nobody, where that would be too much.
    fn hand(&mut self, class: u32, member: u64, missing: u64) {
        self.holders.remove(&class);
        // For what nobody was to read yet, there is always enough.
        let affords = !self.claimed.contains(class) || self.affords(class, missing, false);
        self.claimed.insert(class);
        if !affords {
            return;
        }
        self.holders.insert(class, member);
        if missing > 0 {
            let grant = self.granted.entry(member).or_default();
            grant.own.insert(class);
            grant.amount += missing;
        }
    }

    /// Whether nobody reads a class who could.
    fn is_orphan(&self, class: u32, all: bool, lives: &impl Fn(u64) -> bool) -> bool {
        match self.holders.get(&class) {
            Some(holder) => !lives(*holder),
            None => all || self.seated.contains_key(&(class % self.seats)),
        }
    }

    /// Whether so many chunks of a class may be read once more. What was never granted comes first: other classes, and this
    /// one where it is to be `read_before`.
    fn affords(&self, class: u32, chunks: u64, read_before: bool) -> bool {
        let before = u64::from(read_before);
        let Some(left) = self.left() else {
            let granted = self.unmeasured.iter().copied().chain(self.granted.values().map(Grant::all));
            let times = granted.filter(|these| these.contains(class)).count() as u64;
            return before + times < u64::from(self.budget_milli) / 1000;
        };
        let ungranted = (0..self.classes()).filter(|other| *other != class && !self.claimed.contains(*other));
        chunks + before * self.size(class) + ungranted.map(|other| self.size(other)).sum::<u64>() <= left
    }

    fn size(&self, class: u32) -> u64 {
        self.chunks.map_or(1, |chunks| Self::size_of(class, self.classes(), chunks)).into()
    }

    /// The seat whose reserve a class is; none where there is one seat.
    fn keeper(&self, class: u32) -> Option<u32> {
        let others = self.seats.checked_sub(1).filter(|others| *others > 0)?;
        Some((class % self.seats + 1 + class / self.seats % others) % self.seats)
    }
}

#[cfg(test)]
mod tests;
