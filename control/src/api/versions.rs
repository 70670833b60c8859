//! `GET /` and `GET /v1`: which versions of the interface there are.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, openapi::Doors};

/// Every version of the interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Versions {
    /// By name.
    pub versions: BTreeMap<String, Version>,
}

/// One version of the interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Its name in paths.
    pub id: String,
    /// Its number.
    pub version: String,
    /// `CURRENT`: use this one.
    pub status: String,
    /// Schemes on offer, in alphabetical order; `GET /v1/protocols` says what each can do.
    pub protocols: Vec<String>,
}

/// The versions of the interface.
#[utoipa::path(
    get, path = "/", tag = "service",
    responses((status = 300, description = "What there is to choose from", body = Versions), Doors),
)]
pub async fn list_versions(State(api): State<Api>) -> (StatusCode, Json<Versions>) {
    let versions = BTreeMap::from([("v1".to_owned(), v1(&api))]);
    (StatusCode::MULTIPLE_CHOICES, Json(Versions { versions }))
}

/// This version of the interface.
#[utoipa::path(get, path = "/v1", tag = "service", responses((status = 200, description = "This version", body = Version), Doors))]
pub async fn show_version(State(api): State<Api>) -> Json<Version> {
    Json(v1(&api))
}

fn v1(api: &Api) -> Version {
    Version {
        id: "v1".into(),
        version: "1.0".into(),
        status: "CURRENT".into(),
        protocols: api.ledger.registry().modules().map(|(scheme, _)| scheme.to_owned()).collect(),
    }
}
