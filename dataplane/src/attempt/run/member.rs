//! What is different for an attempt whose object many fetch from one another.

use std::{ops::Range, rc::Rc, sync::Arc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    ByteRange, Capabilities, Code, Error, Interrupt, Lane, Object, ObjectUrl, Options, Protocol, Runtime, Session,
    Source,
    contract::{DestinationRequest, SourceRequest, SweepRequest, Takes, Writes},
};

use super::{Attempt, Bench, Interrupted, WantedPart};
use crate::{
    attempt::{
        AttemptSpec, SourceOwner,
        swarm::{SwarmPeer, SwarmSpec},
    },
    lane::{coordinator::Coordinator, feed::Feed, feeding::Others},
    transport::{
        offer::{self, Offer, store::Known},
        peers::Peers,
    },
};

/// A member of a distribution, on its lanes.
pub(super) struct Member<'a> {
    pub spec: &'a SwarmSpec,
    pub peers: &'a Peers,
}

/// Stands where a source would: this member reads none.
pub(super) struct NoSource;

impl<'a> Member<'a> {
    /// What the attempt is a member of, if it is one.
    pub fn of(bench: &Bench<'a>, spec: &'a AttemptSpec) -> Result<Option<Self>, Error> {
        let Some(swarm) = &spec.swarm else { return Ok(None) };
        let alone = || Error::fatal(Code::UnsupportedScheme, "this executor does not know others");
        let peers = bench.peers.ok_or_else(alone)?;
        let why = if spec.part.start > 0 || spec.part.end.is_some() {
            "a distribution is of whole objects"
        } else if swarm.chunk_bytes > bench.config.share_bytes() / 2 {
            "the distribution's chunks do not fit into a transfer's memory here; raise --memory, or lower --slots"
        } else {
            return Ok(Some(Self { spec: swarm, peers }));
        };
        Err(Error::fatal(Code::InvalidOption, why))
    }

    /// Whether it may read the source.
    pub fn reads_source(&self) -> bool {
        !self.spec.share.is_none()
    }

    /// How other members' copies are opened.
    pub fn others(&self, spec: &AttemptSpec, lanes: Range<usize>) -> Result<Others<'a>, Error> {
        let request = SourceRequest {
            url: offer::url_of(&self.spec.name)?,
            options: Options::new(),
            pinned: None,
            aligned: true,
            interrupt: Interrupt::default(),
        };
        let (peers, ticket, transport) = (self.peers, self.spec.ticket.clone(), spec.transport);
        let objects = move |at: &SwarmPeer| {
            let (host, tcp, quic, plain) = (at.host.clone(), at.tcp, at.quic.clone(), at.plain);
            let owner = SourceOwner { host, tcp, quic, plain, ticket: ticket.clone() };
            Arc::new(peers.offer_of(&owner, transport))
        };
        let all = request.url.clone();
        let name = self.spec.name.clone();
        let url = move |at: &SwarmPeer| offer::url_of(&offer::key_of(&name, at.member)).unwrap_or(all.clone());
        Ok(Others { lanes, request, url: Box::new(url), objects: Box::new(objects) })
    }
}

impl Attempt<'_> {
    /// Takes part: shows what is written here, and fetches from others and of this member's share of the source.
    /// `have`: what need not be fetched.
    pub(super) fn take_part(
        &self,
        member: &Member<'_>,
        coordinator: &mut Coordinator<'_>,
        object: &Object,
        part: &WantedPart,
        writes: Writes,
        have: &[ByteRange],
    ) -> Result<(), Interrupted> {
        let Some(length) = part.length else {
            let why = "the source does not tell its length: it cannot be distributed";
            return Err(Error::fatal(Code::InvalidOption, why).into());
        };
        if writes != Writes::Anywhere {
            let why = "a distribution writes files: others read from them what is there";
            return Err(Error::fatal(Code::InvalidOption, why).into());
        }
        let copy = member.spec.copy(&self.spec.transfer);
        let key = copy.key();
        let own = Arc::new(Offer::new(copy, object.clone()));
        own.believe(member.spec.may_vouch.iter().map(|key| key.0));
        if let Some(copies) = member.peers.copies() {
            let durable = |range: ByteRange| have.iter().any(|have| have.contains(range));
            let opened = if have.is_empty() {
                copies.begin(&key).map(|file| (file, Known::default()))
            } else {
                copies.resume(&key)
            };
            match opened {
                Ok((file, known)) => own.remember(file, known, durable),
                Err(error) => tracing::warn!(%error, "what is known of a copy cannot be kept; it is not shown again"),
            }
        }
        if member.reads_source() {
            coordinator.vouch(&own, member.peers.identity());
        }
        coordinator.show(&key);
        member.peers.offers().add(own.clone());
        let promised: Vec<_> = self.spec.checkpoint.iter().map(|known| known.range).collect();
        coordinator.take_part(Feed::new(member.spec, own, length, have, &promised), member.spec);
        Ok(())
    }

    /// Nothing of this attempt is shown any more.
    pub(super) fn withdraw(&self) {
        let Ok(Some(member)) = Member::of(self.bench, self.spec) else { return };
        member.peers.withdraw(&offer::key_of(&member.spec.name, member.spec.member));
    }

    /// Nothing is known of this attempt's copy any more.
    pub(super) fn forget_copy(&self) {
        let Ok(Some(member)) = Member::of(self.bench, self.spec) else { return };
        member.peers.forget(&offer::key_of(&member.spec.name, member.spec.member));
    }

    /// The copy is where it belongs: where it is to be kept, another process may show it, too.
    pub(super) fn keep_copy(&self, coordinator: &mut Coordinator<'_>) {
        let Some(member) = &self.member else { return };
        let key = offer::key_of(&member.spec.name, member.spec.member);
        if !member.spec.keep {
            return member.peers.copies().into_iter().for_each(|copies| copies.remove(&key));
        }
        let Some(own) = member.peers.offers().get(&key) else { return };
        let (url, options) = (self.spec.destination_url.clone(), self.spec.destination_options.clone());
        let module = self.bench.registry.source(&url, &options);
        let request = SourceRequest { url, options, pinned: None, aligned: true, interrupt: Interrupt::default() };
        match module.and_then(|module| coordinator.open_source(0, module, &request)) {
            Ok(object) => own.note_whole(&request.url, object.validator),
            Err(error) => tracing::warn!(%error, "a copy will not be shown again by another process"),
        }
        coordinator.close();
    }
}

impl Protocol for NoSource {
    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    fn capabilities(&self) -> Capabilities {
        let runtimes = &[Runtime::Glommio];
        Capabilities { source: true, destination: false, takes: Takes::Anywhere, runtimes, options: &[] }
    }

    fn check_source(&self, _url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn check_destination(&self, _url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Err(not_read())
    }

    fn open_source<'a>(
        &'a self,
        _request: &'a SourceRequest,
        _lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async { Err(not_read()) }.boxed_local()
    }

    fn begin(&self, _request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Err(not_read())
    }

    fn sweep(&self, _request: &SweepRequest) -> Result<(), Error> {
        Ok(())
    }
}

fn not_read() -> Error {
    Error::fatal(Code::Internal, "this member has no share of the source")
}
