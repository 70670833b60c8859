//! `swift://CONTAINER/OBJECT`: objects in OpenStack's object store, and in those that speak as it does.
//!
//! - **Where** the account is says the option `storage_url`, or Keystone's catalogue (service `object-store`); the URL
//!   names no server. **Who asks** says Keystone (see [`keystone`](crate::keystone)), a token, or a key of TempURLs, with
//!   which each request is signed by itself.
//! - **Read**: the object is looked at once (HEAD); every range is a GET of its own that names the tag which was found
//!   then. The MD5 that Swift publishes for plain objects is handed on; the tag of a large object is none.
//! - **Write**: each part is a segment, an object `OBJECT/staccato-UPLOAD/NUMBER` in a container of segments. Swift compares
//!   its MD5 before it acknowledges it, and from then on it lasts. The commit puts a manifest, which makes the object
//!   visible at once and as a whole (a static large object). A manifest names 1,000 segments at most: more are named by
//!   manifests of their own, which the object's then names.
//! - **With a TempURL** an object is written with one PUT, in order: Swift takes no manifest from one.
//!
//! Segments belong to their manifest, so nothing that a committed object is made of is ever removed: an object says in its
//! metadata of which upload it is made, and who cleans up looks there first (all replicas are asked, `X-Newest`). What an
//! object was made of that was replaced is removed after the commit, if it was ours, and unless the container keeps
//! versions.
//!
//! An upload has a marker, an empty object beside its segments. Who gives the upload up removes the marker first, and who
//! commits looks for it: so an earlier attempt that slept does not commit what a later one has given up. What cannot be
//! fenced is the moment between that look and the manifest.
//!
//! `place` says where requests go, `options` what the client asked for, `upload` what an upload is called (all pure);
//! `limits` how it is cut; `calls` sends requests, `refusal` says what an answer means that is none, `segments` has the requests that make an
//! object, `leavings` those that clean up; `temp_url` signs; `session`, `commit` and `lane` write in parts, `single` with
//! one PUT, `source` reads.

mod calls;
mod commit;
mod lane;
mod leavings;
mod limits;
mod options;
mod place;
mod refusal;
mod segments;
mod session;
mod single;
mod source;
mod temp_url;
mod upload;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use futures_util::{FutureExt, future::LocalBoxFuture};

use self::{
    calls::Calls,
    options::{Access, SwiftOptions},
    place::{Address, Target},
    session::SegmentsSession,
    single::SingleSession,
    temp_url::TempUrl,
    upload::Upload,
};
use crate::{
    Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, Secrecy, SourceRequest, SweepRequest, Takes, Unfinished, UnfinishedRequest},
    keystone::{Hold, Logins},
    web::{
        Web,
        blocking::Blocking,
        client::{Agent, Client},
        settings::invalid,
        sign::Sign,
    },
};

/// What the catalogue calls Swift.
const SERVICE: &str = "object-store";

/// The module for `swift://` URLs.
pub struct SwiftProtocol {
    web: Web,
    logins: Logins,
}

impl SwiftProtocol {
    /// The module; servers without TLS only where `web` allows them.
    pub fn new(web: Web) -> Self {
        Self { web, logins: Logins::default() }
    }

    fn storage(&self, url: &ObjectUrl, options: &Options) -> Result<Storage, Error> {
        self.storage_of(Target::parse(url)?, options)
    }

    fn storage_of(&self, target: Target, options: &Options) -> Result<Storage, Error> {
        let options = SwiftOptions::parse(options)?;
        if options.storage_url.as_ref().is_some_and(|url| url.starts_with("http://")) && !self.web.plain {
            return Err(invalid(
                "storage_url: it is asked without TLS; write https://, or start the service with --allow-http".into(),
            ));
        }
        Ok(Storage { web: self.web.clone(), logins: self.logins.clone(), target, options })
    }
}

/// One object, and how its storage is asked: the same for every lane and session of an attempt.
#[derive(Clone)]
struct Storage {
    web: Web,
    logins: Logins,
    target: Target,
    options: SwiftOptions,
}

