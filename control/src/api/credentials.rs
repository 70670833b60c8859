//! `/v1/credentials` and `/v1/credentials/{name}`: an owner's own, and for admins everybody's.

use axum::{
    Json,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use staccato_protocols::Options;
use utoipa::ToSchema;

use super::{
    Api,
    access::Caller,
    body,
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::{NoQuery, Query},
};
use crate::{
    ledger::no_credential,
    model::{
        Problem, ProblemCode,
        credential::{CredentialDocument, CredentialName, Definition},
        problem::ProblemDocument,
        token::TokenScope,
    },
};

/// Whom `owner=` means when it is for everybody.
const EVERYBODY: &str = "*";

/// A credential to be set. The service reads it with [`Definition::from_json`], which names what is wrong with it.
#[derive(ToSchema, Serialize)]
pub struct CredentialBody {
    /// For which schemes it is; each of them must know every option.
    pub schemes: Vec<String>,
    /// Below which URLs it is: `SCHEME://HOST[:PORT]`, perhaps with a path. Needed for schemes whose secrets are sent to the
    /// server that a transfer's URL names (`http`, `https`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The options that it stands for, secret ones and others. None of their values is ever shown.
    pub options: Options,
}

/// Sets a credential: all of it, whatever it was before.
#[utoipa::path(
    put, path = "/v1/credentials/{name}", tag = "credentials", request_body = CredentialBody,
    params(
        ("name" = String, Path, description = "Its name: 1 to 64 letters, digits and . _ -"),
        ("owner" = Option<String>, Query, description = "Whose it is: the caller's when absent; for admins anybody's, and \
                                                         `*` for everybody's"),
    ),
    responses(
        (status = 200, description = "Replaced, and on disk", body = CredentialDocument),
        (status = 201, description = "Made, and on disk", body = CredentialDocument),
        (status = 400, description = "Malformed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn set_credential(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<CredentialDocument>), Refusal> {
    let owner = owner(&caller, TokenScope::Submit, query.as_deref())?;
    let name: CredentialName = text(name).parse().map_err(|why: String| Problem::invalid("name", why))?;
    let body = body::read_json(&api, request.into_body()).await?.json;
    let Value::Object(fields) = body else {
        return Err(Refusal::new(ProblemCode::InvalidField, "the body must be a JSON object"));
    };
    let definition = Definition::from_json(&fields)?;
    let (credential, made) = api.ledger.set_credential(owner.as_deref(), name, definition).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(credential.document())))
}

/// Lists the caller's own credentials and everybody's, wherever they are kept; for admins all. Never their values.
#[utoipa::path(
    get, path = "/v1/credentials", tag = "credentials",
    responses(
        (status = 200, description = "The credentials, in the order of their names", body = Vec<CredentialDocument>),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn list_credentials(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
) -> Result<Json<Vec<CredentialDocument>>, Refusal> {
    let seen = api.ledger.credentials(&caller.sees()).await?;
    Ok(Json(seen.iter().map(crate::model::credential::Credential::document).collect()))
}

/// Shows the credential that a request of the caller's would mean by this name. Never its values.
#[utoipa::path(
    get, path = "/v1/credentials/{name}", tag = "credentials",
    params(
        ("name" = String, Path, description = "Its name"),
        ("owner" = Option<String>, Query, description = "For admins: that of this owner in the store, or with `*` \
                                                         everybody's"),
    ),
    responses(
        (status = 200, description = "The credential", body = CredentialDocument),
        (status = 400, description = "It cannot be read, or a parameter is unknown", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such credential, or not for the caller", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn show_credential(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<CredentialDocument>, Refusal> {
    let name = text(name);
    let missing = || Refusal::from(no_credential(&name, ""));
    let parsed: CredentialName = name.parse().map_err(|_| missing())?;
    let found = match Query::parse(query.as_deref(), &["owner"])?.get::<String>("owner")? {
        None => api.ledger.find_credential(&parsed, &caller.owner).await?,
        Some(_) => {
            let owner = owner(&caller, TokenScope::Read, query.as_deref())?;
            api.ledger.stored_credential(owner.as_deref(), &parsed).await?
        }
    };
    match found.ok_or_else(missing)? {
        Ok(credential) => Ok(Json(credential.document())),
        Err(unusable) => Err(Problem::protocol("name", unusable.error).into()),
    }
}

/// Forgets a credential. Attempts that need it fail from then on.
#[utoipa::path(
    delete, path = "/v1/credentials/{name}", tag = "credentials",
    params(
        ("name" = String, Path, description = "Its name"),
        ("owner" = Option<String>, Query, description = "Whose it is, as when it was set"),
    ),
    responses(
        (status = 204, description = "Gone"),
        (status = 400, description = "A parameter is unknown", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "The store has no such credential of the owner's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn delete_credential(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let owner = owner(&caller, TokenScope::Submit, query.as_deref())?;
    api.ledger.delete_credential(owner.as_deref(), &text(name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose credential a request is about; none: everybody's. Those of others are for admins.
fn owner(caller: &Caller, needed: TokenScope, query: Option<&str>) -> Result<Option<String>, Refusal> {
    let asked = Query::parse(query, &["owner"])?.get::<String>("owner")?;
    caller.may(needed)?;
    let owner = asked.unwrap_or_else(|| caller.owner.clone());
    if owner != caller.owner && caller.scope < TokenScope::Admin {
        let detail = "credentials of others, and everybody's, are for admins: ask at the admin socket \
                      (--server unix:DATA_DIR/admin.sock), or show an admin's token";
        return Err(Refusal::new(ProblemCode::Forbidden, detail).at("owner"));
    }
    Ok(Some(owner).filter(|owner| owner != EVERYBODY))
}

fn text(name: Result<Path<String>, PathRejection>) -> String {
    name.map(|Path(text)| text).unwrap_or_default()
}
