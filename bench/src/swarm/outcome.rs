//! What came of a simulated distribution.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use serde::Serialize;

use super::scene::{Role, Setup};

/// What is counted while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Steps of the simulation.
    pub events: u64,
    /// Questions.
    pub asks: u64,
    /// Those that were answered with busy.
    pub busy: u64,
    /// Those that were put to a second holder, too.
    pub doubled: u64,
    /// Bytes that left the source.
    pub bytes_source: u64,
    /// When the last chunk had come from there.
    pub source_until_s: f64,
    /// Whole chunks from peers.
    pub bytes_peers: u64,
    /// Bytes that came although another holder's answer was there before.
    pub bytes_wasted: u64,
    /// Bytes of chunks whose sender died or was parted from.
    pub bytes_lost: u64,
    /// Memory of the largest swarm.
    pub swarm_bytes_max: usize,
}

/// See the module. Ratios are of times to their bounds.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was simulated.
    pub setup: Setup,
    /// When the last healthy host was done.
    pub makespan_s: f64,
    /// When half of them were.
    pub median_s: f64,
    /// What nobody can beat.
    pub bound_s: f64,
    /// The one over the other.
    pub ratio: f64,
    /// Healthy hosts.
    pub healthy: usize,
    /// Hosts that died for good.
    pub died: usize,
    /// Hosts that should have been done, and were not.
    pub undone: usize,
    /// Hosts with a tenth of the bandwidth, each against the bound of its own link.
    pub stragglers: Others,
    /// Hosts that came late or came back, each against its own link and from when it (first) began.
    pub latecomers: Others,
    /// Bytes that left the source over those of the object.
    pub source_reads: f64,
    /// Requests to the control plane until the makespan.
    pub requests_per_second: f64,
    /// Bytes that came in vain over those that were wanted.
    pub wasted: f64,
    /// Questions for each chunk that came.
    pub asks_per_chunk: f64,
    /// Counters.
    pub tally: Tally,
}

/// Hosts that the bound is not for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Others {
    /// How many.
    pub hosts: usize,
    /// The longest time that one took over its own bound.
    pub ratio_max: f64,
}

impl Tally {
    /// A whole chunk has come.
    pub fn arrived(&mut self, from_peer: bool, bytes: u64) {
        *(if from_peer { &mut self.bytes_peers } else { &mut self.bytes_source }) += bytes;
    }
}

impl Outcome {
    /// `ends`: when each host was done.
    pub fn new(setup: &Setup, roles: &[Role], ends: Vec<Option<Duration>>, requests: u64, tally: Tally) -> Self {
        let of = |wanted: &dyn Fn(&Role) -> bool| -> Vec<(Role, Option<Duration>)> {
            let both = roles.iter().copied().zip(ends.iter().copied());
            both.filter(|(role, _)| wanted(role) && (role.dies.is_none() || role.returns.is_some())).collect()
        };
        let healthy = of(&Role::is_healthy);
        let mut times: Vec<f64> = healthy.iter().filter_map(|(_, end)| Some((*end)?.as_secs_f64())).collect();
        times.sort_by(f64::total_cmp);
        let makespan_s = times.last().copied().unwrap_or(0.0);
        let bound_s = setup.bound(roles).as_secs_f64();
        let others = |wanted: &dyn Fn(&Role) -> bool| {
            let hosts = of(wanted);
            let took = |(role, end): &(Role, Option<Duration>)| {
                let took = (*end)?.saturating_sub(role.joins).as_secs_f64();
                Some(took / setup.bound_of(role).as_secs_f64())
            };
            Others { hosts: hosts.len(), ratio_max: hosts.iter().filter_map(took).fold(0.0, f64::max) }
        };
        let wanted = tally.bytes_source + tally.bytes_peers;
        Self {
            setup: setup.clone(),
            makespan_s,
            median_s: times.get(times.len() / 2).copied().unwrap_or(0.0),
            bound_s,
            ratio: makespan_s / bound_s,
            healthy: healthy.len(),
            died: roles.iter().filter(|role| role.dies.is_some() && role.returns.is_none()).count(),
            undone: of(&|_| true).iter().filter(|(_, end)| end.is_none()).count(),
            stragglers: others(&|role| role.straggler),
            latecomers: others(&|role| !role.straggler && !role.is_healthy()),
            source_reads: tally.bytes_source as f64 / setup.bytes() as f64,
            requests_per_second: requests as f64 / makespan_s,
            wasted: tally.bytes_wasted as f64 / wanted as f64,
            asks_per_chunk: tally.asks as f64 * setup.chunk_bytes as f64 / wanted as f64,
            tally,
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { healthy, died, undone, tally, setup, .. } = self;
        writeln!(
            f,
            "hosts               {} ({healthy} healthy, {died} died, {undone} undone), seed {}",
            setup.hosts, setup.seed
        )?;
        writeln!(f, "makespan            {:.2} s (half of them {:.2} s)", self.makespan_s, self.median_s)?;
        writeln!(f, "bound               {:.2} s", self.bound_s)?;
        writeln!(f, "makespan / bound    {:.3}", self.ratio)?;
        for (name, others) in [("stragglers", self.stragglers), ("latecomers", self.latecomers)] {
            if others.hosts > 0 {
                writeln!(f, "{name:<19} {}, at most {:.3} of each one's own bound", others.hosts, others.ratio_max)?;
            }
        }
        writeln!(f, "source read         {:.3} times", self.source_reads)?;
        writeln!(f, "control plane       {:.1} requests/s", self.requests_per_second)?;
        writeln!(f, "memory of a swarm   {} bytes at most", tally.swarm_bytes_max)?;
        writeln!(f, "wasted              {:.3} % ({} second questions)", self.wasted * 100.0, tally.doubled)?;
        write!(f, "questions           {:.3} for each chunk ({} busy)", self.asks_per_chunk, tally.busy)
    }
}
