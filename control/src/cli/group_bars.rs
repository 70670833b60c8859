//! What a terminal shows of a distribution: a bar for each host, folded when there are many, and the totals.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use crate::model::{
    State,
    distribution::{DistributionDocument, HostCounts, MemberDocument},
};

/// Most bars of hosts: of more hosts, those that run have them.
pub(super) const BARS_MAX: usize = 16;
/// Most columns of a host's name; of a longer one, the middle is left out.
const NAME_COLUMNS_MAX: usize = 20;
/// What the line of the totals is called.
const ALL: &str = "all hosts";

/// Bars on a terminal. Lines that are too long for it are cut.
pub(super) struct Bars {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    /// The lines below the bars.
    notes: [ProgressBar; 2],
}

/// A line with a bar.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: String,
    progress: u64,
    /// None: nobody knows yet.
    total: Option<u64>,
    text: String,
}

impl Bars {
    pub fn new() -> Self {
        let all = MultiProgress::new();
        let notes = [(); 2].map(|()| all.add(ProgressBar::no_length()));
        for note in &notes {
            note.set_style(ProgressStyle::with_template("{wide_msg}").expect("the template is well-formed"));
        }
        Self { all, bars: Vec::new(), notes }
    }

    /// Shows how far they are.
    pub fn show(&mut self, one: &DistributionDocument, members: &[MemberDocument]) {
        let lines = lines(one, members);
        for surplus in self.bars.drain(lines.len().min(self.bars.len())..) {
            self.all.remove(&surplus);
        }
        while self.bars.len() < lines.len() {
            let bar = self.all.insert_before(&self.notes[0], ProgressBar::no_length());
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {wide_msg}");
            bar.set_style(style.expect("the template is well-formed").progress_chars("=> "));
            self.bars.push(bar);
        }
        let columns = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        for (line, bar) in lines.into_iter().zip(&self.bars) {
            // One whose length nobody knows is empty.
            bar.set_length(line.total.unwrap_or(u64::MAX));
            bar.set_position(line.progress);
            bar.set_prefix(format!("{:<columns$}", line.name));
            bar.set_message(line.text);
        }
        self.notes[0].set_message(hosts(one));
        self.notes[1].set_message(bytes(one));
    }

    /// Leaves nothing of them.
    pub fn finish(self) {
        // It fails where the terminal has gone.
        let _ = self.all.clear();
    }
}

/// A line for each member, and the totals.
fn lines(one: &DistributionDocument, members: &[MemberDocument]) -> Vec<Line> {
    let hosts = members.iter().map(|member| Line {
        name: fitted(&member.host),
        progress: member.progress,
        total: member.bytes_total,
        text: standing(member),
    });
    let total = one.bytes_total.map(|bytes| bytes.saturating_mul(one.hosts.total));
    let share = output::share(one.state, one.progress, total);
    let text = format!("{share:>5}  {} of {} done", one.hosts.done, one.hosts.total);
    let totals = Line { name: ALL.into(), progress: one.progress, total, text };
    hosts.chain([totals]).collect()
}

/// A name as it is, or its ends: hosts of one place often begin alike.
fn fitted(name: &str) -> String {
    let columns = name.chars().count();
    if columns <= NAME_COLUMNS_MAX {
        return name.to_owned();
    }
    let (head, tail) = ((NAME_COLUMNS_MAX - 1) / 2, NAME_COLUMNS_MAX / 2);
    name.chars().take(head).chain(['…']).chain(name.chars().skip(columns - tail)).collect()
}

/// ` 62 %  running, 33.1 MiB/s`.
fn standing(member: &MemberDocument) -> String {
    let rate = member.throughput.filter(|_| member.state == State::Running);
    let rate = rate.map_or(String::new(), |rate| format!(", {}/s", output::approximate(rate)));
    let attempt = if member.attempts > 1 { format!(", attempt {}", member.attempts) } else { String::new() };
    let error = member.error.as_ref().map_or(String::new(), |error| format!(", {}", error.code));
    let share = output::share(member.state, member.progress, member.bytes_total);
    format!("{share:>5}  {}{rate}{attempt}{error}", word(member.state))
}

