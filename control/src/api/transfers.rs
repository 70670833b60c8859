//! `/v1/transfers` and `/v1/transfers/{id}`.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api,
    access::Caller,
    body::{self, Parsed},
    openapi::{Doors, Troubles},
    problem::Refusal,
    query::{NoQuery, Query},
};
use crate::{
    ledger::{CREATE_MAX, LedgerError, ListQuery},
    model::{
        Answer, CreateRequest, Problem, ProblemCode, State as TransferState, TransferDocument, TransferId,
        problem::ProblemDocument, request::TransferBody, token::TokenScope,
    },
    places::Places,
};

/// Transfers on a page unless told.
pub const LIMIT_DEFAULT: usize = 1_000;
/// Most transfers on a page.
pub const LIMIT_MAX: usize = 10_000;
/// Most transfers in one submission. Their bytes are bounded like any body's: [`body::BODY_BYTES_MAX`].
pub const SUBMISSION_ITEMS_MAX: usize = 1_000;
const _: () = assert!(SUBMISSION_ITEMS_MAX <= CREATE_MAX);
/// Items that are read, or answered, before other requests have their turn.
const ITEMS_PER_TURN: usize = 64;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// One transfer, or several.
#[derive(ToSchema)]
#[schema(as = Submission)]
#[allow(dead_code, reason = "describes the body; it is read field by field, so that problems name what is wrong")]
#[serde(untagged)]
pub enum SubmissionBody {
    /// One transfer.
    One(Box<TransferBody>),
    /// 1 to 1,000 transfers.
    Several(Vec<TransferBody>),
}

/// What became of one transfer of several: either `transfer` or `problem`.
#[derive(Serialize, ToSchema)]
#[schema(as = SubmissionResult)]
pub struct SubmissionResult {
    /// The status that it would have had by itself.
    status: u16,
    /// The transfer; with status 201.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer: Option<TransferDocument>,
    /// `true` where an earlier request with the same idempotency key had made it.
    #[serde(skip_serializing_if = "is_false")]
    replayed: bool,
    /// What is wrong with it; with any other status.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemDocument>,
}

