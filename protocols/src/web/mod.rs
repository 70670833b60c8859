//! Speaking HTTP to the servers of storage systems: what every module that does so shares.
//!
//! `client` sends requests over pooled connections and bounds every wait; `outgoing` is what is sent with them;
//! `answer` judges what comes back and `place` redirects (both pure); `body` moves bytes into the pool's buffers, one
//! copy each; `reader` reads one object in ranges, or as one stream; `sign` is how a module says who asks; `settings`
//! parses the options that all of them have; `upload` sends one object in one request; `blocking` is for sessions,
//! which wait on a thread of their own; `encode` writes names in URLs; [`networks`] says where may be connected to; `tls` knows whom to trust.

pub(crate) mod answer;
pub(crate) mod blocking;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod encode;
pub mod networks;
pub(crate) mod outgoing;
pub(crate) mod place;
pub(crate) mod reader;
pub(crate) mod settings;
pub(crate) mod sign;
pub(crate) mod stored;
pub(crate) mod stretch;
pub(crate) mod tls;
pub(crate) mod upload;

use std::sync::Arc;

use networks::Networks;
use tls::Trust;

use crate::{Code, Error};

/// What the modules of one process share when they speak HTTP: whom they trust, and where they may connect to. Clones
/// are one and the same.
#[derive(Clone)]
pub struct Web {
    pub(crate) trust: Arc<Trust>,
    pub(crate) networks: Arc<Networks>,
    pub(crate) plain: bool,
}

impl Web {
    /// Connects to any address, with TLS or without. The operating system's trusted root certificates are loaded when
    /// they are first needed.
    pub fn new() -> Self {
        Self { trust: Arc::default(), networks: Arc::new(Networks::any()), plain: true }
    }

    /// The same, with TLS only.
    pub fn secure(self) -> Self {
        Self { plain: false, ..self }
    }

    /// The same, which of the host's own addresses connects to these only.
    pub fn within(self, networks: Networks) -> Self {
        Self { networks: Arc::new(networks), ..self }
    }
}

/// Waits for a conversation with servers, in a thread that has no runtime of its own.
pub(crate) fn block_on<T>(conversation: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::from_io(&error, Code::Internal, "make an event loop"))?;
    runtime.block_on(conversation)
}

impl Default for Web {
    fn default() -> Self {
        Self::new()
    }
}