/// `4 running, 1 failed, 7 s left`.
fn hosts(one: &DistributionDocument) -> String {
    let HostCounts { failed, running, waiting, paused, canceled, .. } = one.hosts;
    let counts =
        [(running, "running"), (waiting, "waiting"), (paused, "paused"), (canceled, "canceled"), (failed, "failed")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    counts.chain(one.eta.map(|seconds| format!("{seconds} s left"))).collect::<Vec<_>>().join(", ")
}

/// `192.00 MiB from the source (1.00 times), 1.31 GiB between hosts`.
fn bytes(one: &DistributionDocument) -> String {
    let (source, between) = (one.bytes_from_source, one.bytes_between_peers);
    let times = one
        .bytes_total
        .filter(|total| *total > 0)
        .map_or(String::new(), |total| format!(" ({:.2} times)", source as f64 / total as f64));
    format!("{} from the source{times}, {} between hosts", output::approximate(source), output::approximate(between))
}

/// The words of the roll-up.
fn word(state: State) -> &'static str {
    match state {
        State::New | State::Ready => "waiting",
        State::Running => "running",
        State::Paused => "paused",
        State::Complete => "done",
        State::Canceling | State::Canceled => "canceled",
        State::Erroring | State::Error => "failed",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::distributions::{parse, parse_member};

    const MIB: u64 = 1 << 20;

    fn distribution(bytes_total: Option<u64>, hosts: Value) -> DistributionDocument {
        let document = json!({
            "id": "x", "owner": "o", "state": "STATE_RUNNING", "source_url": "zero:///1", "hosts": hosts,
            "bytes_total": bytes_total, "progress": 480 * MIB, "bytes_from_source": 105 * MIB,
            "bytes_between_peers": 380 * MIB, "eta": 7, "source_budget": 2.0, "preheat": false, "start_offset": 0,
            "end_offset": -1, "source_options": {}, "destination_options": {}, "overwrite": "never", "transport": "auto", "priority": 5,
            "retries": 5, "created_at": "2030-01-31T12:00:00Z",
        });
        parse(document).map_err(|failure| failure.message).unwrap()
    }

    fn member(host: &str, state: &str, progress: u64, bytes_total: Option<u64>, attempts: u64) -> MemberDocument {
        let document = json!({
            "host": host, "transfer": "t", "state": state, "destination_url": "null:///", "progress": progress,
            "bytes_total": bytes_total, "bytes_fetched": 0, "bytes_from_peers": 0, "attempts": attempts,
            "throughput": 32 * MIB,
        });
        parse_member(document).map_err(|failure| failure.message).unwrap()
    }

    fn counts(total: u64, done: u64, failed: u64, running: u64) -> Value {
        let waiting = total - done - failed - running;
        json!({"total": total, "done": done, "failed": failed, "running": running, "waiting": waiting, "paused": 0, "canceled": 0})
    }

    #[test]
    fn each_host_has_a_line_and_all_have_one_together() {
        let one = distribution(Some(100 * MIB), counts(8, 3, 1, 2));
        let whole = Some(100 * MIB);
        let members = [
            member("h1", "STATE_COMPLETE", 100 * MIB, whole, 1),
            member("h2", "STATE_RUNNING", 100 * MIB - 1, whole, 2),
            member("h3", "STATE_NEW", 0, None, 0),
        ];
        let told: Vec<_> = lines(&one, &members).into_iter().map(|line| (line.name, line.text)).collect();
        let expected = [
            ("h1", "100 %  done"),
            ("h2", " 99 %  running, 32.00 MiB/s, attempt 2"),
            ("h3", "    -  waiting"),
            ("all hosts", " 60 %  3 of 8 done"),
        ];
        assert_eq!(told, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(hosts(&one), "2 running, 2 waiting, 1 failed, 7 s left");
        assert_eq!(bytes(&one), "105.00 MiB from the source (1.05 times), 380.00 MiB between hosts");
        let unknown = distribution(None, counts(8, 0, 0, 0));
        assert_eq!(bytes(&unknown), "105.00 MiB from the source, 380.00 MiB between hosts");
    }

    #[test]
    fn of_a_long_name_both_ends_are_shown() {
        assert_eq!(fitted("compute-7.rack-9.abc"), "compute-7.rack-9.abc");
        assert_eq!(fitted("compute-17.datacenter-east.example"), "compute-1…st.example");
        assert_eq!(fitted(&"é".repeat(40)).chars().count(), NAME_COLUMNS_MAX);
    }

    #[test]
    fn what_is_said_fits_a_terminal_of_80_columns_and_24_lines() {
        let one = distribution(Some(100 * MIB), counts(1_000, 384, 3, 16));
        let name = |number: usize| format!("compute-{number:04}.rack-77.example");
        let running = |number| member(&name(number), "STATE_RUNNING", 62 * MIB, Some(100 * MIB), 1);
        let members: Vec<_> = (0..BARS_MAX).map(running).collect();
        let lines = lines(&one, &members);
        assert!(lines.len() + 2 < 24, "with the notes, and a prompt");
        let columns = |line: &Line| NAME_COLUMNS_MAX + " [".len() + 24 + "] ".len() + line.text.chars().count();
        for line in &lines {
            assert!(columns(line) <= 80, "{line:?}");
        }
        assert!([hosts(&one), bytes(&one)].iter().all(|note| note.chars().count() <= 80));
    }
}
