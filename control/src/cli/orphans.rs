//! `protocol orphans`: uploads to an object store that nobody has completed.
//!
//! Their storage costs as much as objects' does, and no list of objects shows them. An attempt gives its own up; what
//! stays is that of processes that died in the moment between beginning an upload and having it recorded, or other
//! programs'. A list does not tell whether somebody is at work on an upload, so only its age speaks for its being left.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};
use staccato_protocols::{
    Code, Error, ObjectUrl,
    contract::{Unfinished, UnfinishedRequest},
    web::networks::Networks,
};

use super::{
    Common, Failure,
    config::load,
    log, output,
    protocol_options::{options, parse_pair},
};
use crate::config::{Flags, registry};

/// Arguments of `protocol orphans`.
#[derive(Debug, Args)]
pub struct Orphans {
    /// Where: a bucket or container, and perhaps what the names of objects begin with, for instance s3://BUCKET/PREFIX
    url: String,
    /// Only uploads that were begun so long ago, for instance 1d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Give them up, too: what they hold is deleted. One that is under way, by whomever, fails by that
    #[arg(long, requires = "older_than")]
    abort: bool,
    /// An option of the storage's protocol. Others on this host may see it while the command runs: no place for a secret
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_pair)]
    options: Vec<(String, String)>,
    /// The same, its value being what a file holds (without a line break at its end); - is the standard input
    #[arg(long = "option-file", value_name = "NAME=PATH", value_parser = parse_pair)]
    option_files: Vec<(String, String)>,
    /// What is logged to standard error
    #[arg(long, value_name = "FILTER", env = "STACCATO_LOG", default_value = "warn")]
    log: String,
}

impl Orphans {
    /// Lists them, and gives up what it is told to.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        let config = load(&Flags::default().with("data-dir", "/").with("log", &self.log))?;
        log::to_standard_error(&config.log);
        let registry = config.with_plugins(registry(&[], config.allow_http, Networks::any()));
        let request = UnfinishedRequest {
            url: ObjectUrl::parse(&self.url)?,
            options: options(&self.options, &self.option_files)?,
        };
        let module = registry.module(&request.url)?;
        let keeps_none = || {
            let why = format!("{}: uploads cannot be listed there", request.url);
            Error::fatal(Code::UnsupportedScheme, why)
        };
        let now = SystemTime::now();
        let found = module.unfinished(&request)?.ok_or_else(keeps_none)?;
        let found: Vec<_> = found.into_iter().filter(|upload| self.is_meant(upload, now)).collect();
        if !common.json && !found.is_empty() {
            output::line(row("BEGUN", "AGE", "UPLOAD", "OBJECT"));
        }
        let (mut documents, mut failed) = (Vec::new(), None);
        for upload in found {
            let aborted = self.abort.then(|| module.give_up(&request, &upload));
            if common.json {
                documents.push(document(&upload, now, aborted.as_ref()));
            } else {
                output::line(line(&upload, now));
            }
            if let Some(Err(error)) = aborted {
                eprintln!("staccato: {} stays: {}", upload.object, error.message);
                failed = Some(error);
            }
        }
        if common.json {
            output::json(&Value::Array(documents));
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether an upload is old enough. One whose age nobody tells is not.
    fn is_meant(&self, upload: &Unfinished, now: SystemTime) -> bool {
        self.older_than.is_none_or(|least| age(upload, now).is_some_and(|age| age >= least))
    }
}

/// How long ago it was begun; nothing for a clock that is ahead.
fn age(upload: &Unfinished, now: SystemTime) -> Option<Duration> {
    Some(now.duration_since(upload.begun?).unwrap_or_default())
}

fn document(upload: &Unfinished, now: SystemTime, aborted: Option<&Result<(), Error>>) -> Value {
    json!({
        "object": upload.object,
        "upload": upload.upload,
        "begun": upload.begun.map(begun),
        "age_seconds": age(upload, now).map(|age| age.as_secs()),
        "aborted": aborted.is_some_and(Result::is_ok),
        "error": aborted.and_then(|aborted| Some(aborted.as_ref().err()?.message.clone())),
    })
}

fn begun(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn line(upload: &Unfinished, now: SystemTime) -> String {
    let unknown = || "-".to_owned();
    // Seconds say nothing of an age of days.
    let rough = |age: Duration| {
        Duration::from_secs(if age.as_secs() < 3600 { age.as_secs() } else { age.as_secs() / 3600 * 3600 })
    };
    let age = age(upload, now).map_or_else(unknown, |age| humantime::format_duration(rough(age)).to_string());
    row(&upload.begun.map_or_else(unknown, begun), &age, &upload.upload.escape_default().to_string(), &upload.object)
}

fn row(begun: &str, age: &str, upload: &str, object: &str) -> String {
    format!("{begun:<20}  {age:<10}  {upload}  {object}")
}
