//! Other executors' copies of an attempt's object, as far as one lane reads them.

use std::{cell::RefCell, collections::HashMap, future::pending, pin::pin, rc::Rc, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, select},
};
use staccato_protocols::{BufferPool, ByteRange, Chunk, Code, Error, Interrupt, Object, Source};

use super::message::From;
use crate::{
    swarm::PeerKey,
    transport::{
        offer::{Offer, PeerObject},
        remote::RemoteSource,
    },
};

/// See the module. Clones are one and the same.
#[derive(Clone, Default)]
pub(super) struct Peers(Rc<RefCell<HashMap<PeerKey, Peer>>>);

/// A copy: as it was opened, and once it is known to be of the right object.
enum Peer {
    Opened(Rc<RemoteSource>),
    /// With what is raised when it is not wanted any more.
    Watched(Rc<PeerObject>, Interrupt),
}

impl Peers {
    /// It is open.
    pub fn opened(&self, peer: PeerKey, remote: RemoteSource) {
        self.0.borrow_mut().insert(peer, Peer::Opened(Rc::new(remote)));
    }

    /// Tells what it has, until nothing comes from there any more; says why.
    pub async fn watch(&self, peer: PeerKey, own: Arc<Offer>, tell: impl Fn(Vec<ByteRange>)) -> Error {
        let Some(Peer::Opened(remote)) = self.0.borrow_mut().remove(&peer) else { return not_open() };
        let object = match PeerObject::new(remote, own) {
            Ok(object) => Rc::new(object),
            Err(error) => return error,
        };
        let unwanted = Interrupt::default();
        self.0.borrow_mut().insert(peer, Peer::Watched(object.clone(), unwanted.clone()));
        let preparing = async {
            object.prepare().await;
            pending().await
        };
        let hearing = unwanted.cut(hear(&object, tell));
        let ended = select(pin!(hearing), pin!(preparing)).await.factor_first().0;
        ended.err().unwrap_or_else(not_open)
    }

    /// Where chunks are read that come from there.
    pub fn source(&self, from: From) -> Result<Rc<dyn Source>, Error> {
        match self.0.borrow().get(&from.peer) {
            Some(Peer::Watched(object, _)) => {
                Ok(Rc::new(Wanted { object: object.clone(), interrupt: from.interrupt }) as Rc<dyn Source>)
            }
            _ => Err(not_open()),
        }
    }

    /// Closes it, if it is open.
    pub async fn close(&self, peer: PeerKey) {
        let closing = self.0.borrow_mut().remove(&peer);
        match closing {
            Some(Peer::Opened(remote)) => remote.close().await,
            Some(Peer::Watched(object, unwanted)) => {
                unwanted.raise();
                object.close().await;
            }
            None => (),
        }
    }

    /// Closes all of them.
    pub async fn close_all(&self) {
        let peers: Vec<_> = self.0.borrow().keys().copied().collect();
        for peer in peers {
            self.close(peer).await;
        }
    }
}

/// Tells what a copy has, until nothing comes from there any more.
async fn hear(object: &PeerObject, tell: impl Fn(Vec<ByteRange>)) -> Result<(), Error> {
    let mut known = 0;
    loop {
        let (more, ranges) = object.watch(known).await?;
        known = more;
        if !ranges.is_empty() {
            tell(ranges);
        }
    }
}

fn not_open() -> Error {
    Error::retry(Code::ConnectionLost, "the other executor's copy is not open")
}

/// A copy, as long as a chunk is wanted from there.
struct Wanted {
    object: Rc<PeerObject>,
    interrupt: Interrupt,
}

impl Source for Wanted {
    fn object(&self) -> &Object {
        self.object.object()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.interrupt.cut(self.object.read(range, pool)).boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.object.revalidate()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { drop(self) }.boxed_local()
    }
}
