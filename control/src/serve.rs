//! The service: store, ledger, scheduler, executor host and REST, put together in one process.
//!
//! Start: bind the addresses, or take those that were handed over (so that a second service fails at once and changes nothing), open the store (which only
//! one service can), open the ledger, then let everybody in. Stop, on SIGINT or SIGTERM: let requests under way finish,
//! end the executor (which stops its attempts and keeps what is durable), then close the store. A second signal ends
//! the process at once; nothing acknowledged can be lost by that. When the store fails (its disk is full, say),
//! everything is stopped and begun anew from what is on disk, again and again until that works: nothing acknowledged is
//! lost.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use staccato_dataplane::lane::preflight;
use staccato_scheduler_plugins::{Plugin, Slots};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    api::{
        Api, router,
        server::{self, Listener, Routes, stopped},
    },
    config::{Config, ConfigError, Executors, Offer, SchedulerChoice},
    executor::{
        host,
        routes::{self, Desk},
    },
    folder,
    ledger::{INDEXES, Ledger, LedgerConfig, LedgerError, Seal, SystemEnvironment},
    listeners::{self, BindError, Bound, Inherited},
    pki::{Authority, PkiError},
    policy::Policy,
    scheduler::{
        self, SchedulerConfig,
        outside::{self, Outside},
    },
    signals::Signals,
    store::{SharedStore, SledStore, StoreError},
    tls::{Identity, TlsError},
};

/// How often the store is asked whether it failed.
const STORE_LOOK: Duration = Duration::from_millis(500);
/// The pause before a store that failed is opened again.
const REOPEN_WAIT: Duration = Duration::from_secs(2);

/// What a service says when it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// The URL of its first TCP address.
    pub url: Option<String>,
    /// Those of all.
    pub urls: Vec<String>,
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// Its process id.
    pub pid: u32,
}

/// Why a service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The executors' socket cannot be made.
    #[error("cannot listen on {}: {error}", .socket.display())]
    ExecutorSocket {
        /// Which one.
        socket: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used: {error}", .folder.display())]
    DataDir {
        /// Which one.
        folder: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// What only a service needs is not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no authority that could vouch for executors.
    #[error("the deployment's authority cannot be used: {0}")]
    Authority(#[from] PkiError),
    /// The operating system denies something every process needs.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
    /// The scheduler from outside does not start.
    #[error(transparent)]
    Scheduler(#[from] outside::StartError),
    /// The executor could not move bytes here.
    #[error(transparent)]
    Lanes(#[from] staccato_protocols::Error),
    /// The store cannot be opened, or failed later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A part of the service ended that never ends.
    #[error("the {0} ended by itself; restart the service and report this")]
    PartEnded(&'static str),
}

impl ServeError {
    /// Whether opening the store again may help.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Ledger(LedgerError::Store(_)))
    }
}

/// Runs a service on threads of its own until a signal stops it. `offer` is its configuration's. `ready` is called when it answers, and again whenever
/// it has come back after its store had failed.
pub fn run(config: Config, offer: Offer, mut ready: impl FnMut(&Ready)) -> Result<(), ServeError> {
    let inherited = Inherited::take()?;
    let identity = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(Identity::read(certificate, key)?),
        _ => None,
    };
    // It outlives a store that fails.
    let outside = start_outside(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .map_err(|error| ServeError::System("make an event loop", error))?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| ServeError::System("listen to signals", error))?;
        let mut was_ready = false;
        loop {
            let told = |told: &Ready| {
                was_ready = true;
                ready(told);
            };
            let outside = outside.clone();
            let serving =
                serve(config.clone(), offer.clone(), &inherited, identity.clone(), outside, told, &mut signals);
            let error = match serving.await {
                Err(error) if error.may_pass() => error,
                ended => return ended,
            };
            if !was_ready {
                return Err(error);
            }
            tracing::error!(%error, "the service is down until its store can be opened again: is the data folder's disk full?");
            tokio::select! {
                () = tokio::time::sleep(REOPEN_WAIT) => {}
                _ = signals.next() => return Err(error),
            }
        }
    });
    if let Some(outside) = outside {
        outside.end();
    }
    // Blocking work that still runs (a look-up of a peer) holds nothing that matters.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(
    config: Config,
    offer: Offer,
    inherited: &Inherited,
    identity: Option<Identity>,
    outside: Option<Arc<Outside>>,
    ready: impl FnOnce(&Ready),
    signals: &mut Signals,
) -> Result<(), ServeError> {
    if config.executors == Executors::Local {
        preflight::check_io_uring(&config.dataplane())?;
    }
    make_data_dir(&config.data_dir)?;
    let authority = match config.among_others() {
        true => Some(Arc::new(Authority::open_or_create(&config.pki_dir, "Staccato")?)),
        false => None,
    };
    let tls = match (&identity, &authority) {
        (Some(identity), Some(authority)) => Some(identity.server(authority.certificate())?),
        _ => None,
    };
    let Bound { mut listeners, urls, socket: public, made } =
        listeners::listen(&config, inherited, tls.as_ref()).await?;

    let store = open_store(&config.data_dir).await?;
    let shared: SharedStore = store.clone();
    let takes_hosts_in = listeners.iter().any(|listener| matches!(listener, Listener::Tls(..)));
    let ledger = open_ledger(&config, offer, takes_hosts_in, shared).await?;
    let socket = config.executor_socket();
    let bind_error = |error| ServeError::ExecutorSocket { socket: socket.clone(), error };
    let executors = routes::bind(&socket).map_err(bind_error)?;
    let admin = config.admin_socket();
    listeners.push(Listener::Admin(listeners::bind_unix(&admin, 0o600).await?));

    let (stop, stopping) = watch::channel(false);
    let desk = Desk { ledger: ledger.clone(), authority, certificate_life: config.certificate_life };
    let api = Api::new(ledger.clone(), Policy::new(&config.roots), outside.clone(), stopping.clone());
    let clients = router(api.with_keystone(config.keystone_gate()?));
    let routes = Routes { clients: clients.clone(), executors: routes::remote_router(desk.clone(), clients) };
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(server::serve(listener, routes.clone(), stopping.clone()));
    }
    // What never ends; dropped, and so ended, when this function returns.
    let mut parts = JoinSet::new();
    let clock = ledger.clone();
    parts.spawn(async move {
        clock.run().await;
        "ledger's clock"
    });
    let plugin: Arc<dyn Plugin> = match outside {
        Some(outside) => outside,
        None => Arc::new(Slots::new(config.slots)),
    };
    let scheduling = scheduler::run(ledger.clone(), plugin, SchedulerConfig::default());
    parts.spawn(async move {
        scheduling.await;
        "scheduler"
    });
    let answering = routes::serve(desk, executors);
    parts.spawn(async move {
        let _ = answering.await;
        "executors' socket"
    });
    if let Some(identity) = identity {
        parts.spawn(async move {
            identity.keep_current().await;
            "watch over the certificate"
        });
    }
    let mut host = JoinSet::new();
    if config.executors == Executors::Local {
        let mut stopping = stopping.clone();
        let options = host::HostOptions::own_program(executor_arguments(&config));
        host.spawn(host::run(ledger.clone(), options, async move { stopped(&mut stopping).await }));
    }

    let told = Ready {
        url: urls.first().cloned(),
        urls,
        socket: public,
        data_dir: config.data_dir.clone(),
        pid: std::process::id(),
    };
    tracing::info!("{told}");
    ready(&told);

    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping");
            Ok(())
        }
        error = store_failure(&store) => Err(ServeError::Store(error)),
        ended = parts.join_next() => Err(match store.failure() {
            // Everybody who works with the store ends with it.
            Some(error) => ServeError::Store(error.clone()),
            None => ServeError::PartEnded(ended.and_then(Result::ok).unwrap_or("service")),
        }),
        Some(_) = host.join_next() => Err(ServeError::PartEnded("executor's supervisor")),
    };
    if let Err(error) = &outcome {
        tracing::error!(%error, "stopping");
    }
    let _ = stop.send(true);
    let drain = async {
        while doors.join_next().await.is_some() {}
        while host.join_next().await.is_some() {}
    };
    tokio::select! {
        () = drain => {}
        name = signals.next() => {
            tracing::warn!(signal = name, "a second signal: stopping at once");
            std::process::exit(1);
        }
    }
    parts.shutdown().await;
    for path in made.iter().chain([&socket, &admin]) {
        let _ = fs::remove_file(path);
    }
    tracing::info!("stopped");
    outcome
}

