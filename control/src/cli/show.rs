//! `show`: everything about one transfer.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Common, Exit, Failure, output};
use crate::model::TransferDocument;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Id of the transfer
    id: String,
}

impl Show {
    /// Prints the transfer.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let document = common.client()?.get(&path(&self.id)).await?.body;
        if common.json {
            output::json(&document);
            return Ok(());
        }
        for (name, value) in output::facts(&parse(document)?) {
            output::line(format!("{name:<14} {value}"));
        }
        Ok(())
    }
}

/// The path of a transfer. Whatever was given as an id stays one segment.
pub(super) fn path(id: &str) -> String {
    format!("/v1/transfers/{}", utf8_percent_encode(id, NON_ALPHANUMERIC).to_string().replace("%2D", "-"))
}

/// Reads the document of a transfer.
pub(super) fn parse(document: Value) -> Result<TransferDocument, Failure> {
    serde_json::from_value(document)
        .map_err(|error| Failure::new(Exit::Service, format!("the service's answer is not understood: {error}")))
}
