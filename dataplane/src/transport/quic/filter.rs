//! The highest value of the last rounds.

use std::collections::VecDeque;

/// Values of the last rounds, each higher than all that came after it: the first is the highest.
#[derive(Clone, Debug, Default)]
pub struct Highest {
    values: VecDeque<(u64, f64)>,
}

impl Highest {
    /// The highest value; 0 where there is none.
    pub fn get(&self) -> f64 {
        self.values.front().map_or(0.0, |(_, value)| *value)
    }

    /// A value of this round; what is older than so many rounds is forgotten.
    pub fn update(&mut self, round: u64, rounds: u64, value: f64) {
        while self.values.back().is_some_and(|(_, last)| *last <= value) {
            self.values.pop_back();
        }
        self.values.push_back((round, value));
        while self.values.front().is_some_and(|(first, _)| first + rounds < round) {
            self.values.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_highest_of_as_many_rounds() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut highest, mut all) = (Highest::default(), Vec::new());
        assert_eq!(highest.get(), 0.0);
        for step in 0..1000 {
            let (round, value) = (step / 3, random.f64());
            highest.update(round, 10, value);
            all.push((round, value));
            let recent = all.iter().filter(|(then, _)| then + 10 >= round).map(|(_, value)| *value);
            assert_eq!(highest.get(), recent.fold(0.0, f64::max));
        }
    }
}
