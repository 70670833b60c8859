//! `cancel`, `pause`, `resume` and `delete`.

use clap::Args;
use http::Method;
use serde_json::json;

use super::{Common, Failure, output, show};

/// The transfer to act on.
#[derive(Debug, Args)]
pub struct Target {
    /// Id of the transfer
    id: String,
}

impl Target {
    /// Takes an action and prints what came of it.
    pub async fn act(self, action: &str, common: &Common) -> Result<(), Failure> {
        let client = common.client()?;
        let path = show::path(&self.id);
        let answer = client.post(&format!("{path}/action"), &json!({ "xferaction": action })).await?;
        let document = client.get(&path).await?.body;
        if common.json {
            output::json(&document);
            return Ok(());
        }
        let state = show::parse(document)?.state;
        let note = if answer.status == 202 { " (asked of its executor)" } else { "" };
        output::line(format!("{} {state}{note}", self.id));
        Ok(())
    }

    /// Deletes the transfer and prints whether it is gone.
    pub async fn delete(self, common: &Common) -> Result<(), Failure> {
        let answer = common.client()?.request(Method::DELETE, &show::path(&self.id), None, &[]).await?;
        let gone = answer.status == 204;
        if common.json {
            output::json(&json!({ "id": self.id, "gone": gone }));
        } else {
            let outcome = if gone { "deleted" } else { "canceled; gone once its executor has released it" };
            output::line(format!("{} {outcome}", self.id));
        }
        Ok(())
    }
}
