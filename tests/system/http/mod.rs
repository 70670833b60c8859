//! Objects behind HTTP, through the whole service: from servers that are real, from servers that break the protocol or
//! break down, and through kills. What a single answer means is tested in `protocols/src/http/tests`.

mod bad_servers;
mod changes;
mod connections;
mod failures;
mod kills;
pub mod nginx;
mod real_server;

use serde_json::{Value, json};
use staccato_protocols::testing::http_server::{HttpServer, Page};
use staccato_tests::{bytes::MIB, service::Service};

/// A stall time-out short enough that a test which waits for it stays fast, and long enough for a busy machine.
const STALL: &str = "0.7s";

/// A service and the server that it reads from.
struct Pair {
    service: Service,
    server: HttpServer,
}

impl Pair {
    fn start() -> Self {
        Self { service: Service::start(&["--slots", "8"]), server: HttpServer::start() }
    }

    /// Submits a transfer of a page to a file named `name`, in chunks of 1 MiB.
    fn submit(&self, name: &str, page: Page, more: Value) -> String {
        let path = format!("/{name}");
        self.server.put(&path, page);
        submit(&self.service, &self.server.url(&path), name, more)
    }

    /// Waits until a transfer that must fail has failed with this code, and checks that it left no file.
    fn failed(&self, id: &str, name: &str, code: &str, retryable: bool) -> Value {
        let document = self.service.wait_for(id, "STATE_ERROR");
        assert_eq!((&document["error"]["code"], &document["error"]["retryable"]), (&json!(code), &json!(retryable)));
        assert!(!self.service.path(name).exists(), "{name}: what is not whole has no name");
        document
    }

    /// Waits until a transfer is complete, and checks that its file is the object.
    fn completed(&self, id: &str, name: &str, content: &[u8]) -> Value {
        let document = self.service.complete(id);
        assert!(self.service.read(name) == content, "{name}: the bytes differ");
        assert_eq!(document["progress"], content.len());
        assert_eq!(document["crc32"], format!("{:08x}", crc32fast::hash(content)));
        document
    }
}

/// Submits a transfer to a file named `name`, in chunks of 1 MiB unless told otherwise.
fn submit(service: &Service, source: &str, name: &str, more: Value) -> String {
    let mut options = json!({"chunk_size": MIB});
    for (option, value) in more.as_object().expect("options are an object") {
        options[option] = value.clone();
    }
    service.submit(source, &service.file(name), options)
}

/// Whether a transfer's events tell of this.
fn tells(document: &Value, kind: &str) -> bool {
    let events = document["events"].as_array().expect("events are a list");
    events.iter().any(|event| event["kind"] == kind)
}
