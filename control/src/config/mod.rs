//! Configuration: read once at start, valid ever after.
//!
//! Every setting is one row of the table in `keys`; the file's keys, the `STACCATO_...` variables, the flags and the
//! reference in this crate's README all come from it. Of the places that give a setting the weightiest wins: flag,
//! then environment, then file, then default (`layers`). Where a value came from is kept, so that `staccato config`
//! can show it and every complaint can name it.

mod keys;
mod layers;
mod listen;
mod reference;
mod registry;
mod roots;
mod scheduler;
mod size;
mod values;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

pub use layers::{Environment, Flags};
pub use listen::{Listen, ListenError};
pub use reference::reference_table;
pub use registry::registry;
pub use roots::OwnedRoot;
pub use scheduler::{SchedulerChoice, SystemUser};
pub use size::{display_size, parse_size};
use staccato_dataplane::{DataplaneConfig, attempt::LaneChoice};
use staccato_protocols::{
    Registry,
    keystone::callers::Callers,
    plugin::{Patience, find},
    spool::{SpoolConfig, WhenFull},
    web::{Web, networks::Networks},
};

use crate::{
    api::keystone::Gate,
    credentials::{ConfiguredCredentials, EnvironmentCredential},
    model::{HostName, Word},
};

/// Everything `serve` can be told. Made only by [`Config::load`], so every value is within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where REST listens on TCP.
    pub listen: Vec<Listen>,
    /// Certificate for `https`, and those that vouch for it.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Where REST listens on a Unix socket.
    pub socket: Option<PathBuf>,
    /// Folder of the store, its keys and the executors' socket.
    pub data_dir: PathBuf,
    /// What this host is called.
    pub name: HostName,
    /// What its operator says of this host.
    pub labels: BTreeMap<Word, Word>,
    /// The rack that this host is in.
    pub rack: Option<Word>,
    /// Where executors of other hosts connect to this host's; none: they do not.
    pub peer_listen: Option<SocketAddr>,
    /// UDP ports for QUIC between executors, one for each lane; none: those of `peer_listen` and behind it.
    pub quic_ports: Option<RangeInclusive<u16>>,
    /// Whether bytes may travel between executors unencrypted.
    pub peer_plain: bool,
    /// Folder of the deployment's authority.
    pub pki_dir: PathBuf,
    /// How long the certificates of executors last.
    pub certificate_life: Duration,
    /// How long executors go on while the service is not reached.
    pub outage_max: Duration,
    /// Folders whose files may be moved; the `file` protocol is off without one.
    pub roots: Vec<OwnedRoot>,
    /// Folder of credentials in files.
    pub credentials: Option<PathBuf>,
    /// Credentials in the service's environment.
    pub credential_env: Vec<EnvironmentCredential>,
    /// Folders with protocols from outside.
    pub plugin_path: Vec<PathBuf>,
    /// The user that protocols from outside run as; none: the service's own.
    pub plugin_user: Option<SystemUser>,
    /// How long protocols from outside may take to answer.
    pub plugin_timeout: Duration,
    /// Transfers that may run at a time.
    pub slots: usize,
    /// Who decides which transfers run.
    pub scheduler: SchedulerChoice,
    /// The user that a scheduler plug-in from outside runs as; none: the service's own.
    pub scheduler_user: Option<SystemUser>,
    /// How long a scheduler plug-in from outside may take to answer.
    pub scheduler_timeout: Duration,
    /// Which executors `serve` starts.
    pub executors: Executors,
    /// Which lanes move files to files.
    pub lane: LaneChoice,
    /// Lanes of each kind in an executor.
    pub lanes: usize,
    /// Most memory of an executor's buffers, in bytes.
    pub memory_bytes: u64,
    /// Bytes per chunk unless a transfer says otherwise: a multiple of the CRC block.
    pub chunk_bytes: u64,
    /// The folder of the spool; one in the data folder when absent.
    pub spool_dir: Option<PathBuf>,
    /// Most bytes that the spool may use; 0: there is none.
    pub spool_bytes: u64,
    /// What happens when it is full.
    pub spool_full: WhenFull,
    /// What is logged: a filter as of `tracing_subscriber`.
    pub log: String,
    /// Whether `http://` is offered beside `https://`.
    pub allow_http: bool,
    /// Networks of the host itself that objects may be read from.
    pub allow_networks: Networks,
    /// Whether Keystone vouches for callers.
    pub keystone: bool,
    /// Where Keystone is.
    pub keystone_url: Option<String>,
    /// The role of Keystone's that makes an admin here.
    pub keystone_admin_role: String,
    /// How long what Keystone told of a token is believed.
    pub keystone_cache: Duration,
    /// Certificates that vouch for Keystone's, besides the operating system's.
    pub keystone_ca: Option<PathBuf>,
    /// Longest time between two heartbeats of an executor.
    pub heartbeat: Duration,
    /// How long an executor that is not heard keeps its transfers.
    pub lease: Duration,
    /// Where each value came from, in the table's order.
    origins: Vec<Origin>,
}

