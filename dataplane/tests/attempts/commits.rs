//! Commits that fail: what the attempt says of them.

use std::{collections::BTreeMap, rc::Rc};

use futures_util::future::LocalBoxFuture;
use staccato_dataplane::{Dataplane, attempt::Outcome};
use staccato_protocols::{
    ByteRange, Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Registry, Session, Source,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, SourceRequest, SweepRequest, WriteShape,
    },
    synthetic::{NullProtocol, ZeroProtocol},
};

use crate::keeper::{World, on_both_lanes};

/// `null`, but no commit succeeds.
struct NoCommit(CommitError);

impl Protocol for NoCommit {
    fn schemes(&self) -> &'static [&'static str] {
        NullProtocol.schemes()
    }

    fn capabilities(&self) -> Capabilities {
        NullProtocol.capabilities()
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        NullProtocol.check_source(url, options)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        NullProtocol.check_destination(url, options)
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        NullProtocol.open_source(request, lane)
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(NoCommitSession { null: NullProtocol.begin(request)?, error: self.0.clone() }))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        NullProtocol.sweep(request)
    }
}

struct NoCommitSession {
    null: Box<dyn Session>,
    error: CommitError,
}

impl Session for NoCommitSession {
    fn found(&self) -> Found {
        self.null.found()
    }

    fn identity(&self) -> Option<Identity> {
        self.null.identity()
    }

    fn load_block_crcs(&mut self, blocks: u64) -> Result<BTreeMap<u64, u32>, Error> {
        self.null.load_block_crcs(blocks)
    }

    fn append_block_crcs(&mut self, blocks: &[(u64, u32)]) -> Result<(), Error> {
        self.null.append_block_crcs(blocks)
    }

    fn open_on_lane(&self, shape: WriteShape) -> Result<OpenDestination, Error> {
        self.null.open_on_lane(shape)
    }

    fn try_clone(&mut self, source: &SourceRequest, part: ByteRange) -> Result<bool, Error> {
        self.null.try_clone(source, part)
    }

    fn sync_name(&mut self) -> Result<(), Error> {
        self.null.sync_name()
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        self.null.set_length(length)
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        Err(self.error.clone())
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.null.discard()
    }
}

#[test]
fn an_attempt_tells_a_commit_that_was_not_done_from_one_that_may_have_been() {
    let error = Error::retry(Code::WriteFailed, "no");
    for (commit, outcome) in [
        (CommitError::NotDone(error.clone()), Outcome::Failed { error: error.clone() }),
        (CommitError::Unknown(error.clone()), Outcome::CommitUnknown { error: error.clone() }),
    ] {
        on_both_lanes(|world| {
            let registry = Registry::new().with(ZeroProtocol).with(NoCommit(commit.clone()));
            let dataplane = Dataplane::start(world.config.clone(), registry).unwrap();
            let world = World { dataplane, ..world };
            let mut spec = world.spec("s", "d");
            spec.source_url = ObjectUrl::parse("zero:///1000").unwrap();
            spec.destination_url = ObjectUrl::parse("null:///d").unwrap();
            assert_eq!(world.run(spec).0, outcome);
        });
    }
}
