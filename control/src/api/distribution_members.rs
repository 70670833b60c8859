//! `/v1/distributions/{id}/action`, `/members` and `/hosts`: what is asked of all members, and who they are.

use axum::{
    Json,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Api,
    access::Caller,
    actions::{self, ActionBody, TransferAction},
    body,
    distributions::{may_go_on, may_write_to, no_id, parse_id},
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::{NoQuery, Query},
    transfers::{LIMIT_DEFAULT, Limit, link_to_next, status},
};
use crate::{
    ledger::MembersQuery,
    model::{
        Action, State as TransferState, TransferId,
        distribution::{DistributionDocument, MemberDocument, request::further_targets, selector::SelectorBody},
        problem::ProblemDocument,
        request::Way,
        token::TokenScope,
    },
    places::Places,
};

/// Hosts to add: one of both, as when the distribution was made.
#[derive(Serialize, ToSchema)]
#[schema(as = FurtherHosts)]
pub struct HostsBody {
    /// Which hosts; where the distribution was made with `{host}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<SelectorBody>,
    /// A URL for each host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_urls: Option<Vec<String>>,
}

/// Cancels, pauses or resumes a distribution: what was asked is on disk, and done to one member after the other. Members
/// that cannot do it (any more) stay as they are.
#[utoipa::path(
    post, path = "/v1/distributions/{id}/action", tag = "distributions", request_body = ActionBody,
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 202, description = "Asked of all members"),
        (status = 204, description = "It is so already"),
        (status = 400, description = "Malformed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 409, description = "Not possible in the distribution's state", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn act_on_distribution(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    caller.may(TokenScope::Submit)?;
    let id = parse_id(id)?;
    let body = body::read_json(&api, request.into_body()).await?;
    let action = match actions::parse(body.json)? {
        TransferAction::Cancel => Action::Cancel,
        TransferAction::Pause => Action::Pause,
        TransferAction::Resume => Action::Resume,
    };
    let scope = caller.sees();
    if action == Action::Resume {
        may_go_on(&api, &caller, &api.ledger.ends_of_resumable(id, &scope).await?)?;
    }
    Ok(status(api.ledger.act_on_distribution(id, action, &scope).await?))
}

/// Lists the members of a distribution: a line for each host, in the order of their transfers' ids.
#[utoipa::path(
    get, path = "/v1/distributions/{id}/members", tag = "distributions",
    params(
        ("id" = String, Path, description = "Its id"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000,
            description = "Most members on this page; 1,000 when absent"),
        ("marker" = Option<String>, Query, description = "Id of a member's transfer: the page begins behind it"),
        ("state" = Option<TransferState>, Query, description = "Only members in this state"),
    ),
    responses(
        (status = 200, description = "A page of members", body = Vec<MemberDocument>, headers(
            ("Link", description = "`<...>; rel=\"next\"` where there are more"),
        )),
        (status = 400, description = "A parameter is unknown or malformed", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn list_members(
    State(api): State<Api>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let distribution = parse_id(id)?;
    let query = Query::parse(query.as_deref(), &["limit", "marker", "state"])?;
    let limit = query.get::<Limit>("limit")?.unwrap_or(Limit(LIMIT_DEFAULT)).0;
    let state = query.get::<TransferState>("state")?;
    let marker = query.get::<TransferId>("marker")?;
    let asked = MembersQuery { scope: caller.sees(), distribution, state, marker, limit };
    let page = api.ledger.distribution_members(&asked).await?;
    let mut response = Json(page.members).into_response();
    let more = state.map_or(String::new(), |state| format!("&state={state}"));
    link_to_next(&mut response, &format!("/v1/distributions/{distribution}/members"), limit, page.next, &more);
    Ok(response)
}

/// Adds hosts to a distribution that has not ended. Those that are members already stay what they are.
#[utoipa::path(
    post, path = "/v1/distributions/{id}/hosts", tag = "distributions", request_body = HostsBody,
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "On disk; the distribution with them", body = DistributionDocument),
        (status = 400, description = "Malformed, against policy, or for nobody", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 409, description = "The distribution has ended", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn add_hosts(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<DistributionDocument>, Refusal> {
    caller.may(TokenScope::Submit)?;
    let id = parse_id(id)?;
    let body = body::read_json(&api, request.into_body()).await?;
    let scope = caller.sees();
    let common = api.ledger.common_to_members(id, &scope).await?;
    let options = json!({ "destination_options": common.destination_options });
    let credentials = api.ledger.named_credentials(&options, &common.owner).await?;
    let places = Places::new(&api.ledger, caller.at.clone()).with_credentials(credentials);
    let way = Way {
        source_url: &common.source_url,
        source_place: &common.source_place,
        destination_options: &common.destination_options,
    };
    let template = common.template.as_deref();
    let targets = further_targets(&body.json, &places, way, template, api.ledger.random())?;
    caller.may_use(&api, "source_url", &common.source_url, common.source_place.host())?;
    may_write_to(&api, &caller, &targets)?;
    Ok(Json(api.ledger.add_to_distribution(id, &scope, targets).await?))
}

/// Removes a host from a distribution: its transfer is deleted, being canceled first where it runs, and counts no more.
/// What is committed there stays.
#[utoipa::path(
    delete, path = "/v1/distributions/{id}/hosts/{host}", tag = "distributions",
    params(("id" = String, Path, description = "Its id"), ("host" = String, Path, description = "The host's name")),
    responses(
        (status = 202, description = "Asked of its executor; its transfer is gone once released"),
        (status = 204, description = "Gone"),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or no such host in it", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn remove_host(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    caller.may(TokenScope::Submit)?;
    let (id, host) = path.map(|Path(both)| both).unwrap_or_default();
    let id: TransferId = no_id(&id)?;
    Ok(status(api.ledger.remove_from_distribution(id, &caller.sees(), &host).await?))
}
