//! Clients: each has one connection and one request under way.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime, task::LocalSet};

use super::{
    Operation,
    operation::{Ask, Names},
};
use crate::{
    measure::{Load, own_cpu_seconds},
    record::MachineLoad,
    service::Service,
};

/// Longest latency that is told apart from longer ones.
const LATENCY_MAX_US: u64 = 60_000_000;

/// An operation, measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub operation: Operation,
    /// Clients at a time.
    pub clients: usize,
    /// The how manieth time, from 0.
    pub round: usize,
    /// Transfers stored when the first round began.
    pub stored: u64,
    /// Requests answered.
    pub requests: u64,
    /// Transfers submitted; of reading, requests.
    pub items: u64,
    /// How long it took.
    pub seconds: f64,
    /// CPU seconds of the service.
    pub cpu_seconds: f64,
    /// What the machine did meanwhile; the clients are its own, too.
    pub machine: MachineLoad,
    /// Latency of requests, in microseconds.
    pub latency_us: Histogram<u64>,
}

impl Measured {
    /// Transfers submitted in a second; of reading, requests.
    pub fn rate(&self) -> f64 {
        self.items as f64 / self.seconds
    }

    /// The latency that this share of requests (0 to 1) did not exceed, in seconds.
    pub fn latency_seconds(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// When clients stop.
#[derive(Clone, Copy)]
pub enum Until {
    /// After so long.
    Elapsed(Duration),
    /// When so many transfers were submitted.
    Submitted(u64),
}

/// Runs an operation with so many clients.
pub fn measure(
    service: &Service,
    names: &mut Names,
    operation: Operation,
    clients: usize,
    round: usize,
    until: Until,
) -> io::Result<Measured> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order");
    let shared = Rc::new(RefCell::new(Shared { names, latency, requests: 0, failure: None }));
    let cpu = || Ok::<_, io::Error>((service.control_cpu_seconds()?, own_cpu_seconds()));
    let (before, load, began) = (cpu()?, Load::now(), Instant::now());
    LocalSet::new().block_on(&runtime, async {
        // Borrowing tasks: they all end within this function.
        let all = (0..clients).map(|_| one(service, &shared, operation, began, until));
        futures_util::future::join_all(all).await
    });
    let (seconds, machine, after) = (began.elapsed().as_secs_f64(), load.since(), cpu()?);
    let shared = Rc::into_inner(shared).expect("all clients have ended").into_inner();
    if let Some(failure) = shared.failure {
        return Err(io::Error::other(format!("{operation}: {failure}")));
    }
    let cpu_seconds = after.0 - before.0;
    Ok(Measured {
        operation,
        clients,
        round,
        stored: 0,
        requests: shared.requests,
        items: shared.requests * operation.items(),
        seconds,
        cpu_seconds,
        machine: MachineLoad { own_seconds: cpu_seconds + after.1 - before.1, ..machine },
        latency_us: shared.latency,
    })
}

struct Shared<'a> {
    names: &'a mut Names,
    latency: Histogram<u64>,
    requests: u64,
    failure: Option<String>,
}

/// One client's life. What goes wrong ends all of them.
async fn one(service: &Service, shared: &Rc<RefCell<Shared<'_>>>, operation: Operation, began: Instant, until: Until) {
    if let Err(error) = requests(service, shared, operation, began, until).await {
        shared.borrow_mut().failure.get_or_insert(error);
    }
}

async fn requests(
    service: &Service,
    shared: &Rc<RefCell<Shared<'_>>>,
    operation: Operation,
    began: Instant,
    until: Until,
) -> Result<(), String> {
    let told = |error: &dyn std::error::Error| error.to_string();
    let host = service.address();
    let stream = TcpStream::connect(host).await.map_err(|error| told(&error))?;
    stream.set_nodelay(true).map_err(|error| told(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| told(&error))?;
    tokio::task::spawn_local(connection);
    loop {
        let ask = {
            let mut shared = shared.borrow_mut();
            let over = match until {
                Until::Elapsed(time) => began.elapsed() >= time,
                Until::Submitted(count) => shared.names.submitted() >= count,
            };
            if over || shared.failure.is_some() {
                return Ok(());
            }
            shared.names.ask(operation)
        };
        let asked = Instant::now();
        let body = send(&mut sender, host, ask).await?;
        let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(LATENCY_MAX_US);
        let mut shared = shared.borrow_mut();
        shared.latency.saturating_record(took.max(1));
        shared.requests += 1;
        shared.names.answered(operation, &body)?;
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, host: &str, ask: Ask) -> Result<Bytes, String> {
    let mut request = Request::builder().method(ask.method).uri(ask.path).header("host", host);
    if !ask.body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(Full::new(ask.body.into())).map_err(|error| error.to_string())?;
    sender.ready().await.map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
