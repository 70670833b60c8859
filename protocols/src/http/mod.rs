//! `http://` and `https://`: objects that are read with GET, and written with PUT.
//!
//! What a server answers is believed only as far as it can be checked. How it is asked and its answers are judged is
//! in [`web`](crate::web), which other modules share; here is what is HTTP's own: the client's headers.
//!
//! A server that cannot give ranges, or does not say how long the object is, is read as one stream from the front.
//! One thing cannot be told: a server that gives neither a length nor chunks ends the object by closing the connection,
//! and so does one that dies politely. TLS and an empty `error` of the socket are all there is to go by.

mod options;
mod put;

use std::rc::Rc;

use futures_util::{FutureExt, future::LocalBoxFuture};

use self::{options::HttpOptions, put::PutSession};
use crate::{
    Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, OptionSpec, Secrecy, SourceRequest, SweepRequest, Takes},
    web::{
        Web,
        client::{Client, Condition, Connections},
        place::Place,
        reader::Reader,
        settings,
    },
};

/// The module for `http://` and `https://` URLs. Redirects never lead to a weaker scheme.
pub struct HttpProtocol {
    schemes: &'static [&'static str],
    web: Web,
}

impl HttpProtocol {
    /// The module; for `https://` only where `web` speaks TLS only.
    pub fn new(web: Web) -> Self {
        Self { schemes: if web.plain { &["http", "https"] } else { &["https"] }, web }
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "header.*",
        secret: true,
        help: "a request header, for instance header.Authorization; sent to the source's own origin only",
    },
    settings::CA,
    settings::CONNECT_TIMEOUT,
    settings::STALL_TIMEOUT,
    settings::TOTAL_TIMEOUT,
];

impl Protocol for HttpProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: true,
            takes: Takes::InOrder,
            runtimes: &[Runtime::TokioUring],
            options: OPTIONS,
        }
    }

    fn secrecy(&self) -> Secrecy {
        Secrecy { sent_to_url: true, harmless: &["connect_timeout", "stall_timeout", "total_timeout"] }
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        Place::origin(url)?;
        HttpOptions::parse(options).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        let origin = Place::origin(url)?;
        if origin.uri().path().ends_with('/') {
            return Err(Error::fatal(Code::InvalidUrl, format!("{origin} is a folder; name the object to write")));
        }
        HttpOptions::parse(options).map(drop)
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
            let client = Client::new(&self.web, &options.settings, Rc::new(options.headers))?;
            let connections = Connections::new(Rc::new(client), origin);
            Ok(Rc::new(Reader::open(connections, Condition::IfRange, request).await?) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(PutSession::begin(self.web.clone(), request)?))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        put::sweep(self.web.clone(), request)
    }
}

#[cfg(test)]
mod tests;
