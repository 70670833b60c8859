//! What is still to be fetched, what is on its way, and what must be tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use staccato_protocols::ByteRange;

use super::stretch::{Place, Stretches};

/// Ranges waiting to be handed out, and ranges handed out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Start → end of what was never handed out, or given back. Disjoint; an end of `u64::MAX` means that the object's
    /// length is not known.
    missing: BTreeMap<u64, u64>,
    /// What must not be handed out before a time, and how often it failed.
    resting: Vec<Resting>,
    /// Start → what is on its way.
    in_flight: BTreeMap<u64, InFlight>,
    /// Where ranges began that were given back.
    given_back: BTreeSet<u64>,
    chunk_bytes: u64,
    /// In which order what is missing is asked for; without, from the front.
    stretches: Option<Stretches>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InFlight {
    range: ByteRange,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resting {
    range: ByteRange,
    failures: u32,
    until: Duration,
}

impl Plan {
    /// Everything up to `length` (without end when unknown) but `have` is missing.
    pub fn new(length: Option<u64>, chunk_bytes: u64, have: impl IntoIterator<Item = ByteRange>) -> Self {
        let (missing, resting, in_flight) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let mut plan = Self { missing, resting, in_flight, given_back: BTreeSet::new(), chunk_bytes, stretches: None };
        let end = length.unwrap_or(u64::MAX);
        if end > 0 {
            plan.missing.insert(0, end);
        }
        for range in have {
            plan.cut(range);
        }
        plan
    }

    /// The same, asked for in stretches, of a source whose requests cost so much; none longer than `bytes_max`.
    pub fn in_stretches(self, cost: Duration, bytes_max: u64) -> Self {
        Self { stretches: Some(Stretches::new(self.chunk_bytes, cost, bytes_max)), ..self }
    }

    /// The next range to fetch: at most a chunk, ending at a multiple of the chunk size or where something begins that
    /// is not missing. Lowest offsets first, or those of a stretch, but what has rested comes before anything new.
    pub fn next(&mut self, now: Duration) -> Option<Handout> {
        if let Some(rested) = self.resting.iter().position(|resting| resting.until <= now) {
            let Resting { range, failures, .. } = self.resting.swap_remove(rested);
            self.in_flight.insert(range.start(), InFlight { range, failures });
            return Some(Handout { range, first_time: false, place: None });
        }
        if let Some(stretches) = &mut self.stretches {
            let (range, place) = stretches.hand_out(&self.missing, now)?;
            self.cut(range);
            self.in_flight.insert(range.start(), InFlight { range, failures: 0 });
            return Some(Handout { range, first_time: true, place: Some(place) });
        }
        let (&start, &end) = self.missing.first_key_value()?;
        let chunk_end = (start / self.chunk_bytes + 1).saturating_mul(self.chunk_bytes);
        let range = ByteRange::new(start, end.min(chunk_end)).expect("missing ranges are not empty");
        self.missing.remove(&start);
        if range.end() < end {
            self.missing.insert(range.end(), end);
        }
        self.in_flight.insert(start, InFlight { range, failures: 0 });
        Some(Handout { range, first_time: true, place: None })
    }

    /// What is missing of a range that somebody else has chosen: the first of it that adjoins.
    pub fn take(&mut self, chosen: ByteRange) -> Option<Handout> {
        let before = self.missing.range(..=chosen.start()).next_back().filter(|(_, end)| **end > chosen.start());
        let (&start, &end) = before.or_else(|| self.missing.range(chosen.start()..chosen.end()).next())?;
        let range =
            ByteRange::new(start.max(chosen.start()), end.min(chosen.end())).expect("they have bytes in common");
        self.cut(range);
        self.in_flight.insert(range.start(), InFlight { range, failures: 0 });
        Some(Handout { range, first_time: !self.given_back.contains(&range.start()), place: None })
    }

    /// A range that was handed out did not come: it is missing as before.
    pub fn give_back(&mut self, range: ByteRange) {
        self.take_in_flight(range);
        self.given_back.insert(range.start());
        self.missing.insert(range.start(), range.end());
    }

    /// Whether something of a range is not there.
    pub fn lacks(&self, range: ByteRange) -> bool {
        let touches = |other: ByteRange| other.start() < range.end() && range.start() < other.end();
        self.missing.range(..range.end()).next_back().is_some_and(|(_, end)| *end > range.start())
            || self.in_flight.values().any(|there| touches(there.range))
            || self.resting.iter().any(|resting| touches(resting.range))
    }

    /// A range that was handed out is read, but not written yet.
    pub fn read(&mut self, range: ByteRange, now: Duration) {
        if let Some(stretches) = &mut self.stretches {
            stretches.handle_read(range, now);
        }
    }

    /// A range that was handed out is there.
    pub fn done(&mut self, range: ByteRange) {
        self.take_in_flight(range);
    }

    /// A range that was handed out failed; it rests. Returns how often it has failed by now, from which the caller
    /// says with [`Plan::rest`] until when.
    pub fn failed(&mut self, range: ByteRange) -> u32 {
        let failures = self.take_in_flight(range).failures + 1;
        if let Some(stretches) = &mut self.stretches {
            stretches.handle_failed(range);
        }
        self.resting.push(Resting { range, failures, until: Duration::MAX });
        failures
    }

    /// A range that failed may be tried again at `until`.
    pub fn rest(&mut self, range: ByteRange, until: Duration) {
        if let Some(resting) = self.resting.iter_mut().find(|resting| resting.range == range) {
            resting.until = until;
        }
    }

    /// A range that counted as there is not.
    pub fn lost(&mut self, range: ByteRange) {
        if !range.is_empty() {
            self.missing.insert(range.start(), range.end());
        }
    }

    /// The object ends here: nothing behind it is missing.
    pub fn end_at(&mut self, length: u64) {
        self.cut(ByteRange::new(length, u64::MAX).expect("no length is above the largest"));
    }

    /// Number of ranges on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Sum of their lengths.
    pub fn bytes_in_flight(&self) -> u64 {
        self.in_flight.values().map(|there| there.range.len()).sum()
    }

    /// Whether nothing is missing, resting or on its way.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.resting.is_empty() && self.in_flight.is_empty()
    }

    /// From when on [`Plan::next`] hands something out; never when nothing waits. `in_order`: what rests holds up what
    /// lies behind it.
    pub fn ready_at(&self, in_order: bool) -> Option<Duration> {
        let rested = self.resting.iter().map(|resting| resting.until).min();
        let is_ready = match &self.stretches {
            Some(stretches) => stretches.is_ready(&self.missing),
            None => !self.missing.is_empty(),
        };
        if !is_ready || (in_order && rested.is_some()) { rested } else { Some(Duration::ZERO) }
    }

    fn take_in_flight(&mut self, range: ByteRange) -> InFlight {
        let entry = self.in_flight.remove(&range.start()).expect("only what was handed out comes back");
        assert_eq!(entry.range, range, "a range comes back as it was handed out");
        entry
    }

    fn cut(&mut self, range: ByteRange) {
        let touched: Vec<_> =
            self.missing.range(..range.end()).filter(|(_, end)| **end > range.start()).map(|(s, e)| (*s, *e)).collect();
        for (start, end) in touched {
            self.missing.remove(&start);
            if start < range.start() {
                self.missing.insert(start, range.start());
            }
            if range.end() < end {
                self.missing.insert(range.end(), end);
            }
        }
    }
}

