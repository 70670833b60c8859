//! The REST interface of a service that the bench has started, for processes that reach its loopback address.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest wait for an answer, and for a transfer to change at all.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long after one question a service is asked again, at least.
pub const LOOK: Duration = Duration::from_millis(5);

/// A client of one service. It keeps connections.
#[derive(Clone, Debug)]
pub struct Api {
    url: String,
    agent: ureq::Agent,
}

impl Api {
    /// Of the service at `http://HOST:PORT`.
    pub fn new(url: impl Into<String>) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        Self { url: url.into(), agent: config.build().new_agent() }
    }

    /// Where the service listens: `http://HOST:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Submits a transfer, or several; what is not taken is an error.
    pub fn submit(&self, request: &Value) -> io::Result<Value> {
        self.post("/v1/transfers", request)
    }

    /// What it answers to a POST; what is not taken is an error.
    pub fn post(&self, path: &str, request: &Value) -> io::Result<Value> {
        let url = format!("{}{path}", self.url);
        let mut answer = self.agent.post(url).send_json(request).map_err(io::Error::other)?;
        let document: Value = answer.body_mut().read_json().map_err(io::Error::other)?;
        match answer.status().as_u16() {
            200..300 => Ok(document),
            _ => Err(io::Error::other(format!("the service refused: {document}"))),
        }
    }

    /// What it answers to a GET.
    pub fn get(&self, path: &str) -> io::Result<Value> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call().map_err(io::Error::other)?;
        answer.body_mut().with_config().limit(1 << 30).read_json().map_err(io::Error::other)
    }

    /// Deletes something; what is not there is an error.
    pub fn delete(&self, path: &str) -> io::Result<()> {
        let answer = self.agent.delete(format!("{}{path}", self.url)).call().map_err(io::Error::other)?;
        let is_gone = answer.status().is_success();
        if is_gone { Ok(()) } else { Err(io::Error::other(format!("{path} cannot be deleted: {}", answer.status()))) }
    }

    /// What it answers to a GET, as it stands.
    pub fn text(&self, path: &str) -> io::Result<String> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call().map_err(io::Error::other)?;
        answer.body_mut().read_to_string().map_err(io::Error::other)
    }

    /// Waits until a transfer that was submitted is complete; one that does not change for a minute is an error.
    pub fn complete(&self, submitted: &Value) -> io::Result<()> {
        let path = format!("/v1/transfers/{}", id(submitted));
        let (began, mut changed, mut before) = (Instant::now(), Instant::now(), Value::Null);
        loop {
            let document = self.get(&path)?;
            match document["state"].as_str() {
                Some("STATE_COMPLETE") => return Ok(()),
                Some("STATE_ERROR" | "STATE_CANCELED") => {
                    return Err(io::Error::other(format!("the transfer failed: {}", document["error"])));
                }
                _ if document != before => (changed, before) = (Instant::now(), document),
                _ if changed.elapsed() > PATIENCE => {
                    return Err(io::Error::other(format!("the transfer does not move: {document}")));
                }
                _ => (),
            }
            // Asking costs the service what is measured of it: a percent later is soon enough.
            std::thread::sleep(LOOK.max(began.elapsed() / 100));
        }
    }

    /// A number that `/metrics` tells.
    pub fn metric(&self, name: &str) -> io::Result<usize> {
        let metrics = self.text("/metrics")?;
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        let mut values = lines.filter_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok());
        values.next().ok_or_else(|| io::Error::other(format!("/metrics does not tell {name}")))
    }
}

/// The id in a document.
pub fn id(document: &Value) -> &str {
    document["id"].as_str().unwrap_or_default()
}

/// Seconds between two times of a document; none where one is missing.
pub fn between(from: &Value, to: &Value) -> Option<f64> {
    let parse = |time: &Value| humantime::parse_rfc3339(time.as_str()?).ok();
    Some(parse(to)?.duration_since(parse(from)?).map_or(0.0, |passed| passed.as_secs_f64()))
}

/// Seconds that the last attempt of a transfer spent in each stage, as its document tells.
pub fn stage_seconds(document: &Value) -> impl Iterator<Item = (String, f64)> {
    let times = document["stage_times"].as_object().into_iter().flatten();
    times.map(|(stage, micros)| (stage.clone(), micros.as_f64().unwrap_or(0.0) / 1e6))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_of_a_document_are_read() {
        let document = json!({
            "created_at": "2026-11-29T10:00:00.250Z", "finished_at": "2026-11-29T10:00:01.750Z", "started_at": null,
            "stage_times": {"read": 1_500_000, "write": 20},
        });
        assert_eq!(between(&document["created_at"], &document["finished_at"]), Some(1.5));
        assert_eq!(between(&document["created_at"], &document["started_at"]), None);
        assert_eq!(stage_seconds(&document).collect::<Vec<_>>(), [("read".into(), 1.5), ("write".into(), 2e-5)]);
    }
}
