//! Which way the image goes, who is killed meanwhile, and what is told of it. Pure.

/// Names of the transports.
const TRANSPORTS: [&str; 2] = ["quic", "tcp"];

/// From one host to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub from: String,
    pub to: String,
    /// Names in the hosts' roots.
    pub source: String,
    pub destination: String,
    pub transport: &'static str,
    /// Whose executor is killed half-way.
    pub victim: Option<Victim>,
}

/// Whose executor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Source,
    Destination,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub what: Move,
    pub bytes: u64,
    pub seconds: f64,
    pub attempts: u64,
    /// Bytes that were fetched twice, as far as the ledger knows: what an executor had fetched when it was killed died with it.
    pub told_twice: u64,
    /// Bytes that came to the destination's host meanwhile, where somebody counts them.
    pub received: Option<u64>,
    pub is_equal: bool,
}

impl Outcome {
    /// Bytes that were fetched twice: what came to the host beyond what comes with this transport when nobody is killed.
    fn bytes_twice(&self, all: &[Outcome]) -> u64 {
        let alike = all.iter().filter(|one| one.what.transport == self.what.transport && one.what.victim.is_none());
        let undisturbed = alike.filter_map(|one| one.received).min();
        let counted = self.received.zip(undisturbed).filter(|_| self.what.victim.is_some());
        counted.map_or(0, |(received, undisturbed)| received.saturating_sub(undisturbed)).max(self.told_twice)
    }
}

impl Move {
    pub fn host_of(&self, victim: Victim) -> &str {
        match victim {
            Victim::Source => &self.from,
            Victim::Destination => &self.to,
        }
    }
}

/// From each host to the next one, the last to the first: over QUIC and TCP in turn. Each way with nobody killed, then over
/// QUIC while the writing executor dies, and over TCP while the reading one does.
pub(super) fn plan(hosts: usize) -> Vec<Move> {
    let undisturbed = (hosts - 1).max(2).next_multiple_of(2);
    let victims = [Some(Victim::Destination), Some(Victim::Source)];
    let all = std::iter::repeat_n(None, undisturbed).chain(victims);
    let host = |number: usize| format!("h{}", number % hosts + 1);
    let name = |number: usize| if number == 0 { "image.raw".to_owned() } else { format!("copy-{number}.raw") };
    all.enumerate()
        .map(|(number, victim)| Move {
            from: host(number),
            to: host(number + 1),
            source: name(number),
            destination: name(number + 1),
            transport: TRANSPORTS[number % 2],
            victim,
        })
        .collect()
}

/// The outcomes, line by line.
pub(super) fn table(outcomes: &[Outcome]) -> Vec<String> {
    let row = |cells: [&str; 8]| {
        let [way, transport, bytes, seconds, rate, attempts, twice, rest] = cells;
        format!("{way:<10}  {transport:<9}  {bytes:>11}  {seconds:>7}  {rate:>5}  {attempts:>8}  {twice:>13}  {rest}")
    };
    let end = |killed: &str, equal: &str| format!("{killed:<16}  {equal}");
    let heads = ["way", "transport", "bytes", "seconds", "MB/s", "attempts", "fetched twice", &end("killed", "equal")];
    let rows = outcomes.iter().map(|outcome| {
        let Outcome { what, bytes, seconds, attempts, is_equal, .. } = outcome;
        let killed = what.victim.map_or("-".to_owned(), |victim| match victim {
            Victim::Source => format!("{} (source)", what.from),
            Victim::Destination => format!("{} (destination)", what.to),
        });
        row([
            &format!("{} -> {}", what.from, what.to),
            what.transport,
            &bytes.to_string(),
            &format!("{seconds:.1}"),
            &format!("{:.0}", *bytes as f64 / 1e6 / seconds.max(1e-3)),
            &attempts.to_string(),
            &format!("{:.1} MB", outcome.bytes_twice(outcomes) as f64 / 1e6),
            &end(&killed, if *is_equal { "yes" } else { "NO" }),
        ])
    });
    std::iter::once(row(heads)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_transports_go_undisturbed_and_with_a_kill_and_every_host_has_its_turn() {
        for hosts in 2..=9 {
            let moves = plan(hosts);
            for transport in TRANSPORTS {
                for killed in [false, true] {
                    let fits = |one: &&Move| one.transport == transport && one.victim.is_some() == killed;
                    assert!(moves.iter().any(|one| fits(&one)), "{transport}, killed {killed}, {hosts} hosts");
                }
            }
            for host in 1..=hosts {
                assert!(moves.iter().any(|one| one.to == format!("h{host}")), "h{host} of {hosts}");
            }
            // Each goes on where the one before has ended.
            assert_eq!((moves[0].from.as_str(), moves[0].source.as_str()), ("h1", "image.raw"));
            for two in moves.windows(2) {
                assert_eq!((&two[0].to, &two[0].destination), (&two[1].from, &two[1].source));
                assert_ne!(two[0].from, two[0].to);
            }
        }
    }

    #[test]
    fn a_table_says_who_was_killed_and_what_differs() {
        let moves = plan(3);
        let outcome = |number: usize, told_twice, received, is_equal| Outcome {
            what: moves[number].clone(),
            bytes: 1 << 29,
            seconds: 2.0,
            attempts: 1,
            told_twice,
            received,
            is_equal,
        };
        let lines = table(&[
            outcome(0, 0, Some(301_000_000), true),
            outcome(1, 0, None, true),
            outcome(2, 1_000_000, Some(305_200_000), false),
            outcome(3, 1_000_000, None, true),
        ]);
        assert_eq!(lines.len(), 5);
        for (line, words) in lines.iter().zip([
            "way transport bytes seconds MB/s attempts fetched twice killed equal",
            "h1 -> h2 quic 536870912 2.0 268 1 0.0 MB - yes",
            "h2 -> h3 tcp 536870912 2.0 268 1 0.0 MB - yes",
            "h3 -> h1 quic 536870912 2.0 268 1 4.2 MB h1 (destination) NO",
            "h1 -> h2 tcp 536870912 2.0 268 1 1.0 MB h1 (source) yes",
        ]) {
            assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), words);
        }
    }
}
