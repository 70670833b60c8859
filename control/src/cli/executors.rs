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
        host::{ExecutorDocument, LinkDocument},
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
        for LinkDocument { host, transport, reason, .. } in &one.links {
            output::line(format!("  reads from {host} over {transport}: {reason}"));
        }
    }
    Ok(())
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
