//! `glance://` and `glance+https://`: images of OpenStack's Glance (Images API v2).
//!
//! `glance://HOST[:PORT][/PREFIX]/IMAGE_ID` names the endpoint and the image, over plain HTTP or, as `glance+https`, with
//! TLS; the port is 9292 unless it is written. Without a host (`glance:///IMAGE_ID`) the endpoint is the one that
//! Keystone's catalogue names. Where Keystone says who asks, an endpoint that is written must be one of the catalogue's,
//! or the option `endpoint` must name it: tokens are shown to nobody else (see [`keystone`](crate::keystone)).
//!
//! As a destination, a URL with an id names the image that is made; without one (`glance://HOST/`) the image has the
//! transfer's own id. Glance gives no id twice, not even after the image was deleted: an id that was used is refused.
//!
//! The bytes of an image never change once it is active, so what tells its version is its id with the hash that Glance
//! publishes. What can happen is that an image is deleted, and (after a purge of Glance's database) made anew under its
//! id: that is noticed when the image is looked at again.

mod images;
mod options;
mod record;
mod session;
mod source;
mod target;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use futures_util::{FutureExt, future::LocalBoxFuture};

use self::{options::GlanceOptions, session::ImageSession, source::ImageSource, target::Target};
use crate::{
    Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, Secrecy, SourceRequest, SweepRequest, Takes},
    keystone::Logins,
    web::Web,
};

/// The module for `glance://` and `glance+https://` URLs.
pub struct GlanceProtocol {
    schemes: &'static [&'static str],
    web: Web,
    logins: Logins,
}

impl GlanceProtocol {
    /// The module; for `glance+https://` only where `web` speaks TLS only.
    pub fn new(web: Web) -> Self {
        let schemes: &[_] = if web.plain { &["glance", "glance+https"] } else { &["glance+https"] };
        Self { schemes, web, logins: Logins::default() }
    }
}

impl Protocol for GlanceProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: true,
            takes: Takes::InOrder,
            runtimes: &[Runtime::TokioUring],
            options: options::ALL,
        }
    }

    fn secrecy(&self) -> Secrecy {
        // A token without `auth_url` goes where the URL says.
        Secrecy { sent_to_url: true, harmless: options::HARMLESS }
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        let target = Target::parse(url)?;
        target.id()?;
        let options = GlanceOptions::parse(options)?;
        options.check_reading()?;
        target.check(&options)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        let target = Target::parse(url)?;
        target.new_id()?;
        target.check(&GlanceOptions::parse(options)?)
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            if lane.runtime != Runtime::TokioUring {
                return Err(Error::fatal(Code::Internal, "images are read on tokio-uring lanes only"));
            }
            Ok(Rc::new(ImageSource::open(&self.web, &self.logins, request).await?) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(ImageSession::begin(self.web.clone(), self.logins.clone(), request)?))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        session::sweep(&self.web, &self.logins, request)
    }
}
