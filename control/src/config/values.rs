//! How values of settings are read and shown, but for those that have a file of their own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::model::did_you_mean;

/// A list of one value.
pub(super) fn one(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

/// The only value.
pub(super) fn single(values: &[String]) -> Result<&str, String> {
    match values {
        [value] => Ok(value),
        _ => Err(format!("give one value, not {}", values.len())),
    }
}

/// A whole number within these bounds.
pub(super) fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("{text:?} is no whole number from {min} to {max}"))
}

/// Refuses a directive that says neither a module (with `=`) nor a level: as the name of a module that nobody has, a
/// misspelt level would silence everything.
pub(super) fn known_level(directive: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let directive = directive.trim();
    let lower = directive.to_ascii_lowercase();
    if directive.is_empty() || directive.contains('=') || LEVELS.contains(&lower.as_str()) {
        return Ok(());
    }
    let hint = did_you_mean(&lower, LEVELS);
    Err(format!("{directive:?} is no level{hint} (levels are {}; a module is written MODULE=LEVEL)", LEVELS.join(", ")))
}

/// A choice.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is no choice; use true or false"))
}

/// A duration within the usual bounds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    duration_within(text, "100ms", "10m")
}

/// A duration within these bounds.
pub(super) fn duration_within(text: &str, min: &str, max: &str) -> Result<Duration, String> {
    let bound = |text: &str| humantime::parse_duration(text).expect("a bound is a duration");
    let within = |wait: &Duration| (bound(min)..=bound(max)).contains(wait);
    let parsed = humantime::parse_duration(text).ok().filter(within);
    parsed.ok_or_else(|| format!("{text:?} is no duration from {min} to {max}; write for instance {min}"))
}

/// A path, or none.
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" | "none" => Ok(None),
        text => absolute(text).map(Some),
    }
}

/// How such a path is shown.
pub(super) fn shown_path(path: Option<&Path>) -> String {
    path.map_or("none".into(), |path| path.display().to_string())
}

/// Relative paths are meant from the folder in which the service was started; later it may not be there any more.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("{text:?} is no path ({error})"))
}
