//! `distributions`: which there are, and everything about one.

use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    Common, Exit, Failure,
    list::{next_page, parse_state},
    output,
};
use crate::{
    client::Client,
    config::display_size,
    model::{
        State,
        distribution::{DistributionDocument, MemberDocument, Selector},
    },
};

/// What is asked for at a time.
const PAGE: usize = 1_000;

/// Arguments of `distributions`: without an id, lists them.
#[derive(Debug, Args)]
pub struct Distributions {
    /// Id of the distribution to show, with a line for each host
    id: Option<String>,
    /// Only hosts in this state, for instance STATE_ERROR (or error)
    #[arg(long, value_parser = parse_state, requires = "id")]
    state: Option<State>,
    /// Add these hosts (as --hosts of `staccato distribute`)
    #[arg(long, value_name = "SELECTOR", requires = "id")]
    add: Option<Selector>,
    /// Remove this host: its transfer is deleted, what is committed there stays
    #[arg(long, value_name = "HOST", requires = "id")]
    remove: Option<String>,
}

impl Distributions {
    /// Does it, and prints what there is then.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = common.client()?;
        let Some(id) = &self.id else { return list(&client, common.json).await };
        let path = path(id);
        if let Some(selector) = &self.add {
            let hosts =
                serde_json::to_value(selector).map_err(|error| Failure::new(Exit::Usage, format!("--add: {error}")))?;
            client.post(&format!("{path}/hosts"), &json!({ "hosts": hosts })).await?;
        }
        if let Some(host) = &self.remove {
            let host = utf8_percent_encode(host, NON_ALPHANUMERIC);
            client.request(Method::DELETE, &format!("{path}/hosts/{host}"), None, &[]).await?;
        }
        self.show(&client, &path, common.json).await
    }

    async fn show(&self, client: &Client, path: &str, json: bool) -> Result<(), Failure> {
        let mut document = client.get(path).await?.body;
        let state = self.state.map_or(String::new(), |state| format!("&state={state}"));
        let members = all(client, format!("{path}/members?limit={PAGE}{state}")).await?;
        if json {
            document["members"] = Value::Array(members);
            output::json(&document);
            return Ok(());
        }
        for (name, value) in facts(&parse(document)?) {
            output::line(format!("{name:<14} {value}"));
        }
        for member in members {
            output::line(member_row(&parse_member(member)?));
        }
        Ok(())
    }
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let found = all(client, format!("/v1/distributions?limit={PAGE}")).await?;
    if json {
        output::json(&Value::Array(found));
        return Ok(());
    }
    output::line(format!("{:<36}  {:<16} {:>11} {:>6}  SOURCE -> DESTINATION", "ID", "STATE", "DONE", "FAILED"));
    for document in found {
        output::line(row(&parse(document)?));
    }
    Ok(())
}

/// All pages of a list.
async fn all(client: &Client, first: String) -> Result<Vec<Value>, Failure> {
    let (mut next, mut all) = (Some(first), Vec::new());
    while let Some(path) = next {
        let answer = client.get(&path).await?;
        next = next_page(&answer.headers);
        let Value::Array(mut page) = answer.body else {
            return Err(Failure::new(Exit::Service, "the service's answer is no list"));
        };
        all.append(&mut page);
    }
    Ok(all)
}

/// The path of a distribution. Whatever was given as an id stays one segment.
pub(super) fn path(id: &str) -> String {
    format!("/v1/distributions/{}", utf8_percent_encode(id, NON_ALPHANUMERIC).to_string().replace("%2D", "-"))
}

/// Reads the document of a distribution.
pub(super) fn parse(document: Value) -> Result<DistributionDocument, Failure> {
    serde_json::from_value(document).map_err(not_understood)
}

/// Reads the document of a member.
pub(super) fn parse_member(document: Value) -> Result<MemberDocument, Failure> {
    serde_json::from_value(document).map_err(not_understood)
}

fn not_understood(error: serde_json::Error) -> Failure {
    Failure::new(Exit::Service, format!("the service's answer is not understood: {error}"))
}

/// A distribution on one line.
pub(super) fn row(one: &DistributionDocument) -> String {
    format!(
        "{}  {:<16} {:>11} {:>6}  {} -> {}",
        one.id,
        one.state,
        format!("{}/{}", one.hosts.done, one.hosts.total),
        one.hosts.failed,
        one.source_url,
        one.destination_url.as_deref().unwrap_or("a list"),
    )
}

/// A member on one line.
pub(super) fn member_row(member: &MemberDocument) -> String {
    let done = output::share(member.state, member.progress, member.bytes_total);
    let error = member.error.as_ref().map_or(String::new(), |error| format!("  {}: {}", error.code, error.message));
    format!("{:<24} {}  {:<16} {done:>9}{error}", member.host, member.transfer, member.state)
}

/// Everything about a distribution, one fact on a line.
fn facts(one: &DistributionDocument) -> Vec<(&'static str, String)> {
    let hosts = one.hosts;
    let mut facts = vec![
        ("id", one.id.clone()),
        ("state", one.state.to_string()),
        ("source", one.source_url.clone()),
        ("destination", one.destination_url.clone().unwrap_or_else(|| "a list".into())),
        ("owner", one.owner.clone()),
        (
            "hosts",
            format!(
                "{} ({} done, {} failed, {} running, {} waiting, {} paused, {} canceled)",
                hosts.total, hosts.done, hosts.failed, hosts.running, hosts.waiting, hosts.paused, hosts.canceled
            ),
        ),
        ("progress", output::approximate(one.progress)),
        ("from source", output::approximate(one.bytes_from_source)),
        ("between peers", output::approximate(one.bytes_between_peers)),
    ];
    let mut maybe = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    maybe("name", one.name.clone());
    maybe("object", one.bytes_total.map(output::approximate));
    maybe("throughput", one.throughput.map(|rate| format!("{}/s", output::approximate(rate))));
    maybe("eta", one.eta.map(|seconds| format!("{seconds} s")));
    maybe("slowest", one.slowest.as_ref().map(|slowest| slowest.host.clone()));
    maybe("source budget", Some(format!("{:.1} times", one.source_budget)));
    maybe("max failures", one.max_failures.map(|max| max.to_string()));
    maybe("upload limit", one.upload_limit.map(|limit| format!("{}/s", display_size(limit))));
    maybe("rack's upload limit", one.rack_upload_limit.map(|limit| format!("{}/s", display_size(limit))));
    maybe("deadline", one.deadline.clone());
    maybe("preheat", one.preheat.then(|| "yes".into()));
    maybe("priority", Some(one.priority.to_string()));
    maybe("rate limit", one.rate_limit.map(|rate| format!("{}/s", display_size(rate))));
    maybe("created", Some(one.created_at.clone()));
    maybe("finished", one.finished_at.clone());
    maybe("error", one.error.as_ref().map(|error| format!("{}: {}", error.code, error.message)));
    facts
}
