//! `/v1/tokens` and `/v1/tokens/{id}`: at the admin socket.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api,
    access::AtAdminSocket,
    body,
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::NoQuery,
};
use crate::model::{
    ProblemCode,
    problem::ProblemDocument,
    token::{TokenDocument, TokenScope},
};

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenBody {
    /// On whose behalf it acts: 1 to 64 letters, digits and . _ @ : + -
    pub owner: String,
    /// What it allows.
    pub scope: TokenScope,
    /// How long it lasts; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub expires_in_seconds: Option<u64>,
}

/// Makes a token. Its text is in this answer and nowhere else. At the admin socket only.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", request_body = TokenBody,
    responses(
        (status = 201, description = "Made, and on disk", body = TokenDocument),
        (status = 400, description = "Malformed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn create_token(
    State(api): State<Api>,
    _: AtAdminSocket,
    NoQuery: NoQuery,
    request: Request,
) -> Result<(StatusCode, Json<TokenDocument>), Refusal> {
    let body = parse(body::read_json(&api, request.into_body()).await?.json)?;
    let life = body.expires_in_seconds.map(Duration::from_secs);
    let (token, text) = api.ledger.create_token(&body.owner, body.scope, life).await?;
    Ok((StatusCode::CREATED, Json(TokenDocument { token: Some(text), ..token.document() })))
}

/// Lists all tokens, without their texts. At the admin socket only.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    responses(
        (status = 200, description = "All tokens, in the order of their making", body = Vec<TokenDocument>),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn list_tokens(
    State(api): State<Api>,
    _: AtAdminSocket,
    NoQuery: NoQuery,
) -> Result<Json<Vec<TokenDocument>>, Refusal> {
    Ok(Json(api.ledger.tokens().await?.iter().map(crate::model::token::Token::document).collect()))
}

/// Revokes a token. At the admin socket only.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "It is nothing any more"),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such token", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn revoke_token(
    State(api): State<Api>,
    _: AtAdminSocket,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    api.ledger.revoke_token(&id.map(|Path(text)| text).unwrap_or_default()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: Value) -> Result<TokenBody, Refusal> {
    const FIELDS: [&str; 3] = ["owner", "scope", "expires_in_seconds"];
    let mut fields = body::fields(body, &FIELDS)?;
    let (owner, scope) = (body::text(&mut fields, "owner")?, body::text(&mut fields, "scope")?);
    let scope = scope.parse().map_err(|why| Refusal::new(ProblemCode::InvalidField, why).at("scope"))?;
    let expires_in_seconds = body::seconds(&mut fields, "expires_in_seconds")?;
    Ok(TokenBody { owner, scope, expires_in_seconds })
}
