//! `distribute`: one object for many hosts.

use std::time::{Duration, SystemTime};

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{Common, Exit, Failure, distributions, group_watch, output, submit::TransferOptions};
use crate::{config::parse_size, model::distribution::Selector};

/// Arguments of `distribute`.
#[derive(Debug, Args)]
pub struct Distribute {
    /// Where the object is: a URL, or a path
    source: String,
    /// Where it shall be on every host: a URL with {host} where the host's name belongs, for instance
    /// 'file://{host}/var/lib/images/x'
    #[arg(long, value_name = "URL")]
    to: String,
    /// Which hosts, with commas between conditions: names, rack=NAME, label.KEY=VALUE, and a share of those that meet all,
    /// for instance 25% (100% for all that are up). Names are alternatives to one another, and so are racks
    #[arg(long, value_name = "SELECTOR")]
    hosts: Selector,
    /// Follow it until all hosts have ended: a bar for each, or for those that run when there are many
    #[arg(long)]
    watch: bool,
    /// What to call it in lists
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many times the object may be read from its source, 1.0 to 1000; 2.0 when absent
    #[arg(long, value_name = "TIMES")]
    source_budget: Option<f64>,
    /// When more hosts have failed than this, the rest is canceled
    #[arg(long, value_name = "N")]
    max_failures: Option<u64>,
    /// What is not complete by then is canceled: a duration (2h), or a time (2030-01-31T12:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = parse_deadline)]
    deadline: Option<String>,
    /// The hosts do not need it yet: it has priority 1 unless told
    #[arg(long)]
    preheat: bool,
    /// Most bytes per second that each host sends to others
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    upload_limit: Option<u64>,
    /// Most bytes per second that all hosts of a rack send to others together
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    rack_upload_limit: Option<u64>,
    #[command(flatten)]
    options: TransferOptions,
    /// A text of your own that names this request: repeated with the same key, it makes no second distribution
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Distribute {
    /// Makes the distribution; prints it, or (with `--watch`) how it ended.
    pub async fn run(self, common: &Common) -> Result<(), Failure> {
        let body = self.body()?;
        let headers: Vec<_> = self.idempotency_key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
        let client = common.client()?;
        let answer = client.request(Method::POST, "/v1/distributions", Some(&body), &headers).await?;
        let made = distributions::parse(answer.body.clone())?;
        if self.watch {
            return group_watch::watch(&client, &made.id, common.json).await;
        }
        if common.json {
            output::json(&answer.body);
        } else {
            output::line(made.id);
        }
        Ok(())
    }

    /// The body of `POST /v1/distributions`.
    fn body(&self) -> Result<Value, Failure> {
        let mut body = self.options.body(&self.source, &self.to)?;
        body["hosts"] = serde_json::to_value(&self.hosts)
            .map_err(|error| Failure::new(Exit::Usage, format!("--hosts: {error}")))?;
        let fields = [
            ("name", self.name.as_ref().map(|name| json!(name))),
            ("source_budget", self.source_budget.map(|times| json!(times))),
            ("max_failures", self.max_failures.map(|max| json!(max))),
            ("deadline", self.deadline.as_ref().map(|deadline| json!(deadline))),
            ("preheat", self.preheat.then_some(Value::Bool(true))),
            ("upload_limit", self.upload_limit.map(|limit| json!(limit))),
            ("rack_upload_limit", self.rack_upload_limit.map(|limit| json!(limit))),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                body[field] = value;
            }
        }
        Ok(body)
    }
}

/// A time as the service reads it.
fn parse_deadline(text: &str) -> Result<String, String> {
    if humantime::parse_rfc3339_weak(text).is_ok() {
        return Ok(text.to_owned());
    }
    let wait: Duration = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is neither a duration (2h) nor a time (2030-01-31T12:00:00Z)"))?;
    let time = SystemTime::now().checked_add(wait).ok_or_else(|| format!("{text} is too long"))?;
    Ok(humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        distribute: Distribute,
    }

    fn body(line: &str) -> Value {
        let words = std::iter::once("distribute").chain(line.split_whitespace());
        Alone::parse_from(words).distribute.body().unwrap()
    }

    #[test]
    fn flags_become_the_fields_of_a_request() {
        let made = body(
            "zero:///10 --to file://{host}/x --hosts h1,h2,rack=a,label.gpu=yes,50% --name n --source-budget 1.5 \
             --max-failures 2 --deadline 2030-01-31T12:00:00Z --preheat --upload-limit 1M --rack-upload-limit 4M --retries 1",
        );
        let expected = json!({
            "source_url": "zero:///10", "destination_url": "file://{host}/x",
            "hosts": {"names": ["h1", "h2"], "racks": ["a"], "labels": {"gpu": "yes"}, "percent": 50},
            "name": "n", "source_budget": 1.5, "max_failures": 2, "deadline": "2030-01-31T12:00:00Z", "preheat": true,
            "upload_limit": 1 << 20, "rack_upload_limit": 4 << 20, "retries": 1,
        });
        assert_eq!(made, expected);
        let short = body("zero:///10 --to file://{host}/x --hosts 100%");
        assert_eq!(short.as_object().unwrap().len(), 3, "{short}");
    }

    #[test]
    fn a_deadline_is_a_time_or_a_duration() {
        let ahead = parse_deadline("90m").unwrap();
        let wait = humantime::parse_rfc3339(&ahead).unwrap().duration_since(SystemTime::now()).unwrap();
        assert!((5_390..=5_400).contains(&wait.as_secs()), "{ahead}");
        assert!(parse_deadline("soon").is_err());
    }
}
