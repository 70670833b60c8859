//! Which chunks are read one behind the other with one request: pure.
//!
//! A request costs its server something before the first byte comes: who asks is looked up, what is allowed, where the
//! object lies, and some servers hash it whole. With one request for each chunk such a server has nothing else to do. So
//! an object is read in *stretches*, each with one request, and so long that the request's cost is 5 % of their time. Where
//! a request costs next to nothing a stretch is a chunk. Where it is dear an object has few stretches, and so is read over
//! few connections.

use std::{collections::BTreeMap, time::Duration};

use staccato_protocols::ByteRange;

/// The part of a stretch's time that its request may cost.
const COST_SHARE: f64 = 0.05;
/// Bytes per second of a connection, as long as nothing is known of it.
const RATE_ASSUMED: f64 = 400e6;
/// What the newest read counts for in the rate.
const NEWEST_SHARE: f64 = 0.25;

/// How many stretches an object of so many bytes is worth, as far as one can tell before it is read.
pub fn count(length: u64, cost: Duration) -> u64 {
    length / worth(cost, RATE_ASSUMED).max(1)
}

/// Bytes that are worth a request.
fn worth(cost: Duration, rate: f64) -> u64 {
    (cost.as_secs_f64() * (1.0 / COST_SHARE - 1.0) * rate) as u64
}

/// A chunk's place in a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stretch: chunks of one are read by one lane.
    pub stretch: u64,
    /// Where the stretch ends, as far as one can tell now.
    pub end: u64,
}

/// The stretches of an object that are being read.
#[derive(Clone, Debug)]
pub struct Stretches {
    chunk_bytes: u64,
    /// What a request costs its server.
    cost: Duration,
    /// The longest stretch.
    bytes_max: u64,
    /// Bytes per second of a connection.
    rate: Option<f64>,
    begun: u64,
    active: Vec<Stretch>,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    number: u64,
    /// What is asked for next.
    next: u64,
    end: u64,
    reading: Option<Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    range: ByteRange,
    at: Duration,
    /// Whether it waits for the server's answer, too.
    is_first: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    /// The next chunk of the stretch of this number.
    On(u64),
    /// A new stretch.
    New(ByteRange),
}

impl Stretches {
    /// Of a source whose requests cost so much; none of them longer than `bytes_max`, or a chunk.
    pub fn new(chunk_bytes: u64, cost: Duration, bytes_max: u64) -> Self {
        Self { chunk_bytes, cost, bytes_max, rate: None, begun: 0, active: Vec::new() }
    }

    /// Whether something of what is `missing` (start → end) can be handed out now.
    pub fn is_ready(&self, missing: &BTreeMap<u64, u64>) -> bool {
        self.pick(missing).is_some()
    }

    /// Hands out the next chunk of what is missing, which its caller takes out of there.
    pub fn hand_out(&mut self, missing: &BTreeMap<u64, u64>, now: Duration) -> Option<(ByteRange, Place)> {
        let pick = self.pick(missing)?;
        self.active.retain(|stretch| stretch.reading.is_some() || stretch.missing_to(missing).is_some());
        let index = match pick {
            Pick::On(number) => self.active.iter().position(|stretch| stretch.number == number).expect("it goes on"),
            Pick::New(range) => self.begin(range),
        };
        let stretch = &mut self.active[index];
        stretch.end = stretch.missing_to(missing).expect("what is picked is missing");
        let chunk_end = (stretch.next / self.chunk_bytes + 1).saturating_mul(self.chunk_bytes);
        let range = ByteRange::new(stretch.next, chunk_end.min(stretch.end)).expect("it ends behind what is next");
        stretch.next = range.end();
        stretch.reading = Some(Reading { range, at: now, is_first: matches!(pick, Pick::New(_)) });
        Some((range, Place { stretch: stretch.number, end: stretch.end }))
    }

    /// A new stretch; others end where it begins.
    fn begin(&mut self, range: ByteRange) -> usize {
        for stretch in self.active.iter_mut().filter(|stretch| stretch.next <= range.start()) {
            stretch.end = stretch.end.min(range.start());
        }
        let number = self.begun;
        self.begun += 1;
        self.active.push(Stretch { number, next: range.start(), end: range.end(), reading: None });
        self.active.len() - 1
    }

