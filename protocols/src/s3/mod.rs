//! `s3://BUCKET/KEY`: objects in the object store of Amazon, and in those that speak as it does.
//!
//! - **Read**: the object is looked at once (HEAD); every range is a GET of its own that names the tag or the version
//!   that was found then. An object that is replaced meanwhile is noticed, or, in a bucket with versions, read on as it
//!   was. Checksums that the storage publishes for whole objects are handed on.
//! - **Write**: a multipart upload. Each part is a chunk, lasts once it is acknowledged, and carries a checksum by
//!   which the server refuses a damaged one. The commit completes the upload, which makes the object visible at once and
//!   as a whole. The upload's id is all that a later attempt needs to go on.
//! - **Who asks** is said by a signature (`sign`) from credentials in the options; without them nobody is said to.
//!
//! What cannot be fenced: whoever knows an upload's id can write to it. An attempt that slept and writes a part late
//! writes the same bytes, since both attempts read one pinned version of the source; where they start over, the upload
//! is a new one and the old one is given up.
//!
//! What cannot be known: an upload's list tells neither metadata nor who began it, so an upload that was begun and not
//! recorded (a process that died between the two) cannot be told from somebody else's. It is counted in the log when a
//! transfer is swept, and left to whoever keeps the bucket: they can list uploads and give them up by their age
//! (`unfinished`), or have a lifecycle rule do that (`AbortIncompleteMultipartUpload`).
//!
//! `place` says where requests go, `options` what the client asked for, `calls` sends requests, `refusal` says what an
//! answer means that is none, `xml` reads and writes documents; `uploads` has the requests that make an object, `unfinished` those about
//! what was left of that; `session`, `lane`
//! and `source` are what the contract asks for.

mod calls;
mod lane;
mod options;
mod place;
mod refusal;
mod session;
mod sign;
mod source;
mod unfinished;
mod uploads;
mod xml;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use futures_util::{FutureExt, future::LocalBoxFuture};

use self::{
    calls::Calls,
    options::S3Options,
    place::{Address, Target},
    session::S3Session,
    sign::Signature,
};
use crate::{
    Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, Secrecy, SourceRequest, SweepRequest, Takes, Unfinished, UnfinishedRequest},
    web::{
        Web,
        blocking::Blocking,
        client::{Agent, Client},
        settings::Settings,
    },
};

/// The module for `s3://` URLs.
pub struct S3Protocol {
    web: Web,
}

impl S3Protocol {
    /// The module; endpoints without TLS only where `web` allows them.
    pub fn new(web: Web) -> Self {
        Self { web }
    }
}

/// One object, and how its storage is asked: the same for every lane and session of an attempt.
#[derive(Clone)]
struct Storage {
    web: Web,
    settings: Settings,
    address: Address,
    signature: Signature,
}

impl Storage {
    fn new(web: &Web, target: &Target, options: &S3Options) -> Result<Self, Error> {
        Ok(Self {
            web: web.clone(),
            settings: options.settings.clone(),
            address: Address::new(target, &options.endpoint)?,
            signature: Signature::new(options.credentials.clone(), &options.endpoint.region),
        })
    }

    fn agent(&self) -> Result<Agent, Error> {
        Agent::new(&self.web, &self.settings)
    }

    /// Requests that go out through `agent`.
    fn calls(&self, agent: Agent) -> Calls {
        let client = Client::over(agent, Rc::new(self.signature.clone()));
        Calls { client, signature: self.signature.clone(), address: self.address.clone() }
    }
}

impl S3Protocol {
    fn check(&self, url: &ObjectUrl, options: &Options) -> Result<(Target, S3Options), Error> {
        self.check_target(Target::parse(url)?, options)
    }

    fn check_target(&self, target: Target, options: &Options) -> Result<(Target, S3Options), Error> {
        let options = S3Options::parse(options)?;
        let place = Address::new(&target, &options.endpoint)?.object(&[])?;
        if !place.is_secure() && !self.web.plain {
            return Err(settings_error(
                "endpoint: it is asked without TLS; write https://, or start the service with --allow-http",
            ));
        }
        Ok((target, options))
    }
}

fn settings_error(why: &str) -> Error {
    Error::fatal(Code::InvalidOption, why)
}

impl Protocol for S3Protocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["s3"]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: true,
            takes: Takes::Parts,
            runtimes: &[Runtime::TokioUring],
            options: options::OPTIONS,
        }
    }

    fn secrecy(&self) -> Secrecy {
        // The option `endpoint`, or Amazon's own for the region: the URL names a bucket only.
        Secrecy { sent_to_url: false, harmless: options::HARMLESS }
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.check(url, options).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.check(url, options).map(drop)
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            require_tokio(lane)?;
            let (target, options) = self.check(&request.url, &request.options)?;
            let storage = Storage::new(&self.web, &target, &options)?;
            let source = source::open(storage.calls(storage.agent()?), request).await?;
            Ok(Rc::new(source) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        let (target, options) = self.check(&request.url, &request.options)?;
        let storage = Storage::new(&self.web, &target, &options)?;
        Ok(Box::new(S3Session::begin(storage, options, request)?))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        let (target, options) = self.check(&request.url, &request.options)?;
        let storage = Storage::new(&self.web, &target, &options)?;
        Blocking::new()?.wait(async {
            let calls = storage.calls(storage.agent()?);
            if let Some(upload) = &request.upload {
                calls.abort(upload).await?;
            }
            calls.report_unfinished(&request.transfer).await;
            Ok(())
        })
    }

    fn unfinished(&self, request: &UnfinishedRequest) -> Result<Option<Vec<Unfinished>>, Error> {
        let (below, options) = self.check_target(Target::below(&request.url)?, &request.options)?;
        let storage = Storage::new(&self.web, &below, &options)?;
        Blocking::new()?.wait(async { storage.calls(storage.agent()?).unfinished().await.map(Some) })
    }

    fn give_up(&self, request: &UnfinishedRequest, upload: &Unfinished) -> Result<(), Error> {
        let target = Target::below(&request.url)?.with_key(&upload.name)?;
        let (target, options) = self.check_target(target, &request.options)?;
        let storage = Storage::new(&self.web, &target, &options)?;
        Blocking::new()?.wait(async { storage.calls(storage.agent()?).abort(&upload.upload).await })
    }
}

fn require_tokio(lane: &Lane) -> Result<(), Error> {
    if lane.runtime == Runtime::TokioUring {
        return Ok(());
    }
    Err(Error::fatal(Code::Internal, "s3 is spoken on tokio-uring lanes only"))
}
