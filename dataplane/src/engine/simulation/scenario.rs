//! What a seed stands for: the object, the engine's bounds, and how bad the days are.

use std::time::Duration;

use fastrand::Rng;
use staccato_protocols::CRC_BLOCK;

use super::present::PresentScenario;
use crate::engine::window::Connections;

/// Blocks of the largest object.
const BLOCKS_MAX: u64 = 20;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub length: u64,
    pub chunk_bytes: u64,
    pub window_chunks_max: usize,
    /// What a request costs the source's server.
    pub request_cost: Duration,
    pub sequential: bool,
    /// Whether the source tells its length.
    pub tells_length: bool,
    pub holes: bool,
    pub rate_limit: Option<u64>,
    /// What is at the destination, where that is repaired.
    pub present: Option<PresentScenario>,
    pub sync_bytes_max: u64,
    /// Attempts before the days are good.
    pub bad_attempts: usize,
    pub trouble: Trouble,
}

/// How likely each kind of trouble is, each time it could come.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub fetch_fails: f64,
    pub fetch_is_fatal: f64,
    pub write_tears: f64,
    pub read_back_fails: f64,
    pub sync_fails: f64,
    pub name_sync_fails: f64,
    pub length_fails: f64,
    pub answer_is_slow: f64,
    /// These once per attempt, at any step.
    pub crash: f64,
    pub stop: f64,
    pub source_changes: f64,
    pub present_changes: f64,
    /// What is right may not stay, though nothing is known against it.
    pub present_in_doubt: f64,
    /// These once between attempts.
    pub disk_rots: f64,
    pub partial_is_lost: f64,
    pub sidecar_is_lost: f64,
    pub sidecar_is_stale: f64,
    /// The attempt ends at this step with a power cut, whatever else is drawn; for walks over all steps.
    pub crash_at_step: Option<usize>,
}

impl Scenario {
    pub fn draw(rng: &mut Rng) -> Self {
        let length = Self::draw_length(rng);
        Self {
            length,
            chunk_bytes: rng.u64(1..=4) * CRC_BLOCK,
            window_chunks_max: rng.usize(1..=6),
            request_cost: Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..200) }),
            sequential: rng.u8(..5) == 0,
            tells_length: rng.u8(..5) > 0,
            holes: rng.bool(),
            present: rng.bool().then(|| PresentScenario::draw(rng)),
            rate_limit: (rng.u8(..5) == 0).then(|| rng.u64(CRC_BLOCK / 8..8 * CRC_BLOCK)),
            sync_bytes_max: rng.u64(1..=16) * CRC_BLOCK,
            bad_attempts: rng.usize(..6),
            trouble: Trouble::draw(rng),
        }
    }

    /// A number of connections of its own, one that is fixed, or none.
    pub fn connections(&self) -> Connections {
        let max = self.window_chunks_max.div_ceil(2);
        match (self.window_chunks_max + self.bad_attempts) % 3 {
            0 => Connections::Unlimited,
            1 => Connections::Fixed(max),
            _ => Connections::Adaptive { max },
        }
    }

    /// Around blocks' borders more often than not.
    pub fn draw_length(rng: &mut Rng) -> u64 {
        let blocks = rng.u64(..BLOCKS_MAX) * CRC_BLOCK;
        match rng.u8(..6) {
            0 => blocks + 1,
            1 => (blocks + CRC_BLOCK) - 1,
            2 => blocks + rng.u64(..CRC_BLOCK),
            _ => blocks,
        }
    }

    /// The object's largest version, in bytes.
    pub fn bytes_max() -> u64 {
        (BLOCKS_MAX + 4) * CRC_BLOCK
    }
}

impl PresentScenario {
    /// Mostly nearly right, and as long as the source's object.
    fn draw(rng: &mut Rng) -> Self {
        let length = (rng.u8(..3) == 0).then(|| Scenario::draw_length(rng));
        Self { length, same: [1.0, 1.0, 0.95, 0.5, 0.0][rng.usize(..5)], clones: rng.bool() }
    }
}

impl Trouble {
    /// Each kind is absent from half of the worlds, so that the others are met alone too.
    fn draw(rng: &mut Rng) -> Self {
        let mut upto = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        Self {
            fetch_fails: upto(0.3),
            fetch_is_fatal: upto(0.02),
            write_tears: upto(0.1),
            read_back_fails: upto(0.2),
            sync_fails: upto(0.2),
            name_sync_fails: upto(0.05),
            length_fails: upto(0.3),
            answer_is_slow: upto(0.3),
            crash: upto(1.0),
            stop: upto(0.5),
            source_changes: upto(0.2),
            present_changes: upto(0.5),
            present_in_doubt: upto(1.0),
            disk_rots: upto(0.5),
            partial_is_lost: upto(0.2),
            sidecar_is_lost: upto(0.3),
            sidecar_is_stale: upto(0.3),
            crash_at_step: None,
        }
    }
}

/// How long an answer takes.
pub(super) fn delay(rng: &mut Rng, slow: f64) -> Duration {
    Duration::from_micros(if rng.f64() < slow { rng.u64(..5_000_000) } else { rng.u64(..30_000) })
}
