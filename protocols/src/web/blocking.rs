//! Requests of those who block: sessions, on the thread of their attempt.

use tokio::runtime::{Builder, Runtime};

use crate::{Code, Error};

/// A runtime that works while somebody waits for it. It must not be waited for on a thread that drives another one.
pub(crate) struct Blocking {
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Blocking {
    pub fn new() -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Error::retry(Code::Internal, format!("the host has no room for one more runtime: {error}"))
        })?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Waits for `future`, which bounds its waiting itself.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until it is dropped").block_on(future)
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        // A name that is still being looked up is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
