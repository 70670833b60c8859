//! Which bytes the checksum of a whole object takes next: pure.
//!
//! A checksum takes bytes from the front, and chunks come in nearly any order. One that is shown a little early is held in
//! memory until its turn comes; one that comes much too early is written, and read back once its turn has come: in runs,
//! one at a time. Where no turn comes, because the chunk at the front does not, nothing is held any longer.
//!
//! Invariants:
//!
//! - What is taken adjoins what was taken before, and no byte is taken twice.
//! - What was taken is what lies there: where a range that was taken, or is being read back, is written again, everything
//!   is taken anew.
//! - Nothing is read back before it is written, nor while it is written again.
//! - What is held lies at most [`hold_bytes`](Front::new) behind the front.

use std::collections::{BTreeMap, VecDeque};

use staccato_protocols::ByteRange;

/// How far the checksum of one object has come; `T` is a chunk in memory.
#[derive(Clone, Debug)]
pub struct Front<T> {
    /// Behind the last byte that was taken.
    taken: u64,
    /// What was taken and not handed out yet.
    ready: VecDeque<T>,
    /// Chunks that wait for their turn: start → end.
    held: BTreeMap<u64, (u64, T)>,
    hold_bytes: u64,
    /// Whether chunks are held: not after a wait in vain, until the front moves again.
    patient: bool,
    /// What can be read back, taken or not: start → end. Ranges neither overlap nor touch.
    there: BTreeMap<u64, u64>,
    /// Behind the last byte of the run that is being read back; nothing else is taken meanwhile.
    reading_to: Option<u64>,
    /// How often taking began anew.
    round: u64,
}

/// A range to read back, and to show piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Begins where the checksum has come to.
    pub range: ByteRange,
    round: u64,
}

impl<T> Front<T> {
    /// At the beginning; holds what begins up to so many bytes behind the front.
    pub fn new(hold_bytes: u64) -> Self {
        Self {
            taken: 0,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            hold_bytes,
            patient: true,
            there: BTreeMap::new(),
            reading_to: None,
            round: 0,
        }
    }

    /// A range is about to be written, whatever was there. Whether everything is taken anew for it.
    pub fn rewrite(&mut self, range: ByteRange) -> bool {
        if range.is_empty() {
            return false;
        }
        self.forget(range);
        self.held.retain(|start, (end, _)| range.end() <= *start || *end <= range.start());
        let anew = range.start() < self.front();
        if anew {
            self.begin_anew();
        }
        anew
    }

    /// The bytes of a range are in memory. They are taken, or held, or let go of.
    pub fn show(&mut self, range: ByteRange, chunk: T) {
        if range.is_empty() || range.start() < self.front() {
            return;
        }
        let early = range.start() - self.front();
        if (early == 0 && self.reading_to.is_none()) || (self.patient && early <= self.hold_bytes) {
            self.held.insert(range.start(), (range.end(), chunk));
            self.advance();
        }
    }

    /// The next chunk that was taken.
    pub fn poll(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// Whether chunks wait for their turn.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing was taken for long: lets go of what is held, and holds nothing until the front moves.
    pub fn lose_patience(&mut self) {
        self.held.clear();
        self.patient = false;
    }

    /// A range is written, and can be read back.
    pub fn note(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start(), range.end());
        while let Some((&before, &before_end)) = self.there.range(..=end).next_back()
            && before_end >= start
        {
            self.there.remove(&before);
            (start, end) = (start.min(before), end.max(before_end));
        }
        self.there.insert(start, end);
    }

    /// What to read back now, if anything: at most so many bytes. Its pieces are [shown](Self::show_piece) in order, and
    /// then [it is over](Self::end_run).
    pub fn next_run(&mut self, bytes_max: u64) -> Option<Run> {
        if self.reading_to.is_some() {
            return None;
        }
        let (_, &end) = self.there.range(..=self.taken).next_back().filter(|(_, end)| **end > self.taken)?;
        let range = ByteRange::new(self.taken, end.min(self.taken.saturating_add(bytes_max)))?;
        self.reading_to = Some(range.end());
        Some(Run { range, round: self.round })
    }

