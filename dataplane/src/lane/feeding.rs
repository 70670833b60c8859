//! A coordinator's part in a distribution: it carries out what a [`Feed`] wants.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use staccato_protocols::{Error, Object, ObjectUrl, contract::SourceRequest};

use super::{
    coordinator::Coordinator,
    feed::{Feed, Step},
    message::{Command, Input, LaneEvent, PeerEvent},
};
use crate::{
    attempt::{
        Notice, StopReason,
        swarm::{SwarmPeer, SwarmSpec},
    },
    engine::Engine,
    swarm::PeerKey,
    transport::{offer::Offer, remote::RemoteProtocol, tls::Identity},
};

/// How often those are tried again of whom none could be reached, while nobody knows what the object is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How other members' copies are opened.
pub(crate) struct Others<'a> {
    /// The lanes on which that is done.
    pub lanes: Range<usize>,
    pub request: SourceRequest,
    /// What a member's copy is called.
    pub url: Box<dyn Fn(&SwarmPeer) -> ObjectUrl + 'a>,
    pub objects: OpenCopy<'a>,
}

/// How a member's copy is reached.
pub(crate) type OpenCopy<'a> = Box<dyn Fn(&SwarmPeer) -> Arc<RemoteProtocol> + 'a>;

impl<'a> Coordinator<'a> {
    /// Makes the attempt one that reads other members' copies.
    pub fn among(&mut self, others: Others<'a>) {
        self.others = Some(others);
    }

    /// What the object is that the others have: none of them may have seen it yet.
    pub fn find_object(&mut self, spec: &SwarmSpec) -> Result<Object, StopReason> {
        loop {
            let spec = self.news.as_deref().unwrap_or(spec);
            if let Some(known) = &spec.object {
                return Ok(known.object());
            }
            let peers: Vec<_> = spec.peers.iter().filter(|peer| self.is_unopened(peer)).cloned().collect();
            peers.iter().for_each(|peer| self.open_peer(peer));
            let look_again = Instant::now() + LOOK_AGAIN;
            while let Ok(input) = self.inbox.recv_deadline(look_again) {
                match input {
                    Input::Peer { peer, event } => {
                        let object =
                            if let PeerEvent::Opened(Ok(object)) = &event { Some(object.clone()) } else { None };
                        self.hear_peer(peer, event, Duration::ZERO);
                        if let Some(object) = object {
                            return Ok(object);
                        }
                    }
                    Input::Notice(notice) => {
                        let is_news = matches!(notice, Notice::Swarm(_));
                        self.note(notice);
                        if is_news {
                            break;
                        }
                    }
                    Input::Lane { .. } => super::coordinator::unexpected(),
                }
                if let Some(reason) = self.stop {
                    return Err(reason);
                }
            }
            // Those that had nothing to show are asked again.
            self.early.retain(|(_, event)| matches!(event, PeerEvent::Opened(Ok(_))));
        }
    }

    fn is_unopened(&self, peer: &SwarmPeer) -> bool {
        let key = PeerKey(peer.member);
        !self.opening.contains(&key) && !self.early.iter().any(|(known, _)| *known == key)
    }

    /// What is read of the source is vouched for.
    pub fn vouch(&mut self, own: &Arc<Offer>, identity: &Identity) {
        for lane in self.opened_lanes() {
            let (job, own, identity) = (self.job(lane), own.clone(), identity.clone());
            self.lanes[lane].send(Command::Vouch { job, own, identity });
        }
    }

    /// What is written is shown under this key.
    pub fn show(&mut self, key: &str) {
        for lane in self.opened_lanes() {
            self.lanes[lane].send(Command::Show { job: self.job(lane), key: key.to_owned() });
        }
    }

    /// From now on the feed says what is fetched.
    pub fn take_part(&mut self, mut feed: Feed, spec: &SwarmSpec) {
        feed.handle_spec(self.news.as_deref().unwrap_or(spec), Duration::ZERO);
        std::mem::take(&mut self.opening).into_iter().for_each(|peer| feed.handle_opening(peer));
        for (peer, event) in self.early.drain(..) {
            feed.handle_opening(peer);
            feed.handle_peer(peer, event, Duration::ZERO);
        }
        self.feed = Some(feed);
    }

    /// Does what the feed wants done.
    pub(super) fn feed(&mut self, engine: &mut Engine, now: Duration) {
        let Some(mut feed) = self.feed.take() else { return };
        if engine.is_ending() {
            feed.give_up();
        } else {
            while !engine.is_ending()
                && let Some(step) = feed.poll(engine, now)
            {
                self.take_step(step, &feed, engine);
            }
        }
        self.feed = Some(feed);
    }

