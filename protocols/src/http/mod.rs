//! `http://` and `https://` sources.
//!
//! Every read is a ranged GET of its own on a pooled connection, so as many connections carry data as reads are under
//! way on the lane. What a server answers is believed only as far as it can be checked: `answer` holds the rules, all
//! of them pure; `connection` sends requests and follows redirects; `body` moves bytes into the pool's buffers, one
//! copy each; `source` joins them; [`networks`] says where may be connected to.
//!
//! A server that cannot give ranges, or does not say how long the object is, is read as one stream from the front.
//! One thing cannot be told: a server that gives neither a length nor chunks ends the object by closing the connection,
//! and so does one that dies politely. TLS and an empty `error` of the socket are all there is to go by.

mod answer;
mod body;
mod connection;
pub mod networks;
mod options;
mod place;
mod source;
mod tls;

#[cfg(test)]
mod tests;

use std::{rc::Rc, sync::Arc};

use futures_util::{FutureExt, future::LocalBoxFuture};

use self::{
    connection::Connections, networks::Networks, options::HttpOptions, place::Place, source::HttpSource, tls::Trust,
};
use crate::{
    Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, OptionSpec, SourceRequest},
};

/// The module for `http://` and `https://` URLs; sources only.
pub struct HttpProtocol {
    schemes: &'static [&'static str],
    trust: Trust,
    networks: Arc<Networks>,
}

impl HttpProtocol {
    /// The module. The operating system's trusted root certificates are loaded when the first source is opened. It
    /// connects to any address: see [`HttpProtocol::within`].
    pub fn new() -> Self {
        Self { schemes: &["http", "https"], trust: Trust::default(), networks: Arc::new(Networks::any()) }
    }

    /// The module for `https://` only. Redirects do not lead out of it: they never go to a weaker scheme.
    pub fn https_only() -> Self {
        Self { schemes: &["https"], ..Self::new() }
    }

    /// The same, which of the host's own addresses connects to these only.
    pub fn within(self, networks: Networks) -> Self {
        Self { networks: Arc::new(networks), ..self }
    }
}

impl Default for HttpProtocol {
    fn default() -> Self {
        Self::new()
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "header.*",
        secret: true,
        help: "a request header, for instance header.Authorization; sent to the source's own origin only",
    },
    OptionSpec {
        name: "ca",
        secret: false,
        help: "certificates in PEM that are trusted as roots, besides the operating system's; spaces may stand for line \
               breaks",
    },
    OptionSpec {
        name: "connect_timeout",
        secret: false,
        help: "longest wait for a connection, TLS handshake included: seconds, or with s, m or h (default 10s)",
    },
    OptionSpec {
        name: "stall_timeout",
        secret: false,
        help: "longest wait for an answer, and for each 4 KiB of it (a server that trickles is stalled): seconds, or \
               with s, m or h (default 20s)",
    },
    OptionSpec {
        name: "total_timeout",
        secret: false,
        help: "longest time an attempt may read the object, from its opening: seconds, or with s, m or h (default none)",
    },
];

impl Protocol for HttpProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { source: true, destination: false, runtimes: &[Runtime::TokioUring], options: OPTIONS }
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        Place::origin(url)?;
        HttpOptions::parse(options).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Err(no_destination(url))
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            if lane.runtime != Runtime::TokioUring {
                return Err(Error::fatal(Code::Internal, "http sources are read on tokio-uring lanes only"));
            }
            let origin = Place::origin(&request.url)?;
            let options = HttpOptions::parse(&request.options)?;
            let connections = Connections::new(origin, options, &self.trust, self.networks.clone())?;
            Ok(Rc::new(HttpSource::open(connections, request).await?) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Err(no_destination(&request.url))
    }

    fn sweep(&self, _url: &ObjectUrl, _transfer: &str) -> Result<(), Error> {
        Ok(()) // Attempts leave nothing where they cannot write.
    }
}

fn no_destination(url: &ObjectUrl) -> Error {
    Error::fatal(
        Code::UnsupportedScheme,
        format!("{:?} cannot be a destination; http can only be read from", url.scheme()),
    )
}