/// Starts the scheduler from outside that the configuration names, if it names one.
fn start_outside(config: &Config) -> Result<Option<Arc<Outside>>, ServeError> {
    let SchedulerChoice::Outside(program) = &config.scheduler else { return Ok(None) };
    if config.scheduler_user.is_none() && rustix::process::geteuid().is_root() {
        tracing::warn!("the scheduler plug-in runs as root; name a user for it with scheduler_user");
    }
    let launch = outside::Launch { program: program.clone(), arguments: Vec::new(), user: config.scheduler_user };
    let options = outside::Options::of(launch, config.slots, config.scheduler_timeout);
    Ok(Some(Arc::new(Outside::start(options)?)))
}

/// The arguments of the executor's process: the very configuration of this one.
fn executor_arguments(config: &Config) -> Vec<std::ffi::OsString> {
    let mut arguments = vec!["executor".into()];
    arguments.extend(config.as_arguments());
    arguments
}

fn make_data_dir(path: &Path) -> Result<(), ServeError> {
    folder::create(path).map_err(|error| ServeError::DataDir { folder: path.to_owned(), error })
}

async fn open_store(data_dir: &Path) -> Result<Arc<SledStore>, ServeError> {
    let folder = data_dir.join("store");
    let opening = tokio::task::spawn_blocking(move || SledStore::open(&folder, INDEXES));
    let store = opening.await.map_err(|error| StoreError(format!("opening it failed ({error})")))??;
    Ok(Arc::new(store))
}

async fn open_ledger(
    config: &Config,
    offer: Offer,
    takes_hosts_in: bool,
    store: SharedStore,
) -> Result<Ledger, ServeError> {
    let refused = |error| ServeError::DataDir { folder: config.data_dir.clone(), error };
    let seal = Seal::open(&config.data_dir.join("seal.key")).map_err(refused)?;
    let durations = LedgerConfig {
        lease: config.lease,
        heartbeat: config.heartbeat,
        own_host: config.name.clone(),
        own_executor: config.executors == Executors::Local,
        takes_hosts_in,
        outage_max: config.outage_max,
        credentials: offer.credentials,
        ..LedgerConfig::default()
    };
    let environment = Arc::new(SystemEnvironment::default());
    Ok(Ledger::open(store, seal, offer.registry, durations, environment).await?)
}

/// Resolves when the store has failed.
async fn store_failure(store: &SledStore) -> StoreError {
    loop {
        if let Some(error) = store.failure() {
            return error.clone();
        }
        tokio::time::sleep(STORE_LOOK).await;
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("staccato is ready at ")?;
        let socket = self.socket.iter().map(|path| format!("unix:{}", path.display()));
        f.write_str(&self.urls.iter().cloned().chain(socket).collect::<Vec<_>>().join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_data_folder_is_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        make_data_dir(&path).unwrap();
        make_data_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(make_data_dir(&folder.path().join("file/b")).is_err());
    }
}
