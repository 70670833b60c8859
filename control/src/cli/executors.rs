//! `executors`: which there are, who may become one, and who is none any more.

use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::{
    Common, Exit, Failure, output,
    token::{At, parse},
};
use crate::{
    ledger::Invitation,
    model::{
        HostName,
        host::{ExecutorDocument, LinkDocument, RefusalsDocument},
    },
};

/// Arguments of `executors`: without a command, lists them.
#[derive(Debug, Args)]
pub struct Executors {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List executors: who is up, what they run, where they are reached
    List,
    /// Invite a host, and print the invitation: `staccato executor --join` on that host shows it, once. Run it on the
    /// service's host, as the user that the service runs as
    Invite(Invite),
    /// Forget a host: what its executor shows from now on is refused
    Forget(Forget),
}

#[derive(Debug, Args)]
struct Invite {
    /// What the host is called in URLs: file://NAME/path
    name: HostName,
    /// How long the invitation lasts
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    expires: Duration,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
struct Forget {
    /// The host
    name: HostName,
    #[command(flatten)]
    at: At,
}

impl Executors {
    /// Does it.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        match self.command {
            None | Some(Command::List) => list(common).await,
            Some(Command::Invite(invite)) => invite.run(common).await,
            Some(Command::Forget(forget)) => {
                let path = format!("/v1/executors/{}", forget.name);
                forget.at.client()?.request(Method::DELETE, &path, None, &[]).await?;
                Ok(())
            }
        }
    }
}

async fn list(common: &Common) -> Result<(), Failure> {
    let answer = common.client()?.get("/v1/executors").await?;
    if common.json {
        output::json(&answer.body);
        return Ok(());
    }
    let executors: Vec<ExecutorDocument> = parse(answer.body)?;
    output::line(row("HOST", "HEALTH", "RUNNING", "LANES", "VERSION", "ADDRESS", "ROOTS"));
    for one in executors {
        let running = format!("{}/{}", one.running, one.slots);
        let address = one.address.as_deref().unwrap_or("-");
        let roots = if one.roots.is_empty() { "-".to_owned() } else { one.roots.join(" ") };
        output::line(row(&one.name, &one.health, &running, &one.lanes.to_string(), &one.version, address, &roots));
        if let Some(line) = place_line(&one) {
            output::line(line);
        }
        one.links.iter().for_each(|link| output::line(link_line(link)));
        if let Some(line) = one.refusals.and_then(refusals_line) {
            output::line(line);
        }
    }
    Ok(())
}

/// `  in rack r7, gpu=a100`. Nothing where nothing was said of a host.
fn place_line(one: &ExecutorDocument) -> Option<String> {
    let rack = one.rack.iter().map(|rack| format!("in rack {rack}"));
    let labels = one.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let said: Vec<String> = rack.chain(labels).collect();
    (!said.is_empty()).then(|| format!("  {}", said.join(", ")))
}

/// `  reads from h1 over quic: delay 50.3 ms, loss 1.02 %, quic 95.0 MB/s; being measured; tcp is to be tried`.
fn link_line(link: &LinkDocument) -> String {
    let goodput = |kind: &str, bytes: Option<u64>| bytes.map(|bytes| format!("{kind} {:.1} MB/s", bytes as f64 / 1e6));
    let figures: Vec<String> = [
        link.delay_ms.map(|delay| format!("delay {delay:.1} ms")),
        link.loss_percent.map(|loss| format!("loss {loss:.2} %")),
        goodput("tcp", link.tcp_goodput),
        goodput("quic", link.quic_goodput),
    ]
    .into_iter()
    .flatten()
    .collect();
    let over = link.transport.as_ref().map(|transport| format!(" over {transport}")).unwrap_or_default();
    let why = link.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
    format!("  reads from {}{over}: {}{why}", link.host, figures.join(", "))
}

/// Nothing where nobody was turned away.
fn refusals_line(refusals: RefusalsDocument) -> Option<String> {
    let RefusalsDocument { not_allowed, too_many } = refusals;
    let parts = [(not_allowed, "without a valid certificate or ticket"), (too_many, "beyond the most that it takes")];
    let told: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| format!("  has turned away {}", told.join(", ")))
}

impl Invite {
    async fn run(self, common: &Common) -> Result<(), Failure> {
        let body = json!({"name": self.name, "expires_in_seconds": self.expires.as_secs()});
        let answer = self.at.client()?.post("/v1/executors", &body).await?;
        if common.json {
            output::json(&answer.body);
            return Ok(());
        }
        let made: Invitation = serde_json::from_value(answer.body)
            .map_err(|error| Failure::new(Exit::Service, format!("the service's answer is not understood: {error}")))?;
        output::line(made.token);
        eprintln!("invitation for {}, good once, until {}; it is not shown again", made.name, made.expires_at);
        Ok(())
    }
}

fn row(host: &str, health: &str, running: &str, lanes: &str, version: &str, address: &str, roots: &str) -> String {
    format!("{host:<16}  {health:<6}  {running:>7}  {lanes:>5}  {version:<8}  {address:<21}  {roots}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_link_is_one_line_with_units() {
        let link = LinkDocument {
            host: "far".into(),
            transport: Some("quic".into()),
            reason: Some("measured: tcp 8 MB/s, quic 95 MB/s".into()),
            tcp_goodput: Some(8_040_000),
            quic_goodput: Some(95_000_000),
            delay_ms: Some(50.27),
            loss_percent: Some(1.024),
        };
        assert_eq!(
            link_line(&link),
            "  reads from far over quic: delay 50.3 ms, loss 1.02 %, tcp 8.0 MB/s, quic 95.0 MB/s; measured: tcp 8 MB/s, \
             quic 95 MB/s"
        );
        let (transport, reason, tcp_goodput, quic_goodput, loss_percent) = (None, None, None, None, None);
        let named = LinkDocument { transport, reason, tcp_goodput, quic_goodput, loss_percent, ..link };
        assert_eq!(link_line(&named), "  reads from far: delay 50.3 ms");
    }

    #[test]
    fn only_those_who_were_turned_away_are_told_of() {
        let line = |not_allowed, too_many| refusals_line(RefusalsDocument { not_allowed, too_many });
        assert_eq!(line(0, 0), None);
        assert_eq!(line(2, 0).unwrap(), "  has turned away 2 without a valid certificate or ticket");
        assert!(line(2, 5).unwrap().ends_with(", 5 beyond the most that it takes"));
    }
}
