//! Answers that are made by a test: to requests that bring something, or that depend on what came before.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use super::{Seen, answer::Then, wire::Wire};

/// Whoever answers requests before the pages do.
pub trait Handler: Send + Sync {
    /// Whether the body of a request is read, once its head has been. Where not, nothing is read or answered any more.
    fn takes(&self, _request: &Seen) -> bool {
        true
    }

    /// The answer; none where the pages shall answer.
    fn answer(&self, request: &Seen, body: &[u8]) -> Option<Reply>;
}

/// An answer of a [`Handler`], or of a program.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delivery: Delivery,
}

#[derive(Clone, Copy, Debug)]
enum Delivery {
    /// As it should be.
    Plain,
    /// A space at once, and the body after so long.
    Late(Duration),
    /// The connection is closed instead.
    Broken,
}

impl Reply {
    /// An answer without headers and body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), delivery: Delivery::Plain }
    }

    /// A connection that is closed without an answer.
    pub fn broken() -> Self {
        Self { delivery: Delivery::Broken, ..Self::new(0) }
    }

    /// An answer with a document.
    pub fn json(status: u16, document: &serde_json::Value) -> Self {
        Self::new(status).header("Content-Type", "application/json").body(document.to_string())
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a body. An answer to HEAD tells its length and leaves it out.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With a body that comes late, behind a space that comes at once.
    pub fn late(self, wait: Duration) -> Self {
        Self { delivery: Delivery::Late(wait), ..self }
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn send(&self, request: &Seen, wire: &mut Wire) -> io::Result<Then> {
        let Self { status, headers, body, delivery } = self;
        let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        match delivery {
            Delivery::Broken => return Ok(Then::Drop),
            Delivery::Plain => {
                head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
                wire.write_all(head.as_bytes())?;
                if request.method != "HEAD" {
                    wire.write_all(body)?;
                }
            }
            Delivery::Late(wait) => {
                head.push_str("Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n");
                wire.write_all(head.as_bytes())?;
                wire.flush()?;
                thread::sleep(*wait);
                wire.write_all(&[format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat())?;
            }
        }
        wire.flush()?;
        Ok(Then::Next)
    }
}
