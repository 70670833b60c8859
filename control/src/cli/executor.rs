//! `executor`: the process that moves bytes: on other hosts than the service's started by people, there by `serve`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use staccato_dataplane::{
    Dataplane,
    attempt::{AttemptSpec, Reporter},
    transport::peers::PeersConfig,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Common, Exit, Failure, config::load, log};
use crate::{
    client::Server,
    config::{Config, Flags, Listen},
    executor::{
        client::{CallError, Client},
        clock::ControlClock,
        door::{self, Shown},
        local_api,
        membership::Membership,
        process::{self, ExecutorOptions},
    },
    model::host::{Announcement, HostName},
    signals::Signals,
};

/// Where executors of other hosts connect unless told.
const PEER_LISTEN_DEFAULT: &str = "0.0.0.0:5310";

/// Arguments of `executor`.
#[derive(Debug, Args)]
pub struct Executor {
    #[command(flatten)]
    flags: Flags,
    /// The service to join: https://HOST:PORT. The first time, show an invitation (--token-file, or STACCATO_TOKEN), which
    /// `staccato executors invite NAME` makes on the service's host; --ca FILE says by which authority the service is known.
    /// --listen is where executors of other hosts connect (as --peer-listen)
    #[arg(long, value_name = "URL")]
    join: Option<Server>,
    /// A loopback address on which users of this host are served as on the service's own (with --socket, a Unix socket)
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    api: Option<SocketAddr>,
    /// Started by `serve`, with the configuration of that: this executor's name, a new one at every start
    #[arg(long, hide = true, conflicts_with = "join")]
    instance: Option<String>,
}

impl Executor {
    /// Runs until a signal comes, or where `serve` has started it, until standard input ends.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        abort_on_panic();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("executor")
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Failed, format!("no event loop can be made: {error}")))?;
        runtime.block_on(async {
            match (self.join, self.instance) {
                (Some(service), _) => joined(&service, self.api, self.flags, common).await,
                (None, Some(instance)) => child(instance, &self.flags).await,
                (None, None) => {
                    let why = "say which service to join: --join https://HOST:PORT";
                    Err(Failure::new(Exit::Usage, why))
                }
            }
        })?;
        // Nothing waits for what may still be under way: the service is gone, or has let us go.
        std::process::exit(0)
    }
}

/// Runs as the executor of `serve`'s own host.
async fn child(instance: String, flags: &Flags) -> Result<(), Failure> {
    let config = load(flags)?;
    log::to_standard_error(&config.log);
    let service = Client::new(config.executor_socket());
    let clock = ControlClock::default();
    let mut end = Box::pin(process::input_ended());
    let mut membership = None;
    if config.among_others() {
        let mut own = open(&config, &clock)?;
        // The service has just started this process, and knows it by its socket.
        let enrolled = async {
            while let Err(error) = own.enrol(&service, None, None).await {
                tracing::warn!(%error, "the service does not vouch for its own executor yet");
                tokio::time::sleep(process::UNREACHABLE_WAIT).await;
            }
        };
        tokio::select! {
            () = enrolled => {}
            () = &mut end => return Ok(()),
        }
        membership = Some(own);
    }
    run(&config, service, instance, membership, clock, config.peer_listen, end).await
}

/// Runs as the executor of this host, for a service on another one.
async fn joined(service: &Server, api: Option<SocketAddr>, flags: Flags, common: &Common) -> Result<(), Failure> {
    // There is no REST here: what others can connect to is the executor itself.
    let config = load(&flags.meaning("listen", "peer-listen"))?;
    config.check_roots().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    log::to_standard_error(&config.log);
    let Server::Tls(host, port) = service else {
        let why = format!("{service} cannot be joined from another host: write https://HOST:PORT");
        return Err(Failure::new(Exit::Usage, why));
    };
    let mut signals = Signals::new().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let clock = ControlClock::default();
    let mut membership = open(&config, &clock)?;
    let deployment = membership.enrolled().map(|enrolled| enrolled.ca.clone());
    let unusable = |why: String| Failure::new(Exit::Usage, why);
    let roots = door::trusted(common.ca.as_deref(), deployment.as_deref()).map_err(unusable)?;
    let speak = |shown| door::client(roots.clone(), shown, clock.clone()).map_err(unusable);
    let client = Client::remote(host, *port, speak(membership.shown())?);
    let known = membership.enrolled().is_some_and(|enrolled| enrolled.name == config.name);
    // A host that has enrolled needs no invitation, and may keep none.
    let invitation = if known { common.token().ok().flatten() } else { common.token()? };
    if let Some(invitation) = invitation {
        let ways = Ways { own: client.clone(), stranger: Client::remote(host, *port, speak(Shown::default())?) };
        let enrolled = tokio::select! {
            enrolled = enrol(&mut membership, &ways, &config.name, known, &invitation) => enrolled,
            _ = signals.next() => return Ok(()),
        };
        enrolled.map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    } else if !known {
        let why = format!(
            "this host has not joined as {} before: show an invitation (--token-file FILE); `staccato executors invite {}` on \
             the service's host makes one",
            config.name, config.name
        );
        return Err(Failure::new(Exit::Usage, why));
    }
    let listen = if config.is_default("peer_listen") {
        Some(PEER_LISTEN_DEFAULT.parse().expect("an address"))
    } else {
        config.peer_listen
    };
    let doors = local_api::listen(api, config.socket.as_deref()).await;
    let doors = doors.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let (stop, stopping) = watch::channel(false);
    let answering = tokio::spawn(local_api::serve(doors, client.clone(), stopping));
    let end = async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping");
        let _ = stop.send(true);
        let _ = answering.await;
    };
    run(&config, client, format!("{}@{}", Uuid::now_v7(), config.name), Some(membership), clock, listen, end).await
}