/// A range to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handout {
    /// Which bytes.
    pub range: ByteRange,
    /// Whether it was never handed out before by this plan.
    pub first_time: bool,
    /// Its place in a stretch; none where it is asked for by itself.
    pub place: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::ZERO;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn drain(plan: &mut Plan) -> Vec<ByteRange> {
        std::iter::from_fn(|| plan.next(NOW)).map(|handout| handout.range).collect()
    }

    proptest! {
        #[test]
        fn whatever_fails_and_in_any_order_exactly_what_is_missing_is_handed_out(
            length in 0u64..500,
            chunk_bytes in 1u64..60,
            have in prop::collection::vec((0u64..500, 0u64..60), 0..4),
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let have: Vec<_> = have.iter().map(|(start, len)| range(*start, start + len)).collect();
            let mut plan = Plan::new(Some(length), chunk_bytes, have.iter().copied());
            let mut there = vec![0; length as usize];
            let mut on_their_way = Vec::new();
            while !plan.is_complete() {
                let ready = plan.ready_at(false).is_some_and(|at| at <= NOW);
                if ready && (on_their_way.is_empty() || rng.bool()) {
                    let Handout { range, .. } = plan.next(NOW).expect("it was ready");
                    prop_assert!(!range.is_empty() && range.start() / chunk_bytes == (range.end() - 1) / chunk_bytes);
                    on_their_way.push(range);
                } else {
                    let range = on_their_way.swap_remove(rng.usize(..on_their_way.len()));
                    if rng.u8(..3) == 0 {
                        plan.failed(range);
                        plan.rest(range, NOW);
                    } else {
                        plan.done(range);
                        there[range.start() as usize..range.end() as usize].iter_mut().for_each(|times| *times += 1);
                    }
                }
                prop_assert_eq!(plan.in_flight(), on_their_way.len());
                prop_assert_eq!(plan.bytes_in_flight(), on_their_way.iter().map(|range| range.len()).sum::<u64>());
            }
            for (at, times) in (0..).zip(there) {
                let had = have.iter().any(|range| range.start() <= at && at < range.end());
                prop_assert_eq!(times, u32::from(!had), "byte {}", at);
            }
            prop_assert_eq!(plan.ready_at(false), None);
        }

        #[test]
        fn what_is_lost_is_handed_out_again(blocks in 1u64..20, lost in prop::collection::btree_set(0u64..20, 0..8)) {
            let whole = range(0, blocks * 10);
            let mut plan = Plan::new(Some(whole.end()), 10, [whole]);
            prop_assert!(plan.is_complete());
            let lost: Vec<_> = lost.into_iter().filter(|block| *block < blocks).map(|block| range(block * 10, block * 10 + 10)).collect();
            lost.iter().for_each(|range| plan.lost(*range));
            prop_assert_eq!(drain(&mut plan), lost);
        }
    }

    #[test]
    fn what_rests_holds_up_only_what_goes_in_order() {
        let mut plan = Plan::new(Some(20), 10, []);
        let first = plan.next(NOW).unwrap().range;
        plan.failed(first);
        plan.rest(first, Duration::from_secs(1));
        assert_eq!(plan.ready_at(false), Some(NOW));
        assert_eq!(plan.ready_at(true), Some(Duration::from_secs(1)));
    }

    #[test]
    fn chunks_end_on_chunk_boundaries_and_skip_what_is_there() {
        let mut plan = Plan::new(Some(25), 10, [range(5, 12)]);
        assert_eq!(drain(&mut plan), [range(0, 5), range(12, 20), range(20, 25)]);
        assert!(!plan.is_complete());
        for range in [range(20, 25), range(0, 5), range(12, 20)] {
            plan.done(range);
        }
        assert!(plan.is_complete());
    }

    #[test]
    fn failed_ranges_rest_and_count() {
        let mut plan = Plan::new(Some(10), 10, []);
        let first = plan.next(NOW).unwrap();
        assert!(first.first_time);
        assert_eq!(plan.failed(first.range), 1);
        plan.rest(first.range, Duration::from_secs(1));
        assert_eq!(plan.next(NOW), None);
        assert_eq!(plan.ready_at(false), Some(Duration::from_secs(1)));
        let again = plan.next(Duration::from_secs(1)).unwrap();
        assert_eq!(again, Handout { range: first.range, first_time: false, place: None });
        assert_eq!(plan.failed(again.range), 2);
    }

    #[test]
    fn an_unknown_length_ends_where_the_source_says() {
        let mut plan = Plan::new(None, 10, []);
        let first = plan.next(NOW).unwrap().range;
        let second = plan.next(NOW).unwrap().range;
        assert_eq!((first, second), (range(0, 10), range(10, 20)));
        plan.done(first);
        plan.done(second);
        plan.end_at(13);
        assert!(plan.is_complete());
    }
}
