//! One transfer through a service, from its submission to its end, as a process of its own.

use std::{collections::BTreeMap, io};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::client::Client;
use crate::{api, worker::from_argument};

/// Makes a transfer and waits for it.
#[derive(Clone, Debug, Args)]
pub struct Through {
    /// The wish, as JSON
    #[arg(value_parser = from_argument::<Wish>)]
    wish: Wish,
}

/// What shall be transferred.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Of whom it is asked.
    pub client: Client,
    /// From where.
    pub source: String,
    /// To where.
    pub destination: String,
    /// `auto`, `quic` or `tcp`.
    pub transport: String,
    /// Whether it takes the place of what is there.
    pub overwrite: bool,
    /// How long it may take; then it is canceled.
    pub seconds_max: f64,
}

/// What the service told of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThroughTold {
    /// From its submission to its end, by the service's clock.
    pub seconds: f64,
    /// Seconds in each stage.
    pub stages: BTreeMap<String, f64>,
}

impl Through {
    /// Does it.
    pub fn run(&self) -> io::Result<ThroughTold> {
        self.wish.fulfil()
    }
}

impl Wish {
    /// Submits it, waits for its end, and lets the service forget it. A failure is not tried again.
    pub fn fulfil(&self) -> io::Result<ThroughTold> {
        let mut submit = vec!["submit", &self.source, &self.destination, "--transport", &self.transport];
        submit.extend(["--retries", "0"]);
        submit.extend(self.overwrite.then_some("--overwrite"));
        let submitted = self.client.ask(&submit)?;
        let id = api::id(&submitted);
        let patience = format!("{}ms", (self.seconds_max * 1e3).ceil());
        let ended = self.client.ask(&["wait", id, "--timeout", &patience]);
        if ended.is_err() {
            // Where it has ended, there is nothing to cancel.
            let _ = self.client.ask(&["cancel", id]);
        }
        // The list of whoever runs the service shall not be full of these; that one stays there is no harm.
        let _ = self.client.ask(&["delete", id]);
        let ended = ended?;
        let seconds = api::between(&ended["created_at"], &ended["finished_at"]);
        let seconds = seconds.ok_or_else(|| io::Error::other(format!("no times in {ended}")))?;
        Ok(ThroughTold { seconds: seconds.max(1e-3), stages: api::stage_seconds(&ended).collect() })
    }
}
