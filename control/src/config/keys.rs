//! The table of settings.

use std::collections::BTreeMap;

use staccato_protocols::{
    CRC_BLOCK,
    keystone::callers::Callers,
    spool::WhenFull,
    web::{Web, networks::Networks},
};

use super::{
    Config, Environment, Executors, Listen, OwnedRoot, SchedulerChoice, display_size, parse_size, this_machine,
    values::{absolute, count, duration, duration_within, known_level, one, optional_path, shown_path, single, switch},
};
use crate::{
    credentials::EnvironmentCredential,
    model::{Label, host::LABELS_MAX},
};

/// One setting.
pub(super) struct Key {
    /// Its name in the file; `STACCATO_` and the name in capitals is its variable.
    pub name: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// What a value stands for, in help and reference.
    pub value: &'static str,
    /// Whether it may be given several times (and is a list in the file, with commas in the environment).
    pub list: bool,
    /// The default as the reference says it.
    pub default_text: &'static str,
    /// One sentence for people: meaning, unit, bounds.
    pub help: &'static str,
    /// The default as it would be written; may look at settings that stand above it.
    pub default: fn(&Config, &Environment) -> Vec<String>,
    /// Parses what was written into its field.
    pub apply: fn(&mut Config, &[String]) -> Result<(), String>,
    /// Writes its field back, as it would be given.
    pub written: fn(&Config) -> Vec<String>,
}

