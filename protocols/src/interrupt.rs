//! A wish to stop, seen by everybody who was handed it.

use std::{pin::pin, sync::Arc};

use futures_util::future::{Either, select};
use tokio::sync::watch;

use crate::Error;

/// Tells a source that its bytes are not wanted any more, whichever thread or runtime it waits on. Clones are one and
/// the same; once raised, it stays raised.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    raised: Arc<watch::Sender<bool>>,
}

impl Interrupt {
    /// Asks for the stop.
    pub fn raise(&self) {
        self.raised.send_replace(true);
    }

    /// Whether the stop was asked for.
    pub fn is_raised(&self) -> bool {
        *self.raised.borrow()
    }

    /// What `future` gives, or [`Code::Canceled`](crate::Code::Canceled) as soon as the interrupt is raised. `future`
    /// is dropped then: it may wait for a network, but must have no I/O in flight on a ring.
    pub async fn cut<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut watcher = self.raised.subscribe();
        let raised = async move { drop(watcher.wait_for(|raised| *raised).await) };
        match select(pin!(raised), pin!(future)).await {
            Either::Left(((), _)) => Err(Error::canceled()),
            Either::Right((result, _)) => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_ready_is_given_and_what_waits_is_cut_by_any_clone() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.cut(ready(Ok(1))).now_or_never(), Some(Ok(1)));
        let mut waiting = pin!(interrupt.cut(pending::<Result<(), Error>>()));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        interrupt.clone().raise();
        assert_eq!(waiting.now_or_never(), Some(Err(Error::canceled())));
        assert!(interrupt.is_raised());
        assert_eq!(interrupt.cut(ready(Ok(1))).now_or_never(), Some(Err(Error::canceled())), "it stays raised");
    }

    #[test]
    fn another_thread_wakes_what_waits() {
        let interrupt = Interrupt::default();
        let raiser = interrupt.clone();
        crate::conformance::on_lane(crate::Runtime::TokioUring, async move |_| {
            let thread = std::thread::spawn(move || raiser.raise());
            let cut = interrupt.cut(pending::<Result<(), Error>>()).await;
            assert_eq!(cut, Err(Error::canceled()));
            thread.join().unwrap();
        });
    }
}