    /// The next piece of a run is in memory. Whether it is taken: not where everything is taken anew since.
    pub fn show_piece(&mut self, run: Run, piece: ByteRange, chunk: T) -> bool {
        let wanted = run.round == self.round;
        if wanted {
            assert!(piece.start() == self.taken && run.range.contains(piece), "a run is read in order");
            self.take(piece.end(), chunk);
        }
        wanted
    }

    /// A run is over, whether or not all of it was taken.
    pub fn end_run(&mut self, run: Run) {
        if run.round == self.round {
            self.reading_to = None;
            self.advance();
        }
    }

    /// Nothing is wanted any more: a run that is under way ends soon.
    pub fn give_up(&mut self) {
        self.begin_anew();
        self.lose_patience();
        self.there.clear();
    }

    /// Up to where bytes were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Up to where bytes were taken, or will be by the run.
    fn front(&self) -> u64 {
        self.reading_to.unwrap_or(self.taken)
    }

    fn advance(&mut self) {
        while self.reading_to.is_none()
            && let Some((end, chunk)) = self.held.remove(&self.taken)
        {
            self.take(end, chunk);
        }
    }

    fn take(&mut self, end: u64, chunk: T) {
        self.taken = end;
        self.ready.push_back(chunk);
        self.patient = true;
    }

    fn begin_anew(&mut self) {
        (self.taken, self.reading_to) = (0, None);
        self.ready.clear();
        self.held.clear();
        self.round += 1;
    }

