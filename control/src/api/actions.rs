//! `/v1/transfers/{id}/action`: cancel, pause, resume.

use axum::extract::{Path, Request, State, rejection::PathRejection};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use staccato_protocols::ObjectUrl;
use utoipa::ToSchema;

use super::{
    Api,
    access::Caller,
    body,
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::NoQuery,
    transfers::{parse_id, status},
};
use crate::model::{ProblemCode, problem::ProblemDocument, token::TokenScope};

/// What to do with a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionBody {
    /// The action.
    pub xferaction: TransferAction,
}

/// What can be done with a transfer besides deleting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferAction {
    /// Stop for ever and remove what is unfinished.
    Cancel,
    /// Stop until resumed; what is durable stays.
    Pause,
    /// Go on where it stopped, or try again after it failed.
    Resume,
}

/// Cancels, pauses or resumes a transfer.
#[utoipa::path(
    post, path = "/v1/transfers/{id}/action", tag = "transfers", request_body = ActionBody,
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 202, description = "Asked of its executor; done once that has released the transfer"),
        (status = 204, description = "Done"),
        (status = 400, description = "Malformed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No such transfer, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 409, description = "Not possible in the transfer's state", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn act_on_transfer(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    caller.may(TokenScope::Submit)?;
    let id = parse_id(id)?;
    let body = body::read_json(&api, request.into_body()).await?;
    let action = parse(body.json)?;
    let scope = caller.sees();
    let answer = match action {
        TransferAction::Cancel => api.ledger.cancel(id, &scope).await?,
        TransferAction::Pause => api.ledger.pause(id, &scope).await?,
        TransferAction::Resume => {
            // Roots may have been bound to others since it was submitted.
            let record = api.ledger.visible(id, &scope).await?;
            let ends = [
                ("source_url", &record.source_url, record.source_at()),
                ("destination_url", &record.destination_url, record.destination_at()),
            ];
            for (field, url, host) in ends {
                // Only a URL with a query is shown otherwise than it is, and so perhaps too long: no file has one.
                if let Ok(url) = ObjectUrl::parse(url) {
                    caller.may_use(&api, field, &url, host)?;
                }
            }
            api.ledger.resume(id, &scope).await?
        }
    };
    Ok(status(answer))
}

pub(super) fn parse(body: Value) -> Result<TransferAction, Refusal> {
    const FIELD: &str = "xferaction";
    let mut fields = body::fields(body, &[FIELD])?;
    let value = fields
        .remove(FIELD)
        .ok_or_else(|| Refusal::new(ProblemCode::MissingField, format!("{FIELD} is required")).at(FIELD))?;
    serde_json::from_value(value.clone()).map_err(|_| {
        let detail = format!("{value} is no action; use \"cancel\", \"pause\" or \"resume\" (DELETE to delete)");
        Refusal::new(ProblemCode::InvalidField, detail).at(FIELD)
    })
}
