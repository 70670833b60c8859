//! What the rest of the machine does meanwhile.

use std::{fs, time::Instant};

use crate::{
    record::{MachineLoad, Sample},
    statistics::median,
};

/// The counters of the whole machine at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    at: Instant,
    busy_seconds: f64,
    steal_seconds: f64,
}

/// More CPU than this share of all cores, taken by others, makes a machine noisy; so does as much stolen by the
/// hypervisor.
pub const NOISY_SHARE: f64 = 0.05;

impl Load {
    /// As it is now.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&stat, rustix::param::clock_ticks_per_second() as f64)
    }

    /// The first line of proc_stat(5): ticks of user, nice, system, idle, iowait, irq, softirq and steal.
    fn parse(stat: &str, ticks_per_second: f64) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let of = |fields: &[usize]| fields.iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / ticks_per_second;
        Self { at: Instant::now(), busy_seconds: of(&[0, 1, 2, 5, 6]), steal_seconds: of(&[7]) }
    }

    /// What happened since.
    pub fn since(self) -> MachineLoad {
        let now = Self::now();
        MachineLoad {
            seconds: now.at.duration_since(self.at).as_secs_f64(),
            busy_seconds: now.busy_seconds - self.busy_seconds,
            steal_seconds: now.steal_seconds - self.steal_seconds,
            ..MachineLoad::default()
        }
    }
}

/// What made the machine noisy while these samples were taken; nothing when it was quiet. The kernel's own work for a
/// contestant (writing back, interrupts, a loop device) counts as somebody else's.
pub fn noise<'a>(samples: impl IntoIterator<Item = &'a Sample>, cores: usize) -> Option<String> {
    let samples: Vec<&Sample> = samples.into_iter().collect();
    let share = |of: fn(&MachineLoad) -> f64| {
        let shares = samples.iter().map(|sample| of(&sample.machine) / (sample.machine.seconds * cores.max(1) as f64));
        median(shares.filter(|share| share.is_finite()))
    };
    let steal = share(|machine| machine.steal_seconds)?;
    if steal > NOISY_SHARE {
        return Some(format!("the hypervisor took {:.0} % of the CPU", steal * 100.0));
    }
    let others = share(|machine| machine.busy_seconds - machine.own_seconds)?;
    (others > NOISY_SHARE).then(|| format!("other work took {:.0} % of the CPU", others * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        let load = Load::parse("cpu  100 0 50 9000 70 5 5 20 0 0\ncpu0 1 1 1 1\n", 100.0);
        assert_eq!((load.busy_seconds, load.steal_seconds), (1.6, 0.2));
    }

    #[test]
    fn a_noisy_machine_is_called_noisy() {
        let sample = |busy_seconds, steal_seconds| Sample {
            // The work alone: what else its processes did is theirs all the same.
            seconds: 0.2,
            cpu_seconds: Some(0.1),
            machine: MachineLoad {
                seconds: 1.0,
                busy_seconds,
                own_seconds: 0.5,
                steal_seconds,
                first_touch_rate: None,
            },
            ..Sample::default()
        };
        assert_eq!(noise(&[sample(0.55, 0.0)], 2), None);
        assert!(noise(&[sample(1.5, 0.0)], 2).is_some_and(|why| why.contains("other work took 50 %")));
        assert!(noise(&[sample(0.5, 0.4)], 2).is_some_and(|why| why.contains("hypervisor took 20 %")));
        assert_eq!(noise(&[], 2), None);
    }
}
