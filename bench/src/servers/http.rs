//! Plain exchanges with a server, as an owner makes them beside Staccato.

use std::sync::OnceLock;

use serde_json::Value;
use ureq::http::{HeaderMap, Request, Response};

use super::PATIENCE;

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header; empty without one.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request, with a body unless that is empty, and reads the whole answer; panics when there is none.
pub fn exchange(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("what is sent is valid");
    let answer = if body.is_empty() { agent().run(request) } else { agent().run(request.map(|()| body)) };
    read(answer.unwrap_or_else(|error| panic!("{method} {url}: {error}")))
}

fn read(mut answer: Response<ureq::Body>) -> Reply {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    // Images are larger than what is read unless told.
    let body =
        answer.body_mut().with_config().limit(u64::MAX).read_to_vec().expect("the server sends its whole answer");
    Reply { status, headers, body }
}

fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        // A server that was killed and started again does not know the connections of before.
        config.max_idle_connections(0).build().new_agent()
    })
}
