//! The executor process: joins, claims transfers while it has room, runs attempts, keeps their leases alive, and leaves.

use std::{
    collections::HashMap,
    future::Future,
    io::Read,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use staccato_dataplane::{
    attempt::{AttemptHandle, AttemptSpec, Reporter, StopReason},
    transport::{
        offer::CopyName,
        peers::{LinkReport, Refusals},
    },
};
use staccato_protocols::{Registry, contract::SweepRequest};
use tokio::{sync::watch, time::Instant};

use crate::{
    ledger::{Held, Offered, SwarmNews, Sweep},
    model::{TransferId, host::Announcement},
};

use super::{
    client::{CallError, Client},
    clock::ControlClock,
    contract::{Claim, Heartbeat, Join, Leave, Swept},
    relay::{ChannelReporter, Relay},
};

/// What an executor is told at its start.
pub struct ExecutorOptions {
    /// Where the ledger answers.
    pub service: Client,
    /// This executor's name, a new one at every start.
    pub instance: String,
    /// Most attempts at a time.
    pub attempts_max: usize,
    /// The protocols it offers.
    pub registry: Registry,
    /// What it says of itself.
    pub announced: Announcement,
    /// The service's clock, to be set whenever it tells its time.
    pub clock: ControlClock,
    /// Tells what is known of the links to other hosts.
    pub links: Box<dyn Fn() -> Vec<LinkReport> + Send + Sync>,
    /// Tells which copies it offers to others.
    pub offers: Box<dyn Fn() -> Vec<CopyName> + Send + Sync>,
    /// Offers a copy no more, whose key this is.
    pub withdraw: Box<dyn Fn(&str) + Send + Sync>,
    /// Tells who was turned away.
    pub refusals: Box<dyn Fn() -> Refusals + Send + Sync>,
}

/// What the service said when this executor joined.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Longest time between heartbeats.
    heartbeat: Duration,
    /// How long attempts go on while the service is not reached. They commit nothing meanwhile.
    outage_max: Duration,
}

/// Why an executor ended before it was told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unwanted(pub String);

/// How long attempts may take to stop when the executor ends.
const DRAIN_MAX: Duration = Duration::from_secs(8);
/// How long saying goodbye may take.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Shortest time between two heartbeats.
const BEAT_PAUSE: Duration = Duration::from_millis(20);
/// Wait after the service was not reached.
pub const UNREACHABLE_WAIT: Duration = Duration::from_millis(200);

/// Runs an executor until `end` resolves. Attempts are stopped then and keep what is durable. The caller should exit the
/// process when this returns: nothing waits for what may still be under way when the service is gone.
pub async fn run(
    options: ExecutorOptions,
    attempt: impl Fn(AttemptSpec, Box<dyn Reporter>) -> AttemptHandle,
    end: impl Future<Output = ()>,
) -> Result<(), Unwanted> {
    let executor = Executor {
        client: options.service.clone(),
        options,
        terms: Mutex::new(None),
        running: Mutex::default(),
        changed: watch::Sender::new(()),
    };
    let executor = Arc::new(executor);
    let work = async {
        executor.join().await?;
        tokio::select! {
            unwanted = executor.claim_for_ever(&attempt) => Err(unwanted),
            unwanted = executor.beat() => Err(unwanted),
        }
    };
    let ended = tokio::select! {
        () = end => Ok(()),
        unwanted = work => unwanted,
    };
    executor.drain().await;
    ended
}

