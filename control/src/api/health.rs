//! `/healthz` and `/readyz`, for whoever watches over the service.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, openapi::Doors, problem::Refusal};
use crate::model::{ProblemCode, problem::ProblemDocument};

/// How the service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthDocument {
    /// `ok`, or `ready`.
    pub status: String,
}

/// Whether the process is alive. It looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, description = "It is alive", body = HealthDocument), Doors))]
pub async fn show_health() -> Json<HealthDocument> {
    Json(HealthDocument { status: "ok".into() })
}

/// Whether transfers can be submitted: the ledger answers and the service is not about to stop.
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "They can", body = HealthDocument),
        (status = 503, description = "Not now", body = ProblemDocument, content_type = "application/problem+json"),
        Doors,
    ),
)]
pub async fn show_readiness(State(api): State<Api>) -> Result<Json<HealthDocument>, Refusal> {
    if *api.stopping.borrow() {
        return Err(Refusal::new(ProblemCode::Unavailable, "the service is stopping"));
    }
    api.ledger
        .store()
        .get(b"ready")
        .await
        .map_err(|error| Refusal::new(ProblemCode::Unavailable, format!("{error}; restart the service")))?;
    Ok(Json(HealthDocument { status: "ready".into() }))
}
