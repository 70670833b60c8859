//! File, environment and flags, laid over one another.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::{
    ConfigError, Origin,
    keys::{KEYS, Key},
};
use crate::model::{did_you_mean, nearest};

/// What our variables begin with.
const PREFIX: &str = "STACCATO_";
/// Variables with our prefix that are no settings: what the client commands read.
const OTHER_VARIABLES: &[&str] = &["STACCATO_SERVER", "STACCATO_TOKEN", "STACCATO_TOKEN_FILE", "STACCATO_CA"];

/// A setting that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub values: Vec<String>,
    pub origin: Origin,
}

/// The weightiest setting for each key of the table, where anybody gave one.
pub(super) fn merge(flags: &Flags, environment: &Environment) -> Result<Vec<Option<Setting>>, ConfigError> {
    let mut settings = vec![None; KEYS.len()];
    if let Some(path) = &flags.file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("cannot read the configuration file {}: {error}", path.display())))?;
        from_file(path, &text, &mut settings)?;
    }
    from_environment(environment, &mut settings)?;
    for (setting, key) in settings.iter_mut().zip(KEYS) {
        if let Some(values) = flags.values.get(key.flag) {
            *setting = Some(Setting { values: values.clone(), origin: Origin::Flag(key.flag.into()) });
        }
    }
    Ok(settings)
}

/// The flags of all settings, and `--config`. Built from the table; parsed by clap, checked by
/// [`Config::load`](super::Config::load).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The configuration file.
    pub file: Option<PathBuf>,
    pub(super) values: BTreeMap<&'static str, Vec<String>>,
}

impl Flags {
    /// The same flags with one more, for callers that start a service of their own. `flag` comes without its dashes.
    pub fn with(mut self, flag: &str, value: impl Into<String>) -> Self {
        let key = KEYS.iter().find(|key| key.flag == flag).expect("a flag of the table");
        let values = self.values.entry(key.flag).or_default();
        if !key.list {
            values.clear();
        }
        values.push(value.into());
        self
    }

    /// The same flags, what was given for one of them counting for another.
    pub fn meaning(mut self, flag: &str, meant: &str) -> Self {
        let key = KEYS.iter().find(|key| key.flag == meant).expect("a flag of the table");
        if let Some(values) = self.values.remove(flag) {
            self.values.insert(key.flag, values);
        }
        self
    }
}

impl Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Configuration file (TOML); none unless given"),
        );
        for key in KEYS {
            let action = if key.list { ArgAction::Append } else { ArgAction::Set };
            let help = format!("{} [default: {}]", key.help, key.default_text);
            command = command.arg(Arg::new(key.flag).long(key.flag).value_name(key.value).action(action).help(help));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &Key| {
            let values = matches.get_many::<String>(key.flag)?;
            Some((key.flag, values.cloned().collect()))
        };
        Ok(Self { file: matches.get_one("config").cloned(), values: KEYS.iter().filter_map(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The environment variables of a process.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// Exactly these.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// Whether every variable with our prefix is known and may be used: a misspelt one would be ignored in silence.
    pub fn check(&self) -> Result<(), ConfigError> {
        from_environment(self, &mut vec![None; KEYS.len()])
    }

    /// Where services of this user keep their state (XDG Base Directory Specification; a relative path there is
    /// ignored, as it demands).
    pub(super) fn state_dir(&self) -> Option<String> {
        let absolute =
            |name: &str| self.0.get(&OsString::from(name)).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
        state.join("staccato").into_os_string().into_string().ok()
    }
}

fn from_file(path: &Path, text: &str, settings: &mut [Option<Setting>]) -> Result<(), ConfigError> {
    let here = |why: String| ConfigError(format!("{}: {why}", path.display()));
    let table: toml::Table = text.parse().map_err(|error| here(format!("{error}")))?;
    for (name, value) in table {
        let Some(at) = KEYS.iter().position(|key| key.name == name) else {
            let hint = did_you_mean(&name, KEYS.iter().map(|key| key.name));
            return Err(here(format!("unknown key {name}{hint}")));
        };
        let values = match value {
            toml::Value::Array(items) if KEYS[at].list => items.into_iter().map(plain).collect::<Option<Vec<_>>>(),
            value => plain(value).map(|text| vec![text]),
        };
        let shape = if KEYS[at].list { "a string or a list of strings" } else { "a string, a number or true or false" };
        let values = values.ok_or_else(|| here(format!("{name} must be {shape}")))?;
        settings[at] = Some(Setting { values, origin: Origin::File(path.to_owned()) });
    }
    Ok(())
}

fn from_environment(environment: &Environment, settings: &mut [Option<Setting>]) -> Result<(), ConfigError> {
    for (name, value) in &environment.0 {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if OTHER_VARIABLES.contains(&name) {
            continue;
        }
        let Some(at) = KEYS.iter().position(|key| key.variable() == name) else {
            // The prefix, which they share, would make all of them alike.
            let own = |variable: &str| variable[PREFIX.len()..].to_owned();
            let known = KEYS.iter().map(Key::variable).chain(OTHER_VARIABLES.iter().map(|&other| other.to_owned()));
            let variables: Vec<_> = known.map(|variable| own(&variable)).collect();
            let meant = nearest(&own(name), variables.iter().map(String::as_str));
            let hint = meant.map_or(String::new(), |meant| format!("; did you mean {PREFIX}{meant}?"));
            return Err(ConfigError(format!("unknown environment variable {name}{hint}")));
        };
        let value = value.to_str().ok_or_else(|| ConfigError(format!("{name} is not valid UTF-8")))?;
        let values = if KEYS[at].list {
            value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        } else {
            vec![value.to_owned()]
        };
        settings[at] = Some(Setting { values, origin: Origin::Environment(name.into()) });
    }
    Ok(())
}

/// A value without structure, as it would be written on the command line.
fn plain(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        _ => None,
    }
}