/// Which executors `serve` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executors {
    /// One on this host, as a child process.
    Local,
    /// None: transfers wait.
    None,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(String),
}

/// A configuration that cannot be used, in one sentence that names the setting and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// One setting as `staccato config` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// The key in the file.
    pub key: &'static str,
    /// The value in force, as it would be written.
    pub value: String,
    /// Where it came from.
    pub origin: String,
}

/// The protocols and the credentials that a service offers.
#[derive(Clone)]
pub struct Offer {
    /// The protocols.
    pub registry: Registry,
    /// The credentials that the operator keeps outside of the store.
    pub credentials: ConfiguredCredentials,
}

impl Config {
    /// Reads the file that `flags` name (if they name one), the environment and the flags, and checks everything.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Self, ConfigError> {
        let layered = layers::merge(flags, environment)?;
        let mut config = Self::blank();
        for (key, setting) in keys::KEYS.iter().zip(layered) {
            let (values, origin) = match setting {
                Some(setting) => (setting.values, setting.origin),
                None => ((key.default)(&config, environment), Origin::Default),
            };
            (key.apply)(&mut config, &values)
                .map_err(|why| ConfigError(format!("{} (from {origin}): {why}", key.name)))?;
            config.origins.push(origin);
        }
        config.check_together()?;
        Ok(config)
    }

    /// Every setting with its value and origin, in the table's order.
    pub fn shown(&self) -> Vec<Shown> {
        let show = |(key, origin): (&keys::Key, &Origin)| Shown {
            key: key.name,
            value: match (key.written)(self).join(", ") {
                empty if empty.is_empty() => "none".into(),
                value => value,
            },
            origin: origin.to_string(),
        };
        keys::KEYS.iter().zip(&self.origins).map(show).collect()
    }

    /// This configuration as flags, for a process that shall have the very same one.
    pub fn as_arguments(&self) -> Vec<OsString> {
        let argument = |key: &keys::Key, value: String| format!("--{}={value}", key.flag).into();
        keys::KEYS.iter().flat_map(|key| (key.written)(self).into_iter().map(|value| argument(key, value))).collect()
    }

    /// What the dataplane of an executor is given.
    pub fn dataplane(&self) -> DataplaneConfig {
        DataplaneConfig {
            memory_bytes: self.memory_bytes,
            lanes: self.lanes,
            lane_choice: self.lane,
            chunk_bytes: self.chunk_bytes,
            attempts_max: self.slots,
            spool: self.spool(),
            among_others: self.among_others(),
        }
    }

    /// The spool of an executor; none where it may use nothing.
    fn spool(&self) -> Option<SpoolConfig> {
        let folder = self.spool_dir.clone().unwrap_or_else(|| self.data_dir.join("spool"));
        let (bytes_max, when_full) = (self.spool_bytes, self.spool_full);
        (bytes_max > 0).then_some(SpoolConfig { folder, bytes_max, when_full })
    }

    /// Whether there may be executors on other hosts: only over TLS can they come in.
    pub fn among_others(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Whether nobody said anything about this setting.
    pub fn is_default(&self, name: &str) -> bool {
        let at = keys::KEYS.iter().position(|key| key.name == name).expect("a key of the table");
        self.origins[at] == Origin::Default
    }

    /// The protocols on offer. Plug-ins are started to hear what they are: it may take some seconds.
    pub fn registry(&self) -> Registry {
        self.with_plugins(registry::registry(&self.roots, self.allow_http, self.allow_networks.clone()))
    }

    /// A registry with the protocols from outside besides.
    pub fn with_plugins(&self, registry: Registry) -> Registry {
        let patience = Patience { answer: self.plugin_timeout, ..Patience::default() };
        registry.with_found(find::all(&self.plugin_path, self.plugin_user, patience))
    }

    /// What is offered to whoever asks, for whoever is about to serve. Plug-ins are started once, to hear what they are.
    pub fn offer(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Offer, ConfigError> {
        let registry = self.registry();
        let credentials = self.configured_credentials(&registry, variable)?;
        Ok(Offer { registry, credentials })
    }

    /// The credentials that the operator keeps in files and in the environment.
    fn configured_credentials(
        &self,
        registry: &Registry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ConfiguredCredentials, ConfigError> {
        let mut named = Vec::new();
        for one in &self.credential_env {
            let refused = |why: &dyn fmt::Display| ConfigError(format!("credential_env ({one}): {why}"));
            let read = one.read(&variable, |scheme| registry.of_scheme(scheme).is_some());
            let credential = read.map_err(|error| refused(&error))?;
            credential.definition.check(registry).map_err(|problem| refused(&problem))?;
            named.push(credential);
        }
        let configured = ConfiguredCredentials::new(self.credentials.clone(), named);
        let folder = self.credentials.as_deref().unwrap_or("".as_ref()).display();
        configured.check().map_err(|error| ConfigError(format!("credentials ({folder}): {error}")))?;
        Ok(configured)
    }

    /// How callers are known whom Keystone vouches for; none where it is not asked.
    pub fn keystone_gate(&self) -> Result<Option<Gate>, ConfigError> {
        let Some(url) = self.keystone_url.as_ref() else { return Ok(None) };
        let unreadable =
            |error, path: &Path| ConfigError(format!("keystone_ca: cannot read {}: {error}", path.display()));
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|error| unreadable(error, path));
        let ca = self.keystone_ca.as_ref().map(read).transpose()?;
        // It is the operator's own: its address is no caller's choice.
        let web = if self.allow_http { Web::new() } else { Web::new().secure() };
        let callers = Callers::new(web, url, ca.as_deref()).map_err(|error| ConfigError(error.message))?;
        Ok(Some(Gate::new(callers, &self.keystone_admin_role, self.keystone_cache)))
    }

    /// The socket at which everything is allowed.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }

    /// The executors' own socket.
    pub fn executor_socket(&self) -> PathBuf {
        self.data_dir.join("executor.sock")
    }

    /// Whether executors of other hosts could find this one where it listens, for a service about to start one.
    pub fn check_peers(&self) -> Result<(), ConfigError> {
        let Some(address) = self.peer_listen else { return Ok(()) };
        if !self.among_others() {
            let why = "needs tls_cert and tls_key: only a service with a certificate takes in executors of other hosts";
            return Err(ConfigError(format!("peer_listen ({address}) {why}")));
        }
        if address.ip().is_unspecified() {
            let why = "is what others are told; write the address by which they reach this host";
            return Err(ConfigError(format!("peer_listen ({address}) {why}")));
        }
        Ok(())
    }

    /// Whether every root is a folder that can be reached, for whoever is about to serve them.
    pub fn check_roots(&self) -> Result<(), ConfigError> {
        for root in &self.roots {
            let path = root.root.path().display();
            let why = match std::fs::metadata(root.root.path()) {
                Ok(found) if found.is_dir() => continue,
                Ok(_) => "it is not a folder".to_owned(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.to_string().contains(':') => {
                    "there is no such folder; only :ro or :rw, and then an owner, may follow its path".to_owned()
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(ConfigError(format!("the root {path} cannot be served: {why}")));
        }
        Ok(())
    }

    /// What no single setting can know.
    fn check_together(&self) -> Result<(), ConfigError> {
        if let Some(ports) = self.quic_ports.as_ref().filter(|ports| ports.len() < self.lanes) {
            return Err(ConfigError(format!(
                "quic_ports ({}-{}) has {} ports, and each of {} lanes needs one of its own",
                ports.start(),
                ports.end(),
                ports.len(),
                self.lanes
            )));
        }
        let needs_tls = self.listen.iter().find(|place| matches!(place, Listen::Tls(_)));
        if let Some(place) = needs_tls
            && (self.tls_cert.is_none() || self.tls_key.is_none())
        {
            return Err(ConfigError(format!("listen has {place}, which needs tls_cert and tls_key")));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError("tls_cert and tls_key belong together: give both, or neither".into()));
        }
        if self.keystone != self.keystone_url.is_some() {
            return Err(ConfigError("auth = keystone and keystone_url belong together: give both, or neither".into()));
        }
        for (number, root) in self.roots.iter().enumerate() {
            if self.roots[..number].iter().any(|other| other.root.path() == root.root.path()) {
                return Err(ConfigError(format!("roots has {} twice", root.root.path().display())));
            }
        }
        if self.listen.is_empty() && self.socket.is_none() {
            return Err(ConfigError("listen is none and socket is empty: nobody could reach the service".into()));
        }
        let socket = self.executor_socket();
        if socket.as_os_str().len() > keys::SOCKET_PATH_BYTES_MAX {
            return Err(ConfigError(format!(
                "data_dir is too long: {} has more than the {} bytes that a Unix socket's path can have",
                socket.display(),
                keys::SOCKET_PATH_BYTES_MAX
            )));
        }
        if self.lease < self.heartbeat * 2 {
            return Err(ConfigError(format!(
                "lease ({}) must be at least twice heartbeat ({}), or one late heartbeat loses every transfer",
                humantime::format_duration(self.lease),
                humantime::format_duration(self.heartbeat),
            )));
        }
        let needed = self.chunk_bytes.saturating_mul(2).saturating_mul(self.lanes as u64);
        if self.memory_bytes < needed {
            return Err(ConfigError(format!(
                "memory ({}) must hold two chunks for each lane: {} lanes of {} chunks need {}",
                display_size(self.memory_bytes),
                self.lanes,
                display_size(self.chunk_bytes),
                display_size(needed),
            )));
        }
        Ok(())
    }

    /// A configuration whose every field is about to be set: [`Config::load`] applies each row of the table, given or
    /// default, before anybody sees it.
    fn blank() -> Self {
        Self {
            listen: Vec::new(),
            tls_cert: None,
            tls_key: None,
            socket: None,
            data_dir: PathBuf::new(),
            name: this_machine(),
            labels: BTreeMap::new(),
            rack: None,
            peer_listen: None,
            quic_ports: None,
            peer_plain: false,
            pki_dir: PathBuf::new(),
            certificate_life: Duration::ZERO,
            outage_max: Duration::ZERO,
            roots: Vec::new(),
            credentials: None,
            credential_env: Vec::new(),
            plugin_path: Vec::new(),
            plugin_user: None,
            plugin_timeout: Duration::ZERO,
            slots: 0,
            scheduler: SchedulerChoice::Slots,
            scheduler_user: None,
            scheduler_timeout: Duration::ZERO,
            executors: Executors::None,
            lane: LaneChoice::Auto,
            lanes: 0,
            memory_bytes: 0,
            chunk_bytes: 0,
            spool_dir: None,
            spool_bytes: 0,
            spool_full: WhenFull::Wait,
            log: String::new(),
            allow_http: false,
            allow_networks: Networks::of([]),
            keystone: false,
            keystone_url: None,
            keystone_admin_role: String::new(),
            keystone_cache: Duration::ZERO,
            keystone_ca: None,
            heartbeat: Duration::ZERO,
            lease: Duration::ZERO,
            origins: Vec::new(),
        }
    }
}

/// What the operating system calls this machine, as far as it can be a host's name.
pub fn this_machine() -> HostName {
    HostName::of_machine(&rustix::system::uname().nodename().to_string_lossy())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}
