//! `list`: your transfers, page by page.

use clap::Args;
use http::{HeaderMap, header};
use serde_json::Value;

use super::{Common, Exit, Failure, output, show};
use crate::model::State;

/// Transfers that are asked for at a time.
const PAGE: usize = 1_000;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only transfers in this state, for instance STATE_RUNNING (or running)
    #[arg(long, value_parser = parse_state)]
    state: Option<State>,
    /// Most transfers to list; all unless given
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only transfers that were submitted after this one
    #[arg(long, value_name = "ID")]
    marker: Option<String>,
}

impl List {
    /// Prints the transfers as the pages come in; with `--json` one array.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = common.client()?;
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut next = Some(self.first_page(left));
        let mut all = Vec::new();
        if !common.json && left > 0 {
            output::line(output::row_head());
        }
        while let Some(path) = next.take().filter(|_| left > 0) {
            let answer = client.get(&path).await?;
            next = next_page(&answer.headers);
            let Value::Array(mut page) = answer.body else {
                return Err(Failure::new(Exit::Service, "the service's answer is no list"));
            };
            page.truncate(left);
            left -= page.len();
            if common.json {
                all.append(&mut page);
            } else {
                for document in page {
                    output::line(output::row(&show::parse(document)?));
                }
            }
        }
        if common.json {
            output::json(&Value::Array(all));
        }
        Ok(())
    }

    fn first_page(&self, left: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &left.clamp(1, PAGE).to_string());
        if let Some(marker) = &self.marker {
            query.append_pair("marker", marker);
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        format!("/v1/transfers?{}", query.finish())
    }
}

/// The target of the link to the next page.
pub(super) fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    relation.contains("rel=\"next\"").then(|| target.to_owned())
}

/// A state as it is written, in full or in short.
pub(super) fn parse_state(text: &str) -> Result<State, String> {
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("STATE_") { name } else { format!("STATE_{name}") };
    name.parse()
}
