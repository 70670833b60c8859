//! The supervisor inside `serve`: keeps one executor process alive.

use std::{
    ffi::OsString,
    future::Future,
    path::PathBuf,
    pin::Pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    credentials,
    ledger::{ExecutorProcess, Ledger},
};

/// What the executor is started as.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The program: `/proc/self/exe`, which is the running one even after its file was replaced.
    pub program: PathBuf,
    /// Its arguments; `--instance ID` is added behind them.
    pub arguments: Vec<OsString>,
    /// How long an executor may take to end once its standard input is closed.
    pub grace: Duration,
}

impl HostOptions {
    /// This very program, with these arguments.
    pub fn own_program(arguments: Vec<OsString>) -> Self {
        Self { program: "/proc/self/exe".into(), arguments, grace: Duration::from_secs(10) }
    }
}

/// An executor that lived for so long is started again at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// First and longest wait before a restart, when executors die young: never more than a second without one.
const RESTART_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Wait after what a dead executor held could not be freed.
const RELEASE_RETRY: Duration = Duration::from_secs(1);

/// Keeps an executor running until `shutdown` resolves, then lets it end: it stops its attempts, which keep what is
/// durable, and gives back their leases.
///
/// The executor's standard input is a pipe whose other end only this process holds, so that it ends by itself when this
/// process is gone, however that came about. What a dead executor held is free at once.
pub async fn run(ledger: Ledger, options: HostOptions, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let mut died_young = 0u32;
    loop {
        let instance = Uuid::now_v7().to_string();
        let started = Instant::now();
        match start(&options, &instance) {
            Ok(child) => {
                if supervise(&ledger, &options, child, &instance, shutdown.as_mut()).await {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, program = %options.program.display(), "cannot start the executor"),
        }
        died_young = if started.elapsed() < HEALTHY { died_young.saturating_add(1) } else { 0 };
        let wait = match died_young {
            0 => Duration::ZERO,
            times => RESTART_WAIT.0.saturating_mul(1 << (times - 1).min(10)).min(RESTART_WAIT.1),
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.as_mut() => return,
        }
    }
}

fn start(options: &HostOptions, instance: &str) -> std::io::Result<Child> {
    let mut command = Command::new(&options.program);
    // Whoever may use credentials of the environment gets them with a claim.
    for variable in credentials::variables() {
        command.env_remove(variable);
    }
    command
        // Found as `staccato executor` in lists of processes, whatever the way to the program.
        .arg0("staccato")
        .args(&options.arguments)
        .arg("--instance")
        .arg(instance)
        .stdin(Stdio::piped())
        // A group of its own: Ctrl-C in a terminal is for `serve`, which then lets the executor end in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits for an executor's end and frees what it held; `true` when no further one is wanted.
async fn supervise(
    ledger: &Ledger,
    options: &HostOptions,
    mut child: Child,
    instance: &str,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> bool {
    let pid = child.id().expect("it was not waited for yet");
    match ExecutorProcess::find(instance, pid) {
        Ok(process) => {
            if let Err(error) = ledger.register_executor(&process).await {
                tracing::error!(%error, "cannot record the executor's process; its leases will have to run out");
            }
        }
        Err(error) => tracing::warn!(%error, pid, "the executor ended before it could be looked at"),
    }
    tracing::info!(pid, instance, "executor started");
    // Taken out of the child: waiting for a child closes the input it still holds.
    let input = child.stdin.take();
    let (ended, wanted) = tokio::select! {
        ended = child.wait() => (ended, false),
        () = shutdown.as_mut() => {
            drop(input);
            (end(&mut child, options.grace).await, true)
        }
    };
    match ended {
        Ok(status) if wanted => tracing::info!(pid, %status, "executor ended"),
        Ok(status) => tracing::warn!(pid, %status, "the executor died; it will be started again"),
        Err(error) => tracing::error!(pid, %error, "cannot wait for the executor"),
    }
    if wanted {
        if let Err(error) = ledger.release_executor(instance).await {
            tracing::error!(%error, "cannot free what the executor held; the next start will");
        }
        return true;
    }
    // A store that has failed will refuse this for ever: then the service stops in order to open it anew, and that
    // frees what dead executors held.
    tokio::select! {
        () = release(ledger, instance) => false,
        () = shutdown => true,
    }
}

/// Frees what a dead executor held, however often that fails.
async fn release(ledger: &Ledger, instance: &str) {
    while let Err(error) = ledger.release_executor(instance).await {
        tracing::error!(%error, "cannot free what a dead executor held; trying again");
        tokio::time::sleep(RELEASE_RETRY).await;
    }
}

/// Waits for a child that was asked to end; kills it when it does not.
async fn end(child: &mut Child, grace: Duration) -> std::io::Result<ExitStatus> {
    match tokio::time::timeout(grace, child.wait()).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("the executor does not end by itself and is killed");
            child.kill().await?;
            child.wait().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustix::process::{Pid, Signal, kill_process};
    use serde_json::json;
    use staccato_protocols::web::networks::Networks;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        config::registry,
        ledger::{INDEXES, LedgerConfig, Scope, Seal, SystemEnvironment},
        model::{CreateRequest, State, TransferId},
        store::{MemoryStore, SharedStore, faulty::FaultyStore},
    };

    /// Long for what takes a moment, on whatever machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn open(store: SharedStore) -> Ledger {
        let environment = Arc::new(SystemEnvironment::default());
        Ledger::open(
            store,
            Seal::ephemeral(),
            registry(&[], false, Networks::any()),
            LedgerConfig::default(),
            environment,
        )
        .await
        .expect("it opens")
    }

    /// An executor that does nothing until its input ends.
    fn idle() -> HostOptions {
        HostOptions {
            program: "/bin/sh".into(),
            arguments: ["-c", "exec cat"].map(OsString::from).to_vec(),
            grace: PATIENCE,
        }
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_store_that_has_failed_and_the_next_opening_frees_what_was_held() {
        let store = FaultyStore::new(MemoryStore::new(INDEXES));
        let ledger = open(store.clone()).await;
        let (stop, stopping) = oneshot::channel::<()>();
        let host = tokio::spawn(run(ledger.clone(), idle(), async move { drop(stopping.await) }));
        let process = tokio::time::timeout(PATIENCE, async {
            loop {
                match ledger.executors().pop() {
                    Some(process) => break process,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        let process = process.await.expect("an executor is started and recorded");
        let body = json!({"source_url": "zero:///5", "destination_url": "null:///"});
        let request = CreateRequest::from_json(&body, ledger.registry()).unwrap();
        let id: TransferId = ledger.create(&request, "owner", None).await.unwrap().document.id.parse().unwrap();
        ledger.mark_ready(id, "a slot is free").await.unwrap();
        ledger.claim(&process.instance, 1).await.unwrap().pop().expect("it is ready");

        store.fail();
        kill_process(Pid::from_raw(process.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        let tried = tokio::time::timeout(PATIENCE, store.refused()).await;
        tried.expect("it tries to free what the executor held");
        stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, host).await.expect("it stops, although nothing can be freed").unwrap();

        store.mend();
        let ledger = open(store).await;
        assert_eq!(ledger.get(id, &Scope::All).await.unwrap().state, State::New, "nobody holds it");
        assert!(ledger.executors().is_empty());
    }
}
