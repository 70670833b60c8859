//! How a module says who asks.

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::request::Parts;
use tokio::time::Instant;

use crate::Error;

/// Adds to requests what their server wants to see: a token, a signature, the client's own headers.
pub(crate) trait Sign {
    /// Signs a request that is about to be sent; `home`: to the server that the module means, not to one that a
    /// redirect has led to. May ask another server first.
    fn sign<'a>(&'a self, request: &'a mut Parts, home: bool) -> LocalBoxFuture<'a, Result<(), Error>>;

    /// A request that had just been signed at `asked` was refused with 401: whether the next one will be signed otherwise,
    /// so that it is worth sending it once more. May ask another server for that; not where others did so since.
    fn renew(&self, _asked: Instant) -> LocalBoxFuture<'_, Result<bool, Error>> {
        async { Ok(false) }.boxed_local()
    }

    /// What people can do where a server refuses to be asked like this.
    fn advice(&self) -> &'static str {
        "look at the credentials among its options"
    }
}

/// Says nothing.
pub(crate) struct Unsigned;

impl Sign for Unsigned {
    fn sign<'a>(&'a self, _request: &'a mut Parts, _home: bool) -> LocalBoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }
}
