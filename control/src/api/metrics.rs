//! `/metrics`: what the service has done, in the OpenMetrics text format that Prometheus reads.

use std::{fmt, sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::header;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use super::{
    Api,
    access::Insider,
    openapi::{Doors, Troubles},
    problem::Refusal,
};
use crate::{
    ledger::{Ledger, LedgerError, keys},
    model::State as TransferState,
    scheduler::outside::Outside,
};
use staccato_scheduler_plugins::Plugin as _;

/// Transfers of one state that are counted at most: a scrape must not scan a million of them.
pub const COUNTED_MAX: usize = 10_000;

/// Upper bounds of the buckets of request durations, in seconds.
const LATENCY_BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What is measured here, and the registry that shows it with what the ledger counts.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    transfers: Family<StateLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl Metrics {
    /// Metrics of a service with this ledger and, where there is one, this scheduler from outside.
    pub fn new(ledger: Ledger, scheduler: Option<Arc<Outside>>) -> Self {
        let mut registry = Registry::with_prefix("staccato");
        let requests = Family::new_with_constructor((|| Histogram::new(LATENCY_BOUNDS)) as fn() -> Histogram);
        let transfers = Family::default();
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to the head of its answer",
            Unit::Seconds,
            requests.clone(),
        );
        registry.register(
            "transfers",
            "Transfers in each state; 10,000 stands for that many or more",
            transfers.clone(),
        );
        registry.register_collector(Box::new(LedgerCollector(ledger)));
        if let Some(scheduler) = scheduler {
            registry.register_collector(Box::new(SchedulerCollector(scheduler)));
        }
        Self { registry, requests, transfers }
    }

    async fn encode(&self, ledger: &Ledger) -> Result<String, LedgerError> {
        for state in TransferState::ALL {
            let index = keys::by_state(state.as_str());
            let found = ledger.store().range(&index, &keys::end_of(&index), COUNTED_MAX, false).await?;
            let count = i64::try_from(found.len()).expect("bounded");
            self.transfers.get_or_create(&StateLabels { state: state.as_str() }).set(count);
        }
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a string");
        Ok(page)
    }
}

/// What has happened since the service started. Over TLS, any token may ask.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text"), Doors, Troubles),
)]
pub async fn show_metrics(State(api): State<Api>, _: Insider) -> Result<Response, Refusal> {
    let page = api.metrics.encode(&api.ledger).await?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media_type)], page).into_response())
}

/// Measures a request. Unknown routes share one label, so that nobody can make the page grow.
pub async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let labels = RequestLabels { method, route, status: response.status().as_u16() };
    api.metrics.requests.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
    response
}

/// Shows the ledger's own counters.
struct LedgerCollector(Ledger);

impl fmt::Debug for LedgerCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerCollector")
    }
}

impl Collector for LedgerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let rows = [
            ("transfers_created", "Transfers submitted", None, stats.created),
            ("transfers_completed", "Transfers completed", None, stats.completed),
            ("transfers_failed", "Transfers that failed for good", None, stats.failed),
            ("transfers_canceled", "Transfers canceled", None, stats.canceled),
            ("records_unreadable", "Records found that this version cannot read", None, stats.unreadable),
            ("attempts", "Attempts begun", None, stats.attempts),
            ("attempts_retried", "Attempts that failed with a further try left", None, stats.retried),
            ("leases_lost", "Leases that expired or whose executor died", None, stats.leases_lost),
            ("completed", "Bytes of completed transfers", Some(Unit::Bytes), stats.bytes_completed),
            ("fetched", "Bytes that executors read from sources", Some(Unit::Bytes), stats.bytes_fetched),
        ];
        for (name, help, unit, value) in rows {
            let counter = ConstCounter::new(value);
            let encoder = encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?;
            counter.encode(encoder)?;
        }
        let help = "Readers that executors have turned away since they started";
        let mut family = encoder.encode_descriptor("executor_refusals", help, None, MetricType::Counter)?;
        for executor in self.0.executor_documents(false) {
            let Some(refusals) = executor.refusals else { continue };
            for (why, count) in [("not_allowed", refusals.not_allowed), ("too_many", refusals.too_many)] {
                let labels = [("executor", executor.name.as_str()), ("why", why)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Shows how it is about a scheduler from outside.
struct SchedulerCollector(Arc<Outside>);

impl fmt::Debug for SchedulerCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchedulerCollector")
    }
}

impl Collector for SchedulerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let labels = [("plugin", self.0.name())];
        let help = "Whether the scheduler plug-in decides (1), or slots in its place (0)";
        let mut family = encoder.encode_descriptor("scheduler_plugin_up", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(self.0.is_up())).encode(family.encode_family(&labels)?)?;
        let help = "How often the scheduler plug-in ended, was late or broke a rule, and was started again";
        let mut family = encoder.encode_descriptor("scheduler_plugin_faults", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.faults()).encode(family.encode_family(&labels)?)
    }
}