    /// A chunk is read: its stretch goes on. Told again when the chunk is written, it does nothing.
    pub fn handle_read(&mut self, range: ByteRange, now: Duration) {
        let Some(index) = self.reading(range) else { return };
        let stretch = &mut self.active[index];
        let reading = stretch.reading.take().expect("it was looked for");
        let took = now.saturating_sub(reading.at);
        if reading.is_first {
            // One slow answer when the object was opened need not be what every request costs.
            self.cost = self.cost.min(took);
        }
        let moving = if reading.is_first { took.saturating_sub(self.cost).max(took / 10) } else { took };
        if stretch.next >= stretch.end {
            self.active.swap_remove(index);
        }
        let rate = range.len() as f64 / moving.as_secs_f64();
        if rate.is_finite() {
            self.rate = Some(self.rate.map_or(rate, |before| before + NEWEST_SHARE * (rate - before)));
        }
    }

    /// A chunk was not read: its stretch is over, and what lies behind it is anybody's.
    pub fn handle_failed(&mut self, range: ByteRange) {
        if let Some(index) = self.reading(range) {
            self.active.swap_remove(index);
        }
    }

    fn reading(&self, range: ByteRange) -> Option<usize> {
        self.active.iter().position(|stretch| stretch.reading.is_some_and(|reading| reading.range == range))
    }

    /// Bytes of a stretch that is worth its request.
    fn bytes(&self) -> u64 {
        let chunks = worth(self.cost, self.rate.unwrap_or(RATE_ASSUMED)).div_ceil(self.chunk_bytes);
        chunks.min(self.bytes_max / self.chunk_bytes).max(1).saturating_mul(self.chunk_bytes)
    }

    fn pick(&self, missing: &BTreeMap<u64, u64>) -> Option<Pick> {
        let goes_on = |stretch: &&Stretch| stretch.reading.is_none() && stretch.missing_to(missing).is_some();
        let on = self.active.iter().filter(goes_on).min_by_key(|stretch| stretch.next);
        on.map(|stretch| Pick::On(stretch.number)).or_else(|| self.first_free(missing).map(Pick::New))
    }

    /// The first of what is missing that no stretch will come to soon, as long as a stretch at most.
    fn first_free(&self, missing: &BTreeMap<u64, u64>) -> Option<ByteRange> {
        let bytes = self.bytes();
        let worth = |from: u64| from.saturating_add(bytes) / self.chunk_bytes * self.chunk_bytes;
        // Where a rate turns out lower than was thought, stretches give back their ends.
        let covered = |stretch: &Stretch| stretch.next..stretch.end.min(worth(stretch.next));
        for (&start, &end) in missing {
            let mut free = start;
            // Each pass goes behind one stretch.
            while let Some(cover) = self.active.iter().map(covered).find(|cover| cover.contains(&free)) {
                free = cover.end;
            }
            if free < end {
                let next = self.active.iter().map(|stretch| stretch.next).filter(|next| *next > free).min();
                let end = end.min(next.unwrap_or(u64::MAX)).min(worth(free));
                return ByteRange::new(free, end);
            }
        }
        None
    }
}