impl Storage {
    fn agent(&self) -> Result<Agent, Error> {
        Agent::new(&self.web, &self.options.settings)
    }

    /// Requests that go out through `agent`. Asks Keystone where that must be known first; who holds what is returned
    /// keeps its token.
    async fn calls(&self, agent: Agent) -> Result<(Calls, Option<Hold>), Error> {
        let (signer, account, hold): (Rc<dyn Sign>, _, _) = match &self.options.access {
            Access::TempUrl(key) => (Rc::new(TempUrl::new(key.clone())), self.options.storage_url.clone(), None),
            Access::Account(account) => {
                let login = self.logins.login(&self.web, &self.options.settings, account.clone())?;
                let account = match &self.options.storage_url {
                    Some(url) => url.clone(),
                    None => login.endpoint(SERVICE).await?,
                };
                let hold = login.hold();
                (login, Some(account), hold)
            }
        };
        let account = account.ok_or_else(|| Error::fatal(Code::Internal, "a TempURL without a server"))?;
        let segments = self.options.segments.clone().unwrap_or_else(|| format!("{}_segments", self.target.container));
        let address = Address { account, target: self.target.clone(), segments };
        Ok((Calls { client: Rc::new(Client::over(agent, signer)), address }, hold))
    }
}

impl Protocol for SwiftProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["swift"]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: true,
            takes: Takes::Parts,
            runtimes: &[Runtime::TokioUring],
            options: options::ALL,
        }
    }

    fn secrecy(&self) -> Secrecy {
        // The URL names no server: Keystone, the catalogue or `storage_url` do.
        Secrecy { sent_to_url: false, harmless: options::HARMLESS }
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.storage(url, options).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.storage(url, options)?.target.check_destination()
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            require_tokio(lane)?;
            let storage = self.storage(&request.url, &request.options)?;
            let (calls, hold) = request.interrupt.cut(storage.calls(storage.agent()?)).await?;
            Ok(Rc::new(source::open(calls, hold, request).await?) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        let storage = self.storage(&request.url, &request.options)?;
        storage.target.check_destination()?;
        match storage.options.access {
            Access::TempUrl(_) => Ok(Box::new(SingleSession::begin(storage, request)?)),
            Access::Account(_) => Ok(Box::new(SegmentsSession::begin(storage, request)?)),
        }
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        let storage = self.storage(&request.url, &request.options)?;
        if matches!(storage.options.access, Access::TempUrl(_)) {
            // What is written with one PUT leaves nothing.
            return Ok(());
        }
        Blocking::new()?.wait(async {
            let (calls, _hold) = storage.calls(storage.agent()?).await?;
            calls.sweep(&request.transfer).await
        })
    }

    fn unfinished(&self, request: &UnfinishedRequest) -> Result<Option<Vec<Unfinished>>, Error> {
        let storage = self.storage_of(Target::below(&request.url)?, &request.options)?;
        if matches!(storage.options.access, Access::TempUrl(_)) {
            return Ok(None);
        }
        Blocking::new()?.wait(async {
            let (calls, _hold) = storage.calls(storage.agent()?).await?;
            calls.unfinished().await.map(Some)
        })
    }

    fn give_up(&self, request: &UnfinishedRequest, upload: &Unfinished) -> Result<(), Error> {
        let target = Target::below(&request.url)?.with_object(&upload.name)?;
        let storage = self.storage_of(target, &request.options)?;
        let ours = |()| Error::fatal(Code::Internal, format!("{} is no upload of ours", upload.upload));
        let upload: Upload = upload.upload.parse().map_err(ours)?;
        Blocking::new()?.wait(async {
            let (calls, _hold) = storage.calls(storage.agent()?).await?;
            calls.give_up(&upload, std::iter::empty()).await
        })
    }
}

fn require_tokio(lane: &Lane) -> Result<(), Error> {
    if lane.runtime == Runtime::TokioUring {
        return Ok(());
    }
    Err(Error::fatal(Code::Internal, "swift is spoken on tokio-uring lanes only"))
}
