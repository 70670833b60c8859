//! `wait`: until a transfer ends.

use std::time::{Duration, Instant};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Common, Exit, Failure, output, show};
use crate::{
    client::{Client, ClientError},
    model::{State, TransferDocument},
};

/// The first pause between two looks; it doubles while nothing changes.
const LOOK_FIRST: Duration = Duration::from_millis(50);
/// The longest pause between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How long a service that was there before may be away: it is probably being restarted.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Id of the transfer
    id: String,
    /// Give up after this time, for instance 90s or 2h (exit code 1); the transfer goes on
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl Wait {
    /// Waits, then prints the transfer.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = common.client()?;
        let following = follow(&client, &self.id, |_| ());
        let ended = match self.timeout {
            None => following.await?,
            Some(timeout) => tokio::time::timeout(timeout, following).await.map_err(|_| {
                let waited = humantime::format_duration(timeout);
                Failure::new(Exit::Failed, format!("transfer {} has not ended within {waited}", self.id))
            })??,
        };
        report(&ended, common.json);
        verdict(&ended)
    }
}

/// Prints a transfer that has ended.
pub(super) fn report(ended: &TransferDocument, json: bool) {
    if json {
        output::json(&serde_json::to_value(ended).unwrap_or(Value::Null));
    } else {
        output::line(output::row(ended));
    }
}

/// What can be followed until it has ended.
pub(super) trait Followed: DeserializeOwned + PartialEq {
    /// Whether it has.
    fn is_ended(&self) -> bool;
}

impl Followed for TransferDocument {
    fn is_ended(&self) -> bool {
        self.state.is_ended()
    }
}

/// Looks at a transfer until it has ended, and shows `seen` every look. A paused one is waited for. Rides out restarts
/// of the service.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    mut seen: impl FnMut(&TransferDocument),
) -> Result<TransferDocument, Failure> {
    follow_path(client, &show::path(id), async |transfer: &TransferDocument| seen(transfer)).await
}

/// The same of whatever is at this path.
pub(super) async fn follow_path<T: Followed>(
    client: &Client,
    path: &str,
    mut seen: impl AsyncFnMut(&T),
) -> Result<T, Failure> {
    let mut last: Option<T> = None;
    let mut heard = Instant::now();
    let mut pause = LOOK_FIRST;
    loop {
        match client.get(path).await {
            Ok(answer) => {
                let found: T = serde_json::from_value(answer.body).map_err(|error| {
                    Failure::new(Exit::Service, format!("the service's answer is not understood: {error}"))
                })?;
                seen(&found).await;
                if found.is_ended() {
                    return Ok(found);
                }
                heard = Instant::now();
                pause = if last.as_ref() == Some(&found) { (pause * 2).min(LOOK_MAX) } else { LOOK_FIRST };
                last = Some(found);
            }
            Err(error) => {
                let may_pass = match &error {
                    ClientError::Unreachable { .. } => true,
                    ClientError::Refused(problem) => problem.status == 503,
                    ClientError::NotUnderstood { .. } | ClientError::Unusable(_) => false,
                };
                if !may_pass || last.is_none() || heard.elapsed() > AWAY_MAX {
                    return Err(error.into());
                }
                pause = LOOK_MAX;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// How a command ends that waited for this transfer.
pub(super) fn verdict(ended: &TransferDocument) -> Result<(), Failure> {
    let (code, message) = match (ended.state, &ended.error) {
        (State::Complete, _) => return Ok(()),
        (State::Error, Some(error)) => (Some(error.code.clone()), error.message.clone()),
        (State::Error, None) => (None, "the transfer failed".into()),
        _ => (Some("canceled".into()), format!("transfer {} was canceled", ended.id)),
    };
    Err(Failure { exit: Exit::Failed, code, message })
}
