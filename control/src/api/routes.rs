//! Every route, with the doors in front of it.
//!
//! A route is added by writing a handler with `#[utoipa::path]` and naming it in `documented`: it is then served and
//! stands in the OpenAPI document; neither is possible without the other.

use axum::{Router, extract::Request, middleware, response::IntoResponse};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, access, actions, credentials, distribution_members, distributions, executors, health, metrics, openapi,
    problem::Refusal, protocols, tokens, transfers, versions,
};
use crate::model::ProblemCode;

/// The whole interface. Requests must carry a [`Peer`](super::access::Peer) extension; without one, everything that
/// has an owner is refused.
pub fn router(mut api: Api) -> Router {
    let (router, document) = documented().split_for_parts();
    api.openapi = serde_json::to_vec(&document).expect("the document is strings and numbers").into();
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(access::guard))
        .layer(middleware::from_fn_with_state(api.clone(), metrics::observe))
        .with_state(api)
}

/// The routes, with their documentation.
pub(super) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(versions::list_versions))
        .routes(routes!(versions::show_version))
        .routes(routes!(protocols::list_protocols))
        .routes(routes!(transfers::create_transfer, transfers::list_transfers))
        .routes(routes!(transfers::show_transfer, transfers::delete_transfer))
        .routes(routes!(actions::act_on_transfer))
        .routes(routes!(distributions::create_distribution, distributions::list_distributions))
        .routes(routes!(distributions::show_distribution, distributions::delete_distribution))
        .routes(routes!(distribution_members::act_on_distribution))
        .routes(routes!(distribution_members::list_members))
        .routes(routes!(distribution_members::add_hosts))
        .routes(routes!(distribution_members::remove_host))
        .routes(routes!(tokens::create_token, tokens::list_tokens))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(credentials::list_credentials))
        .routes(routes!(credentials::show_credential, credentials::set_credential, credentials::delete_credential))
        .routes(routes!(executors::list_executors, executors::invite_executor))
        .routes(routes!(executors::forget_executor))
        .routes(routes!(health::show_health))
        .routes(routes!(health::show_readiness))
        .routes(routes!(metrics::show_metrics))
        .routes(routes!(openapi::show_openapi))
}

async fn no_route(request: Request) -> impl IntoResponse {
    let detail = format!("there is nothing at {}; GET /openapi.json lists what there is", request.uri().path());
    Refusal::new(ProblemCode::RouteNotFound, detail)
}

async fn no_method(request: Request) -> impl IntoResponse {
    let detail = format!("{} cannot be asked with {}", request.uri().path(), request.method());
    Refusal::new(ProblemCode::MethodNotAllowed, detail)
}