/// An address of loopback.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<Listen>() {
        Ok(Listen::Plain(address)) => Ok(address),
        Ok(Listen::Tls(_)) => Err("users of this host need no TLS; write ADDRESS:PORT".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// How to speak with the service.
struct Ways {
    /// With the certificate, if there is one.
    own: Client,
    /// Without.
    stranger: Client,
}

/// Has the service vouch, however long it is not reached: for a host that has enrolled by its certificate, and where that
/// counts no more (it was forgotten, or away for too long), or never did, by the invitation.
async fn enrol(
    membership: &mut Membership,
    ways: &Ways,
    name: &HostName,
    mut known: bool,
    invitation: &str,
) -> Result<(), CallError> {
    let mut told = None;
    loop {
        let answer = match known {
            true => membership.enrol(&ways.own, None, None).await,
            false => membership.enrol(&ways.stranger, Some(name.clone()), Some(invitation)).await,
        };
        match answer {
            Err(CallError::Unwanted(_) | CallError::Expired) if known => {
                tracing::info!("the certificate of this host counts no more; trying the invitation");
                known = false;
            }
            Err(error @ CallError::Unreachable(_)) => {
                // Once for each reason: it may take long.
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::warn!(%error, "cannot enrol; trying until it succeeds{}", advice(&why));
                    told = Some(why);
                }
                tokio::time::sleep(process::UNREACHABLE_WAIT * 5).await;
            }
            Ok(()) => {
                tracing::info!(%name, "enrolled");
                return Ok(());
            }
            refused => return refused,
        }
    }
}

/// What to do about a service with which no connection can be made.
fn advice(why: &str) -> &'static str {
    match why {
        _ if why.contains("not valid for name") => {
            ". Write the service's name in --join as it stands in its certificate (`staccato pki issue --host`)"
        }
        _ if why.contains("invalid peer certificate") => {
            ". Name the authority that vouches for the service: --ca FILE, a copy of its pki/ca.pem"
        }
        _ if why.contains("InvalidContentType") => {
            ". No TLS is spoken there: is it the port of an https:// address in the service's --listen?"
        }
        _ => "",
    }
}

fn open(config: &Config, clock: &ControlClock) -> Result<Membership, Failure> {
    let folder: PathBuf = config.data_dir.join("executor");
    Membership::open(&folder, clock.clone()).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

async fn run(
    config: &Config,
    service: Client,
    instance: String,
    membership: Option<Membership>,
    clock: ControlClock,
    listen: Option<SocketAddr>,
    end: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let registry = config.registry();
    let peers = membership.as_ref().and_then(|membership| {
        Some(PeersConfig {
            identity: membership.identity()?,
            listen,
            quic_ports: config.quic_ports.clone(),
            plain: config.peer_plain,
            ticket_key: membership.ticket_key()?,
            control_time: clock.control_time(),
            copies: Some(config.data_dir.join("copies")),
        })
    });
    let dataplane = match peers {
        Some(peers) => Dataplane::start_among(config.dataplane(), registry.clone(), peers),
        None => Dataplane::start(config.dataplane(), registry.clone()),
    }?;
    let addresses = dataplane.addresses();
    let announced = Announcement {
        version: env!("CARGO_PKG_VERSION").into(),
        slots: config.slots,
        lanes: config.lanes,
        roots: config.roots.iter().map(ToString::to_string).collect(),
        address: addresses.as_ref().map(|addresses| addresses.tcp),
        quic: addresses.iter().flat_map(|addresses| &addresses.quic).map(SocketAddr::port).collect(),
        plain: config.peer_plain,
        key: membership.as_ref().and_then(Membership::key),
        labels: config.labels.clone(),
        rack: config.rack.clone(),
    };
    let (linked, visited) = (dataplane.clone(), dataplane.clone());
    let (offering, withdrawing) = (dataplane.clone(), dataplane.clone());
    let offers = Box::new(move || offering.offers());
    let withdraw = Box::new(move |key: &str| withdrawing.withdraw(key));
    let links = Box::new(move || linked.links());
    let refusals = Box::new(move || visited.refusals());
    let options = ExecutorOptions {
        service: service.clone(),
        instance,
        attempts_max: config.slots,
        registry,
        announced,
        clock,
        links,
        offers,
        withdraw,
        refusals,
    };
    let attempt = move |spec: AttemptSpec, reporter: Box<dyn Reporter>| dataplane.attempt(spec, |_| reporter);
    let renewing = async {
        match membership {
            Some(mut membership) => membership.keep_current(&service).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = process::run(options, attempt, end) => ended.map_err(|error| Failure::new(Exit::Refused, error.to_string())),
        () = renewing => unreachable!("renewing never ends"),
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
