//! Following a distribution until it ends: a bar for each host, folded when there are many, and the totals.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, stderr},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{
    Exit, Failure,
    distributions::{parse_member, path, row},
    output,
    wait::{Followed, follow_path},
};
use crate::{
    client::Client,
    model::{
        State,
        distribution::{DistributionDocument, HostCounts, MemberDocument},
    },
};

/// Most bars of hosts: of more hosts, those that run have them.
const BARS_MAX: usize = 16;

impl Followed for DistributionDocument {
    fn is_ended(&self) -> bool {
        self.state.is_ended()
    }
}

/// Follows a distribution until it ends, and prints how it ended; with `json`, every change on a line of its own.
pub async fn watch(client: &Client, id: &str, json: bool) -> Result<(), Failure> {
    let path = path(id);
    let mut view = View::new(json);
    let ended = follow_path(client, &path, async |one: &DistributionDocument| {
        let members = if view.has_bars() { members(client, &path, one.hosts.total).await } else { Vec::new() };
        view.show(one, &members);
    })
    .await;
    view.finish();
    let ended: DistributionDocument = ended?;
    if !json {
        output::line(row(&ended));
    }
    verdict(&ended)
}

/// The members that have a bar; what cannot be had has none.
async fn members(client: &Client, path: &str, total: u64) -> Vec<MemberDocument> {
    let state = if total > BARS_MAX as u64 { "&state=STATE_RUNNING" } else { "" };
    let Ok(answer) = client.get(&format!("{path}/members?limit={BARS_MAX}{state}")).await else { return Vec::new() };
    let Value::Array(page) = answer.body else { return Vec::new() };
    page.into_iter().filter_map(|member| parse_member(member).ok()).collect()
}

/// How a command ends that waited for this distribution.
fn verdict(ended: &DistributionDocument) -> Result<(), Failure> {
    let (code, message) = match (ended.state, &ended.error) {
        (State::Complete, _) => return Ok(()),
        (_, Some(error)) => (Some(error.code.clone()), error.message.clone()),
        (State::Error, None) => {
            let HostCounts { failed, total, .. } = ended.hosts;
            let message = format!(
                "{failed} of {total} hosts have failed; `staccato distributions {} --state error` says why",
                ended.id
            );
            (None, message)
        }
        _ => (Some("canceled".into()), format!("distribution {} was canceled", ended.id)),
    };
    Err(Failure { exit: Exit::Failed, code, message })
}

/// Shows a distribution on standard error as it changes: bars on a terminal, else one line for each change of its counts.
/// With `json`, the changes are the result: one document on a line of standard output for each.
enum View {
    Bars(Bars),
    Lines { last: Option<(State, HostCounts)> },
    Json { last: Option<Box<DistributionDocument>> },
}

struct Bars {
    all: MultiProgress,
    totals: ProgressBar,
    hosts: BTreeMap<String, ProgressBar>,
}

impl View {
    fn new(json: bool) -> Self {
        if json {
            return Self::Json { last: None };
        }
        if !stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        let all = MultiProgress::new();
        let totals = all.add(ProgressBar::no_length());
        totals.set_style(style("all hosts"));
        Self::Bars(Bars { all, totals, hosts: BTreeMap::new() })
    }

    fn has_bars(&self) -> bool {
        matches!(self, Self::Bars(_))
    }

    fn show(&mut self, one: &DistributionDocument, members: &[MemberDocument]) {
        match self {
            Self::Bars(bars) => bars.show(one, members),
            Self::Lines { .. } if one.state.is_ended() => (),
            Self::Lines { last } => {
                let now = (one.state, one.hosts);
                if last.replace(now) != Some(now) {
                    eprintln!("{}", row(one));
                }
            }
            Self::Json { last } => {
                if last.as_deref() != Some(one) {
                    output::line(serde_json::to_string(one).expect("a document is always JSON"));
                    *last = Some(Box::new(one.clone()));
                }
            }
        }
    }

    fn finish(self) {
        if let Self::Bars(bars) = self {
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn show(&mut self, one: &DistributionDocument, members: &[MemberDocument]) {
        self.hosts.retain(|host, bar| {
            let stays = members.iter().any(|member| member.host == *host);
            if !stays {
                self.all.remove(bar);
            }
            stays
        });
        for member in members {
            let bar = self.hosts.entry(member.host.clone()).or_insert_with(|| {
                let bar = self.all.insert_before(&self.totals, ProgressBar::no_length());
                bar.set_style(style(&member.host));
                bar
            });
            set(bar, member.bytes_total, member.progress);
            bar.set_message(message(member));
        }
        set(&self.totals, one.bytes_total.map(|bytes| bytes.saturating_mul(one.hosts.total)), one.progress);
        self.totals.set_message(totals(one));
    }
}

fn set(bar: &ProgressBar, total: Option<u64>, progress: u64) {
    if let Some(total) = total.filter(|total| bar.length() != Some(*total)) {
        bar.set_length(total);
    }
    bar.set_position(progress);
}

fn style(name: &str) -> ProgressStyle {
    // Names of hosts have no braces.
    let template = format!("{name:<20.20} {{bar:30}} {{binary_bytes}} of {{binary_total_bytes}} {{msg}}");
    ProgressStyle::with_template(&template).expect("the template is well-formed").progress_chars("=> ")
}

fn message(member: &MemberDocument) -> String {
    let rate = member.throughput.map_or(String::new(), |rate| format!(", {}/s", output::approximate(rate)));
    let error = member.error.as_ref().map_or(String::new(), |error| format!(", {}", error.code));
    format!("{}{rate}{error}", member.state)
}

/// `3 of 8 hosts done, 1 failed, 12 MiB from the source, 36 MiB between peers, 7 s left`.
fn totals(one: &DistributionDocument) -> String {
    let HostCounts { total, done, failed, .. } = one.hosts;
    let mut parts = vec![format!("{done} of {total} hosts done")];
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    parts.push(format!("{} from the source", output::approximate(one.bytes_from_source)));
    if one.bytes_between_peers > 0 {
        parts.push(format!("{} between peers", output::approximate(one.bytes_between_peers)));
    }
    parts.extend(one.eta.map(|seconds| format!("{seconds} s left")));
    parts.join(", ")
}
