//! `null:///ANYTHING`: a destination that takes everything and keeps nothing.
//!
//! Nothing is ever there before, beside or after a transfer: every session starts from nothing, commits and discards
//! without effect, and has no identity. What was written cannot be read back, so that whoever wants a checksum of it
//! has to compute it on the way.

use std::{collections::BTreeMap, rc::Rc};

use futures_util::{FutureExt, future::LocalBoxFuture};

use crate::{
    BufferPool, ByteRange, Capabilities, Chunk, Code, Destination, Error, Lane, ObjectUrl, Options, Protocol, Runtime,
    Session, Source,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, SourceRequest, SweepRequest, Takes,
        WriteShape,
    },
};

/// The module for `null://` URLs; destinations only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullProtocol;

impl Protocol for NullProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["null"]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: false,
            destination: true,
            takes: Takes::Anywhere,
            runtimes: &[Runtime::TokioUring, Runtime::Glommio],
            options: &[],
        }
    }

    fn resumes(&self) -> bool {
        false
    }

    fn check_source(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Err(no_source(url))
    }

    fn check_destination(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        let parsed = url.url();
        if parsed.cannot_be_a_base() || parsed.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(Error::fatal(Code::InvalidUrl, format!("{url} is not null:/// and a path")));
        }
        Ok(())
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        _lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move { Err(no_source(&request.url)) }.boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        self.check_destination(&request.url, &request.options)?;
        Ok(Box::new(NullSession))
    }

    fn sweep(&self, _request: &SweepRequest) -> Result<(), Error> {
        Ok(())
    }
}

fn no_source(url: &ObjectUrl) -> Error {
    Error::fatal(
        Code::UnsupportedScheme,
        format!("{:?} cannot be a source; for bytes out of nowhere, read zero:///SIZE", url.scheme()),
    )
}

struct NullSession;

impl Session for NullSession {
    fn found(&self) -> Found {
        Found::Nothing
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn load_block_crcs(&mut self, _blocks: u64) -> Result<BTreeMap<u64, u32>, Error> {
        Ok(BTreeMap::new())
    }

    fn append_block_crcs(&mut self, _blocks: &[(u64, u32)]) -> Result<(), Error> {
        Ok(())
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        Ok(Box::new(|_lane| async { Ok(Rc::new(NullDestination) as Rc<dyn Destination>) }.boxed_local()))
    }

    fn sync_name(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn set_length(&mut self, _length: u64) -> Result<(), Error> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

struct NullDestination;

impl Destination for NullDestination {
    fn write(&self, _offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        drop(chunk);
        async { Ok(()) }.boxed_local()
    }

    fn zero(&self, _range: ByteRange, _untouched: bool) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn read_back<'a>(&'a self, range: ByteRange, _pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            Err(Error::fatal(
                Code::ReadFailed,
                format!("null keeps nothing, so {range} cannot be read back; compute checksums while writing"),
            ))
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async {}.boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Abilities, DestinationHarness};
    use crate::contract::SharedProtocol;

    struct Nowhere;

    impl DestinationHarness for Nowhere {
        fn protocol(&self) -> SharedProtocol {
            std::sync::Arc::new(NullProtocol)
        }
        fn url(&self, name: &str) -> ObjectUrl {
            let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
            ObjectUrl::parse(&format!("null:///{name}")).unwrap()
        }
        fn visible(&self, _url: &ObjectUrl) -> Option<Vec<u8>> {
            None
        }
        fn place(&self, _url: &ObjectUrl, _bytes: &[u8]) {
            panic!("nothing can be placed in null");
        }
        fn left_overs(&self) -> usize {
            0
        }
        fn abilities(&self) -> Abilities {
            Abilities { keeps: false, resumes: false, identifies: false, repairs: false }
        }
    }

    #[test]
    fn null_conforms_on_tokio_uring() {
        conformance::check_destination(Rc::new(Nowhere), Runtime::TokioUring);
    }

    #[test]
    fn null_conforms_on_glommio() {
        conformance::check_destination(Rc::new(Nowhere), Runtime::Glommio);
    }

    #[test]
    fn null_takes_any_path_and_no_host() {
        let check = |url: &str| NullProtocol.check_destination(&ObjectUrl::parse(url).unwrap(), &Options::new());
        for url in ["null:///", "null:///a/b%20c", "null:/x"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in ["null://host/x", "null:x"] {
            assert_eq!(check(url).expect_err(url).code, Code::InvalidUrl);
        }
    }
}
