//! REST v1: routes, one file per resource, and the doors in front of them.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`versions`] | `GET /`, `GET /v1` |
//! | [`protocols`] | `GET /v1/protocols` |
//! | [`transfers`] | `POST`, `GET /v1/transfers`; `GET`, `DELETE /v1/transfers/{id}` |
//! | [`actions`] | `POST /v1/transfers/{id}/action` |
//! | [`distributions`] | `POST`, `GET /v1/distributions`; `GET`, `DELETE /v1/distributions/{id}` |
//! | [`distribution_members`] | `POST /v1/distributions/{id}/action`, `/hosts`; `GET .../members`; `DELETE .../hosts/{host}` |
//! | [`tokens`] | `POST`, `GET /v1/tokens`; `DELETE /v1/tokens/{id}` |
//! | [`credentials`] | `GET /v1/credentials`; `PUT`, `GET`, `DELETE /v1/credentials/{name}` |
//! | [`executors`] | `POST`, `GET /v1/executors`; `DELETE /v1/executors/{name}` |
//! | [`health`] | `GET /healthz`, `GET /readyz` |
//! | [`metrics`] | `GET /metrics` |
//! | [`openapi`] | `GET /openapi.json` |
//!
//! A request comes in through [`server`] (sockets, time limits, [`peer`]), passes [`access`] and [`body`], and leaves
//! with a document or a [`problem`]. Handlers only translate between HTTP and the ledger. [`routes`] puts all together.

pub mod access;
pub mod actions;
pub mod body;
pub mod credentials;
pub mod distribution_members;
pub mod distributions;
pub mod executors;
pub mod health;
pub mod keystone;
pub mod metrics;
pub mod openapi;
pub mod peer;
pub mod problem;
pub mod protocols;
pub mod query;
pub mod routes;
pub mod server;
pub mod tokens;
pub mod transfers;
pub mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
pub use routes::router;
use tokio::sync::{Semaphore, watch};

use crate::{ledger::Ledger, policy::Policy, scheduler::outside::Outside};

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    ledger: Ledger,
    policy: Arc<Policy>,
    metrics: Arc<metrics::Metrics>,
    stopping: watch::Receiver<bool>,
    openapi: Bytes,
    large_bodies: Arc<Semaphore>,
    keystone: Option<keystone::Gate>,
}

impl Api {
    /// An interface to `ledger`, for those who may use it, which tells of a scheduler from outside, where there is one.
    /// `stopping` becomes `true` when the service begins to stop.
    pub fn new(
        ledger: Ledger,
        policy: Policy,
        scheduler: Option<Arc<Outside>>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let metrics = Arc::new(metrics::Metrics::new(ledger.clone(), scheduler));
        let large_bodies = Arc::new(Semaphore::new(body::LARGE_BODIES_MAX));
        let (policy, openapi) = (Arc::new(policy), Bytes::new());
        Self { ledger, policy, metrics, stopping, openapi, large_bodies, keystone: None }
    }

    /// The same, also for those whom Keystone vouches for.
    pub fn with_keystone(self, gate: Option<keystone::Gate>) -> Self {
        Self { keystone: gate, ..self }
    }
}
