//! One object for several hosts, each with an executor of its own: what operators do, and bad days.

mod changes;
mod damage;
mod everyday;
mod late;
mod seeds;
mod service_gone;
mod sources;

use staccato_protocols::testing::http_server::{HttpServer, Page, Trick};
use staccato_tests::{process::eventually, service::PATIENCE};

/// Where the object is.
const PATH: &str = "/image";
/// What members ask of an HTTP server beside the object's bytes: to open it, and to compare.
const ASIDE: u64 = 64 << 10;

/// An HTTP server with an object, which can go away and come back.
struct Origin {
    server: HttpServer,
    url: String,
}

impl Origin {
    fn start(page: Page) -> Self {
        let server = HttpServer::start();
        server.put(PATH, page);
        Self { url: server.url(PATH), server }
    }

    /// Whoever asks for something is hung up on.
    fn die(&self) {
        self.put(Page::new(b"").trick(.., Trick::CloseUnanswered));
    }

    /// It has this from now on.
    fn put(&self, page: Page) {
        self.server.put(PATH, page);
    }

    /// Bytes of the object that were sent.
    fn bytes_sent(&self) -> u64 {
        self.server.bytes_sent()
    }

    /// Waits until so much was sent.
    fn wait_for(&self, bytes: usize) {
        let sent = || (self.bytes_sent() >= bytes as u64).then_some(());
        eventually(PATIENCE, &format!("{bytes} bytes were sent"), sent);
    }

    /// Says whether the object was sent no more often than so many times.
    fn check_budget(&self, times: u64, bytes: &[u8]) {
        let sent = self.bytes_sent();
        assert!(sent <= times * bytes.len() as u64 + ASIDE, "{sent} bytes were sent of {}", bytes.len());
    }
}
