//! What a seed stands for: the object, who takes part, and how bad the days are.

use fastrand::Rng;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub chunks: u32,
    /// Each of them, the honest ones first.
    pub hosts: Vec<Character>,
    /// How many may read the source at a time.
    pub seeds: usize,
    /// How often it may be read, in thousandths.
    pub budget_milli: u32,
    pub slots: usize,
    pub asks_max: usize,
    pub trouble: Trouble,
}

/// How a host behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Character {
    /// As it should.
    Honest,
    /// It says that it has everything, and has nothing.
    Liar,
    /// It says that it has everything, and sends wrong bytes.
    Poisoner,
}

/// How likely each kind of trouble is, each time it could come, until the days are good.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub answer_fails: f64,
    pub answer_is_slow: f64,
    /// Those below: in every second, of each host.
    pub dies: f64,
    /// Of those that die, which say so.
    pub leaves: f64,
    pub returns: f64,
    pub parts: f64,
    pub loses_chunk: f64,
    pub heartbeat_fails: f64,
}

impl Scenario {
    /// Most reads of a chunk.
    pub fn reads_max(&self) -> u64 {
        u64::from(self.chunks) * u64::from(self.budget_milli) / 1000
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let honest = rng.usize(1..=10);
        let mut hosts = vec![Character::Honest; honest];
        for other in [Character::Liar, Character::Poisoner] {
            hosts.extend((0..rng.usize(..3)).map(|_| other));
        }
        let chunks = rng.u32(1..=100);
        Self {
            chunks,
            hosts,
            seeds: rng.usize(1..=honest.min(6)),
            budget_milli: rng.u32(1000..=3000),
            slots: rng.usize(1..=6),
            asks_max: rng.usize(1..=8),
            trouble: Trouble::draw(rng),
        }
    }
}

impl Trouble {
    /// Each kind is absent from half of the worlds, so that the others are met alone too.
    fn draw(rng: &mut Rng) -> Self {
        let mut upto = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        Self {
            answer_fails: upto(0.2),
            answer_is_slow: upto(0.2),
            dies: upto(0.1),
            leaves: upto(1.0),
            returns: upto(0.5),
            parts: upto(0.2),
            loses_chunk: upto(0.2),
            heartbeat_fails: upto(0.9),
        }
    }
}
