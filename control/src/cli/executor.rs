//! `executor`: the process that moves bytes; started by `serve`, not by people.

use clap::Args;

use super::{Exit, Failure, config::load, log};
use crate::{
    config::Flags,
    executor::process::{self, ExecutorOptions, OUTAGE_MAX_DEFAULT},
};

/// Arguments of `executor`: the configuration of the service that starts it.
#[derive(Debug, Args)]
pub struct Executor {
    #[command(flatten)]
    flags: Flags,
    /// This executor's name, a new one at every start
    #[arg(long)]
    instance: String,
}

impl Executor {
    /// Runs until standard input ends.
    pub fn run(self) -> Result<(), Failure> {
        let config = load(&self.flags)?;
        abort_on_panic();
        log::to_standard_error(&config.log);
        let options = ExecutorOptions {
            socket: config.executor_socket(),
            instance: self.instance,
            attempts_max: config.slots,
            dataplane: config.dataplane(),
            registry: config.registry(),
            heartbeat: config.heartbeat,
            outage_max: OUTAGE_MAX_DEFAULT,
        };
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("executor")
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Failed, format!("no event loop can be made: {error}")))?
            .block_on(process::run(options))
            .map_err(Failure::from)?;
        // Nothing waits for what may still be under way: the service is gone, or has let us go.
        std::process::exit(0)
    }
}

/// A broken invariant ends the whole process, whichever task finds it: what this process believes cannot be trusted,
/// and another one goes on from the ledger.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
