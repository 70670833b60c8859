//! What came of a distribution, and what is told of it. Pure.

use serde_json::Value;

/// What came of one.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// What happened meanwhile.
    pub what: &'static str,
    /// From the request until the last host had its copy.
    pub makespan_seconds: f64,
    /// Bytes that the source has sent.
    pub source_bytes: u64,
    /// Bytes that hosts have read from one another, as far as the ledger knows.
    pub peer_bytes: u64,
    pub hosts: Vec<HostOutcome>,
}

/// What came of it at one host.
#[derive(Clone, Debug)]
pub(super) struct HostOutcome {
    pub host: String,
    pub attempts: u64,
    pub source_bytes: u64,
    pub peer_bytes: u64,
    /// Whether its executor was killed.
    pub was_killed: bool,
    pub is_equal: bool,
}

impl Outcome {
    fn equal(&self) -> usize {
        self.hosts.iter().filter(|host| host.is_equal).count()
    }

    fn source_reads(&self, bytes: u64) -> f64 {
        self.source_bytes as f64 / bytes as f64
    }
}

/// What a member tells that it has read from the source.
pub(super) fn read_from_source(member: &Value) -> u64 {
    let count = |name: &str| member[name].as_u64().unwrap_or(0);
    count("bytes_fetched").saturating_sub(count("bytes_from_peers"))
}

/// The running member that has read the most from the source, if one has read anything.
pub(super) fn seed_of(members: &[Value]) -> Option<&Value> {
    let seeds = members.iter().filter(|member| member["state"] == "STATE_RUNNING" && read_from_source(member) > 0);
    seeds.max_by_key(|member| read_from_source(member))
}

/// The hosts of a distribution, line by line.
pub(super) fn hosts_table(outcome: &Outcome) -> Vec<String> {
    let row = |[host, attempts, source, peers, killed, equal]: [&str; 6]| {
        format!("{host:<6}  {attempts:>8}  {source:>11}  {peers:>10}  {killed:<6}  {equal}")
    };
    let rows = outcome.hosts.iter().map(|host| {
        row([
            &host.host,
            &host.attempts.to_string(),
            &megabytes(host.source_bytes),
            &megabytes(host.peer_bytes),
            if host.was_killed { "yes" } else { "-" },
            if host.is_equal { "yes" } else { "NO" },
        ])
    });
    let heads = row(["host", "attempts", "from source", "from peers", "killed", "equal"]);
    std::iter::once(heads).chain(rows).collect()
}

/// Distributions of so many bytes, line by line; none can take less than the bound.
pub(super) fn figures(outcomes: &[Outcome], bytes: u64, bound_seconds: f64) -> Vec<String> {
    let row = |[what, makespan, bound, over, reads, peers, equal]: [&str; 7]| {
        format!("{what:<12}  {makespan:>8}  {bound:>7}  {over:>14}  {reads:>11}  {peers:>13}  {equal}")
    };
    let rows = outcomes.iter().map(|outcome| {
        row([
            outcome.what,
            &format!("{:.1} s", outcome.makespan_seconds),
            &format!("{bound_seconds:.1} s"),
            &format!("{:.2} x", outcome.makespan_seconds / bound_seconds),
            &format!("{:.2} times", outcome.source_reads(bytes)),
            &megabytes(outcome.peer_bytes),
            &format!("{} of {}", outcome.equal(), outcome.hosts.len()),
        ])
    });
    let heads = row(["", "makespan", "bound", "makespan/bound", "source read", "between peers", "equal"]);
    std::iter::once(heads).chain(rows).collect()
}

/// The last word: all is as it should be, or what is not.
pub(super) fn verdict(outcomes: &[Outcome], bytes: u64, source_budget: f64) -> Result<String, String> {
    let mut most: f64 = 0.0;
    for outcome in outcomes {
        let (equal, hosts, reads) = (outcome.equal(), outcome.hosts.len(), outcome.source_reads(bytes));
        if equal < hosts {
            return Err(format!("{}: only {equal} of {hosts} hosts have the image as it is", outcome.what));
        }
        if reads > source_budget {
            return Err(format!(
                "{}: the source was read {reads:.2} times, its budget is {source_budget:.1}",
                outcome.what
            ));
        }
        most = most.max(reads);
    }
    let hosts = outcomes.last().map_or(0, |outcome| outcome.hosts.len());
    Ok(format!(
        "All {hosts} hosts have the image byte for byte; its source was read {most:.2} times at most (budget {source_budget:.1})."
    ))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(source_bytes: u64, is_equal: bool) -> Outcome {
        let host = |number: u64| HostOutcome {
            host: format!("h{number}"),
            attempts: number,
            source_bytes: 50_000_000,
            peer_bytes: 150_000_000,
            was_killed: number == 2,
            is_equal: is_equal || number == 1,
        };
        let hosts = (1..=4).map(host).collect();
        Outcome { what: "two die", makespan_seconds: 7.5, source_bytes, peer_bytes: 600_000_000, hosts }
    }

    fn words(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_is_killed_runs_and_has_read_the_source() {
        let member = |host: &str, state: &str, fetched: u64, peers: u64| json!({"host": host, "state": state, "bytes_fetched": fetched, "bytes_from_peers": peers});
        let members = [
            member("done", "STATE_COMPLETE", 90, 10),
            member("idle", "STATE_RUNNING", 80, 80),
            member("some", "STATE_RUNNING", 30, 20),
            member("most", "STATE_RUNNING", 40, 20),
        ];
        assert_eq!(seed_of(&members).unwrap()["host"], "most");
        assert_eq!(seed_of(&members[..2]), None);
    }

    #[test]
    fn figures_are_those_of_each_host_and_of_all_together() {
        let lines = hosts_table(&outcome(0, true));
        assert_eq!(words(&lines[0]), "host attempts from source from peers killed equal");
        assert_eq!(words(&lines[2]), "h2 2 50.0 MB 150.0 MB yes yes");
        assert_eq!(lines.len(), 5);
        let lines = figures(&[outcome(220_000_000, true)], 200_000_000, 6.0);
        assert_eq!(words(&lines[0]), "makespan bound makespan/bound source read between peers equal");
        assert_eq!(words(&lines[1]), "two die 7.5 s 6.0 s 1.25 x 1.10 times 600.0 MB 4 of 4");
    }

    #[test]
    fn a_copy_that_differs_and_a_source_that_is_read_too_often_are_no_success() {
        let all = [outcome(200_000_000, true), outcome(220_000_000, true)];
        let said = verdict(&all, 200_000_000, 2.0).unwrap();
        assert!(said.contains("All 4 hosts") && said.contains("1.10 times") && said.contains("budget 2.0"), "{said}");
        let differs = verdict(&[outcome(200_000_000, false)], 200_000_000, 2.0).unwrap_err();
        assert!(differs.contains("1 of 4"), "{differs}");
        let often = verdict(&[outcome(410_000_000, true)], 200_000_000, 2.0).unwrap_err();
        assert!(often.contains("2.05 times"), "{often}");
    }
}