    fn take_step(&mut self, step: Step, feed: &Feed, engine: &mut Engine) {
        match step {
            Step::Fail(error) => engine.handle_starved(error),
            Step::Fetch { range, untouched, from } => {
                let lane = match &from {
                    Some(from) => self.lane_of_peer(from.peer),
                    None => self.source_lane(),
                };
                self.load[lane] += 1;
                let (job, tell_read, sent) = (self.job(lane), engine.counts_reads(), Instant::now());
                self.lanes[lane].send(Command::Fetch {
                    job,
                    range,
                    source_shift: 0,
                    untouched,
                    reuse: None,
                    stretch_end: None,
                    tell_read,
                    from,
                    sent,
                });
            }
            Step::Open(peer) => self.open_peer(&peer),
            Step::Watch(peer) => {
                let lane = self.lane_of_peer(peer);
                let (job, own) = (self.job(lane), feed.own().clone());
                self.lanes[lane].send(Command::WatchPeer { job, peer, own });
            }
            Step::Close(peer) => {
                let lane = self.lane_of_peer(peer);
                self.lanes[lane].send(Command::ClosePeer { job: self.job(lane), peer });
            }
        }
    }

    /// Whoever waits for other members does not any more.
    pub(super) fn leave_others(&self) {
        self.others.iter().for_each(|others| others.request.interrupt.raise());
    }

    fn open_peer(&mut self, at: &SwarmPeer) {
        let peer = PeerKey(at.member);
        let lane = self.lane_of_peer(peer);
        let others = self.others.as_ref().expect("only members open others' copies");
        let request = SourceRequest { url: (others.url)(at), ..others.request.clone() };
        let (objects, request) = ((others.objects)(at), Box::new(request));
        self.opened[lane] = true;
        self.opening.insert(peer);
        self.lanes[lane].send(Command::OpenPeer { job: self.job(lane), peer, objects, request });
    }

    fn lane_of_peer(&self, peer: PeerKey) -> usize {
        let lanes = &self.others.as_ref().expect("only members have peers").lanes;
        lanes.start + (peer.0 % (lanes.len() as u64)) as usize
    }

    /// The lane that is asked for a chunk of the source: those before it in the list read it, too.
    fn source_lane(&self) -> usize {
        (0..self.sources.max(1)).min_by_key(|lane| self.load[*lane]).expect("there is a lane")
    }

    fn opened_lanes(&self) -> Vec<usize> {
        (0..self.lanes.len()).filter(|lane| self.opened[*lane]).collect()
    }

    /// Waits for what is under way of no use any more: a chunk that somebody else was faster with.
    pub(super) fn wait_for_rest(&mut self, engine: &mut Engine, now: Duration) {
        let Some(mut feed) = self.feed.take() else { return };
        feed.give_up();
        while feed.is_asking() {
            match self.inbox.recv().expect("this coordinator holds a sender itself") {
                Input::Lane { lane, event: LaneEvent::Fetched { range, from, result }, .. } => {
                    self.load[lane] -= 1;
                    feed.handle_fetched(range, from, result.map(|fetched| ((), fetched.fetched)), engine, now);
                }
                Input::Lane { event: LaneEvent::Read { .. }, .. } | Input::Peer { .. } => (),
                Input::Lane { .. } => super::coordinator::unexpected(),
                Input::Notice(notice) => self.note(notice),
            }
        }
        self.feed = Some(feed);
    }

    /// Bytes that came from other members.
    pub fn bytes_from_peers(&self) -> u64 {
        self.feed.as_ref().map_or(0, Feed::bytes_from_peers)
    }

    pub(super) fn hear_peer(&mut self, peer: PeerKey, event: PeerEvent, now: Duration) {
        self.opening.remove(&peer);
        match &mut self.feed {
            Some(feed) => feed.handle_peer(peer, event, now),
            None => self.early.push((peer, event)),
        }
    }
}

/// Whether a chunk that did not come fails the whole attempt: others have their own copies, but only this one writes
/// here.
pub(super) fn is_own_failure(error: &Error) -> bool {
    use staccato_protocols::{Code, Disposition};
    matches!(error.disposition, Disposition::Fatal | Disposition::SourceChanged)
        || matches!(error.code, Code::WriteFailed | Code::NoSpace | Code::SyncFailed)
}
