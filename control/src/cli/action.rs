//! `cancel`, `pause`, `resume` and `delete`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{Common, Exit, Failure, distributions, output, show};
use crate::client::{Answer, Client, ClientError};

/// The transfer or distribution to act on.
#[derive(Debug, Args)]
pub struct Target {
    /// Id of the transfer, or of a distribution: then of all its members
    id: String,
}

impl Target {
    /// Takes an action and prints what came of it.
    pub async fn act(self, action: &str, common: &Common) -> Result<(), Failure> {
        let client = common.client()?;
        let body = json!({ "xferaction": action });
        let (path, answer) = self.ask(&client, Method::POST, "/action", Some(&body)).await?;
        let document = client.get(&path).await?.body;
        if common.json {
            output::json(&document);
            return Ok(());
        }
        let state = document["state"].as_str().ok_or_else(|| {
            Failure::new(Exit::Service, "the service's answer is not understood: it has no state".to_owned())
        })?;
        let whom = if path == show::path(&self.id) { "its executor" } else { "all its members" };
        let note = if answer.status == 202 { format!(" (asked of {whom})") } else { String::new() };
        output::line(format!("{} {state}{note}", self.id));
        Ok(())
    }

    /// Deletes it and prints whether it is gone.
    pub async fn delete(self, common: &Common) -> Result<(), Failure> {
        let (path, answer) = self.ask(&common.client()?, Method::DELETE, "", None).await?;
        let gone = answer.status == 204;
        if common.json {
            output::json(&json!({ "id": self.id, "gone": gone }));
        } else {
            let outcome = match gone {
                true => "deleted",
                false if path == show::path(&self.id) => "canceled; gone once its executor has released it",
                false => "gone once its members are",
            };
            output::line(format!("{} {outcome}", self.id));
        }
        Ok(())
    }

    /// Asks this of the transfer, or where there is none of the distribution with this id; its path, and the answer.
    async fn ask(
        &self,
        client: &Client,
        method: Method,
        what: &str,
        body: Option<&Value>,
    ) -> Result<(String, Answer), ClientError> {
        let transfer = show::path(&self.id);
        let missing = match client.request(method.clone(), &format!("{transfer}{what}"), body, &[]).await {
            Err(error) if is_missing(&error) => error,
            answer => return answer.map(|answer| (transfer, answer)),
        };
        let distribution = distributions::path(&self.id);
        match client.request(method, &format!("{distribution}{what}"), body, &[]).await {
            Err(error) if is_missing(&error) => Err(missing),
            answer => answer.map(|answer| (distribution, answer)),
        }
    }
}

fn is_missing(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(problem) if problem.status == 404)
}
