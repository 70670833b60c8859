//! Names of namespaces: whose they are, and whether their maker still lives.

use std::fs;

/// What each begins with.
pub(super) const PREFIX: &str = "staccato-net-";

/// The name of a namespace of this process: `staccato-net-PID-START-NETWORK-HOST`. With the start of the process (in ticks
/// since the machine's), because numbers of processes come again.
pub(super) fn name(network: usize, host: &str) -> String {
    let pid = std::process::id();
    format!("{PREFIX}{pid}-{}-{network}-{host}", start_of(pid).unwrap_or(0))
}

/// Whether a namespace is one of ours whose maker is gone.
pub(super) fn is_left_over(name: &str, start_of: impl Fn(u32) -> Option<u64>) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (parts.next(), parts.next()) else { return false };
    u32::try_from(pid).is_ok_and(|pid| start_of(pid) != Some(start))
}

/// When a process started: field 22 of proc_pid_stat(5). Nothing where there is no such process.
pub(super) fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may have blanks and brackets in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_that_is_gone_has_left_is_told_from_what_is_in_use() {
        let own = name(3, "1");
        assert!(!is_left_over(&own, start_of), "{own}");
        assert!(is_left_over(&own, |_| None), "its maker has ended");
        assert!(is_left_over(&own, |pid| start_of(pid).map(|start| start + 1)), "another process has its number");
        for foreign in ["", "staccato-net-", "staccato-net-x-1-0-1", "docker-1-1", "staccato-net-99999999999999-1"] {
            assert!(!is_left_over(foreign, |_| None), "{foreign}");
        }
    }
}
