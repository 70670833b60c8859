//! What clients ask for.

use std::{fmt, fmt::Write as _, path::Path, str::FromStr};

/// Transfers on a page that is asked for.
pub const PAGE: usize = 100;
/// Most transfers that a service takes in one array.
const ITEMS_MAX: usize = 1000;
/// Most ids that are remembered to ask for later.
const IDS_MAX: usize = 10_000;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `POST /v1/transfers` with one transfer.
    Submit,
    /// `POST /v1/transfers` with an array of this many.
    Bulk(usize),
    /// `GET /v1/transfers/{id}`.
    Read,
    /// A page of 100 transfers behind some id.
    ListMarker,
    /// A page of 100 transfers in one state, behind some id.
    ListState,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit => f.write_str("submit"),
            Self::Bulk(items) => write!(f, "bulk-{items}"),
            Self::Read => f.write_str("read"),
            Self::ListMarker => f.write_str("list-marker"),
            Self::ListState => f.write_str("list-state"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = |items: &str| items.parse().ok().filter(|items| (1..=ITEMS_MAX).contains(items)).map(Self::Bulk);
        match text {
            "submit" => Ok(Self::Submit),
            "read" => Ok(Self::Read),
            "list-marker" => Ok(Self::ListMarker),
            "list-state" => Ok(Self::ListState),
            other => other.strip_prefix("bulk-").and_then(items).ok_or_else(|| {
                format!("{other:?} is not one of submit, bulk-1 to bulk-{ITEMS_MAX}, read, list-marker, list-state")
            }),
        }
    }
}

impl Operation {
    /// Transfers that one request submits, or, of requests that read, requests.
    pub fn items(self) -> u64 {
        if let Self::Bulk(items) = self { items as u64 } else { 1 }
    }
}

/// A request to be sent.
pub struct Ask {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// JSON, or nothing.
    pub body: String,
}

/// Gives each transfer a destination of its own, and remembers ids.
pub struct Names {
    root: String,
    submitted: u64,
    ids: Vec<String>,
    random: fastrand::Rng,
}

impl Names {
    /// For a service that has nothing stored, and this root.
    pub fn new(root: &Path) -> Self {
        let root = root.display().to_string();
        Self { root, submitted: 0, ids: Vec::new(), random: fastrand::Rng::with_seed(7) }
    }

    /// Transfers submitted so far.
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// The next request of a kind.
    pub fn ask(&mut self, operation: Operation) -> Ask {
        let get = |path| Ask { method: "GET", path, body: String::new() };
        match operation {
            Operation::Submit => {
                let mut body = String::new();
                self.transfer(&mut body);
                Ask { method: "POST", path: "/v1/transfers".into(), body }
            }
            Operation::Bulk(items) => {
                let mut body = String::with_capacity(160 * items);
                for index in 0..items {
                    body.push(if index == 0 { '[' } else { ',' });
                    self.transfer(&mut body);
                }
                body.push(']');
                Ask { method: "POST", path: "/v1/transfers".into(), body }
            }
            Operation::Read => get(format!("/v1/transfers/{}", self.any_id())),
            Operation::ListMarker => get(format!("/v1/transfers?limit={PAGE}&marker={}", self.any_id())),
            Operation::ListState => get(format!("/v1/transfers?limit={PAGE}&state=STATE_NEW&marker={}", self.any_id())),
        }
    }

    /// Takes in what a submission was answered; an error when something in it was refused.
    pub fn answered(&mut self, operation: Operation, body: &[u8]) -> Result<(), String> {
        let (Operation::Submit | Operation::Bulk(_)) = operation else { return Ok(()) };
        const ID: &[u8] = b"\"id\":\"";
        let mut ids = 0;
        let mut at = 0;
        // Documents hold no other field of this name; looking for it is far cheaper than reading them.
        while let Some(found) = find(&body[at..], ID) {
            let id = body.get(at + found + ID.len()..at + found + ID.len() + 36).unwrap_or_default();
            if ids == 0 {
                self.remember(String::from_utf8_lossy(id).into_owned());
            }
            ids += 1;
            at += found + ID.len() + 36;
            at = at.min(body.len());
        }
        if ids == operation.items() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
        Err(format!("{ids} of {} were accepted: {shown}", operation.items()))
    }

    fn remember(&mut self, id: String) {
        if self.ids.len() < IDS_MAX {
            self.ids.push(id);
        } else {
            let at = self.random.usize(..IDS_MAX);
            self.ids[at] = id;
        }
    }

    fn any_id(&mut self) -> &str {
        assert!(!self.ids.is_empty(), "something must be submitted before it can be read");
        let at = self.random.usize(..self.ids.len());
        &self.ids[at]
    }

    fn transfer(&mut self, body: &mut String) {
        let (root, number) = (&self.root, self.submitted);
        write!(
            body,
            r#"{{"source_url":"file://{root}/images/base.img","destination_url":"file://{root}/hosts/host-{number:08}.img"}}"#
        )
        .expect("writing to a string");
        self.submitted += 1;
    }
}

fn find(body: &[u8], what: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += body.get(at..)?.iter().position(|byte| *byte == what[0])?;
        if body[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_one_spelling() {
        for text in ["submit", "bulk-100", "read", "list-marker", "list-state"] {
            assert_eq!(text.parse::<Operation>().map(|operation| operation.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "bulk-", "bulk-0", "bulk-1001", "bulk-x", "write"] {
            assert!(text.parse::<Operation>().is_err(), "{text}");
        }
    }
}