    fn forget(&mut self, range: ByteRange) {
        while let Some((&start, &end)) = self.there.range(..range.end()).next_back()
            && end > range.start()
        {
            self.there.remove(&start);
            if start < range.start() {
                self.there.insert(start, range.start());
            }
            if range.end() < end {
                self.there.insert(range.end(), end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    /// Ranges are their own content.
    fn show(front: &mut Front<ByteRange>, chunk: ByteRange) -> Vec<ByteRange> {
        front.show(chunk, chunk);
        taken(front)
    }

    fn taken(front: &mut Front<ByteRange>) -> Vec<ByteRange> {
        std::iter::from_fn(|| front.poll()).collect()
    }

    #[test]
    fn what_comes_a_little_early_is_held_until_its_turn_and_nothing_is_read_back() {
        let mut front = Front::new(8);
        let [first, second, third, fourth] = [0, 4, 8, 12].map(|start| range(start, start + 4));
        assert_eq!(show(&mut front, third), []);
        assert_eq!(show(&mut front, second), []);
        assert_eq!(show(&mut front, fourth), [], "too early to be held");
        assert_eq!(show(&mut front, first), [first, second, third]);
        for chunk in [first, second, third] {
            front.note(chunk);
        }
        assert_eq!((front.taken(), front.holds(), front.next_run(100)), (12, false, None));
        assert_eq!(show(&mut front, fourth), [fourth]);
    }

    #[test]
    fn what_was_not_held_is_read_back_once_its_turn_has_come_and_what_follows_is_held_meanwhile() {
        let mut front = Front::new(4);
        let [first, second, third, fourth] = [0, 4, 8, 12].map(|start| range(start, start + 4));
        front.note(third);
        front.note(second);
        assert_eq!(front.next_run(100), None, "the first is missing");
        assert_eq!(show(&mut front, first), [first]);
        let run = front.next_run(100).unwrap();
        assert_eq!(run.range, range(4, 12));
        assert_eq!(show(&mut front, fourth), []);
        assert!(front.show_piece(run, second, second) && front.show_piece(run, third, third));
        assert_eq!(taken(&mut front), [second, third]);
        front.end_run(run);
        assert_eq!(taken(&mut front), [fourth]);
    }

    #[test]
    fn nothing_is_held_for_a_front_that_does_not_come_until_it_does() {
        let mut front = Front::new(100);
        let [first, second, third, fourth] = [0, 4, 8, 12].map(|start| range(start, start + 4));
        show(&mut front, second);
        assert!(front.holds());
        front.lose_patience();
        show(&mut front, third);
        assert!(!front.holds());
        assert_eq!(show(&mut front, first), [first]);
        show(&mut front, fourth);
        assert!(front.holds());
    }

    #[test]
    fn what_was_taken_and_is_written_again_makes_all_be_taken_anew() {
        let mut front = Front::new(0);
        assert_eq!(show(&mut front, range(0, 4)), [range(0, 4)]);
        front.note(range(0, 4));
        front.note(range(4, 8));
        let run = front.next_run(100).unwrap();
        assert!(front.rewrite(range(4, 6)), "it is being read back");
        assert!(!front.show_piece(run, range(4, 8), range(4, 8)));
        front.end_run(run);
        let run = front.next_run(100).unwrap();
        assert_eq!(run.range, range(0, 4), "what is written again cannot be read before it is");
    }

    /// One object at its destination, whose chunks are written in any order, some of them again.
    struct World {
        /// What lies there, block by block.
        disk: Vec<u32>,
        /// What the checksum is of, as yet.
        hashed: Vec<u32>,
        front: Front<Vec<u32>>,
        run: Option<(Run, u64)>,
    }

    impl World {
        fn bytes(&self, range: ByteRange) -> Vec<u32> {
            self.disk[range.start() as usize..range.end() as usize].to_vec()
        }

        fn hash(&mut self) {
            self.hashed.extend(std::iter::from_fn(|| self.front.poll()).flatten());
        }

        /// A chunk goes from memory to disk; `written` says whether the write succeeds.
        fn write(&mut self, range: ByteRange, content: &[u32], written: bool) {
            if self.front.rewrite(range) {
                self.hashed.clear();
            }
            self.front.show(range, content.to_vec());
            self.hash();
            // A write that fails leaves anything.
            let left: Vec<u32> = content.iter().map(|block| if written { *block } else { !block }).collect();
            self.disk[range.start() as usize..range.end() as usize].copy_from_slice(&left);
            if written {
                self.front.note(range);
            }
        }

        /// Begins to read back, or goes on with it by one piece.
        fn read(&mut self, bytes_max: u64) {
            match self.run.take() {
                None => self.run = self.front.next_run(bytes_max).map(|run| (run, run.range.start())),
                Some((run, at)) if at < run.range.end() => {
                    let piece = range(at, (at + 2).min(run.range.end()));
                    let content = self.bytes(piece);
                    if self.front.show_piece(run, piece, content) {
                        self.run = Some((run, piece.end()));
                    } else {
                        self.front.end_run(run);
                    }
                }
                Some((run, _)) => self.front.end_run(run),
            }
            self.hash();
        }
    }

    proptest! {
        /// Whatever the order, what an earlier attempt left, and which writes fail and are repeated with whatever other
        /// content: the checksum is that of what lies there in the end.
        #[test]
        fn the_checksum_is_of_what_lies_there_in_the_end(
            chunks in 1u64..20,
            left in 0u64..20,
            hold_bytes in 0u64..12,
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let length = chunks * 3;
            let mut world = World {
                disk: (0..length).map(|_| rng.u32(..)).collect(),
                hashed: Vec::new(),
                front: Front::new(hold_bytes),
                run: None,
            };
            // What was written before is compared, and sometimes found wrong.
            let left = left.min(chunks) * 3;
            let mut missing: Vec<ByteRange> = Vec::new();
            for chunk in range(0, left).pieces(3) {
                if rng.bool() {
                    let content = world.bytes(chunk);
                    world.front.show(chunk, content);
                    world.hash();
                }
                world.front.note(chunk);
                if rng.u8(..8) == 0 {
                    missing.push(chunk);
                }
            }
            missing.extend(range(left, length).pieces(3));
            let spread = rng.usize(1..6);
            while !missing.is_empty() {
                let at = rng.usize(..missing.len().min(spread));
                let chunk = missing.remove(at);
                let content: Vec<u32> = (0..chunk.len()).map(|_| rng.u32(..)).collect();
                let written = rng.u8(..10) > 0;
                world.write(chunk, &content, written);
                if !written {
                    missing.insert(rng.usize(..=missing.len()), chunk);
                }
                if rng.u8(..8) == 0 {
                    world.front.lose_patience();
                }
                for _ in 0..rng.u8(..4) {
                    world.read(rng.u64(1..20));
                }
            }
            for _ in 0..20 * chunks {
                world.read(7);
            }
            prop_assert_eq!(world.front.taken(), length);
            prop_assert_eq!(world.hashed, world.disk);
        }
    }
}