/// Resolves when standard input ends, that is when the process that started this one is gone or wants it to end. On a
/// thread of its own, which nobody waits for.
pub async fn input_ended() {
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let watch = move || {
        let mut input = std::io::stdin().lock();
        let mut scrap = [0; 256];
        loop {
            match input.read(&mut scrap) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        drop(sender);
    };
    let started = std::thread::Builder::new().name("input".into()).spawn(watch);
    if let Err(error) = started {
        tracing::error!(%error, "cannot watch the standard input");
    }
    let _ = receiver.await;
}

struct Executor {
    options: ExecutorOptions,
    client: Client,
    /// None before the service has answered.
    terms: Mutex<Option<Terms>>,
    running: Mutex<HashMap<TransferId, Running>>,
    /// Changes when an attempt begins or ends.
    changed: watch::Sender<()>,
}

struct Running {
    epoch: u64,
    /// The distribution whose member it is.
    distribution: Option<TransferId>,
    handle: AttemptHandle,
    stopping: Option<StopReason>,
    /// Whether only the ledger has to hear of its end.
    ended: Arc<AtomicBool>,
}

const POISON: &str = "no code panics while it holds this lock";

impl Executor {
    /// Tells the service that this executor runs, until that answers.
    async fn join(&self) -> Result<(), Unwanted> {
        let message = Join { executor: self.options.instance.clone(), announced: self.options.announced.clone() };
        let mut told = false;
        loop {
            match self.client.call(&message, Duration::ZERO).await {
                Ok(joined) => {
                    self.options.clock.set(joined.control_time_ms);
                    let millis = Duration::from_millis;
                    let terms =
                        Terms { heartbeat: millis(joined.heartbeat_ms), outage_max: millis(joined.outage_max_ms) };
                    *self.terms.lock().expect(POISON) = Some(terms);
                    return Ok(());
                }
                Err(CallError::Unwanted(why)) => return Err(Unwanted(why)),
                Err(error @ CallError::Expired) => return Err(Unwanted(error.to_string())),
                Err(error) => {
                    // Once: it may take long.
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "cannot join; trying until it succeeds");
                    }
                    tokio::time::sleep(UNREACHABLE_WAIT).await;
                }
            }
        }
    }

    fn terms(&self) -> Terms {
        self.terms.lock().expect(POISON).expect("nothing is done before it has joined")
    }

    /// What to do when the service did not take a message: wait, or join again.
    async fn react(&self, error: &CallError) -> Result<(), Unwanted> {
        match error {
            CallError::Unknown => {
                tracing::info!("the service has begun anew; joining again");
                self.join().await
            }
            CallError::Unwanted(why) => Err(Unwanted(why.clone())),
            _ => {
                tokio::time::sleep(UNREACHABLE_WAIT).await;
                Ok(())
            }
        }
    }

    /// Claims while there is room, until this executor is not wanted any more.
    async fn claim_for_ever(
        self: &Arc<Self>,
        attempt: &impl Fn(AttemptSpec, Box<dyn Reporter>) -> AttemptHandle,
    ) -> Unwanted {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let running = self.running.lock().expect(POISON).len();
            let attempts_max = self.options.attempts_max.saturating_sub(running);
            let wait = self.terms().heartbeat;
            let claim = Claim {
                executor: self.options.instance.clone(),
                attempts_max,
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            };
            let answer = if attempts_max > 0 {
                // Never given up half-way: what it brings would be lost until its lease ends.
                self.client.call(&claim, wait).await
            } else {
                tokio::select! {
                    answer = self.client.call(&claim, wait) => answer,
                    _ = changed.changed() => continue,
                }
            };
            match answer {
                Ok(claimed) => {
                    claimed.attempts.into_iter().for_each(|spec| self.begin(spec, attempt));
                    if !claimed.sweeps.is_empty() {
                        tokio::spawn(self.clone().sweep(claimed.sweeps));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot claim");
                    if let Err(unwanted) = self.react(&error).await {
                        return unwanted;
                    }
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, spec: AttemptSpec, attempt: &impl Fn(AttemptSpec, Box<dyn Reporter>) -> AttemptHandle) {
        let Ok(transfer) = spec.transfer.parse::<TransferId>() else {
            tracing::error!(transfer = spec.transfer, "the ledger handed out something that is no transfer");
            return;
        };
        let epoch = spec.epoch;
        let distribution = spec.swarm.as_ref().and_then(|swarm| swarm.distribution.parse().ok());
        tracing::info!(%transfer, epoch, "attempt begins");
        let (reporter, told) = ChannelReporter::new();
        let handle = attempt(spec, Box::new(reporter));
        let ended = Arc::<AtomicBool>::default();
        let running = Running { epoch, distribution, handle: handle.clone(), stopping: None, ended: ended.clone() };
        if let Some(former) = self.running.lock().expect(POISON).insert(transfer, running) {
            // The ledger gave the transfer away and back again before this executor noticed.
            former.handle.stop(StopReason::LeaseLost);
        }
        self.changed.send_replace(());
        let relay = Relay {
            client: self.client.clone(),
            executor: self.options.instance.clone(),
            transfer,
            epoch,
            handle,
            outage_max: self.terms().outage_max,
            ended,
        };
        let executor = self.clone();
        tokio::spawn(async move {
            relay.run(told).await;
            let mut running = executor.running.lock().expect(POISON);
            if running.get(&transfer).is_some_and(|running| running.epoch == epoch) {
                running.remove(&transfer);
            }
            drop(running);
            executor.changed.send_replace(());
        });
    }

    /// Keeps the leases alive and does what the ledger says, until this executor is not wanted any more.
    async fn beat(&self) -> Unwanted {
        let mut changed = self.changed.subscribe();
        loop {
            // Many attempts that begin and end share a heartbeat.
            tokio::time::sleep(BEAT_PAUSE).await;
            changed.mark_unchanged();
            tokio::select! {
                answer = self.heartbeat(self.terms().heartbeat) => if let Err(error) = answer {
                    tracing::debug!(%error, "cannot renew leases");
                    // Heartbeats are often cut short; what counts is whether anything was answered.
                    if self.client.silence() > self.terms().outage_max {
                        self.stop_all(StopReason::LeaseLost);
                    }
                    if let Err(unwanted) = self.react(&error).await {
                        return unwanted;
                    }
                },
                // Something new runs: the ledger is to know of it at once, so that its directives come at once.
                _ = changed.changed() => {}
            }
        }
    }

    async fn heartbeat(&self, wait: Duration) -> Result<(), CallError> {
        let held = {
            let running = self.running.lock().expect(POISON);
            running
                .iter()
                .map(|(transfer, one)| Held {
                    transfer: *transfer,
                    epoch: one.epoch,
                    stopping: one.stopping,
                    distribution: one.distribution,
                })
                .collect()
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (links, refusals) = ((self.options.links)(), (self.options.refusals)());
        let (executor, offers) = (self.options.instance.clone(), self.offers());
        let message = Heartbeat { executor, held, wait_ms, offers, links, refusals };
        let answer = self.client.call(&message, wait).await?;
        self.options.clock.set(answer.control_time_ms);
        if !answer.over.is_empty() {
            let is_over = |copy: &CopyName| copy.transfer.parse().is_ok_and(|transfer| answer.over.contains(&transfer));
            (self.options.offers)()
                .iter()
                .filter(|copy| is_over(copy))
                .for_each(|copy| (self.options.withdraw)(&copy.key()));
        }
        let mut running = self.running.lock().expect(POISON);
        for SwarmNews { transfer, epoch, swarm } in answer.swarms {
            match running.get_mut(&transfer).filter(|one| one.epoch == epoch && one.stopping.is_none()) {
                Some(one) if swarm.begin_anew => {
                    tracing::info!(%transfer, epoch, "begins anew, to read of the source");
                    one.stopping = Some(StopReason::Shutdown);
                    one.handle.stop(StopReason::Shutdown);
                }
                Some(one) => one.handle.refresh(swarm),
                None => {}
            }
        }
        for directive in answer.directives {
            // What has ended meanwhile is no news: the ledger may know of the end before it hears this heartbeat.
            let concerned = |one: &&mut Running| one.epoch == directive.epoch && !one.ended.load(Ordering::Relaxed);
            if let Some(one) = running.get_mut(&directive.transfer).filter(concerned) {
                tracing::info!(transfer = %directive.transfer, epoch = one.epoch, reason = ?directive.stop, "told to stop");
                one.stopping = Some(directive.stop);
                one.handle.stop(directive.stop);
            }
        }
        Ok(())
    }

    /// What is offered of distributions none of whose attempts runs here.
    fn offers(&self) -> Vec<Offered> {
        let offered = (self.options.offers)();
        let running = self.running.lock().expect(POISON);
        let of = |copy: &CopyName| {
            let (distribution, transfer) = (copy.distribution.parse().ok()?, copy.transfer.parse().ok()?);
            (!running.contains_key(&transfer)).then_some(Offered { distribution, transfer })
        };
        offered.iter().filter_map(of).collect()
    }

    fn stop_all(&self, reason: StopReason) {
        for one in self.running.lock().expect(POISON).values_mut() {
            if one.stopping.is_none() || reason == StopReason::LeaseLost {
                one.stopping = Some(reason);
                one.handle.stop(reason);
            }
        }
    }

    async fn sweep(self: Arc<Self>, sweeps: Vec<Sweep>) {
        for Sweep { transfer, destination_url, destination_options, upload } in sweeps {
            let registry = self.options.registry.clone();
            let leavings = SweepRequest {
                url: destination_url,
                options: destination_options,
                transfer: transfer.to_string(),
                upload,
            };
            let swept = tokio::task::spawn_blocking(move || registry.module(&leavings.url)?.sweep(&leavings));
            let failure = match swept.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Err(error) = self.client.call(&Swept { transfer, failure }, Duration::ZERO).await {
                tracing::debug!(%transfer, %error, "a sweep was not recorded; it will be done again");
            }
        }
    }

    /// Stops all attempts and waits until the ledger has them back. When the service is not reached, it is gone, and
    /// nothing is waited for.
    async fn drain(&self) {
        self.stop_all(StopReason::Shutdown);
        self.wait_for_attempts().await;
        let leave = Leave { executor: self.options.instance.clone() };
        // Who does not hear it will notice.
        let _ = tokio::time::timeout(LEAVE_MAX, self.client.call(&leave, Duration::ZERO)).await;
    }

    async fn wait_for_attempts(&self) {
        let deadline = Instant::now() + DRAIN_MAX;
        let mut changed = self.changed.subscribe();
        while !self.running.lock().expect(POISON).is_empty() && Instant::now() < deadline {
            let pause = Duration::from_millis(100);
            if let Err(error) = self.heartbeat(Duration::ZERO).await {
                tracing::warn!(%error, "the service is gone");
                return;
            }
            let _ = tokio::time::timeout(pause, changed.changed()).await;
        }
    }
}
