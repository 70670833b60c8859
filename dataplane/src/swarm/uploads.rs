//! The serving side: who is served now, and who shall come back.

use std::{collections::BTreeMap, time::Duration};

use super::PeerKey;

/// What suits most hosts: chunks that one sends at a time, to all readers together.
pub const SLOTS: usize = 8;

/// What a chunk takes until the first one was served.
const TOOK_AT_FIRST: Duration = Duration::from_millis(50);
/// Nobody is told to come back sooner or later than this.
const AFTER_MIN: Duration = Duration::from_millis(2);
const AFTER_MAX: Duration = Duration::from_secs(2);
/// Who was turned away is expected for so many times what it was told; then it is forgotten.
const EXPECTED: u32 = 2;
/// Readers that are remembered because they were turned away.
const WAITING_MAX: usize = 64;

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The chunk is sent.
    Serve,
    /// All slots are taken: ask somebody else, or again after this time.
    Busy {
        /// When a slot should be free.
        after: Duration,
    },
}

/// The slots of one host: so many chunks are sent at a time, to whom they do most good.
///
/// Nobody waits in a line here: a reader that is turned away asks somebody else meanwhile. It is fair in that a reader that
/// is being served gets no second slot while others, who were turned away, are to come back.
#[derive(Clone, Debug)]
pub struct Uploads {
    slots: usize,
    taken: usize,
    /// Slots of each reader that has some.
    readers: BTreeMap<PeerKey, usize>,
    /// Until when each reader is expected that was turned away, and has nothing.
    waiting: BTreeMap<PeerKey, Duration>,
    /// What a chunk takes, of late.
    took: Duration,
}

impl Uploads {
    /// So many slots, at least one.
    pub fn new(slots: usize) -> Self {
        let (readers, waiting) = (BTreeMap::new(), BTreeMap::new());
        Self { slots: slots.max(1), taken: 0, readers, waiting, took: TOOK_AT_FIRST }
    }

    /// A reader asks for a chunk that is here. What is served is to be [`ended`](Self::handle_ended).
    pub fn handle_asked(&mut self, reader: PeerKey, now: Duration) -> Answer {
        self.waiting.retain(|_, until| *until > now);
        let has = self.readers.get(&reader).copied().unwrap_or(0);
        let free = self.slots - self.taken;
        let others = self.waiting.len() - usize::from(self.waiting.contains_key(&reader));
        if free == 0 || has > 0 && free <= others {
            return self.turn_away(reader, has, now);
        }
        self.waiting.remove(&reader);
        *self.readers.entry(reader).or_default() += 1;
        self.taken += 1;
        Answer::Serve
    }

    fn turn_away(&mut self, reader: PeerKey, has: usize, now: Duration) -> Answer {
        // One slot after another becomes free, and those who came before come back before.
        let turn = self.waiting.len() as u32 + 1;
        let after = (self.took / self.slots as u32 * turn).clamp(AFTER_MIN, AFTER_MAX);
        if has == 0 && (self.waiting.len() < WAITING_MAX || self.waiting.contains_key(&reader)) {
            self.waiting.insert(reader, now + after * EXPECTED);
        }
        Answer::Busy { after }
    }

    /// A chunk was sent to the end, which took so long, or given up (none).
    pub fn handle_ended(&mut self, reader: PeerKey, took: Option<Duration>) {
        let Some(slots) = self.readers.get_mut(&reader) else { return };
        *slots -= 1;
        if *slots == 0 {
            self.readers.remove(&reader);
        }
        self.taken -= 1;
        if let Some(took) = took {
            self.took = (self.took * 3 + took) / 4;
        }
    }

    /// Chunks that are being sent.
    pub fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn is_busy(answer: Answer) -> bool {
        matches!(answer, Answer::Busy { after } if after > ZERO)
    }

    #[test]
    fn no_more_are_served_than_there_are_slots() {
        let mut uploads = Uploads::new(3);
        let answers: Vec<_> = (0..9).map(|reader| uploads.handle_asked(PeerKey(reader % 2), ZERO)).collect();
        assert_eq!(answers.iter().filter(|answer| **answer == Answer::Serve).count(), 3);
        assert!(answers[3..].iter().all(|answer| is_busy(*answer)));
        uploads.handle_ended(PeerKey(0), Some(ZERO));
        assert_eq!(uploads.handle_asked(PeerKey(0), ZERO), Answer::Serve);
        // Who has nothing gives nothing back.
        uploads.handle_ended(PeerKey(7), None);
        assert_eq!(uploads.taken(), 3);
    }

    #[test]
    fn who_was_turned_away_comes_before_who_is_served_already() {
        let mut uploads = Uploads::new(2);
        let [greedy, patient] = [PeerKey(1), PeerKey(2)];
        assert_eq!([(); 2].map(|()| uploads.handle_asked(greedy, ZERO)), [Answer::Serve; 2]);
        assert!(is_busy(uploads.handle_asked(patient, ZERO)));
        uploads.handle_ended(greedy, None);
        assert!(is_busy(uploads.handle_asked(greedy, ZERO)));
        assert_eq!(uploads.handle_asked(patient, ZERO), Answer::Serve);
        // Who does not come back is not waited for.
        assert!(is_busy(uploads.handle_asked(PeerKey(3), ZERO)));
        uploads.handle_ended(greedy, None);
        uploads.handle_ended(patient, None);
        assert_eq!(uploads.handle_asked(greedy, AFTER_MAX * 3), Answer::Serve);
        assert_eq!(uploads.handle_asked(greedy, AFTER_MAX * 3), Answer::Serve);
    }

    #[test]
    fn those_who_wait_are_called_one_after_another() {
        let mut uploads = Uploads::new(1);
        uploads.handle_asked(PeerKey(0), ZERO);
        let after = [1, 2, 3].map(|reader| match uploads.handle_asked(PeerKey(reader), ZERO) {
            Answer::Busy { after } => after,
            Answer::Serve => panic!("there is one slot"),
        });
        assert!(after[0] < after[1] && after[1] < after[2], "{after:?}");
    }
}