/// Most transfers that may run at a time.
const SLOTS_MAX: u64 = 1024;
/// Most lanes of each kind.
const LANES_MAX: u64 = 64;
/// Lanes unless told.
const LANES_DEFAULT_MAX: usize = 4;
/// Largest chunk.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Longest path of a Unix socket, in bytes (`sun_path` of unix(7), less its final zero).
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// All settings, in the order in which they are applied and shown.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "listen",
        flag: "listen",
        value: "[https://]ADDRESS:PORT",
        list: true,
        default_text: "127.0.0.1:5309",
        help: "Where the REST API listens: on loopback addresses, where the operating system says who asks, and with \
               `https://` on any, where tokens do; or `none`. Port 0 takes any free port",
        default: |_, _| one("127.0.0.1:5309"),
        apply: |config, values| {
            let parse = |text: &String| text.parse::<Listen>().map_err(|error| error.to_string());
            config.listen = match values {
                [none] if none == "none" => Vec::new(),
                values => values.iter().map(parse).collect::<Result<_, _>>()?,
            };
            Ok(())
        },
        written: |config| match &config.listen[..] {
            [] => one("none"),
            places => places.iter().map(ToString::to_string).collect(),
        },
    },
    Key {
        name: "tls_cert",
        flag: "tls-cert",
        value: "FILE",
        list: false,
        default_text: "none",
        help: "Certificate of the service and of those that vouch for it, in this order (PEM), for `https://` in \
               `listen`. Read again when it changes",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.tls_cert = optional_path(single(values)?)?;
            Ok(())
        },
        written: |config| one(&shown_path(config.tls_cert.as_deref())),
    },
    Key {
        name: "tls_key",
        flag: "tls-key",
        value: "FILE",
        list: false,
        default_text: "none",
        help: "Private key of that certificate (PEM). Read again when it changes",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.tls_key = optional_path(single(values)?)?;
            Ok(())
        },
        written: |config| one(&shown_path(config.tls_key.as_deref())),
    },
    Key {
        name: "socket",
        flag: "socket",
        value: "PATH",
        list: false,
        default_text: "none",
        help: "Unix socket of the REST API (mode 0660: its folder, owner and group decide who may connect), or `none`",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.socket = match single(values)? {
                "" | "none" => None,
                text if text.len() > SOCKET_PATH_BYTES_MAX => {
                    return Err(format!("a Unix socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes"));
                }
                text => Some(absolute(text)?),
            };
            Ok(())
        },
        written: |config| one(&config.socket.as_ref().map_or("none".into(), |path| path.display().to_string())),
    },
    Key {
        name: "data_dir",
        flag: "data-dir",
        value: "DIR",
        list: false,
        default_text: "$XDG_STATE_HOME/staccato, else ~/.local/state/staccato",
        help: "Folder of the store; made with mode 0700. One service at a time can use it",
        default: |_, environment| environment.state_dir().into_iter().collect(),
        apply: |config, values| {
            if values.is_empty() {
                return Err("neither XDG_STATE_HOME nor HOME is set; name a folder".into());
            }
            config.data_dir = absolute(single(values)?)?;
            Ok(())
        },
        written: |config| one(&config.data_dir.display().to_string()),
    },
    Key {
        name: "roots",
        flag: "root",
        value: "PATH[:ro|:rw[:OWNER]]",
        list: true,
        default_text: "none",
        help: "Folders whose files may be moved: `:ro` only from, `:rw` (or neither) also to; with an owner by that one \
               only. Where there are tokens, one without owner is for admins. Without any root, `file` is off",
        default: |_, _| Vec::new(),
        apply: |config, values| {
            let parse = |text: &String| text.parse::<OwnedRoot>();
            config.roots = values.iter().map(parse).collect::<Result<_, _>>()?;
            Ok(())
        },
        written: |config| config.roots.iter().map(ToString::to_string).collect(),
    },
    Key {
        name: "credentials",
        flag: "credentials",
        value: "DIR",
        list: false,
        default_text: "none",
        help: "Folder of credentials in files, `NAME.toml` or `NAME.json`, that nobody else may look into (mode 0700, and 0600 \
               of the files). Read anew whenever one is used",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.credentials = optional_path(single(values)?)?;
            Ok(())
        },
        written: |config| one(&shown_path(config.credentials.as_deref())),
    },
    Key {
        name: "credential_env",
        flag: "credential-env",
        value: "NAME=KIND[ OWNER][ URL...]",
        list: true,
        default_text: "none",
        help: "Credentials whose values are in the service's environment, in the variables of a kind: `http`, `s3` or \
               `keystone`; for everybody, or for an owner; below any URL, or below these",
        default: |_, _| Vec::new(),
        apply: |config, values| {
            let parse = |text: &String| text.parse::<EnvironmentCredential>();
            config.credential_env = values.iter().map(parse).collect::<Result<_, _>>()?;
            Ok(())
        },
        written: |config| config.credential_env.iter().map(ToString::to_string).collect(),
    },
    Key {
        name: "plugin_path",
        flag: "plugin-path",
        value: "DIR[:DIR]",
        list: false,
        default_text: "none",
        help: "Folders with executables `staccato-protocol-NAME`, each of which adds the scheme NAME (see \
               protocols/PLUGINS.md), or `none`. They must belong to root or the service's user",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.plugin_path = match single(values)? {
                "" | "none" => Vec::new(),
                path => path.split(':').map(absolute).collect::<Result<_, _>>()?,
            };
            Ok(())
        },
        written: |config| match &config.plugin_path[..] {
            [] => one("none"),
            path => {
                let folders: Vec<_> = path.iter().map(|folder| folder.display().to_string()).collect();
                one(&folders.join(":"))
            }
        },
    },
    Key {
        name: "plugin_user",
        flag: "plugin-user",
        value: "NAME|UID:GID",
        list: false,
        default_text: "none",
        help: "User that such executables run as, for a service of root: a name in /etc/passwd, or two numbers; with \
               `none` the service's own",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.plugin_user = match single(values)? {
                "" | "none" => None,
                text => Some(text.parse()?),
            };
            Ok(())
        },
        written: |config| one(&config.plugin_user.map_or("none".into(), |user| user.to_string())),
    },
    Key {
        name: "plugin_timeout",
        flag: "plugin-timeout",
        value: "DURATION",
        list: false,
        default_text: "30s",
        help: "How long such an executable may take to answer, 100ms to 10m (four times as long to sync, commit and \
               sweep); then it is killed, and started again when it is needed",
        default: |_, _| one("30s"),
        apply: |config, values| {
            config.plugin_timeout = duration(single(values)?)?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.plugin_timeout).to_string()),
    },
    Key {
        name: "slots",
        flag: "slots",
        value: "N",
        list: false,
        default_text: "4",
        help: "Transfers that may run at a time, 1 to 1024",
        default: |_, _| one("4"),
        apply: |config, values| {
            config.slots = count(single(values)?, 1, SLOTS_MAX)? as usize;
            Ok(())
        },
        written: |config| one(&config.slots.to_string()),
    },
    Key {
        name: "scheduler",
        flag: "scheduler",
        value: "slots|PATH",
        list: false,
        default_text: "slots",
        help: "Who decides which transfers run: `slots` (first come first served within a priority), or an executable \
               that is asked (see scheduler-plugins/README.md). Its path has a `/`",
        default: |_, _| one("slots"),
        apply: |config, values| {
            config.scheduler = match single(values)? {
                "slots" => SchedulerChoice::Slots,
                path if path.contains('/') => SchedulerChoice::Outside(absolute(path)?),
                text => return Err(format!("{text:?} is no scheduler; use slots, or a path with a / (./{text})")),
            };
            Ok(())
        },
        written: |config| match &config.scheduler {
            SchedulerChoice::Slots => one("slots"),
            SchedulerChoice::Outside(path) => one(&path.display().to_string()),
        },
    },
    Key {
        name: "scheduler_user",
        flag: "scheduler-user",
        value: "NAME|UID:GID",
        list: false,
        default_text: "none",
        help: "User that such an executable runs as, for a service of root: a name in /etc/passwd, or two numbers; with \
               `none` the service's own",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.scheduler_user = match single(values)? {
                "" | "none" => None,
                text => Some(text.parse()?),
            };
            Ok(())
        },
        written: |config| one(&config.scheduler_user.map_or("none".into(), |user| user.to_string())),
    },
    Key {
        name: "scheduler_timeout",
        flag: "scheduler-timeout",
        value: "DURATION",
        list: false,
        default_text: "5s",
        help: "How long such an executable may take to answer, 100ms to 10m; then it is killed and started again, and \
               meanwhile `slots` decides",
        default: |_, _| one("5s"),
        apply: |config, values| {
            config.scheduler_timeout = duration(single(values)?)?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.scheduler_timeout).to_string()),
    },
    Key {
        name: "executors",
        flag: "executors",
        value: "local|none",
        list: false,
        default_text: "local",
        help: "Whether the service starts an executor of its own; with `none`, transfers wait",
        default: |_, _| one("local"),
        apply: |config, values| {
            config.executors = match single(values)? {
                "local" => Executors::Local,
                "none" => Executors::None,
                text => return Err(format!("{text:?} is no choice; use local or none")),
            };
            Ok(())
        },
        written: |config| one(if config.executors == Executors::Local { "local" } else { "none" }),
    },
    Key {
        name: "lane",
        flag: "lane",
        value: "auto|tokio-uring|glommio",
        list: false,
        default_text: "auto",
        help: "Which lanes move files to files",
        default: |_, _| one("auto"),
        apply: |config, values| {
            config.lane = single(values)?.parse()?;
            Ok(())
        },
        written: |config| {
            let name = serde_json::to_value(config.lane).expect("a choice without fields is a string");
            one(name.as_str().expect("a choice without fields is a string"))
        },
    },
    Key {
        name: "lanes",
        flag: "lanes",
        value: "N",
        list: false,
        default_text: "number of cores, at most 4",
        help: "Lanes of each kind in an executor, 1 to 64",
        default: |_, _| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            vec![cores.min(LANES_DEFAULT_MAX).to_string()]
        },
        apply: |config, values| {
            config.lanes = count(single(values)?, 1, LANES_MAX)? as usize;
            Ok(())
        },
        written: |config| one(&config.lanes.to_string()),
    },
    Key {
        name: "memory",
        flag: "memory",
        value: "SIZE",
        list: false,
        default_text: "256 MiB",
        help: "Most memory of an executor's buffers; at least two chunks for each lane. Each slot has its share; a transfer whose chunks are larger than that allows gets smaller ones",
        default: |_, _| one("256M"),
        apply: |config, values| {
            config.memory_bytes = parse_size(single(values)?)?;
            Ok(())
        },
        written: |config| one(&display_size(config.memory_bytes)),
    },
    Key {
        name: "spool_size",
        flag: "spool-size",
        value: "SIZE",
        list: false,
        default_text: "16 GiB",
        help: "Most disk that an executor keeps objects on while they are on their way: those whose destination takes one stream only, and those whose source cannot seek. What is not in use stays as a cache. With 0 there is no spool, and such objects are fetched again when something breaks",
        default: |_, _| one("16G"),
        apply: |config, values| {
            let text = single(values)?;
            config.spool_bytes = if text == "0" { 0 } else { parse_size(text)? };
            Ok(())
        },
        written: |config| one(&if config.spool_bytes == 0 { "0".into() } else { display_size(config.spool_bytes) }),
    },
    Key {
        name: "spool_dir",
        flag: "spool-dir",
        value: "DIR",
        list: false,
        default_text: "spool in the data folder",
        help: "Folder of the spool",
        default: |_, _| Vec::new(),
        apply: |config, values| {
            config.spool_dir = if values.is_empty() { None } else { Some(absolute(single(values)?)?) };
            Ok(())
        },
        written: |config| config.spool_dir.iter().map(|folder| folder.display().to_string()).collect(),
    },
    Key {
        name: "spool_full",
        flag: "spool-full",
        value: "wait|fail",
        list: false,
        default_text: "wait",
        help: "Whether a transfer that needs room in a spool full of objects in use waits for it, or fails and is tried again",
        default: |_, _| one("wait"),
        apply: |config, values| {
            config.spool_full = match single(values)? {
                "wait" => WhenFull::Wait,
                "fail" => WhenFull::Fail,
                text => return Err(format!("{text:?} is no choice; use wait or fail")),
            };
            Ok(())
        },
        written: |config| one(if config.spool_full == WhenFull::Wait { "wait" } else { "fail" }),
    },
    Key {
        name: "chunk_size",
        flag: "chunk-size",
        value: "SIZE",
        list: false,
        default_text: "4 MiB",
        help: "Unit of reading, writing and retry unless a transfer says otherwise: a multiple of 1 MiB, at most 64 MiB",
        default: |_, _| one("4M"),
        apply: |config, values| {
            let bytes = parse_size(single(values)?)?;
            if bytes == 0 || !bytes.is_multiple_of(CRC_BLOCK) || bytes > CHUNK_BYTES_MAX {
                let (block, max) = (display_size(CRC_BLOCK), display_size(CHUNK_BYTES_MAX));
                return Err(format!("{} is no multiple of {block} between {block} and {max}", display_size(bytes)));
            }
            config.chunk_bytes = bytes;
            Ok(())
        },
        written: |config| one(&display_size(config.chunk_bytes)),
    },
    Key {
        name: "log",
        flag: "log",
        value: "FILTER",
        list: false,
        default_text: "info",
        help: "What is logged to standard error, as a filter of levels and modules, \
               for instance `warn,staccato_control=debug`",
        default: |_, _| one("info"),
        apply: |config, values| {
            let text = single(values)?;
            text.parse::<tracing_subscriber::EnvFilter>()
                .map_err(|error| format!("{text:?} is no filter ({error})"))?;
            text.split(',').try_for_each(known_level)?;
            config.log = text.to_owned();
            Ok(())
        },
        written: |config| one(&config.log),
    },
    Key {
        name: "allow_http",
        flag: "allow-http",
        value: "true|false",
        list: false,
        default_text: "true",
        help: "Whether `http` is offered beside `https`, and `glance` beside `glance+https`",
        default: |_, _| one("true"),
        apply: |config, values| {
            config.allow_http = switch(single(values)?)?;
            Ok(())
        },
        written: |config| one(&config.allow_http.to_string()),
    },
    Key {
        name: "allow_networks",
        flag: "allow-network",
        value: "NETWORK",
        list: true,
        default_text: "`none` with `tls_cert`, else `any`",
        help: "Addresses of the host itself, and of its link, that `http` and `glance` may connect to, whatever name or \
               redirect leads there: networks (for instance 127.0.0.0/8), `any` or `none`. Addresses elsewhere are always open",
        // A certificate is there for others: on `listen`, or on a socket that is handed over.
        default: |config, _| one(if config.tls_cert.is_some() { "none" } else { "any" }),
        apply: |config, values| {
            config.allow_networks = match values {
                [none] if none == "none" => Networks::of([]),
                [any] if any == "any" => Networks::any(),
                values => Networks::of(values.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?),
            };
            Ok(())
        },
        written: |config| match &config.allow_networks {
            any if *any == Networks::any() => one("any"),
            networks if networks.iter().len() == 0 => one("none"),
            networks => networks.iter().map(ToString::to_string).collect(),
        },
    },
    Key {
        name: "auth",
        flag: "auth",
        value: "tokens|keystone",
        list: false,
        default_text: "tokens",
        help: "Who says who asks, besides the operating system: the service's own tokens, or with `keystone` also an \
               OpenStack's Keystone (`X-Auth-Token`)",
        default: |_, _| one("tokens"),
        apply: |config, values| {
            config.keystone = match single(values)? {
                "tokens" => false,
                "keystone" => true,
                text => return Err(format!("{text:?} is no choice; use tokens or keystone")),
            };
            Ok(())
        },
        written: |config| one(if config.keystone { "keystone" } else { "tokens" }),
    },
    Key {
        name: "keystone_url",
        flag: "keystone-url",
        value: "URL",
        list: false,
        default_text: "none",
        help: "Where Keystone is, for instance https://keystone.example:5000/v3, with `auth = keystone`",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.keystone_url = match single(values)? {
                "" | "none" => None,
                text => {
                    Callers::new(Web::new(), text, None).map_err(|error| error.message)?;
                    Some(text.to_owned())
                }
            };
            Ok(())
        },
        written: |config| one(config.keystone_url.as_deref().unwrap_or("none")),
    },
    Key {
        name: "keystone_admin_role",
        flag: "keystone-admin-role",
        value: "ROLE",
        list: false,
        default_text: "admin",
        help: "Whoever has this role of Keystone's sees every project's transfers, and may use every root",
        default: |_, _| one("admin"),
        apply: |config, values| {
            config.keystone_admin_role = match single(values)?.trim() {
                "" => return Err("name a role; one that nobody has makes no admins".into()),
                role => role.to_owned(),
            };
            Ok(())
        },
        written: |config| one(&config.keystone_admin_role),
    },
    Key {
        name: "keystone_cache",
        flag: "keystone-cache",
        value: "DURATION",
        list: false,
        default_text: "1m",
        help: "How long what Keystone told of a token is believed, 1s to 1h: so long a revoked one goes on working, and \
               Keystone may be away",
        default: |_, _| one("1m"),
        apply: |config, values| {
            config.keystone_cache = duration_within(single(values)?, "1s", "1h")?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.keystone_cache).to_string()),
    },
    Key {
        name: "keystone_ca",
        flag: "keystone-ca",
        value: "FILE",
        list: false,
        default_text: "none",
        help: "Certificates (PEM) that vouch for Keystone's, besides those of the operating system",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.keystone_ca = optional_path(single(values)?)?;
            Ok(())
        },
        written: |config| one(&shown_path(config.keystone_ca.as_deref())),
    },
    Key {
        name: "name",
        flag: "name",
        value: "HOST",
        list: false,
        default_text: "this machine's name",
        help: "What this host is called in URLs (`file://HOST/path`) and by executors of other hosts: small letters, \
               digits, `-` and `.`",
        default: |_, _| one(this_machine().as_str()),
        apply: |config, values| {
            config.name = single(values)?.parse()?;
            Ok(())
        },
        written: |config| one(config.name.as_str()),
    },
    Key {
        name: "label",
        flag: "label",
        value: "KEY=VALUE",
        list: true,
        default_text: "none",
        help: "What is said of this host, for those who choose hosts by it (`--hosts label.KEY=VALUE` of `staccato distribute`): \
               words of letters, digits, `-`, `_`, `.` and `/`, at most 32 labels",
        default: |_, _| Vec::new(),
        apply: |config, values| {
            config.labels = BTreeMap::new();
            for value in values {
                let Label { key, value } = value.parse()?;
                if let Some(before) = config.labels.insert(key.clone(), value) {
                    return Err(format!("the label {key} is given twice ({before} before)"));
                }
            }
            match config.labels.len() {
                ..=LABELS_MAX => Ok(()),
                more => Err(format!("{more} labels are given; a host has at most {LABELS_MAX}")),
            }
        },
        written: |config| config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    },
    Key {
        name: "rack",
        flag: "rack",
        value: "NAME",
        list: false,
        default_text: "none",
        help: "The rack that this host is in, a word like those of labels, or `none`: hosts of one rack are near one another",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.rack = match single(values)? {
                "" | "none" => None,
                text => Some(text.parse()?),
            };
            Ok(())
        },
        written: |config| one(config.rack.as_ref().map_or("none", |rack| rack.as_str())),
    },
    Key {
        name: "peer_listen",
        flag: "peer-listen",
        value: "ADDRESS:PORT",
        list: false,
        default_text: "none; 0.0.0.0:5310 with `executor --join`",
        help: "Where executors of other hosts connect to read this host's objects (TLS, with tickets), or `none`. \
               With `executor --join`, an unspecified address is told to them as the one that the service sees",
        default: |_, _| one("none"),
        apply: |config, values| {
            config.peer_listen = match single(values)? {
                "" | "none" => None,
                text => {
                    Some(text.parse().map_err(|_| format!("{text:?} is no ADDRESS:PORT, for instance 0.0.0.0:5310"))?)
                }
            };
            Ok(())
        },
        written: |config| one(&config.peer_listen.map_or("none".into(), |address| address.to_string())),
    },
    Key {
        name: "quic_ports",
        flag: "quic-ports",
        value: "FIRST-LAST",
        list: false,
        default_text: "the port of `peer_listen`, and those behind it",
        help: "UDP ports on which other executors may connect over QUIC, at least one for each lane",
        default: |_, _| one("auto"),
        apply: |config, values| {
            config.quic_ports = match single(values)? {
                "" | "auto" => None,
                text => {
                    let refused = || format!("{text:?} is no range of ports; write for instance 5310-5313");
                    let (first, last) = text.split_once('-').unwrap_or((text, text));
                    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
                    let (first, last) = (port(first).ok_or_else(refused)?, port(last).ok_or_else(refused)?);
                    Some(Some(first..=last).filter(|ports| !ports.is_empty()).ok_or_else(refused)?)
                }
            };
            Ok(())
        },
        written: |config| match &config.quic_ports {
            None => one("auto"),
            Some(ports) => one(&format!("{}-{}", ports.start(), ports.end())),
        },
    },
    Key {
        name: "peer_plain",
        flag: "peer-plain",
        value: "true|false",
        list: false,
        default_text: "false",
        help: "Whether objects may travel unencrypted between this host and others that allow it, too. Whoever sees a \
               ticket on its way can use it then, and reads what travels",
        default: |_, _| one("false"),
        apply: |config, values| {
            config.peer_plain = switch(single(values)?)?;
            Ok(())
        },
        written: |config| one(&config.peer_plain.to_string()),
    },
    Key {
        name: "pki_dir",
        flag: "pki-dir",
        value: "DIR",
        list: false,
        default_text: "`pki` in `data_dir`",
        help: "Folder of the deployment's authority (`staccato pki init`), which vouches for executors of other hosts; made \
               where there is none",
        default: |config, _| one(&config.data_dir.join("pki").display().to_string()),
        apply: |config, values| {
            config.pki_dir = absolute(single(values)?)?;
            Ok(())
        },
        written: |config| one(&config.pki_dir.display().to_string()),
    },
    Key {
        name: "certificate_life",
        flag: "certificate-life",
        value: "DURATION",
        list: false,
        default_text: "30d",
        help: "How long certificates of executors last, 10s to 10 years; they are renewed when two thirds are over",
        default: |_, _| one("30d"),
        apply: |config, values| {
            config.certificate_life = duration_within(single(values)?, "10s", "3650d")?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.certificate_life).to_string()),
    },
    Key {
        name: "outage_max",
        flag: "outage-max",
        value: "DURATION",
        list: false,
        default_text: "30m",
        help: "How long executors go on filling their partials while the service is not reached, and tickets between \
               them last, 1s to 1 day",
        default: |_, _| one("30m"),
        apply: |config, values| {
            config.outage_max = duration_within(single(values)?, "1s", "1d")?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.outage_max).to_string()),
    },
    Key {
        name: "heartbeat",
        flag: "heartbeat",
        value: "DURATION",
        list: false,
        default_text: "5s",
        help: "Longest time between two heartbeats of an executor, 100ms to 10m",
        default: |_, _| one("5s"),
        apply: |config, values| {
            config.heartbeat = duration(single(values)?)?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.heartbeat).to_string()),
    },
    Key {
        name: "lease",
        flag: "lease",
        value: "DURATION",
        list: false,
        default_text: "15s",
        help: "How long an executor that is not heard keeps its transfers: at least two heartbeats, at most 10m",
        default: |_, _| one("15s"),
        apply: |config, values| {
            config.lease = duration(single(values)?)?;
            Ok(())
        },
        written: |config| one(&humantime::format_duration(config.lease).to_string()),
    },
];

impl Key {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("STACCATO_{}", self.name.to_ascii_uppercase())
    }
}
