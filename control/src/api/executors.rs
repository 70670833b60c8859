//! `/v1/executors`: which there are, who may become one, and who is none any more.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    access::Caller,
    body,
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::NoQuery,
};
use crate::{
    ledger::Invitation,
    model::{HostName, Problem, ProblemCode, host::ExecutorDocument, problem::ProblemDocument, token::TokenScope},
};

/// Who is invited.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct InvitationBody {
    /// The host that may enrol.
    name: String,
    /// How long the invitation lasts, in seconds; an hour when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
}

/// Lists executors, the service's own first.
#[utoipa::path(
    get, path = "/v1/executors", tag = "executors",
    responses((status = 200, description = "All executors", body = Vec<ExecutorDocument>), Doors, Troubles),
)]
pub async fn list_executors(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
) -> Result<Json<Vec<ExecutorDocument>>, Refusal> {
    Ok(Json(api.ledger.executor_documents(caller.operator)))
}

/// Invites a host to enrol: `staccato executor --join` shows the token, once. For admins.
#[utoipa::path(
    post, path = "/v1/executors", tag = "executors", request_body = InvitationBody,
    responses(
        (status = 201, description = "The invitation; its token is shown this once", body = Invitation),
        (status = 400, description = "Malformed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The service does not listen with TLS: nobody could join", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn invite_executor(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    request: Request,
) -> Result<(StatusCode, Json<Invitation>), Refusal> {
    needs_admin(&caller)?;
    let body = body::read_json(&api, request.into_body()).await?;
    let mut fields = body::fields(body.json, &["name", "expires_in_seconds"])?;
    let name = body::text(&mut fields, "name")?;
    let name: HostName = name.parse().map_err(|why| Problem::invalid("name", why))?;
    let life = body::seconds(&mut fields, "expires_in_seconds")?.map(Duration::from_secs);
    Ok((StatusCode::CREATED, Json(api.ledger.invite(&name, life).await?)))
}

/// Forgets a host: what its executor shows from now on is refused. Its transfers wait until a host of that name enrols.
/// For admins.
#[utoipa::path(
    delete, path = "/v1/executors/{name}", tag = "executors",
    params(("name" = String, Path, description = "Its host")),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, description = "No such executor", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn forget_executor(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    needs_admin(&caller)?;
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    api.ledger.forget_host(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn needs_admin(caller: &Caller) -> Result<(), Refusal> {
    if caller.scope >= TokenScope::Admin {
        return Ok(());
    }
    let detail = "executors are invited and forgotten by admins only: run `staccato executors` on the service's host, as the \
                  user it runs as, or show an admin's token";
    Err(Refusal::new(ProblemCode::Forbidden, detail))
}
