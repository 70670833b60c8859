//! Following a distribution until it ends: as bars on a terminal, else as lines, or as documents.

use std::io::{IsTerminal as _, stderr};

use serde_json::Value;

use super::{
    Exit, Failure,
    distributions::{parse_member, path, row},
    group_bars::{BARS_MAX, Bars},
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

impl View {
    fn new(json: bool) -> Self {
        if json {
            return Self::Json { last: None };
        }
        if !stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        Self::Bars(Bars::new())
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
            bars.finish();
        }
    }
}
