//! The supervisor inside `serve`: keeps one executor process alive.

use std::{
    ffi::OsString,
    future::Future,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::Instant,
};
use uuid::Uuid;

use crate::ledger::{ExecutorProcess, Ledger};

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
const RESTART_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

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
    Command::new(&options.program)
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

/// Waits for an executor's end; `true` when it was wanted.
async fn supervise(
    ledger: &Ledger,
    options: &HostOptions,
    mut child: Child,
    instance: &str,
    shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
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
        () = shutdown => {
            drop(input);
            (end(&mut child, options.grace).await, true)
        }
    };
    match ended {
        Ok(status) if wanted => tracing::info!(pid, %status, "executor ended"),
        Ok(status) => tracing::warn!(pid, %status, "the executor died; it will be started again"),
        Err(error) => tracing::error!(pid, %error, "cannot wait for the executor"),
    }
    while let Err(error) = ledger.release_executor(instance).await {
        tracing::error!(%error, "cannot free what a dead executor held; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
        if wanted {
            break;
        }
    }
    wanted
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
