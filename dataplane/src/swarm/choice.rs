//! Which question comes next.

use std::time::Duration;

use super::{Ask, Holder, Nearness, PeerKey, Swarm, chunk_set::bits, mix, peers::Peer, questions::Question};

/// So many chunks are compared for a question: the rarest of so many, from wherever one begins to look, is rare.
const LOOK_MAX: usize = 512;
/// So many are asked for one chunk at a time, if need be.
const ASKED_MAX: usize = 3;

impl Swarm {
    /// First what only the source has and what only slow peers have, for these take long; then what other peers have; and
    /// when there is nothing else to ask, what is slow in coming.
    pub(super) fn choose(&self, now: Duration) -> Option<Ask> {
        let peers = Askable::among(self, now);
        if let Some(ask) = self.of_source(&peers, now) {
            return Some(ask);
        }
        if self.questions.len() >= 2 * self.config.asks_max + self.source.asks {
            return None;
        }
        if let Some(ask) = peers.rarest_of_slow(self) {
            return Some(ask);
        }
        if peers.awaited >= self.config.asks_max {
            return None;
        }
        peers.rarest_near(self).or_else(|| peers.rarest_far(self)).or_else(|| {
            let waits = |index: usize| peers.usual_have(index) & self.open.words()[index] != 0;
            if (0..self.open.words().len()).any(waits) { None } else { peers.other(self, now) }
        })
    }

    /// What may be read of the source, and no peer has but slow ones. That may be dead ones, of which nobody knows yet: so
    /// what is slow in coming from there is read, too.
    fn of_source(&self, peers: &Askable<'_>, now: Duration) -> Option<Ask> {
        let mut wanted = self.open.clone();
        for question in last_to_peers(self).filter(|question| is_slow(self, question, now)) {
            wanted.insert(question.ask.chunk);
        }
        let wanted = |index: usize| wanted.words()[index] & !peers.usual_have(index);
        let chunk = self.source.next(wanted, self.config.source_asks_max, self.config.patience, now)?;
        Some(Ask { chunk, from: Holder::Source })
    }

    /// The rarest of the chunks that are open and in these words of a bitmap; among equals the first one in this host's own
    /// order.
    fn rarest_in(&self, words: impl Fn(usize) -> u64) -> Option<u32> {
        let open = self.open.words();
        let first = mix(self.config.seed, self.questions.begun()) as usize % open.len().max(1);
        let indices = (first..open.len()).chain(0..first);
        let chunks = indices.flat_map(|index| {
            let those = if open[index] == 0 { 0 } else { open[index] & words(index) };
            bits(those).map(move |bit| index as u32 * u64::BITS + bit)
        });
        chunks.take(LOOK_MAX).min_by_key(|chunk| (self.peers.holders(*chunk), mix(self.config.seed, u64::from(*chunk))))
    }
}

