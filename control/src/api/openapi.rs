//! `GET /openapi.json`: the interface, described by the code that serves it.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, Content, Info, OpenApi, Ref, RefOr,
        response::{Response as Described, ResponseBuilder},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{Api, problem::PROBLEM_JSON};
use crate::model::problem::ProblemDocument;

/// The OpenAPI document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service",
    responses((status = 200, description = "This document", body = Object), Doors),
)]
pub async fn show_openapi(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.openapi).into_response()
}

/// What stands before the routes.
pub(super) fn head() -> OpenApi {
    let mut info = Info::new("Staccato", env!("CARGO_PKG_VERSION"));
    info.description = Some("Moves big objects between storage systems. Problems are application/problem+json.".into());
    let mut document = OpenApi::new(info, utoipa::openapi::Paths::new());
    let schemas = [(ProblemDocument::name().into_owned(), ProblemDocument::schema())];
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token of the service's own"));
    let keystone = ApiKeyValue::with_description(
        "X-Auth-Token",
        "A token of Keystone's for a project, where the service has `auth = keystone`",
    );
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::Http(token.build()))
        .security_scheme("keystone", SecurityScheme::ApiKey(ApiKey::Header(keystone)));
    document.components = Some(components.build());
    // One of them; none where the operating system says who asks.
    let ways = [SecurityRequirement::default()]
        .into_iter()
        .chain(["token", "keystone"].map(|way| SecurityRequirement::new::<_, [&str; 0], _>(way, [])));
    document.security = Some(ways.collect());
    document
}

/// What any request may meet before it reaches its handler: see [`super::access`].
pub(super) struct Doors;

/// What a request about transfers may meet besides.
pub(super) struct Troubles;

impl IntoResponses for Doors {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        problems(&[
            ("401", "No token where one is needed, or one that is none, has expired or was revoked"),
            ("403", "A foreign Host, headers of a proxy, a peer that is not known, or more than the token allows"),
            ("413", "The body is too large"),
            ("415", "The body is not application/json"),
            ("431", "The header section is too large"),
        ])
    }
}

impl IntoResponses for Troubles {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        problems(&[("500", "A defect of the service"), ("503", "The ledger cannot answer now: try again")])
    }
}

fn problems(rows: &[(&str, &str)]) -> BTreeMap<String, RefOr<Described>> {
    let schema = Ref::from_schema_name(ProblemDocument::name());
    let describe = |(status, description): &(&str, &str)| {
        let content = Content::new(Some(RefOr::<utoipa::openapi::Schema>::Ref(schema.clone())));
        let response = ResponseBuilder::new().description(*description).content(PROBLEM_JSON, content).build();
        ((*status).to_owned(), RefOr::T(response))
    };
    rows.iter().map(describe).collect()
}
