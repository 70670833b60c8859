//! The reader's side of an offer: another executor's copy, each chunk of which is held against its voucher.

use std::{rc::Rc, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, try_join},
};
use staccato_protocols::{BufferPool, ByteRange, Chunk, Code, Disposition, Error, Object, Source};

use super::{
    super::{
        remote::RemoteSource,
        voucher::{Voucher, VoucherError},
    },
    Offer,
};

/// See the module.
pub struct PeerObject {
    remote: Rc<RemoteSource>,
    /// This executor's own copy, which keeps vouchers.
    own: Arc<Offer>,
}

impl PeerObject {
    /// A copy that was opened, if it is of the same object as one's own.
    pub fn new(remote: Rc<RemoteSource>, own: Arc<Offer>) -> Result<Self, Error> {
        if remote.object() != own.object() {
            return Err(Error::source_changed("another executor has a copy of another version"));
        }
        Ok(Self { remote, own })
    }

    /// Waits until the other one has more than was `known`, but not for long: what, and how much is known with that.
    pub async fn watch(&self, known: u64) -> Result<(u64, Vec<ByteRange>), Error> {
        self.remote.watch(known).await
    }

    /// Has a connection ready for the first chunk.
    pub async fn prepare(&self) {
        // Whoever asks for a chunk hears why not.
        let _ = self.remote.prepare().await;
    }

    /// What was sent as the voucher of a chunk, if it is one.
    async fn believe(&self, range: ByteRange, bytes: Vec<u8>) -> Result<Arc<Voucher>, Error> {
        let verified = Voucher::verify(bytes, async |key| self.own.will_believe(key).await).await;
        let voucher = verified.map_err(|error| {
            // The other one may have heard of a seed long before this one has.
            let known = error != VoucherError::UnknownSigner;
            let code = if known { Code::ProtocolViolation } else { Code::PermissionDenied };
            Error::retry(code, error.to_string())
        })?;
        if voucher.content.range != range {
            return Err(Error::retry(Code::ProtocolViolation, "a voucher is about other bytes than asked for"));
        }
        self.own.keep(voucher)
    }

    /// A chunk, and its voucher: as it is known, or as it is sent.
    async fn ask(&self, range: ByteRange, pool: &BufferPool) -> Result<(Chunk, Arc<Voucher>), Error> {
        if let Some(voucher) = self.own.voucher(range) {
            return Ok((self.remote.read(range, pool).await?, voucher));
        }
        // Both questions leave at once, one behind the other. Whoever refuses the chunk is not waited for.
        let (chunk, bytes) = try_join(self.remote.read(range, pool), self.remote.vouch(range)).await?;
        Ok((chunk, self.believe(range, bytes).await?))
    }
}

/// What another executor cannot do, somebody else can: it fails nothing here.
fn not_ours(error: Error) -> Error {
    match error.disposition {
        Disposition::Fatal => Error { disposition: Disposition::Retry { after: None }, ..error },
        Disposition::SourceChanged => Error::retry(Code::ProtocolViolation, error.message),
        _ => error,
    }
}

impl Source for PeerObject {
    fn object(&self) -> &Object {
        self.remote.object()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let (chunk, voucher) = self.ask(range, pool).await.map_err(not_ours)?;
            if !voucher.content.is(&chunk) {
                let why = format!("another executor sent bytes at {range} that are not the source's");
                return Err(Error::retry(Code::ChecksumMismatch, why));
            }
            Ok(chunk)
        }
        .boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            let remote = self.remote.clone();
            drop(self);
            remote.close().await;
        }
        .boxed_local()
    }
}