/// Submits a transfer, or an array of them. Syntax and policy are checked here, storage is not: what is wrong with an
/// object shows as `STATE_ERROR` later.
///
/// An array is answered with an array (207): a result for each transfer, in order. One that is refused stops none of
/// the others. Two that write to the same destination conflict: the first has it. An idempotency key counts for each
/// transfer at its place: the same array sent again makes those that are missing and answers with those that are there.
#[utoipa::path(
    post, path = "/v1/transfers", tag = "transfers", request_body = SubmissionBody,
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "Any text of 1 to 255 visible ASCII characters. A second request with the same key and body \
                       gets the first one's transfer instead of making another",
    )),
    responses(
        (status = 201, description = "On disk, and queued", body = TransferDocument, headers(
            ("Location", description = "Path of the transfer"),
            ("Idempotency-Replayed", description = "`true` where an earlier request had made it"),
        )),
        (status = 207, description = "What became of each transfer of an array; what was accepted is on disk, and queued",
            body = Vec<SubmissionResult>),
        (status = 400, description = "Malformed, or against policy", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 409, description = "A live transfer writes to this destination", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 422, description = "The idempotency key came with another body before", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn create_transfer(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    request: Request,
) -> Result<Response, Refusal> {
    caller.may(TokenScope::Submit)?;
    let key = idempotency_key(request.headers())?;
    let Parsed { json, place: _place } = body::read_json(&api, request.into_body()).await?;
    if let Value::Array(items) = json {
        return create_several(&api, &caller, key.as_deref(), items).await;
    }
    let transfer = accept(&api, &caller, &json).await?;
    let created = api.ledger.create(&transfer, &caller.owner, key.as_deref()).await?;

    let location = format!("/v1/transfers/{}", created.document.id);
    let mut response = (StatusCode::CREATED, Json(created.document)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).expect("a path of visible characters"));
    if created.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A transfer that may be created, by this caller.
async fn accept(api: &Api, caller: &Caller, json: &Value) -> Result<CreateRequest, LedgerError> {
    let credentials = api.ledger.named_credentials(json, &caller.owner).await?;
    let places = Places::new(&api.ledger, caller.at.clone()).with_credentials(credentials);
    let request = CreateRequest::from_json(json, &places)?;
    caller.may_use(api, "source_url", &request.source_url, request.source_place.host())?;
    caller.may_use(api, "destination_url", &request.destination_url, request.destination_place.host())?;
    Ok(request)
}

async fn create_several(api: &Api, caller: &Caller, key: Option<&str>, items: Vec<Value>) -> Result<Response, Refusal> {
    if items.is_empty() || items.len() > SUBMISSION_ITEMS_MAX {
        let detail = format!("the array has {} transfers; send 1 to {SUBMISSION_ITEMS_MAX}", items.len());
        return Err(Refusal::new(ProblemCode::InvalidField, detail));
    }
    let mut requests = Vec::with_capacity(items.len());
    let mut refused: Vec<Option<Problem>> = Vec::with_capacity(items.len());
    for (number, item) in items.into_iter().enumerate() {
        match accept(api, caller, &item).await {
            Ok(request) => {
                requests.push((number, request));
                refused.push(None);
            }
            Err(error @ LedgerError::Store(_)) => return Err(error.into()),
            Err(error) => refused.push(Some(Refusal::from(error).0)),
        }
        if number % ITEMS_PER_TURN == ITEMS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    let mut created = api.ledger.create_each(&requests, &caller.owner, key).await.into_iter();
    let mut body = vec![b'['];
    for (number, refused) in refused.into_iter().enumerate() {
        let result = match refused {
            Some(problem) => SubmissionResult::refused(&problem),
            None => match created.next().expect("each request has a result") {
                Ok(created) => SubmissionResult {
                    status: StatusCode::CREATED.as_u16(),
                    transfer: Some(created.document),
                    replayed: created.replayed,
                    problem: None,
                },
                // They are committed together: none of them is known to be there.
                Err(error @ LedgerError::Store(_)) => return Err(error.into()),
                Err(error) => SubmissionResult::refused(&Refusal::from(error).0),
            },
        };
        if number > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, &result).expect("a result is strings and numbers");
        if number % ITEMS_PER_TURN == ITEMS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    body.push(b']');
    Ok((StatusCode::MULTI_STATUS, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

impl SubmissionResult {
    fn refused(problem: &Problem) -> Self {
        Self { status: problem.status(), transfer: None, replayed: false, problem: Some(problem.document()) }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Lists the caller's own transfers, an admin's everybody's, in the order of their submission.
///
/// No transfer becomes visible before one with a smaller id: a client that goes on behind the last id it saw (`marker`)
/// misses none, as long as it asks for no `state`.
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers",
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000,
            description = "Most transfers on this page; 1,000 when absent"),
        ("marker" = Option<String>, Query, description = "Id of a transfer: the page begins behind it"),
        ("state" = Option<TransferState>, Query, description = "Only transfers in this state"),
        ("distribution" = Option<String>, Query, description = "Only members of this distribution"),
    ),
    responses(
        (status = 200, description = "A page of transfers", body = Vec<TransferDocument>, headers(
            ("Link", description = "`<...>; rel=\"next\"` where there are more"),
        )),
        (status = 400, description = "A parameter is unknown or malformed", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such distribution, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn list_transfers(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref(), &["limit", "marker", "state", "distribution"])?;
    let limit = query.get::<Limit>("limit")?.unwrap_or(Limit(LIMIT_DEFAULT)).0;
    let state = query.get::<TransferState>("state")?;
    let marker = query.get::<TransferId>("marker")?;
    let distribution = query.get::<TransferId>("distribution")?;
    let page = api.ledger.list(&ListQuery { scope: caller.sees(), distribution, state, marker, limit }).await?;

    let mut response = Json(page.transfers).into_response();
    let state = state.map_or(String::new(), |state| format!("&state={state}"));
    let more = distribution.map_or(state.clone(), |distribution| format!("{state}&distribution={distribution}"));
    link_to_next(&mut response, "/v1/transfers", limit, page.next, &more);
    Ok(response)
}

/// Says where the next page is, if there is one; `more` are further query parameters.
pub(super) fn link_to_next(response: &mut Response, path: &str, limit: usize, next: Option<TransferId>, more: &str) {
    if let Some(next) = next {
        let link = format!("<{path}?limit={limit}&marker={next}{more}>; rel=\"next\"");
        let link = HeaderValue::from_str(&link).expect("numbers, ids and states are visible characters");
        response.headers_mut().insert(header::LINK, link);
    }
}

/// How many items a page may have: 1 to [`LIMIT_MAX`].
pub(super) struct Limit(pub usize);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.map(Self).ok_or_else(|| format!("a limit is a whole number from 1 to {LIMIT_MAX}"))
    }
}

/// Shows a transfer.
#[utoipa::path(
    get, path = "/v1/transfers/{id}", tag = "transfers", params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The transfer", body = TransferDocument),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such transfer, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn show_transfer(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TransferDocument>, Refusal> {
    Ok(Json(api.ledger.get(parse_id(id)?, &caller.sees()).await?))
}

/// Forgets a transfer; one that runs is canceled first. What is committed at a destination stays.
#[utoipa::path(
    delete, path = "/v1/transfers/{id}", tag = "transfers", params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 202, description = "Canceled; gone once its executor has released it"),
        (status = 204, description = "Gone"),
        (status = 400, description = "There are no query parameters here", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = 404, description = "No such transfer, or not the client's", body = ProblemDocument,
            content_type = "application/problem+json"),
        Doors, Troubles,
    ),
)]
pub async fn delete_transfer(
    State(api): State<Api>,
    caller: Caller,
    NoQuery: NoQuery,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    caller.may(TokenScope::Submit)?;
    Ok(status(api.ledger.delete(parse_id(id)?, &caller.sees()).await?))
}

/// The id in a path. What is no id names no transfer.
pub(super) fn parse_id(id: Result<Path<String>, PathRejection>) -> Result<TransferId, Refusal> {
    let text = id.map(|Path(text)| text).unwrap_or_default();
    text.parse().map_err(|_| Refusal::new(ProblemCode::TransferNotFound, format!("there is no transfer {text:?}")))
}

/// The status of an action that was taken.
pub(super) fn status(answer: Answer) -> StatusCode {
    match answer {
        Answer::Done => StatusCode::NO_CONTENT,
        Answer::Underway => StatusCode::ACCEPTED,
        Answer::Conflict => unreachable!("the ledger answers a conflict with a problem"),
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| {
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match (text, given.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => {
            let detail = format!("give one key of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
            Err(Refusal::new(ProblemCode::InvalidField, detail).at("Idempotency-Key"))
        }
    }
}
