//! `/v1/distributions` and `/v1/distributions/{id}`: one object for many hosts.

use axum::{
    Json,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use staccato_protocols::ObjectUrl;

use super::{
    Api,
    access::Caller,
    body::{self, Parsed},
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::{NoQuery, Query},
    transfers::{IDEMPOTENCY_REPLAYED, LIMIT_DEFAULT, Limit, idempotency_key, link_to_next},
};
use crate::{
    model::{
        HostName, Problem, ProblemCode, TransferId,
        distribution::{
            DistributionDocument, DistributionRequest, Target,
            request::{DistributionBody, of_hosts},
        },
        problem::ProblemDocument,
        token::TokenScope,
    },
    places::Places,
};

/// Sends one object to many hosts. What is wrong with the request, or with any of the hosts, refuses the whole; a host
/// whose destination another transfer is writing to becomes a member that has failed, and stops none of the others.
///
/// Acknowledged means on disk: its members are made at once, and if the service dies meanwhile, when it is back.
#[utoipa::path(
    post, path = "/v1/distributions", tag = "distributions", request_body = DistributionBody,
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "Any text of 1 to 255 visible ASCII characters. A second request with the same key and body \
                       gets the first one's distribution instead of making another",
    )),
    responses(
        (status = 201, description = "On disk", body = DistributionDocument, headers(
            ("Location", description = "Path of the distribution"),
            ("Idempotency-Replayed", description = "`true` where an earlier request had made it"),
        )),
        (status = 400, description = "Malformed, against policy, or for nobody", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 422, description = "The idempotency key came with another body before", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn create_distribution(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    request: Request,
) -> Result<Response, Refusal> {
    caller.may(TokenScope::Submit)?;
    let key = idempotency_key(request.headers())?;
    let Parsed { json, place: _place } = body::read_json(&api, request.into_body()).await?;
    let keyed = key.map(|key| api.ledger.distribution_key(&caller.owner, &key, &json));
    let replayed = match &keyed {
        Some(keyed) => api.ledger.replay_distribution(keyed).await?,
        None => None,
    };
    let distributed = match replayed {
        Some(distributed) => distributed,
        None => {
            let credentials = api.ledger.named_credentials(&json, &caller.owner).await?;
            let places = Places::new(&api.ledger, caller.at.clone()).with_credentials(credentials);
            let (now, random) = (api.ledger.now(), api.ledger.random());
            let wanted = DistributionRequest::from_json(&json, &places, now, random)?;
            let first = &wanted.first;
            caller.may_use(&api, "source_url", &first.source_url, first.source_place.host())?;
            may_write_to(&api, &caller, &wanted.targets)?;
            api.ledger.distribute(&wanted, &caller.owner, keyed).await?
        }
    };
    let location = format!("/v1/distributions/{}", distributed.document.id);
    let mut response = (StatusCode::CREATED, Json(distributed.document)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).expect("a path of visible characters"));
    if distributed.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Refuses a caller who may not use the roots in which these destinations lie.
pub(super) fn may_write_to(api: &Api, caller: &Caller, targets: &[Target]) -> Result<(), Problem> {
    let own_host = &api.ledger.config().own_host;
    let mut failed: Vec<(HostName, Problem)> = Vec::new();
    for target in targets {
        if let Err(problem) = caller.may_use(api, "destination_url", &target.url, Some(&target.host)) {
            let name = target.host.parse().unwrap_or_else(|_| own_host.clone());
            failed.push((name, problem));
        }
    }
    of_hosts(&failed, targets.len())
}

/// Lists the caller's own distributions, an admin's everybody's, in the order of their creation.
#[utoipa::path(
    get, path = "/v1/distributions", tag = "distributions",
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000,
            description = "Most distributions on this page; 1,000 when absent"),
        ("marker" = Option<String>, Query, description = "Id of a distribution: the page begins behind it"),
    ),
    responses(
        (status = 200, description = "A page of distributions", body = Vec<DistributionDocument>, headers(
            ("Link", description = "`<...>; rel=\"next\"` where there are more"),
        )),
        (status = 400, description = "A parameter is unknown or malformed", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn list_distributions(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref(), &["limit", "marker"])?;
    let limit = query.get::<Limit>("limit")?.unwrap_or(Limit(LIMIT_DEFAULT)).0;
    let marker = query.get::<TransferId>("marker")?;
    let (page, next) = api.ledger.distribution_documents(&caller.sees(), marker, limit);
    let mut response = Json(page).into_response();
    link_to_next(&mut response, "/v1/distributions", limit, next, "");
    Ok(response)
}

/// Shows a distribution: what its members come to together.
#[utoipa::path(
    get, path = "/v1/distributions/{id}", tag = "distributions", params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The distribution", body = DistributionDocument),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn show_distribution(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DistributionDocument>, Refusal> {
    Ok(Json(api.ledger.distribution_document(parse_id(id)?, &caller.sees())?))
}

/// Forgets a distribution and its members; those that run are canceled first. What is committed at a destination stays.
#[utoipa::path(
    delete, path = "/v1/distributions/{id}", tag = "distributions", params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 202, description = "Asked; gone once all its members are"),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn delete_distribution(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    caller.may(TokenScope::Submit)?;
    api.ledger.delete_distribution(parse_id(id)?, &caller.sees()).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The id in a path. What is no id names no distribution.
pub(super) fn parse_id(id: Result<Path<String>, PathRejection>) -> Result<TransferId, Refusal> {
    let text = id.map(|Path(text)| text).unwrap_or_default();
    no_id(&text)
}

pub(super) fn no_id(text: &str) -> Result<TransferId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new(ProblemCode::DistributionNotFound, format!("there is no distribution {text:?}")))
}

/// Refuses a caller who may not use what these members read and write any more: roots may have been bound to others
/// since they were made.
pub(super) fn may_go_on(
    api: &Api,
    caller: &Caller,
    ends: &[(&'static str, ObjectUrl, Option<String>)],
) -> Result<(), Problem> {
    ends.iter().try_for_each(|(field, url, host)| caller.may_use(api, field, url, host.as_deref()))
}
