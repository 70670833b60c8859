//! The data of an image on its way to Glance: one PUT, hashed as it leaves.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use sha2::{Digest, Sha512};

use crate::{Checksum, ChecksumKind, Chunk, Destination, Error};

/// What the session and the lane know of the data that has left.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<Sum>>);

#[derive(Default)]
struct Sum {
    bytes: u64,
    hash: Sha512,
}

/// So much of a chunk without bytes is hashed at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Sent {
    /// How many bytes, and what they have for a checksum.
    pub fn sum(&self) -> (u64, Checksum) {
        let sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (sum.bytes, Checksum::new(ChecksumKind::Sha512, sum.hash.clone().finalize().to_vec()))
    }

    fn add(&self, chunk: &Chunk) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.bytes += chunk.len() as u64;
        match chunk.bytes() {
            Some(bytes) => sum.hash.update(bytes),
            None => {
                let mut left = chunk.len();
                while left > 0 {
                    let step = left.min(ZEROS.len());
                    sum.hash.update(&ZEROS[..step]);
                    left -= step;
                }
            }
        }
    }
}

/// What a lane writes to.
pub(super) struct ImageDestination {
    pub inner: Rc<dyn Destination>,
    pub sent: Sent,
}

impl Destination for ImageDestination {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.sent.add(&chunk);
        self.inner.write(offset, chunk)
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.inner.sync()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        let inner = self.inner.clone();
        async move {
            drop(self);
            inner.close().await;
        }
        .boxed_local()
    }
}