impl Stretch {
    /// Up to where what it would ask for next is missing, and its own; nothing where that is not missing, or it is over.
    fn missing_to(&self, missing: &BTreeMap<u64, u64>) -> Option<u64> {
        let (_, &end) = missing.range(..=self.next).next_back()?;
        Some(self.end.min(end)).filter(|end| *end > self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: u64 = 4 << 20;
    const DEAR: Duration = Duration::from_millis(40);

    /// An object that is read with so many connections, each as fast as told: the requests, as ranges, in which it was
    /// asked for.
    fn read(chunks: u64, cost: Duration, connections: usize, rate: f64) -> Vec<ByteRange> {
        let mut stretches = Stretches::new(CHUNK, cost, u64::MAX);
        let mut missing = BTreeMap::from([(0, chunks * CHUNK)]);
        let mut requests: BTreeMap<u64, ByteRange> = BTreeMap::new();
        let mut under_way: Vec<(Duration, ByteRange)> = Vec::new();
        let mut now = Duration::ZERO;
        loop {
            while under_way.len() < connections
                && let Some((range, place)) = stretches.hand_out(&missing, now)
            {
                cut(&mut missing, range);
                let moving = Duration::from_secs_f64(range.len() as f64 / rate);
                let request = requests.entry(place.stretch);
                let took = if matches!(request, std::collections::btree_map::Entry::Vacant(_)) {
                    cost
                } else {
                    Duration::ZERO
                };
                request
                    .and_modify(|so_far| {
                        assert_eq!(so_far.end(), range.start(), "a stretch is read without a gap");
                        *so_far = ByteRange::new(so_far.start(), range.end()).unwrap();
                    })
                    .or_insert(range);
                under_way.push((now + took + moving, range));
            }
            let Some(first) = (0..under_way.len()).min_by_key(|index| under_way[*index].0) else { break };
            let (at, range) = under_way.swap_remove(first);
            now = at;
            stretches.handle_read(range, now);
        }
        assert!(missing.is_empty(), "everything was asked for");
        requests.into_values().collect()
    }

    fn cut(missing: &mut BTreeMap<u64, u64>, range: ByteRange) {
        let (&start, &end) = missing.range(..=range.start()).next_back().unwrap();
        missing.remove(&start);
        if start < range.start() {
            missing.insert(start, range.start());
        }
        if range.end() < end {
            missing.insert(range.end(), end);
        }
    }

    #[test]
    fn where_requests_cost_nothing_each_chunk_has_its_own_in_order() {
        let requests = read(20, Duration::ZERO, 8, 100e6);
        let chunks: Vec<_> = ByteRange::new(0, 20 * CHUNK).unwrap().pieces(CHUNK).collect();
        assert_eq!(requests, chunks);
    }

    #[test]
    fn where_requests_are_dear_a_fast_connection_is_asked_seldom() {
        assert!(read(64, DEAR, 8, 500e6).len() <= 2);
        // 40 ms is 5 % of the time of 380 MB.
        let requests = read(2560, DEAR, 8, 500e6);
        assert!((25..45).contains(&requests.len()), "{}", requests.len());
    }

    #[test]
    fn slow_connections_are_as_many_as_there_may_be_though_requests_are_dear() {
        // At 5 MB/s each 40 ms are worth a chunk.
        let requests = read(64, DEAR, 8, 5e6);
        assert!(requests.len() >= 48, "{}", requests.len());
    }

    #[test]
    fn one_slow_answer_at_the_beginning_is_not_believed_for_long() {
        let mut stretches = Stretches::new(CHUNK, Duration::from_secs(1), u64::MAX);
        let missing = BTreeMap::from([(0, 1 << 40)]);
        let (first, _) = stretches.hand_out(&missing, Duration::ZERO).unwrap();
        stretches.handle_read(first, Duration::from_millis(50));
        // At 84 MB/s or more, 20 times the 50 ms that a request has cost at most.
        assert!(stretches.bytes() <= 20 * 20 * CHUNK, "{}", stretches.bytes());
    }

    proptest! {
        #[test]
        fn whatever_is_missing_is_handed_out_once(
            gaps in prop::collection::vec((0u64..40, 1u64..40), 1..6),
            cost_ms in 0u64..100,
            connections in 1usize..9,
            bytes_max in 0u64..20 * CHUNK,
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut missing = BTreeMap::new();
            let mut at = 0;
            for (gap, len) in gaps {
                at += gap * CHUNK / 3 + 1;
                missing.insert(at, at + len * CHUNK / 3);
                at += len * CHUNK / 3;
            }
            let wanted: u64 = missing.iter().map(|(start, end)| end - start).sum();
            let mut stretches = Stretches::new(CHUNK, Duration::from_millis(cost_ms), bytes_max);
            let (mut under_way, mut got, mut now) = (Vec::new(), 0, Duration::ZERO);
            while got < wanted {
                now += Duration::from_millis(rng.u64(0..50));
                if under_way.len() < connections && (under_way.is_empty() || rng.bool()) {
                    let ready = stretches.is_ready(&missing);
                    let handed_out = stretches.hand_out(&missing, now);
                    prop_assert_eq!(ready, handed_out.is_some());
                    prop_assert!(ready || !under_way.is_empty(), "nothing is under way, and nothing is handed out");
                    if let Some((range, place)) = handed_out {
                        prop_assert!(range.end() <= place.end);
                        prop_assert!(range.start() / CHUNK == (range.end() - 1) / CHUNK);
                        cut(&mut missing, range);
                        under_way.push(range);
                        continue;
                    }
                }
                let range = under_way.swap_remove(rng.usize(..under_way.len()));
                if rng.u8(..5) == 0 {
                    stretches.handle_failed(range);
                    missing.insert(range.start(), range.end());
                } else {
                    stretches.handle_read(range, now);
                    got += range.len();
                }
            }
            prop_assert!(missing.is_empty());
        }
    }
}