/// Whom a question could be put to now.
struct Askable<'a> {
    usual: Vec<(PeerKey, &'a Peer)>,
    /// They have room, but take long.
    slow: Vec<(PeerKey, &'a Peer)>,
    /// Those that do not take long, with room or without.
    all_usual: Vec<&'a Peer>,
    /// Questions to peers that are not slow, and those of them that leave the rack.
    awaited: usize,
    awaited_far: usize,
}

impl<'a> Askable<'a> {
    fn among(swarm: &'a Swarm, now: Duration) -> Self {
        let mut askable =
            Self { usual: Vec::new(), slow: Vec::new(), all_usual: Vec::new(), awaited: 0, awaited_far: 0 };
        let late: Vec<Holder> = swarm.questions.slow(now).map(|question| question.ask.from).collect();
        let is_slow =
            |key, peer: &Peer| peer.is_slow(swarm.questions.usual(peer.nearness)) || late.contains(&Holder::Peer(key));
        // As many of each as fill the window, where there are few.
        let usual = swarm.peers.iter().filter(|(key, peer)| !is_slow(*key, peer)).count();
        let asks_max = swarm.config.asks_max.div_ceil(usual.max(1)).min(swarm.config.asks_per_peer_max);
        for (key, peer) in swarm.peers.iter() {
            let rested = peer.has_room(asks_max, now);
            if is_slow(key, peer) {
                if rested && peer.asks == 0 {
                    askable.slow.push((key, peer));
                }
                continue;
            }
            askable.awaited += peer.asks;
            if peer.nearness == Nearness::Elsewhere {
                askable.awaited_far += peer.asks;
            }
            askable.all_usual.push(peer);
            if rested {
                askable.usual.push((key, peer));
            }
        }
        askable
    }

    fn rarest_near(&self, swarm: &Swarm) -> Option<Ask> {
        let near = || self.usual.iter().filter(|(_, peer)| peer.nearness == Nearness::SameRack);
        let chunk = swarm.rarest_in(|index| near().fold(0, |any, (_, peer)| any | peer.have.words()[index]))?;
        least_busy(swarm, chunk, near())
    }

    /// What comes from outside the rack, as far as the way there bears it: what nobody in the rack is known to have, and
    /// anything else only where there is room for it.
    fn rarest_far(&self, swarm: &Swarm) -> Option<Ask> {
        if self.awaited_far >= swarm.reach.limit() {
            return None;
        }
        let far = || self.usual.iter().filter(|(_, peer)| peer.nearness == Nearness::Elsewhere);
        let far_has = |index: usize| far().fold(0, |any, (_, peer)| any | peer.have.words()[index]);
        let near = || self.all_usual.iter().filter(|peer| peer.nearness == Nearness::SameRack);
        let near_has = |index: usize| near().fold(0, |any, peer| any | peer.have.words()[index]);
        let only_far = swarm.rarest_in(|index| far_has(index) & !near_has(index));
        let chunk = if swarm.reach.is_narrow() { only_far } else { only_far.or_else(|| swarm.rarest_in(far_has)) }?;
        least_busy(swarm, chunk, far())
    }

    /// Of chunks that only slow peers have.
    fn rarest_of_slow(&self, swarm: &Swarm) -> Option<Ask> {
        if self.slow.is_empty() {
            return None;
        }
        let chunk = swarm.rarest_in(|index| {
            let slow = self.slow.iter().fold(0, |any, (_, peer)| any | peer.have.words()[index]);
            slow & !self.usual_have(index)
        })?;
        least_busy(swarm, chunk, self.slow.iter())
    }

    /// What those have that do not take long.
    fn usual_have(&self, index: usize) -> u64 {
        self.all_usual.iter().fold(0, |any, peer| any | peer.have.words()[index])
    }

    /// The oldest of the late questions, put to somebody else: to whom was heard of last, for he is not dead. If he is, it is
    /// put to a third one, once both are slow.
    fn other(&self, swarm: &Swarm, now: Duration) -> Option<Ask> {
        let is_late = |question: &&Question| {
            let mut asked = swarm.questions.of(question.ask.chunk);
            match asked.clone().count() {
                1 => is_known_as_slow(swarm, question) || swarm.questions.late_from(question) <= now,
                2..ASKED_MAX => asked.all(|question| is_slow(swarm, question, now)),
                _ => false,
            }
        };
        let mut late: Vec<_> = last_to_peers(swarm).filter(is_late).collect();
        late.sort_by_key(|question| question.at);
        late.into_iter().find_map(|question| {
            let chunk = question.ask.chunk;
            let asked = swarm.questions.of(chunk).map(|question| question.ask.from);
            let others = self.usual.iter().filter(|(key, _)| asked.clone().all(|asked| asked != Holder::Peer(*key)));
            let (key, _) =
                others.filter(|(_, peer)| peer.have.contains(chunk)).max_by_key(|(_, peer)| peer.heard_at)?;
            Some(Ask { chunk, from: Holder::Peer(*key) })
        })
    }
}

/// Of each chunk that is asked for the question that was put last, if it was put to a peer.
fn last_to_peers(swarm: &Swarm) -> impl Iterator<Item = &Question> {
    let is_last = |question: &&Question| swarm.questions.of(question.ask.chunk).last() == Some(question);
    swarm.questions.iter().filter(|question| question.ask.from != Holder::Source).filter(is_last)
}

/// Whether it takes long, or its peer does.
fn is_slow(swarm: &Swarm, question: &Question, now: Duration) -> bool {
    is_known_as_slow(swarm, question) || swarm.questions.slow_from(question) <= now
}

fn is_known_as_slow(swarm: &Swarm, question: &Question) -> bool {
    let Holder::Peer(peer) = question.ask.from else { return false };
    swarm.peers.get(peer).is_some_and(|peer| peer.is_slow(swarm.questions.usual(question.nearness)))
}

/// Of these peers, the one to ask for a chunk that it has: who has the fewest questions of ours, and is near.
fn least_busy<'a>(swarm: &Swarm, chunk: u32, peers: impl Iterator<Item = &'a (PeerKey, &'a Peer)>) -> Option<Ask> {
    let holders = peers.filter(|(_, peer)| peer.have.contains(chunk));
    let order = |(key, peer): &&(PeerKey, &Peer)| {
        (peer.asks, peer.nearness, peer.took, mix(swarm.config.seed ^ u64::from(chunk), key.0))
    };
    let (key, _) = holders.min_by_key(order)?;
    Some(Ask { chunk, from: Holder::Peer(*key) })
}
